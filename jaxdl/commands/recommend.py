"""``jaxdl recommend``."""

import json
import shlex
import time
from pathlib import Path
from typing import Any

from jaxdl.cli_options import (
    Debug,
    Dividing,
    DividingOptions,
    NewRun,
    RecommendingOptions,
    RunningFolds,
    RunningFoldsOptions,
    SubjectOptions,
    Trying,
    splitting_of,
)
from jaxdl.commands.by_hand import words_of_examples, words_of_plan, words_of_running, words_of_start
from jaxdl.commands.console import console, errors
from jaxdl.commands.run import Begun, about_command, open_run
from jaxdl.report.recommend import left_out_said, luck_said, table_of, verdict, words_said
from jaxdl.report.units import score_metric
from jaxdl.training.plan import Plan
from jaxdl.training.resume import note_finished
from jaxdl.validation.recommend.recommend import (
    CHECKPOINT,
    METHODS,
    RECOMMENDATION,
    Recommendation,
    Recommending,
    recommend,
)
from jaxdl.validation.splits import SPLIT
from jaxdl.weights.files import write_text

SCORED, FITTED = "by-hand", "by-hand-checkpoint"  # names of --out in the commands that do the same by hand


def recommend_command(
    *,
    subject: SubjectOptions,
    out: NewRun,
    recommending: RecommendingOptions = Trying(),  # noqa: B008
    dividing: DividingOptions = Dividing(),  # noqa: B008
    running: RunningFoldsOptions = RunningFolds(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Try the ways of using a checkpoint on the same folds, and fit the one to take.

    Args:
      subject: what is used, and for what.
      out: folder for the table, the results and the checkpoint; new, or that of the same command, which then goes on.
      recommending: what is tried, and for how long.
      dividing: how the examples are divided, the same for all methods.
      running: how the run is carried out.
      debug: show the traceback of an error.
    """
    asked, begin = Recommending(**vars(recommending)), time.perf_counter()
    with open_run(out, "recommend", subject, running, logs=False) as begun:
        with errors.status("starting") as status:

            def say(text: str) -> None:
                status.update(f"{time.perf_counter() - begin:3.0f} s  {text}")

            found = recommend(
                begun.network,
                begun.source,
                asked,
                task=begun.task,
                splitter=splitting_of(dividing),
                folds=dividing.folds,
                execution=begun.execution.replace(progress=False),
                say=say,
            )
        lines = by_hand(found, begun)
        with begun.result(RECOMMENDATION) as made:
            found.write_to(made)
            told = found.as_dict() | {"by_hand": lines}
            write_text(made / RECOMMENDATION, json.dumps(told, indent=1) + "\n")
            for candidate in found.tried.values():
                about = about_command("cross-validate", subject.init, subject.data, subject.task, subject.masks)
                note_finished(made / METHODS / candidate.folder, about)
        begun.finish()
        _tell(found, told, begun.run.path)


def by_hand(found: Recommendation, begun: Begun) -> list[str]:
    """The command lines that score the chosen method on the same folds, and fit it to all examples."""
    chosen, subject = found.chosen, begun.subject
    start = words_of_start(begun.network, subject.init)
    common = [*start, *words_of_examples(subject), *words_of_running(begun.running)]
    folds = ["--splitter", str(begun.run.path / METHODS / chosen.folder / SPLIT)]
    if not isinstance(chosen.method, Plan):
        seed = ["--seed", str(chosen.method.seed)] if chosen.method.seed else []
        heads = ["--heads", *chosen.method.heads, *seed, "--save-best", FITTED]
        return [shlex.join(["jaxdl", "probe", *common, *folds, *heads, "--out", SCORED])]
    plan = words_of_plan(chosen.method)
    fit = [*common, *plan, *(["--head", "fresh"] if subject.init else []), "--out", FITTED]
    return [
        shlex.join(["jaxdl", "cross-validate", *common, *folds, *plan, "--out", SCORED]),
        shlex.join(["jaxdl", "finetune", *fit]),
    ]


def _tell(found: Recommendation, told: dict[str, Any], out: Path) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers, lines = table_of(told, found.results)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, header in enumerate(headers):
        side = "left" if place == 0 else "right"
        header = ("  " if place == 0 else "") + header.replace("% interval", "%\ninterval").replace("to the", "to\nthe")
        table.add_column(header, justify=side, vertical="bottom", no_wrap=place > 0, overflow="fold")
    for line in lines:
        chosen = line[0] == told["chosen"]
        cells = [("* " if chosen else "  ") + line[0], *line[1:]]
        table.add_row(*map(Text, cells), style="bold" if chosen else "")
    console.print(table)
    console.print(verdict(told, found.results), style="bold", highlight=False)
    metric = score_metric(found.result)
    for text in (luck_said(told, found.results), words_said(metric), *left_out_said(told)):
        if text:
            console.print(text, highlight=False)
    console.print("The same by hand:")
    for line in told["by_hand"]:
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    console.print(f"checkpoint in {out / CHECKPOINT}, results and report.html in {out}", soft_wrap=True)
