"""Max pooling over windows that overlap, with a gradient that suits the CPU."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]


def max_pool(
    x: Float[Array, "batch height width channels"], size: int, stride: int, padding: Padding = ((0, 0), (0, 0))
) -> Float[Array, "batch out_height out_width channels"]:
    """The largest of each ``size × size`` window; where several are, the first has the gradient.

    XLA's own gradient (select and scatter) is slow on the CPU; there, with strides, this one goes offset by offset. As
    `convolve` it has no forward mode then.

    Args:
      x: what is pooled.
      size: side of a window.
      stride: between windows, both ways.
      padding: places before and after, of height and width, that are never the largest.
    """
    if jax.default_backend() != "cpu" or stride == 1:  # such as GoogLeNet's, many and small: they only take compiling
        return _native(x, size, stride, padding)
    return _max_pool(x, size, stride, padding)


def _native(x: Array, size: int, stride: int, padding: Padding) -> Array:
    return nn.max_pool(x, (size, size), (stride, stride), padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, size: int, stride: int, padding: Padding) -> Array:
    return _native(x, size, stride, padding)


def _forward(x: Array, size: int, stride: int, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    largest = _native(x, size, stride, padding)
    return largest, (x, largest)


def _backward(size: int, stride: int, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    def by_offset(x: Array, largest: Array, gradient: Array) -> Array:
        return max_pool_gradient(x, largest, gradient, size, stride, padding)

    def as_usual(x: Array, _: Array, gradient: Array) -> Array:
        return jax.vjp(lambda x: _native(x, size, stride, padding), x)[1](gradient)[0]

    return (lax.platform_dependent(*saved, gradient, cpu=by_offset, default=as_usual),)


_max_pool.defvjp(_forward, _backward)


def max_pool_gradient(x: Array, largest: Array, gradient: Array, size: int, stride: int, padding: Padding) -> Array:
    """Gradient of `max_pool` with respect to `x`, from what it gave and the `gradient` with respect to that.

    The places of one offset within the windows are `stride` apart. So each phase (the places whose row and column leave
    the same rest on division by the stride) is added up by itself, shifted, and at the end the phases are interleaved.
    """
    batch, height, width, channels = gradient.shape
    full = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
    down, across = (-(-side // stride) for side in full.shape[1:3])  # places of a phase
    phases = [[jnp.zeros((batch, down, across, channels), gradient.dtype)] * stride for _ in range(stride)]
    found = jnp.zeros(gradient.shape, bool)
    for i in range(size):
        for j in range(size):
            here = full[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            first = (here == largest) & ~found
            found |= first
            top, left = i // stride, j // stride
            shifts = ((0, 0), (top, down - height - top), (left, across - width - left), (0, 0))
            phases[i % stride][j % stride] += jnp.pad(jnp.where(first, gradient, 0), shifts)
    whole = jnp.stack([jnp.stack(row, 3) for row in phases], 2)  # [batch, down, stride, across, stride, channels]
    whole = whole.reshape(batch, down * stride, across * stride, channels)
    (before_rows, _), (before_columns, _) = padding
    return whole[:, before_rows : before_rows + x.shape[1], before_columns : before_columns + x.shape[2]]
