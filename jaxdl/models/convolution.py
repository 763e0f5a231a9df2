"""Convolution with a gradient that suits the CPU.

XLA's own gradient with respect to the kernel is many times slower on the CPU than its convolution, and a 1×1
convolution slower than the matrix product that it is. Here both are products of matrices on the CPU (im2col:
Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006). Elsewhere
nothing is changed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

POSITIONS = 1024  # of the output whose patches are held at a time: more would leave the processor's cache
BAND = 32  # rows of a large image at a time, for the same reason

Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    lhs: Float[Array, "batch height width channels"],
    rhs: Float[Array, "rows columns channels features"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "batch out_height out_width features"]:
    """`jax.lax.conv_general_dilated` for ``linen.Conv(conv_general_dilated=…)``.

    On the CPU it has gradients of every order in reverse mode, but no forward mode (``jax.jvp``).
    """
    if jax.default_backend() != "cpu" or not _is_plain(lhs, rhs, options):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return _convolve(lhs, rhs, tuple(window_strides), tuple(map(tuple, padding)))


def _is_plain(x: Array, kernel: Array, options: dict[str, Any]) -> bool:
    """Whether it is a convolution of two dimensions without groups, dilation or an asked-for precision."""
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    return (
        x.ndim == kernel.ndim == 4
        and all(factor == 1 for factor in dilations)
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
    )


def _native(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _is_pointwise(kernel: Array, padding: Padding) -> bool:
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


# The program may be compiled for a machine that is not here: which way it takes is left to the lowering.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    native = partial(_native, strides=strides, padding=padding)
    if not _is_pointwise(kernel, padding):
        return native(x, kernel)

    def product(x: Array, kernel: Array) -> Array:
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]

    return lax.platform_dependent(x, kernel, cpu=product, default=native)


def _forward(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: tuple[int, int], padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    native = partial(_native, strides=strides, padding=padding)

    def by_products(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        if _is_pointwise(kernel, padding):
            into_x = _spread(gradient @ kernel[0, 0].T, x.shape, strides)
        else:
            into_x = jax.vjp(lambda x: native(x, kernel), x)[1](gradient)[0]
        return into_x, kernel_gradient(x, gradient, kernel.shape, strides, padding).astype(kernel.dtype)

    def as_usual(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(native, x, kernel)[1](gradient)

    return lax.platform_dependent(*saved, gradient, cpu=by_products, default=as_usual)


_convolve.defvjp(_forward, _backward)


def _spread(values: Array, shape: Sequence[int], strides: tuple[int, int]) -> Array:
    """Values that were taken ``[::stride]``, where they came from; zeros elsewhere."""
    if strides == (1, 1):
        return values
    sides = [
        (0, full - 1 - stride * (here - 1), stride - 1)
        for full, here, stride in zip(shape[1:3], values.shape[1:3], strides, strict=True)
    ]
    return lax.pad(values, jnp.zeros((), values.dtype), ((0, 0, 0), *sides, (0, 0, 0)))


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    gradient: Float[Array, "batch out_height out_width features"],
    shape: Sequence[int],
    strides: tuple[int, int],
    padding: Padding,
) -> Float[Array, "rows columns channels features"]:
    """Gradient of a convolution with respect to its kernel of `shape`, by im2col.

    The patches that the kernel saw, as rows of a matrix, times the gradient of what it answered to each, summed up over
    a few images at a time, or over bands of large ones.

    Args:
      x: what was convolved.
      gradient: with respect to the result.
      shape: of the kernel.
      strides: of the convolution.
      padding: zeros before and after, of height and width.

    Returns:
      The gradient, in float32 or wider.
    """
    rows, columns, channels, features = shape
    (_, height, width, _), (down, across) = gradient.shape, strides
    if (rows, columns) == (1, 1) and not any(map(any, padding)):
        x = x[:, ::down, ::across][:, :height, :width].reshape(-1, channels)
        return _summed_products(lambda x: x, x, gradient.reshape(-1, features), 4 * POSITIONS).reshape(shape)

    if strides == (1, 1) and height * width > POSITIONS:
        return _summed_bands(jnp.pad(x, ((0, 0), *padding, (0, 0))), gradient, shape)

    def patches(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        seen = [
            x[:, i : i + down * (height - 1) + 1 : down, j : j + across * (width - 1) + 1 : across]
            for i in range(rows)
            for j in range(columns)
        ]
        return jnp.concatenate(seen, -1).reshape(-1, rows * columns * channels)

    return _summed_products(patches, x, gradient, max(1, POSITIONS // (height * width))).reshape(shape)


def _summed_bands(x: Array, gradient: Array, shape: Sequence[int]) -> Array:
    """`kernel_gradient` of large images, already padded, with stride 1: a band of rows at a time.

    A patch is found in two halves: the columns that the kernel saw are laid side by side, and the gradients of the rows
    that saw them. So 3 × 3 patches take 3 copies of either side, not 9 of one.
    """
    rows, columns, channels, features = shape
    precise = jnp.promote_types(x.dtype, jnp.float32)
    images, height, width, _ = gradient.shape
    band = next(size for size in range(min(BAND, height), 0, -1) if height % size == 0)
    if height * width <= 4 * POSITIONS:
        band = height
    bands = height // band

    def add(place: Array, total: Array) -> Array:
        image, top = place // bands, place % bands * band
        x_here = lax.dynamic_slice(x, (image, top, 0, 0), (1, band + rows - 1, *x.shape[2:]))
        here = lax.dynamic_slice(gradient, (image, top, 0, 0), (1, band, width, features))
        seen = jnp.concatenate([x_here[:, :, j : j + width] for j in range(columns)], -1)
        shifts = [((0, 0), (i, rows - 1 - i), (0, 0), (0, 0)) for i in range(rows)]
        seers = jnp.concatenate([jnp.pad(here, shift) for shift in shifts], -1)
        left, right = seen.reshape(-1, columns * channels), seers.reshape(-1, rows * features)
        return total + jnp.matmul(left.T, right, preferred_element_type=precise)

    zero = jnp.zeros((columns * channels, rows * features), precise)
    total = lax.fori_loop(0, images * bands, add, zero)
    return total.reshape(columns, channels, rows, features).transpose(2, 0, 1, 3)


def _summed_products(make: Callable[[Array], Array], x: Array, gradient: Array, most: int) -> Array:
    """``make(x)ᵀ · gradient``, in float32 or wider, over at most so many of the first axis at a time."""
    precise = jnp.promote_types(x.dtype, jnp.float32)
    together = _block(len(x), most)
    if missing := -len(x) % together:
        x, gradient = (jnp.pad(a, ((0, missing), *[(0, 0)] * (a.ndim - 1))) for a in (x, gradient))

    def product(x: Array, gradient: Array) -> Array:
        return jnp.matmul(make(x).T, gradient.reshape(-1, gradient.shape[-1]), preferred_element_type=precise)

    parts = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[1:]), (x, gradient))
    like = jax.eval_shape(product, *jax.tree.map(lambda a: a[0], parts))
    zero = jnp.zeros(like.shape, like.dtype)
    return lax.scan(lambda total, part: (total + product(*part), None), zero, parts)[0]


def _block(count: int, most: int) -> int:
    """How many of `count` are taken at a time: `most` or, if they divide then without a rest, down to half as many."""
    most = min(count, most)
    return next((size for size in range(most, most // 2, -1) if count % size == 0), most)
