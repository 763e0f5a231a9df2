"""A run's folder, as the commands keep it: begun, gone on with, stopped by a signal, finished."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from jaxdl.cli_options import Examples, Hosts, Running, Start, Subject, Untrained
from jaxdl.commands.console import check_outside, console, display, errors, say_notes
from jaxdl.commands.hosts import join_hosts
from jaxdl.commands.loggers import TENSORBOARD, WANDB, Logger, TensorBoard, WeightsAndBiases
from jaxdl.commands.tokens import as_tokens, new_model, pretrained
from jaxdl.data import skip_broken
from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing
from jaxdl.data.source import Source, describe_sizes
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.hosts import beat, is_first, on_first
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.tasks import Task, choose_task
from jaxdl.tasks.examples import load_examples
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.resume import RUN, AlreadyFinished, Interrupted, RunFolder, set_aside
from jaxdl.training.setup import Init, choose_preprocessing
from jaxdl.validation.leakage import drop_contradictions, duplicate_groups
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.weights.buckets import place_of

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


@dataclasses.dataclass
class Begun:
    """A run under way: what it works with, and what its command does at the end.

    Attributes:
      run: its folder.
      signals: while it is open, SIGTERM and Ctrl-C wait for the state to be saved.
      subject, running: as given.
      execution: how it is executed.
      page: whether its folder gets a report.
      tell: prints what a finished run has found, from its folder.
      kept: what stands in the folder beside the report.
      source: the examples.
      broken: the files that were left out, with the reason.
      task: what is asked.
      network: what training starts from.
    """

    run: RunFolder
    signals: contextlib.ExitStack
    subject: Subject | Untrained
    running: Running
    execution: Execution
    page: bool
    tell: Callable[["Begun"], None] | None
    kept: str
    source: Source
    broken: list[list[str]]
    task: Task
    network: Init

    @property
    def page_file(self) -> Path | None:
        """The page that the folder has, or gets at the end; None for neither."""
        file = self.run.path / PAGE
        return file if self.running.report or file.exists() else None

    @contextlib.contextmanager
    def shown(self, rows: int, plan: Plan) -> Iterator[Execution]:
        """The execution of a call whose progress is shown and logged; `rows` of the curves are expected in all."""
        with display(rows, self.task.metric, make_loggers(self.run, self.running, plan.as_dict())) as bar:
            yield self.execution.replace(progress=bar.row, on_steps=bar.steps)

    @contextlib.contextmanager
    def result(self, last: str) -> Iterator[Path]:
        """A fresh folder for what was found; at its end all of it goes into the run's, the file `last` last."""
        made = self.run.fresh("result")
        made.mkdir(parents=True)
        yield made
        self.run.place(made, last=last)

    def finish(self) -> None:
        """All results are there: the state is removed, signals end the process at once again, the page is written."""
        self.run.finish(broken=self.broken)
        self.signals.close()
        self._draw()

    def finished_before(self, finished: AlreadyFinished) -> None:
        """Tells again what was found, and writes the page if something stopped the run before it was."""
        self.signals.close()
        console.print(str(finished), soft_wrap=True)
        if self.tell is not None:
            self.tell(self)
        if self.page:
            self._draw()

    def _draw(self) -> None:
        """Writes the page, unless it is there; the numbers stand in the terminal by then."""
        if not self.page:
            return
        if self.running.report and not (self.run.path / PAGE).exists():
            with errors.status(f"drawing {PAGE}"):
                write_run_report(self.run.path, self.source)
        there = (self.run.path / PAGE).exists()
        page = f" and {PAGE} in {self.run.path}" if there else f" in {self.run.path}; jaxdl report RUN draws the page"
        console.print(f"{self.kept}{page}", soft_wrap=True)


@contextlib.contextmanager
def open_run(
    out: Path,
    kind: str,
    subject: Subject | Untrained,
    running: Running,
    *,
    page: bool = True,
    logs: bool = True,
    tell: Callable[[Begun], None] | None = None,
    kept: str = "results",
) -> Iterator[Begun]:
    """The folder of a run, with all that is loaded for it; the body is left where the run is finished already.

    If nothing of it was saved when something stops it, nothing is left of it.

    Args:
      out: the folder.
      kind: name of the command.
      subject: what is trained.
      running: how.
      page: whether the folder gets a report.
      logs: whether curves may be sent elsewhere; False for a command that trains too many times.
      tell: prints what a finished run has found, from its folder.
      kept: what stands in the folder beside the report.

    Raises:
      InputError: if the folder holds something else, or another run that `running` does not say to move aside.
    """
    if isinstance(running, Hosts):
        join_hosts(running)
    if not 0 <= running.save_every < float("inf"):
        raise InputError(f"save_every is {running.save_every}; expected seconds from 0")
    for name, given in (("--tensorboard", running.tensorboard), ("--wandb", running.wandb)):
        if given and not logs:
            raise InputError(f"{name} follows a single run, but {kind} trains many times; leave it out")
    check_outside(out, subject.data)
    execution = execution_of(subject, running)
    if running.restart:
        on_first(lambda: _set_aside(out))
    about = about_command(kind, subject.init, subject)
    with contextlib.ExitStack() as signals:
        stop = signals.enter_context(stop_by_signal())
        run = RunFolder(out, about, save_every=running.save_every, should_stop=stop)
        signals.callback(run.release)
        if run.begun and not run.known["finished"]:
            errors.print(f"going on with the run in {run.path}", soft_wrap=True)
        begun = None
        try:
            loaded = load_subject(kind, subject)
            begun = Begun(run, signals, subject, running, execution.replace(work=run), page, tell, kept, *loaded)
            yield begun
        except AlreadyFinished as finished:
            reason = finished
            on_first(lambda: begun.finished_before(reason))
        except Interrupted as stopped:
            stopped.signal = stop.asked
            raise
        except BaseException:  # Ctrl-C, a full disk
            run.abandon(TENSORBOARD, WANDB)
            raise


