"""``jaxdl split``."""

import csv
import io
from pathlib import Path
from typing import Annotated

from rich.table import Table

from jaxdl.cli_options import Debug, Dividing, DividingOptions, ExamplesOptions, option, splitting_of
from jaxdl.commands.console import check_outside, console, inert, print_wide
from jaxdl.commands.run import read_examples
from jaxdl.data.source import Source
from jaxdl.report.split import as_csv, as_text, fold_rows, say_split
from jaxdl.report.split_page import write_split_page
from jaxdl.report.split_picture import write_split_picture
from jaxdl.tasks import Task, choose_task
from jaxdl.validation.leakage.columns import column_leaks
from jaxdl.validation.splits import SPLIT, Split, split_source
from jaxdl.weights.files import check_free, write_text, written_whole

LISTED = 20  # folds; of more, the first ones
TABLE, PICTURE, PAGE = "folds.csv", "folds.png", "folds.html"


def split_command(
    *,
    subject: ExamplesOptions,
    out: Annotated[Path | None, option("FOLDER")] = None,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    seed: int = 0,
    debug: Debug = False,
) -> None:
    """Show how the examples would be divided, before anything is trained.

    Args:
      subject: what is divided.
      out: new folder for a page (folds.html), its table (folds.csv) and picture (folds.png), and the folds (split.npz).
      dividing: how the examples are divided.
      seed: of the shuffling; cross-validate makes the same folds with the same one.
      debug: show the traceback of an error.
    """
    out = None if out is None else check_free(out)
    if out is not None:
        check_outside(out, subject.data)
    source, _ = read_examples(subject)
    asked = choose_task(source, subject.task, purpose="split")
    split = split_source(source, splitting_of(dividing), dividing.folds, seed, asked)
    rows = fold_rows(split, source, asked)
    headers, cells = as_text(rows[:LISTED], source)
    table = Table(*headers, box=None, pad_edge=False)
    for line in cells:
        table.add_row(*line)
    print_wide(table)
    if len(rows) > LISTED:
        console.print(f"and {len(rows) - LISTED} more folds")
    for sentence in say_split(split, rows, source):
        console.print(sentence, soft_wrap=True, highlight=False)
    for _, _, said in column_leaks(source, list(zip(split.train, split.test, strict=True))):
        console.print(f"Caution: {said}; cross-validate asks what these columns are", soft_wrap=True, highlight=False)
    console.print(f"{split.kind}, {len(split)} folds, sha256 {split.sha256}", soft_wrap=True, highlight=False)
    if out is not None:
        _write(out, split, rows, source, asked)
        console.print(f"page: {out / PAGE}", soft_wrap=True)
        console.print(f"table, picture and {SPLIT} in {out}; --splitter {out} gives the same folds", soft_wrap=True)


def _write(out: Path, split: Split, rows: list[dict], source: Source, task: Task) -> None:
    flat = as_csv(rows, source)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(cell) for name, cell in row.items()} for row in flat)
    with written_whole(out) as work:
        split.save(work / SPLIT, source)
        write_text(work / TABLE, text.getvalue())
        picture = write_split_picture(work / PICTURE, split, source, task)
        write_split_page(work / PAGE, split, source, task, picture)
