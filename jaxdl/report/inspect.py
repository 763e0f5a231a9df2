"""The stages of a network and what each costs."""

import dataclasses
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.errors import InputError
from jaxdl.models.compiled import compiled
from jaxdl.models.initialise import batch_of, variable_shapes
from jaxdl.models.roles import is_adapter
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables, partition, split_variables
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.memory import bytes_of
from jaxdl.training.division import Lying, check_division, lying
from jaxdl.weights.adapt import variables_for
from jaxdl.weights.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class StageSummary:
    """One stage, for one example.

    A stage that only runs together with those after it (a group of a wrapped module) has no output and no operations of
    its own: they are those of the last of them.

    Attributes:
      name: of the stage.
      output: shapes that flow out of it, without the batch axis.
      parameters: trainable numbers.
      statistics: other numbers it keeps, such as running means.
      flops: floating-point operations of the forward pass, counted by XLA (a multiplication and an addition are two).
      bytes: that parameters and statistics take.
    """

    name: str
    output: tuple[tuple[int, ...], ...]
    parameters: int
    statistics: int
    flops: float
    bytes: int


def inspect(network: Checkpoint | Staged, input_shape: Sequence[int] | None = None) -> list[StageSummary]:
    """The stages of a network from input to output.

    Args:
      network: a checkpoint, or a model without weights.
      input_shape: of one example; a checkpoint knows its own.

    Raises:
      InputError: if the shape is missing or the network cannot take it.
    """
    model, variables, spec = _shapes(network, input_shape)
    x: Any = batch_of(spec)
    summaries = []
    for names, stop in model.pieces():
        run = partial(model.apply, start=names[0], stop=stop)
        cost = jax.jit(run).lower(split_variables(variables, names)[0], x).cost_analysis() or {}
        x = jax.eval_shape(run, split_variables(variables, names)[0], x)
        for name in names:
            own, _ = split_variables(variables, (name,))
            sizes = {c: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for c, tree in own.items()}
            last = name == names[-1]
            summaries.append(
                StageSummary(
                    name=name,
                    output=tuple(leaf.shape[1:] for leaf in jax.tree.leaves(x)) if last else (),
                    parameters=sizes["params"],
                    statistics=sizes["batch_stats"],
                    flops=float(cost.get("flops", 0.0)) if last else 0.0,
                    bytes=bytes_of(own),
                )
            )
    return summaries


def inspect_division(network: Checkpoint | Staged, layout: Layout, input_shape: Any = None) -> list[Lying]:
    """How each array of parameters lies on the devices of `layout`, which need not be here.

    Args:
      network: a checkpoint, or a model without weights.
      layout: see `Layout`.
      input_shape: see `inspect`.

    Raises:
      InputError: as `inspect`, and where the layout cannot divide the network.
    """
    model, variables, spec = _shapes(network, input_shape)
    check_division(model, variables, spec, layout)
    return lying(variables["params"], layout)


def _shapes(network: Checkpoint | Staged, input_shape: Sequence[int] | None) -> tuple[Staged, Variables, Any]:
    """The model, the shapes of its variables, and the spec of an example."""
    if isinstance(network, Checkpoint):
        model, preprocessing = network.model, network.card.preprocessing
        if input_shape is not None:
            preprocessing = dataclasses.replace(preprocessing, input_shape=tuple(input_shape))
            variables_for(network, preprocessing)  # refuses what it cannot take
        spec = preprocessing.spec()
    else:
        model, spec = network, input_shape
    if spec is None:
        raise InputError("a model without weights has no input shape of its own; give input_shape=(32, 32, 3), say")
    model = model.check(spec)
    variables = variable_shapes(model, spec)
    if isinstance(network, Checkpoint):
        variables = join_variables(variables, {"params": partition(network.variables["params"], is_adapter)[0]})
    return model, variables, spec


def time_stages(
    model: Staged, variables: Variables, spec: Any, *, batch_size: int = 16, repeats: int = 7
) -> dict[str, float]:
    """Seconds that each stage's forward pass takes per example, on this machine, compiled stage by stage.

    Of stages that only run together the last has the time of all.

    Measured on random inputs, since time does not depend on them; the median of `repeats` runs after one that compiles.
    Stages compiled together may take less than their sum: a compiler fuses across their boundaries.

    Args:
      model: the network.
      variables: of all its stages.
      spec: of one example, see `initialise.batch_of`.
      batch_size: examples at a time.
      repeats: at most; a slow stage gets fewer, but at least one.
    """
    variables = jax.tree.map(jnp.asarray, variables)
    x: Any = jax.tree.map(partial(_random, batch_size), batch_of(spec))
    seconds = {}
    for names, stop in model.pieces():
        run = partial(compiled(_run_stage, model, start=names[0], stop=stop), variables, x)
        result = jax.block_until_ready(run())
        taken: list[float] = []
        while not taken or (len(taken) < repeats and sum(taken) < 0.5):
            begin = time.perf_counter()
            jax.block_until_ready(run())
            taken.append(time.perf_counter() - begin)
        seconds[names[-1]], x = sorted(taken)[len(taken) // 2] / batch_size, result
    return seconds


def _random(batch_size: int, one: jax.ShapeDtypeStruct) -> jax.Array:
    shape = (batch_size, *one.shape[1:])
    floats = jnp.issubdtype(one.dtype, jnp.floating)
    return jax.random.normal(jax.random.key(0), shape, one.dtype) if floats else jnp.ones(shape, one.dtype)


def _run_stage(variables: Variables, x: Any, *, model: Staged, start: str, stop: str | None) -> Any:
    return model.apply(variables, x, start=start, stop=stop)
