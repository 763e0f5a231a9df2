"""Pictures of a run: calibration, regression, intervals, and the gradient of each stage over training."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxdl.report.markup import in_scroll
from jaxdl.report.predictions import Reliability
from jaxdl.report.svg import HELD_OUT, INK, TRAIN, drawing, epoch_axis, new_figure, percent_axis, shortened, to_svg
from jaxdl.report.units import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 2000  # of a scatter plot; of more, every few are drawn
LUMINANCE = 0.2  # of the stages' colours: about 4 to 1 against a white ground and against the dark one
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))


def draw_reliability(found: Reliability) -> tuple[str, str]:
    """Accuracy by confidence against the diagonal of perfect calibration, and how many predictions each bin holds."""
    width = found.edges[1] - found.edges[0]
    centres = found.edges[:-1] + width / 2
    with drawing():
        figure, axes = new_figure(400, 300, margins=(54, 44, 24, 26))
        axes.bar(centres, np.nan_to_num(found.accuracy), 0.94 * width, color=HELD_OUT, alpha=0.45, linewidth=0)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.plot(found.confidence, found.accuracy, "o", color=HELD_OUT, markersize=6, clip_on=False)
        axes.set_title("accuracy", loc="left", fontsize=12)
        _share_axes(axes)
        percent_axis(axes, "")
        said = f"Reliability diagram: expected calibration error {percent(found.expected_calibration_error)}"
        diagram = to_svg(figure, "reliability", said)
        figure, axes = new_figure(400, 300, margins=(54, 44, 24, 26))
        axes.bar(centres, found.count, 0.94 * width, color=HELD_OUT, alpha=0.75, linewidth=0)
        axes.set_title("predictions", loc="left", fontsize=12)
        _share_axes(axes)
        axes.set_ylim(0, 1.05 * max(1, found.count.max()))
        axes.yaxis.get_major_locator().set_params(integer=True)
        most = int(found.count.argmax())
        said = (
            f"Number of predictions by confidence: most, {found.count[most]} of {found.count.sum()}, lie between "
            f"{100 * found.edges[most]:.0f} and {percent(found.edges[most + 1], decimals=0)}"
        )
        return diagram, to_svg(figure, "confidence", said)


def _share_axes(axes: "Axes") -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("probability of the predicted class")
    axes.grid()


def draw_regression(target: np.ndarray, predicted: np.ndarray) -> tuple[str, str]:
    """Predicted against true numbers, and the residuals (predicted less true) against the predicted ones."""
    chosen = np.unique(np.linspace(0, len(target) - 1, min(len(target), MOST_POINTS)).round().astype(int))
    residual = predicted - target
    with drawing():
        figure, axes = new_figure(440, 340, margins=(64, 44, 14, 26))
        low, high = (f(np.concatenate([target, predicted])) for f in (np.min, np.max))
        axes.plot([low, high], [low, high], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.scatter(target[chosen], predicted[chosen], 16, color=HELD_OUT, alpha=0.55, linewidth=0)
        axes.set_xlabel("true")
        axes.set_title("predicted", loc="left", fontsize=12)
        axes.grid()
        correlation = np.corrcoef(target, predicted)[0, 1] if target.std() and predicted.std() else float("nan")
        scatter = to_svg(figure, "scatter", f"Predicted against true numbers; their correlation is {correlation:.3f}")
        figure, axes = new_figure(440, 340, margins=(64, 44, 14, 26))
        axes.axhline(0, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.scatter(predicted[chosen], residual[chosen], 16, color=TRAIN, alpha=0.55, linewidth=0)
        axes.set_xlabel("predicted")
        axes.set_title("predicted − true", loc="left", fontsize=12)
        axes.grid()
        said = f"Residuals against predictions: mean {residual.mean():.3g}, standard deviation {residual.std():.3g}"
        return scatter, to_svg(figure, "residuals", said)


def draw_intervals(what: str, each: str, rows: Sequence[tuple[str, float, tuple[float, float] | None]]) -> str:
    """A dot for the score of each row, from 0 to 1, and a line for its interval where there is one.

    Args:
      what: the score.
      each: what a row is, such as ``label``.
      rows: name, score, and the ends of its interval; without any there is no picture.
    """
    if not rows:
        return ""
    names, scores, ends = zip(*rows, strict=True)
    with drawing():
        figure, axes = new_figure(560, 60 + 26 * len(names))
        places = np.arange(len(names))[::-1]
        for place, score, reach in zip(places, scores, ends, strict=True):
            if reach is not None:
                axes.hlines(place, *reach, color=HELD_OUT, linewidth=2)
            axes.plot(score, place, "o", color=HELD_OUT, markersize=6, clip_on=False)
        axes.set_yticks(places, [shortened(name, 30) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(0, 1)
        percent_axis(axes, what, across=True)
        axes.grid(axis="x")
        lowest, highest = int(np.argmin(scores)), int(np.argmax(scores))
        said = f"lowest {percent(scores[lowest])} for {names[lowest]}, highest {percent(scores[highest])}"
        svg = to_svg(figure, "labels", f"{what} of each label with its 95 % interval: {said} for {names[highest]}")
    return in_scroll(svg, f"Picture of the {what} of each {each}")


def draw_gradients(norms: Mapping[str, np.ndarray], stages: tuple[str, ...]) -> str:
    """The norm of the gradient by epoch on a logarithmic scale, a line per stage.

    Args:
      norms: by stage, ``[epochs]``; of some of the stages.
      stages: of the network, in order; they give the colours of `stage_colours`.
    """
    colours = stage_colours(len(stages))
    with drawing():
        figure, axes = new_figure(470, 300, margins=(64, 44, 14, 26))
        for place, stage in enumerate(stages):
            if stage in norms:
                values = np.where(norms[stage] > 0, norms[stage], np.nan)  # zero has no logarithm
                epochs = np.arange(1, len(values) + 1)
                marker = "o" if len(values) == 1 else ""
                dash = DASHES[place % len(DASHES)]
                axes.plot(epochs, values, color=colours[place], linewidth=2, linestyle=dash, marker=marker)
        axes.set_yscale("log")
        _plain_decades(axes)
        axes.set_title("gradient norm", loc="left", fontsize=12)
        epoch_axis(axes)
        axes.grid()
        known = {stage: values[np.isfinite(values)] for stage, values in norms.items()}
        said = "; ".join(f"{stage} from {values[0]:.2g} to {values[-1]:.2g}" for stage, values in known.items())
        return to_svg(figure, "gradients", f"Norm of the gradient of each stage by epoch: {said}")


def _plain_decades(axes: "Axes") -> None:
    """Labels in plain text (a page has no formulas), between the decades too where these are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def stage_colours(count: int) -> list[str]:
    """From blue at the input to red at the head, equally bright, so that all are seen on light and dark grounds."""
    return [_with_luminance(hue) for hue in np.linspace(0.62, 0.0, count)]


def _with_luminance(hue: float) -> str:
    """The fully saturated colour of a hue whose relative luminance (WCAG 2) is `LUMINANCE`."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        rgb = np.array(colorsys.hls_to_rgb(hue, middle, 0.85))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        low, high = (middle, high) if linear @ (0.2126, 0.7152, 0.0722) < LUMINANCE else (low, middle)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
