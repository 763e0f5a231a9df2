"""Pure functions made into programs: over the steps and runs in one call, compiled, lowered ahead of time."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function of a first argument that is on the devices, of a batch from the host, and of others.

    Attributes:
      jitted: gives what JAX compiled (or will compile) for a first argument.
      place: brings a batch to the devices; rows are added where the devices do not divide them.
      finish: takes them away from what comes out.
    """

    jitted: Callable[[Any], Any]
    place: Callable[[Any], Any]
    finish: Callable[[Any, Any], Any] = lambda made, batch: made

    def __call__(self, first: Any, batch: Any, *others: Any) -> Any:
        return self.finish(self.jitted(first)(first, self.place(batch), *others), batch)

    def lower(self, first: Any, batch: Any, *others: Any) -> jax.stages.Lowered:
        """What will be compiled for arguments of these shapes, for the executor's devices, which need not be here.

        Args:
          first: arrays or `jax.ShapeDtypeStruct`, placed by the executor, as `others`.
          batch: arrays or structs as they come from the host.
          *others: see `first`.
        """
        return self.jitted(first).lower(first, self.place(batch), *others)


def over_runs(function: Callable, *, scan: bool, updates: bool) -> Callable:
    """A step or a prediction over batched runs: state and batch have the runs as their first axis, shared data none.

    A single run is computed as it is: what XLA makes of a mapped convolution may be slower, even for one.

    Args:
      function: ``(state, batch, shared)``, the arguments under these names.
      scan: whether batches have the steps as their first axis, and outputs other than the state too.
      updates: whether it is a step, ``-> (state, metrics)``.
    """

    def run(state: Any, batch: Any, shared: Any) -> Any:
        once, alone = partial(function, shared=shared), jax.tree.leaves(state)[0].shape[0] == 1
        if alone:
            state, batch = _without(state, 0), _without(batch, int(scan))
        else:
            once = jax.vmap(once)
        if not scan:
            made = once(state, batch)
        else:
            made = jax.lax.scan(once, state, batch) if updates else jax.lax.map(partial(once, state), batch)
        if not alone:
            return made
        if not updates:
            return _with(made, int(scan))
        return _with(made[0], 0), _with(made[1], int(scan))

    return run


def _without(tree: Any, axis: int) -> Any:
    return jax.tree.map(lambda array: array[:, 0] if axis else array[0], tree)


def _with(tree: Any, axis: int) -> Any:
    return jax.tree.map(lambda array: jnp.expand_dims(array, axis), tree)


def lies_as_it_came(function: Callable, others: Any, **options: Any) -> Callable[[Any], Any]:
    """`function`, jitted so that its state comes out on the devices as it went in, and uses up its buffers.

    Args:
      function: ``(state, batch, shared) -> (state, metrics)``.
      others: sharding of the metrics.
      **options: of `jax.jit`.

    Returns:
      The jitted function for a state; one for each way that states come in.
    """

    @cache
    def jitted(structure: Any, shardings: tuple[Any, ...]) -> Any:
        out = (jax.tree.unflatten(structure, shardings), others)
        return jax.jit(function, donate_argnums=0, out_shardings=out, **options)

    def for_state(state: Any) -> Any:
        leaves, structure = jax.tree.flatten(state)
        return jitted(structure, tuple(leaf.sharding for leaf in leaves))

    return for_state


def equations_of(program: Any) -> Iterator[Any]:
    """Every equation of a program (a jaxpr), and of those that its equations run, such as the body of a loop."""
    for equation in program.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations_of(inner)


def pad(array: Any, axis: int, multiple: int) -> Any:
    """Zeros appended along an axis until `multiple` divides it; in a batch, rows of weight 0.

    `array` may be a `jax.ShapeDtypeStruct`.
    """
    short = -array.shape[axis] % multiple
    if not short:
        return array
    if isinstance(array, jax.ShapeDtypeStruct):
        shape = (*array.shape[:axis], array.shape[axis] + short, *array.shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, array.dtype)
    return np.pad(np.asarray(array), [(0, short if place == axis else 0) for place in range(array.ndim)])


def first_rows(array: Any, axis: int, count: int) -> np.ndarray:
    """On the host, without the rows that `pad` added."""
    return np.asarray(array)[(slice(None),) * axis + (slice(count),)]
