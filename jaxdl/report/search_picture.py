"""Pictures of a search: its scores along each setting, and all settings of each configuration at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.report.svg import HELD_OUT, INK, drawing, new_figure, percent_axis, shortened, to_svg
from jaxdl.report.units import find_metric, in_percent, measure
from jaxdl.tasks import Metric
from jaxdl.validation.search.result import SearchResult
from jaxdl.validation.search.space import Uniform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 200  # configurations of the parallel coordinates, the best ones
TIMES = 10  # from the smallest to the largest value, from which on an axis is logarithmic
NAME = 18  # letters of a value


class Setting:
    """The values of one setting over configurations, as places on an axis.

    The axis of numbers is logarithmic where they were drawn so, or were given and lie far apart.

    Attributes:
      name: of the setting.
      places: ``float[configurations]``: the value, its logarithm, or the number of its word.
      ticks: places with their texts.
    """

    def __init__(self, name: str, values: Sequence[Any], kind: str | None = None):
        self.name = name
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numbers and len(set(values)) > 1:
            low, high = min(values), max(values)
            logs = kind != Uniform.__name__ and low > 0 and high / low >= TIMES
            place = np.log10 if logs else np.asarray
            self.places = np.array(place(np.array(values, float)))
            shown = sorted(set(values)) if len(set(values)) <= 5 else [low, high]
            self.ticks = [(float(place(value)), f"{value:.3g}") for value in shown]
        else:
            words = sorted(set(map(_word, values)))
            self.places = np.array([words.index(_word(value)) for value in values], float)
            self.ticks = [(float(i), shortened(word, NAME)) for i, word in enumerate(words)]


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _scores(found: SearchResult) -> tuple[list[int], np.ndarray, np.ndarray, Metric]:
    """Of the configurations that have an inner value of the criterion, the best first: their numbers, the values, and
    whether they were trained to the end; and the criterion."""
    key = "loss" if found.criterion == found.result.asked.LOSS else "mean"
    rows = [row for row in found.ranking if row.get(key) is not None]
    longest = max((row["epochs"] for row in rows), default=0)
    values, whole = [row[key] for row in rows], [row["epochs"] == longest for row in rows]
    metric = find_metric(found.criterion, found.result.asked)
    return [row["configuration"] for row in rows], np.array(values, float), np.array(whole, bool), metric


def settings_of(found: SearchResult, numbers: Sequence[int]) -> list[Setting]:
    """The settings that differ between configurations, by the values that `numbers` have."""
    values = [found.configurations[number]["values"] for number in numbers]
    made = [
        Setting(name, [one[name] for one in values], found.space.get(name, {}).get("kind"))
        for name in (values[0] if values else ())
    ]
    return [setting for setting in made if len(setting.ticks) > 1]


def draw_settings(found: SearchResult) -> list[str]:
    """For each setting a picture: a dot for each configuration at its value and its inner score."""
    numbers, scores, whole, metric = _scores(found)
    pictures = []
    for place, setting in enumerate(settings_of(found, numbers)):
        with drawing():
            figure, axes = new_figure(300, 230)
            _dots(axes, setting.places, scores, whole, numbers, found.final)
            axes.set_xticks(*zip(*setting.ticks, strict=True))
            axes.set_title(setting.name, loc="left", fontsize=12)
            axes.margins(x=0.12, y=0.12)
            if in_percent(metric):
                percent_axis(axes, "")
            axes.grid(axis="y")
            final = numbers.index(found.final) if found.final in numbers else 0
            at = _word(found.configurations[numbers[final]]["values"][setting.name])
            said = f"Inner {metric.name} along {setting.name}; the final configuration has {at}"
            pictures.append(to_svg(figure, f"setting-{place}", f"{said}: {measure(metric, float(scores[final]))}"))
    return pictures


def _dots(
    axes: "Axes", places: np.ndarray, scores: np.ndarray, whole: np.ndarray, numbers: Sequence[int], final: int
) -> None:
    """Configurations that were stopped early are hollow; the final one has a ring."""
    axes.scatter(places[whole], scores[whole], 34, color=HELD_OUT, alpha=0.75, linewidth=0, zorder=3)
    axes.scatter(places[~whole], scores[~whole], 30, facecolors="none", edgecolors=HELD_OUT, alpha=0.6, zorder=3)
    chosen = np.array(numbers) == final
    axes.scatter(places[chosen], scores[chosen], 120, facecolors="none", edgecolors=INK, linewidth=1.6, zorder=4)


def draw_parallel(found: SearchResult) -> str | None:
    """Parallel coordinates (Inselberg 1985): an axis for each setting and one for the inner score, a line for each
    configuration, the darker the better; None where fewer than two settings differ."""
    numbers, scores, _, metric = _scores(found)
    numbers, scores = numbers[:MOST_LINES], scores[:MOST_LINES]
    settings = settings_of(found, numbers)
    if len(settings) < 2:
        return None
    best, worst = (float(scores[i]) for i in (np.argmax(metric.sign * scores), np.argmin(metric.sign * scores)))
    score = Setting(f"inner {metric.name}", scores.tolist())
    score.places = metric.sign * scores  # the better, the higher
    score.ticks = [(metric.sign * value, measure(metric, value)) for value in dict.fromkeys((best, worst))]
    axes_of = [*settings, score]
    heights = np.stack([_unit(setting, setting.places) for setting in axes_of], 1)
    with drawing():
        figure, axes = new_figure(max(360, 130 * len(axes_of)), 300)
        for rank in reversed(range(len(numbers))):
            alpha = 0.12 + 0.5 * (1 - rank / max(len(numbers) - 1, 1))
            axes.plot(heights[rank], color=HELD_OUT, alpha=alpha, linewidth=1.3, clip_on=False)
        if found.final in numbers:
            axes.plot(heights[numbers.index(found.final)], "o-", color=INK, linewidth=2.4, markersize=5, clip_on=False)
        for place, setting in enumerate(axes_of):
            axes.axvline(place, color=INK, linewidth=1, alpha=0.5)
            for at, text in setting.ticks:
                axes.annotate(
                    text,
                    (place, float(_unit(setting, np.array([at]))[0])),
                    (5, 6),
                    textcoords="offset points",
                    va="center",
                    fontsize=10.5,
                )
        axes.set_xticks(range(len(axes_of)), [shortened(setting.name, NAME) for setting in axes_of])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.15, len(axes_of) - 0.5)
        names = ", ".join(setting.name for setting in axes_of)
        said = (
            f"A line for each configuration over {names}: best {measure(metric, best)}, worst {measure(metric, worst)}"
        )
        return to_svg(figure, "parallel", said)


def _unit(setting: Setting, places: np.ndarray) -> np.ndarray:
    """Places from 0 to 1 between the outermost ticks and values of a setting."""
    every = [*setting.places, *(at for at, _ in setting.ticks)]
    low, high = min(every), max(every)
    return (places - low) / (high - low) if high > low else np.full(len(places), 0.5)
