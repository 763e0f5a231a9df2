"""From a starting point, data and a plan to everything that a run of steps needs."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import augment, stream
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.identity import key_of
from jaxdl.models.initialise import check_memory, init_variables, variable_shapes
from jaxdl.models.staged import Staged, tied_paths
from jaxdl.models.variables import Variables, join_variables, partition, split_variables
from jaxdl.parallel import hosts
from jaxdl.parallel.hosts import Process, beat
from jaxdl.parallel.layout import Layout
from jaxdl.tasks import Task
from jaxdl.training.division import check_division
from jaxdl.training.execution import Execution
from jaxdl.training.features import activation_bytes, compute_features, kept, memory_limit
from jaxdl.training.footprint import check_footprint, may_be_large
from jaxdl.training.inner import divide_inner
from jaxdl.training.labels import label_parameters
from jaxdl.training.lengths import Lengths, lengths_of, may_cut, stored, streamed_batches
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init, Setup, choose_preprocessing, fit_inputs, weighed
from jaxdl.training.step import Shared
from jaxdl.weights.adapt import for_task, variables_for
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
    elsewhere: bool = False,
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
      elsewhere: it will be trained on another machine: the memory of this one is not asked.

    Raises:
      InputError: if plan, model, task and data do not go together.
    """
    preprocessing = preprocessing or choose_preprocessing(init, source, execution.image_size)
    source = preprocessing.align(source)
    preprocessing.check_training(source)
    own = hosts.this_process()
    mine = of_process(source, own)
    task = with_plan(task, plan)
    check_augmentation(plan, task, preprocessing)
    check_whole_batches(plan, task)
    init = for_task(init, task, preprocessing, plan.seed)
    base = init.model if isinstance(init, Checkpoint) else init
    model = base.clone(num_outputs=task.num_outputs, dtype=plan.precision).check(preprocessing.spec())
    streamed, x = hosts.on_first(lambda: execution.why_streamed(source, preprocessing)), None

    def given() -> tuple[Any, ...]:
        """By what the examples in memory differ."""
        return source.fingerprint(), source.columns, preprocessing

    def own_examples() -> Any:
        return own_rows(preprocessing.load(mine), len(source), own)

    parts, inner = [weighed(source, part) for part in parts], None
    if plan.early_stopping:
        divided = [divide_inner(source, task, part, plan.inner_fraction, plan.seed) for part in parts]
        parts, inner = zip(*divided, strict=True)
    restored = isinstance(init, Checkpoint)
    names, spec = model.stage_names, preprocessing.spec()
    variables = _starting_variables(init, model, preprocessing, plan, elsewhere)
    check_division(model, variables, spec, execution.layout)
    begun = label_parameters(plan, model, variables, spec)
    if restored:
        warn_of_rate(plan, model, begun.first_trained)
    # what will lie in parts, for which no device need have room, is on the host until it is placed
    to_device = np.asarray if execution.layout.parts_parameters else jnp.asarray
    trained, frozen = (jax.tree.map(to_device, part) if restored else part for part in (begun.trained, begun.frozen))
    _, body = split_variables(trained, names[-1:])
    stage = model.last_cut(begun.first_trained)
    prefix, rest = split_variables(frozen, names[: names.index(stage)])
    if not elsewhere and may_be_large(preprocessing, plan):
        sizes = dict(trained=trained, start=stage, examples=max(map(len, parts)), kept=0 if streamed else len(source))
        check_footprint(model, preprocessing, plan, **sizes, execution=execution)
    beat("reading the examples", slow=True)
    if not streamed:
        x = kept(execution.store, lambda: ("examples", *given()), own_examples)

    sums = None
    if not preprocessing.fitted:
        sums = stream.measure(mine, preprocessing, workers=execution.workers) if streamed else preprocessing.measure(x)
        sums = hosts.gather_rows(sums, len(source))
    common = preprocessing.fitted or len(parts) == 1  # else each fold's frozen stages see other inputs
    cached = stage != names[0] and common and _may_cache(plan)
    if cached:
        cached = activation_bytes(model, prefix, stage, spec, len(source)) <= memory_limit()
    if cached:
        beat("running the frozen stages", slow=True)
        constants = preprocessing.constants if sums is None else fit_inputs(preprocessing, sums, source, parts[0])
        size = plan.batch_size if execution.store is None else execution.store.batch_size
        if streamed:
            parts_of = partial(streamed_batches, mine, preprocessing, size, execution.workers)
        else:  # what each of several processes makes of its rows has the same form
            parts_of = partial(stored, model if own.count == 1 else None, x, size)

        def features() -> Any:
            with hosts.alone():  # each process runs its own rows through the frozen stages
                layout = execution.layout if own.count == 1 else Layout()
                made = compute_features(model, prefix, stage, parts_of(), len(mine), preprocessing, constants, layout)
            return own_rows(made, len(source), own)

        x = kept(
            execution.store,
            lambda: (fingerprint(prefix), key_of(model), stage, *given(), _bytes_of(constants)),
            features,
        )
        beat("placing what the frozen stages made", slow=True)
        streamed = None  # the activations are in memory: the examples are not needed any more
    lies = jnp.asarray if own.count == 1 else np.asarray  # own rows wait on the host until they are placed
    shared = Shared(
        x=jax.tree.map(lies, x),
        y=None if streamed else jax.tree.map(lies, own_rows(task.device_targets(mine.targets()), len(source), own)),
        frozen=join_variables(rest, _tied(model, prefix, stage)) if cached else frozen,
    )
    lengths = None if streamed else _lengths(model, task, x, source, parts, plan)
    if plan.group_by_length and lengths is None:
        raise InputError(
            "group_by_length is for sequences that are in memory and reach the stages that are trained: leave it out"
        )
    return Setup(
        model=model,
        task=task,
        plan=plan,
        preprocessing=preprocessing,
        source=source,
        parts=parts,
        inner=inner,
        held=begun.held,
        label=begun.label,
        start=stage if cached else None,
        streamed=streamed,
        workers=execution.workers,
        shared=shared,
        frozen=frozen,
        kept=None if not restored else trained if keep_head else body,
        adapter=begun.adapter,
        sums=sums,
        kept_targets=init.card.target_constants() if restored and keep_head else None,
        lengths=lengths,
        layout=execution.layout,
        remat=execution.remat,
    )


