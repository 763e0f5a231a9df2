"""Pretrain, fine-tune: the calls that a user makes."""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from jaxdl.checks import check_arguments, check_type
from jaxdl.data.content import hash_indices
from jaxdl.data.source import Source, arrange_columns, check_source, describe_content, subset
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import beat, on_first
from jaxdl.shown import Shown
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import Feeds, make_feeds
from jaxdl.training.loop import Fitted, Record, Selection, Training, fit
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.progress import Diverged, resumed
from jaxdl.training.resume import DRAWS, Saves
from jaxdl.training.runners import Runner, draws_at_random, make_runner
from jaxdl.training.setup import Init, Setup, choose_preprocessing
from jaxdl.training.step import State
from jaxdl.training.traced_hyperparameters import traced_hyperparameters
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint, environment, fingerprint, save

LAST_GOOD = "last-good"  # the checkpoint that is left of a training whose numbers stopped being finite


@check_arguments
def pretrain(model: Staged, source: Source, plan: Plan, **options: Any) -> Checkpoint:
    """Trains a model from scratch; options and result as `finetune`."""
    return finetune(model, source, plan, **options)


def finetune(init: Init, source: Source, plan: Plan, **options: Any) -> Checkpoint:
    """Trains a checkpoint (or a fresh model) on all of `source`: `train` without its best epoch.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how.
      **options: those of `train`, such as ``validation=`` and ``execution=``.
    """
    return train(init, source, plan, **options).checkpoint


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Trained(Shown):
    """What `train` gives.

    Attributes:
      checkpoint: after the last epoch; under early stopping of the best one.
      best: of the best epoch on the examples that were measured on: the inner part under early stopping, else
        `validation`. None without either. Its score is the best of many, and so a little too good.
      best_epoch: which one that was, from 1.
    """

    checkpoint: Checkpoint
    best: Checkpoint | None
    best_epoch: int | None

    def _facts(self) -> dict[str, Any]:
        return {"best epoch": self.best_epoch, **self.checkpoint._facts()}


@watched
def train(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    task: Task | str | None = None,
    metrics: Metrics = None,
    validation: Source | None = None,
    head: str = "auto",
    execution: Execution = Execution(),  # noqa: B008
) -> Trained:
    """Trains a checkpoint (or a fresh model) on all of `source`.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how.
      task: what is asked of the examples; by default what their targets look like. See `tasks.choose_task`.
      metrics: by what it is scored; the first chooses the best epoch, which otherwise the loss does.
      validation: examples of the same kind, on which the curves are measured; only `Trained.best` is chosen by them.
      head: ``"fresh"``, ``"keep"`` (only for the same task), or ``"auto"``: keep if the task is the same.
      execution: how the run is executed.

    Returns:
      Checkpoints whose history has a row per epoch: ``epoch, step`` (taken so far), ``learning_rate`` (of the epoch's
      first step), ``train_loss``, the task's scores such as ``train_accuracy``, ``grad_norm, stage_grad_norms`` and
      with `validation` ``test_loss``, ``test_accuracy`` and their like.

    Raises:
      InputError: if plan, model, task and data do not go together, or the numbers stop being finite.
      Interrupted: see `resume.RunFolder`.
    """
    for name, value, expected in (("init", init, Init), ("plan", plan, Plan), ("execution", execution, Execution)):
        check_type(name, value, expected)  # here, not around it: the way to the step is short
    check_source(source)
    asked = choose_task(source, task, metrics, purpose="training")
    check_choice("head", head, ("auto", "fresh", "keep"))
    source = arrange_columns(source, init.card) if isinstance(init, Checkpoint) else source
    validation = None if validation is None else arrange_columns(validation, source)
    keep = keeps_head(init, asked, source, head)
    both, train_part, held_out = _with_validation(asked, source, validation)
    work = execution.work
    beat("hashing the examples", slow=True)
    if work:
        call = {"call": "finetune", "head": head, "image_size": execution.image_size}
        work.claim(call | describe_run(init, both, plan, asked, execution) | {"held_out": len(held_out)}, environment())
    preprocessing = choose_preprocessing(init, source, execution.image_size)  # not by the validation part
    setup = prepare(
        init,
        both,
        plan,
        [train_part],
        asked,
        execution.remembering(),
        preprocessing=preprocessing,
        keep_head=keep,
    )
    # its numbers are values of the program: the next training with others compiles nothing
    numbers = traced_hyperparameters(plan, plan.stage_lr)
    if not plan.label_smoothing:  # without it the loss is another
        numbers = numbers.replace(label_smoothing=None)
    setup = dataclasses.replace(setup, numbers={0: numbers})
    execution.remember(bool(setup.streamed))

    def on_epoch(epoch: int, metrics: dict[str, Any], record: Record | None, stopped: np.ndarray) -> list[Any]:
        found = None if record is None else setup.record_of(of_run(record, 0, len(held_out)), held_out)
        row = history_row(setup, epoch, of_run(metrics, 0), found)
        execution.tell(row)
        return [row]

    saves = work.part("training") if work else None
    execution.expect(setup.steps * plan.epochs)
    runs = [setup.run(0)]
    begin, runner_of = partial(setup.states, runs), cache(partial(runner_on, setup.layout.executor(), setup))
    with contextlib.closing(make_feeds(setup, runs, [held_out] if len(held_out) else None)) as feeds:
        selection = inner_selection(setup, feeds, [0])
        if selection is None and len(held_out):
            selection = Selection(None, loss_on(setup, [held_out]), None)
        training = Training(
            lambda epoch: runner_of(held_in(setup, epoch)),
            plan.epochs,
            setup.model.stage_names,
            feeds.train,
            on_epoch,
            feeds.held_out if len(held_out) else None,
            plan.eval_every,
            selection,
            saves,
            execution.on_steps,
        )
        try:
            fitted = fit(training, begin)
        except Diverged as error:
            kept = _save_last_good(setup, init, begin, execution, saves)
            raise Diverged(f"{error}. {kept}") from error
    return _trained(setup, init, fitted, held_out)


