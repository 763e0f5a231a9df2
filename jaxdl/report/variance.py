"""Where a score's variation comes from: as rows, as a picture, and in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdl.report.markup import check_picture
from jaxdl.report.svg import HELD_OUT, INK, drawing, new_figure, to_svg
from jaxdl.report.table import without
from jaxdl.report.units import in_percent, measure, percent
from jaxdl.validation.baselines import NO_TABLE
from jaxdl.validation.components import DATA, DATA_PLANS, standard_deviation
from jaxdl.validation.result import mean_and_spread
from jaxdl.validation.variance import Variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

BLUE = "#0072b2"
TITLE = "What to repeat"  # of the section with `advice` and `CAVEAT`
CAVEAT = "The splits divide the same examples: another data set would vary more than this."


def _spread(found: Variance, value: float) -> str:
    return f"{100 * value:.2f}" if in_percent(found.metric) else f"{value:.3g}"


def component_rows(found: Variance) -> tuple[list[str], list[list[str]]]:
    """Headers and cells, a line for each source; spreads are standard deviations, of shares in points."""
    headers = ["varies with", "share", "std", "95 % interval", ""]
    lines = []
    for one in found.components:
        low, high, std = (_spread(found, float(np.sqrt(v))) for v in (one.low, one.high, one.variance))
        note = "estimate below 0, given as 0" if one.negative else ""
        lines.append([one.name, percent(one.share, decimals=0), std, f"{low} to {high}", note])
    return headers, lines


def repeat_rows(found: Variance) -> tuple[list[str], list[list[str]]]:
    """Headers and cells: how far the mean score of one plan varies with so many splits and seeds."""
    rows = [
        [str(row["splits"]), str(row["seeds"]), str(row["trainings"]), _spread(found, row["std"])]
        for row in found.repeats
    ]
    return ["splits", "seeds each", "trainings", "std of the mean"], rows


def advice(found: Variance) -> str:
    """What to repeat, in a sentence or two."""
    plans, splits, seeds = found.scores.shape
    variances = {one.name: one.variance for one in found.components}
    by_split = sum(variances.get(name, 0.0) for name in (DATA, DATA_PLANS))
    floor = float(np.sqrt(by_split / splits))
    unit = " points" if in_percent(found.metric) else ""
    now = standard_deviation(variances, splits, seeds)
    alone = standard_deviation(variances, splits * seeds, 1)
    said = (
        f"The mean score of one plan over these {splits} splits with {seeds} seeds each varies by "
        f"{_spread(found, now)}{unit}; more seeds on the same splits never bring it below {_spread(found, floor)}, as "
        f"many trainings on a split each bring it to {_spread(found, alone)}."
    )
    counted = f"{plans} configuration{'s' if plans > 1 else ''}"
    return f"{measure(found.metric, found.mean)} on average over {counted}. {said}"


def compared(found: Variance) -> str:
    """What other models score on the same splits, in a sentence; empty where it is not known."""
    scored = {
        one["name"]: mean_and_spread(one["folds"][found.metric])
        for one in found.baselines or ()
        if found.metric in one["folds"]
    }
    listed = ", ".join(f"{name} {measure(found.metric, *score)}" for name, score in scored.items())
    said = [f"For comparison, on the same splits: {listed}."] if listed else []
    return " ".join([*said, *(one for one in without(found.baselines or ()) if NO_TABLE not in one)])


def print_variance(console: "Console", found: Variance, *, explained: bool = True) -> None:
    """Both tables, with what they are of; without `CAVEAT` if `explained` is False."""
    unit = " in points" if in_percent(found.metric) else ""
    console.print(f"{found.metric} of one training, standard deviations{unit}:")
    _print_table(console, *component_rows(found), left=(0, 4))
    console.print("\nwhat to repeat:")
    _print_table(console, *repeat_rows(found))
    console.print(f"{advice(found)} {CAVEAT}" if explained else advice(found), soft_wrap=True)
    if said := compared(found):
        console.print(said, soft_wrap=True, highlight=False)


def _print_table(
    console: "Console", headers: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int] = ()
) -> None:
    from rich import box
    from rich.table import Table

    table = Table(*headers, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(table.columns):
        column.justify = "left" if place in left else "right"
    for line in lines:
        table.add_row(*line)
    console.print(table)


def write_variance(path: str | Path, found: Variance) -> Path:
    """A bar for each source's standard deviation with its interval; to a new file ``.png``, ``.svg`` or ``.pdf``.

    Raises:
      InputError: if the file is there already or has another ending.
    """
    from matplotlib.figure import Figure

    path = check_picture(path)
    figure = Figure((7, 1 + 0.5 * len(found.components)), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, found, BLUE, "0.2")
    axes.set_title(f"{found.data['name']}, {found.model['name']}", loc="left", parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def draw_variance(found: Variance) -> str:
    """The picture of `write_variance`, for a page."""
    largest = max(found.components, key=lambda one: one.variance)
    said = f"Standard deviation of the {found.metric} by source; most of it varies with {largest.name}"
    with drawing():
        figure, axes = new_figure(620, 70 + 36 * len(found.components))
        _draw(axes, found, HELD_OUT, INK)
        return to_svg(figure, "variance", said)


def _draw(axes: "Axes", found: Variance, colour: str, ink: str) -> None:
    factor = 100 if in_percent(found.metric) else 1
    std, low, high = (
        factor * np.sqrt([getattr(one, name) for one in found.components]) for name in ("variance", "low", "high")
    )
    places = np.arange(len(std))[::-1]
    axes.barh(places, std, 0.55, color=colour, alpha=0.75)
    axes.hlines(places, low, high, color=ink, linewidth=1.5)
    axes.set_yticks(places, [one.name for one in found.components])
    axes.set_xlim(0, 1.05 * max(float(high.max()), 1e-12))
    axes.set_xlabel(f"standard deviation of the {found.metric}" + (", points" if factor == 100 else ""))
    axes.spines[["top", "right"]].set_visible(False)
