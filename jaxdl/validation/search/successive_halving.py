"""All configurations through all rungs, division by division: a grid has one rung, halving several."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.tasks import Metric
from jaxdl.validation.batched_runs import Scores
from jaxdl.validation.result import finite
from jaxdl.validation.search.configurations import Configuration
from jaxdl.validation.search.evaluate import Evaluation, Trained, averaged
from jaxdl.validation.search.inner import Part
from jaxdl.validation.search.selection import Standing

Division = str | int  # "all" examples, or those of an outer fold's training part


@dataclasses.dataclass(frozen=True, eq=False)
class Halving:
    """What the rungs left.

    Attributes:
      table: scores of the last rung.
      last: by division, of the configurations that came to the last rung.
      rows: see `SearchResult.scores`; that of a configuration which was left behind is of the rung it reached.
    """

    table: dict[Trained, Scores]
    last: dict[Division, Standing]
    rows: list[dict[str, Any]]


def successive_halving(
    evaluation: Evaluation,
    configurations: Sequence[Configuration],
    divisions: Mapping[Division, Sequence[Part]],
    rungs: Sequence[tuple[int, int]],
    criterion: str,
) -> Halving:
    """Trains the configurations on the parts of every division; each division goes on with its own best.

    Args:
      evaluation: that trains them.
      configurations: by number.
      divisions: the parts of each.
      rungs: epochs to train for (those of the last rung are all) and configurations to go on with.
      criterion: see `search`.
    """
    alive: dict[Division, list[int]] = {name: [one.number for one in configurations] for name in divisions}
    behind: dict[Division, list[dict[str, Any]]] = {name: [] for name in divisions}
    whole = rungs[-1][0]
    for rung, (epochs, left) in enumerate(rungs):
        is_last = rung + 1 == len(rungs)
        wanted = {(n, part) for name, numbers in alive.items() for n in numbers for part in divisions[name]}
        table = evaluation.run(wanted, f"rung-{rung}", share=(epochs, whole), keep=not is_last)
        last = {}
        for name, parts in divisions.items():
            scores = {n: [averaged(table, evaluation.seeds, n, part) for part in parts] for n in alive[name]}
            last[name] = standing = _standing(scores, evaluation.task.score, criterion)
            ranked = [standing.numbers[place] for place in standing.order]
            share = epochs / whole
            rows = [_row(name, configurations[n], scores[n], evaluation.task.metric, share) for n in ranked]
            kept = len(ranked) if is_last else left
            behind[name] = rows[kept:] + behind[name]
            alive[name] = sorted(ranked[:kept])
            if is_last:
                behind[name] = rows + behind[name]
    rows = [{**row, "rank": rank} for rows in behind.values() for rank, row in enumerate(rows, 1)]
    return Halving(table, last, rows)


def _standing(scores: Mapping[int, Sequence[Scores]], metric: Metric, criterion: str) -> Standing:
    def measured(name: str) -> np.ndarray:
        return np.array([[row[name] for row in rows] for rows in scores.values()])

    losses = measured("loss")
    if criterion == "loss":
        return Standing(list(scores), -losses, losses.mean(1))
    values = measured(metric.name)
    return Standing(list(scores), metric.sign * values, losses.mean(1))


def _row(name: Division, one: Configuration, scores: Sequence[Scores], metric: str, share: float) -> dict[str, Any]:
    values, losses = (np.array([row[key] for row in scores]) for key in (metric, "loss"))
    return {
        "division": name if isinstance(name, str) else f"outer fold {name}",
        "configuration": one.number,
        "mean": finite(float(values.mean())),
        "se": _standard_error(values),
        "loss": finite(float(losses.mean())),
        "loss_se": _standard_error(losses),
        "epochs": max(1, round(one.plan.epochs * share)),
        "folds": finite(values.tolist()),
    }


def _standard_error(values: np.ndarray) -> float | None:
    return finite(float(values.std(ddof=1) / np.sqrt(len(values)))) if len(values) > 1 else None
