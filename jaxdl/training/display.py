"""A bar that shows how far a call has come, in a terminal or a notebook, where someone watches."""

import functools
import html
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

from jaxdl.parallel.devices import local_devices
from jaxdl.parallel.memory import held_memory
from jaxdl.training.execution import Execution
from jaxdl.training.progress import without_prefix

P, T = ParamSpec("P"), TypeVar("T")
REDRAWN = 0.1  # seconds between two drawings in a notebook
TESTED = "PYTEST_CURRENT_TEST"  # pytest sets it: nobody watches there


class Bar(Protocol):
    """What is used of `rich.progress.Progress`."""

    def add_task(self, description: str, *, total: float | None = None, **fields: Any) -> Any: ...

    def update(self, task: Any, **changed: Any) -> None: ...


class Display:
    """A bar of all steps with rate and remaining time, the newest row of the curves, device and memory.

    Args:
      bar: on which it draws.
      rows: of the curves that are expected in all, from which the number of steps follows; None where `expect` is told.
      metric: name of the score; None for any that a row has.
      loggers: are called with each row, too.
    """

    def __init__(
        self,
        bar: Bar,
        rows: int | None = None,
        metric: str | None = None,
        loggers: Sequence[Callable[[Mapping[str, Any]], None]] = (),
    ):
        self.bar, self.rows, self.metric, self.loggers = bar, rows, metric, loggers
        self.task = bar.add_task("preparing and compiling", total=None, rate="", device=_describe_device())
        self.begin: float | None = None
        self.taken = self.total = 0

    def expect(self, count: int) -> None:
        """Is called with how many more steps are to come."""
        self.total += count
        self.bar.update(self.task, total=self.total)

    def steps(self, count: int) -> None:
        """Is called with how many were just taken."""
        now = time.monotonic()
        if self.begin is None:
            self.begin = now  # the first one compiled: no rate comes of it
        else:
            self.taken += count
        rate = f"{self.taken / (now - self.begin):.3g} steps/s" if now > self.begin else ""
        self.bar.update(self.task, advance=count, rate=rate)

    def row(self, row: Mapping[str, Any]) -> None:
        """Is called with each row of the curves, or with the ``head`` that is fitted next."""
        for log in self.loggers:
            log(row)
        if "head" in row:
            self.bar.update(self.task, description=f"fitting {row['head']}", device=_describe_device())
            return
        fold = f"fold {row['fold']}, " if "fold" in row else ""
        shown = [f"{fold}epoch {row['epoch']}: loss {row['train_loss']:.3f}"]
        scores = without_prefix(row, "train_")
        shown += [f"{name} {value:.3f}" for name, value in scores.items() if name != "loss"]
        metric = self.metric or next(iter(_held_out(row)), None)
        if row.get(f"test_{metric}") is not None:
            shown.append(f"held out {metric} {row[f'test_{metric}']:.3f}")
        changed = {} if self.rows is None else {"total": row.get("in_all", row["step"] // row["epoch"] * self.rows)}
        self.bar.update(self.task, description=", ".join(shown), device=_describe_device(), **changed)


def _held_out(row: Mapping[str, Any]) -> list[str]:
    """Names of what was measured on examples that are not trained on, the scores first."""
    names = [name.removeprefix("test_") for name in row if name.startswith("test_")]
    return sorted(names, key=lambda name: name == "loss")


def columns() -> tuple[ProgressColumn, ...]:
    """Of a bar in a terminal."""
    return (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(8),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[device]}", markup=False),
    )


class NotebookBar:
    """A bar in the output of a cell; rich's own needs the package ipywidgets there."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html, self._drawn = HTML, 0.0
        self._handle = display(HTML(""), display_id=True)
        self._held: dict[str, Any] = {}

    def add_task(self, description: str, *, total: float | None = None, **fields: Any) -> int:
        self._held = {"description": description, "total": total, "completed": 0, **fields}
        self._draw()
        return 0

    def update(self, task: int, *, advance: float = 0, **changed: Any) -> None:
        self._held |= changed | {"completed": self._held["completed"] + advance}
        if time.monotonic() - self._drawn >= REDRAWN:
            self._draw()

    def __enter__(self) -> "NotebookBar":
        return self

    def __exit__(self, *raised: object) -> None:
        """Leaves nothing behind."""
        self._handle.update(self._html(""))

    def _draw(self) -> None:
        self._drawn, held = time.monotonic(), self._held
        value = "" if held["total"] is None else f' value="{held["completed"]:g}" max="{held["total"]:g}"'
        said = [held["description"], held.get("rate", ""), held.get("device", "")]
        text = html.escape(" · ".join(part for part in said if part))
        self._handle.update(self._html(f"<progress{value}></progress> {text}"))


@contextmanager
def drawn(execution: Execution) -> Iterator[Execution]:
    """`execution` with a bar in place of a `progress` that is no function, if one is wanted: see `Execution`."""
    if callable(execution.progress):
        yield execution
        return
    screen, notebook = Console(stderr=True, markup=False, emoji=False), in_notebook()
    wanted = execution.progress
    if wanted is None:
        wanted = (notebook or screen.is_terminal) and TESTED not in os.environ
    if not wanted or jax.process_index():
        yield execution.replace(progress=False)  # also of the calls below this one
        return
    with NotebookBar() if notebook else Progress(*columns(), console=screen, transient=True) as bar:
        yield _told(execution, Display(bar))


def _told(execution: Execution, display: Display) -> Execution:
    theirs = execution.on_steps

    def steps(count: int) -> None:
        display.steps(count)
        if theirs is not None:
            theirs(count)

    return execution.replace(progress=display.row, on_steps=steps, on_expected=display.expect)


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def watched(function: Callable[P, T]) -> Callable[P, T]:
    """Has a function with the keyword ``execution`` show a bar: see `drawn`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = kwargs.get("execution", Execution())
        if not isinstance(given, Execution):  # which the function refuses
            return function(*args, **kwargs)
        with drawn(given) as execution:
            return function(*args, **{**kwargs, "execution": execution})

    return call


def _describe_device() -> str:
    devices = local_devices()
    kind = devices[0].device_kind if devices[0].platform != "cpu" else "CPU"
    stats = devices[0].memory_stats() or {}
    used = (
        f", {stats['bytes_in_use'] / 2**30:.1f} of {stats['bytes_limit'] / 2**30:.0f} GiB"
        if "bytes_limit" in stats
        else ""
    )
    return f"{len(devices)} × {kind}{used}" if len(devices) > 1 else f"{kind}{used or _of_process()}"


def _of_process() -> str:
    held = held_memory()
    return "" if held is None else f", {held / 2**30:.1f} GiB"
