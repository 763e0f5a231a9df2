"""Numbers of a plan as values of the program: one compiled step serves all of them, one by one or side by side."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import flax.struct
import numpy as np

from jaxdl.training.plan import Plan

# fields of the plan that can be values; beside them the factors of single stages, dropout and the seed
NUMBERS = ("learning_rate", "weight_decay", "label_smoothing", "clip_norm")


@flax.struct.dataclass
class TracedHyperparameters:
    """What of a plan is no part of the program but a value, ``float32[]`` each.

    Attributes:
      learning_rate, weight_decay: as in `Plan`.
      label_smoothing: as in `Plan`; None to leave it as the task has it.
      clip_norm: as the others; infinite for none.
      stage_lr: factors on the learning rate, by stage; that of stages not named is 1.
      dropout: of the model; None to leave it as the model has it.
      rank: of the adapter, ``int32[]``, at most that of the plan: a smaller one is the same adapter with zeros.
    """

    learning_rate: Any
    weight_decay: Any
    label_smoothing: Any
    clip_norm: Any
    stage_lr: dict[str, Any]
    dropout: Any = None
    rank: Any = None


def traced_hyperparameters(plan: Plan, stages: Iterable[str], dropout: float | None = None) -> TracedHyperparameters:
    """The numbers of `plan`, with factors for all of `stages`, so that several plans' have the same structure."""
    return TracedHyperparameters(
        learning_rate=np.float32(plan.learning_rate),
        weight_decay=np.float32(plan.weight_decay),
        label_smoothing=np.float32(plan.label_smoothing),
        clip_norm=np.float32(np.inf if plan.clip_norm is None else plan.clip_norm),
        stage_lr={stage: np.float32(plan.stage_lr.get(stage, 1.0)) for stage in stages},
        dropout=None if dropout is None else np.float32(dropout),
        rank=None if plan.adapter is None else np.int32(plan.parsed_adapter.rank),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class BatchedRun:
    """One of several trainings that run the same program.

    Attributes:
      fold: whose training part it learns from.
      seed: its draws come from (seed, fold), as those of a plan with this seed.
      traced: its numbers; None for those of the plan.
    """

    fold: int
    seed: int
    traced: TracedHyperparameters | None = None
