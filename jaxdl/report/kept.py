"""Which epoch of a training a checkpoint is of, which one is kept beside it, and what each scores."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdl.training.progress import without_prefix


@dataclasses.dataclass(frozen=True)
class Kept:
    """Of a training.

    Attributes:
      row: of the learning curve, of the epoch that the checkpoint is of.
      best: the row of the best epoch on the held-out part, where that is another network, kept beside; else None.
      stopped: whether the checkpoint is the best epoch on an inner part of the training examples (early stopping).
      epochs: how many there were.
    """

    row: Mapping[str, Any]
    best: Mapping[str, Any] | None
    stopped: bool
    epochs: int

    @property
    def said(self) -> str:
        """Which network is which, in sentences."""
        epoch = f"epoch {self.row['epoch']} of {self.epochs}"
        if self.stopped:
            return f"The checkpoint is of {epoch}: the best one on an inner part of the training examples."
        if self.best is None:
            return f"The checkpoint is of {epoch}."
        if self.best["epoch"] == self.row["epoch"]:
            return f"The checkpoint is of {epoch}, which was also the best one on the held-out part."
        beside = f"The folder best beside it holds epoch {self.best['epoch']}, the best one on the held-out part"
        if {"test_loss"} <= set(self.best) & set(self.row):
            beside += f" (loss {self.best['test_loss']:.4g} there, {self.row['test_loss']:.4g} after the last epoch)"
        return (
            f"The checkpoint is of {epoch}. {beside}. Use best to predict, and report the scores of the last epoch: "
            "those of best are a little too good, because the held-out examples chose it."
        )


def kept_of(history: Sequence[Mapping[str, Any]], best_epoch: int | None, stopped: bool) -> Kept:
    """What is kept of a training.

    Args:
      history: rows of its learning curve.
      best_epoch: from 1; None if none was chosen or it is not known.
      stopped: whether early stopping chose it.
    """
    rows = {row["epoch"]: row for row in history}
    last, best = history[-1], rows.get(best_epoch)
    if stopped:
        return Kept(last if best is None else best, None, best is not None, last["epoch"])
    return Kept(last, best, False, last["epoch"])


def held_out_scores(row: Mapping[str, Any]) -> dict[str, float]:
    """What a row of a learning curve says of the held-out part, by the metric's name; empty where it says nothing."""
    return without_prefix(row, "test_")
