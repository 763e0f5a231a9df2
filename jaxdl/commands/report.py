"""``jaxdl report``."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import Debug, TaskOption, option
from jaxdl.commands.console import console, say_notes
from jaxdl.data import is_table
from jaxdl.report.run import how_read, read_told
from jaxdl.report.run_page import write_run_report
from jaxdl.tasks.examples import load_examples
from jaxdl.weights.buckets import place_of


def report_command(
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")],
    *,
    data: Annotated[str | None, option("SPEC")] = None,
    out: Annotated[Path | None, option("FILE.html")] = None,
    task: TaskOption = "auto",
    debug: Debug = False,
) -> None:
    """Write a page on a run: what was run, how good it is, what happened inside.

    Args:
      run: folder that cross-validate, search, learning-curve, variance, probe, pretrain or finetune made.
      data: the examples of the run, if they are no longer where they were.
      out: file to write; by default report.html in the folder of the run. An earlier report is replaced.
      task: the --task of the run, where --data is given.
      debug: show the traceback of an error.
    """
    table = None if data is None or not is_table(data) else how_read(read_told(place_of(run))).get("table")
    source = None if data is None else load_examples(data, task, table=table)
    if source is not None:
        say_notes(source)
    console.print(f"report in {write_run_report(run, source, out)}", soft_wrap=True)
