"""The pure train step. It is written once; jit, meshes, pmap and the axis of folds are put around it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxdl.data.preprocessing import normalise
from jaxdl.models.staged import Staged, Variables
from jaxdl.tasks.classification import Classification

# What a random draw is for; folded into its key, so that no two purposes share one.
INIT, DROPOUT, HEAD = 0, 1, 2


@flax.struct.dataclass
class State:
    """All that differs between folds and changes from step to step.

    Attributes:
      step: steps taken.
      params: ``{stage: …}`` of the trained stages only.
      batch_stats: likewise.
      opt_state: of the trained stages only.
      key: of (seed, fold).
      mean, std: normalisation, from this fold's training part or from the checkpoint's card.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    mean: jax.Array
    std: jax.Array


@flax.struct.dataclass
class Shared:
    """All that the folds have in common.

    Attributes:
      x: the whole data as stored, ``[n, …]``, or the frozen stages' activations of it (a pytree of such arrays).
      y: labels ``int32[n]``.
      frozen: variables of the frozen stages; empty where `x` holds their activations.
    """

    x: Any
    y: jax.Array
    frozen: Variables


@flax.struct.dataclass
class Batch:
    """Rows of a step: `indices` into the data and `weights`, 0 for rows that only pad; ``[batch]``."""

    indices: jax.Array
    weights: jax.Array


Metrics = dict[str, jax.Array]
Step = Callable[[State, Batch, Shared], tuple[State, Metrics]]
Predict = Callable[[State, Batch, Shared], jax.Array]


def _inputs(model: Staged, boundary: int, cached: bool, state: State, indices: jax.Array, shared: Shared) -> Any:
    """What flows into the first trained stage for the examples `indices`."""
    x = jax.tree.map(lambda array: array[indices], shared.x)
    if cached:
        return x
    x = normalise(x, state.mean, state.std)
    if boundary == 0:
        return x
    return model.apply(shared.frozen, x, stop=model.stage_names[boundary])


def make_step(
    model: Staged,
    task: Classification,
    optimizer: optax.GradientTransformation,
    *,
    boundary: int = 0,
    cached: bool = False,
    axis_name: str | None = None,
) -> Step:
    """A step that trains the stages from `boundary` on.

    Args:
      model: with its final head.
      task: gives the loss of each example.
      optimizer: of the trained stages.
      boundary: number of frozen stages; they run in eval mode and no gradient is computed for them.
      cached: whether ``shared.x`` holds what flows into stage `boundary`, rather than examples as stored.
      axis_name: the mapped axis over which a batch is divided, under pmap; None if the batch is whole.

    Returns:
      ``step(state, batch, shared) -> (state, metrics)``; the metrics are ``loss`` and ``accuracy`` (means over the
      real examples, in training mode), ``count`` of these, ``grad_norm`` before clipping.
    """
    start = model.stage_names[boundary]

    def add_up(value: Any) -> Any:
        return jax.lax.psum(value, axis_name) if axis_name else value

    def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, DROPOUT), state.step)
        if axis_name:  # or all devices would draw the same mask
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        x = _inputs(model, boundary, cached, state, batch.indices, shared)
        y = shared.y[batch.indices]
        # counts are reduced before they divide: exact however examples are spread over devices
        count = add_up(batch.weights.sum())
        divisor = jnp.maximum(count, 1)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            logits, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                start=start,
                train=True,
                mask=batch.weights > 0,
                axis_name=axis_name,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            loss = (task.loss(logits, y) * batch.weights).sum() / divisor
            return loss, (logits, changed.get("batch_stats", {}))

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        gradients = add_up(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": add_up(loss),
            "accuracy": add_up((task.correct(logits, y) * batch.weights).sum()) / divisor,
            "count": count,
            "grad_norm": optax.tree.norm(gradients),
        }
        advanced = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return advanced, metrics

    return step


def make_predict(model: Staged, *, boundary: int = 0, cached: bool = False) -> Predict:
    """``predict(state, batch, shared) -> float32 logits[batch, num_outputs]`` in eval mode, as `make_step`."""
    start = model.stage_names[boundary]

    def predict(state: State, batch: Batch, shared: Shared) -> jax.Array:
        x = _inputs(model, boundary, cached, state, batch.indices, shared)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return model.apply(variables, x, start=start).astype(jnp.float32)

    return predict
