"""GPU or TPU? A roofline of five kernels, measured here and estimated for chips that are not here.

    python experiments/gpu_tpu.py [--quick] [--chips v5e v6e h100] [--price v5e=1.2 h100=3.0] [--model resnet50]

The lesson
----------
**Two limits.** A chip can do so many operations a second (its peak), and its memory can bring so many bytes a second
(its bandwidth). A computation that does `i` operations for each byte that it reads or writes (its arithmetic intensity)
goes no faster than the smaller of the peak and `i` times the bandwidth. Drawn over `i`, with both axes logarithmic,
this is a roof: it rises while memory is the limit, and is flat from the ridge on, where the peak is. The ridge of a TPU
v5e is at 241 FLOP/byte, of an H100 at 295: a chip has to do hundreds of operations with each byte that it is given.

**Systolic arrays.** Nearly all operations of a network are products of matrices. A TPU has a few large grids of
multipliers, 128 × 128 (v6e and 7x: 256 × 256), through which numbers are pumped: each is read once and used by a whole
row. A GPU has hundreds of small ones (tensor cores), fed by thousands of threads. Both need large matrices, the TPU
larger ones. What is no matrix product (softmax, normalisation, `a * x + y`) runs beside these units, and nearly always
memory is its limit.

**Padding to 128.** A grid of 128 columns takes 128 columns at a time: 129 take two passes, and most of the second is
zeros. The table "Padding" shows what one more column costs: on a v5e a layer of 257 takes half as long again as one of
256, and one of 640 less than one of 576. A convolution of 128 channels fills half of a v6e's grid, and reaches 40 % of
its peak at most. Choose widths, heads and batches that are multiples of 128 (of 8 where that is too much), above all on
a TPU.

**What is not written need not be read.** Attention needs the scores of every pair of tokens, `length²` of them, and
only for a moment. Where a compiler writes them to memory and reads them back, memory is the limit, however high the
intensity that the formula promises: of 2,048 tokens the estimates are at 2 to 9 % of the roof. Kernels that keep the
scores on the chip (flash attention) are made for this; fusing a product with what comes before and after is the same
idea.

**Why batch size matters.** A dense layer of 4096 × 4096 reads 33.5 MB of weights in bfloat16, for one example or for
a thousand. With one example it does one operation per byte, and waits for memory. Intensity grows with the batch, up to
the ridge of a v5e at 273 examples; only from there on do more examples take more time. The right panel shows it. In
training, images or tokens multiply: the batch that counts is examples × positions.

**bfloat16** has the exponent of float32 and 8 bits of mantissa (7 are stored): half of the bytes, and the grids are
made for it. On a TPU even a product of float32 matrices runs in bfloat16 unless `jax.default_matmul_precision` says
otherwise; on a GPU in TF32 (half of the peak), or slower. Few CPUs multiply it: there it is slower than float32. Keep
parameters in float32 and compute in bfloat16 (`--precision bfloat16`); unlike float16 it needs no scaling of the loss.

**What the numbers are.** FLOP and bytes are counted by formula: the least that has to be done, and that is moved if
all operands come from memory once. Measured: the fastest round here, by `jaxdl.parallel.measure`; what fits into a
cache may lie above the slope. Estimated: the cycles that the TPU compiler writes beside each operation, at the chip's
clock. It counts no time for weights that it fetches ahead, so an estimate is never taken above the roof; for a long
vector it expects half of the data sheet's bandwidth. An estimate is no measurement: it knows nothing of a clock that is
throttled, or of the time to start a program. Roofs are those of data sheets (`jaxdl/parallel/chips.py`), of one device.
Of a CPU nobody states them: its roof is the best that was reached.

**When to choose which.** Compare prices, not peaks: give those that you are offered (`--price`). Large and regular
products in bfloat16: what has the lowest price of an exaFLOP. Small batches, long vectors, decoding: what moves bytes
for the lowest price. Irregular shapes, own kernels, other libraries, one machine in the corner: a GPU. For a model of
yours `jaxdl plan` compiles the whole step.
"""

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from gpu_tpu_kernels import MAKERS, Kernel, Point, Roof, estimate, measure, rectangle, roof_here, roof_of
from gpu_tpu_picture import draw

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models import MODELS
from jaxdl.models.initialise import variable_shapes
from jaxdl.parallel.chips import CHIPS
from jaxdl.parallel.operations import operations_of

