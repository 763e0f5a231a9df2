"""How long a step takes on a slice: a prediction, from counts and the figures of data sheets."""

import dataclasses

from jaxdl.parallel.chips import Slice

HOP = 1e-6  # seconds that even the smallest message takes over a link: https://jax-ml.github.io/scaling-book/sharding

NOT_COUNTED = (
    "reading and decoding examples, and bringing them to the chips",
    "what the host does between steps",
    "measuring (validation, test parts), saving, compiling",
)


@dataclasses.dataclass(frozen=True)
class Load:
    """What each device does in a step.

    Attributes:
      flops: operations of matrix products and convolutions.
      moved: bytes to and from its memory, at least.
      sent: bytes to other chips, at least.
      hops: links that messages pass one after the other, over all collectives.
      cycles: that the compiler estimates for all but what is sent; 0 where it estimates none.
    """

    flops: float
    moved: float
    sent: float
    hops: int = 0
    cycles: int = 0


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a step, by what each part of a device would take alone, at its peak.

    Attributes:
      compute: of the operations.
      memory: of the bytes that are moved.
      interconnect: of the bytes that are sent, and of the way they take (see `HOP`).
      compiler: of the compiler's cycles; None where it estimates none.
    """

    compute: float
    memory: float
    interconnect: float
    compiler: float | None

    @property
    def busy(self) -> float:
        """Of all but what is sent: the compiler's cycles, and no less than the peaks allow."""
        if self.compiler is None:
            return max(self.compute, self.memory)
        return max(self.compute, self.compiler)  # the cycles have the memory in them, and know what stays on the chip

    @property
    def step(self) -> float:
        """One after the other: first computed, then sent."""
        return self.busy + self.interconnect

    @property
    def overlapped(self) -> float:
        """All that is sent is sent while something else is computed."""
        return max(self.busy, self.interconnect)

    @property
    def bound(self) -> str:
        """What most of the step waits for: ``interconnect``, ``memory`` or ``compute``."""
        if self.interconnect > self.busy:
            return "interconnect"
        return "memory" if self.memory > self.compute else "compute"


def times_of(rented: Slice, load: Load, precision: str) -> Times:
    """Of a load on each device of a slice, whose products are in ``float32`` or ``bfloat16``."""
    chip = rented.chip
    sends = rented.sends / chip.devices
    return Times(
        load.flops / chip.peak(precision),
        load.moved / chip.device_bandwidth,
        (load.sent / sends if load.sent else 0.0) + HOP * load.hops,
        load.cycles / chip.clock if load.cycles else None,
    )
