"""The pure train step. It is written once; jit, meshes, pmap and the axis of batched runs are put around it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxdl.data.augment import Augmentation
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.models.staged import Staged, Variables
from jaxdl.tasks import Task
from jaxdl.training.traced_hyperparameters import TracedHyperparameters

# What a random draw is for; folded into its key, so that no two purposes share one.
INIT, DROPOUT, HEAD, AUGMENT = 0, 1, 2, 3


@flax.struct.dataclass
class State:
    """All that differs between runs and changes from step to step.

    Attributes:
      step: steps taken.
      params: ``{stage: …}`` of the trained stages only.
      batch_stats: as `params`.
      opt_state: of the trained stages only.
      key: of (seed, fold).
      inputs: what the preprocessing fitted to this run's training part, or the checkpoint's card holds.
      targets: what the task fitted to the targets of this run's training part, or the checkpoint's card holds.
      ema: running mean of `params`, with which to predict; None without.
      traced: numbers of the plan that are values rather than part of the program; None where all are part of it.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    inputs: Constants
    targets: Constants
    ema: Any = None
    traced: TracedHyperparameters | None = None


@flax.struct.dataclass
class Shared:
    """All that the runs have in common.

    Attributes:
      x: the whole data as stored, arrays ``[n, …]``, or the frozen stages' activations of it.
      y: its targets, arrays ``[n, …]``.
      frozen: variables of the frozen stages; empty where `x` holds their activations.
    """

    x: Any
    y: Any
    frozen: Variables


@flax.struct.dataclass
class Batch:
    """Rows of a step: `indices` into the data and `weights`, 0 for rows that only pad; ``[batch]``."""

    indices: jax.Array
    weights: jax.Array