def _lengths(
    model: Staged, task: Task, x: Any, source: Source, parts: Sequence[np.ndarray], plan: Plan
) -> Lengths | None:
    """At which lengths batches of the examples (of several processes each has its own) are computed."""
    each = lengths_of(model, x)
    if each is None or not may_cut(model, task):
        return None
    steps = steps_per_epoch([len(part) for part in parts], plan.batch_size)
    return Lengths.of(hosts.gather_rows(each, len(source)), x, steps)


def of_process(source: Source, own: Process) -> Source:
    """The examples that a process holds and reads: all of them where there is one, else at least one."""
    if own.count == 1:
        return source
    indices = own.within(len(source))
    return subset(source, indices if len(indices) else [0])  # of fewer examples than devices: one that is never used


def own_rows(tree: Any, count: int, own: Process) -> Any:
    """Arrays of the rows of `of_process`, with zeros up to the same number on all processes; of all rows, `count`."""
    if own.count == 1:
        return tree
    rows = own.rows(count)
    return jax.tree.map(lambda array: hosts.padded(array, rows.stop - rows.start), tree)


def with_plan(task: Task, plan: Plan) -> Task:
    """The task with the options that the plan sets. Raises InputError for one that the task does not have."""
    return task.with_options(
        label_smoothing=plan.label_smoothing, class_weights=plan.class_weights, loss_function=plan.loss_function
    )


def warn_of_rate(plan: Plan, model: Staged, first_trained: str) -> None:
    """Warns of a learning rate at which the stages of a pretrained body soon lose what they know."""
    names = model.stage_names
    body = names[names.index(first_trained) : -1]
    highest = max((plan.learning_rate * plan.stage_lr.get(name, 1.0) for name in body), default=0.0)
    of_kernels = plan.train == "all" and plan.adapter is None and plan.optimizer in ("adam", "adamw")
    if of_kernels and highest > model.HIGHEST_RATE:
        warnings.warn(
            f"the learning rate {highest:g} is high for stages of a pretrained {type(model).__name__}: it is likely to "
            "lose what it knows. Try --learning-rate 5e-5 (from Python Plan(learning_rate=5e-5)), or leave its stages "
            "as they are with --freeze-through body",
            stacklevel=3,
        )


def check_augmentation(plan: Plan, task: Task, preprocessing: Preprocessing) -> None:
    """Raises InputError for an augmentation that does not go with the examples or with what is asked of them."""
    augmentation = augment.make_augmentation(plan.augment)
    preprocessing.check_augmentation(augmentation)
    mixing = [name for name, _ in augmentation.operations if name in augment.MIXES]
    if mixing and not task.mixes:
        raise InputError(f"augment names {', '.join(mixing)}, but targets of {task.name} cannot be mixed; leave it out")


def check_whole_batches(plan: Plan, task: Task) -> None:
    """Raises InputError where a batch would be computed in parts of which the task must see all."""
    if task.SEES_BATCH and plan.accumulate > 1:
        raise InputError(
            f"accumulate is {plan.accumulate}, but {task.name} compares the examples of a batch with one another, and "
            "parts of it would not see all: leave it out, or take a smaller batch_size"
        )


def _starting_variables(
    init: Init, model: Staged, preprocessing: Preprocessing, plan: Plan, elsewhere: bool
) -> Variables:
    """The checkpoint's, or fresh ones of all stages: their shapes alone where none are frozen."""
    if isinstance(init, Checkpoint):
        return variables_for(init, preprocessing)
    spec = preprocessing.spec()  # both check that the model can take such data
    if plan.freezes:
        return init_variables(model, jax.random.key(plan.seed), spec)
    shapes = variable_shapes(model, spec)
    if not elsewhere:
        check_memory(model, shapes)  # each training makes its own
    return shapes


def _tied(model: Staged, prefix: Variables, stage: str) -> Variables:
    """Of the stages before `stage` what it, or a later one, reads of their parameters."""
    names = model.stage_names
    paths = tied_paths(model, names[names.index(stage) :])
    return {"params": partition(prefix["params"], lambda path, _: path in paths)[0], "batch_stats": {}}


def _may_cache(plan: Plan) -> bool:
    """Whether the plan lets frozen stages run over the data once: nothing random is in front of them."""
    return plan.cache_features and not augment.make_augmentation(plan.augment).operations


def _bytes_of(constants: Constants) -> tuple[Any, ...]:
    return tuple((name, np.asarray(constants[name]).tobytes()) for name in sorted(constants))
