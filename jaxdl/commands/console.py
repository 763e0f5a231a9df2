"""What the commands share: where they write, and what they start from."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from jaxdl.cli_options import Subject, parse_arguments
from jaxdl.commands.loggers import Logger
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.training.setup import Init
from jaxdl.weights.pretrained import load_pretrained

console = Console(markup=False, emoji=False)  # a path or a class may be called [anything]
errors = Console(stderr=True, markup=False, emoji=False)


def start_of(subject: Subject, source: Source) -> Init:
    """What training starts from: a checkpoint, or a fresh model for the classes of `source`."""
    if (subject.init is None) == (subject.model is None):
        raise InputError("give either --init CHECKPOINT or --model NAME")
    if subject.init is None:
        return create(subject.model, max(1, len(source.class_names)), **parse_arguments(subject.model_arguments))
    if subject.model_arguments:
        raise InputError("--model-arguments go with --model; a checkpoint knows its own")
    return load_pretrained(subject.init)


class Display:
    """A bar of all steps with rate and remaining time, the newest row of the curves, device and memory.

    Only where someone watches; else it writes nothing.
    """

    def __init__(self, bar: Progress, rows: int, loggers: Sequence[Logger]):
        self.bar, self.rows, self.loggers = bar, rows, loggers
        self.task = bar.add_task("preparing and compiling", total=None, rate="", device=_describe_device())
        self.begin: float | None = None
        self.taken = 0

    def steps(self, count: int) -> None:
        """Told how many were just taken."""
        now = time.monotonic()
        if self.begin is None:
            self.begin = now  # the first one compiled: no rate comes of it
        else:
            self.taken += count
        rate = f"{self.taken / (now - self.begin):.3g} steps/s" if now > self.begin else ""
        self.bar.update(self.task, advance=count, rate=rate)

    def row(self, row: Mapping[str, Any]) -> None:
        """Told a row of the curves."""
        for log in self.loggers:
            log(row)
        fold = f"fold {row['fold']}, " if "fold" in row else ""
        shown = [f"{fold}epoch {row['epoch']}: loss {row['train_loss']:.3f}"]
        for name, value in row.items():
            if name in ("train_accuracy", "train_mae"):
                shown.append(f"{name.removeprefix('train_')} {value:.3f}")
            if name in ("test_accuracy", "test_r2"):
                shown.append(f"held out {value:.3f}")
        total = row.get("in_all", row["step"] // row["epoch"] * self.rows)
        self.bar.update(self.task, description=", ".join(shown), device=_describe_device(), total=total)


def _describe_device() -> str:
    devices = jax.local_devices()
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
def display(rows: int, loggers: Sequence[Logger] = ()) -> Iterator[Display]:
    """See `Display`; `rows` of the curves are expected in all. At its end the loggers are closed."""
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
            yield Display(bar, rows, loggers)
        finally:
            for logger in loggers:
                logger.close()


def score(value: float, digits: int = 4) -> str:
    """A measured number, with so many decimals where these suit its size."""
    return f"{value:.{digits}f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.{digits}g}"


def listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
