"""The page of a comparison: scores with their letters, the folds, and every difference with its interval."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jaxdl.report.answer import show_facts
from jaxdl.report.compare import explained
from jaxdl.report.markup import Section, check_place, document, escaped, in_scroll, make_table, note
from jaxdl.report.plots import draw_fold_scores
from jaxdl.report.svg import HELD_OUT, INK, drawing, new_figure, percent_axis, shortened, to_svg
from jaxdl.report.table import plain
from jaxdl.report.units import find_metric, in_percent, measure
from jaxdl.tasks import Metric
from jaxdl.tasks.metric import percent
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.compare import Comparison, Pair
from jaxdl.weights.files import write_text

MOST_PAIRS = 40  # of the picture


def write_comparison_page(path: str | Path, found: Comparison, results: Mapping[str, Result]) -> Path:
    """Writes one HTML file that needs nothing else.

    Args:
      path: of the file, whose folder must be there; a file of that name is replaced at once or not at all.
      found: of `compare`.
      results: that were compared, by the same names.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written.
    """
    path = check_place(path)
    first = next(iter(results.values()))
    metric = find_metric(found.metric, first.asked)
    scored = {name: results[name].scored_by(found.metric) for name in found.scores}
    facts = {
        "data": f"{first.data['name']}, {first.data['examples']} examples",
        "folds": f"{first.split['kind']}, {first.split['k']} folds, sha256 {first.split['sha256']}",
        "metric": found.metric,
        "test": f"{found.test}, level {found.alpha:g} for all pairs together (Holm)",
        **{f"own metric of {name}": own for name, own in found.other_metrics.items()},
    }
    cautions = "".join(f"<p><b>{escaped(name)}</b>: {escaped(said)}</p>" for name, said in found.cautions.items())
    points = " points" if in_percent(metric) else ""

    def in_words(value: float) -> str:
        return f"{_difference(metric, value)}{points}"

    meaning = "".join(f"<p>{escaped(line)}</p>" for line in explained(found, in_words))
    differences = "".join(
        in_scroll(content, label)
        for content, label in (
            (draw_differences(found, metric), "Picture of the differences"),
            (_pairs_table(found, metric), "The differences"),
        )
    )
    sections = [
        Section("The scores", in_scroll(_scores_table(found, metric), "The scores") + cautions),
        Section("Fold by fold", in_scroll(draw_fold_scores(scored, {}), "Picture of the folds' scores")),
        Section("The differences", meaning + differences + note(_how(found))),
        show_facts({topic: plain(text) for topic, text in facts.items()}),
    ]
    lead = f"<p>{len(results)} results on the same folds, by {escaped(found.metric)}.</p>"
    write_text(path, document(f"Comparison on {first.data['name']}", lead, sections))
    return path


def _how(found: Comparison) -> str:
    level = percent(1 - found.alpha, decimals=0)
    return (
        f"First less second; lines are {level} intervals, each for its pair alone. p is of the test for no difference, "
        "p by Holm is corrected for all pairs."
    )


def _scores_table(found: Comparison, metric: Metric) -> str:
    lines = []
    for name, mean in found.scores.items():
        known = [score for score in found.folds[name] if not math.isnan(score)]
        ends = (measure(metric, min(known)), measure(metric, max(known))) if known else ("–", "–")
        lines.append([escaped(name), measure(metric, mean), *ends, escaped(found.letters[name])])
    for name, folds in found.baselines.items():
        known = [score for score in folds if score is not None and not math.isnan(score)]
        shown = [measure(metric, f(known)) if known else "–" for f in (lambda v: sum(v) / len(v), min, max)]
        lines.append([escaped(name), *shown, "–"])
    headers = ["result", escaped(found.metric), "lowest fold", "highest", "letters"]
    return make_table(headers, lines, "numbers", 0)


def _difference(metric: Metric, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if in_percent(metric) else f"{value:{sign}.3g}"


def _pairs_table(found: Comparison, metric: Metric) -> str:
    signed = partial(_difference, metric, sign="+")
    unit = " (points)" if in_percent(metric) else ""
    lines = [
        [
            f"{escaped(pair.first)} – {escaped(pair.second)}",
            signed(pair.difference),
            "–" if pair.low is None else f"{signed(pair.low)} to {signed(pair.high)}",
            f"{pair.p:.3g}",
            f"{pair.adjusted:.3g}",
            "shown" if pair.shown else "not shown",
            "–" if pair.detectable is None else _difference(metric, pair.detectable),
        ]
        for pair in found.pairs
    ]
    level = percent(1 - found.alpha, decimals=0)
    headers = ["pair", f"difference{unit}", f"{level} interval", "p", "p by Holm", "a difference is", "detectable"]
    return make_table(headers, lines, "numbers")


def draw_differences(found: Comparison, metric: Metric) -> str:
    """A line for each pair: the difference, its interval, and a dashed line at none."""
    pairs = found.pairs[:MOST_PAIRS]
    with drawing():
        figure, axes = new_figure(560, 70 + 30 * len(pairs))
        for place, pair in enumerate(pairs):
            if pair.low is not None:
                axes.hlines(place, pair.low, pair.high, color=HELD_OUT, linewidth=3, alpha=0.75)
            axes.plot(pair.difference, place, "o", color=INK, markersize=6)
        axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(pairs)), [shortened(_name(pair), 44) for pair in pairs])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(y=0.5 / len(pairs), x=0.08)
        if in_percent(metric):
            percent_axis(axes, f"difference of {metric.name}", across=True)
        else:
            axes.set_xlabel(f"difference of {metric.name}")
        axes.grid(axis="x")
        said = "; ".join(f"{_name(pair)}: {pair.difference:+.4g}" for pair in pairs)
        return to_svg(figure, "differences", f"Differences of {metric.name}. {said}")


def _name(pair: Pair) -> str:
    return f"{pair.first} – {pair.second}"
