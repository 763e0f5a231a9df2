"""The programs of a training on its executor, and what they are fed with. Each takes batched runs, also of one."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.identity import remembered
from jaxdl.models.initialise import batch_of, variable_shapes
from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import beat
from jaxdl.parallel.program import Program, equations_of
from jaxdl.training.step import Batch, Recipe, Shared, State, make_predict, make_step


@dataclasses.dataclass(frozen=True)
class Runner:
    """The programs of a training.

    Attributes:
      executor: where they run.
      step: ``(state, batch, shared) -> (state, metrics)``; the state it is given is used up.
      predict: ``(state, batch, shared) -> {"kept", "record"}``, arrays ``[runs, rows, …]``.
      scan: whether both take batches that have the steps as first axis, and give outputs that have.
    """

    executor: Executor
    step: Program
    predict: Program
    scan: bool

    def place_shared(self, shared: Shared) -> Shared:
        """The shared data where the two want it."""
        (x, y), frozen = self.executor.place_shared((shared.x, shared.y), shared.frozen)
        return Shared(x, y, frozen)

    def feed(
        self, batches: Batch, shared: Shared, first: int = 0, length_of: Callable[[Batch], int | None] = lambda _: None
    ) -> "Feed":
        """`batches` ``[steps, runs, rows]`` of data in memory, from step `first` on, as the two functions take them.

        `length_of` says of what goes into one of their calls at which length it is computed.
        """
        if self.scan:
            parts = [(begin, slice(begin, end), end - begin) for begin, end in _chunks(len(batches.indices))]
        else:
            parts = [(step, step, 1) for step in range(len(batches.indices))]
        for begin, which, count in parts:
            if begin >= first:
                batch = jax.tree.map(lambda a, which=which: a[which], batches)
                yield count, batch.replace(length=length_of(batch)), shared

    def take_steps(self, state: State, feed: "Feed") -> tuple[State, dict[str, np.ndarray]]:
        """Takes all steps of `feed`; the metrics are ``[steps, runs]``."""
        made = []
        for count, batch, shared in feed:
            state, metrics = self.step(state, batch, shared)
            made.append((count, metrics))
        return state, self.join_metrics(made)

    def join_metrics(self, made: Sequence[tuple[int, Any]]) -> dict[str, np.ndarray]:
        """Metrics of single calls of `step` as ``[steps, runs]``."""
        parts = [jax.tree.map(np.asarray if self.scan else lambda a: np.asarray(a)[None], m) for _, m in made]
        return jax.tree.map(lambda *values: np.concatenate(values), *parts)

    def predict_all(self, state: State, feed: "Feed", *, keep: bool, compiled: bool = False) -> dict[str, Any]:
        """``record`` of all rows of `feed`, those of padding included, and with `keep` ``kept``: ``[runs, rows, …]``.

        What is not kept stays on the device. `compiled` says that the program has run before; see `hosts.beat`.
        """
        wanted = ("kept", "record") if keep else ("record",)
        made, lengths = [], set()
        for place, (_, batch, shared) in enumerate(feed):
            beat(f"predicting batch {place + 1}", slow=not compiled and batch.length not in lengths)
            lengths.add(batch.length)
            found = self.predict(state, batch, shared)
            made.append(jax.tree.map(np.asarray, {name: found[name] for name in wanted}))

        def join(*parts: np.ndarray) -> np.ndarray:
            steps = np.concatenate(parts) if self.scan else np.stack(parts)  # [steps, runs, rows, …]
            moved = np.moveaxis(steps, 0, 1)
            return moved.reshape(moved.shape[0], -1, *moved.shape[3:])

        return jax.tree.map(join, *made)


Feed = Iterable[tuple[int, Batch, Shared]]  # how many steps, their batches, and the data that they index
CHUNK = 200  # steps in one program at most: between two, the state may be saved


def _chunks(steps: int) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of equal parts (as equal as can be), the same however often a run is interrupted."""
    parts = -(-steps // CHUNK)
    bounds = [part * steps // parts for part in range(parts + 1)]
    return pairwise(bounds)


def prefers_scan(forward: Callable, *shapes: Any) -> bool:
    """Whether steps should run in a `lax.scan` inside one program rather than be dispatched from Python.

    Always, except for convolutions on the CPU: XLA runs those many times slower inside a loop.

    Args:
      forward: what runs in the step, without its gradient.
      *shapes: of its arguments.
    """
    if jax.default_backend() != "cpu":
        return True
    equations = equations_of(jax.make_jaxpr(forward)(*shapes).jaxpr)
    return all(equation.primitive.name != "conv_general_dilated" for equation in equations)


def draws_at_random(model: Staged, spec: Any) -> bool:
    """Whether a model that is trained on examples of `spec` draws random numbers, as for dropout."""

    def forward(variables: Any, x: Any, key: jax.Array) -> Any:
        mask = jnp.ones(len(jax.tree.leaves(x)[0]), bool)
        return model.apply(variables, x, train=True, mask=mask, rngs={"dropout": key}, mutable=["batch_stats"])[0]

    program = jax.make_jaxpr(forward)(variable_shapes(model, spec), batch_of(spec), jax.random.key(0))
    return any(equation.primitive.name == "random_bits" for equation in equations_of(program.jaxpr))


@remembered(maxsize=32)
def make_runner(executor: Executor, recipe: Recipe, scan: bool) -> Runner:
    """The programs of a step and a prediction; the same ones for recipes that are equal.

    So a training that differs from one before in its numbers and examples alone, such as the next of a grid, compiles
    nothing. What cannot be compared, such as a user's model with a list among its fields, gets programs of its own. A
    module that reads a variable of its file is taken to be as it was: give such a value as a field.

    Args:
      executor: where they are to run.
      recipe: what they are made of.
      scan: see `prefers_scan`.
    """
    step = executor.step(make_step(recipe, executor.axis_name, executor.whole), scan=scan)
    return Runner(executor, step, executor.predict(make_predict(recipe, executor.whole), scan=scan), scan)
