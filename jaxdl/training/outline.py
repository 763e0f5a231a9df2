"""A training that will run elsewhere: its programs, and the shapes of all that they take, without data or weights."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.memory import DEVICE_SHARE, must_stream
from jaxdl.data.source import Source, arrange_columns, subset
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.memory import bytes_of
from jaxdl.parallel.operations import Operations, operations_of
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.features import CACHED_SHARE
from jaxdl.training.inner import divide_inner
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.setup import Init, Setup, choose_preprocessing, fit_inputs, weighed
from jaxdl.training.step import Batch, Recipe, Shared, State, make_step
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.weights.checkpoint import Checkpoint

FEW = 8  # examples that are looked at


def outline(
    init: Init,
    source: Source,
    plan: Plan,
    parts: Sequence[np.ndarray],
    task: Task,
    execution: Execution,
    *,
    usable: int,
    keep_head: bool = False,
) -> Setup:
    """What `prepare` makes for a machine elsewhere: shapes in place of examples and of activations.

    A few examples are read. Whether all of them are kept in memory depends on what a device there has.

    Args:
      init, source, plan, parts, task, execution, keep_head: as of `prepare`.
      usable: bytes of a device there.

    Raises:
      InputError: as `prepare`, if these do not go together.
    """
    source = arrange_columns(source, init.card) if isinstance(init, Checkpoint) else source
    preprocessing = choose_preprocessing(init, source, execution.image_size)
    parts, inner = [weighed(source, part) for part in parts], None
    if plan.early_stopping:
        divided = [divide_inner(source, task, part, plan.inner_fraction, plan.seed) for part in parts]
        parts, inner = zip(*divided, strict=True)
    streaming = execution.streaming
    if streaming is None:
        streaming = must_stream(source, preprocessing, int(usable * DEVICE_SHARE)) is not None
    seen = parts[0][np.unique(np.linspace(0, len(parts[0]) - 1, FEW).astype(int))]
    few, there = subset(source, seen), execution.replace(streaming=streaming, work=None, store=None, layout=Layout())
    every = [np.arange(len(few))] * len(parts)

    def prepared(plan: Plan) -> Setup:
        plan = dataclasses.replace(plan, early_stopping=None)  # the few are not divided once more
        how = {"preprocessing": preprocessing, "keep_head": keep_head, "elsewhere": True}
        return prepare(init, few, plan, every, task, there, **how)

    setup = prepared(plan)
    if setup.start and bytes_of(setup.shared.x) * len(source) / len(few) > CACHED_SHARE * usable:
        setup = prepared(dataclasses.replace(plan, cache_features=False))  # too large to be kept there
    fitted = setup.preprocessing
    if setup.sums is not None:
        fitted = fitted.with_constants(fit_inputs(fitted, setup.sums, few, every[0]))

    def rows(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(source), *array.shape[1:]), array.dtype)

    x = setup.shared.x
    if setup.streamed:
        stored = preprocessing.stored_spec()
        x = jax.tree.map(lambda one: jax.ShapeDtypeStruct((1, *one.shape), one.dtype), stored)
    targets = task.device_targets(source.targets())
    shared = setup.shared.replace(x=jax.tree.map(rows, x), y=jax.tree.map(rows, shapes_of(targets)))
    changed = {"parts": parts, "inner": inner, "preprocessing": fitted, "sums": None, "shared": shared}
    return dataclasses.replace(setup, plan=plan, source=source, layout=execution.layout, **changed)


def shapes_of(tree: Any) -> Any:
    """Shapes and types of arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


@dataclasses.dataclass(frozen=True)
class Placed:
    """A step's arguments as they lie on the devices, in shapes.

    Attributes:
      state, batch, shared: what the step takes.
    """

    state: State
    batch: Batch
    shared: Shared

    def bytes_per_device(self) -> dict[str, int]:
        """Of the parts that are there throughout."""
        state, shared = self.state, self.shared
        return {
            "parameters": _on_device((state.params, state.batch_stats, shared.frozen)),
            "optimizer": _on_device((state.opt_state, state.ema)),
            "examples": _on_device((shared.x, shared.y)),
        }


def _on_device(tree: Any) -> int:
    """Bytes of what one device holds of arrays whose shapes say how they are divided."""
    plain = [a for a in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended)]
    return sum(math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize for a in plain)


def recipe_of(setup: Setup) -> Recipe:
    """That of the last epoch, as accelerators run it: parts of a batch in a loop."""
    return dataclasses.replace(setup.recipe(), scan_parts=True)


def batch_rows(setup: Setup) -> int:
    """Rows of a batch."""
    return max(1, -(-max(map(len, setup.parts)) // setup.steps))


def place(setup: Setup, executor: Executor, runs: Sequence[BatchedRun], rows: int) -> Placed:
    """The arguments of a step of runs side by side, on devices that need not be here."""
    size = (len(runs), rows)
    batch = Batch(jax.ShapeDtypeStruct(size, "int32"), jax.ShapeDtypeStruct(size, "float32"))
    shared = shapes_of(setup.shared)
    if setup.streamed:  # each step brings its own examples
        batch = batch.replace(indices=None) if executor.divides_rows else batch
        own = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), (shared.x, shared.y))
        shared = Shared(*own, shared.frozen)
    (x, y), frozen = executor.place_shared((shared.x, shared.y), shared.frozen)
    state = jax.eval_shape(lambda: setup.states(runs))
    return Placed(executor.place_state(state), batch, Shared(x, y, frozen))


def lower_step(setup: Setup, executor: Executor, placed: Placed) -> jax.stages.Lowered:
    """One train step for the executor's devices."""
    step = executor.step(make_step(recipe_of(setup), executor.axis_name, executor.whole))
    return step.lower(placed.state, placed.batch, placed.shared)


def step_operations(setup: Setup, rows: int) -> Operations:
    """What one step of one run does, as it is written down."""
    state = jax.eval_shape(lambda: setup.states([setup.run(0)]))
    state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), state)
    batch = Batch(jax.ShapeDtypeStruct((rows,), "int32"), jax.ShapeDtypeStruct((rows,), "float32"))
    return operations_of(make_step(recipe_of(setup)), state, batch, shapes_of(setup.shared))
