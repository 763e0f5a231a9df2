"""Pictures of results: the score of each fold, the learning curves, the confusion matrix."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.report.svg import (
    HELD_OUT,
    INK,
    TRAIN,
    TRUTH,
    drawing,
    epoch_axis,
    new_figure,
    percent_axis,
    shortened,
    to_svg,
)
from jaxdl.report.units import LOSS, in_percent, known_scores, loss_word, measure, percent, score_metric
from jaxdl.tasks import Metric
from jaxdl.validation.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# blue and vermilion of Okabe & Ito, which colour-blind readers see
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)
MOST_LINES = 20  # folds, above which curves become a band
MOST_COUNTS = 20  # classes, above which cells carry no counts
MOST_BESIDE = 9  # equal scores, above which their dots become one
CURVE_POINTS = 12_000  # about, of all lines in all panels of a kind, so that a page stays small


def draw_fold_scores(results: Mapping[str, Result], truth: Mapping[str, float]) -> str:
    """A dot per fold, a column per method; a bar at the mean, a diamond at the truth where it is known."""
    with drawing():
        figure, axes = new_figure(70 + max(250, 100 * len(results)), 330)
        for column, (method, result) in enumerate(results.items()):
            _draw_scores(axes, column, known_scores(result.folds, result.metric))
            if result.mean is not None:
                axes.hlines(result.mean, column - 0.32, column + 0.32, color=INK, linewidth=2, zorder=1.5)
            if method in truth:
                axes.plot(column + 0.4, truth[method], "D", color=TRUTH, markersize=8, clip_on=False)
        axes.set_xticks(range(len(results)), _wrapped(list(results)))
        axes.set_xlim(-0.5, len(results) - 0.5)
        axes.tick_params(axis="x", length=0)
        metric = score_metric(next(iter(results.values())))
        if in_percent(metric):
            percent_axis(axes, metric.name)
        else:
            axes.set_ylabel(metric.name)
        axes.margins(y=0.12)
        axes.grid(axis="y")
        return to_svg(figure, "scores", _say_scores(results, truth))


def _draw_scores(axes: "Axes", column: int, scores: Sequence[float]) -> None:
    """Equal scores lie side by side; where they are too many, they are one larger dot with their number."""
    values, counts = np.unique(np.round(scores, 9), return_counts=True)
    for value, count in zip(values, counts, strict=True):
        if count <= MOST_BESIDE:
            places, size = column + 0.065 * (np.arange(count) - (count - 1) / 2), 40
        else:
            places, size = np.array([column]), 40 * np.sqrt(min(count, 400) / 3)
            axes.annotate(f"×{count}", (column, value), (0, 12), textcoords="offset points", ha="center")
        axes.scatter(
            places, np.full(len(places), value), size, color=HELD_OUT, alpha=0.75, linewidth=0, zorder=3, clip_on=False
        )


def _say_scores(results: Mapping[str, Result], truth: Mapping[str, float]) -> str:
    said = []
    for method, result in results.items():
        write = partial(measure, score_metric(result))
        scores = known_scores(result.folds, result.metric)
        said.append(f"{method}: mean {write(result.mean)}")
        said[-1] += f", from {write(min(scores))} to {write(max(scores))}" if scores else ""
        said[-1] += f", on unseen examples {write(truth[method])}" if method in truth else ""
    return f"{next(iter(results.values())).metric} of each fold. " + "; ".join(said)


def draw_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], measures: Mapping[str, Metric]
) -> dict[str, list[str]]:
    """Per method the curves of `measures` by epoch, of training and held-out parts, on common scales.

    A thin line per fold and a thick one for the mean; with many folds a band of one standard deviation about the mean.
    What no row of any method has is left out.

    Args:
      curves: rows with ``fold``, ``epoch`` and ``train_…`` and ``test_…`` of the measures, by the method's name.
      measures: see `units.curve_metrics`.
    """
    known = {key for rows in curves.values() for row in rows for key in row}
    wanted = {what: metric for what, metric in measures.items() if known & {f"train_{what}", f"test_{what}"}}
    points = CURVE_POINTS // (len(curves) * max(len({row["fold"] for row in rows}) or 1 for rows in curves.values()))
    points = int(np.clip(points, 20, 200))
    series = {
        (method, part, what): _by_epoch(rows, f"{part}_{what}")
        for method, rows in curves.items()
        for part in ("train", "test")
        for what in wanted
    }
    limits = {what: _limits([v for k, v in series.items() if k[2] == what], m) for what, m in wanted.items()}
    size = (470, 270) if len(curves) == 1 else (270, 200)
    pictures: dict[str, list[str]] = {}
    for place, method in enumerate(curves):
        pictures[method] = []
        for what, metric in wanted.items():
            lines = {part: series[method, part, what] for part in ("train", "test")}
            title = loss_word(metric) if what == LOSS.name else what
            with drawing():
                figure = _draw_panel(size, title, metric, lines, limits[what], points)
                said = _say_curve(method, title, metric, lines)
                pictures[method].append(to_svg(figure, f"curve-{place}-{what}", said))
    return pictures


def _draw_panel(
    size: tuple[int, int],
    title: str,
    metric: Metric,
    lines: Mapping[str, np.ndarray],
    limits: tuple[float, float],
    points: int,
) -> "Figure":
    """The curves of one metric of one method."""
    figure, axes = new_figure(*size, margins=(54, 40, 10, 26))
    for part, colour, dash in (("train", TRAIN, (0, (4, 2))), ("test", HELD_OUT, "-")):
        _draw_curve(axes, lines[part], metric, colour, dash, points)
    if in_percent(metric):
        percent_axis(axes, "")
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_ylim(limits)
    epoch_axis(axes)
    axes.grid()
    return figure


def _by_epoch(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """``[folds, epochs]``, NaN where nothing was recorded."""
    folds = {fold: place for place, fold in enumerate(dict.fromkeys(row["fold"] for row in rows))}
    values = np.full((len(folds), max((row["epoch"] for row in rows), default=0)), np.nan)
    for row in rows:
        value = row.get(key)
        values[folds[row["fold"]], row["epoch"] - 1] = np.nan if value is None else value
    return np.where(np.isfinite(values), values, np.nan)


def _draw_curve(axes: "Axes", values: np.ndarray, metric: Metric, colour: str, dash: Any, points: int) -> None:
    measured = np.flatnonzero(np.isfinite(values).any(0))  # held-out parts may be measured every few epochs
    if not measured.size:
        return
    epochs = measured[np.unique(np.linspace(0, len(measured) - 1, min(points, len(measured))).round().astype(int))]
    values = values[:, epochs]
    marker = "o" if len(epochs) == 1 else ""
    mean, spread = _mean_and_spread(values)
    if 1 < len(values) <= MOST_LINES:
        axes.plot(epochs + 1, values.T, color=colour, linewidth=0.8, alpha=0.55, marker=marker, markersize=3)
    elif len(values) > MOST_LINES:
        band = np.clip(mean - spread, *metric.bounds), np.clip(mean + spread, *metric.bounds)
        axes.fill_between(epochs + 1, *band, color=colour, alpha=0.2, linewidth=0)
    axes.plot(epochs + 1, mean, color=colour, linewidth=2.2, linestyle=dash, marker=marker, dash_capstyle="butt")


def _mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # epochs that no fold recorded
        return np.nanmean(values, 0), np.nanstd(values, 0)


def _limits(series: Sequence[np.ndarray], metric: Metric) -> tuple[float, float]:
    known = np.concatenate([values[np.isfinite(values)] for values in series])
    if not known.size:
        return 0.0, 1.0
    # the few values of a run that blew up must not flatten all others
    if metric.scale == "distance" and not metric.higher_is_better:
        usual = max(1.5 * np.nanmax([values[:, :1].max(initial=0) for values in series]), 4 * np.quantile(known, 0.95))
        return 0.0, float(min(known.max(), usual) * 1.05) or 1.0
    if not in_percent(metric):
        low, high = max(float(known.min()), float(np.quantile(known, 0.05)) - 1), float(known.max())
        return low - 0.05 * (high - low or 1), high + 0.1 * (high - low or 1)
    return max(0.0, float(known.min()) - 0.03), min(1.0, float(known.max()) + 0.1) + 0.02


def _say_curve(method: str, title: str, metric: Metric, lines: Mapping[str, np.ndarray]) -> str:
    said = []
    for part, name in (("train", "training"), ("test", "held-out")):
        mean = _mean_and_spread(lines[part])[0]
        mean = mean[np.isfinite(mean)]
        write = percent if in_percent(metric) else "{:.3f}".format
        if mean.size:
            said.append(f"{name} part from {write(mean[0])} to {write(mean[-1])}")
    return f"{method}: {title} by epoch, mean over folds; " + ", ".join(said)


def draw_confusion(method: str, result: Result) -> str:
    """Rows are true classes, columns predicted ones; up to `MOST_COUNTS` classes with the counts in the cells."""
    counts = result.confusion_matrix()
    classes, few = len(counts), len(counts) <= MOST_COUNTS
    cell = float(np.clip(640 / classes, 30, 52) if few else max(800 / classes, 0.8))
    size = 12 if few else min(11, max(cell, 7))
    every = int(np.ceil(size / cell))  # names that find room
    names = [shortened(name, 18) for name in result.asked.names]
    letters = 0.62 * size * max(map(len, names))
    turn = 0 if few and letters < cell else 45 if cell > 20 else 90
    ends = {"ha": "right", "va": "center" if turn == 90 else "top", "rotation_mode": "anchor"} if turn else {}
    with drawing():
        figure, axes = new_figure(
            cell * classes + letters + 50, cell * classes + (letters * 0.8 + 20 if turn else 30) + 40
        )
        axes.imshow(_shades(counts), interpolation="none")
        axes.set_xticks(range(0, classes, every), names[::every], fontsize=size, rotation=turn, **ends)
        axes.set_yticks(range(0, classes, every), names[::every], fontsize=size)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.spines[:].set(visible=True, alpha=0.4)
        for row, column in np.argwhere(counts) if few else ():
            text = str(counts[row, column])
            size = min(13, 1.5 * (cell - 4) / len(text))
            axes.text(column, row, text, ha="center", va="center_baseline", fontsize=size)
        right = f"{np.trace(counts)} of {counts.sum()} held-out predictions are right"
        return to_svg(figure, "confusion", f"{method}: confusion matrix of {classes} classes, {right}")


def _shades(counts: np.ndarray) -> np.ndarray:
    """``uint8[classes, classes, 4]``: the share of its row as opacity, so that text is readable on any ground."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    alpha = np.round(255 * (0.14 * (share > 0) + 0.48 * np.sqrt(share)))  # so that a single error is still seen
    colour = np.where(np.eye(len(counts), dtype=bool)[..., None], RIGHT, WRONG)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.uint8)


def _wrapped(names: Sequence[str]) -> list[str]:
    """In lines that fit a column, equally many for all, so that the first ones lie level."""
    parts = [textwrap.wrap(shortened(name, 36), 13, break_on_hyphens=False) for name in names]
    most = max(map(len, parts))
    return ["\n".join([*lines, *[" "] * (most - len(lines))]) for lines in parts]
