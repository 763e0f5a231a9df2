"""Pretrain, fine-tune, predict: the calls that a user makes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.batches import evaluation_batches, training_batches
from jaxdl.data.preprocessing import normalise, to_memory
from jaxdl.data.source import Source, check_labelled, concatenate, subset
from jaxdl.data.split_hash import hash_indices
from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Staged
from jaxdl.tasks.classification import probabilities
from jaxdl.training.loop import data_parallel_runner, fit, one_batch
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init, Setup, choose_preprocessing, prepare
from jaxdl.weights.checkpoint import Card, Checkpoint

Progress = Callable[[Mapping[str, Any]], None]


def pretrain(
    model: Staged,
    source: Source,
    plan: Plan,
    *,
    validation: Source | None = None,
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Trains a model from scratch; arguments and result as `finetune`."""
    if not isinstance(model, Staged):
        raise InputError(f"pretrain takes a model from jaxdl.create, got {type(model).__name__}")
    return finetune(model, source, plan, validation=validation, image_size=image_size, progress=progress)


def finetune(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    validation: Source | None = None,
    head: str = "auto",
    image_size: int | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Trains a checkpoint (or a fresh model) on all of `source`.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how.
      validation: examples of the same classes, on which the curves are measured after each epoch; nothing is chosen by
        them.
      head: ``"fresh"``, ``"keep"`` (only for the same classes), or ``"auto"``: keep if the classes are the same.
      image_size: see `setup.prepare`.
      progress: told each row of the history.

    Returns:
      A checkpoint whose history has a row per epoch: ``epoch, step`` (taken so far), ``learning_rate`` (of the epoch's
      first step), ``train_loss, train_accuracy, grad_norm`` and with `validation` ``test_loss, test_accuracy``.

    Raises:
      InputError: if plan, model and data do not go together.
    """
    check_labelled(source, purpose="training")
    check_choice("head", head, ("auto", "fresh", "keep"))
    same = isinstance(init, Checkpoint) and bool(init.card.class_names) and init.card.class_names == source.class_names
    if head == "keep" and not same:
        had = init.card.class_names if isinstance(init, Checkpoint) else ()
        raise InputError(
            f"head='keep' needs the checkpoint's classes ({', '.join(had) or 'none'}), but {source.name} has "
            f"{', '.join(source.class_names)}; use head='fresh'"
        )
    both, train, held_out = _with_validation(source, validation)
    preprocessing = choose_preprocessing(init, source, image_size)  # the validation examples have no say in it
    keep = same and head != "fresh"
    setup = prepare(init, both, plan, [train], preprocessing=preprocessing, keep_head=keep)
    runner = data_parallel_runner(plan.parallel, setup.make_step, setup.make_predict(), setup.scan, jax.local_devices())
    history: list[dict[str, Any]] = []

    def on_epoch(epoch: int, metrics: dict[str, np.ndarray], logits: np.ndarray | None) -> None:
        evaluated = None if logits is None else (logits[: len(held_out)], setup.data.labels[held_out])
        history.append(history_row(setup, epoch, metrics, evaluated))
        if progress:
            progress(history[-1])

    state = fit(
        runner,
        setup.initial_states([0])[0],
        setup.shared,
        epochs=plan.epochs,
        train_batches=lambda epoch: one_batch(training_batches([train], plan.batch_size, plan.seed, [0], epoch)[0]),
        eval_batches=one_batch(evaluation_batches([held_out], plan.batch_size, [0])[0]) if len(held_out) else None,
        on_epoch=on_epoch,
    )
    return trained_checkpoint(setup, init, state, 0, source.name, tuple(history))


def _with_validation(source: Source, validation: Source | None) -> tuple[Source, np.ndarray, np.ndarray]:
    """Both sources as one, and the indices of each in it."""
    train = np.arange(len(source))
    if validation is None:
        return source, train, train[:0]
    check_labelled(validation, purpose="validation")
    if unknown := set(validation.class_names) - set(source.class_names):
        raise InputError(f"the validation data has classes that the training data lacks: {', '.join(sorted(unknown))}")
    places = np.array([source.class_names.index(c) for c in validation.class_names])
    labels = np.concatenate([source.labels, places[validation.labels]]).astype(np.int32)
    return concatenate(source, validation, labels), train, np.arange(len(source), len(labels))


def hold_out(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """Divides `source` at random, by class, into one to train on and `fraction` of it to measure on.

    Raises:
      InputError: if a part would lack a class, or `fraction` is not between 0 and 1.
    """
    from sklearn.model_selection import train_test_split

    check_labelled(source, purpose="a validation part")
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction}; expected more than 0 and less than 1")
    try:
        train, held = train_test_split(
            np.arange(len(source)), test_size=fraction, stratify=source.labels, random_state=seed
        )
    except ValueError as error:
        raise InputError(f"{source.name} cannot be divided by {fraction}: {error}") from error
    return subset(source, np.sort(train)), subset(source, np.sort(held))


def history_row(
    setup: Setup, epoch: int, metrics: Mapping[str, Any], evaluated: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """One row of a learning curve; `evaluated` holds logits and labels of examples not trained on."""
    row = {
        "epoch": epoch + 1,
        "step": (epoch + 1) * setup.steps,
        "learning_rate": setup.rates[epoch],
        "train_loss": float(metrics["loss"]),
        "train_accuracy": float(metrics["accuracy"]),
        "grad_norm": float(metrics["grad_norm"]),
    }
    if evaluated is not None:
        measured = setup.task.evaluate(*evaluated)
        row |= {"test_loss": measured["loss"], "test_accuracy": measured["accuracy"]}
    return row


def trained_checkpoint(
    setup: Setup, init: Init, state: Any, fold: int, data: str, history: tuple[Mapping[str, Any], ...]
) -> Checkpoint:
    """A checkpoint of a finished run, with all that was decided for it on its card."""
    mean, std = setup.normalisation(fold)
    preprocessing = dataclasses.replace(setup.preprocessing, mean=tuple(map(float, mean)), std=tuple(map(float, std)))
    card = Card(
        preprocessing,
        tuple(setup.data.class_names),
        parent=(init.path or init.card.parent) if isinstance(init, Checkpoint) else None,
        data=data,
        split=hash_indices([setup.parts[fold]]),
        plan=setup.plan.as_dict(),
        source=init.card.source if isinstance(init, Checkpoint) else None,
    )
    variables = jax.tree.map(np.asarray, setup.variables(state))
    return Checkpoint(setup.model, variables, card, history)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a checkpoint says of each example.

    Attributes:
      logits: float32[n, classes].
      class_names: of the columns.
      labels: the true class as a column of `logits`, -1 where it is unknown to the checkpoint; None if not given.
      names: of the examples, or None.
    """

    logits: np.ndarray
    class_names: tuple[str, ...]
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, ``[n, classes]``."""
        return probabilities(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each example."""
        return self.logits.argmax(-1)

    @property
    def accuracy(self) -> float | None:
        """Share predicted right; None without labels."""
        return None if self.labels is None else float((self.predicted == self.labels).mean())


def predict(checkpoint: Checkpoint, source: Source, *, batch_size: int = 64) -> Predictions:
    """Logits of every example of `source`.

    Args:
      checkpoint: a trained network; its card says how to prepare the examples.
      source: with or without labels; labels are matched to the checkpoint's classes by name.
      batch_size: examples at a time.

    Raises:
      InputError: if the examples are of another kind or shape than the network takes.
    """
    preprocessing = checkpoint.card.preprocessing
    if not preprocessing.fitted:
        raise InputError("the checkpoint was never trained: its card has no mean and std")
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples")
    data = to_memory(source, preprocessing)
    mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)

    @jax.jit
    def run(variables: Any, x: jax.Array) -> jax.Array:
        return checkpoint.model.apply(variables, normalise(x, mean, std)).astype("float32")

    batches = evaluation_batches([np.arange(len(data))], batch_size, [0])[0]
    variables = jax.tree.map(jnp.asarray, checkpoint.variables)  # to the device once
    made = [np.asarray(run(variables, data.x[rows])) for rows in batches.indices]
    known = checkpoint.card.class_names or tuple(str(i) for i in range(checkpoint.model.num_outputs))
    labels = None
    if data.labels is not None and data.class_names:
        places = np.array([known.index(c) if c in known else -1 for c in data.class_names])
        labels = places[data.labels]
    names = None if data.names is None else tuple(data.names)
    return Predictions(np.concatenate(made)[: len(data)], known, labels, names)
