"""``jaxdl split``."""

import csv
import io
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table

from jaxdl import data as sources
from jaxdl.cli_options import Debug, Dividing, DividingOptions, Spec, TaskOption, option
from jaxdl.commands.console import console
from jaxdl.data.source import Source, check_labelled
from jaxdl.report.split import as_csv, as_text, fold_rows, say_split
from jaxdl.report.split_picture import write_split_picture
from jaxdl.validation.splits import SPLIT, Split, Splitter, Splitting, split_source
from jaxdl.weights.files import check_free, write_text, written_whole

LISTED = 20  # folds; of more, the first ones
TABLE, PICTURE = "folds.csv", "folds.png"


def split_command(
    *,
    data: Spec,
    out: Annotated[Path | None, option("FOLDER")] = None,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "auto",
    seed: int = 0,
    task: TaskOption = "auto",
    debug: Debug = False,
) -> None:
    """Show how the examples would be divided, before anything is trained.

    Args:
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: new folder for the table (folds.csv), a picture (folds.png) and the folds themselves (split.npz).
      dividing: options of the splitter.
      folds: number of folds, a repeat; of combinatorial-purged the time blocks; leave-… and holdout have their own.
      splitter: auto (heeds classes and groups), a name (of which some need groups or times), or a split.npz.
      seed: of the shuffling; cross-validate divides alike with the same one.
      task: whether the target column of a .csv names classes or is a number to predict; auto looks at it.
      debug: show the traceback of an error.
    """
    out = None if out is None else check_free(out)
    source = sources.load(data, split="train", task=task)
    check_labelled(source, purpose="a split")
    split = split_source(source, splitter, folds, seed, Splitting(**vars(dividing)))
    rows = fold_rows(split, source)
    headers, cells = as_text(rows[:LISTED], source)
    table = Table(*headers, box=None, pad_edge=False)
    for line in cells:
        table.add_row(*line)
    _print(table)
    if len(rows) > LISTED:
        console.print(f"and {len(rows) - LISTED} more folds")
    for sentence in say_split(split, rows, source):
        console.print(sentence, soft_wrap=True, highlight=False)
    console.print(f"{split.kind}, {len(split)} folds, sha256 {split.sha256}", soft_wrap=True, highlight=False)
    if out is not None:
        _write(out, split, rows, source)
        console.print(f"table, picture and {SPLIT} in {out}; --splitter {out} divides alike", soft_wrap=True)


def _write(out: Path, split: Split, rows: list[dict], source: Source) -> None:
    flat = as_csv(rows, source)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    with written_whole(out) as work:
        split.save(work / SPLIT, source)
        write_text(work / TABLE, text.getvalue())
        write_split_picture(work / PICTURE, split, source)


def _print(table: Table) -> None:
    """At its full width: a narrow terminal folds the lines."""
    wide = Console(file=console.file, width=400, markup=False, emoji=False)
    with wide.capture() as drawn:
        wide.print(table)
    for line in drawn.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True, highlight=False)
