"""``jaxdl pretrain`` and ``jaxdl finetune``."""

from pathlib import Path
from typing import Literal

from jaxdl import data as sources
from jaxdl.cli_options import (
    AllowOption,
    Debug,
    ModelArguments,
    ModelName,
    NewCheckpoint,
    Running,
    RunningOptions,
    SizeOption,
    Spec,
    Subject,
    SubjectOptions,
    TaskOption,
    Training,
    TrainingOptions,
)
from jaxdl.commands.console import console, display, score
from jaxdl.commands.run import carried_out, load_subject, make_loggers, open_run, without_broken
from jaxdl.errors import InputError
from jaxdl.training.plan import Plan
from jaxdl.training.resume import AlreadyFinished, RunFolder
from jaxdl.training.transfer import Trained, hold_out, train
from jaxdl.validation.leakage.checks import check_allowed, check_validation
from jaxdl.weights.card import CARD
from jaxdl.weights.checkpoint import save


def pretrain_command(
    *,
    model: ModelName,
    data: Spec,
    out: NewCheckpoint,
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    validation_fraction: float = 0.0,
    allow: AllowOption = (),
    image_size: SizeOption = None,
    task: TaskOption = "auto",
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Train a model from scratch and save a checkpoint.

    Args:
      model: name of a model, such as cnn, vit or resnet20_cifar.
      data: digits[:0-4], a folder of class folders (or of train/ and val/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: folder for the new checkpoint; new, or that of the same command, which then goes on.
      training: how to train.
      running: how the run is carried out.
      validation_fraction: share of the examples to hold out for measuring the curves, where the data has no val/.
      allow: leaks into the held-out examples to go on with: groups, duplicates, near-duplicates, parent.
      image_size: side in pixels that images are brought to; by default their own, or the model's if they differ.
      task: whether the target column of a .csv names classes or is a number to predict; auto looks at it.
      model_arguments: arguments of the model, such as activation=tanh features=[16,32].
      debug: show the traceback of an error.
    """
    subject = Subject(data, None, model, model_arguments, image_size, task)
    _train("pretrain", subject, Plan(**vars(training)), running, out, validation_fraction, allow, "auto")


def finetune_command(
    *,
    subject: SubjectOptions,
    out: NewCheckpoint,
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    head: Literal["auto", "fresh", "keep"] = "auto",
    validation_fraction: float = 0.0,
    allow: AllowOption = (),
    debug: Debug = False,
) -> None:
    """Train a checkpoint on new data and save the result.

    Args:
      subject: what is trained, and on what; of a folder of train/ and val/ val measures the curves.
      out: folder for the new checkpoint; new, or that of the same command, which then goes on.
      training: how to train.
      running: how the run is carried out.
      head: start with a fresh head, keep the checkpoint's, or (auto) keep it if the classes are the same.
      validation_fraction: share of the examples to hold out for measuring the curves, where the data has no val/.
      allow: leaks into the held-out examples to go on with: groups, duplicates, near-duplicates, parent.
      debug: show the traceback of an error.
    """
    _train("finetune", subject, Plan(**vars(training)), running, out, validation_fraction, allow, head)


def _train(
    kind: str,
    subject: Subject,
    plan: Plan,
    running: Running,
    out: Path,
    validation_fraction: float,
    allow: tuple[str, ...],
    head: str,
) -> None:
    with open_run(out, kind, subject, running) as run:
        source, network, broken = load_subject(subject, running)
        validation = None
        if Path(subject.data).is_dir() and "val" in sources.splits_of(subject.data):
            if validation_fraction:
                raise InputError(f"'{subject.data}' has a val folder; --validation-fraction is for data without one")
            validation, more = without_broken(sources.folder(subject.data, "val"), running)
            broken += more
        elif validation_fraction:
            source, validation = hold_out(source, validation_fraction, plan.seed)
        check_allowed(allow)
        for leak in () if validation is None else check_validation(network, source, validation, allow=allow):
            console.print(f"Caution: {leak.said}", soft_wrap=True, highlight=False)
        with display(plan.epochs, make_loggers(run, running, plan.as_dict())) as shown:
            try:
                trained = train(
                    network,
                    source,
                    plan,
                    validation=validation,
                    head=head,
                    progress=shown.row,
                    on_steps=shown.steps,
                    **carried_out(run, subject, running),
                )
            except AlreadyFinished as finished:
                console.print(str(finished), soft_wrap=True)
                return
        _write(run, trained)
        run.finish(broken=broken)
    _tell(trained, run.path)


def _write(run: RunFolder, trained: Trained) -> None:
    """The checkpoints, each whole; the run's own card comes last, since it says that all is there."""
    if trained.best is not None:
        run.place_folder(save(trained.best, run.fresh("best")), "best")
    run.place(save(trained.checkpoint, run.fresh("result")), last=CARD)


def _tell(trained: Trained, out: Path) -> None:
    last = trained.checkpoint.history[-1]
    if not trained.checkpoint.card.class_names:  # there the loss is the mse
        last = {name.replace("_loss", "_mse"): value for name, value in last.items()}
    said = {"training": "train_", "held out": "test_"}
    for what, begins in said.items():
        scores = [f"{k.removeprefix(begins)} {score(v)}" for k, v in last.items() if k.startswith(begins)]
        if scores:
            console.print(f"{what}: {', '.join(sorted(scores))}")
    if trained.best_epoch is not None:
        console.print(f"best epoch: {trained.best_epoch}, in {out / 'best'}", soft_wrap=True)
    console.print(f"checkpoint in {out}", soft_wrap=True)
