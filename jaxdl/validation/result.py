"""What a cross-validation found."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.validation.saving import Saved
from jaxdl.weights.checkpoint import Checkpoint

RESULT, PREDICTIONS, CURVES = "result.json", "out_of_fold.npz", "metrics.jsonl"
LOGITS, DECISION_VALUES = "logits", "decision values"  # what outputs may be
NOT_NESTED = (
    "The folds that gave this score also chose the configuration: it is too good, the more so the more configurations "
    "there are and the fewer examples (Cawley & Talbot 2010). Nested folds give an honest one."
)


@dataclasses.dataclass(frozen=True, eq=False)
class OutOfFold:
    """One row for each prediction of an example by the fold that did not train on it.

    Attributes:
      index: of the example in the source.
      fold: that predicted it.
      label: its class, or its number.
      logits: ``float32[rows, classes]``; of a regression the predicted numbers, ``float32[rows, 1]``.
      group: number of the group that it belongs to; None where the source has no groups.
    """

    index: np.ndarray
    fold: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    group: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The class with the largest logit, or the number."""
        return self.logits[:, 0] if self.label.dtype.kind == "f" else self.logits.argmax(-1)

    @property
    def unit(self) -> np.ndarray:
        """What is independent from row to row: the group, or the example where there are none."""
        return self.index if self.group is None else self.group

    def as_dict(self) -> dict[str, np.ndarray]:
        """The columns that there are, by name."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: column for name, column in held.items() if column is not None}


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Saved):
    """Of `cross_validate`.

    Attributes:
      task: such as ``"classification"``.
      metric: of which `mean` and `std` speak.
      mean: over folds.
      std: standard deviation over folds (n - 1), None for a single fold. It is no standard error: the folds' training
        parts overlap (Bengio & Grandvalet 2004).
      folds: per fold ``fold``, ``train`` and ``test`` (numbers of examples), ``accuracy``, ``loss``, ``seconds``.
      fold_strategy: ``{"name", "reason"}``, and ``"trial"`` where one was made.
      split: ``{"kind", "k", "seed", "sha256"}``.
      init: where the folds started: a checkpoint's path or source, or the model from scratch.
      model: ``{"name", "arguments"}``.
      plan: the plan as plain values.
      data: ``{"name", "examples", "class_names"}``.
      cached: whether frozen stages were computed once for all folds.
      streamed: why the examples were read anew in each epoch, in words; None if they were kept in memory.
      environment: versions and devices.
      seconds: of the whole call.
      out_of_fold: see `OutOfFold`.
      curves: rows as in `training.transfer.train`, with ``fold``.
      models: the folds' networks, where they were to be kept; `save` does not write them.
      leaks: that were found and allowed, or not looked for: ``{"name", "examples", "said"}``; see `leakage.Leak`.
      interval: for the score, as plain values; see `statistics.intervals.Interval`. None where there is none.
      metrics: more of them, pooled and by fold; see `statistics.metrics.measure`. None in results of older releases.
      calibration: see `statistics.metrics.calibrate`.
      outputs: what `OutOfFold.logits` holds: ``"logits"``, or ``"decision values"``, of which no probabilities come
        (as of a ridge classifier or a support vector machine).
      selected: where configurations were chosen from, ``{"configurations": how many, "nested": whether folds that had
        no say in the choice gave the score}``; None where nothing was chosen. See `caution`.
    """

    task: str
    metric: str
    mean: float
    std: float | None
    folds: Sequence[Mapping[str, Any]]
    fold_strategy: Mapping[str, Any]
    split: Mapping[str, Any]
    init: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Mapping[str, Any]
    data: Mapping[str, Any]
    cached: bool
    environment: Mapping[str, Any]
    seconds: float
    out_of_fold: OutOfFold
    curves: Sequence[Mapping[str, Any]]
    streamed: str | None = None
    models: Sequence[Checkpoint] | None = None
    leaks: Sequence[Mapping[str, Any]] = ()
    interval: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    outputs: str = LOGITS
    selected: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Score, interval and caution, for print."""
        spread = "" if self.std is None else f" ± {self.std:.2g} between them"
        many = f"mean over {len(self.folds)} folds" if len(self.folds) > 1 else "one fold"
        said = [f"{self.metric} {self.mean:.4g}{spread}, {many} of {self.data['name']}"]
        if self.interval:
            ends = f"{self.interval['low']:.4g} to {self.interval['high']:.4g}"
            said.append(f"{self.interval['level']:.0%} interval {ends} ({self.interval['method']})")
        return "\n".join(said + ([f"Caution: {self.caution}"] if self.caution else []))

    @property
    def caution(self) -> str | None:
        """Why the score is too good: the folds that gave it chose among several configurations; else None."""
        if self.selected is None or self.selected["nested"] or self.selected["configurations"] < 2:
            return None
        return NOT_NESTED

    @property
    def probabilistic(self) -> bool:
        """Whether the outputs give a probability to each class."""
        return bool(self.class_names) and self.outputs == LOGITS

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.data["class_names"])

    def confusion_matrix(self) -> np.ndarray:
        """``int[classes, classes]``: rows are true classes, columns predicted ones, over all out-of-fold rows."""
        classes = len(self.class_names)
        pairs = self.out_of_fold.label * classes + self.out_of_fold.predicted
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def as_dict(self) -> dict[str, Any]:
        """All but predictions, curves and models, for JSON."""
        skipped = ("out_of_fold", "curves", "models")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}

    def write_to(self, folder: Path) -> None:
        """``result.json``, ``out_of_fold.npz`` and ``metrics.jsonl``, into a folder that is there."""
        (folder / RESULT).write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        np.savez_compressed(folder / PREDICTIONS, **self.out_of_fold.as_dict())
        (folder / CURVES).write_text("".join(json.dumps(row) + "\n" for row in self.curves))


def load_result(path: str | Path) -> Result:
    """What `Result.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    path = Path(path)
    if not (path / RESULT).is_file():
        raise InputError(f"'{path}' is not a result of cross-validate: it has no {RESULT}")
    try:
        held = json.loads((path / RESULT).read_text())
        with np.load(path / PREDICTIONS, allow_pickle=False) as file:
            out_of_fold = OutOfFold(**{name: file[name] for name in file.files})
        curves = [json.loads(line) for line in (path / CURVES).read_text().splitlines()]
        return Result(**held, out_of_fold=out_of_fold, curves=curves)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"the result in '{path}' is damaged ({type(error).__name__}: {error})") from error
