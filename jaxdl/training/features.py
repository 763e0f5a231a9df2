"""What frozen stages make of the data, computed once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.identity import remembered
from jaxdl.models.initialise import batch_of
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables
from jaxdl.parallel.devices import device_memory
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.memory import bytes_of
from jaxdl.parallel.program import Program
from jaxdl.training.lengths import Stored, lengthened

DEFAULT_LIMIT = 4 * 2**30
CONSTANTS = "constants"  # name under which what the preprocessing fitted goes into a program, beside the variables
CACHED_SHARE = 0.25  # of a device's memory: while activations are put together they are there twice


def _head(array: jax.Array, count: int) -> jax.Array:
    return array[:count]


def activation_bytes(model: Staged, variables: Variables, stop: str, spec: Any, count: int) -> int:
    """Bytes that the activations flowing into stage `stop` take for `count` examples of `spec`."""
    made = jax.eval_shape(lambda v, x: model.apply(v, x, stop=stop), variables, batch_of(spec))
    return count * bytes_of(made)


def memory_limit() -> int:
    """Bytes that cached activations may take: `CACHED_SHARE` of a device, or 4 GiB where it does not tell."""
    has = device_memory()
    return DEFAULT_LIMIT if has is None else int(has * CACHED_SHARE)


class DataStore:
    """What several calls have in common: examples in memory, activations, copies found among the examples.

    Keys name the source by its content, so that a store may be used with several of them. Whatever was asked for least
    recently goes when all together would take more than `memory_limit`.

    Attributes:
      batch_size: examples that go through frozen stages at a time, whatever a plan says: what is found does not depend
        on whose plan asks first.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._held: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is held under `key`, a pytree of arrays and numbers; what `make` gives if there is nothing."""
        made = self._held[key] if key in self._held else make()
        self._held[key] = made
        self._held.move_to_end(key)
        while sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(list(self._held.values()))) > memory_limit():
            self._held.popitem(last=False)
        return made


def kept(store: DataStore | None, key: Callable[[], Hashable], make: Callable[[], Any]) -> Any:
    """What `store` holds under `key`, or else what `make` gives; no key is made without a store."""
    return make() if store is None else store.get(key(), make)


@remembered(maxsize=16)
def _program(executor: Executor, model: Staged, stop: str, preprocessing: Preprocessing) -> Program:
    """What `compute_features` runs; once in a process, so that a call like an earlier one compiles nothing."""

    def run(given: Variables, part: Any) -> Any:
        variables = {name: tree for name, tree in given.items() if name != CONSTANTS}
        return model.apply(variables, preprocessing.on_device(part, given[CONSTANTS]), stop=stop)

    return executor.forward(run)


def compute_features(
    model: Staged,
    variables: Variables,
    stop: str,
    parts: Stored,
    count: int,
    preprocessing: Preprocessing,
    constants: Constants,
    layout: Layout = Layout(),  # noqa: B008
) -> Any:
    """What flows into stage `stop` for every example, in eval mode; each example passes through once.

    Args:
      model: whose stages before `stop` are run.
      variables: at least those stages'.
      stop: name of a stage.
      parts: the examples as stored, some at a time.
      count: of the examples; rows past it only pad.
      preprocessing: what brings them to the network.
      constants: what it fitted.
      layout: which devices this runs on.

    Returns:
      A pytree of arrays whose first axis is n, on the device.
    """

    executor = layout.executor()
    program = _program(executor, model, stop, preprocessing)
    variables = executor.place_variables({**variables, CONSTANTS: constants})
    made, left = [], count
    for part in parts.batches:
        out = program(variables, part)
        rows = len(jax.tree.leaves(part)[0])
        if left < rows:  # before all are put together, which takes the most memory
            out = jax.tree.map(partial(_head, count=left), out)
        left -= rows
        made.append(lengthened(out, made[0]) if made else out)
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *made)
    del made, out  # or they would be there a third time while the rows are ordered
    return parts.by_example(joined, count)
