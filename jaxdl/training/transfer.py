"""Pretrain, fine-tune, predict: the calls that a user makes."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data.source import Source, arrange_columns, check_labelled, columns_of, concatenate, subset
from jaxdl.data.split_hash import hash_indices, hash_source
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.models.staged import Staged
from jaxdl.training.feeds import Feeds, make_feeds
from jaxdl.training.loop import Fitted, Selection, fit
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.progress import Diverged, pick_up
from jaxdl.training.resume import RunFolder, Saves
from jaxdl.training.runners import Runner, data_parallel_runner
from jaxdl.training.setup import Init, Setup, choose_preprocessing
from jaxdl.training.step import State
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint, environment, fingerprint, save

LAST_GOOD = "last-good"  # the checkpoint that is left of a training whose numbers stopped being finite

Progress = Callable[[Mapping[str, Any]], None]


def pretrain(model: Staged, source: Source, plan: Plan, **options: Any) -> Checkpoint:
    """Trains a model from scratch; options and result as `finetune`."""
    if not isinstance(model, Staged):
        raise InputError(f"pretrain takes a model from jaxdl.create, got {type(model).__name__}")
    return finetune(model, source, plan, **options)


def finetune(init: Init, source: Source, plan: Plan, **options: Any) -> Checkpoint:
    """Trains a checkpoint (or a fresh model) on all of `source`: `train` without its best epoch.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how.
      **options: those of `train`, such as ``validation=`` and ``work=``.
    """
    return train(init, source, plan, **options).checkpoint


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What `train` gives.

    Attributes:
      checkpoint: after the last epoch; under early stopping of the best one.
      best: of the epoch with the smallest loss on the examples that were measured on: the inner part under early
        stopping, else `validation`. None without either. Its loss is the smallest of many, and so a little too good.
      best_epoch: which one that was, from 1.
    """

    checkpoint: Checkpoint
    best: Checkpoint | None
    best_epoch: int | None


def train(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    validation: Source | None = None,
    head: str = "auto",
    image_size: int | None = None,
    progress: Progress | None = None,
    on_steps: Callable[[int], None] | None = None,
    streaming: bool | None = None,
    workers: int = 2,
    work: str | Path | RunFolder | None = None,
) -> Trained:
    """Trains a checkpoint (or a fresh model) on all of `source`.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how.
      validation: examples of the same classes, on which the curves are measured; only `Trained.best` is chosen by them.
      head: ``"fresh"``, ``"keep"`` (only for the same classes), or ``"auto"``: keep if the classes are the same.
      image_size: see `setup.choose_preprocessing`.
      progress: told each row of the history.
      on_steps: told how many steps were just taken.
      streaming: see `prepare`, as `workers`.
      workers: processes that decode what is streamed.
      work: folder where the state of the training is kept. The same call goes on from there after an interruption, and
        ends with the very numbers of a call that was never interrupted.

    Returns:
      Checkpoints whose history has a row per epoch: ``epoch, step`` (taken so far), ``learning_rate`` (of the epoch's
      first step), ``train_loss, train_accuracy, grad_norm, stage_grad_norms`` and with `validation` ``test_loss,
      test_accuracy``.

    Raises:
      InputError: if plan, model and data do not go together, or the numbers stop being finite.
      Interrupted: see `resume.RunFolder`.
    """
    check_labelled(source, purpose="training")
    check_choice("head", head, ("auto", "fresh", "keep"))
    columns = init.card.columns if isinstance(init, Checkpoint) else columns_of(source)
    source = arrange_columns(source, columns)
    validation = None if validation is None else arrange_columns(validation, columns)
    keep = _keeps_head(init, source, head)
    both, train_part, held_out = _with_validation(source, validation)
    work = RunFolder(work) if isinstance(work, str | Path) else work
    if work:
        settings = {"call": "finetune", "head": head, "image_size": image_size, **describe_run(init, both, plan)}
        work.claim(settings | {"held_out": len(held_out)}, environment())
    preprocessing = choose_preprocessing(init, source, image_size)  # the validation examples have no say in it
    setup = prepare(
        init,
        both,
        plan,
        [train_part],
        preprocessing=preprocessing,
        keep_head=keep,
        streaming=remembered_streaming(work, streaming),
        workers=workers,
    )
    remember_streaming(work, setup)

    def on_epoch(epoch: int, metrics: dict[str, Any], logits: np.ndarray | None, stopped: np.ndarray) -> list[Any]:
        evaluated = None if logits is None else (logits[: len(held_out)], setup.labels[held_out])
        row = history_row(setup, epoch, metrics, evaluated)
        if progress:
            progress(row)
        return [row]

    saves = work.part("training") if work else None
    begin = setup.initial_states([0])[0]
    with contextlib.closing(make_feeds(setup, 0, held_out if len(held_out) else None)) as feeds:
        selection = inner_selection(setup, feeds, [0], stacked=False)
        if selection is None and len(held_out):
            selection = Selection(None, loss_on(setup, [held_out], stacked=False), None)
        try:
            fitted = fit(
                runner_by_epoch(setup, partial(make_runner, setup)),
                begin,
                epochs=plan.epochs,
                stages=setup.model.stage_names,
                train=feeds.train,
                held_out=feeds.held_out if len(held_out) else None,
                eval_every=plan.eval_every,
                on_epoch=on_epoch,
                selection=selection,
                saves=saves,
                on_steps=on_steps,
            )
        except Diverged as error:
            kept = _save_last_good(setup, init, source.name, begin, work, saves)
            raise Diverged(f"{error}. {kept}") from error
    return _trained(setup, init, source.name, fitted, held_out)


