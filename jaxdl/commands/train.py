"""``jaxdl pretrain`` and ``jaxdl finetune``."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from jaxdl import data as sources
from jaxdl.cli_options import (
    Debug,
    Flag,
    NewCheckpoint,
    Running,
    RunningOnHosts,
    RunningOnHostsOptions,
    Subject,
    SubjectOptions,
    Training,
    TrainingOptions,
    Untrained,
    UntrainedOptions,
    option,
)
from jaxdl.commands.console import console, say_notes, scores_said
from jaxdl.commands.run import Begun, open_run, without_broken, without_contradictions
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import beat, on_first
from jaxdl.report.kept import held_out_scores, kept_of
from jaxdl.report.table import baseline_rows, left_out, uneven
from jaxdl.report.uncertainty import interval_said
from jaxdl.tasks.examples import load_validation
from jaxdl.tasks.metric import percent
from jaxdl.training.plan import Plan
from jaxdl.training.progress import without_prefix
from jaxdl.training.resume import RunFolder
from jaxdl.training.transfer import Trained, hold_out, train
from jaxdl.validation.baselines import NO_TABLE
from jaxdl.validation.held_out import HELD_OUT, LEVEL, held_out_result
from jaxdl.validation.leakage import contradictions
from jaxdl.validation.leakage.checks import REMEDIES, check_validation, say_contradictions, together
from jaxdl.validation.result import Result, load_result
from jaxdl.weights.adapt import has_adapter, merge_adapter
from jaxdl.weights.card import CARD
from jaxdl.weights.checkpoint import Checkpoint, restore, save

BEST = "best"  # below the folder of a training: the checkpoint of its best epoch


def pretrain_command(
    *,
    subject: UntrainedOptions,
    out: NewCheckpoint,
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOnHostsOptions = RunningOnHosts(),  # noqa: B008
    validation: Annotated[str | None, option("SPEC")] = None,
    validation_fraction: float = 0.0,
    debug: Debug = False,
) -> None:
    """Train a model from scratch and save a checkpoint.

    Args:
      subject: what is trained, and on what; of a folder of train/ and val/ val measures the curves.
      out: folder for the new checkpoint; new, or that of the same command, which then goes on.
      training: how to train.
      running: how the run is carried out.
      validation: examples to measure on, such as another table; by default the val of the data, if it has one.
      validation_fraction: share of the examples to hold out for measuring the curves, where there are no others.
      debug: show the traceback of an error.
    """
    _train("pretrain", out, subject, Plan(**vars(training)), running, (validation, validation_fraction))


def finetune_command(
    *,
    subject: SubjectOptions,
    out: NewCheckpoint,
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOnHostsOptions = RunningOnHosts(),  # noqa: B008
    head: Literal["auto", "fresh", "keep"] = "auto",
    validation: Annotated[str | None, option("SPEC")] = None,
    validation_fraction: float = 0.0,
    merge_adapter: Flag = False,
    debug: Debug = False,
) -> None:
    """Train a checkpoint on new data and save the result.

    Args:
      subject: what is trained, and on what; of a folder of train/ and val/ val measures the curves.
      out: folder for the new checkpoint; new, or that of the same command, which then goes on.
      training: how to train.
      running: how the run is carried out.
      head: start with a fresh head, keep the checkpoint's, or (auto) keep it if the classes are the same.
      validation: examples to measure on, such as another table; by default the val of the data, if it has one.
      validation_fraction: share of the examples to hold out for measuring the curves, where there are no others.
      merge_adapter: save the network with its adapter added to the kernels, instead of the adapter beside them.
      debug: show the traceback of an error.
    """
    measured = validation, validation_fraction
    _train("finetune", out, subject, Plan(**vars(training)), running, measured, head, merge_adapter)


def _train(
    kind: str,
    out: Path,
    subject: Subject | Untrained,
    plan: Plan,
    running: Running,
    measured: tuple[str | None, float],
    head: str = "auto",
    merges: bool = False,
) -> None:
    stops = plan.early_stopping is not None
    if running.layout.at_once:
        raise InputError(
            f"{running.layout.said} lays several trainings over the devices, but {kind} is one: leave it out, and its "
            "batches are divided over them"
        )
    again = lambda begun: _tell(*_read(begun.run), stops, begun.run.path)  # noqa: E731
    with open_run(out, kind, subject, running, page=False, tell=again) as begun:
        if merges and not plan.adapter and not (isinstance(begun.network, Checkpoint) and has_adapter(begun.network)):
            raise InputError(
                "--merge-adapter finds no adapter to merge: the checkpoint has none, and none is asked for, such as "
                "--adapter lora:8; leave it out"
            )
        source, validation = _divided(begun, *measured, plan.seed)
        beat("looking for leaks", slow=True)
        if validation is not None:
            for leak in check_validation(begun.network, source, validation, allow=begun.execution.allow):
                console.print(f"Caution: {leak.said}", soft_wrap=True, highlight=False)
        elif found := contradictions(source):
            said, remedy = say_contradictions(source, found), REMEDIES["labels"]
            console.print(f"Caution: {said}. {remedy}", soft_wrap=True, highlight=False)
        with begun.shown(plan.epochs, plan) as execution:
            trained = train(
                begun.network, source, plan, task=begun.task, validation=validation, head=head, execution=execution
            )
        if merges and has_adapter(trained.checkpoint):
            best = None if trained.best is None else merge_adapter(trained.best)
            trained = Trained(merge_adapter(trained.checkpoint), best, trained.best_epoch)
        held_out = None if validation is None else held_out_result(begun.network, trained, source, validation)
        on_first(lambda: _end(begun, trained, held_out, stops), "writing the results")


def _end(begun: Begun, trained: Trained, held_out: Result | None, stops: bool) -> None:
    _write(begun.run, trained, held_out)
    begun.run.known["best_epoch"] = trained.best_epoch
    begun.finish()
    _tell(trained, held_out, stops, begun.run.path)


def _divided(begun: Begun, named: str | None, fraction: float, seed: int) -> tuple[Source, Source | None]:
    """What to train on, and what to measure on if there is anything: what is `named`, the data's val, or a share."""
    subject = begun.subject
    if named is not None or "val" in sources.parts_of(subject.data, subject.task, table=subject.table):
        if fraction:
            what = f"'{subject.data}' has a val part" if named is None else f"--validation {named} is given"
            raise InputError(f"{what}; --validation-fraction is for data without one")
        if named is not None:
            begun.run.about["validation"] = named
        how = {"masks": subject.masks, "table": subject.table}
        given = load_validation(subject.data, named, begun.source, subject.task, **how)
        say_notes(given)
        console.print(f"{given.name}: it measures the curves, and is not trained on", soft_wrap=True, highlight=False)
        validation, broken = without_broken(given, subject.skip_broken)
        begun.broken += broken
        return (
            _without_contradictions(begun, validation)
            if begun.subject.drop_contradicting
            else (begun.source, validation)
        )
    if fraction:
        return hold_out(begun.source, fraction, seed, begun.task)
    return begun.source, None


