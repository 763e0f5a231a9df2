"""What a cross-validation found."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.models.variables import nest, walk_shapes
from jaxdl.shown import Shown
from jaxdl.tasks import Task, parse_task
from jaxdl.tasks.columns import frame_columns
from jaxdl.tasks.metric import percent
from jaxdl.validation.saving import Saved
from jaxdl.validation.splitters import is_timed
from jaxdl.validation.statistics.sample import Sample
from jaxdl.validation.told import (
    BaselineTold,
    CalibrationTold,
    CurveTold,
    DataTold,
    EnvironmentTold,
    FoldTold,
    InitTold,
    IntervalTold,
    MetricsTold,
    ModelTold,
    SelectedTold,
    SplitTold,
    StrategyTold,
    check_plan,
    check_scores,
)
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.files import from_plain, read_json, read_json_lines, read_npz, reading
from jaxdl.weights.hints import RESULT

if TYPE_CHECKING:
    import pandas as pd

    from jaxdl.validation.conformal.sets import PredictionIntervals, PredictionSets

PREDICTIONS, CURVES = "out_of_fold.npz", "metrics.jsonl"
PART = "part.json"  # what `parts` writes in place of RESULT
LOGITS, DECISION_VALUES = "logits", "decision values"  # what outputs may be
NOT_NESTED = (
    "The folds that gave this score also chose the configuration: it is too good, the more so the more configurations "
    "there are and the fewer examples (Cawley & Talbot 2010). Nested folds give an honest one."
)
BEFORE = {"label": "target", "logits": "kept"}  # what columns were called by older releases


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OutOfFold(Shown):
    """One row for each prediction of an example by the fold that did not train on it.

    Attributes:
      index: of the example in the source.
      fold: that predicted it.
      target: what was asked, arrays ``[rows, …]``: a class, a number, a row of labels.
      kept: what the task keeps of the outputs, arrays ``[rows, …]``: logits, or numbers ``[rows, 1]``.
      group: number of the group that it belongs to; None where the source has no groups.
    """

    index: np.ndarray
    fold: np.ndarray
    target: Any
    kept: Any
    group: np.ndarray | None = None

    @property
    def unit(self) -> np.ndarray:
        """What is independent from row to row: the group, or the example where there are none."""
        return self.index if self.group is None else self.group

    def take(self, rows: np.ndarray) -> "OutOfFold":
        """Some of the rows."""
        return taken(self, rows)

    def _facts(self) -> dict[str, Any]:
        groups = None if self.group is None else len(np.unique(self.group))
        return {"rows": len(self.index), "folds": len(np.unique(self.fold)), "groups": groups}

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name; those of a pytree as ``kept/name``."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: np.asarray(array) for name, array in walk_shapes(held)}


jax.tree_util.register_dataclass(OutOfFold, ["index", "fold", "target", "kept", "group"], [])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result(Shown, Saved):
    """Of `cross_validate`.

    Attributes:
      task: its name, such as ``"classification"``.
      metric: of which `mean` and `std` speak.
      mean: over the folds that have a score; None where none has.
      std: standard deviation over folds (n - 1), None for a single fold. It is no standard error: the folds' training
        parts overlap (Bengio & Grandvalet 2004).
      folds: per fold ``fold``, ``train`` and ``test`` (numbers of examples), scores such as ``accuracy``, ``loss``,
        and ``seconds``. A score that is not defined in a fold is None.
      fold_strategy: ``{"name", "reason"}``, and ``"trial"`` where one was made.
      split: ``{"kind", "k", "seed", "sha256"}``.
      init: where the folds started: a checkpoint's path or source, or the model from scratch.
      model: ``{"name", "arguments"}``.
      plan: the plan as plain values.
      data: ``{"name", "examples", "class_names"}``.
      cached: whether frozen stages were computed once for all folds.
      streamed: why the examples were read in each epoch, in words; None if they were kept in memory.
      environment: versions and devices.
      seconds: of the whole call.
      out_of_fold: see `OutOfFold`.
      curves: rows as in `training.transfer.train`, with ``fold``.
      models: the folds' networks, where they were to be kept; `save` does not write them.
      leaks: that were found and allowed, or not looked for: ``{"name", "examples", "said", "caution"}``; see
        `leakage.Leak`.
      interval: for the score, as plain values; see `statistics.intervals.Interval`. None where there is none.
      metrics: more of them, pooled and by fold; see `statistics.metrics.measure`. None in results of older releases.
      calibration: see `statistics.metrics.calibrate`.
      outputs: what `OutOfFold.kept` holds: ``"logits"``, or ``"decision values"``, of which no probabilities come (as
        of a ridge classifier or a support vector machine).
      selected: what configurations were chosen from, ``{"configurations": how many, "nested": whether folds that had no
        part in the choice gave the score}``, of a search also ``criterion``, the metric that chose; None where nothing
        was chosen. See `caution`.
      question: the task as plain values; None in results of older releases.
      baseline: scores of a model that knows nothing but the training targets, on the same rows; by metric.
      baselines: what other models score on the same folds: the task's own that looks at no example, and on tables
        gradient-boosted trees; see `baselines.with_baselines`. None in results of older releases.
      own: the task itself, with metrics of the user's own; of a result that was read from a file None.
    """

    task: str
    metric: str
    mean: float | None
    std: float | None
    folds: Sequence[FoldTold]
    fold_strategy: StrategyTold
    split: SplitTold
    init: InitTold
    model: ModelTold
    plan: Mapping[str, Any]
    data: DataTold
    cached: bool
    environment: EnvironmentTold
    seconds: float
    out_of_fold: OutOfFold
    curves: Sequence[CurveTold]
    streamed: str | None = None
    models: Sequence[Checkpoint] | None = None
    leaks: Sequence[Mapping[str, Any]] = ()
    interval: IntervalTold | None = None
    metrics: MetricsTold | None = None
    calibration: CalibrationTold | None = None
    outputs: str = LOGITS
    selected: SelectedTold | None = None
    question: Mapping[str, Any] | None = None
    baseline: Mapping[str, float | None] | None = None
    own: Task | None = None
    baselines: Sequence[BaselineTold] | None = None

    def __str__(self) -> str:
        """Score, interval and caution, for print."""
        spread = "" if self.std is None else f" ± {self.std:.2g} (standard deviation between folds)"
        many = f"mean over {len(self.folds)} folds" if len(self.folds) > 1 else "one fold"
        mean = "not defined" if self.mean is None else f"{self.mean:.4g}"
        said = [f"{self.metric} {mean}{spread}, {many} of {self.data['name']}"]
        if self.interval:
            ends = f"{self.interval['low']:.4g} to {self.interval['high']:.4g}"
            said.append(f"{percent(self.interval['level'], decimals=0)} interval {ends} ({self.interval['method']})")
        return "\n".join(said + ([f"Caution: {self.caution}"] if self.caution else []))

    def to_frame(self) -> "pd.DataFrame":
        """The out-of-fold predictions, a row for each: ``example`` (its index in the source), ``fold``, ``group``,
        ``target``, the answer and its probabilities. An example that several folds test has a row of each."""
        import pandas as pd

        held = self.out_of_fold
        columns = {"example": held.index, "fold": held.fold}
        columns |= {} if held.group is None else {"group": held.group}
        columns |= self.asked.target_columns(held.target)
        return pd.DataFrame(columns | frame_columns(self.asked, held.kept, decisions=self.outputs == DECISION_VALUES))

    def _facts(self) -> dict[str, Any]:
        held = self.interval
        ends = (
            {f"{percent(held['level'], decimals=0)} interval": f"{held['low']:.4g} to {held['high']:.4g}"}
            if held
            else {}
        )
        return {
            self.metric: "not defined" if self.mean is None else self.mean,
            **ends,
            "folds": len(self.folds),
            "model": self.model["name"],
            "data": f"{self.data['name']} ({self.data['examples']} examples)",
            "caution": self.caution,
        }

    def _preview(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame(self.folds)

    @property
    def caution(self) -> str | None:
        """Why the score is too good: the folds that gave it chose among several configurations; else None."""
        if self.selected is None or self.selected["nested"] or self.selected["configurations"] < 2:
            return None
        return NOT_NESTED

    @cached_property
    def asked(self) -> Task:
        """The task.

        Raises:
          InputError: for a user's own task that is not registered.
        """
        if self.own is not None:
            return self.own
        return parse_task(self.question or {"name": self.task, "names": list(self.data["class_names"])})

    @cached_property
    def record(self) -> Mapping[str, np.ndarray]:
        """A few numbers per row of `out_of_fold`, from which every metric follows; see `tasks.Task.record`."""
        record = self.asked.host_record(self.out_of_fold.kept, self.out_of_fold.target)
        if self.outputs == DECISION_VALUES:
            record = {key: values for key, values in record.items() if key not in self.asked.OF_PROBABILITIES}
            if "decision" in record:  # of these no log-odds come, but examples are ranked by them
                record["scores"] = record["decision"]
        return record

    @property
    def predicted(self) -> np.ndarray:
        """The answer of each row of `out_of_fold`: a class, a number, a set of labels."""
        return self.asked.predicted(self.out_of_fold.kept)

    @property
    def calibrated(self) -> bool:
        """Whether a temperature may be fitted to the outputs."""
        return bool(self.asked.CALIBRATED) and self.outputs == LOGITS

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the task's outputs; empty where they have none."""
        return self.asked.names

    def sample(self, metric: Any = None) -> Sample:
        """The held-out rows with a metric, from which intervals and comparisons are made.

        Args:
          metric: one of the task's, a name that scikit-learn knows, a function, or a `Metric`; None for the result's.

        Raises:
          InputError: for an unknown metric, or one that needs probabilities where there are none.
        """
        held, chosen = self.out_of_fold, self.asked.find_metric(self.metric if metric is None else metric)
        if missing := [key for key in chosen.reads if key not in self.record]:
            raise InputError(
                f"the metric '{chosen.name}' needs {', '.join(missing)}, but the outputs are {self.outputs}"
            )
        folds, place = np.unique(held.fold, return_inverse=True)
        order = [int(np.searchsorted(folds, row["fold"])) for row in self.folds]
        sizes = np.array([[row["train"], row["test"]] for row in self.folds], np.float64)
        return Sample(
            metric=chosen,
            record=self.record,
            fold=np.argsort(order)[place],
            unit=held.unit,
            index=held.index,
            train=sizes[:, 0],
            test=sizes[:, 1],
            timed=is_timed(self.split),
        )

    def scored_by(self, metric: Any) -> "Result":
        """The result with another score, computed from the held-out predictions: nothing is trained again.

        Args:
          metric: see `sample`.

        Raises:
          InputError: as `sample`.
        """
        from jaxdl.validation.statistics.summary import summarised  # which needs this file

        chosen, task = self.sample(metric), self.asked.scored_by(metric)
        scores = finite(chosen.fold_scores.tolist())
        mean, std = mean_and_spread(scores)
        folds = [{**row, task.metric: score} for row, score in zip(self.folds, scores, strict=True)]
        return summarised(dataclasses.replace(self, metric=task.metric, mean=mean, std=std, folds=folds, own=task))

    def sets(self, coverage: float = 0.9, by: str | None = None, score: str | None = None) -> "PredictionSets":
        """Of each row of `out_of_fold` the classes that may be true, made of what the other folds held out.

        It shows how large sets are, and whether each class and group is covered; see
        `conformal.held_out.sets_of_folds`. Sets of new examples are those of an ensemble's predictions.

        Args:
          coverage: how often the truth should be held.
          by: ``"example"``, ``"class"`` (as often in each class), ``"group"`` (of new groups), or None for groups where
            there are any, else examples.
          score: ``"probability"`` for sets that are small on average, ``"adaptive"`` for sets that are larger for hard
            examples and never empty; None for the task's usual one.

        Raises:
          InputError: if the answers are no classes, or there are too few examples.
        """
        from jaxdl.validation.conformal.held_out import sets_of_folds  # which needs this file

        return sets_of_folds(self, coverage, by, score)

    def intervals(
        self, coverage: float = 0.9, by: str | None = None, score: str | None = None
    ) -> "PredictionIntervals":
        """Of each row of `out_of_fold` the numbers that may be true; as `sets`, for a regression."""
        from jaxdl.validation.conformal.held_out import intervals_of_folds

        return intervals_of_folds(self, coverage, by, score)

    def confusion_matrix(self) -> np.ndarray:
        """``int[classes, classes]``: rows are true classes, columns predicted ones, over all out-of-fold rows.

        Raises:
          InputError: where the answers are no classes.
        """
        if "confusion" not in self.asked.SECTIONS:
            raise InputError(f"a confusion matrix is of classes, but the task is {self.asked.describe()}")
        classes = len(self.asked.names)
        pairs = self.out_of_fold.target * classes + self.predicted
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def as_dict(self) -> dict[str, Any]:
        """All but predictions, curves and models, for JSON."""
        skipped = ("out_of_fold", "curves", "models", "own")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}

    def write_to(self, folder: Path) -> None:
        """``result.json``, ``out_of_fold.npz`` and ``metrics.jsonl``, into a folder that is there."""
        (folder / RESULT).write_text(json.dumps(finite(self.as_dict()), indent=1, allow_nan=False) + "\n")
        self.write_rows(folder)

    def write_rows(self, folder: Path) -> None:
        """``out_of_fold.npz`` and ``metrics.jsonl``, into a folder that is there."""
        np.savez_compressed(folder / PREDICTIONS, **self.out_of_fold.arrays())
        (folder / CURVES).write_text("".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in self.curves))


