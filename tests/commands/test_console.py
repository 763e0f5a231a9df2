"""What reaches the terminal: no controls that a file's name may hold, and counts of one in the singular."""

import io
import re

import pytest
from rich.progress import Progress
from rich.table import Table

from jaxdl.commands.console import PlainConsole
from jaxdl.errors import InputError, singular

HOSTILE = "a\x1b[2J\x1b]0;title\x07b\rc\x9b31m"


def printed(what, **options):
    file = io.StringIO()
    PlainConsole(file=file, width=80, force_terminal=True, color_system="truecolor", **options).print(what, style="red")
    return file.getvalue()


def without_colours(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def in_table(text):
    table = Table("name")
    table.add_row(text)
    return table


@pytest.mark.parametrize("made", [str, in_table], ids=["text", "table"])
def test_a_name_does_not_control_the_terminal(made):
    """Our own colours do, and are taken away here."""
    harmless = printed(made("a" * len(HOSTILE)))
    assert "\x1b[" in harmless
    said = without_colours(printed(made(HOSTILE)))
    assert "[2J" in said
    assert not [c for c in said if not (c.isprintable() or c == "\n")]


def test_the_progress_bar_still_moves_the_cursor():
    file = io.StringIO()
    with Progress(console=PlainConsole(file=file, force_terminal=True), transient=True) as bar:
        bar.add_task("training")
    assert "\x1b[?25l" in file.getvalue()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("has 1 examples, fewer", "has 1 example, fewer"),
        ("there are 1 sizes", "there is 1 size"),
        ("1 classes", "1 class"),
        ("11 examples, 0.1 examples, -1 steps, 21 folds", "11 examples, 0.1 examples, -1 steps, 21 folds"),
    ],
)
def test_one_is_counted_in_the_singular(given, shown):
    assert singular(given) == shown
    assert str(InputError(given)) == shown
    assert str(InputError("x", given)) == f"x; {shown}"
    assert shown in without_colours(printed(given))
