"""Parameters, what the optimizer keeps of them, and their running mean divided over the devices of the axis ``data``.

Fully sharded data parallel, as in Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models" (arXiv:1910.02054), stage 3. An array lies divided along its largest axis that the number of devices divides.
It is made whole where it is used, in the type that it is computed with, and its gradient is added up into the same
parts. Arrays that are small, or have no such axis, lie whole on every device.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
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


def gathered(tree: Any, types: Any, mesh: Mesh, name: str) -> Any:
    """The arrays of a pytree made whole, inside a jitted function that is given them divided.

    Gradients come back in parts. (Without this the compiler divides the computation as the parameters lie, and moves
    activations between devices instead.)

    Args:
      tree: of arrays.
      types: of each, as which it is collected; see `types_at_use`.
      mesh: of the devices.
      name: of the axis over which they are divided.
    """

    def one(array: jax.Array, dtype: Any) -> jax.Array:
        spec = fsdp_spec(array.shape, mesh.shape[name], name)
        if spec == P():
            return array
        return _whole(NamedSharding(mesh, P()), NamedSharding(mesh, spec), array.dtype, dtype)(array)

    return jax.tree.map(one, tree, types)


def _whole(whole: NamedSharding, parts: NamedSharding, own: Any, dtype: Any) -> Callable[[jax.Array], jax.Array]:
    """An array of the type `own` made `whole` as `dtype`, whose gradient is made `parts`, and `own` again."""

    def collect(array: jax.Array) -> jax.Array:
        lies = jax.lax.with_sharding_constraint(array.astype(dtype), parts)
        return jax.lax.with_sharding_constraint(lies, whole)

    gather = jax.custom_vjp(collect)
    gather.defvjp(
        lambda array: (collect(array), None),
        lambda _, gradient: (jax.lax.with_sharding_constraint(gradient, parts).astype(own),),
    )
    return gather


def types_at_use(function: Callable[[Any], Any], tree: Any) -> Any:
    """As which types a function computes with arrays: their own, but where all that it does is to cast to a smaller.

    Such as the kernels of a computation in bfloat16. What is cast before it is collected takes half as long to send.
    """
    program = jax.make_jaxpr(function)(tree).jaxpr
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure, [_type_at_use(program, var, leaf.dtype) for var, leaf in zip(program.invars, leaves, strict=True)]
    )


def _type_at_use(program: Any, var: Any, own: Any) -> Any:
    """The type that all uses of a variable in a program cast it to; `own` where they do not agree on a smaller one."""
    found = {own} if any(one is var for one in program.outvars) else set()
    for equation in program.eqns:
        for place, given in enumerate(equation.invars):
            if given is var:
                found.add(_type_in(equation, place, own))
    dtype = found.pop() if len(found) == 1 else own
    return dtype if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < own.itemsize else own


def _type_in(equation: Any, place: int, own: Any) -> Any:
    """What one equation does with its operand at `place`: as `_type_at_use`."""
    if equation.primitive.name == "convert_element_type":
        return equation.params["new_dtype"]
    inner = list(jaxprs_in_params(equation.params))
    if len(inner) != 1 or len(inner[0].invars) != len(equation.invars) or equation.primitive.name == "while":
        return own
    first = equation.params.get("num_consts", 0) if equation.primitive.name == "scan" else 0
    if first <= place < first + equation.params.get("num_carry", 0):
        return own  # the next turn is given another
    return _type_at_use(inner[0], inner[0].invars[place], own)
