"""The stages of a network and what each costs."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.errors import InputError
from jaxdl.models.staged import Staged, init_variables
from jaxdl.weights.checkpoint import Checkpoint, check_fits


@dataclasses.dataclass(frozen=True)
class StageSummary:
    """One stage, for one example.

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
    if isinstance(network, Checkpoint):
        model, input_shape = network.model, input_shape or network.card.preprocessing.input_shape
    else:
        model = network
    if input_shape is None:
        raise InputError("a model without weights has no input shape of its own; give input_shape=(32, 32, 3), say")
    if isinstance(network, Checkpoint):
        check_fits(network, input_shape)
    variables = jax.eval_shape(lambda k: init_variables(model, k, tuple(input_shape)), jax.random.key(0))
    x: Any = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    summaries = []
    names = model.stage_names
    for name, stop in zip(names, (*names[1:], None), strict=True):

        def run(v: Any, a: Any, name: str = name, stop: str | None = stop) -> Any:
            return model.apply(v, a, start=name, stop=stop)

        own = {collection: {name: tree[name]} if name in tree else {} for collection, tree in variables.items()}
        cost = jax.jit(run).lower(own, x).cost_analysis() or {}
        x = jax.eval_shape(run, own, x)
        sizes = {c: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for c, tree in own.items()}
        summaries.append(
            StageSummary(
                name=name,
                output=tuple(leaf.shape[1:] for leaf in jax.tree.leaves(x)),
                parameters=sizes["params"],
                statistics=sizes["batch_stats"],
                flops=float(cost.get("flops", 0.0)),
                bytes=sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(own)),
            )
        )
    return summaries
