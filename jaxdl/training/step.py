"""The pure train step. It is written once; jit, meshes, pmap and the axis of folds are put around it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxdl.data.augment import Augmentation, augment
from jaxdl.data.preprocessing import normalise, to_unit
from jaxdl.models.staged import Staged, Variables
from jaxdl.tasks import Task
from jaxdl.training.traced_hyperparameters import TracedHyperparameters

# What a random draw is for; folded into its key, so that no two purposes share one.
INIT, DROPOUT, HEAD, AUGMENT = 0, 1, 2, 3


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
      ema: running mean of `params`, with which to predict; None without.
      class_weights: float32[classes], None where all count alike.
      scaling: of a regression's targets, see `Regression.scale`; None otherwise.
      traced: numbers of the plan that are values rather than part of the program; None where all are part of it.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    mean: jax.Array
    std: jax.Array
    ema: Any = None
    class_weights: jax.Array | None = None
    scaling: jax.Array | None = None
    traced: TracedHyperparameters | None = None


@flax.struct.dataclass
class Shared:
    """All that the folds have in common.

    Attributes:
      x: the whole data as stored, ``[n, …]``, or the frozen stages' activations of it (a pytree of such arrays).
      y: classes ``int32[n]``, or numbers ``float32[n]``.
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


Metrics = dict[str, Any]
Step = Callable[[State, Batch, Shared], tuple[State, Metrics]]
Predict = Callable[[State, Batch, Shared], jax.Array]


@flax.struct.dataclass
class Examples:
    """Rows of a batch as they go into the network.

    Attributes:
      x: what flows into the first stage, or into the first trained one where the others' activations are kept.
      y: what is to be learned of each, ``[batch]``.
      partner_y: likewise of the example that is mixed in.
      share: of the loss that belongs to `y`; the rest is `partner_y`'s. None where nothing is mixed.
      weights: as in `Batch`.
    """

    x: Any
    y: jax.Array
    partner_y: jax.Array | None
    share: jax.Array | None
    weights: jax.Array


def _gather(indices: jax.Array, shared: Shared) -> Any:
    return jax.tree.map(lambda array: array[indices], shared.x)


def _training_examples(
    task: Task, cached: bool, augmentation: Augmentation | None, key: jax.Array, state: State, batch: Batch, shared: Any
) -> Examples:
    """The rows of `batch`, augmented and normalised."""
    x, y = _gather(batch.indices, shared), task.scale(shared.y[batch.indices], state.scaling)
    if cached:
        return Examples(x, y, None, None, batch.weights)
    if augmentation is None:
        return Examples(normalise(x, state.mean, state.std), y, None, None, batch.weights)
    changed = augment(augmentation, to_unit(x), key, batch.weights)
    x = (changed.images - state.mean) / state.std
    return Examples(x, y, y[changed.partner], changed.share, batch.weights)


def _divided(examples: Examples, parts: int) -> Examples:
    """``[parts, rows, …]``; neighbours go to different parts, so that rows of padding are spread evenly."""

    def divide(array: jax.Array) -> jax.Array:
        short = -len(array) % parts
        padded = jnp.pad(array, [(0, short), *[(0, 0)] * (array.ndim - 1)])
        return padded.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(divide, examples)


