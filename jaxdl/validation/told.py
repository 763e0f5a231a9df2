"""What results hold as plain values: the keys that are always there, against which their files are checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, get_type_hints

from jaxdl.checks import check_type
from jaxdl.errors import InputError
from jaxdl.training.plan import Plan


class FoldTold(TypedDict):
    """A fold: its scores are there, too, by name."""

    fold: int
    train: int
    test: int


class CurveTold(TypedDict):
    """A row of the learning curves; see `training.transfer.train`."""

    fold: int
    epoch: int


class PartsTold(TypedDict):
    """Numbers of examples of a fold."""

    train: int
    test: int


class SplitTold(TypedDict):
    """See `splits.Split.as_dict`."""

    kind: str
    k: int
    seed: int | None
    sha256: str
    options: NotRequired[Mapping[str, Any] | None]
    examples: NotRequired[int | None]
    groups_sha256: NotRequired[str | None]
    times_sha256: NotRequired[str | None]
    like: NotRequired[str | None]
    timed: NotRequired[bool]
    sizes: NotRequired[Sequence[PartsTold]]


class EnvironmentTold(TypedDict):
    """See `checkpoint.environment`."""

    python: NotRequired[str]
    packages: NotRequired[Mapping[str, str]]
    backend: NotRequired[str]
    devices: NotRequired[Sequence[str]]
    machine: NotRequired[str]


class InitTold(TypedDict):
    """See `crossval.describe_init`."""

    kind: str
    model: str
    path: NotRequired[str | None]
    source: NotRequired[Mapping[str, Any] | None]


class ModelTold(TypedDict):
    """See `models.describe`."""

    name: str
    arguments: Mapping[str, Any]


class DataTold(TypedDict):
    """The examples."""

    name: str
    examples: int
    class_names: Sequence[str]


class StrategyTold(TypedDict):
    """How trainings are run, why so, and the seconds of a trial of each way where one was made."""

    name: str
    reason: str
    trial: NotRequired[Mapping[str, float | None]]


class BatchingTold(StrategyTold):
    """Also how many of them side by side."""

    width: int


class IntervalTold(TypedDict):
    """See `statistics.intervals.Interval`; older releases wrote neither `estimate` nor `of`."""

    low: float
    high: float
    level: float
    method: str
    about: str
    estimate: NotRequired[float]
    of: NotRequired[str]


class MetricsTold(TypedDict):
    """See `statistics.metrics.measure`."""

    pooled: Mapping[str, float | None]
    folds: Mapping[str, Sequence[float | None]]
    undefined: Mapping[str, str]
    notes: NotRequired[Mapping[str, str]]


class CalibrationTold(TypedDict):
    """See `statistics.metrics.calibrate`."""

    temperatures: Sequence[float]
    before: Mapping[str, float]
    after: Mapping[str, float]


class BaselineTold(TypedDict):
    """Another model on the same folds: its score in each by metric; see `baselines.with_baselines`."""

    name: str
    folds: Mapping[str, Sequence[float | None]]
    seconds: NotRequired[float]
    skipped: NotRequired[str]


class SelectedTold(TypedDict):
    """From how many configurations one was chosen, and whether other folds gave the score."""

    configurations: int
    nested: bool


class ConfigurationTold(TypedDict):
    """A configuration of a search."""

    number: int
    values: Mapping[str, Any]


class RankedTold(TypedDict):
    """A configuration on a division of the examples; see `search.result.SearchResult.scores`."""

    division: str
    configuration: int
    mean: float | None
    epochs: int
    rank: int


class PointTold(TypedDict):
    """A size of a learning curve; see `learning_curve.LearningCurve`."""

    asked: str
    size: float
    mean: float | None
    std: float | None
    folds: Sequence[float | None]
    interval: IntervalTold | None
    epochs: int
    steps: int
    seconds: float


class RepeatTold(TypedDict):
    """See `components.repeats`."""

    splits: int
    seeds: int
    trainings: int
    std: float


class HeadTold(TypedDict):
    """A head on frozen features; see `probes.result.HeadResult`."""

    grid: Sequence[float]
    scores: Sequence[Sequence[float | None]]
    chosen: float | None
    nested: bool
    seconds: float
    notes: Sequence[str]


class ProbeTold(TypedDict):
    """What ``probe.json`` says that is in the result of no single head."""

    metric: str
    data: str
    heads: Mapping[str, HeadTold]


def check_scores(folds: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Raises InputError unless each fold has a number, or None, by every name, and one by that of the metric."""
    for row in folds:
        if metric not in row:
            raise InputError(f"fold {row['fold']} has no {metric}, by which the result is scored")
        for name, value in row.items():
            check_type(f"{name} of fold {row['fold']}", value, float | None)


def check_plan(plan: Mapping[str, Any]) -> None:
    """Raises InputError unless what a plan's fields hold is of their types; others may be there."""
    hints = get_type_hints(Plan)
    for name in hints.keys() & plan.keys() - {"loss_function"}:  # which may be a function, said by its name
        check_type(f"{name} of plan", plan[name], hints[name])
