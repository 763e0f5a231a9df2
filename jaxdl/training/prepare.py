"""From a starting point, data and a plan to everything that a run of steps needs."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import augment, stream
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models.staged import Staged, Variables, init_variables, split_variables
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.features import activation_bytes, compute_features, in_parts, kept, memory_limit
from jaxdl.training.inner import divide_inner
from jaxdl.training.optim import make_optimizer
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init, Setup, choose_preprocessing
from jaxdl.training.step import Shared
from jaxdl.weights.adapt import variables_for
from jaxdl.weights.checkpoint import Checkpoint, fingerprint


def prepare(
    init: Init,
    source: Source,
    plan: Plan,
    parts: Sequence[np.ndarray],
    task: Task,
    execution: Execution = Execution(),  # noqa: B008
    *,
    preprocessing: Preprocessing | None = None,
    keep_head: bool = False,
) -> Setup:
    """Brings the data into memory, if it fits, and with frozen stages runs them over it once.

    Args:
      init: a checkpoint, or a model to be trained from scratch.
      source: labelled examples.
      plan: how to train.
      parts: training indices of each fold (a single one if there are no folds).
      task: what is asked of the examples.
      execution: where examples are kept, and what was computed of them before.
      preprocessing: as `choose_preprocessing` says of the data to train on; by default of `source`.
      keep_head: start from the checkpoint's head instead of a fresh one.

    Raises:
      InputError: if plan, model, task and data do not go together.
    """
    preprocessing = preprocessing or choose_preprocessing(init, source, execution.image_size)
    task = with_plan(task, plan)
    check_augmentation(plan, task, preprocessing)
    base = init.model if isinstance(init, Checkpoint) else init
    model = base.clone(num_outputs=task.num_outputs, dtype=plan.precision)
    streamed, x = execution.why_streamed(source, preprocessing), None

    def given() -> tuple[Any, ...]:
        """By what the examples in memory differ."""
        return source.fingerprint(), source.columns, preprocessing

    if not streamed:
        x = kept(execution.store, lambda: ("examples", *given()), lambda: preprocessing.load(source))
    inner = None
    if plan.early_stopping:
        divided = [divide_inner(source, task, part, plan.inner_fraction, plan.seed) for part in parts]
        parts, inner = zip(*divided, strict=True)
    restored = isinstance(init, Checkpoint)
    at_first = plan.boundary(model)
    variables = _starting_variables(init, model, preprocessing, plan.seed, needed=at_first > 0)
    held = _held_stages(plan, model.stage_names, at_first, variables)
    boundary = min(held)
    frozen, trained = split_variables(variables, model.stage_names[:boundary])
    head, body = split_variables(trained, ("head",))

    sums = None
    if not preprocessing.fitted:
        sums = (
            stream.measure(source, preprocessing, workers=execution.workers) if streamed else preprocessing.measure(x)
        )
    common = preprocessing.fitted or len(parts) == 1  # else each fold's frozen stages see other inputs
    stage = model.stage_names[boundary]
    cached = boundary > 0 and common and _may_cache(plan)
    if cached:
        cached = activation_bytes(model, frozen, stage, preprocessing.spec(), len(source)) <= memory_limit()
    if cached:
        constants = preprocessing.constants if sums is None else preprocessing.fit(sums, parts[0])
        size = plan.batch_size if execution.store is None else execution.store.batch_size
        if streamed:
            read = partial(_in_parts, source, preprocessing, size, execution.workers)
        else:
            read = partial(in_parts, x, size)
        x = kept(
            execution.store,
            lambda: (fingerprint(frozen), str(model), stage, *given(), _bytes_of(constants)),
            lambda: compute_features(model, frozen, stage, read(), preprocessing, constants),
        )
        streamed = None  # the activations are in memory: the examples are not needed any more
    shared = Shared(
        x=jax.tree.map(jnp.asarray, x),
        y=None if streamed else jax.tree.map(jnp.asarray, source.targets()),
        frozen={} if cached or not boundary else frozen,
    )
    return Setup(
        model=model,
        task=task,
        plan=plan,
        preprocessing=preprocessing,
        source=source,
        parts=parts,
        inner=inner,
        held=held,
        cached=cached,
        streamed=streamed,
        workers=execution.workers,
        optimizer=make_optimizer(plan, steps_per_epoch([len(part) for part in parts], plan.batch_size)),
        shared=shared,
        frozen=frozen,
        body=body if restored else None,
        head=head if restored and keep_head else None,
        sums=sums,
        kept_targets=init.card.target_constants() if restored and keep_head else None,
    )


def with_plan(task: Task, plan: Plan) -> Task:
    """The task with the options that the plan sets. Raises InputError for one that the task does not have."""
    return task.with_options(label_smoothing=plan.label_smoothing, class_weights=plan.class_weights)


def check_augmentation(plan: Plan, task: Task, preprocessing: Preprocessing) -> None:
    """Raises InputError for an augmentation that does not go with the examples or with what is asked of them."""
    augmentation = augment.make_augmentation(plan.augment)
    preprocessing.check_augmentation(augmentation)
    mixing = [name for name, _ in augmentation.operations if name in augment.MIXES]
    if mixing and not task.mixes:
        raise InputError(f"augment names {', '.join(mixing)}, but targets of {task.name} cannot be mixed; leave it out")


def _starting_variables(
    init: Init, model: Staged, preprocessing: Preprocessing, seed: int, *, needed: bool
) -> Variables:
    """The checkpoint's, or fresh ones of all stages: their shapes alone where no values are `needed`."""
    if isinstance(init, Checkpoint):
        return jax.tree.map(jnp.asarray, variables_for(init, preprocessing))
    init_it = partial(init_variables, model, spec=preprocessing.spec())  # checks that the model can take such data
    key = jax.random.key(seed)
    return init_it(key) if needed else jax.eval_shape(init_it, key)


def _may_cache(plan: Plan) -> bool:
    """Whether the plan lets frozen stages run over the data once: nothing random is in front of them."""
    return plan.cache_features and not augment.make_augmentation(plan.augment).operations


def _bytes_of(constants: Constants) -> tuple[Any, ...]:
    return tuple((name, np.asarray(constants[name]).tobytes()) for name in sorted(constants))


def _in_parts(source: Source, preprocessing: Preprocessing, size: int, workers: int) -> Iterator[Any]:
    """All examples in order, `size` or a few less at a time."""
    order = stream.EvaluationOrder((np.arange(len(source)),), size)
    for batch in stream.stream(source, preprocessing, order, range(1), workers=workers, labelled=False):
        real = batch["weights"] > 0
        yield jax.tree.map(lambda array, real=real: array[real], batch["x"])


def _held_stages(plan: Plan, names: Sequence[str], at_first: int, variables: Variables) -> list[int]:
    """Per epoch the number of frozen stages.

    A stage without variables computes the same whether frozen or not: the boundary may pass it.
    """

    def has_variables(index: int) -> bool:
        return any(names[index] in tree for tree in variables.values())

    while 0 < at_first < len(names) - 1 and not has_variables(at_first):
        at_first += 1
    if not plan.unfreeze_every:
        return [at_first] * plan.epochs
    # downwards from the head; the first stage with variables takes those without, before it, along
    waiting = [index for index in range(at_first) if has_variables(index)][::-1]
    steps = [at_first, *waiting[:-1], *([0] if waiting else [])]
    return [steps[min(epoch // plan.unfreeze_every, len(steps) - 1)] for epoch in range(plan.epochs)]