def make_step(
    model: Staged,
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    boundary: int = 0,
    held: int = 0,
    cached: bool = False,
    axis_name: str | None = None,
    augmentation: Augmentation | None = None,
    accumulate: int = 1,
    scan_parts: bool = True,
    ema: float = 0.0,
) -> Step:
    """A step that trains the stages from `boundary` on.

    Args:
      model: with its final head.
      task: gives the loss of each example.
      optimizer: of the trained stages; takes updates of some of them, see `optim.by_stage`.
      boundary: number of frozen stages; they run in eval mode and no gradient is computed for them.
      held: number of stages, counted from the input, that are frozen in this step though their variables are in the
        state: gradual unfreezing.
      cached: whether ``shared.x`` holds what flows into stage `boundary`, rather than examples as stored.
      axis_name: the mapped axis over which a batch is divided, under pmap; None if the batch is whole.
      augmentation: of the images, or None.
      accumulate: number of parts that a batch is computed in; their gradients are added up.
      scan_parts: whether these run in a `lax.scan`; else they stand one after another in the program.
      ema: decay of the running mean of the parameters; 0 for none.

    Returns:
      ``step(state, batch, shared) -> (state, metrics)``; the metrics are ``loss`` and the task's scores (means over the
      real examples, in training mode), ``count`` of these, ``weight`` that the loss is a mean over, ``grad_norm``
      before clipping, and ``stage_grad_norms`` by stage.
    """
    names = model.stage_names
    frozen = max(boundary, held)
    prefix = names[boundary] if boundary and not cached else None

    def forward(params: Any, batch_stats: Any, shared: Shared, x: Any, mask: jax.Array, key: jax.Array) -> Any:
        if prefix:
            x = model.apply(shared.frozen, x, stop=prefix)
        return model.apply(
            {"params": params, "batch_stats": batch_stats},
            x,
            start=names[boundary],
            frozen=frozen,
            train=True,
            mask=mask,
            axis_name=axis_name,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )

    def add_up(value: Any) -> Any:
        return jax.lax.psum(value, axis_name) if axis_name else value

    def targets_of(examples: Examples, state: State) -> list[tuple[jax.Array, Any]]:
        """Labels of each row, own and partner's, and the factor on the loss of each."""
        share, weights = examples.share, state.class_weights
        both = [(examples.y, 1.0)] if share is None else [(examples.y, share), (examples.partner_y, 1 - share)]
        return both if weights is None else [(labels, factor * weights[labels]) for labels, factor in both]

    def weight_of(examples: Examples, state: State) -> jax.Array:
        """Factor on the loss of each row."""
        if state.class_weights is None:  # the shares add up to 1, but for rounding
            return examples.weights
        return examples.weights * sum(factor for _, factor in targets_of(examples, state))

    def losses_of(logits: jax.Array, examples: Examples, state: State) -> jax.Array:
        """Weighted loss of each row."""
        targets = targets_of(examples, state)
        return examples.weights * sum(factor * task.loss(logits, labels) for labels, factor in targets)

    def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
        def draw(purpose: int) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)
            # or all devices would draw the same mask
            return jax.random.fold_in(key, jax.lax.axis_index(axis_name)) if axis_name else key

        examples = _training_examples(task, cached, augmentation, draw(AUGMENT), state, batch, shared)
        # counts are reduced before they divide: exact however examples are spread over devices
        count, weight = add_up((batch.weights.sum(), weight_of(examples, state).sum()))
        divisor = jnp.maximum(weight, 1e-30)
        trained = {s: tree for s, tree in state.params.items() if names.index(s) >= frozen}
        waiting = {s: tree for s, tree in state.params.items() if s not in trained}

        def loss_of(trained: Any, batch_stats: Any, part: Examples, key: jax.Array) -> tuple[jax.Array, Any]:
            logits, changed = forward({**waiting, **trained}, batch_stats, shared, part.x, part.weights > 0, key)
            loss = losses_of(logits, part, state).sum() / divisor
            outputs, targets = (task.unscale(v, state.scaling) for v in (logits, part.y))
            scores = {k: (v * part.weights).sum() for k, v in task.scores(outputs, targets).items()}
            return loss, (scores, changed.get("batch_stats", {}))

        def part_of(batch_stats: Any, part: Examples, key: jax.Array) -> tuple[Any, Any]:
            (loss, (scores, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trained, batch_stats, part, key
            )
            return batch_stats, (loss, scores, gradients)

        if accumulate == 1:
            batch_stats, made = part_of(state.batch_stats, examples, draw(DROPOUT))
        else:
            parts = _divided(examples, accumulate)
            keys = jax.random.split(draw(DROPOUT), accumulate)
            batch_stats, made = _add_parts(part_of, state.batch_stats, parts, keys, scan_parts)
        loss, scores, gradients = add_up(made)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trained)
        params = {**waiting, **optax.apply_updates(trained, updates)}
        norms = {stage: optax.tree.norm(tree) for stage, tree in gradients.items()}
        metrics = {
            "loss": task.unscale_loss(loss, state.scaling),
            **{name: value / jnp.maximum(count, 1) for name, value in scores.items()},
            "count": count,
            "weight": weight,
            "grad_norm": jnp.sqrt(sum(jnp.square(norm) for norm in norms.values())),
            "stage_grad_norms": norms,
        }
        advanced = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=_averaged(state, params, ema) if ema else None,
        )
        return advanced, metrics

    return step


def _add_parts(run: Callable, batch_stats: Any, parts: Examples, keys: jax.Array, scan: bool) -> tuple[Any, Any]:
    """`run` over all parts, one after the other; what it gives beside the statistics is added up."""
    if scan:
        first = jax.eval_shape(run, batch_stats, *jax.tree.map(lambda a: a[0], (parts, keys)))[1]
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), first)

        def body(carry: Any, part: Any) -> tuple[Any, None]:
            stats, made = run(carry[0], *part)
            return (stats, jax.tree.map(jnp.add, carry[1], made)), None

        return jax.lax.scan(body, (batch_stats, zero), (parts, keys))[0]
    total = None
    for place in range(len(keys)):
        batch_stats, made = run(batch_stats, *jax.tree.map(lambda a, i=place: a[i], (parts, keys)))
        total = made if total is None else jax.tree.map(jnp.add, total, made)
    return batch_stats, total


def _averaged(state: State, params: Any, decay: float) -> Any:
    """The running mean after this step; its decay rises to `decay`, so that early parameters are soon forgotten."""
    taken = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + taken) / (10 + taken))
    return jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, state.ema, params)


def make_predict(model: Staged, task: Task, *, boundary: int = 0, cached: bool = False) -> Predict:
    """``predict(state, batch, shared) -> float32[batch, num_outputs]`` in eval mode, as `make_step`.

    Logits, or numbers in their own units. The running mean of the parameters is used where there is one.
    """

    def predict(state: State, batch: Batch, shared: Shared) -> jax.Array:
        x = _gather(batch.indices, shared)
        if not cached:
            x = normalise(x, state.mean, state.std)
            if boundary:
                x = model.apply(shared.frozen, x, stop=model.stage_names[boundary])
        params = state.params if state.ema is None else state.ema
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs = model.apply(variables, x, start=model.stage_names[boundary]).astype(jnp.float32)
        return task.unscale(outputs, state.scaling)

    return predict