def taken(tree: Any, rows: np.ndarray) -> Any:
    """Some of the rows of a pytree of arrays ``[rows, …]``."""
    return jax.tree.map(lambda array: array[rows], tree)


def concatenated(trees: Sequence[Any]) -> Any:
    """Pytrees of arrays ``[rows, …]`` one after another."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *trees)


def finite(value: Any) -> Any:
    """Plain values with None for numbers that JSON does not have: NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def mean_and_spread(scores: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (n - 1) of the scores that are defined; None where there are too few."""
    known = [score for score in scores if score is not None and math.isfinite(score)]
    mean = float(np.mean(known)) if known else None
    return mean, float(np.std(known, ddof=1)) if len(known) > 1 else None


def load_result(path: str | Path) -> Result:
    """What `Result.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    path = place_of(path)
    if (path / PART).is_file():
        raise InputError(f"'{path}' holds a part of the folds alone; jaxdl gather joins all parts to a result")
    if not (path / RESULT).is_file():
        raise InputError(f"'{path}' is not a result of cross-validate: it has no {RESULT}")
    return read_result(path / RESULT, read_json(path / RESULT))


def read_result(file: Path, held: Mapping[str, Any]) -> Result:
    """`load_result` of the values in a file, beside which predictions and curves are."""
    path, arrays = file.parent, read_npz(file.parent / PREDICTIONS)
    curves = read_json_lines(path / CURVES, CurveTold)
    with reading(path / PREDICTIONS):
        out_of_fold = from_plain(OutOfFold, nest({BEFORE.get(name, name): array for name, array in arrays.items()}))
    with reading(file):
        result = from_plain(Result, held, out_of_fold=out_of_fold, curves=curves)
        check_choice("outputs", result.outputs, (LOGITS, DECISION_VALUES))
        check_scores(result.folds, result.metric)
        if "epochs" in result.plan:  # heads on features have plans of their own
            check_plan(result.plan)
    with reading(path / PREDICTIONS):
        tested = sum(row["test"] for row in result.folds)
        if any(len(array) != tested for array in out_of_fold.arrays().values() if array is not None):
            raise ValueError(f"its arrays do not have {tested} rows each, the number of tests in {file.name}")
    folds = {row["fold"] for row in result.folds}
    if "epochs" in result.plan and folds != {row["fold"] for row in curves}:  # heads on features have no curves
        with reading(path / CURVES):
            raise ValueError(f"it does not have rows of all {len(folds)} folds")
    return result