# By kernel what it is made larger by: the side of the matrices, examples of a dense layer, examples of a convolution,
# tokens of a sequence, numbers of a vector.
FULL = {
    "product": (256, 1024, 4096, 8192),
    "dense": (1, 8, 64, 256, 1024, 8192),
    "convolution": (1, 8, 64, 256),
    "attention": (128, 512, 2048),
    "a*x+y": (2**20, 2**24, 2**27),
}
QUICK = {
    "product": (256, 2048),
    "dense": (1, 64, 1024),
    "convolution": (1, 32),
    "attention": (128, 512),
    "a*x+y": (2**20, 2**24),
}
WIDTHS, QUICK_WIDTHS, ROWS = (128, 129, 256, 257, 512, 513, 576, 640), (256, 257, 640), 32768


def training_flops(name: str, image_size: int | None = None) -> float:
    """Operations of the products and convolutions of one image's training step: forward, and the gradient."""
    side = image_size or MODELS[name].image_size
    model, image = jaxdl.create(name, 1000), (side, side, 3)
    variables = variable_shapes(model, image)

    def loss(params: Any, others: Any, x: Any) -> Any:
        return (model.apply({**others, "params": params}, x) ** 2).sum()  # what is not linear needs the outputs

    others = {collection: tree for collection, tree in variables.items() if collection != "params"}
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    return operations_of(jax.grad(loss), variables["params"], others, x).flops


HEAD = f"{'device':13} {'kernel':13}{'size':>12}{'dtype':>10}{'FLOP/byte':>11}{'µs':>12}{'FLOP/s':>10}  of the roof"


def exaflop(price: float, rate: float) -> float:
    """Price of 10^18 operations, of a chip that costs `price` an hour and does `rate` FLOP/s."""
    return price / 3600 * 1e18 / rate


def tell_kernels(points: Sequence[Point]) -> None:
    """A line for each, under `HEAD`."""
    for one in points:
        share = one.rate / one.roof.at(one.kernel, one.dtype)
        print(
            f"{one.roof.name:13} {one.kernel.kind:13}{one.kernel.size:12,}{one.dtype:>10}"
            f"{one.kernel.intensity(one.dtype):11.3g}{one.seconds * 1e6:12,.1f}{one.rate:10.2e}  {share:4.0%} "
            + ("measured" if one.measured else "estimated"),
            flush=True,
        )


def tell_padding(widths: Sequence[int], names: Sequence[str]) -> None:
    """A layer of a width that fills the grids, and of one that does not."""
    layers = [rectangle("layer", width, ROWS, width, width) for width in widths]
    columns = [[1e6 * one.seconds for one in estimate(layers, ["bfloat16"], CHIPS[name])] for name in names]
    print(f"\nPadding: µs of {ROWS:,} examples through a layer of a width, in bfloat16, estimated")
    print(f"{'width':>8}" + "".join(f"{name:>10}" for name in names))
    for width, *row in zip(widths, *columns, strict=True):
        print(f"{width:8}" + "".join(f"{value:10.1f}" for value in row))


def tell_prices(prices: Mapping[str, float], flops: float, share: float, model: str) -> None:
    """What operations and bytes cost at the peak, and images, of which each takes `flops`, at a share of it."""
    print(f"\nPrices: 1,000 images through a training step of {model} are {1000 * flops:.3g} FLOP")
    print(
        f"{'chip':10}{'an hour':>9}{'FLOP/byte':>11}{'exaFLOP':>9}{'petabyte':>10}"
        f"{f'images/s at {share:.0%}':>18}{'1,000 images':>14}"
    )
    of_flops, of_bytes = {}, {}
    for name, price in prices.items():
        chip = CHIPS[name]
        of_flops[name], of_bytes[name] = exaflop(price, chip.bf16), price / 3600 * 1e15 / chip.bandwidth
        rate = share * chip.bf16 / flops
        print(
            f"{name:10}{price:9.2f}{chip.bf16 / chip.bandwidth:11.0f}{of_flops[name]:9.2f}{of_bytes[name]:10.3f}"
            f"{rate:18,.0f}{1000 * price / 3600 / rate:14.2g}"
        )
    large, long = (min(costs, key=costs.get) for costs in (of_flops, of_bytes))
    print(f"Large products cost least on {large}; what waits for memory (small batches, long vectors) on {long}.")


