"""``jaxdl compare``."""

import json
import math
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from jaxdl.cli_options import Debug, MetricOption, option
from jaxdl.commands.console import console, print_wide, score
from jaxdl.errors import InputError
from jaxdl.report.compare import draw_comparison, explained
from jaxdl.report.compare_page import write_comparison_page
from jaxdl.tasks.metric import percent
from jaxdl.validation.result import load_result
from jaxdl.validation.statistics.compare import Comparison, Test, compare

PICTURE, NUMBERS, PAGE = ".png", ".json", ".html"


def compare_command(
    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...", help_behavior_hint="")
    ],
    /,
    *,
    metric: MetricOption = None,
    test: Test = "corrected-t",
    alpha: float = 0.05,
    seed: int = 0,
    out: Annotated[Path | None, option("FILE")] = None,
    debug: Debug = False,
) -> None:
    """Say which results on the same folds differ, and how much they may.

    Args:
      runs: folders of cross-validate, on the same folds.
      metric: one of the task's, such as macro_f1, or a scorer of scikit-learn; by default that of the first run.
      test: of the folds' scores (corrected-t), or of held-out predictions by groups (out-of-fold, mcnemar, bootstrap).
      alpha: chance of finding a difference anywhere where there is none; Holm's correction keeps it.
      seed: of the bootstrap.
      out: file for a page (.html), a picture (.png) or the numbers (.json); it must not exist yet.
      debug: show the traceback of an error.
    """
    if out is not None and (out.suffix not in (PICTURE, NUMBERS, PAGE) or out.exists()):
        raise InputError(f"--out is '{out}'; expected the name of a new {PAGE}, {PICTURE} or {NUMBERS} file")
    names = [str(run) for run in runs]
    if len(set(names)) < len(names):
        raise InputError("a run is named twice; expected different ones")
    results = {name: load_result(name) for name in names}
    found = compare(results, metric=metric, test=test, alpha=alpha, seed=seed)
    if metric is None and found.other_metrics:
        others = ", ".join(f"{name} by {own}" for name, own in found.other_metrics.items())
        console.print(
            f"The runs were scored by different metrics. All are compared by {found.metric}, the metric of {names[0]} "
            f"({others}). --metric NAME compares by another one.",
            soft_wrap=True,
            highlight=False,
            style="yellow",
        )
    _tell(found)
    if out is not None and out.suffix == PICTURE:
        draw_comparison(found, out)
    elif out is not None and out.suffix == PAGE:
        write_comparison_page(out, found, results)
    elif out is not None:
        out.write_text(json.dumps(found.as_dict(), indent=1) + "\n")
    if out is not None:
        console.print(f"written to {out}", soft_wrap=True)


def _tell(found: Comparison) -> None:
    table = Table(box=None, pad_edge=False)
    for title, side in (("run", "left"), (found.metric, "right"), ("lowest fold", "right"), ("highest", "right")):
        table.add_column(title, justify=side)
    table.add_column("letters")
    for name, mean in found.scores.items():
        folds = [fold for fold in found.folds[name] if not math.isnan(fold)] or [math.nan]
        mark = " !" if name in found.cautions else ""
        table.add_row(name, score(mean) + mark, score(min(folds)), score(max(folds)), found.letters[name])
    table.add_section()
    for name, folds in found.baselines.items():
        known = [fold for fold in folds if fold is not None] or [math.nan]
        table.add_row(name, score(sum(known) / len(known)), score(min(known)), score(max(known)), "–", style="dim")
    console.print(table)
    for name, said in found.cautions.items():
        console.print(f"! {name}: {said}", soft_wrap=True, highlight=False, style="yellow")
    console.print()
    _tell_pairs(found)


def _tell_pairs(found: Comparison) -> None:
    """The difference of every pair with its interval, and what could have been found."""
    table = Table(box=None, pad_edge=False)
    interval = f"{percent(1 - found.alpha, decimals=0)} interval"
    columns = ("pair", "difference", interval, "p", "p by Holm", "a difference is", "detectable")
    for title in columns:
        table.add_column(title, justify="left" if title in ("pair", "a difference is") else "right", overflow="fold")
    for pair in found.pairs:
        table.add_row(
            f"{pair.first} – {pair.second}",
            f"{pair.difference:+.4f}",
            "–" if pair.low is None else f"{pair.low:+.4f} to {pair.high:+.4f}",
            score(pair.p, 3),
            score(pair.adjusted, 3),
            "shown" if pair.shown else "not shown",
            "–" if pair.detectable is None else score(pair.detectable),
        )
    print_wide(table)
    for line in explained(found):
        console.print(line, soft_wrap=True, highlight=False)
