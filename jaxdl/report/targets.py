"""The section on held-out predictions of several numbers: number by number, with intervals."""

import numpy as np

from jaxdl.report.diagrams import draw_intervals
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.units import measure
from jaxdl.tasks.multitarget import of_target
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import interval

TITLE = "Number by number"


def show_targets(result: Result) -> Section:
    """R² and mean absolute error of each number, with their 95 % intervals."""
    lines, drawn = [], []
    targets = np.asarray(result.out_of_fold.target, np.float64)
    for place, name in enumerate(result.asked.names):
        row = [escaped(name), f"{targets[:, place].mean():.4g} ± {targets[:, place].std():.2g}"]
        for metric in of_target(place, name):
            score, found = result.sample(metric).pooled_score, interval(result, metric=metric)
            value = measure(metric, float(score) if np.isfinite(score) else None)
            span = "–" if found is None else f"{measure(metric, found.low)} to {measure(metric, found.high)}"
            row += [value, span]
            if metric.higher_is_better and np.isfinite(score):
                drawn.append((name, float(score), found and (found.low, found.high)))
        lines.append(row)
    headers = ["number", "true values", "R²", "95 % interval", "mean absolute error", "95 % interval"]
    table = in_scroll(make_table(headers, lines, "numbers"), TITLE)
    picture = draw_intervals("R²", "number", drawn)
    said = (
        "Over all held-out predictions together, each number in its own units; true values are mean ± standard "
        "deviation. The 95 % intervals are made in the same way as that of the score."
    )
    return Section(TITLE, f"{picture}{table}{note(said)}")
