"""Grids whose best value lies at their edge, so that a better one may lie beyond."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.report.units import find_metric
from jaxdl.tasks import Metric
from jaxdl.tasks.metric import mean_of_defined
from jaxdl.validation.search.result import SearchResult

WIDER = 100.0  # times as far as the edge: the range that is proposed
LEAST = 3  # values; of fewer every one is an edge


def best_edge(values: Sequence[float], scores: np.ndarray, metric: Metric) -> str:
    """``lowest`` or ``highest`` where the best score is at that value of a grid; empty where it lies inside.

    Nothing is said where the neighbour of the edge is as good: then the score does not change any more.

    Args:
      values: of the grid, in any order.
      scores: of each, NaN where there is none.
      metric: of the scores.
    """
    order = np.argsort(np.asarray(values, np.float64))
    merit = metric.sign * np.asarray(scores, np.float64)[order]
    if len(order) < LEAST or not np.isfinite(merit).any():
        return ""
    best = int(np.nanargmax(merit))
    if best == 0 and not merit[1] >= merit[0]:
        return "lowest"
    # of equal ones the first is found: the last is better than all others
    return "highest" if best == len(order) - 1 and not merit[-2] >= merit[-1] else ""


def head_edges(metric: str, heads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each head whose best penalty or number of neighbours is at the edge of its grid.

    Args:
      metric: name of the scores.
      heads: as ``probe.json`` tells them.
    """
    said = []
    for name, head in heads.items():
        grid = [float(value) for value in head["grid"]]
        edge = best_edge(grid, mean_of_defined(np.array(head["scores"], np.float64), 1), find_metric(metric))
        if not edge or (name == "knn" and edge == "lowest"):  # there is no neighbour less than one
            continue
        end = min(grid) if edge == "lowest" else max(grid)
        if name == "knn":
            advice = f"try --neighbours with more than {end:.0f}"
        else:
            low, high = (end / WIDER, max(grid)) if edge == "lowest" else (min(grid), end * WIDER)
            advice = f"try --penalties {low:.3g}:{high:.3g}:{len(grid) + 4}"
        where = f"{name}: the best value, {end:.3g}, is the {edge} of its grid"
        said.append(f"{where}; a better one may lie beyond: {advice}.")
    return said


def search_edges(found: SearchResult) -> list[str]:
    """A sentence for each number of a search whose best value is the lowest or highest that was tried."""
    metric = find_metric(found.criterion, found.result.asked)
    key = "mean" if found.criterion == found.result.metric else "loss"
    rows = found.ranking
    if found.selection["strategy"] == "halving":  # what it left behind was trained for less, and is not comparable
        longest = max(row["epochs"] for row in rows)
        rows = [row for row in rows if row["epochs"] == longest]
    said = []
    for name in found.configurations[0]["values"]:
        tried = [one["values"][name] for one in found.configurations]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in tried):
            continue
        values = sorted({float(value) for value in tried})
        of_row = [float(found.configurations[row["configuration"]]["values"][name]) for row in rows]
        scores = [np.nan if row[key] is None else metric.sign * row[key] for row in rows]
        best = [max((s for s, v in zip(scores, of_row, strict=True) if v == one), default=np.nan) for one in values]
        edge = best_edge(values, metric.sign * np.array(best), metric)
        end = values[0] if edge == "lowest" else values[-1]
        if edge and not (edge == "lowest" and end == 0):  # no dropout, no decay: there is nothing below
            said.append(
                f"{name}: the best value, {end:.3g}, is the {edge} that was tried ({values[0]:.3g} to "
                f"{values[-1]:.3g}); a better one may lie beyond: widen --space."
            )
    return said
