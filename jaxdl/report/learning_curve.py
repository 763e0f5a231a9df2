"""A learning curve against the number of training examples: as rows, as a picture, and in words."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdl.report.markup import check_picture
from jaxdl.report.svg import HELD_OUT, INK, TRAIN, drawing, new_figure, to_svg
from jaxdl.report.table import beside
from jaxdl.report.units import find_metric, in_percent, measure, percent
from jaxdl.tasks import Metric
from jaxdl.validation.learning_curve import LearningCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

TITLE = "The curve"  # of the section that says what the numbers are
BLUE, ORANGE = "#0072b2", "#d55e00"


def curve_rows(curve: LearningCurve) -> tuple[list[str], list[list[str]]]:
    """Headers and cells, a line for each size."""
    headers = ["examples", "asked", curve.metric, "95 % interval", "epochs", "steps", "seconds"]
    lines = []
    for point in curve.points:
        found = point["interval"]
        reach = "–" if found is None else f"{_value(curve, found['low'])} to {_value(curve, found['high'])}"
        score = measure(curve_metric(curve), point["mean"], point["std"])
        numbers = f"{point['size']:.0f}", point["asked"], score, reach, str(point["epochs"]), str(point["steps"])
        lines.append([*numbers, f"{point['seconds']:.1f}"])
    return headers, lines


def curve_metric(curve: LearningCurve) -> Metric:
    """Of which the points speak."""
    return find_metric(curve.metric, curve.results[-1].asked if curve.results else None)


def _value(curve: LearningCurve, value: float) -> str:
    return f"{100 * value:.1f}" if in_percent(curve_metric(curve)) else f"{value:.3g}"


def print_curve(console: "Console", curve: LearningCurve, *, explained: bool = True) -> None:
    """The table of `curve_rows`, with what its columns are unless `explained` is False."""
    from rich import box
    from rich.table import Table

    headers, lines = curve_rows(curve)
    table = Table(*headers, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        column.justify = "right"
    for line in lines:
        table.add_row(*line)
    console.print(table)
    if said := meaning(curve) if explained else _compared(curve):
        console.print(said, soft_wrap=True)


def meaning(curve: LearningCurve) -> str:
    """What the columns of `curve_rows` are."""
    said = (
        f"{curve.metric}: mean over folds ± standard deviation between folds, on the same test examples at every size."
    )
    made = {point["interval"]["method"]: point["interval"] for point in curve.points if point["interval"]}
    told = [f"{found.get('of', 'the mean over folds')} ({method})" for method, found in made.items()]
    said += f" Interval around {' and '.join(told)}." if told else ""
    return f"{said} {_compared(curve)}".rstrip()


def _compared(curve: LearningCurve) -> str:
    """What other models score with the most examples; empty where it is not known."""
    other = beside({"": curve.results[-1]}) if curve.results else ""
    return f"{other} (With {curve.points[-1]['size']:.0f} training examples.)" if other else ""


def outlook(curve: LearningCurve) -> str:
    """What twice as many examples would bring, in a sentence or two; or why there is no answer."""
    law, largest = curve.law, curve.points[-1]["size"]
    if law is None:
        return f"What twice as many examples would bring is not known: {curve.why}."
    shares = in_percent(curve_metric(curve))
    shown = percent if shares else "{:.3g}".format
    points = " points" if shares else ""
    gain, low, high = (_value(curve, value) for value in (law.gain, law.gain_low, law.gain_high))
    fitted, measured = curve.score_of(law(np.float64(largest))), curve.points[-1]["mean"]
    ends = sorted(curve.score_of(error) for error in (law.error_low, law.error_high))
    reach = " to ".join(_value(curve, end) for end in ends)
    text = (
        f"With {law.doubled:.0f} training examples instead of {largest:.0f}: {curve.metric} about "
        f"{shown(curve.score_of(law.error))} (95 % interval {reach}). Measured with "
        f"{largest:.0f}: {shown(measured)}. The fitted curve gives {shown(fitted)} there, so that along the curve "
        f"the gain is {gain}{points} ({low} to {high}). The error follows {law.asymptote:.2g} + {law.scale:.3g} · "
        f"n^-{law.exponent:.2g}"
    )
    return text + ("; a gain of nothing is within the noise." if law.gain_low == 0 else ".")


def write_learning_curve(path: str | Path, curve: LearningCurve) -> Path:
    """Score against number of training examples, with intervals, folds and the fitted curve up to twice the largest.

    Args:
      path: a new file ``.png``, ``.svg`` or ``.pdf``.
      curve: what to draw.

    Raises:
      InputError: if the file is there already or has another ending.
    """
    from matplotlib.figure import Figure

    path = check_picture(path)
    figure = Figure((7, 4), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, curve, BLUE, ORANGE, "0.6")
    axes.set_title(f"{curve.data['name']}, {curve.init['model']}", loc="left", parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def draw_learning_curve(curve: LearningCurve) -> str:
    """The picture of `write_learning_curve`, for a page."""
    first, last = curve.points[0], curve.points[-1]
    ends = [f"{measure(curve_metric(curve), point['mean'])} with {point['size']:.0f}" for point in (first, last)]
    with drawing():
        figure, axes = new_figure(620, 380)
        _draw(axes, curve, HELD_OUT, TRAIN, INK)
        return to_svg(figure, "curve", f"{curve.metric} by number of training examples: {' and '.join(ends)}")


def _draw(axes: "Axes", curve: LearningCurve, colour: str, predicted: str, thin: str) -> None:
    from matplotlib.ticker import NullFormatter, PercentFormatter

    sizes = np.array([point["size"] for point in curve.points])
    scores = np.array([point["folds"] for point in curve.points], np.float64)  # NaN where a fold has none
    means = np.array([point["mean"] for point in curve.points], np.float64)
    axes.plot(sizes, scores, color=thin, alpha=0.6, linewidth=0.7)
    axes.plot([], [], color=thin, alpha=0.6, linewidth=0.7, label="each fold")
    axes.plot(sizes, means, "o", color=colour, label="mean over folds", zorder=3)
    known = [place for place, point in enumerate(curve.points) if point["interval"]]
    if known:
        ends = np.array([[curve.points[i]["interval"][end] for i in known] for end in ("low", "high")])
        axes.vlines(sizes[known], *ends, color=colour, linewidth=2, label="95 % interval")
    marks = list(sizes)
    if curve.law:
        law, grid = curve.law, np.geomspace(sizes[0], curve.law.doubled, 200)
        axes.plot(grid, curve.score_of(law(grid)), color=predicted, linestyle="--", label="fitted power law")
        score = curve.score_of(law.error)
        reach = [[abs(score - curve.score_of(error))] for error in (law.error_high, law.error_low)]
        reach = reach if curve.higher_is_better else reach[::-1]  # a larger error is a larger score then
        axes.errorbar([law.doubled], [score], reach, fmt="D", color=predicted, label="predicted for twice as many")
        marks.append(law.doubled)
    axes.set_xscale("log")
    axes.set_xticks(marks, [f"{mark:.0f}" for mark in marks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training examples")
    axes.set_ylabel(curve.metric)
    if in_percent(curve_metric(curve)):
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.2)
    axes.legend(frameon=False, loc="lower right" if curve.higher_is_better else "upper right")