def of_run(tree: Any, place: int, rows: int | None = None) -> Any:
    """One run's part of arrays that have the runs as first axis; of its rows the first ones, which are no padding."""
    return jax.tree.map(lambda array: array[place] if rows is None else array[place, :rows], tree)


def _save_last_good(
    setup: Setup, init: Init, begin: Callable[[], State], execution: Execution, saves: Saves | None
) -> str:
    """Makes a checkpoint of the newest save, beside it; says where."""
    found = resumed(saves, begin)
    if saves:
        saves.close()
    if found is None or int(found[1].step[0]) == 0:
        return "Nothing is kept of this training"
    progress, state = found
    work, checkpoint = execution.work, trained_checkpoint(setup, init, of_run(state, 0), 0, tuple(progress.rows))
    on_first(lambda: work.place_folder(save(checkpoint, work.fresh(LAST_GOOD)), LAST_GOOD))
    return f"The last good state, after step {int(state.step[0])}, is the checkpoint '{work.path / LAST_GOOD}'"


def _trained(setup: Setup, init: Init, fitted: Fitted, held_out: np.ndarray) -> Trained:
    def checkpoint(state: State, chosen_by: np.ndarray) -> Checkpoint:
        return trained_checkpoint(setup, init, of_run(state, 0), 0, tuple(fitted.rows), chosen_by)

    last = checkpoint(fitted.chosen, held_out[:0])
    if fitted.best is None:
        return Trained(last, None, None)
    chosen_by = held_out if setup.inner is None else held_out[:0]
    return Trained(last, checkpoint(fitted.best, chosen_by), int(fitted.best_epoch[0]) + 1)


def runner_on(executor: Executor, setup: Setup, held: int | None = None) -> Runner:
    """The programs of trainings. `held` is the number of frozen stages, by default that of the last epoch."""
    return make_runner(executor, setup.recipe(held), setup.scan)


def held_in(setup: Setup, epoch: int) -> int:
    """Number of frozen stages in an epoch, or after the last one."""
    return setup.held[min(epoch, len(setup.held) - 1)]


def inner_selection(setup: Setup, feeds: Feeds, folds: Sequence[int]) -> Selection | None:
    """Early stopping of runs on the inner parts of their `folds`; None if the plan has none."""
    if setup.inner is None:
        return None
    loss = loss_on(setup, [setup.inner[fold] for fold in folds])
    return Selection(feeds.inner, loss, setup.plan.early_stopping)


