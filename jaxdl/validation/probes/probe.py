"""Heads on features: every kind, every penalty, every fold."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl.data.source import Arrays, Source, check_labelled
from jaxdl.errors import InputError, check_choice
from jaxdl.tasks import choose_task
from jaxdl.validation.probes.heads import HEADS, Examples, Fitted, Fold, Folds
from jaxdl.validation.probes.leave_one_out import CLOSED, SCALE_NOTE, leave_one_out
from jaxdl.validation.probes.linear import TOLERANCE
from jaxdl.validation.probes.result import HeadResult, ProbeResult
from jaxdl.validation.probes.selection import RULES, select
from jaxdl.validation.search.inner import inner_splits
from jaxdl.validation.splits import Split, Splitting, auto_splitter, split_source

PENALTIES = tuple(10.0 ** (place / 2) for place in range(-6, 7))
NEIGHBOURS = (1, 3, 5, 9, 17, 33, 65)
SAME_SIZE = 0.9  # folds whose sizes differ by less are padded to share a program
BIAS = "the score is of the folds that chose the grid's best, and so a little too good"


@dataclasses.dataclass(frozen=True)
class Probing:
    """What is fitted to features, and how the best of it is chosen.

    Attributes:
      heads: of `HEADS`; by default all but mlp that go with the labels.
      penalties: as a sum over examples: scikit-learn's alpha for ridge, 1/C for logistic and svm; see
        `linear.fit_logistic`.
      neighbours: numbers of them, for knn; by default those of `NEIGHBOURS` that are at most a quarter of the examples.
      nested: choose by inner folds; without, all folds choose and the score is a little too good.
      inner_folds: how many.
      selection: ``best`` or ``one-se``; see `selection.select`.
      standardise: whether to divide columns by their standard deviation; they are always centred.
      tolerance: of logistic and svm: the largest entry of the gradient of the mean loss beside the mean residual; see
        `linear.fit_logistic`.
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
        if isinstance(self.heads, str):
            raise InputError(f"heads is {self.heads!r}; expected a list of {', '.join(HEADS)}")
        for name in self.heads:
            check_choice("head", name, HEADS)
        check_choice("selection", self.selection, RULES)
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}; expected a number above 0 and below 1")

    def heads_for(self, classes: bool) -> tuple[str, ...]:
        """Those that are asked for, or all that are quick.

        Raises:
          InputError: if one tells classes apart and there are none.
        """
        able = [name for name, head in HEADS.items() if classes or head.numbers]
        for name in self.heads:
            if name not in able:
                raise InputError(
                    f"the head '{name}' tells classes apart, but the labels are numbers; expected of: {', '.join(able)}"
                )
        return tuple(self.heads) or tuple(name for name in able if name != "mlp")

    def grids(self, source: Source) -> dict[str, np.ndarray]:
        """What each head is tried with, the simplest first."""
        strengths = np.unique(np.float64(self.penalties))[::-1]
        if not strengths.size or not np.isfinite(strengths).all() or strengths[-1] <= 0:
            raise InputError(f"penalties are {list(self.penalties)}; expected one or more numbers above 0")
        few = [k for k in NEIGHBOURS if k <= len(source) // 4] or NEIGHBOURS[:1]
        counts = np.unique(np.asarray(self.neighbours if len(self.neighbours) else few))[::-1]
        if counts.dtype.kind not in "ui" or counts[-1] < 1:
            raise InputError(f"neighbours are {list(self.neighbours)}; expected whole numbers from 1")
        kinds = {"penalty": strengths, "neighbours": counts, "": np.zeros(1)}
        return {name: kinds[HEADS[name].grid] for name in self.heads_for(bool(source.class_names))}


def probe(
    features: np.ndarray,
    labels: np.ndarray,
    splitter: str | Any = "auto",
    probing: Probing = Probing(),
    *,
    folds: int = 5,
    splitting: Splitting | None = None,
    class_names: Sequence[str] = (),
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    progress: Callable[[str], None] | None = None,
) -> ProbeResult:
    """How good are heads of several kinds on these features, over a grid of penalties?

    Columns are standardised in each training part. Where a penalty is chosen, inner folds of each training part choose
    it, and the score is that of the outer folds' examples, which had no say.

    Args:
      features: ``[examples, columns]``.
      labels: whole numbers from 0 for classes, or floats to be predicted.
      splitter: as of `cross_validate`; ``leave-one-out`` takes closed forms where there are any: exact for ridge,
        approximate and checked against refits for logistic and svm; the score is then not nested.
      probing: heads, their grids, how to choose.
      folds: for a splitter by name.
      splitting: options for a splitter by name; its `repeats` draws stratified (or kfold) folds anew, too.
      class_names: of the labels, by default their numbers.
      groups: one for each example, never divided by a splitter that goes by groups.
      times: one for each example, for splitters that go by time.
      progress: told which head is at work.

    Raises:
      InputError: for features that are not finite numbers, a head that does not go with the labels, or an empty grid.
    """
    source = _as_source(features, labels, class_names, groups, times)
    return probe_source(
        source, np.float32(features), splitter, probing, folds=folds, splitting=splitting, progress=progress
    )


def probe_source(
    source: Source,
    features: np.ndarray,
    splitter: str | Any,
    probing: Probing,
    *,
    folds: int,
    splitting: Splitting | None,
    progress: Callable[[str], None] | None,
    about: Mapping[str, Any] | None = None,
    check: Callable[[Split], Sequence[Mapping[str, Any]]] | None = None,
) -> ProbeResult:
    """`probe` of the examples of `source`; `about` goes to the result, `check` looks for leaks in the folds."""
    classes, seed = len(source.class_names), probing.seed
    grids = probing.grids(source)
    splitter = _repeated(splitter, splitting, source)
    split = split_source(source, splitter, folds, seed, splitting)
    leaks = check(split) if check else ()
    single = all(len(test) == 1 for test in split.test)
    if not classes and not single and min(len(test) for test in split.test) < 2:
        raise InputError("a fold tests a single example, of which there is no R²; use another splitter or fewer folds")
    choosing = probing.nested and not single and any(len(grid) > 1 for grid in grids.values())
    inner = inner_splits(source, split, splitter, splitting, None, probing.inner_folds, seed) if choosing else None
    labels = np.asarray(source.labels)
    examples = Examples(jnp.asarray(features), labels, classes, probing.standardise, seed, probing.tolerance)
    whole = split.kind in ("leave-one-out", "LeaveOneOut")
    made = {}
    for name, grid in grids.items():
        if progress:
            progress(name)
        made[name] = _run_head(name, grid, examples, split, inner, probing.selection, whole)
    settings = {
        "penalties": sorted(map(float, probing.penalties), reverse=True),
        "selection": probing.selection,
        "nested": choosing,
        "inner_folds": probing.inner_folds if choosing else None,
        "repeats": None if splitting is None else splitting.repeats,
        "standardise": probing.standardise,
        "tolerance": probing.tolerance,
        "seed": seed,
    }
    told = {
        "init": {"kind": "features", "model": "features"},
        "model": {"name": "features", "arguments": {}},
        **(about or {}),
    }
    return ProbeResult(
        heads=made,
        split=split,
        labels=examples.labels,
        groups=source.groups,
        class_names=tuple(source.class_names),
        settings=settings,
        data=source.name,
        leaks=leaks,
        **told,
    )


def _run_head(
    name: str,
    grid: np.ndarray,
    examples: Examples,
    split: Split,
    inner: Sequence[Split] | None,
    rule: str,
    whole: bool,
) -> HeadResult:
    begin = time.perf_counter()
    notes, approximation, by_fold = [], None, None
    if whole and name in CLOSED:
        left_out = leave_one_out(name, examples, grid)
        outputs, gradients, approximation = left_out.outputs, [left_out.gradient], left_out.approximation
        outputs = outputs[:, np.concatenate(split.test)]
        notes += [SCALE_NOTE] if examples.scaled else []
    else:
        fitted = fit_all(name, grid, examples, [split])[0]
        outputs, gradients = np.concatenate([one.outputs for one in fitted], 1), [one.gradient for one in fitted]
    scores = _scores(outputs, split, examples)
    chosen = select(scores, rule)
    if len(grid) > 1:
        if inner is None:
            notes.append(BIAS)
        else:
            by_fold = []
            for part, mine in zip(inner, fit_all(name, grid, examples, inner), strict=True):
                gradients += [one.gradient for one in mine]
                by_fold.append(select(_scores(np.concatenate([one.outputs for one in mine], 1), part, examples), rule))
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
        approximation=approximation,
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


def _scores(outputs: np.ndarray, split: Split, examples: Examples) -> np.ndarray:
    """``[grid, folds]``. Of numbers tested one by one there is no R² but that of all together: ``[grid, 1]``."""
    task = choose_task(range(examples.classes))
    if not examples.classes and all(len(test) == 1 for test in split.test):
        truth = examples.labels[np.concatenate(split.test)]
        return np.array([[task.evaluate(one, truth)[task.metric]] for one in outputs])
    ends = np.cumsum([len(test) for test in split.test])[:-1]
    return np.array(
        [
            [
                task.evaluate(part, examples.labels[test])[task.metric]
                for part, test in zip(np.split(one, ends), split.test, strict=True)
            ]
            for one in outputs
        ]
    )


def _check_neighbours(grid: np.ndarray, train: np.ndarray) -> None:
    if grid[0] > len(train):
        raise InputError(f"{grid[0]} neighbours are asked for, but a fold trains on {len(train)} examples")


def _repeated(splitter: str | Any, splitting: Splitting | None, source: Source) -> str | Any:
    """The splitter that repeats what a plain one does, where that is asked for."""
    if splitting is None or splitting.repeats is None or not isinstance(splitter, str):
        return splitter
    plain = auto_splitter(source) if splitter == "auto" else splitter
    return {"stratified": "repeated-stratified", "kfold": "repeated-kfold"}.get(plain, plain)


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
    source = Arrays(np.float32(features), labels, names, groups=pick(groups), times=pick(times), name="features")
    check_labelled(source, purpose="probing")
    return source
