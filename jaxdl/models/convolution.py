"""Convolutions that XLA is slow at on the CPU, as products of matrices.

Those are 1×1 kernels, which are products already (three times slower there, forward and in their gradients), and
kernels larger than the image: XLA's library refuses these, and plain loops take up to a hundred times as long. So it
is with 3×3 kernels on the last 2×2 positions of a network made for larger images. With the options of
`parallel.compiler` XLA's own are faster for all others, which are left to it, as they are on other devices.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

POSITIONS = 4096  # at a time in the gradient of a kernel: XLA turns one side round, and more would leave the cache
LAYOUT = ("NHWC", "HWIO", "NHWC")

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    lhs: Float[Array, "batch height width channels"],
    rhs: Float[Array, "rows columns channels features"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | str,
    **options: Any,
) -> Float[Array, "batch out_height out_width features"]:
    """`jax.lax.conv_general_dilated` for ``linen.Conv(conv_general_dilated=…)``.

    What is a product of matrices on the CPU has gradients of every order in reverse mode, but no forward mode
    (``jax.jvp``).
    """
    if jax.default_backend() == "cpu" and lhs.ndim == 4 and _is_plain(options):
        strides = tuple(window_strides)
        pads = (
            lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
            if isinstance(padding, str)
            else padding
        )
        if _is_product(lhs, rhs, strides, pads):
            return _convolve(lhs, rhs, strides, tuple(map(tuple, pads)))
    return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def _is_plain(options: dict[str, Any]) -> bool:
    """Without groups, dilation or an asked-for precision."""
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    return (
        all(factor == 1 for factor in dilations)
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
    )


def _is_product(x: Array, kernel: Array, strides: Strides, padding: Sequence[tuple[int, int]]) -> bool:
    """Whether the kernel is 1×1 without padding, or larger than the image that it sees or makes."""
    if any(side < 0 for pair in padding for side in pair):
        return False
    sizes = kernel.shape[:2]
    if sizes == (1, 1):
        return not any(map(any, padding))
    made = [_out(*sides) for sides in zip(x.shape[1:3], sizes, strides, padding, strict=True)]
    smallest = map(min, x.shape[1:3], made)
    return min(made) > 0 and any(side < size for side, size in zip(smallest, sizes, strict=True))


def _out(side: int, size: int, stride: int, padding: tuple[int, int]) -> int:
    return (side + sum(padding) - size) // stride + 1


def _patches(x: Array, sizes: tuple[int, int], strides: Strides, padding: Padding) -> Array:
    """``[batch, out_height, out_width, rows × columns × channels]``: what each position of the kernel sees."""
    out = [_out(*sides) for sides in zip(x.shape[1:3], sizes, strides, padding, strict=True)]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def seen(*begin: int) -> Array:
        down, across = (
            slice(first, first + (many - 1) * stride + 1, stride)
            for first, many, stride in zip(begin, out, strides, strict=True)
        )
        return x[:, down, across]

    return jnp.concatenate([seen(row, column) for row in range(sizes[0]) for column in range(sizes[1])], -1)


def _native(x: Array, kernel: Array, strides: Strides, padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


# The program may be compiled for a machine that is not here: which way it takes is left to the lowering.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: Strides, padding: Padding) -> Array:
    def product(x: Array, kernel: Array) -> Array:
        return _patches(x, kernel.shape[:2], strides, padding) @ kernel.reshape(-1, kernel.shape[-1])

    return lax.platform_dependent(x, kernel, cpu=product, default=partial(_native, strides=strides, padding=padding))


def _forward(x: Array, kernel: Array, strides: Strides, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides: Strides, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def by_products(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        taken, put_back = jax.vjp(lambda x: _patches(x, kernel.shape[:2], strides, padding), x)
        flat = gradient.reshape(-1, gradient.shape[-1])
        into_kernel = summed_products(taken.reshape(-1, taken.shape[-1]), flat)
        into_taken = _times_turned(flat, kernel.reshape(-1, kernel.shape[-1])).reshape(taken.shape)
        return put_back(into_taken)[0], into_kernel.reshape(kernel.shape).astype(kernel.dtype)

    def as_usual(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_native, strides=strides, padding=padding), x, kernel)[1](gradient)

    return lax.platform_dependent(*saved, gradient, cpu=by_products, default=as_usual)


_convolve.defvjp(_forward, _backward)


def _times_turned(gradient: Array, kernel: Array) -> Array:
    """``gradient · kernelᵀ``. XLA is slow at turning a matrix round, so that the smaller one is to be turned."""
    if len(gradient) * sum(kernel.shape) >= kernel.size:
        return gradient @ kernel.T
    # the first axis of length 1 keeps XLA from making the same of it
    product = lax.dot_general(kernel[None], gradient, (((2,), (1,)), ((), ())))
    return jnp.moveaxis(product, 2, 0).reshape(len(gradient), -1)


def summed_products(
    x: Float[Array, "positions channels"], gradient: Float[Array, "positions features"]
) -> Float[Array, "channels features"]:
    """``xᵀ · gradient``, in float32 or wider, over at most `POSITIONS` at a time."""
    precise = jnp.promote_types(x.dtype, jnp.float32)

    def product(x: Array, gradient: Array) -> Array:
        return jnp.matmul(x.T, gradient, preferred_element_type=precise)

    if len(x) <= POSITIONS:
        return product(x, gradient)
    together = next((size for size in range(POSITIONS, POSITIONS // 2, -1) if len(x) % size == 0), POSITIONS)
    if missing := -len(x) % together:
        x, gradient = (jnp.pad(a, ((0, missing), (0, 0))) for a in (x, gradient))

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        return total + product(*part), None

    parts = jax.tree.map(lambda a: a.reshape(-1, together, a.shape[-1]), (x, gradient))
    return lax.scan(add, jnp.zeros((x.shape[-1], gradient.shape[-1]), precise), parts)[0]
