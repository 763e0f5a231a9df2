"""Kernels whose operations and bytes are known: measured on the device at hand, estimated for chips that are not."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.parallel.chips import Chip, chip_of, parse_slice
from jaxdl.parallel.collectives import holds
from jaxdl.parallel.measure import in_place, matmul_flops, memory_bandwidth, seconds_of
from jaxdl.parallel.topology import compile_ahead, topology_devices

BYTES = {"float32": 4, "bfloat16": 2}
LONGEST = 1.0  # seconds: what would take longer here is left out


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A computation of a size.

    Attributes:
      kind: its name.
      size: what `FULL` says of the kind.
      function: of arrays of `shapes`.
      shapes: of its arguments.
      flops: operations: a multiplication and an addition are two.
      numbers: that are read and written at least.
    """

    kind: str
    size: int
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    flops: float
    numbers: int

    def intensity(self, dtype: str) -> float:
        """FLOP/byte."""
        return self.flops / (self.numbers * BYTES[dtype])


def rectangle(kind: str, size: int, m: int, n: int, k: int) -> Kernel:
    """The product of an m × k and a k × n matrix: m·n numbers, each of k multiplications and k additions."""
    return Kernel(kind, size, jnp.matmul, ((m, k), (k, n)), 2 * m * n * k, m * k + k * n + m * n)


def product(side: int) -> Kernel:
    return rectangle("product", side, side, side, side)


def dense(batch: int, width: int = 4096) -> Kernel:
    """A layer of a network on a batch of examples: a product whose weights are the same for all."""
    return rectangle("dense", batch, batch, width, width)


def convolution(batch: int, side: int = 28, channels: int = 128) -> Kernel:
    """3 × 3, as in the second stage of a ResNet. Of the 3·side places along an axis two lie in the padding."""
    run = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    image, kernel = (batch, side, side, channels), (3, 3, channels, channels)
    flops = 2 * batch * channels**2 * (3 * side - 2) ** 2
    return Kernel("convolution", batch, run, (image, kernel), flops, 2 * math.prod(image) + math.prod(kernel))


def attention(length: int, tokens: int = 4096, heads: int = 8, width: int = 64) -> Kernel:
    """Of 4096 tokens in sequences of a length: two products; the scores need not be written, but XLA may do so."""
    shape = (max(1, tokens // length), length, heads, width)
    flops = 4 * math.prod(shape) * length
    return Kernel("attention", length, jax.nn.dot_product_attention, (shape,) * 3, flops, 4 * math.prod(shape))


def scaled_sum(length: int) -> Kernel:
    return Kernel("a*x+y", length, lambda x, y: 0.5 * x + y, ((length,),) * 2, 2 * length, 3 * length)


MAKERS = {
    "product": product,
    "dense": dense,
    "convolution": convolution,
    "attention": attention,
    "a*x+y": scaled_sum,
}


@dataclasses.dataclass(frozen=True)
class Roof:
    """Of one device.

    Attributes:
      name: of the chip, or of the device here.
      peak: FLOP/s by dtype.
      bandwidth: bytes/s.
    """

    name: str
    peak: Mapping[str, float]
    bandwidth: float

    def at(self, kernel: Kernel, dtype: str) -> float:
        """FLOP/s that a kernel cannot exceed."""
        return min(self.peak[dtype], kernel.intensity(dtype) * self.bandwidth)


def roof_of(chip: Chip) -> Roof:
    return Roof(chip.name, {dtype: chip.peak(dtype) for dtype in ("bfloat16", "float32")}, chip.device_bandwidth)


def roof_here(dtypes: Sequence[str], budget: float) -> Roof:
    """By the data sheet; of a device without one, what the largest product and a long vector reach."""
    kind = jax.devices()[0].device_kind
    chip = chip_of(kind)
    if chip is not None:
        return dataclasses.replace(roof_of(chip), name=f"{chip.name}, here")
    largest = 2048 if jax.default_backend() == "cpu" else 8192
    peak = {dtype: matmul_flops(dtype, budget, largest) for dtype in dtypes}
    return Roof(f"{kind}, here", peak, memory_bandwidth(2**28, budget))


@dataclasses.dataclass(frozen=True)
class Point:
    """How long a kernel takes on a device."""

    kernel: Kernel
    dtype: str
    roof: Roof
    seconds: float
    measured: bool

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return self.kernel.flops / self.seconds

    @property
    def bandwidth(self) -> float:
        """Bytes/s."""
        return self.kernel.numbers * BYTES[self.dtype] / self.seconds


def raised(points: Sequence[Point]) -> list[Point]:
    """With a roof that was measured (no chip of the table) no lower than its points: the machine may have been busy."""
    if not points or chip_of(jax.devices()[0].device_kind) is not None:
        return list(points)
    roof = points[0].roof
    peak = {dtype: max(rate, *(one.rate for one in points if one.dtype == dtype)) for dtype, rate in roof.peak.items()}
    longest = max((one.kernel.size for one in points if one.kernel.kind == "a*x+y"), default=0)  # outside of caches
    moved = [one.bandwidth for one in points if (one.kernel.kind, one.kernel.size) == ("a*x+y", longest)]
    roof = dataclasses.replace(roof, peak=peak, bandwidth=max(roof.bandwidth, *moved))
    return [dataclasses.replace(one, roof=roof) for one in points]


def measure(kernels: Iterable[Kernel], dtypes: Sequence[str], roof: Roof, budget: float) -> list[Point]:
    """On the device here; without what would take longer than `LONGEST` at a tenth of its peak."""
    points = []
    for kernel in kernels:
        for dtype in dtypes:
            if kernel.flops > 0.1 * LONGEST * roof.peak[dtype]:
                continue
            keys = jax.random.split(jax.random.key(0), len(kernel.shapes))
            arrays = [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, kernel.shapes, strict=True)]
            large = kernel.kind == "a*x+y"
            call = in_place(kernel.function, *arrays) if large else partial(jax.jit(kernel.function), *arrays)
            took = seconds_of(call, budget)
            points.append(Point(kernel, dtype, roof, took, True))
    return raised(points)


def estimate(kernels: Iterable[Kernel], dtypes: Sequence[str], chip: Chip) -> list[Point]:
    """By the TPU compiler, for one device of a chip that is not here; never less than the roof allows."""
    device = topology_devices(parse_slice(f"{chip.name}:{'x'.join('1' * chip.axes)}"))[0]
    place, roof, points = jax.sharding.SingleDeviceSharding(device), roof_of(chip), []
    for kernel in kernels:
        for dtype in dtypes:
            arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in kernel.shapes]
            cycles = holds(compile_ahead(jax.jit(kernel.function).lower(*arrays)).as_text(), 1).cycles
            seconds = max(cycles / chip.clock, kernel.flops / roof.at(kernel, dtype))
            points.append(Point(kernel, dtype, roof, seconds, False))
    return points
