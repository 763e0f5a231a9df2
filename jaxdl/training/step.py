"""The pure train step. It is written once; jit, meshes, pmap and the axis of batched runs are put around it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxdl.data.augment import Augmentation
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables, modules_of, pick, split_stages
from jaxdl.tasks import Task
from jaxdl.training.forward import Whole, as_they_are, forward, forward_again
from jaxdl.training.lengths import shortened
from jaxdl.training.optim import Updates
from jaxdl.training.traced_hyperparameters import TracedHyperparameters

# What a random draw is for; folded into its key, so that no two purposes share one.
INIT, DROPOUT, HEAD, AUGMENT, ADAPTER = 0, 1, 2, 3, 4


@flax.struct.dataclass
class State:
    """All that differs between runs and changes from step to step.

    Attributes:
      step: steps taken.
      params: ``{stage: …}`` of what is trained only: whole stages, or some of their parameters.
      batch_stats: of the batch normalisations whose scale or bias is trained.
      opt_state: of what is trained.
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
      x: the whole data as stored, arrays ``[n, …]``, or the frozen stages' activations of it; of several processes each
        one's own rows until they are placed.
      y: of its targets `Task.device_targets`, arrays ``[n, …]``.
      frozen: all other variables; those of stages whose activations `x` holds are left out, unless a later stage reads
        them (`Staged.ties`).
    """

    x: Any
    y: Any
    frozen: Variables


@flax.struct.dataclass
class Batch:
    """Rows of a step: `indices` into the data and `weights` in the loss, 0 for rows that only pad; ``[batch]``.

    Without indices the data are the rows of this step. Sequences are computed up to `length`, of which each is a
    program of its own; None for all of it. See `lengths`.
    """

    indices: jax.Array | None
    weights: jax.Array
    length: int | None = flax.struct.field(pytree_node=False, default=None)


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
      updates: gives the optimizer.
      curve: keys of the record that learning curves read, see `Task.curve_reads`: a task is equal to one with other
        metrics of the user's.
      held: number of stages, counted from the input, that are frozen in this step though their variables are in the
        state: gradual unfreezing.
      start: the stage that ``shared.x`` flows into, for what the frozen stages before it make of the examples; None for
        examples as stored.
      augmentation: of the examples, or None.
      accumulate: number of parts that a batch is computed in; their gradients are added up.
      scan_parts: whether these run in a `lax.scan`; else they stand one after another in the program.
      ema: decay of the running mean of the parameters; 0 for none.
      remat: whether activations inside stages are computed again in the backward pass, see `forward_again`.
    """

    model: Staged
    task: Task
    preprocessing: Preprocessing
    updates: Updates
    curve: tuple[str, ...] = ()
    held: int = 0
    start: str | None = None
    augmentation: Augmentation | None = None
    accumulate: int = 1
    scan_parts: bool = True
    ema: float = 0.0
    remat: bool = False

    def by_value(self, traced: TracedHyperparameters | None) -> tuple[Staged, Task, optax.GradientTransformation]:
        """Model, task and optimizer with numbers of the state in place of their own, where there are any."""
        model, task = self.model, self.task
        if traced is not None and traced.dropout is not None:
            model = model.clone(dropout=traced.dropout)
        if traced is not None and traced.label_smoothing is not None and "label_smoothing" in task.OPTIONS:
            task = dataclasses.replace(task, label_smoothing=traced.label_smoothing)
        return model, task, self.updates.optimizer(traced)


@flax.struct.dataclass
class Examples:
    """Rows of a batch as they go into the network.

    Attributes:
      x: what flows into the first stage, or into the first trained one where the others' activations are kept.
      y: what is to be learned of each, ``[batch, …]``.
      partner_y: the target of the example that is mixed in.
      share: of the loss that belongs to `y`; the rest is `partner_y`'s. None where nothing is mixed.
      weights: as in `Batch`.
      partner_weights: of the example that is mixed in.
    """

    x: Any
    y: Any
    partner_y: Any
    share: jax.Array | None
    weights: jax.Array
    partner_weights: jax.Array | None = None


def _rows(tree: Any, indices: jax.Array | None) -> Any:
    return tree if indices is None else jax.tree.map(lambda array: array[indices], tree)


