"""What frozen stages make of the data, computed once."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing import normalise
from jaxdl.models.staged import Staged, Variables

DEFAULT_LIMIT = 4 * 2**30


def _head(array: jax.Array, count: int) -> jax.Array:
    return array[:count]


def activation_bytes(model: Staged, variables: Variables, stop: str, x: np.ndarray) -> int:
    """Bytes that the activations flowing into stage `stop` take for all of ``x[n, …]``."""
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    made = jax.eval_shape(lambda v, a: model.apply(v, a, stop=stop), variables, one)
    return len(x) * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(made))


def memory_limit() -> int:
    """Bytes that cached activations may take: a quarter of the device's memory, or 4 GiB where it does not tell.

    A quarter, because while they are put together they are there twice.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["bytes_limit"] // 4 if "bytes_limit" in stats else DEFAULT_LIMIT


def compute_features(
    model: Staged,
    variables: Variables,
    stop: str,
    x: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    batch_size: int = 32,
) -> Any:
    """What flows into stage `stop` for every example, in eval mode; each example passes through once.

    Args:
      model: whose stages before `stop` are run.
      variables: at least those stages'.
      stop: name of a stage.
      x: the examples as stored ``[n, …]``.
      mean: for `normalise`, as `std`.
      batch_size: examples at a time.

    Returns:
      A pytree of arrays whose first axis is n, on the device.
    """

    @jax.jit
    def run(variables: Variables, part: jax.Array) -> Any:
        return model.apply(variables, normalise(part, mean, std), stop=stop)

    width = min(batch_size, len(x))
    made = []
    for begin in range(0, len(x), width):
        part = x[begin : begin + width]
        short = width - len(part)
        padded = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
        out = run(variables, padded)
        made.append(jax.tree.map(partial(_head, count=len(part)), out) if short else out)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *made)
