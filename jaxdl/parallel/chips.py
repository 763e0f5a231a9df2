"""What chips can do by their makers' data sheets: a table to compare a measurement or a prediction with.

Figures are of one chip as it is rented, and peaks: without sparsity, which training does not use. Bandwidths of links
are what a chip can *send*: makers state both directions together, so half of theirs stands here.
"""

import dataclasses
import math

from jaxdl.errors import InputError, check_choice

GB = 10**9


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of accelerator.

    Attributes:
      name: as the option ``--on`` takes it.
      kinds: what JAX calls it (`device_kind`).
      bf16: peak operations per second of bfloat16 products; a multiplication and an addition are two.
      int8: the same of 8-bit integers.
      f32: the same of float32 products at JAX's default precision: one pass in bfloat16 on a TPU, TF32 on a GPU that
        has it.
      memory: bytes that it has.
      usable: bytes that one device (see `devices`) leaves to a program: on a TPU what its compiler allows, on a GPU the
        three quarters that JAX takes by default.
      bandwidth: of its memory, bytes per second.
      link: bytes per second that it can send over one link to another chip; on a GPU over all of them.
      devices: that JAX sees in it.
      clock: cycles per second of the compiler's estimates, in which the cores of a device work together (megacore); 0
        where its compiler estimates none.
      axes: of the network that links chips; 0 where all are linked with all.
      ring: from how many chips along an axis on the links close to a ring, in slices whose axes are all multiples of
        it; 0 where there are no axes.
      longest: chips along the longest axis.
    """

    name: str
    kinds: tuple[str, ...]
    bf16: float
    int8: float
    f32: float
    memory: int
    usable: int
    bandwidth: float
    link: float
    devices: int = 1
    clock: float = 0.0
    axes: int = 0
    ring: int = 0
    longest: int = 8

    @property
    def is_tpu(self) -> bool:
        """Whether the TPU compiler compiles for it."""
        return self.clock > 0

    def peak(self, precision: str) -> float:
        """Operations per second of one device, of products in ``float32`` or ``bfloat16``."""
        return (self.bf16 if precision == "bfloat16" else self.f32) / self.devices

    @property
    def device_bandwidth(self) -> float:
        """Bytes per second of the memory of one device."""
        return self.bandwidth / self.devices

    def closes(self, topology: tuple[int, ...]) -> bool:
        """Whether the links of a slice of this shape close to rings."""
        return bool(self.ring) and all(size % self.ring == 0 for size in topology)

    def sends(self, topology: tuple[int, ...]) -> float:
        """Bytes per second that the chip with the fewest links can send, in a slice of this shape.

        An axis of one chip has no link, one that closes to a ring two per chip, and any other one at its ends. What all
        chips take part in, such as an all-reduce, goes no faster than the chip that has the fewest.
        """
        if not self.axes:
            return self.link
        each = 2 if self.closes(topology) else 1
        return self.link * sum(each for size in topology if size > 1)


def _tpu(
    name: str,
    kinds: tuple[str, ...],
    tera: tuple[float, float],
    gib: tuple[float, float],
    rates: tuple[float, float],
    **others: float,
) -> Chip:
    """A TPU: its peaks in 10^12 per second (bf16, int8), GiB (memory, usable), bandwidths (memory, link) in bytes/s.

    Products of float32 are one pass in bfloat16, so that their peak is the same. `others` are fields of `Chip`.
    """
    bf16, int8 = (1e12 * peak for peak in tera)
    memory, usable = (int(2**30 * size) for size in gib)
    return Chip(name, kinds, bf16, int8, bf16, memory, usable, *rates, **others)


# The clock is the peak divided by the operations per cycle that the compiler counts for a large product (and is the
# published one for v4, https://arxiv.org/abs/2304.01433, and v5e and v5p,
# https://jax-ml.github.io/scaling-book/tpus): v4 262144, v5e 131072, v5p 262144, v6e 524288, tpu7x 524288 per device.
# `usable` is what the compiler of libtpu 0.0.42 names when memory runs out.
CUBES, SQUARES = dict(axes=3, ring=4), dict(axes=2, ring=16, longest=16)
TPUS = (
    # https://docs.cloud.google.com/tpu/docs/v4; links: https://arxiv.org/abs/2304.01433 (50 GB/s each)
    _tpu("v4", ("TPU v4",), (275, 275), (32, 30.75), (1200e9, 50e9), clock=1.05e9, longest=16, **CUBES),
    # https://docs.cloud.google.com/tpu/docs/v5e: 400 GB/s both ways over 4 links; a ring only where an axis is 16
    _tpu("v5e", ("TPU v5 lite", "TPU v5e"), (197, 393), (16, 15.75), (819e9, 50e9), clock=1.5e9, **SQUARES),
    # https://docs.cloud.google.com/tpu/docs/v5p and …/tpu7x: 1200 GB/s both ways over 6 links
    _tpu("v5p", ("TPU v5", "TPU v5p"), (459, 918), (95, 95.74), (2765e9, 100e9), clock=1.75e9, longest=24, **CUBES),
    # https://docs.cloud.google.com/tpu/docs/v6e: 800 GB/s both ways over 4 links
    _tpu("v6e", ("TPU v6 lite", "TPU v6e"), (918, 1836), (32, 31.25), (1638e9, 100e9), clock=1.75e9, **SQUARES),
    # https://docs.cloud.google.com/tpu/docs/tpu7x: 1200 GB/s both ways over 6 links; its 8-bit peak is of floats
    _tpu(
        "tpu7x",
        ("TPU7x", "TPU v7", "TPU v7x"),
        (2307, 4614),
        (192, 94.75),
        (7380e9, 100e9),
        devices=2,
        clock=2.2e9,
        longest=24,
        **CUBES,
    ),
)


def _gpu(name: str, kinds: tuple[str, ...], tera: tuple[float, float, float], memory: int, *rates: float) -> Chip:
    """A GPU: its peaks in 10^12 per second (bf16, int8, f32), its bytes, and bandwidths (memory, links) in bytes/s."""
    bf16, int8, f32 = (1e12 * peak for peak in tera)
    bandwidth, link = rates
    return Chip(name, kinds, bf16, int8, f32, memory, memory * 3 // 4, bandwidth, link)


GPUS = (
    # https://www.nvidia.com/en-us/data-center/a100 (SXM)
    _gpu("a100", ("NVIDIA A100-SXM4-80GB",), (312, 624, 156), 80 * GB, 2039e9, 300e9),
    _gpu("a100-40gb", ("NVIDIA A100-SXM4-40GB",), (312, 624, 156), 40 * GB, 1555e9, 300e9),
    # https://www.nvidia.com/en-us/data-center/h100 and …/h200 (SXM); the peaks there are with sparsity, halved here
    _gpu("h100", ("NVIDIA H100 80GB HBM3",), (989, 1979, 494), 80 * GB, 3350e9, 450e9),
    _gpu("h200", ("NVIDIA H200",), (989, 1979, 494), 141 * GB, 4800e9, 450e9),
    # https://www.nvidia.com/en-us/data-center/hgx (B200): a board of 8, with sparsity
    _gpu("b200", ("NVIDIA B200",), (2250, 4500, 1100), 180 * GB, 7700e9, 900e9),
    # https://www.nvidia.com/en-us/data-center/l4: with sparsity, halved here; PCIe 4.0 × 16
    _gpu("l4", ("NVIDIA L4",), (121, 242, 60), 24 * GB, 300e9, 32e9),
    # https://www.nvidia.com/en-us/data-center/tesla-t4: no bfloat16 (float16 65), so products are in float32; PCIe 3.0
    _gpu("t4", ("Tesla T4", "NVIDIA T4"), (8.1, 130, 8.1), 16 * GB, 320e9, 16e9),
)

# By axes: https://docs.cloud.google.com/tpu/docs/v5e and …/v6e; …/v4, …/v5p and …/tpu7x, where larger ones are cubes
SHAPES: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    3: ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)),
}
CHIPS = {chip.name: chip for chip in (*TPUS, *GPUS)}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls so; None for one that is not in the table."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.kinds), None)


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are rented together.

    Attributes:
      name: as it was given, such as ``v5e:4x4`` or ``h100x8``.
      chip: of which kind.
      topology: chips along each axis.
    """

    name: str
    chip: Chip
    topology: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.topology)

    @property
    def devices(self) -> int:
        """That JAX sees in it."""
        return self.chips * self.chip.devices

    @property
    def sends(self) -> float:
        """See `Chip.sends`."""
        return self.chip.sends(self.topology)

    @property
    def hops(self) -> int:
        """Links between the two chips that are farthest apart; 0 where all are linked with all."""
        if not self.chip.axes:
            return 0
        closed = self.chip.closes(self.topology)
        return sum(size // 2 if closed else size - 1 for size in self.topology)


def parse_slice(name: str) -> Slice:
    """``v5e:4x4``, ``h100x8`` or ``h100``.

    Raises:
      InputError: for a chip that is not in the table, or a shape that such chips do not come in.
    """
    said, colon, shape = name.strip().lower().partition(":")
    if not colon and said.rpartition("x")[0] in CHIPS:
        said, _, shape = said.rpartition("x")
    check_choice("chip", said, CHIPS)
    chip = CHIPS[said]
    sizes = (shape or ("" if chip.is_tpu else "1")).split("x")
    wanted = chip.axes or 1
    if not all(size.isdecimal() and int(size) > 0 for size in sizes) or len(sizes) != wanted:
        form = {1: f"{said}x8", 2: f"{said}:4x4", 3: f"{said}:2x2x2"}[wanted]
        raise InputError(f"'{name}' is no slice of {said}: expected its chips along {wanted} axes, such as {form}")
    topology = tuple(int(size) for size in sizes)
    if chip.is_tpu:
        _check_shape(name, chip, topology)
    return Slice(name.strip().lower(), chip, topology)


def _check_shape(name: str, chip: Chip, topology: tuple[int, ...]) -> None:
    """Raises InputError for a shape that such chips are not rented in."""
    cubes = chip.axes == 3 and all(size % chip.ring == 0 and size <= chip.longest for size in topology)
    if cubes or topology in SHAPES[chip.axes]:
        return
    known = ", ".join("x".join(map(str, shape)) for shape in SHAPES[chip.axes])
    larger = f", or axes that are multiples of {chip.ring} up to {chip.longest}" if chip.axes == 3 else ""
    raise InputError(f"'{name}' is no shape that {chip.name} is rented in; expected one of {known}{larger}")