def _batch_of(batch: Batch, shared: Shared) -> tuple[Any, Any]:
    """Examples and targets of a batch."""
    x, y = _rows((shared.x, shared.y), batch.indices)
    return shortened(x, batch.length), y


def _training_examples(recipe: Recipe, key: jax.Array, state: State, batch: Batch, shared: Shared) -> Examples:
    """The rows of `batch`, augmented and as the network is fed with them."""
    x, y = _batch_of(batch, shared)
    if recipe.start:
        return Examples(x, y, None, None, batch.weights)
    if recipe.augmentation is None:
        return Examples(recipe.preprocessing.on_device(x, state.inputs), y, None, None, batch.weights)
    changed = recipe.preprocessing.augment(recipe.augmentation, x, y, key, batch.weights, state.inputs)
    partner = None if changed.partner is None else _rows(changed.y, changed.partner)
    theirs = None if changed.partner is None else batch.weights[changed.partner] * (batch.weights > 0)
    return Examples(changed.x, changed.y, partner, changed.share, batch.weights, theirs)


def _divided(examples: Examples, parts: int) -> Examples:
    """``[parts, rows, …]``; neighbours go to different parts, so that rows of padding are spread evenly."""

    def divide(array: jax.Array) -> jax.Array:
        short = -len(array) % parts
        padded = jnp.pad(array, [(0, short), *[(0, 0)] * (array.ndim - 1)])
        return padded.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(divide, examples)