def _save_last_good(
    setup: Setup, init: Init, data: str, begin: State, work: RunFolder | None, saves: Saves | None
) -> str:
    """Makes a checkpoint of the newest save, beside it; says where."""
    progress, state = pick_up(saves, begin)
    if saves:
        saves.close()
    if state.step == 0:
        return "Nothing is kept of this training"
    made = save(trained_checkpoint(setup, init, state, 0, data, tuple(progress.rows)), work.fresh(LAST_GOOD))
    work.place_folder(made, LAST_GOOD)
    return f"The last good state, after step {int(state.step)}, is the checkpoint '{work.path / LAST_GOOD}'"


def _trained(setup: Setup, init: Init, data: str, fitted: Fitted, held_out: np.ndarray) -> Trained:
    def checkpoint(state: State, chosen_by: np.ndarray) -> Checkpoint:
        return trained_checkpoint(setup, init, state, 0, data, tuple(fitted.rows), chosen_by)

    last = checkpoint(fitted.chosen, held_out[:0])
    if fitted.best is None:
        return Trained(last, None, None)
    chosen_by = held_out if setup.inner is None else held_out[:0]
    return Trained(last, checkpoint(fitted.best, chosen_by), int(fitted.best_epoch) + 1)


def make_runner(setup: Setup, held: int | None = None) -> Runner:
    """The runner of one training, which divides its batches over the devices.

    `held` is the number of frozen stages, by default that of the last epoch.
    """
    step = partial(setup.make_step, held=held)
    return data_parallel_runner(setup.plan.parallel, step, setup.make_predict(), setup.scan, jax.local_devices())


def runner_by_epoch(setup: Setup, make: Callable[[int], Runner]) -> Callable[[int], Runner]:
    """The runner of an epoch: one for each number of frozen stages, made when it is first asked for."""
    made = cache(make)
    return lambda epoch: made(setup.held[min(epoch, len(setup.held) - 1)])


def inner_selection(setup: Setup, feeds: Feeds, folds: list[int], *, stacked: bool) -> Selection | None:
    """Early stopping of `folds` on their inner parts; None if the plan has none."""
    if setup.inner is None:
        return None

    loss = loss_on(setup, [setup.inner[fold] for fold in folds], stacked=stacked)
    return Selection(feeds.inner, loss, setup.plan.early_stopping)


def loss_on(setup: Setup, parts: Sequence[np.ndarray], *, stacked: bool) -> Callable[[np.ndarray], np.ndarray]:
    """The mean loss on `parts`, of a fold each, from their outputs with the padding; see `Selection.loss`."""

    def loss(logits: np.ndarray) -> np.ndarray:
        each = logits if stacked else logits[None]
        made = [
            setup.task.evaluate(mine[: len(part)], setup.labels[part])["loss"]
            for mine, part in zip(each, parts, strict=True)
        ]
        return np.array(made if stacked else made[0])

    return loss


def describe_run(init: Init, source: Source, plan: Plan) -> dict[str, Any]:
    """What the numbers of a run depend on, as plain values."""
    restored = isinstance(init, Checkpoint)
    name, arguments = describe(init.model if restored else init)
    return {
        "model": {"name": name, "arguments": arguments},
        "weights": fingerprint(init.variables) if restored else None,
        "data": {"name": source.name, "examples": len(source), "sha256": hash_source(source)},
        "plan": plan.as_dict(),
    }


def remembered_streaming(work: RunFolder | None, streaming: bool | None) -> bool | None:
    """As at the first start: what fits in memory may differ from hour to hour."""
    known = work.recall("streaming") if work else None
    return streaming if known is None else known


