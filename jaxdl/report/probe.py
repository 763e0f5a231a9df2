"""Heads on frozen features: as rows, and their scores along the grid as a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.report.svg import HELD_OUT, INK, drawing, new_figure, percent_axis, to_svg
from jaxdl.report.units import find_metric, in_percent, measure
from jaxdl.tasks.metric import mean_of_defined
from jaxdl.validation.result import Result


def head_rows(saved: Mapping[str, Any], results: Mapping[str, Result]) -> tuple[list[str], list[list[str]], int]:
    """Headers, a line for each head, and which of them has the best mean.

    Args:
      saved: what ``probe.json`` holds.
      results: of each head.
    """
    metric, lines = saved["metric"], []
    for name, one in saved["heads"].items():
        chosen = "–" if one["chosen"] is None else f"{one['chosen']:.3g}"
        found = results[name].interval
        ends = "–" if not found else f"{measure(metric, found['low'])} to {measure(metric, found['high'])}"
        how = "inner folds" if one["nested"] and len(one["grid"]) > 1 else "–" if one["nested"] else "the same folds !"
        score = measure(metric, results[name].mean, results[name].std)
        lines.append([name, score, ends, chosen, how, f"{one['seconds']:.1f}"])
    headers = ["head", metric, "95 % interval", "penalty or neighbours", "chosen by", "seconds"]
    return headers, lines, list(results).index(best_head(metric, results))


def best_head(metric: str, results: Mapping[str, Result]) -> str:
    """The head with the best mean, whose number the page explains."""
    sign = find_metric(metric).sign
    return max(results, key=lambda name: -np.inf if (mean := results[name].mean) is None else sign * mean)


def draw_grid(metric: str, name: str, head: Mapping[str, Any]) -> str:
    """Mean score over folds at every point of the grid, with what is chosen."""
    grid, means = np.array(head["grid"]), mean_of_defined(np.array(head["scores"], np.float64), 1)
    best = np.nanmax if find_metric(metric).higher_is_better else np.nanmin
    with drawing():
        figure, axes = new_figure(300, 220)
        axes.plot(grid, means, "o-", color=HELD_OUT, markersize=4)
        axes.axvline(head["chosen"], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # powers would be set as mathematics, which a page does not know
        axes.xaxis.set_minor_formatter("")
        axes.set_title(name, loc="left", fontsize=12)
        axes.set_xlabel("neighbours" if name == "knn" else "penalty")
        if in_percent(metric):
            percent_axis(axes, "")
        axes.grid(axis="y")
        said = f"{name}: {metric} along the grid, best {measure(metric, float(best(means)))}"
        return to_svg(figure, f"grid-{name}", said)
