"""What frozen stages make of the data, computed once."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing import normalise
from jaxdl.models.staged import Staged, Variables
from jaxdl.parallel.compiler import compiler_options

DEFAULT_LIMIT = 4 * 2**30


def _head(array: jax.Array, count: int) -> jax.Array:
    return array[:count]


def activation_bytes(model: Staged, variables: Variables, stop: str, x: np.ndarray | jax.ShapeDtypeStruct) -> int:
    """Bytes that the activations flowing into stage `stop` take for all of ``x[n, …]``."""
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    made = jax.eval_shape(lambda v, a: model.apply(v, a, stop=stop), variables, one)
    return x.shape[0] * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(made))


def memory_limit() -> int:
    """Bytes that cached activations may take: a quarter of the device's memory, or 4 GiB where it does not tell.

    A quarter, because while they are put together they are there twice.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["bytes_limit"] // 4 if "bytes_limit" in stats else DEFAULT_LIMIT


class DataStore:
    """What several calls on the same source have in common: what it holds in memory, activations, copies in it.

    Whatever was asked for least recently goes when all together would take more than `memory_limit`.

    Attributes:
      batch_size: examples that go through frozen stages at a time, whatever a plan says: what is found does not depend
        on whose plan asks first.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._held: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is held under `key`, a pytree of arrays; what `make` gives if there is nothing."""
        made = self._held[key] if key in self._held else make()
        self._held[key] = made
        self._held.move_to_end(key)
        while sum(leaf.nbytes for leaf in jax.tree.leaves(list(self._held.values()))) > memory_limit():
            self._held.popitem(last=False)
        return made


def kept(store: DataStore | None, key: Callable[[], Hashable], make: Callable[[], Any]) -> Any:
    """What `store` holds under `key`, or else what `make` gives; no key is made without a store."""
    return make() if store is None else store.get(key(), make)


def compute_features(
    model: Staged,
    variables: Variables,
    stop: str,
    x: np.ndarray | Iterable[np.ndarray],
    mean: np.ndarray,
    std: np.ndarray,
    batch_size: int = 32,
) -> Any:
    """What flows into stage `stop` for every example, in eval mode; each example passes through once.

    Args:
      model: whose stages before `stop` are run.
      variables: at least those stages'.
      stop: name of a stage.
      x: the examples as stored ``[n, …]``, or one after the other such arrays of at most `batch_size`.
      mean: for `normalise`, as `std`.
      batch_size: examples at a time.

    Returns:
      A pytree of arrays whose first axis is n, on the device.
    """

    @partial(jax.jit, compiler_options=compiler_options())
    def run(variables: Variables, part: jax.Array) -> Any:
        return model.apply(variables, normalise(part, mean, std), stop=stop)

    made, width = [], 0
    for part in (x[i : i + batch_size] for i in range(0, len(x), batch_size)) if isinstance(x, np.ndarray) else x:
        # of one shape, so that one program serves all; the first part is among the largest
        width = max(width, len(part))
        short = width - len(part)
        padded = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
        out = run(variables, padded)
        made.append(jax.tree.map(partial(_head, count=len(part)), out) if short else out)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *made)
