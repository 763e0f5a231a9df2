"""How much of a score's variation is due to the split, to the seed and to the hyperparameters."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data.source import Source, arrange_columns, check_source
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.shown import Shown
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.baselines import tell_baselines
from jaxdl.validation.components import Component, repeats, variance_components
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.saving import Saved
from jaxdl.validation.search.configurations import Configuration, configure, group, model_of
from jaxdl.validation.search.evaluate import Evaluation
from jaxdl.validation.search.inner import OUTER
from jaxdl.validation.search.space import make_space, propose
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.splitters import TEST_SHARE
from jaxdl.validation.strategy import STRATEGIES
from jaxdl.validation.told import BaselineTold, DataTold, ModelTold, RepeatTold, SplitTold
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import Checkpoint, environment
from jaxdl.weights.files import from_plain, read_json, reading

if TYPE_CHECKING:
    import pandas as pd

VARIANCE = "variance.json"
FACTORS = (0.5, 1.0, 2.0)  # of the learning rate, where no configurations are given


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Variance(Shown, Saved):
    """Of `variance`.

    Attributes:
      metric: that is scored.
      mean: of all scores.
      components: sources of the variance of one training's score; see `components.Component`.
      repeats: what to repeat to narrow the mean score of one plan; see `components.repeats`.
      scores: of every training, ``[configurations, splits, seeds]``.
      configurations: the values of each.
      seeds: of each repetition.
      split: the manifest of the splits.
      plan: as given, as plain values.
      data: ``{"name", "examples", "class_names"}``.
      model: ``{"name", "arguments"}``.
      environment: versions and devices.
      seconds: of the whole call.
      leaks: see `validation.result.Result`.
      baselines: what other models score on each split: see `validation.result.Result`. None in those of older releases.
    """

    metric: str
    mean: float
    components: Sequence[Component]
    repeats: Sequence[RepeatTold]
    scores: np.ndarray
    configurations: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    split: SplitTold
    plan: Mapping[str, Any]
    data: DataTold
    model: ModelTold
    environment: Mapping[str, Any]
    seconds: float
    leaks: Sequence[Mapping[str, Any]] = ()
    baselines: Sequence[BaselineTold] | None = None

    def to_frame(self) -> "pd.DataFrame":
        """A row for each training: number of its ``configuration`` and ``split``, its ``seed`` and ``score``."""
        import pandas as pd

        index = pd.MultiIndex.from_product(
            [range(len(self.configurations)), range(self.scores.shape[1]), self.seeds],
            names=("configuration", "split", "seed"),
        )
        return pd.DataFrame({"score": np.ravel(self.scores)}, index).reset_index()

    def _facts(self) -> dict[str, Any]:
        shape = " × ".join(map(str, np.shape(self.scores)))
        facts = {self.metric: self.mean, "configurations × splits × seeds": shape}
        return facts | {"model": self.model["name"], "data": self.data["name"]}

    def _preview(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([one.as_dict() for one in self.components])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = [one.as_dict() for one in self.components]
        return held | {"components": plain, "scores": np.asarray(self.scores).tolist(), "seeds": list(self.seeds)}

    def write_to(self, folder: Path) -> None:
        """``variance.json``, into a folder that is there."""
        (folder / VARIANCE).write_text(json.dumps(self.as_dict(), indent=1) + "\n")


def load_variance(path: str | Path) -> Variance:
    """What `Variance.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    file = place_of(path) / VARIANCE
    if not file.is_file():
        raise InputError(f"'{path}' is not a result of variance: it has no {VARIANCE}")
    held = read_json(file)
    with reading(file):
        held["components"] = [from_plain(Component, one) for one in held["components"]]
        held["scores"] = np.array(held["scores"], np.float64)
        found = from_plain(Variance, held)
        shape = len(found.configurations), found.split["k"], len(found.seeds)
        if found.scores.shape != shape:
            raise ValueError(f"its scores have the shape {found.scores.shape}; expected {shape}")
        return found


@check_arguments
@watched
def variance(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    splits: int = 10,
    seeds: int = 3,
    configurations: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    task: Task | str | None = None,
    metrics: Metrics = None,
    splitter: str | Splitting | Any = "auto",
    execution: Execution = Execution(),  # noqa: B008
) -> Variance:
    """Trains every configuration on every split with every seed, and divides the variance of the scores.

    As Bouthillier et al. (2021, "Accounting for variance in machine learning benchmarks"): a comparison that varies one
    source alone is blind to the others. Splits are repeated divisions of the same examples, so that the part of the
    data is how much the division matters; another data set would vary more. (The interval of `cross_validate` is about
    that.) All trainings that differ in numbers alone run in one program, as in `search`.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how to train.
      splits: number of divisions into training and test part.
      seeds: trainings a split, from the plan's seed on; a seed is that of initial weights, order and dropout.
      configurations: values that take the place of the plan's, for each configuration: ``{"learning_rate": 1e-3}``; or
        one dict with a list for each name, of which all combinations are taken. By default half, once and twice the
        learning rate; ``[{}]`` is the plan alone. Names as in `search`.
      task: see `cross_validate`, as `metrics`.
      metrics: the first is the score.
      splitter: ``auto``, or a `Splitting` with a ``test_fraction`` (0.2 unless said), draws a test part each time (by
        strata such as classes, or whole groups where there are groups); else see `cross_validate`, with `splits` folds.
      execution: how the run is executed.

    Raises:
      InputError: if data, plan and configurations do not go together, a training's numbers stop being finite, or there
        are too few of all to tell variances apart.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    question = choose_task(check_source(source), task, metrics, purpose="variance")
    check_choice("fold strategy", execution.fold_strategy, STRATEGIES)
    allow = check_allowed(execution.allow)
    for name, value in (("splits", splits), ("seeds", seeds)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card)
    made = configure(_values(configurations, init, plan), init, plan, source, question, execution.image_size)
    if splits < 2 or seeds * len(made) < 2:
        raise InputError(
            f"there are {splits} splits, {seeds} seeds and {len(made)} configurations; expected at least 2 splits, and "
            "2 seeds or 2 configurations"
        )
    split = _divide(source, question, splitter, splits, plan.seed)
    if execution.work:
        settings = {"call": "variance", "image_size": execution.image_size}
        settings |= describe_run(init, source, plan, question, execution)
        settings |= {"seeds": seeds, "configurations": [one.as_dict()["values"] for one in made]}
        settings |= {"split": split.sha256, "fold_strategy": execution.fold_strategy, "memory": execution.memory}
        execution.work.claim(settings | ({"allow": list(allow)} if allow else {}), environment())
    leaks = [leak.as_dict() for leak in check_leaks(init, source, split, allow=allow, task=question)]
    repetitions = range(plan.seed, plan.seed + seeds)
    evaluation = Evaluation(source, question, {OUTER: split}, group(made), repetitions, execution)
    table = evaluation.run([(one.number, (OUTER, fold)) for one in made for fold in range(len(split))], "variance")
    metric = question.metric
    scores = np.array(
        [
            [[table[one.number, (OUTER, fold), seed][metric] for seed in repetitions] for fold in range(len(split))]
            for one in made
        ]
    )
    _check_finite(scores, made)
    components = variance_components(scores, plan.seed)
    name, arguments = describe(model_of(init))
    return Variance(
        metric=metric,
        mean=float(scores.mean()),
        components=components,
        repeats=repeats({one.name: one.variance for one in components}, len(split), seeds),
        scores=scores,
        configurations=[one.as_dict()["values"] for one in made],
        seeds=list(repetitions),
        split=split.as_dict(),
        plan=plan.as_dict(),
        data={"name": source.name, "examples": len(source), "class_names": list(question.names)},
        model={"name": name, "arguments": arguments},
        environment=environment(),
        seconds=time.perf_counter() - begin,
        leaks=leaks,
        baselines=tell_baselines(question, source, split.train, split.test),
    )


def _values(given: Any, init: Init, plan: Plan) -> list[Mapping[str, Any]]:
    """What each configuration puts in place of the plan's."""
    if given is None:
        return [{"learning_rate": factor * plan.learning_rate} for factor in FACTORS]
    if isinstance(given, Mapping):
        return propose(make_space(given, model_of(init)), "grid", None, plan.seed)
    if not isinstance(given, Sequence) or not given or not all(isinstance(one, Mapping) for one in given):
        raise InputError(
            f"configurations is {str(given)[:200]}; expected dicts such as {{'learning_rate': 1e-3}} in a "
            "list, or a dict of lists"
        )
    for one in given:
        if one:
            make_space({name: [value] for name, value in one.items()}, model_of(init))  # checks the names
    return list(given)


def _divide(source: Source, task: Task, splitter: Any, splits: int, seed: int) -> Split:
    splitting = Splitting(splitter) if isinstance(splitter, str) else splitter
    if not isinstance(splitting, Splitting) or splitting.splitter != "auto":
        return split_source(source, splitter, splits, seed, task)
    if source.groups is None:
        return split_source(source, dataclasses.replace(splitting, splitter="monte-carlo"), splits, seed, task)
    from sklearn.model_selection import GroupShuffleSplit

    share = TEST_SHARE if splitting.test_fraction is None else splitting.test_fraction
    if not 0 < share < 1:
        raise InputError(f"test_fraction is {share!r}; expected a share between 0 and 1")
    return split_source(source, GroupShuffleSplit(splits, test_size=share, random_state=seed), splits, seed, task)


def _check_finite(scores: np.ndarray, made: Sequence[Configuration]) -> None:
    bad = ~np.isfinite(scores)
    if bad.any():
        worst = int(bad.sum((1, 2)).argmax())
        raise InputError(
            f"{int(bad.sum())} of {scores.size} trainings have no finite score, most of them with "
            f"{dict(made[worst].as_dict()['values'])}; leave out configurations that diverge, such as a learning rate "
            "that is too high"
        )