def remember_streaming(work: RunFolder | None, setup: Setup) -> None:
    """See `remembered_streaming`."""
    if work and work.recall("streaming") is None:
        work.note("streaming", bool(setup.streamed))


def _keeps_head(init: Init, source: Source, head: str) -> bool:
    """Whether the checkpoint's head is for the same task, and wanted."""
    if not isinstance(init, Checkpoint):
        same, had = False, ()
    else:
        had = init.card.class_names
        same = had == source.class_names and bool(had or init.card.scaling)
    if head == "keep" and not same:
        raise InputError(
            f"head='keep' needs the checkpoint's classes ({', '.join(had) or 'none'}), but {source.name} has "
            f"{', '.join(source.class_names) or 'numbers'}; use head='fresh'"
        )
    return same and head != "fresh"


def _with_validation(source: Source, validation: Source | None) -> tuple[Source, np.ndarray, np.ndarray]:
    """Both sources as one, and the indices of each in it."""
    train = np.arange(len(source))
    if validation is None:
        return source, train, train[:0]
    check_labelled(validation, purpose="validation")
    if bool(validation.class_names) != bool(source.class_names):
        raise InputError(f"{source.name} and {validation.name} differ: one has classes, the other numbers")
    if unknown := set(validation.class_names) - set(source.class_names):
        missing = ", ".join(sorted(set(source.class_names) - set(validation.class_names))) or "none"
        raise InputError(
            f"the validation data has classes that the training data lacks: {', '.join(sorted(unknown))} (and lacks of "
            f"the training data's: {missing}); give a class the same name on both sides"
        )
    if source.class_names:
        places = np.array([source.class_names.index(c) for c in validation.class_names])
        labels = np.concatenate([source.labels, places[validation.labels]]).astype(np.int32)
    else:
        labels = np.concatenate([source.labels, validation.labels]).astype(np.float32)
    return concatenate(source, validation, labels), train, np.arange(len(source), len(labels))


def hold_out(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """Divides `source` at random: one to train on, `fraction` of it to measure on.

    Where it has groups they stay whole; else it is divided by class where there are any.

    Raises:
      InputError: if a part would lack a class, or `fraction` is not between 0 and 1.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    check_labelled(source, purpose="a validation part")
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction}; expected more than 0 and less than 1")
    everything, classes = np.arange(len(source)), source.labels if source.class_names else None
    try:
        if source.groups is not None:
            divide = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
            train, held = next(divide.split(everything, groups=source.groups))
            if classes is not None and len(np.unique(classes[train])) < len(np.unique(classes)):
                raise ValueError("with its groups kept whole, a class would have no example to train on")
        else:
            train, held = train_test_split(everything, test_size=fraction, stratify=classes, random_state=seed)
    except ValueError as error:
        raise InputError(f"{source.name} cannot be divided by {fraction}: {error}") from error
    return subset(source, np.sort(train)), subset(source, np.sort(held))


def history_row(
    setup: Setup, epoch: int, metrics: Mapping[str, Any], evaluated: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """One row of a learning curve; `evaluated` holds logits and labels of examples not trained on."""
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
    if evaluated is not None:
        row |= {f"test_{name}": value for name, value in setup.task.evaluate(*evaluated).items()}
    return row


def trained_checkpoint(
    setup: Setup,
    init: Init,
    state: State,
    fold: int,
    data: str,
    history: tuple[Mapping[str, Any], ...],
    chosen_by: np.ndarray | None = None,
) -> Checkpoint:
    """A checkpoint of a finished run, with all that was decided for it on its card.

    `chosen_by` are examples outside the training part by which its epoch was chosen.
    """
    mean, std = setup.normalisation(fold)
    preprocessing = dataclasses.replace(setup.preprocessing, mean=tuple(map(float, mean)), std=tuple(map(float, std)))
    scaling = setup.target_scaling(fold)
    card = Card(
        preprocessing,
        tuple(setup.source.class_names),
        parent=(init.path or init.card.parent) if isinstance(init, Checkpoint) else None,
        data=data,
        split=hash_indices([setup.parts[fold]]),
        plan=setup.plan.as_dict(),
        source=init.card.source if isinstance(init, Checkpoint) else None,
        scaling=None if scaling is None else tuple(map(float, scaling)),
        columns=columns_of(setup.source),
        trained_on=init.card.trained_on if isinstance(init, Checkpoint) else None,
    )
    shaped_by = [setup.parts[fold], *([] if setup.inner is None else [setup.inner[fold]])]
    shaped_by += [] if chosen_by is None else [chosen_by]
    card = card.with_seen(setup.content[np.concatenate(shaped_by)])
    variables = jax.tree.map(np.asarray, setup.variables(state))
    return Checkpoint(setup.model, variables, card, history)