def loss_on(setup: Setup, parts: Sequence[np.ndarray]) -> Callable[[Record], np.ndarray]:
    """What a best epoch is chosen by, from the records of `parts`, of a run each; see `Selection.loss`."""
    metric = setup.task.chooses_by

    def loss(record: Record) -> np.ndarray:
        found = [setup.record_of(of_run(record, place, len(part)), part) for place, part in enumerate(parts)]
        scores = [metric.score(one) for one in found]
        return -metric.sign * np.array(scores)

    return loss


def describe_run(init: Init, source: Source, plan: Plan, task: Task, execution: Execution) -> dict[str, Any]:
    """What the numbers of a run depend on, as plain values."""
    restored = isinstance(init, Checkpoint)
    name, arguments = describe(init.model if restored else init)
    return {
        "model": {"name": name, "arguments": arguments},
        "weights": fingerprint(init.variables) if restored else None,
        "data": describe_content(source),
        # by what the best epoch is chosen depends on whether the metric was asked for
        "task": {**task.plain(), "metric": task.metric, "chooses_by": task.chooses_by.name},
        "plan": plan.as_dict(),
        **_prepared_by(init, source),
        **_drawn_by_device(init, source, plan, execution),
    }


def _prepared_by(init: Init, source: Source) -> dict[str, Any]:
    """Of a model without weights, what the source brings that is not in its content, such as a tokenizer, as a hash.

    Of a checkpoint the number of tokens that it reads, which may have been changed.
    """
    if isinstance(init, Checkpoint):
        length = getattr(init.card.preprocessing, "length", None)
        return {} if length is None else {"length": length}
    if source.preprocessing is None:
        return {}
    plain = json.dumps(choose_preprocessing(init, source).plain(), sort_keys=True, default=str)
    return {"preprocessing": hashlib.sha256(plain.encode()).hexdigest()}


def _drawn_by_device(init: Init, source: Source, plan: Plan, execution: Execution) -> dict[str, str]:
    """Under pmap every device draws for its own examples: what is drawn depends on their number. Else nothing."""
    layout = execution.layout
    if layout.parallel != "pmap":
        return {}
    spec = choose_preprocessing(init, source, execution.image_size).spec()
    model = (init.model if isinstance(init, Checkpoint) else init).check(spec)
    if not (plan.augment or draws_at_random(model, spec)):
        return {}
    return {DRAWS: f"by each of {len(layout.chosen())} devices"}


def keeps_head(init: Init, task: Task, source: Source, head: str) -> bool:
    """Whether the checkpoint's head is for the same task, and wanted."""
    had = init.card.task if isinstance(init, Checkpoint) else None
    same = task.same_question(had)
    if head == "keep" and not same:
        raise InputError(
            f"head='keep' needs the task of the checkpoint ({had.describe() if had else 'unknown'}), but {source.name} "
            f"asks for {task.describe()}; use head='fresh'"
        )
    return same and head != "fresh"


def _with_validation(task: Task, source: Source, validation: Source | None) -> tuple[Source, np.ndarray, np.ndarray]:
    """Both sources as one, and the indices of each in it."""
    train = np.arange(len(source))
    if validation is None:
        return source, train, train[:0]
    targets = validation_targets(task, source, validation)
    joined = task.join(source.targets(), targets)
    return source.join(validation, joined), train, np.arange(len(source), len(source) + len(validation))


def validation_targets(task: Task, source: Source, validation: Source) -> Any:
    """Targets of the validation examples as `task` means them. Raises InputError where they are others."""
    if len(check_source(validation)) == 0 or validation.targets() is None:
        raise InputError(f"{validation.name} has no labelled examples; validation needs some")
    if not task.takes(validation.targets(), validation.class_names):
        raise InputError(
            f"{source.name} and {validation.name} differ: the labels of the latter are not of {task.describe()}"
        )
    targets = task.match(validation.targets(), validation.class_names)
    if not task.known(targets).all():
        unknown = sorted(set(validation.class_names) - set(source.class_names))
        missing = ", ".join(sorted(set(source.class_names) - set(validation.class_names))) or "none"
        raise InputError(
            f"the validation data has classes that the training data lacks: {', '.join(unknown)} (and lacks of the "
            f"training data's: {missing}); give a class the same name on both sides"
        )
    return targets


