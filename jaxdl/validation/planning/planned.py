"""What is planned, and what a plan says."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdl.data.source import Source
from jaxdl.parallel.chips import Slice
from jaxdl.parallel.collectives import Collective
from jaxdl.parallel.estimate import Times
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.outline import outline
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init, Setup


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be planned.

    Attributes:
      init, source, plan, task, execution: as of `training.transfer.train`.
      parts: training indices of each fold; a single one where there are no folds.
      keep_head: start from the checkpoint's head.
      more: trainings besides, as long as those of the folds, for an interval.
    """

    init: Init
    source: Source
    plan: Plan
    task: Task
    execution: Execution
    parts: Sequence[np.ndarray]
    keep_head: bool = False
    more: int = 0

    def outlined(self, rented: Slice) -> Setup:
        """As it will run there."""
        given = (self.init, self.source, self.plan, self.parts, self.task, self.execution)
        return outline(*given, usable=rented.chip.usable, keep_head=self.keep_head)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of one training, or of several side by side.

    Attributes:
      rows: examples in a batch.
      fits: whether it fits into a device.
      needs: bytes that it takes there; None where the compiler does not say.
      has: bytes that a device leaves to it.
      parts: bytes on each device: parameters, optimizer, examples, activations (with all that is temporary), program.
      flops: operations of all devices.
      collectives: what the devices exchange, by kind.
      times: seconds; None where it does not fit.
    """

    rows: int
    fits: bool
    needs: int | None
    has: int
    parts: dict[str, int]
    flops: float
    collectives: dict[str, Collective]
    times: Times | None


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to run all folds, or the one there is.

    Attributes:
      name: ``loop``, ``vmap`` or ``shard``.
      step: of the trainings side by side.
      turns: how often as many are trained.
      chips: that do something.
      seconds: of all steps of all trainings; None where it does not fit.
    """

    name: str
    step: Step
    turns: int
    chips: int
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class Largest:
    """The largest batch that fits.

    Attributes:
      fits: the largest that was seen to fit; None if none was.
      fails: the smallest that was seen not to fit; None if none was.
      most: rows that a batch can have: the examples, divided evenly over the devices.
      compiles: how many programs were compiled to find that.
    """

    fits: int | None
    fails: int | None
    most: int
    compiles: int


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change that was tried because the training does not fit.

    Attributes:
      options: of the command line.
      step: with it.
    """

    options: str
    step: Step


@dataclasses.dataclass(frozen=True)
class Planned:
    """A training on a slice.

    Attributes:
      rented: the slice.
      setup: the training as outlined.
      ways: that were compiled; the best one first.
      largest: batch that fits; None where it was not looked for.
      remedies: what was tried where it does not fit.
      more: see `Asked`.
    """

    rented: Slice
    setup: Setup
    ways: Sequence[Way]
    largest: Largest | None
    remedies: Sequence[Remedy]
    more: int = 0

    @property
    def best(self) -> Way:
        return self.ways[0]

    @property
    def seconds(self) -> float | None:
        """Of all steps of all trainings, in the best way; None where it does not fit."""
        if self.best.seconds is None:
            return None
        return self.best.seconds * (1 + self.more / len(self.setup.parts))
