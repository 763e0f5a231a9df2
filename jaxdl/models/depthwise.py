"""Depthwise convolutions, one kernel for each channel, on the CPU.

XLA takes them there for grouped convolutions in general, which are 20 to 70 times slower than what they come to: a
product and a sum for each position of the kernel. Written as such they are a few loops over all channels.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

TOGETHER = 8  # examples whose products are added up before any is written to memory, in the gradient of a kernel
LAYOUT = ("NHWC", "HWIO", "NHWC")

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def made_side(side: int, size: int, stride: int, padding: tuple[int, int]) -> int:
    """How many windows of `size` a padded side has."""
    return (side + sum(padding) - size) // stride + 1


def windows(x: Array, sizes: tuple[int, int], strides: Strides, padding: Padding) -> list[Array]:
    """What each position of a kernel sees, row by row: ``[batch, out_height, out_width, channels]`` for each."""
    out = [made_side(*sides) for sides in zip(x.shape[1:3], sizes, strides, padding, strict=True)]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def seen(*begin: int) -> Array:
        down, across = (
            slice(first, first + (many - 1) * stride + 1, stride)
            for first, many, stride in zip(begin, out, strides, strict=True)
        )
        return x[:, down, across]

    return [seen(row, column) for row in range(sizes[0]) for column in range(sizes[1])]


# The program may be compiled for a machine that is not here: which way it takes is left to the lowering.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns 1 channels"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "batch out_height out_width channels"]:
    """A convolution of each channel with a kernel of its own, summed up in float32 or wider; padding is not negative.

    Gradients as those of `convolution.convolve`: of every order in reverse mode, none in forward mode.
    """
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_by_shifts, strides=strides, padding=padding),
        default=partial(_native, strides=strides, padding=padding),
    )


def _native(x: Array, kernel: Array, strides: Strides, padding: Padding) -> Array:
    channels = x.shape[-1]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT, feature_group_count=channels)


def _by_shifts(x: Array, kernel: Array, strides: Strides, padding: Padding) -> Array:
    seen = windows(x, kernel.shape[:2], strides, padding)
    return _sum_of_products(seen, kernel.reshape(-1, kernel.shape[-1])).astype(x.dtype)


def _sum_of_products(ones: Iterable[Array], others: Iterable[Array]) -> Array:
    """In float32 or wider."""
    total = 0.0
    for one, other in zip(ones, others, strict=True):
        precise = jnp.promote_types(one.dtype, jnp.float32)
        total += one.astype(precise) * other.astype(precise)
    return total


def _forward(x: Array, kernel: Array, strides: Strides, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return depthwise(x, kernel, strides, padding), (x, kernel)


def _backward(strides: Strides, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def by_shifts(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        into_x = _into_image(x.shape, kernel, gradient, strides, padding)
        into_kernel = _into_kernel(x, kernel.shape, gradient, strides, padding)
        return into_x.astype(x.dtype), into_kernel.astype(kernel.dtype)

    def as_usual(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_native, strides=strides, padding=padding), x, kernel)[1](gradient)

    return lax.platform_dependent(*saved, gradient, cpu=by_shifts, default=as_usual)


depthwise.defvjp(_forward, _backward)


def _into_image(shape: tuple[int, ...], kernel: Array, gradient: Array, strides: Strides, padding: Padding) -> Array:
    """Gradient with respect to the image.

    Each phase (the places whose row and column leave the same rest on division by the stride) sees a part of the kernel
    alone, turned round, with stride 1. At the end the phases are interleaved.
    """
    places = [-(-(side + sum(pair)) // step) for side, pair, step in zip(shape[1:3], padding, strides, strict=True)]

    def phase(row: int, column: int) -> Array:
        part = kernel[row :: strides[0], column :: strides[1]][::-1, ::-1]
        if not part.size:  # between the pixels that a kernel smaller than the stride sees
            return jnp.zeros((len(gradient), *places, shape[-1]), gradient.dtype)
        around = tuple(
            (size - 1, many - side)
            for size, many, side in zip(part.shape[:2], places, gradient.shape[1:3], strict=True)
        )
        return _by_shifts(gradient, part, (1, 1), around)

    rows = [jnp.stack([phase(row, column) for column in range(strides[1])], 3) for row in range(strides[0])]
    whole = jnp.stack(rows, 2)  # [batch, down, stride, across, stride, channels]
    whole = whole.reshape(len(gradient), places[0] * strides[0], places[1] * strides[1], shape[-1])
    (top, _), (left, _) = padding
    return whole[:, top : top + shape[1], left : left + shape[2]]


def _into_kernel(x: Array, shape: tuple[int, ...], gradient: Array, strides: Strides, padding: Padding) -> Array:
    """Gradient with respect to the kernel, row by row of it: all at once would take long to compile.

    Products of `TOGETHER` examples are added up in one loop, so that they are not written out one by one.
    """
    batch, height, width, channels = gradient.shape
    together = next((n for n in range(min(TOGETHER, batch), TOGETHER // 2, -1) if batch % n == 0), min(TOGETHER, batch))
    missing = -batch % together
    full = jnp.pad(x, ((0, missing), *padding, (0, 0)))
    groups = jnp.pad(gradient, ((0, missing), (0, 0), (0, 0), (0, 0))).reshape(together, -1, height, width, channels)

    def row(place: Array) -> Array:
        seen = lax.dynamic_slice_in_dim(full, place, strides[0] * (height - 1) + 1, 1)[:, :: strides[0]]
        seen = seen.reshape(together, -1, *seen.shape[1:])
        sums = [
            _sum_of_products(seen[:, :, :, column : column + strides[1] * (width - 1) + 1 : strides[1]], groups)
            for column in range(shape[1])
        ]
        return jnp.stack(sums).sum((1, 2, 3))

    return lax.map(row, jnp.arange(shape[0])).reshape(shape)