def _batch_loss(
    task: Task, outputs: Any, y: Any, constants: Constants, real: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """`Task.batch_loss` of rows, which may depend on those of the batch that are on other devices of the axis."""
    if not (axis_name and task.SEES_BATCH):
        return task.batch_loss(outputs, y, constants, real)
    outputs, y, all_real = jax.lax.all_gather((outputs, y, real), axis_name, tiled=True)
    first = len(real) * jax.lax.axis_index(axis_name)
    made = task.batch_loss(outputs, y, constants, all_real)
    return jax.tree.map(lambda values: jax.lax.dynamic_slice_in_dim(values, first, len(real)), made)


def _loss(
    task: Task, outputs: Any, examples: Examples, constants: Constants, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Sums over the rows: of their losses, and of what these are divided by."""
    total, count = _batch_loss(task, outputs, examples.y, constants, examples.weights > 0, axis_name)
    if examples.share is None:
        return (examples.weights * total).sum(), (examples.weights * count).sum()
    other, others = task.loss(outputs, examples.partner_y, constants)
    own, theirs = examples.share * examples.weights, (1 - examples.share) * examples.partner_weights
    return (own * total + theirs * other).sum(), (own * count + theirs * others).sum()


def make_step(recipe: Recipe, axis_name: str | None = None, whole: Whole = as_they_are) -> Step:
    """A step that trains what the state holds.

    One `apply` runs on all variables, those of the state and the shared ones; its gradient is taken by the former
    alone, so that nothing is computed backwards through frozen stages at the input. A stage of which nothing is trained
    runs in eval mode, and a batch normalisation of which nothing is trained keeps its running statistics.

    Args:
      recipe: what it is made of.
      axis_name: the mapped axis over which a batch is divided, under pmap; None if the batch is whole.
      whole: runs a function of variables on all of them, see `Executor.whole`.

    Returns:
      ``step(state, batch, shared) -> (state, metrics)``; the metrics are ``loss``, weighted, and the scores, means
      over the real examples, each counted once (both in training mode); ``count`` of these, ``weight`` that the loss is
      divided by, ``grad_norm`` before clipping, and ``stage_grad_norms`` by stage.
    """

    def add_up(value: Any) -> Any:
        return jax.lax.psum(value, axis_name) if axis_name else value

    run = forward_again if recipe.remat else forward

    def divisor_of(weight: jax.Array) -> jax.Array:
        return jnp.maximum(add_up(weight), 1e-30)

    def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
        model, task, optimizer = recipe.by_value(state.traced)
        names = model.stage_names

        def draw(purpose: int) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)
            # or all devices would draw the same mask
            return jax.random.fold_in(key, jax.lax.axis_index(axis_name)) if axis_name else key

        examples = _training_examples(recipe, draw(AUGMENT), state, batch, shared)
        (trained, waiting), (live, still) = (
            split_stages(tree, names[recipe.held :]) for tree in (state.params, state.batch_stats)
        )
        others = join_variables(shared.frozen, {"params": waiting, "batch_stats": still})

        def loss_of(trained: Any, batch_stats: Any, part: Examples, key: jax.Array) -> tuple[jax.Array, Any]:
            variables = join_variables(others, {"params": trained, "batch_stats": batch_stats})
            outputs, changed = run(
                model,
                variables,
                part.x,
                recipe.start,
                whole,
                evaluated=_evaluated(names, trained, variables["params"]),
                still=modules_of(variables["batch_stats"]) - modules_of(batch_stats),
                train=True,
                mask=part.weights > 0,
                axis_name=axis_name,
                rngs={"dropout": key},
            )
            batch_stats = pick(changed.get("batch_stats", {}), batch_stats)
            total, weight = _loss(task, outputs, part, state.targets, axis_name)
            record = task.device_record(task.keep(outputs, part.y, state.targets), part.y)
            scores = {name: (value * (part.weights > 0)).sum() for name, value in task.train_scores(record).items()}
            return total, (weight, scores, batch_stats)

        def part_of(batch_stats: Any, part: Examples, key: jax.Array) -> tuple[Any, Any]:
            total, pull_back, (weight, scores, batch_stats) = jax.vjp(
                lambda params: loss_of(params, batch_stats, part, key), trained, has_aux=True
            )
            # sums and counts are added over parts and devices before one is divided by the other: exact however
            # examples are spread. What a single part is divided by is known here, and rounds least where it goes in
            scale = 1 / divisor_of(weight) if recipe.accumulate == 1 else jnp.ones_like(total)
            return batch_stats, (total, weight, scores, pull_back(scale)[0])

        if recipe.accumulate == 1:
            batch_stats, made = part_of(live, examples, draw(DROPOUT))
        else:
            parts = _divided(examples, recipe.accumulate)
            keys = jax.random.split(draw(DROPOUT), recipe.accumulate)
            batch_stats, made = _add_parts(part_of, live, parts, keys, recipe.scan_parts)
        divisor = divisor_of(made[1])
        total, weight, scores, gradients = add_up(made)
        count = add_up((batch.weights > 0).sum(dtype=jnp.float32))
        if recipe.accumulate > 1:
            gradients = jax.tree.map(lambda g: g / divisor.astype(g.dtype), gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trained)
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
            batch_stats={**still, **batch_stats},
            opt_state=opt_state,
            ema=_averaged(state, params, recipe.ema) if recipe.ema else None,
        )
        return advanced, metrics

    return step


def _evaluated(names: Sequence[str], trained: Any, params: Any) -> frozenset[str]:
    """Stages in eval mode: those of which nothing is trained; one without parameters goes with those before it."""
    first = min((names.index(stage) for stage in trained), default=len(names))
    return frozenset(s for i, s in enumerate(names) if s not in trained and (s in params or i < first))


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


def variables_of(state: State, frozen: Variables) -> Variables:
    """The network with which to predict: the state's part of its variables (the running mean, if any) and the rest."""
    params = state.params if state.ema is None else state.ema
    return join_variables(frozen, {"params": params, "batch_stats": state.batch_stats})


def make_predict(recipe: Recipe, whole: Whole = as_they_are) -> Predict:
    """``predict(state, batch, shared) -> {"kept": …, "record": …}`` in eval mode, arrays ``[batch, …]``.

    What the task keeps of the network's outputs, and of the record of each example what learning curves read: both are
    made on the device, so that no more than these travel to the host. The running mean of the parameters is used where
    there is one. For `whole` see `make_step`.
    """
    model, task = recipe.model, recipe.task

    def predict(state: State, batch: Batch, shared: Shared) -> dict[str, Any]:
        x, y = _batch_of(batch, shared)
        if recipe.start is None:
            x = recipe.preprocessing.on_device(x, state.inputs)
        outputs = whole(lambda found: model.apply(found, x, start=recipe.start), variables_of(state, shared.frozen))
        kept = task.keep(outputs, y, state.targets)
        return {"kept": kept, "record": task.curve_record(task.device_record(kept, y))}

    return predict
