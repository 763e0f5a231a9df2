"""What the commands share: where they write."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jaxdl.commands.loggers import Logger
from jaxdl.data.source import Source
from jaxdl.tasks import Task
from jaxdl.training.display import Display, columns

console = Console(markup=False, emoji=False)  # a path or a class may be called [anything]
errors = Console(stderr=True, markup=False, emoji=False)


@contextmanager
def display(rows: int, metric: str, loggers: Sequence[Logger] = ()) -> Iterator[Display]:
    """See `Display`; `rows` of the curves are expected in all, `metric` is the score. At the end loggers are closed."""
    with Progress(*columns(), console=errors, transient=True, disable=not errors.is_terminal) as bar:
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
