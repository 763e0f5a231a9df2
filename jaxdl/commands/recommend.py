"""``jaxdl recommend``."""

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdl import data as sources
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
from jaxdl.commands.console import console, errors, say_cautions, say_notes
from jaxdl.commands.run import Begun, about_command, open_run, without_broken
from jaxdl.data.source import Source
from jaxdl.report.recommend import left_out_said, luck_said, table_of, unseen_said, verdict, words_said
from jaxdl.report.table import beside
from jaxdl.tasks.examples import load_examples
from jaxdl.training.plan import Plan
from jaxdl.training.predict import predict
from jaxdl.training.resume import note_finished
from jaxdl.validation.leakage.checks import check_validation
from jaxdl.validation.recommend.recommend import (
    CHECKPOINT,
    METHODS,
    RECOMMENDATION,
    Recommendation,
    Recommending,
    read_recommendation,
    recommend,
)
from jaxdl.validation.result import Result, finite
from jaxdl.validation.splits import SPLIT
from jaxdl.validation.statistics.unseen import score_on_unseen
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
    again = lambda begun: _tell(*read_recommendation(begun.run.path))  # noqa: E731
    kept = f"results, {CHECKPOINT}/"
    with open_run(out, "recommend", subject, running, logs=False, tell=again, kept=kept) as begun:
        unseen = _unseen_part(begun)
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
        told = found.as_dict() | {"by_hand": by_hand(found, begun, out), "unseen": _on_unseen(found, unseen)}
        _tell(told, found.results)
        with begun.result(RECOMMENDATION) as made:
            found.write_to(made)
            write_text(made / RECOMMENDATION, json.dumps(finite(told), indent=1) + "\n")
            for candidate in found.tried.values():
                about = about_command("cross-validate", subject.init, subject)
                note_finished(made / METHODS / candidate.folder, about)
        begun.finish()


def _unseen_part(begun: Begun) -> Source | None:
    """val/, where the data is a folder that has one; leaks between it and the examples are refused."""
    data, task = begun.subject.data, begun.subject.task
    if "val" not in sources.parts_of(data, task):
        return None
    given = load_examples(f"{data}:val", task, masks=begun.subject.masks)
    say_notes(given)
    unseen, broken = without_broken(given, begun.subject.skip_broken)
    begun.broken += broken
    for leak in check_validation(begun.network, begun.source, unseen, allow=begun.execution.allow):
        console.print(f"Caution: {leak.said}", soft_wrap=True, highlight=False)
    return unseen


def _on_unseen(found: Recommendation, unseen: Source | None) -> dict[str, Any] | None:
    """What the checkpoint scores on them, with an interval."""
    if unseen is None:
        return None
    predictions = predict(found.checkpoint, unseen)
    trained = found.result.data["examples"]
    score = score_on_unseen(found.result.asked, predictions.outputs, predictions.targets, trained, unseen.groups)
    return None if score is None else {"name": unseen.name, "examples": len(unseen), **score.as_dict()}


def by_hand(found: Recommendation, begun: Begun, out: Path) -> list[str]:
    """The command lines that score the chosen method on the same folds, and fit it to all examples."""
    chosen, subject = found.chosen, begun.subject
    start = words_of_start(begun.network, subject.init)
    common = [*start, *words_of_examples(subject), *words_of_running(begun.running)]
    folds = ["--splitter", str(out / METHODS / chosen.folder / SPLIT)]
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


def _tell(told: Mapping[str, Any], results: Mapping[str, Result]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers, lines = table_of(told, results)
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
    console.print(verdict(told, results), style="bold", highlight=False)
    for text in (
        unseen_said(told, results),
        luck_said(told, results),
        beside(results),
        words_said(told, results),
        *left_out_said(told),
    ):
        if text:
            console.print(text, highlight=False)
    say_cautions(*(result.leaks for result in results.values()))
    console.print("The same by hand:")
    for line in told.get("by_hand") or ():
        console.print(f"  {line}", soft_wrap=True, highlight=False)
