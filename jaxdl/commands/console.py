"""What the commands share: where they write."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxdl.commands.loggers import Logger
from jaxdl.data.source import Source
from jaxdl.parallel.devices import local_devices
from jaxdl.tasks import Task
from jaxdl.training.progress import without_prefix

console = Console(markup=False, emoji=False)  # a path or a class may be called [anything]
errors = Console(stderr=True, markup=False, emoji=False)


class Display:
    """A bar of all steps with rate and remaining time, the newest row of the curves, device and memory.

    Only where someone watches; else it writes nothing.
    """

    def __init__(self, bar: Progress, rows: int, metric: str, loggers: Sequence[Logger]):
        self.bar, self.rows, self.metric, self.loggers = bar, rows, metric, loggers
        self.task = bar.add_task("preparing and compiling", total=None, rate="", device=_describe_device())
        self.begin: float | None = None
        self.taken = 0

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
        """Is called with each row of the curves."""
        for log in self.loggers:
            log(row)
        fold = f"fold {row['fold']}, " if "fold" in row else ""
        shown = [f"{fold}epoch {row['epoch']}: loss {row['train_loss']:.3f}"]
        scores = without_prefix(row, "train_")
        shown += [f"{name} {value:.3f}" for name, value in scores.items() if name != "loss"]
        if f"test_{self.metric}" in row:
            shown.append(f"held out {self.metric} {row[f'test_{self.metric}']:.3f}")
        total = row.get("in_all", row["step"] // row["epoch"] * self.rows)
        self.bar.update(self.task, description=", ".join(shown), device=_describe_device(), total=total)


def _describe_device() -> str:
    devices = local_devices()
    kind = devices[0].device_kind if devices[0].platform != "cpu" else "CPU"
    stats = devices[0].memory_stats() or {}
    used = (
        f", {stats['bytes_in_use'] / 2**30:.1f} of {stats['bytes_limit'] / 2**30:.0f} GiB"
        if "bytes_limit" in stats
        else ""
    )
    return f"{len(devices)} × {kind}{used}" if len(devices) > 1 else f"{kind}{used or _resident()}"


def _resident() -> str:
    """Memory of this process, on Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return ""
    return f", {pages * 4096 / 2**30:.1f} GiB"


@contextmanager
def display(rows: int, metric: str, loggers: Sequence[Logger] = ()) -> Iterator[Display]:
    """See `Display`; `rows` of the curves are expected in all, `metric` is the score. At the end loggers are closed."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(8),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[device]}", markup=False),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        try:
            yield Display(bar, rows, metric, loggers)
        finally:
            for logger in loggers:
                logger.close()


def score(value: float, digits: int = 4) -> str:
    """A measured number, with so many decimals where these suit its size."""
    return f"{value:.{digits}f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.{digits}g}"


def listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def scores_said(task: Task, scores: Mapping[str, float]) -> list[str]:
    """Name and value of each score; the loss has its own name where the task shows it as a metric, too."""
    loss = task.LOSS if task.LOSS in (*task.SHOWN, *scores) else "loss"
    named = {loss if name == "loss" else name: value for name, value in scores.items()}
    return [f"{name} {score(value)}" for name, value in named.items()]


def print_wide(table: Table) -> None:
    """At its full width: what is cut off is of no use; a narrow terminal folds the lines."""
    wide = Console(file=console.file, width=400, markup=False, emoji=False)
    with wide.capture() as drawn:
        wide.print(table)
    for line in drawn.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True, highlight=False)


def say_notes(source: Source) -> None:
    """What was decided or left out when the examples were read."""
    for note in source.notes:
        errors.print(f"{source.name}: {note}", soft_wrap=True, highlight=False)