def hold_out(source: Source, fraction: float, seed: int, task: Task | str | None = None) -> tuple[Source, Source]:
    """Divides `source` at random: one to train on, `fraction` of it to measure on.

    Where it has groups they stay whole; else it is divided by the task's strata, such as classes, where there are any.

    Raises:
      InputError: if a part would lack a class, or `fraction` is not between 0 and 1.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    strata = choose_task(source, task, purpose="a validation part").strata(source.targets())
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction}; expected more than 0 and less than 1")
    everything = np.arange(len(source))
    try:
        if source.groups is not None:
            divide = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
            train, held = next(divide.split(everything, groups=source.groups))
            if strata is not None and len(np.unique(strata[train])) < len(np.unique(strata)):
                raise ValueError("with its groups kept whole, a class would have no example to train on")
        else:
            train, held = train_test_split(everything, test_size=fraction, stratify=strata, random_state=seed)
    except ValueError as error:
        least = "" if strata is None or source.groups is not None else _least_fraction(strata, len(source))
        raise InputError(f"{source.name} cannot be divided by {fraction}: {error}{least}") from error
    return subset(source, np.sort(train)), subset(source, np.sort(held))


def _least_fraction(strata: np.ndarray, count: int) -> str:
    """What to hold out where that is too little for an example of each class; nothing if no share helps."""
    values, members = np.unique(strata, return_counts=True)
    return f"; hold out {math.ceil(100 * len(values) / count) / 100:g} or more" if members.min() > 1 else ""


def history_row(setup: Setup, epoch: int, metrics: Mapping[str, Any], record: Record | None) -> dict[str, Any]:
    """One row of a learning curve; `record` is of examples not trained on."""
    scores = {k: v for k, v in metrics.items() if k not in ("grad_norm", "stage_grad_norms", "count")}
    norms = metrics["stage_grad_norms"]
    row = {
        "epoch": epoch + 1,
        "step": (epoch + 1) * setup.steps,
        "learning_rate": setup.rates[epoch],
        **{f"train_{name}": float(value) for name, value in scores.items()},
        "grad_norm": float(metrics["grad_norm"]),
        "stage_grad_norms": {stage: float(norms[stage]) for stage in setup.model.stage_names if stage in norms},
    }
    if record is not None:
        row |= {f"test_{name}": value for name, value in setup.task.evaluate_record(record).items()}
    return row


def trained_checkpoint(
    setup: Setup,
    init: Init,
    state: State,
    fold: int,
    history: tuple[Mapping[str, Any], ...],
    chosen_by: np.ndarray | None = None,
) -> Checkpoint:
    """A checkpoint of a finished run, with all that was decided for it on its card.

    Args:
      setup: of the run.
      init: what it started from.
      state: of the run, without an axis of runs.
      fold: whose training part it learned from.
      history: rows of its learning curve.
      chosen_by: examples outside the training part by which its epoch was chosen.
    """
    constants = setup.target_constants(fold)
    before = init.card if isinstance(init, Checkpoint) else None
    card = Card(
        setup.preprocessing.with_constants(setup.input_constants(fold)),
        setup.task,
        parent=None if before is None else init.path or before.parent,
        data=setup.source.name,
        split=hash_indices([setup.parts[fold]]),
        plan=setup.plan.as_dict(),
        source=None if before is None else before.source,
        targets={name: tuple(map(float, constants[name])) for name in setup.task.KEPT if name in constants},
        columns=setup.source.columns,
        target=setup.source.target,
        trained_on=None if before is None else before.trained_on,
    )
    shaped_by = [setup.parts[fold], *([] if setup.inner is None else [setup.inner[fold]])]
    shaped_by += [] if chosen_by is None else [chosen_by]
    card = card.with_seen(setup.source.hashes()[np.concatenate(shaped_by)])
    variables = jax.tree.map(np.asarray, setup.variables(state))
    return Checkpoint(setup.model, variables, card, history)
