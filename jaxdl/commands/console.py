"""What the commands share: where they write."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from jaxdl.commands.loggers import Logger
from jaxdl.data import folder_of
from jaxdl.data.image_file import printable
from jaxdl.data.source import Source
from jaxdl.errors import InputError, singular, without_controls
from jaxdl.report.cautions import cautions
from jaxdl.report.markup import slug
from jaxdl.tasks import Task
from jaxdl.tasks.examples import describe_examples
from jaxdl.training.display import Display, columns
from jaxdl.weights.buckets import is_bucket


class PlainConsole(Console):
    """A console for text that others wrote: a path or a class may be called [anything], or steer the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with a count of 1 in the singular."""
        super().print(*(singular(one) if isinstance(one, str) else one for one in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed passes here, also the cells of a table."""
        return super().render_str(without_controls(text), **options)


console = PlainConsole()
errors = PlainConsole(stderr=True)


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
    wide = PlainConsole(file=console.file, width=400)
    with wide.capture() as drawn:
        wide.print(table)
    for line in drawn.get().splitlines():
        console.print(Text.from_ansi(line.rstrip()), soft_wrap=True, highlight=False)


def say_cautions(*leaks: Iterable[Mapping[str, Any]]) -> None:
    """What makes the scores of folds other than they seem; `leaks` are those of results."""
    for said in cautions(*leaks):
        console.print(said, soft_wrap=True, highlight=False)


def say_about(what: str, page: Path | None, section: str) -> None:
    """Where a page explains what the numbers mean, in place of the words; nothing where there is no page."""
    if page is not None:
        console.print(f"About {what}: {page.absolute().as_uri()}#{slug(section)}", soft_wrap=True, highlight=False)


def say_notes(source: Source) -> None:
    """One line of what was read, and what was decided or left out meanwhile; a broken file stops later, by name."""
    console.print(f"{source.name}: {describe_examples(source)}", soft_wrap=True, highlight=False)
    for note in source.notes:
        console.print(f"{source.name}: {note}", soft_wrap=True, highlight=False)


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # by which a spreadsheet knows what it should run


def inert(cell: Any) -> Any:
    """A cell of a table that no spreadsheet takes for a formula: a text that begins like one gets a ``'`` before it."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell  # a number


def check_outside(out: Path, spec: str) -> None:
    """Raises InputError where results would lie in the folder of the data: at the next start they would be read."""
    folder = folder_of(spec)
    if (
        folder is not None
        and not is_bucket(out)
        and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder))
    ):
        raise InputError(
            f"--out {printable(out)} lies in the folder of the data '{printable(folder)}', where it would be read as "
            "data by the next command; choose a place outside of it"
        )
