"""Heads on features: every kind, every penalty, every fold."""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl.checks import check_arguments, check_fields
from jaxdl.data.source import Arrays, Source
from jaxdl.errors import InputError, check_choice
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import drawn
from jaxdl.training.execution import Execution
from jaxdl.validation.baselines import grow_trees
from jaxdl.validation.leakage.checks import find_untaught
from jaxdl.validation.probes.heads import HEADS, SCALE_NOTE, Examples, Fitted, Fold, Folds, ridge_leave_one_out
from jaxdl.validation.probes.linear import TOLERANCE
from jaxdl.validation.probes.result import HeadResult, ProbeResult
from jaxdl.validation.probes.selection import RULES, select
from jaxdl.validation.search.inner import as_one, inner_splits
from jaxdl.validation.splits import Split, Splitting, auto_splitter, split_source

PENALTIES = tuple(10.0 ** (place / 2) for place in range(-6, 7))
NEIGHBOURS = (1, 3, 5, 9, 17, 33, 65)
ITERATED, MOST_FITTED = ("logistic", "svm", "mlp"), 500  # folds of leave-one-out that these heads take
SAME_SIZE = 0.9  # folds whose sizes differ by less are padded to share a program
BIAS = "the score is of the folds that chose the grid's best, and so a little too good"


