"""Convolutions that XLA is slow at on the CPU, in other ways.

Products of matrices are 1×1 kernels, which are products already (three times slower there, forward and in their
gradients), and kernels larger than the image: XLA's library refuses these, and plain loops take up to a hundred times
as long. So it is with 3×3 kernels on the last 2×2 positions of a network made for larger images. A kernel for each
channel goes by `depthwise`. With the options of `parallel.compiler` XLA's own are faster for all others, which are left
to it, as they are on other devices.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from jaxdl.models.depthwise import LAYOUT, Padding, Strides, depthwise, made_side, windows

POSITIONS = 4096  # at a time in the gradient of a kernel: XLA turns one side round, and more would leave the cache


def convolve(
    lhs: Float[Array, "batch height width channels"],
    rhs: Float[Array, "rows columns channels features"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]] | str,
    **options: Any,
) -> Float[Array, "batch out_height out_width features"]:
    """`jax.lax.conv_general_dilated` for ``linen.Conv(conv_general_dilated=…)``.

    What goes another way on the CPU has gradients of every order in reverse mode, but no forward mode (``jax.jvp``).
    """
    # what is exported may run on a CPU, too
    for_cpu = jax.default_backend() == "cpu" or is_symbolic_dim(lhs.shape[0])
    if for_cpu and lhs.ndim == 4 and _is_plain(options):
        strides, pads = tuple(window_strides), padding
        if isinstance(padding, str):
            pads = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
        lhs, padding = _cropped(lhs, pads)
        groups = options.get("feature_group_count", 1)
        if min(_made(lhs, rhs, strides, padding)) > 0:
            if groups == 1 and _is_product(lhs, rhs, strides, padding):
                return _convolve(lhs, rhs, strides, padding)
            if 1 < groups == lhs.shape[-1] == rhs.shape[-1]:
                return depthwise(lhs, rhs, strides, padding)
    return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def _cropped(x: Array, padding: Sequence[Sequence[int]]) -> tuple[Array, Padding]:
    """The image without what negative padding takes away, and the rest of the padding.

    With negative padding XLA's convolutions on the CPU read beyond the image (seen in jaxlib 0.10.2).
    """
    taken = (slice(max(0, -low), side - max(0, -high)) for side, (low, high) in zip(x.shape[1:3], padding, strict=True))
    rest = tuple((max(0, low), max(0, high)) for low, high in padding)
    return (x[:, *taken] if rest != tuple(map(tuple, padding)) else x), rest


def _is_plain(options: dict[str, Any]) -> bool:
    """Without dilation, groups of examples or an asked-for precision."""
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    return (
        all(factor == 1 for factor in dilations)
        and options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
    )


def _is_product(x: Array, kernel: Array, strides: Strides, padding: Padding) -> bool:
    """Whether the kernel is 1×1 without padding, or larger than the image that it sees or makes."""
    sizes = kernel.shape[:2]
    if sizes == (1, 1):
        return not any(map(any, padding))
    smallest = map(min, x.shape[1:3], _made(x, kernel, strides, padding))
    return any(side < size for side, size in zip(smallest, sizes, strict=True))


def _made(x: Array, kernel: Array, strides: Strides, padding: Padding) -> list[int]:
    """Height and width of what comes out."""
    return [made_side(*sides) for sides in zip(x.shape[1:3], kernel.shape[:2], strides, padding, strict=True)]


def _patches(x: Array, sizes: tuple[int, int], strides: Strides, padding: Padding) -> Array:
    """``[batch, out_height, out_width, rows × columns × channels]``: what each position of the kernel sees."""
    return jnp.concatenate(windows(x, sizes, strides, padding), -1)


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
