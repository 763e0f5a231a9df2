"""A run's folder, as the commands keep it: begun, gone on with, stopped by a signal, finished."""

import contextlib
import signal
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

from jaxdl import data as sources
from jaxdl.cli_options import Running, Subject
from jaxdl.commands.console import console, errors, start_of
from jaxdl.commands.loggers import TENSORBOARD, WANDB, Logger, TensorBoard, WeightsAndBiases
from jaxdl.data import skip_broken
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.training.resume import RUN, AlreadyFinished, Interrupted, RunFolder, set_aside
from jaxdl.training.setup import Init

# exit codes: what a shell reports of a process that the signal ended
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT

STREAMING = {"auto": None, "always": True, "never": False}

command_line: ContextVar[Sequence[str]] = ContextVar("command_line", default=())  # what followed "jaxdl"


class Terminated(BaseException):
    """SIGTERM came while there was nothing to save."""


class StopSignal:
    """Whether SIGTERM or Ctrl-C asked the run to stop. The first waits for the state to be saved, a second does not."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self.polled = False

    def __call__(self) -> bool:
        self.polled = True
        return self.asked is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None and self.polled:
            self.asked = number
            errors.print("jaxdl: stopping after the step under way, the state will be saved")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Terminated


@contextlib.contextmanager
def stop_by_signal() -> Iterator[StopSignal]:
    """Has SIGTERM and Ctrl-C heard by a `StopSignal` for a while; in the main thread, where alone Python allows it."""
    stop = StopSignal()
    try:
        before = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def open_run(out: Path, kind: str, subject: Subject, running: Running) -> Iterator[RunFolder]:
    """The folder of a run; if nothing of it was saved when something stops it, nothing is left of it.

    Raises:
      InputError: if the folder holds something else, or another run that `running` does not say to move aside.
    """
    _check(running)
    if running.restart and (out.expanduser() / RUN).exists() and (aside := set_aside(out)):  # never somebody's photos
        errors.print(f"the old {out} is now {aside}", soft_wrap=True)
    about = about_command(kind, subject.init, subject.data, subject.task)
    with stop_by_signal() as stop:
        run = RunFolder(out, about, save_every=running.save_every, should_stop=stop)
        if run.begun and not run.known["finished"]:
            errors.print(f"going on with the run in {run.path}", soft_wrap=True)
        try:
            yield run
        except Interrupted as stopped:
            stopped.signal = stop.asked
            raise
        except BaseException:  # Ctrl-C, a full disk
            run.abandon(TENSORBOARD, WANDB)
            raise


def about_command(kind: str, init: Any, spec: str, task: str) -> dict[str, Any]:
    """What a run's folder says of the command that made it."""
    start = None if init is None else str(init)
    return {"kind": kind, "command": ["jaxdl", *command_line.get()], "data": spec, "task": task, "init": start}


def _check(running: Running) -> None:
    if not 0 <= running.save_every < float("inf"):
        raise InputError(f"save_every is {running.save_every}; expected seconds from 0")
    if running.workers < 0:
        raise InputError(f"workers is {running.workers}; expected 0 or more")
    check_choice("stream", running.stream, STREAMING)


@contextlib.contextmanager
def whole_result(run: RunFolder, last: str) -> Iterator[Path]:
    """A fresh folder for what a command found; at its end all of it goes into the run's, the file `last` last."""
    made = run.fresh("result")
    made.mkdir(parents=True)
    yield made
    run.place(made, last=last)


def tell_finished(run: RunFolder, finished: AlreadyFinished, source: Source | None = None) -> None:
    """Says that there is nothing left to do, and draws the page if something stopped the run before it was drawn."""
    console.print(str(finished), soft_wrap=True)
    if not (run.path / PAGE).exists():
        write_run_report(run.path, source)


def without_broken(source: Source, running: Running) -> tuple[Source, list[list[str]]]:
    """`source` without the files that cannot be read, and what these are, where that was asked for."""
    if not running.skip_broken:
        return source, []
    source, broken = skip_broken(source)
    for name, reason in broken:
        errors.print(f"skipped {name}: {reason}", soft_wrap=True, highlight=False)
    return source, [list(pair) for pair in broken]


def load_subject(subject: Subject, running: Running) -> tuple[Source, Init, list[list[str]]]:
    """The examples, what training starts from, and the files that were left out, as `without_broken`."""
    source, broken = without_broken(sources.load(subject.data, split="train", task=subject.task), running)
    return source, start_of(subject, source), broken


def carried_out(run: RunFolder, subject: Subject, running: Running) -> dict[str, Any]:
    """What the package's functions that train take from `Subject` and `Running`."""
    return {
        "image_size": subject.image_size,
        "streaming": STREAMING[running.stream],
        "workers": running.workers,
        "work": run,
    }


def make_loggers(run: RunFolder, running: Running, options: dict[str, Any]) -> Sequence[Logger]:
    """Where rows of the curves go besides the result."""
    loggers = []
    if running.tensorboard:
        loggers.append(TensorBoard(run))
    if running.wandb:
        loggers.append(WeightsAndBiases(running.wandb, run, options))
    return loggers


def refuse_loggers(running: Running) -> None:
    """Raises InputError where a command that trains many times is to send its curves to a place for one training."""
    for name, given in (("--tensorboard", running.tensorboard), ("--wandb", running.wandb)):
        if given:
            raise InputError(f"{name} follows a single run; this command trains many times. Leave it out")