def _without_contradictions(begun: Begun, validation: Source) -> tuple[Source, Source]:
    """What is learned from and what measures, without what is equal in the two but labelled differently."""
    count = len(begun.source)
    _, dropped = without_contradictions(together(begun.source, validation))
    begun.broken += dropped.named
    kept = np.setdiff1d(np.arange(count + len(validation)), dropped.indices)
    return sources.subset(begun.source, kept[kept < count]), sources.subset(validation, kept[kept >= count] - count)


def _write(run: RunFolder, trained: Trained, held_out: Result | None) -> None:
    """The checkpoints, each whole; the run's own card comes last, since it says that all is there."""
    if held_out is not None:
        made = run.fresh(HELD_OUT)
        made.mkdir(parents=True)
        held_out.write_to(made)
        run.place_folder(made, HELD_OUT)
    if trained.best is not None:
        run.place_folder(save(trained.best, run.fresh(BEST)), BEST)
    run.place(save(trained.checkpoint, run.fresh("result")), last=CARD)


def _read(run: RunFolder) -> tuple[Trained, Result | None]:
    """What `_write` wrote."""
    best = restore(run.path / BEST) if (run.path / BEST).exists() else None
    held_out = load_result(run.path / HELD_OUT) if (run.path / HELD_OUT).exists() else None
    return Trained(restore(run.path), best, run.known.get("best_epoch")), held_out


def _tell(trained: Trained, held_out: Result | None, stopped: bool, out: Path) -> None:
    """Scores of the network that is kept, with an interval and other models beside it, and where the best epoch is."""
    task = trained.checkpoint.card.task
    kept = kept_of(trained.checkpoint.history, trained.best_epoch, stopped)
    for what, begins in {"training": "train_", "held out": "test_"}.items():
        if scores := without_prefix(kept.row, begins):
            _print(f"{what}: {', '.join(sorted(scores_said(task, scores)))}")
    if held_out is not None:
        results = {"": held_out}
        if held_out.interval:
            _print(f"{percent(LEVEL, decimals=0)} interval: {''.join(interval_said(held_out))}")
        for row in baseline_rows(results):
            told = {task.metric: row["mean"], "loss": row["loss"]}
            _print(f"{row['method']}: {', '.join(scores_said(task, {n: v for n, v in told.items() if v is not None}))}")
        for said in (uneven(results), *left_out(results)):
            if said and NO_TABLE not in said:
                _print(said)
    if trained.best_epoch is not None:
        _print(f"best epoch: {trained.best_epoch}, in {out / BEST}")
        if kept.best is not None and kept.best is not kept.row:
            _print(f"held out, epoch {trained.best_epoch}: {', '.join(scores_said(task, held_out_scores(kept.best)))}")
        _print(kept.said)
    _print(f"checkpoint in {out}")


def _print(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)