def tell_kernel_prices(prices: Mapping[str, float], kernels: Sequence[Kernel], points: Sequence[Point]) -> None:
    """What an exaFLOP of each kernel costs."""
    roofs = {name: roof_of(CHIPS[name]) for name in prices}
    hourly = {name: price / CHIPS[name].devices for name, price in prices.items()}  # of one device
    print("\nPrice of an exaFLOP of a kernel in bfloat16, by the roof (as estimated); * the lowest by the roof")
    print(f"{'kernel':13}{'size':>12}" + "".join(f"{name:>23}" for name in prices))
    estimated = {(one.roof.name, one.kernel.kind, one.kernel.size): one.rate for one in points if not one.measured}
    for one in kernels:
        kernel = one.kind, one.size
        costs = {name: exaflop(hourly[name], roof.at(one, "bfloat16")) for name, roof in roofs.items()}
        print(
            f"{kernel[0]:13}{kernel[1]:12,}" + "".join(_cell(name, costs, hourly, estimated, kernel) for name in costs)
        )


def _cell(name: str, costs: Mapping[str, float], hourly: Mapping[str, float], rates: Mapping, kernel: tuple) -> str:
    rate = rates.get((name, *kernel))
    beside = f" ({exaflop(hourly[name], rate):.3g})" if rate else ""
    return f"{costs[name]:.3g}{beside}{'*' if costs[name] == min(costs.values()) else ' '}".rjust(23)


def priced(word: str) -> tuple[str, float]:
    """Of ``v5e=1.2``: a chip and what it costs an hour."""
    name, _, said = word.partition("=")
    try:
        price = float(said)
    except ValueError:
        price = 0.0
    if name not in CHIPS or not 0 < price < float("inf"):
        known = ", ".join(CHIPS)
        raise argparse.ArgumentTypeError(f"'{word}' is no price of a chip for an hour, such as v5e=1.2; chips: {known}")
    return name, price


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    of_images = [name for name, entry in MODELS.items() if not entry.length]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sizes, and estimates for v5e alone")
    parser.add_argument("--chips", nargs="+", default=["v5e", "v5p", "v6e", "h100"], choices=CHIPS, help="to compare")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--price", nargs="+", default=[], type=priced, metavar="CHIP=PRICE", help="of an hour")
    parser.add_argument("--model", default="resnet50", choices=of_images, help="whose training is priced")
    parser.add_argument("--image-size", type=int, help="side in pixels; by default the model's own")
    parser.add_argument("--share", type=float, default=0.4, help="of the peak that its training reaches")
    parser.add_argument("--seconds", type=float, default=0.2, help="to measure a kernel")
    parser.add_argument("--out", type=Path, default=Path("gpu_tpu.png"), help="file for the picture")
    options = parser.parse_args(arguments)
    if not 0 < options.share <= 1:
        parser.error(f"--share {options.share}: expected a part of the peak, above 0 and at most 1")
    if options.seconds <= 0 or (options.image_size or 1) < 1:
        parser.error("--seconds and --image-size: expected more than 0")
    return options


def tell_estimates(kernels: Sequence[Kernel], names: Sequence[str]) -> list[Point]:
    """By the TPU compiler, for the chips that it knows; of the others it is said why not."""
    if importlib.util.find_spec("libtpu") is None:
        print("Estimates for TPUs are left out: their compiler comes with pip install 'jax[tpu]' (no TPU is needed)")
        return []
    points = []
    for name in names:
        try:
            made = estimate(kernels, ["bfloat16"], CHIPS[name])
        except InputError as error:
            print(f"Estimates for {name} are left out: {error}")
            continue
        tell_kernels(made)
        points += made
    return points


def main(arguments: Sequence[str] | None = None) -> list[Point]:
    options = parse(arguments)
    kernels = [MAKERS[kind](size) for kind, sizes in (QUICK if options.quick else FULL).items() for size in sizes]
    here = roof_here(options.dtypes, 5 * options.seconds)
    print(HEAD)
    points = measure(kernels, options.dtypes, here, options.seconds)
    tell_kernels(points)
    tpus = [name for name in options.chips if CHIPS[name].is_tpu]
    points += tell_estimates(kernels, tpus[:1] if options.quick else tpus)
    compiled = list(dict.fromkeys(one.roof.name for one in points if not one.measured))
    if compiled:
        tell_padding(QUICK_WIDTHS if options.quick else WIDTHS, compiled)
    if options.price:
        prices = dict(options.price)
        tell_prices(prices, training_flops(options.model, options.image_size), options.share, options.model)
        tell_kernel_prices(prices, kernels, points)
    here = points[0].roof if points else here  # of a CPU raised to what was reached
    roofs: list[Roof] = [here, *(roof_of(CHIPS[name]) for name in options.chips)]
    draw(roofs, points, options.out)
    print(f"\n{options.out}: the roofs, the points, and what a batch is worth")
    return points


if __name__ == "__main__":
    main()
