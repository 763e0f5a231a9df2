"""From a starting point, data and a plan to everything that a run of steps needs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import augment, stream
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Moments, Preprocessing, to_memory
from jaxdl.data.source import Source, columns_of
from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Variables, init_variables, split_variables
from jaxdl.tasks import Task, choose_task
from jaxdl.training.features import DataStore, activation_bytes, compute_features, kept, memory_limit
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
    *,
    preprocessing: Preprocessing | None = None,
    keep_head: bool = False,
    streaming: bool | None = None,
    workers: int = 2,
    store: DataStore | None = None,
) -> Setup:
    """Brings the data into memory, if it fits, and with frozen stages runs them over it once.

    Args:
      init: a checkpoint, or a model to be trained from scratch.
      source: labelled examples.
      plan: how to train.
      parts: training indices of each fold (a single one if there are no folds).
      preprocessing: as `choose_preprocessing` says of the data to train on; by default of `source`.
      keep_head: start from the checkpoint's head instead of a fresh one.
      streaming: read the examples anew in each epoch; by default if they do not fit in memory.
      workers: processes that decode what is streamed.
      store: of the source, where what this call reads and computes is kept for others.

    Raises:
      InputError: if plan, model and data do not go together.
    """
    preprocessing = preprocessing or choose_preprocessing(init, source)
    task = choose_task(source.class_names, plan.label_smoothing)
    _check_plan(plan, task, source, preprocessing)
    base = init.model if isinstance(init, Checkpoint) else init
    model = base.clone(num_outputs=task.num_outputs, dtype=plan.precision)
    streamed = _why_streamed(streaming, source, preprocessing)
    x, given = None, (columns_of(source), preprocessing)  # by these the examples in memory differ
    if not streamed:
        x = kept(store, lambda: ("examples", *given), lambda: to_memory(source, preprocessing).x)
    inner = None
    if plan.early_stopping:
        divided = [divide_inner(source, part, plan.inner_fraction, plan.seed) for part in parts]
        parts, inner = zip(*divided, strict=True)
    restored = isinstance(init, Checkpoint)
    at_first = plan.boundary(model)
    if restored:
        variables = jax.tree.map(jnp.asarray, variables_for(init, preprocessing.input_shape))
    else:  # checks, too, that the model can take such data
        init_it = partial(init_variables, model, input_shape=preprocessing.input_shape)
        key = jax.random.key(plan.seed)
        variables = init_it(key) if at_first else jax.eval_shape(init_it, key)  # values only where they are used
    held = _held_stages(plan, model.stage_names, at_first, variables)
    boundary = min(held)
    frozen, trained = split_variables(variables, model.stage_names[:boundary])
    head, body = split_variables(trained, ("head",))

    if preprocessing.fitted:
        moments = None
    else:
        moments = stream.moments(source, preprocessing, workers=workers) if streamed else Moments.of(x)
    common = preprocessing.fitted or len(parts) == 1  # else each fold's frozen stages see other inputs
    cached = boundary > 0 and common and plan.cache_features and not augment.make_augmentation(plan.augment).operations
    examples = jax.ShapeDtypeStruct((len(source), *preprocessing.input_shape), jnp.float32)
    stage = model.stage_names[boundary]
    cached = cached and activation_bytes(model, frozen, stage, examples) <= memory_limit()
    if cached:
        if moments is not None:
            mean, std = moments.fit(parts[0])
        else:
            mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)
        size = plan.batch_size if store is None else store.batch_size
        read = partial(_in_parts, source, preprocessing, size, workers) if streamed else partial(np.asarray, x)
        x = kept(
            store,
            lambda: (fingerprint(frozen), str(model), stage, *given, mean.tobytes(), std.tobytes()),
            lambda: compute_features(model, frozen, stage, read(), mean, std, size),
        )
        streamed = None  # the activations are in memory: the examples are not needed any more
    shared = Shared(
        x=jax.tree.map(jnp.asarray, x),
        y=None if streamed else jnp.asarray(source.labels),
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
        workers=workers,
        optimizer=make_optimizer(plan, steps_per_epoch([len(part) for part in parts], plan.batch_size)),
        shared=shared,
        frozen=frozen,
        body=body if restored else None,
        head=head if restored and keep_head else None,
        moments=moments,
        scaling=np.float32(init.card.scaling) if restored and keep_head and init.card.scaling else None,
    )


def _check_plan(plan: Plan, task: Task, source: Source, preprocessing: Preprocessing) -> None:
    augment.check(augment.make_augmentation(plan.augment), preprocessing.input_shape, preprocessing.kind)
    if not source.class_names:
        for name, given in (("class_weights", plan.class_weights), ("label_smoothing", plan.label_smoothing)):
            if given:
                raise InputError(f"{name} is for classes; {source.name} asks for a number ({task.name})")
    for name in plan.class_weights if isinstance(plan.class_weights, Mapping) else ():
        check_choice(f"class of {source.name} in class_weights", name, source.class_names)


def _why_streamed(streaming: bool | None, source: Source, preprocessing: Preprocessing) -> str | None:
    if streaming is None:
        return stream.must_stream(source, preprocessing)
    return "asked for" if streaming else None


def _in_parts(source: Source, preprocessing: Preprocessing, size: int, workers: int) -> Iterator[np.ndarray]:
    """All examples in order, `size` or a few less at a time."""
    order = stream.EvaluationOrder((np.arange(len(source)),), size)
    for batch in stream.stream(source, preprocessing, order, range(1), workers=workers):
        yield batch["x"][batch["weights"] > 0]


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
