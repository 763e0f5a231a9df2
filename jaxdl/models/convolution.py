"""1×1 convolutions as the products of matrices that they are.

XLA's own are up to three times slower on the CPU, forward and in their gradients. (With the options of
`parallel.compiler` its other convolutions are not.) Elsewhere nothing is changed.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

POSITIONS = 4096  # at a time in the gradient of a kernel: XLA turns one side round, and more would leave the cache


def convolve(
    lhs: Float[Array, "batch height width channels"],
    rhs: Float[Array, "rows columns channels features"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "batch out_height out_width features"]:
    """`jax.lax.conv_general_dilated` for ``linen.Conv(conv_general_dilated=…)``.

    On the CPU 1×1 kernels have gradients of every order in reverse mode, but no forward mode (``jax.jvp``).
    """
    if jax.default_backend() != "cpu" or not _is_product(lhs, rhs, padding, options):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return _convolve(lhs, rhs, tuple(window_strides))


def _is_product(x: Array, kernel: Array, padding: Sequence[tuple[int, int]], options: dict[str, Any]) -> bool:
    """Whether the kernel is 1×1, without padding, groups, dilation or an asked-for precision."""
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    return (
        x.ndim == 4
        and kernel.shape[:-2] == (1, 1)
        and not any(map(any, padding))
        and all(factor == 1 for factor in dilations)
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
    )


def _native(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# The program may be compiled for a machine that is not here: which way it takes is left to the lowering.
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    down, across = strides

    def product(x: Array, kernel: Array) -> Array:
        return x[:, ::down, ::across] @ kernel[0, 0]

    return lax.platform_dependent(x, kernel, cpu=product, default=partial(_native, strides=strides))


def _forward(x: Array, kernel: Array, strides: tuple[int, int]) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, strides), (x, kernel)


def _backward(strides: tuple[int, int], saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def by_products(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        taken, put_back = jax.vjp(lambda x: x[:, :: strides[0], :: strides[1]], x)
        into_kernel = summed_products(taken.reshape(-1, taken.shape[-1]), gradient.reshape(-1, gradient.shape[-1]))
        return put_back(gradient @ kernel[0, 0].T)[0], into_kernel.reshape(kernel.shape).astype(kernel.dtype)

    def as_usual(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_native, strides=strides), x, kernel)[1](gradient)

    return lax.platform_dependent(*saved, gradient, cpu=by_products, default=as_usual)


_convolve.defvjp(_forward, _backward)


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