Metrics = dict[str, Any]
Step = Callable[[State, Batch, Shared], tuple[State, Metrics]]
Predict = Callable[[State, Batch, Shared], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step is made of.

    Attributes:
      model: with its final head.
      task: gives the loss of each example.
      preprocessing: of the examples.
      optimizer: of the trained stages; takes updates of some of them, see `optim.by_stage`.
      boundary: number of frozen stages; they run in eval mode and no gradient is computed for them.
      held: number of stages, counted from the input, that are frozen in this step though their variables are in the
        state: gradual unfreezing.
      cached: whether ``shared.x`` holds what flows into stage `boundary`, rather than examples as stored.
      augmentation: of the examples, or None.
      accumulate: number of parts that a batch is computed in; their gradients are added up.
      scan_parts: whether these run in a `lax.scan`; else they stand one after another in the program.
      ema: decay of the running mean of the parameters; 0 for none.
    """

    model: Staged
    task: Task
    preprocessing: Preprocessing
    optimizer: optax.GradientTransformation
    boundary: int = 0
    held: int = 0
    cached: bool = False
    augmentation: Augmentation | None = None
    accumulate: int = 1
    scan_parts: bool = True
    ema: float = 0.0


@flax.struct.dataclass
class Examples:
    """Rows of a batch as they go into the network.

    Attributes:
      x: what flows into the first stage, or into the first trained one where the others' activations are kept.
      y: what is to be learned of each, ``[batch, …]``.
      partner_y: the target of the example that is mixed in.
      share: of the loss that belongs to `y`; the rest is `partner_y`'s. None where nothing is mixed.
      weights: as in `Batch`.
    """

    x: Any
    y: Any
    partner_y: Any
    share: jax.Array | None
    weights: jax.Array


def _rows(tree: Any, indices: jax.Array) -> Any:
    return jax.tree.map(lambda array: array[indices], tree)


def _training_examples(recipe: Recipe, key: jax.Array, state: State, batch: Batch, shared: Shared) -> Examples:
    """The rows of `batch`, augmented and as the network is fed with them."""
    x, y = _rows((shared.x, shared.y), batch.indices)
    if recipe.cached:
        return Examples(x, y, None, None, batch.weights)
    if recipe.augmentation is None:
        return Examples(recipe.preprocessing.on_device(x, state.inputs), y, None, None, batch.weights)
    changed = recipe.preprocessing.augment(recipe.augmentation, x, y, key, batch.weights, state.inputs)
    partner = None if changed.partner is None else _rows(changed.y, changed.partner)
    return Examples(changed.x, changed.y, partner, changed.share, batch.weights)


def _divided(examples: Examples, parts: int) -> Examples:
    """``[parts, rows, …]``; neighbours go to different parts, so that rows of padding are spread evenly."""

    def divide(array: jax.Array) -> jax.Array:
        short = -len(array) % parts
        padded = jnp.pad(array, [(0, short), *[(0, 0)] * (array.ndim - 1)])
        return padded.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(divide, examples)


def _loss(task: Task, outputs: Any, examples: Examples, constants: Constants) -> tuple[jax.Array, jax.Array]:
    """Sums over the rows: of their losses, and of what these are divided by."""
    total, count = task.loss(outputs, examples.y, constants)
    if examples.share is not None:
        other, others = task.loss(outputs, examples.partner_y, constants)
        total = examples.share * total + (1 - examples.share) * other
        count = examples.share * count + (1 - examples.share) * others
    return (examples.weights * total).sum(), (examples.weights * count).sum()


def make_step(recipe: Recipe, axis_name: str | None = None) -> Step:
    """A step that trains the stages from the boundary on.

    Args:
      recipe: what it is made of.
      axis_name: the mapped axis over which a batch is divided, under pmap; None if the batch is whole.

    Returns:
      ``step(state, batch, shared) -> (state, metrics)``; the metrics are ``loss`` and the task's scores (means over the
      real examples, in training mode), ``count`` of these, ``weight`` that the loss is divided by, ``grad_norm``
      before clipping, and ``stage_grad_norms`` by stage.
    """
    model, task = recipe.model, recipe.task
    names = model.stage_names
    frozen = max(recipe.boundary, recipe.held)
    prefix = names[recipe.boundary] if recipe.boundary and not recipe.cached else None

    def forward(params: Any, batch_stats: Any, shared: Shared, examples: Examples, key: jax.Array) -> Any:
        x = examples.x
        if prefix:
            x = model.apply(shared.frozen, x, stop=prefix)
        return model.apply(
            {"params": params, "batch_stats": batch_stats},
            x,
            start=names[recipe.boundary],
            frozen=frozen,
            train=True,
            mask=examples.weights > 0,
            axis_name=axis_name,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )

    def add_up(value: Any) -> Any:
        return jax.lax.psum(value, axis_name) if axis_name else value

    def divisor_of(weight: jax.Array) -> jax.Array:
        return jnp.maximum(add_up(weight), 1e-30)

    def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
        def draw(purpose: int) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)
            # or all devices would draw the same mask
            return jax.random.fold_in(key, jax.lax.axis_index(axis_name)) if axis_name else key

        examples = _training_examples(recipe, draw(AUGMENT), state, batch, shared)
        trained = {s: tree for s, tree in state.params.items() if names.index(s) >= frozen}
        waiting = {s: tree for s, tree in state.params.items() if s not in trained}

        def loss_of(trained: Any, batch_stats: Any, part: Examples, key: jax.Array) -> tuple[jax.Array, Any]:
            outputs, changed = forward({**waiting, **trained}, batch_stats, shared, part, key)
            total, weight = _loss(task, outputs, part, state.targets)
            record = task.record(task.predict(outputs, state.targets), part.y)
            scores = {name: (value * part.weights).sum() for name, value in task.train_scores(record).items()}
            return total, (weight, scores, changed.get("batch_stats", {}))

        def part_of(batch_stats: Any, part: Examples, key: jax.Array) -> tuple[Any, Any]:
            total, pull_back, (weight, scores, batch_stats) = jax.vjp(
                lambda params: loss_of(params, batch_stats, part, key), trained, has_aux=True
            )
            # sums and counts are added over parts and devices before one is divided by the other: exact however
            # examples are spread. What a single part is divided by is known here, and rounds least where it goes in
            scale = 1 / divisor_of(weight) if recipe.accumulate == 1 else jnp.ones_like(total)
            return batch_stats, (total, weight, scores, pull_back(scale)[0])

        if recipe.accumulate == 1:
            batch_stats, made = part_of(state.batch_stats, examples, draw(DROPOUT))
        else:
            parts = _divided(examples, recipe.accumulate)
            keys = jax.random.split(draw(DROPOUT), recipe.accumulate)
            batch_stats, made = _add_parts(part_of, state.batch_stats, parts, keys, recipe.scan_parts)
        divisor = divisor_of(made[1])
        total, weight, scores, gradients = add_up(made)
        count = add_up(batch.weights.sum())
        if recipe.accumulate > 1:
            gradients = jax.tree.map(lambda g: g / divisor.astype(g.dtype), gradients)
        updates, opt_state = recipe.optimizer.update(gradients, state.opt_state, trained)
        params = {**waiting, **optax.apply_updates(trained, updates)}
        norms = {stage: optax.tree.norm(tree) for stage, tree in gradients.items()}
        metrics = {
            "loss": task.reported_loss(total / divisor, state.targets),
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
            ema=_averaged(state, params, recipe.ema) if recipe.ema else None,
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


def make_predict(recipe: Recipe) -> Predict:
    """``predict(state, batch, shared) -> {"kept": …, "record": …}`` in eval mode, arrays ``[batch, …]``.

    What the task keeps of the network's outputs, and of the record of each example what learning curves read: both are
    made on the device, so that no more than these travel to the host. The running mean of the parameters is used where
    there is one.
    """
    model, task = recipe.model, recipe.task
    start = model.stage_names[recipe.boundary]

    def predict(state: State, batch: Batch, shared: Shared) -> dict[str, Any]:
        x, y = _rows((shared.x, shared.y), batch.indices)
        if not recipe.cached:
            x = recipe.preprocessing.on_device(x, state.inputs)
            if recipe.boundary:
                x = model.apply(shared.frozen, x, stop=start)
        params = state.params if state.ema is None else state.ema
        outputs = model.apply({"params": params, "batch_stats": state.batch_stats}, x, start=start)
        kept = task.predict(outputs, state.targets)
        return {"kept": kept, "record": task.curve_record(task.record(kept, y))}

    return predict


def over_runs(function: Callable) -> Callable:
    """A step or a prediction over batched runs: state and batch have the runs as their first axis, shared data none.

    A single run is computed as it is: what XLA makes of a mapped convolution may be slower, even for one.
    """

    def over(state: State, batch: Batch, shared: Shared) -> Any:
        if state.step.shape[0] > 1:
            return jax.vmap(function, in_axes=(0, 0, None))(state, batch, shared)
        state, batch = jax.tree.map(lambda array: array[0], (state, batch))
        return jax.tree.map(lambda array: array[None], function(state, batch, shared))

    return over
