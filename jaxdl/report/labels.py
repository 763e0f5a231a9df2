"""The section on held-out predictions of labels that are each there or not: label by label, with intervals."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdl.errors import InputError
from jaxdl.report.diagrams import draw_intervals
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.units import measure
from jaxdl.tasks.metric import SHARE, Metric
from jaxdl.tasks.multilabel import of_label
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import Interval, interval

LISTED = 30  # labels; of more, those with the lowest F1 are shown and the others folded away
WORST = 10
UNSURE = 5  # labels with the widest intervals that are named, but at most half of them
SHOWN_AS = Metric("F1", **SHARE)  # both scores are shares
TITLE = "Label by label"


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """Of one label.

    Attributes:
      name: of the label.
      count: examples that have it.
      f1, auc: over all held-out predictions, and the mean over folds; NaN where undefined.
      f1_interval, auc_interval: 95 % intervals, None where there is none.
    """

    name: str
    count: int
    f1: float
    auc: float
    f1_interval: Interval | None
    auc_interval: Interval | None


def label_scores(result: Result) -> list[LabelScores]:
    """Of every label, in their order.

    Raises:
      InputError: unless targets and predictions are 0 or 1 for each of the task's outputs.
    """
    names, record = result.asked.names, result.record
    shapes = {key: np.shape(record.get(key)) for key in ("target", "predicted", "scores")}
    if any(shape != (len(result.out_of_fold.index), len(names)) for shape in shapes.values()):
        raise InputError(f"An example of the task {result.asked.name} has no labels that are there or not.")
    rows = []
    for label, name in enumerate(names):
        f1, area = of_label(label, name)
        rows.append(
            LabelScores(
                name=name,
                count=int(np.sum(record["target"][:, label] == 1)),
                f1=result.sample(f1).pooled_score,
                auc=result.sample(area).pooled_score,
                f1_interval=interval(result, metric=f1),
                auc_interval=interval(result, metric=area),
            )
        )
    return rows


def show_labels(result: Result) -> Section:
    """Examples, F1 and AUC of each label with their intervals, and which labels have the widest intervals."""
    rows = label_scores(result)
    order = sorted(range(len(rows)), key=lambda i: np.nan_to_num(rows[i].f1, nan=np.inf))
    every = in_scroll(_table(rows), "All labels")
    said = (
        "Examples: how many held-out examples have the label. F1: of all held-out predictions together, the harmonic "
        "mean of precision and recall. AUC: the area under the ROC curve, mean over the folds in which it is defined. "
        "The 95 % intervals are made in the same way as that of the score. – stands where nothing has the label or is "
        "predicted to have it (F1), or where no fold tests examples with and without it (AUC)."
    )
    if len(rows) <= LISTED:
        table, shown = every, rows
    else:
        shown = [rows[i] for i in order[:WORST]]
        folded = f"<details><summary>All labels</summary>{every}</details>"
        table = f"<p>The labels with the lowest F1:</p>{in_scroll(_table(shown), TITLE)}{folded}"
    drawn = [
        (row.name, row.f1, row.f1_interval and (row.f1_interval.low, row.f1_interval.high))
        for row in shown
        if np.isfinite(row.f1)
    ]
    picture = draw_intervals("F1", "label", drawn)
    return Section(TITLE, f"{picture}{table}{_unsure(rows)}{note(said)}")


def _table(rows: Sequence[LabelScores]) -> str:
    lines = [
        [escaped(r.name), str(r.count), *_cells(r.f1, r.f1_interval), *_cells(r.auc, r.auc_interval)] for r in rows
    ]
    return make_table(["label", "examples", "F1", "95 % interval", "AUC", "95 % interval"], lines, "numbers")


def _cells(value: float, found: Interval | None) -> tuple[str, str]:
    return measure(SHOWN_AS, value if np.isfinite(value) else None), "–" if found is None else _ends(found)


def _ends(found: Interval) -> str:
    return f"{measure(SHOWN_AS, found.low)} to {measure(SHOWN_AS, found.high)}"


def _unsure(rows: Sequence[LabelScores]) -> str:
    """Those labels whose F1 has the widest intervals, in a sentence."""
    known = [row for row in rows if row.f1_interval is not None]
    widest = sorted(known, key=lambda row: row.f1_interval.low - row.f1_interval.high)
    widest = widest[: min(UNSURE, len(known) // 2)]
    if not widest:
        return ""
    listed = "; ".join(
        f"{row.name} ({_ends(row.f1_interval)}, {row.count} example{'' if row.count == 1 else 's'})" for row in widest
    )
    said = f"The F1 of {listed} is the most uncertain. More examples with these labels would make it more certain."
    return f"<p>{escaped(said)}</p>"
