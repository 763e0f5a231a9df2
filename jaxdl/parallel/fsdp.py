"""Parameters, what the optimizer keeps of them, and their running mean divided over the devices of the axis ``data``.

Fully sharded data parallel, as in Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models" (arXiv:1910.02054), stage 3. An array lies divided along its largest axis that the number of devices divides.
It is made whole where it is used, and its gradient is added up into the same parts. Arrays that are small, or have no
such axis, lie whole on every device.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

LEAST = 2**14  # elements of an array that is divided: to collect a smaller one takes longer than to hold it


def axis_to_divide(shape: tuple[int, ...], size: int) -> tuple[int | None, str]:
    """Along which axis `size` devices divide an array, and why it stays whole where that is None."""
    if math.prod(shape) < LEAST:
        return None, f"fewer than {LEAST:,} elements"
    axes = [place for place, length in enumerate(shape) if length % size == 0]
    if not axes:
        return None, f"no axis is a multiple of {size}"
    return max(axes, key=lambda place: shape[place]), ""  # the first of equals


def fsdp_spec(shape: tuple[int, ...], size: int, name: str) -> P:
    """How an array is divided over the `size` devices along the axis `name` of the mesh."""
    axis, _ = axis_to_divide(shape, size)
    return P() if axis is None else P(*(None,) * axis, name)


def gathered(tree: Any, mesh: Mesh, name: str) -> Any:
    """The arrays of a pytree made whole, inside a jitted function that is given them divided.

    Gradients come back in parts. (Without this the compiler divides the computation as the parameters lie, and moves
    activations between devices instead.)
    """

    def one(array: jax.Array) -> jax.Array:
        spec = fsdp_spec(array.shape, mesh.shape[name], name)
        return array if spec == P() else _whole(NamedSharding(mesh, P()), NamedSharding(mesh, spec))(array)

    return jax.tree.map(one, tree)


def _whole(whole: NamedSharding, parts: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """An array made `whole`, whose gradient is made `parts`."""
    gather = jax.custom_vjp(partial(jax.lax.with_sharding_constraint, shardings=whole))
    gather.defvjp(
        lambda array: (jax.lax.with_sharding_constraint(array, whole), None),
        lambda _, gradient: (jax.lax.with_sharding_constraint(gradient, parts),),
    )
    return gather
