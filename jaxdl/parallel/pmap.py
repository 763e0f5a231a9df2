"""One step over several devices by `jax.pmap`, the explicit way: the step itself names the axis it reduces over.

Kept for what it teaches and for code that needs it; jit over a mesh is JAX's recommendation. Steps and batches are
as in `parallel.mesh`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.parallel.mesh import DATA, make_mesh, pad_last


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """Every array with a new first axis that holds one copy per device."""
    count = len(devices)
    spread = NamedSharding(make_mesh(devices, DATA), P(DATA))
    copy = jax.jit(lambda t: jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), t), out_shardings=spread)
    return copy(tree)


def first(tree: Any) -> Any:
    """Undoes `replicate`: the first device's copy."""
    return jax.tree.map(lambda a: a[0], tree)


def split_last(array: Any, count: int) -> np.ndarray:
    """``[…, examples]`` to ``[count, …, examples / count]``, padded with zeros where `count` does not divide."""
    array = pad_last(array, count)
    return np.stack(np.split(array, count, axis=-1))


def divide_batches(fn: Callable, devices: Sequence[Any], *, donate: bool) -> Callable:
    """`fn` under pmap over the axis `mesh.DATA`; arguments and result as `mesh.divide_batches`.

    State and shared data come from `replicate`; every output has the devices as its first axis.
    """
    run = jax.pmap(fn, axis_name=DATA, devices=devices, donate_argnums=(0,) if donate else ())

    def call(state: Any, batch: Any, shared: Any) -> Any:
        return run(state, jax.tree.map(lambda a: split_last(a, len(devices)), batch), shared)

    return call