@dataclasses.dataclass(frozen=True)
class Probing:
    """What is fitted to features, and how the best of it is chosen.

    Attributes:
      heads: of `HEADS`; by default all but mlp that go with the labels.
      penalties: as a sum over examples: scikit-learn's alpha for ridge, 1/C for logistic and svm; see
        `linear.fit_linear`.
      neighbours: numbers of them, for knn; by default those of `NEIGHBOURS` that are at most a quarter of the examples.
      nested: choose by inner folds; without, all folds choose and the score is a little too good.
      inner_folds: how many.
      selection: ``best`` or ``one-se``; see `selection.select`.
      standardise: whether to divide columns by their standard deviation; they are always centred.
      tolerance: of logistic and svm: the largest entry of the gradient of the mean loss beside the mean residual; see
        `linear.fit_linear`.
      seed: of the folds, of what mlp draws.
    """

    heads: Sequence[str] = ()
    penalties: Sequence[float] = PENALTIES
    neighbours: Sequence[int] = ()
    nested: bool = True
    inner_folds: int = 3
    selection: str = "best"
    standardise: bool = True
    tolerance: float = TOLERANCE
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.heads:
            check_choice("head", name, HEADS)
        check_choice("selection", self.selection, RULES)
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}; expected a number above 0 and below 1")

    def heads_for(self, task: Task) -> tuple[str, ...]:
        """Those that are asked for, or all that are quick.

        Raises:
          InputError: if a head is not for the targets of the task.
        """
        able = [name for name, head in HEADS.items() if task.PROBED == "classes" or (task.PROBED and head.numbers)]
        if not able:
            raise InputError(f"heads on frozen features are for classes and numbers, not for {task.name}; use finetune")
        asked = task.describe()
        if set(task.score.reads) & set(task.OF_PROBABILITIES):
            able = [name for name in able if HEADS[name].probabilistic]
            asked += f" scored by '{task.metric}', which needs probabilities"
        for name in self.heads:
            if name not in able:
                raise InputError(f"the head '{name}' is not for {asked}; expected of: {', '.join(able)}")
        return tuple(self.heads) or tuple(name for name in able if name != "mlp")

    def grids(self, source: Source, task: Task) -> dict[str, np.ndarray]:
        """What each head is tried with, the simplest first."""
        strengths = np.unique(np.float64(self.penalties))[::-1]
        if not strengths.size or not np.isfinite(strengths).all() or strengths[-1] <= 0:
            raise InputError(f"penalties are {list(self.penalties)}; expected one or more numbers above 0")
        few = [k for k in NEIGHBOURS if k <= len(source) // 4] or NEIGHBOURS[:1]
        counts = np.unique(np.asarray(self.neighbours if len(self.neighbours) else few))[::-1]
        if counts.dtype.kind not in "ui" or counts[-1] < 1:
            raise InputError(f"neighbours are {list(self.neighbours)}; expected whole numbers from 1")
        kinds = {"penalty": strengths, "neighbours": counts, "": np.zeros(1)}
        return {name: kinds[HEADS[name].grid] for name in self.heads_for(task)}


@check_arguments
def probe(
    features: np.ndarray,
    labels: np.ndarray,
    splitter: str | Splitting | Any = "auto",
    probing: Probing = Probing(),
    *,
    folds: int = 5,
    metrics: Metrics = None,
    class_names: Sequence[str] = (),
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    progress: Callable[[str], None] | bool | None = None,
) -> ProbeResult:
    """How good are heads of several kinds on these features, over a grid of penalties?

    Columns are standardised in each training part. Where a penalty is chosen, inner folds of each training part choose
    it, and the score is that of the outer folds' examples, which took no part in the choice.

    Args:
      features: ``[examples, columns]``.
      labels: whole numbers from 0 for classes, or floats to be predicted.
      splitter: as of `cross_validate`, also a list of folds; ``repeats`` draws stratified (or kfold) folds again, too.
        With ``leave-one-out`` ridge takes its exact closed form, and all other heads are fitted in every fold; the
        score is then not nested.
      probing: heads, their grids, how to choose.
      folds: for a splitter by name.
      metrics: the first is the score, by which penalties are chosen; see `tasks.Task.scored_by`.
      class_names: of the labels, by default their numbers.
      groups: one for each example, never divided by a splitter for groups.
      times: one for each example, for splitters that go by time.
      progress: called with the name of the head at work; or whether to show a bar, see `Execution`.

    Raises:
      InputError: for features that are not finite numbers, a head that does not go with the labels, an empty grid, or
        more than `MOST_FITTED` folds of leave-one-out for a head that is iterated in each.
    """
    source = _as_source(features, labels, class_names, groups, times)
    task = choose_task(source, metrics=metrics, purpose="probing")
    shown = (lambda row: progress(row["head"])) if callable(progress) else progress
    with drawn(Execution(progress=shown)) as execution:
        tell = lambda name: execution.tell({"head": name})  # noqa: E731
        return probe_source(source, np.float32(features), task, splitter, probing, folds=folds, progress=tell)


def probe_source(
    source: Source,
    features: np.ndarray,
    task: Task,
    splitter: str | Splitting | Any,
    probing: Probing,
    *,
    folds: int,
    progress: Callable[[str], None] | None,
    about: Mapping[str, Any] | None = None,
    check: Callable[[Split], Sequence[Mapping[str, Any]]] | None = None,
) -> ProbeResult:
    """`probe` of the examples of `source`; `about` goes to the result, `check` looks for leaks in the folds."""
    classes, seed = task.num_outputs if task.PROBED == "classes" else 0, probing.seed
    grids = probing.grids(source, task)
    splitter, repeats = _repeated(splitter, source, task)
    if source.weights is not None:
        warnings.warn(f"heads on features take no weights: those of {source.name} are left out", stacklevel=2)
    split = split_source(source, splitter, folds, seed, task)
    leaks = [*(check(split) if check else ()), *(one.as_dict() for one in find_untaught(source, task, split))]
    single = all(len(test) == 1 for test in split.test)
    if not single:
        task.check_test(min(len(test) for test in split.test), "probing")
    choosing = probing.nested and not single and any(len(grid) > 1 for grid in grids.values())
    inner = inner_splits(source, task, split, None, probing.inner_folds, seed) if choosing else None
    if check and inner:
        found = [*leaks, *check(as_one(inner))]
        leaks = list({leak["said"]: leak for leak in found}.values())
    labels = np.asarray(source.targets())
    examples = Examples(jnp.asarray(features), labels, classes, probing.standardise, seed, probing.tolerance)
    if single:
        _check_folds(grids, classes, len(split))
    whole = split.kind in ("leave-one-out", "LeaveOneOut")
    made = {}
    for name, grid in grids.items():
        if progress:
            progress(name)
        made[name] = _run_head(name, grid, examples, task, (split, inner, probing.selection), whole)
    settings = {
        "penalties": sorted(map(float, probing.penalties), reverse=True),
        "selection": probing.selection,
        "nested": choosing,
        "inner_folds": probing.inner_folds if choosing else None,
        "repeats": repeats,
        "standardise": probing.standardise,
        "tolerance": probing.tolerance,
        "seed": seed,
    }
    origin = {
        "init": {"kind": "features", "model": "features"},
        "model": {"name": "features", "arguments": {}},
        **(about or {}),
    }
    return ProbeResult(
        heads=made,
        split=split,
        labels=examples.labels,
        groups=source.groups,
        trees=grow_trees(source, task, split.train, split.test),
        task=task,
        settings=settings,
        data=source.name,
        leaks=leaks,
        **origin,
    )


def _run_head(
    name: str,
    grid: np.ndarray,
    examples: Examples,
    task: Task,
    folds: tuple[Split, Sequence[Split] | None, str],
    whole: bool,
) -> HeadResult:
    """One head over its grid; `folds` are the outer ones, the inner ones and the rule that these choose by."""
    begin = time.perf_counter()
    split, inner, rule = folds
    notes, gradients, by_fold = [], [], None
    if whole and name == "ridge":
        outputs = ridge_leave_one_out(examples, grid)[:, np.concatenate(split.test)]
        notes += [SCALE_NOTE] if examples.scaled else []
    else:
        fitted = fit_all(name, grid, examples, [split])[0]
        outputs, gradients = np.concatenate([one.outputs for one in fitted], 1), [one.gradient for one in fitted]
    scores = _scores(outputs, split, examples, task)
    chosen = select(task.score.sign * scores, rule)
    if len(grid) > 1:
        if inner is None:
            notes.append(BIAS)
        else:
            by_fold = []
            for part, mine in zip(inner, fit_all(name, grid, examples, inner), strict=True):
                gradients += [one.gradient for one in mine]
                outputs_of_part = np.concatenate([one.outputs for one in mine], 1)
                by_fold.append(select(task.score.sign * _scores(outputs_of_part, part, examples, task), rule))
    left = [gradient for gradient in gradients if gradient is not None]
    if left and max(left) > examples.tolerance:
        notes.append(f"not every fit came to its optimum: a gradient of {max(left):.2g} of the residuals was left")
    return HeadResult(
        name=name,
        grid=grid,
        outputs=outputs,
        scores=scores,
        chosen=chosen,
        by_fold=by_fold,
        seconds=time.perf_counter() - begin,
        gradient=max(left) if left else None,
        notes=notes,
    )


def fit_all(name: str, grid: np.ndarray, examples: Examples, splits: Sequence[Split]) -> list[list[Fitted]]:
    """The head in every fold of every split. One program serves those of nearly the same size."""
    sizes = [(len(train), len(test)) for split in splits for train, test in zip(split.train, split.test, strict=True)]
    rows = list(zip(*(_shared_sizes(column) for column in zip(*sizes, strict=True)), strict=True))
    used = [np.unique(np.concatenate([*split.train, *split.test])) for split in splits]
    made, number = [], 0
    for split, indices, many in zip(splits, used, _shared_sizes([len(indices) for indices in used]), strict=True):
        folds = []
        for train, test in zip(split.train, split.test, strict=True):
            if HEADS[name].grid == "neighbours":
                _check_neighbours(grid, train)
            folds.append(Fold(examples, train, test, rows[number], number))
            number += 1
        made.append(HEADS[name].fit(Folds(examples, folds, indices, many), grid))
    return made


def _shared_sizes(sizes: Sequence[int]) -> list[int]:
    """To how many rows parts of these sizes are padded."""
    shared, most = {}, 0
    for size in sorted(set(sizes), reverse=True):
        most = size if size < SAME_SIZE * most or not most else most
        shared[size] = most
    return [shared[size] for size in sizes]


def _scores(outputs: np.ndarray, split: Split, examples: Examples, task: Task) -> np.ndarray:
    """``[grid, folds]``. Where no fold has a score, as R² of single examples, that of all rows: ``[grid, 1]``."""
    labels = examples.labels[np.concatenate(split.test)]
    ends = np.cumsum([0, *(len(test) for test in split.test)]).tolist()

    def by_fold(kept: np.ndarray) -> list[float]:
        record = task.host_record(kept, labels)
        parts = ({key: values[a:b] for key, values in record.items()} for a, b in itertools.pairwise(ends))
        return [task.score.score(part) for part in parts]

    found = np.array([by_fold(one) for one in outputs])
    if not np.isnan(found).all():
        return found
    if task.score.averaged:
        raise InputError(f"the metric '{task.metric}' is not defined in any fold: {task.score.undefined}")
    return np.array([[task.score.score(task.host_record(one, labels))] for one in outputs])


def _check_folds(heads: Iterable[str], classes: int, folds: int) -> None:
    quick = ", ".join(name for name, head in HEADS.items() if name not in ITERATED and (classes or head.numbers))
    for name in heads:
        if name in ITERATED and folds > MOST_FITTED:
            raise InputError(
                f"leave-one-out fits the head '{name}' {folds} times; expected at most {MOST_FITTED}: use the splitter "
                f"'auto', or only heads that are quick in so many folds: {quick}"
            )


def _check_neighbours(grid: np.ndarray, train: np.ndarray) -> None:
    if grid[0] > len(train):
        raise InputError(f"{grid[0]} neighbours are asked for, but a fold trains on {len(train)} examples")


def _repeated(splitter: str | Splitting | Any, source: Source, task: Task) -> tuple[Any, int | None]:
    """The splitter that repeats what a plain one does, where that is asked for, and how often."""
    if not isinstance(splitter, Splitting) or splitter.repeats is None:
        return splitter, None
    name = auto_splitter(source, task.strata(source.targets())) if splitter.splitter == "auto" else splitter.splitter
    repeated = {"stratified": "repeated-stratified", "kfold": "repeated-kfold"}.get(name, name)
    return dataclasses.replace(splitter, splitter=repeated), splitter.repeats


def _as_source(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    groups: np.ndarray | None,
    times: np.ndarray | None,
) -> Source:
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
        raise InputError(f"features are {features.dtype}{list(features.shape)}; expected numbers [examples, columns]")
    if labels.shape != (len(features),):
        raise InputError(f"labels have the shape {list(labels.shape)}; expected one for each of {len(features)}")
    if len(bad := np.flatnonzero(~np.isfinite(features).all(1))):
        raise InputError(f"features of {len(bad)} examples are NaN or infinite, the first is example {bad[0]}")
    if labels.dtype.kind in "iu":
        names = tuple(class_names) or tuple(str(i) for i in range(int(labels.max()) + 1))
        labels = labels.astype(np.int32)
    else:
        names, labels = (), labels.astype(np.float32)
    pick = lambda values: None if values is None else np.asarray(values)  # noqa: E731
    return Arrays(np.float32(features), labels, names, groups=pick(groups), times=pick(times), name="features")
