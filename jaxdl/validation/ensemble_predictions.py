"""What an ensemble says of each example, and what may be made of it."""

import dataclasses
from typing import Any

from jaxdl.errors import InputError
from jaxdl.tasks import Task
from jaxdl.tasks.conformal import IntervalScore, SetScore
from jaxdl.training.predict import NOT_HELD_OUT, Predictions
from jaxdl.validation.conformal.held_out import HeldOut, covering_of
from jaxdl.validation.conformal.sets import PredictionIntervals, PredictionSets


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EnsemblePredictions(Predictions):
    """What an ensemble says of each example; its scores are refused where a member trained on one.

    Attributes:
      refusal: why there are no scores; empty if there are.
      held_out: see `EnsembleCheckpoint`.
      members: what each member says, `outputs` as ``[members, n, …]``; None unless there is `held_out`.
    """

    refusal: str = ""
    held_out: HeldOut | None = None
    members: Any = None

    def sets(self, coverage: float = 0.9, by: str | None = None, score: str | None = None) -> PredictionSets:
        """Of each example the classes that may be true, by CV+ (see `conformal.comparison`).

        Args:
          coverage: how often a set should hold the truth.
          by: ``"example"``, ``"class"`` (as often in each class), ``"group"`` (of examples of new groups), or None for
            groups where the folds had any, else examples.
          score: ``"probability"`` for sets that are small on average, ``"adaptive"`` for sets that are larger for hard
            examples and never empty; None for the task's usual one.

        Raises:
          InputError: if the answers are no classes, the ensemble keeps no held-out predictions, or too few for this
            coverage.
        """
        return self._covering(coverage, by, score, SetScore)

    def intervals(self, coverage: float = 0.9, by: str | None = None, score: str | None = None) -> PredictionIntervals:
        """Of each example the numbers that may be true; as `sets`, for a regression."""
        return self._covering(coverage, by, score, IntervalScore)

    def covering(
        self, coverage: float = 0.9, by: str | None = None, score: str | None = None
    ) -> PredictionSets | PredictionIntervals:
        """`sets` or `intervals`, whichever the task has."""
        return self._covering(coverage, by, score, None)

    def _covering(self, coverage: float, by: str | None, score: str | None, kind: Any) -> Any:
        held = check_held_out(self.task, self.held_out)
        if self.members is None:
            raise InputError("predictions out of fold have no sets or intervals; Result.sets and the run's page do")
        more = {"targets": self.targets, "seen": self.seen}
        return covering_of(self.task, held, self.members, coverage, by, score, kind, **more)

    @property
    def scores(self) -> dict[str, float] | None:
        """As of `Predictions`. Raises InputError if they would be too good."""
        self._check()
        return super().scores

    @property
    def accuracy(self) -> float | None:
        """As of `Predictions`. Raises InputError if it would be too good."""
        self._check()
        return super().accuracy

    def _facts(self) -> dict[str, Any]:
        if not self.refusal or self.targets is None:
            return super()._facts()
        return {"examples": len(self), "task": self.task.describe(), "no scores": self.refusal}

    def _check(self) -> None:
        if self.refusal and self.targets is not None:
            raise InputError(self.refusal)


def check_held_out(task: Task, held: HeldOut | None) -> HeldOut:
    """What an ensemble held out. Raises InputError where there is nothing, with the reason."""
    task.conformal()  # of a task that has neither sets nor intervals
    if held is None:
        raise InputError(NOT_HELD_OUT.format("an ensemble of single checkpoints, or of an older jaxdl, keeps"))
    return held
