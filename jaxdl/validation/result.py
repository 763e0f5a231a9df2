"""What a cross-validation found."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.files import check_free, written_whole

RESULT, PREDICTIONS, CURVES = "result.json", "out_of_fold.npz", "metrics.jsonl"
LOGITS, DECISION_VALUES = "logits", "decision values"  # what outputs may be


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
class Result:
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

    def save(self, path: str | Path) -> Path:
        """Writes ``result.json``, ``out_of_fold.npz`` and ``metrics.jsonl`` to a new folder, all or nothing.

        Raises:
          InputError: if something is there already.
        """
        path = check_free(path)
        with written_whole(path) as work:
            self.write_to(work)
        return path

    def write_to(self, folder: Path) -> None:
        """The files of `save`, into a folder that is there."""
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