def _set_aside(out: Path) -> None:
    if (place_of(out) / RUN).exists() and (aside := set_aside(out)):  # never somebody's photos
        errors.print(f"the old {place_of(out)} is now {aside}", soft_wrap=True)


def about_command(kind: str, init: Any, subject: Examples) -> dict[str, Any]:
    """What a run's folder says of the command that made it."""
    about = {"kind": kind, "command": ["jaxdl", *command_line.get()], "data": subject.data, "task": subject.task}
    about["init"] = None if init is None else str(init)
    if subject.masks is not None:
        about["masks"] = subject.masks.plain()
    if subject.table is not None and (said := subject.table.plain()):
        about["table"] = said
    return about


def execution_of(subject: Examples, running: Running) -> Execution:
    """How the package executes what the options of a command ask for.

    Raises:
      InputError: for a value that cannot be.
    """
    check_choice("stream", running.stream, STREAMING)
    memory = running.memory
    if memory is not None and not 0 < memory < float("inf"):
        raise InputError(f"memory is {memory} GiB; expected more than 0")
    return Execution(
        image_size=subject.resized_to,
        streaming=STREAMING[running.stream],
        workers=running.workers,
        layout=running.layout,
        remat=running.remat,
        fold_strategy=running.fold_strategy,
        memory=None if memory is None else int(memory * 2**30),
        allow=check_allowed(running.allow),
    )


def load_subject(kind: str, subject: Subject | Untrained) -> tuple[Source, list[list[str]], Task, Init]:
    """The examples, the files that were left out, what is asked, and what training starts from."""
    source, broken = read_examples(subject)
    source = as_tokens(source, subject)
    task = choose_task(source, subject.task, subject.metric, purpose=kind)
    beat("reading the network", slow=True)
    network = start_of(subject, task, source)
    say_size(choose_preprocessing(network, source, subject.resized_to), source)
    return source, broken, task, network


def read_examples(subject: Examples) -> tuple[Source, list[list[str]]]:
    """The examples that the options name, and those that were left out, with the reason; both are said."""
    beat("reading the data", slow=True)
    source = load_examples(subject.data, subject.task, masks=subject.masks, table=subject.table)
    say_notes(source)
    source, broken = without_broken(source, subject.skip_broken)
    if subject.drop_contradicting:
        source, dropped = without_contradictions(source)
        broken += dropped.named
    # after that: copies are found by their content
    return duplicate_groups(source) if subject.group_duplicates else source, broken


def say_size(preprocessing: Preprocessing, source: Source) -> None:
    """A line where images have another size than the network takes."""
    if isinstance(preprocessing, ImagePreprocessing) and preprocessing.crop_mode != "tile":
        takes, has = describe_sizes({preprocessing.input_shape}), source.describe_x()
        if takes != has:
            how = "and the centre is kept" if preprocessing.crop_mode == "center" else "whatever their shape"
            said = f"{source.name}: images are scaled to {takes}, {how}; --image-size sets another side"
            console.print(said, soft_wrap=True, highlight=False)


def start_of(subject: Start | Untrained, task: Task, source: Source) -> Init:
    """What training starts from: a checkpoint, or a fresh model for the task and what `source` holds."""
    if (subject.init is None) == (subject.model is None):
        raise InputError("give either --init CHECKPOINT or --model NAME")
    if subject.init is None:
        return new_model(subject, task, source)
    if subject.model_arguments:
        raise InputError("--model-arguments go with --model; a checkpoint knows its own")
    return pretrained(subject)


def without_broken(source: Source, asked: bool) -> tuple[Source, list[list[str]]]:
    """`source` without the files that cannot be read, and what these are, where that was `asked` for."""
    if not asked:
        return source, []
    count = len(source)
    source, broken = skip_broken(source)
    for name, reason in broken:
        errors.print(f"skipped {name}: {reason}", soft_wrap=True, highlight=False)
    if broken:
        errors.print(f"{len(broken):,} of {count:,} examples skipped, {len(source):,} are left", highlight=False)
    return source, [list(pair) for pair in broken]


class Dropped(NamedTuple):
    """Examples that were left out: their indices, and the name of each with the reason."""

    indices: np.ndarray
    named: list[list[str]]


def without_contradictions(source: Source) -> tuple[Source, Dropped]:
    """`source` without equal examples whose labels differ, and what these are; they are said."""
    kept, indices = drop_contradictions(source)
    names = [str(i) if source.names is None else str(source.names[i]) for i in indices.tolist()]
    reason = "equal to another example, but labelled differently"
    for name in names:
        errors.print(f"left out {name}: {reason}", soft_wrap=True, highlight=False)
    if names:
        errors.print(f"{len(names):,} of {len(source):,} examples left out, {len(kept):,} are left", highlight=False)
    return kept, Dropped(indices, [[name, reason] for name in names])


def make_loggers(run: RunFolder, running: Running, options: dict[str, Any]) -> Sequence[Logger]:
    """Where rows of the curves go besides the result."""
    loggers: list[Logger] = []
    if not is_first():
        return loggers
    if running.tensorboard:
        loggers.append(TensorBoard(run))
    if running.wandb:
        loggers.append(WeightsAndBiases(running.wandb, run, options))
    return loggers
