"""The sections on prediction sets and intervals of the held-out examples: their size, and which parts they cover."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.examples import EXAMPLES, list_examples
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.predictions import first_places
from jaxdl.report.units import percent
from jaxdl.validation.conformal.sets import Covering, PredictionSets, observe
from jaxdl.validation.result import Result

COVERAGES = (0.8, 0.9, 0.95, 0.99)  # between which a reader may choose
COVERAGE = 0.9  # at which parts and examples are shown, unless the networks are right more often than that
LISTED = 30  # parts; of more, those that are covered least are shown and the others folded away
WORST = 10
NAMED = 5  # parts that a sentence names
SETS, INTERVALS = "Sets that hold the true class", "Intervals that hold the true number"


def show_sets(result: Result, source: Source | None) -> Section:
    """How large sets are at each coverage, how often each class and group is in them, and which are empty or large."""
    found, rows = result.sets(COVERAGE), []
    right = float(np.mean(result.predicted == result.out_of_fold.target))
    for coverage in COVERAGES:
        try:
            made = found.at(coverage)
            rows.append(_sizes(made))
        except InputError as error:
            rows.append([percent(coverage, decimals=0), *"–––––", _reason(error)])
            continue
        if found.coverage <= right < coverage:  # below that, sets are empty where the networks are right
            found = made
    heads = ["coverage asked", "mean size", "empty", "one class", "two", "three or more", "held the true class"]
    targets, names = result.out_of_fold.target, result.asked.names
    classes = [names[c] for c in targets]
    body = [
        f"<p>{escaped(found.meaning)} Large sets tell which examples the networks are unsure of.</p>",
        _cautions(found),
        in_scroll(make_table(heads, rows, "numbers"), "Size of sets"),
        _parts(found, "class", classes, sizes=found.size),
        _unfair(found, classes, "class", "Sets made with --coverage-by class hold it as often in each."),
        _by_group(found, result, source, sizes=found.size),
        _examples(found, result, source),
        note(_how("sets")),
    ]
    return Section(SETS, "".join(body))


def show_intervals(result: Result, source: Source | None) -> Section:
    """How wide intervals are at each coverage, and how often they hold small and large numbers, and each group."""
    rows = []
    for coverage in COVERAGES:
        try:
            made = result.intervals(coverage)
            rows.append([percent(coverage, decimals=0), f"{made.width.mean():.4g}", _observed(made.covered)])
        except InputError as error:
            rows.append([percent(coverage, decimals=0), "–", _reason(error)])
    found = result.intervals(COVERAGE)
    thirds = _thirds(result.predicted)
    rising = dict.fromkeys(np.array(thirds)[np.argsort(result.predicted)].tolist())
    advice = "Errors may grow with the number: try its logarithm."
    body = [
        f"<p>{escaped(found.meaning)}</p>",
        _cautions(found),
        in_scroll(make_table(["coverage asked", "mean width", "held the true number"], rows, "numbers"), "Width"),
        _parts(found, "predicted number", thirds, list(rising)),
        _unfair(found, thirds, "third of the predicted numbers", advice),
        _by_group(found, result, source),
        note(_how("intervals")),
    ]
    return Section(INTERVALS, "".join(body))


def _reason(error: InputError) -> str:
    return f'<span class="words">{escaped(error.problem)}</span>'  # in a table of numbers, whose lines are not broken


def _how(what: str) -> str:
    return (
        f"These {what} are of the held-out examples: what a fold says of an example is compared with what the other "
        "folds held out. The share of all of them that hold the truth is close to what was asked by construction; look "
        "at its parts. New examples are predicted by all folds together (CV+, Barber et al. 2021): jaxdl ensemble RUN "
        "--out ENSEMBLE, then jaxdl predict --checkpoint ENSEMBLE --coverage 0.9. The 95 % intervals are "
        "binomial, and too narrow where examples come in groups."
    )


def _cautions(found: Covering) -> str:
    """Why less may be held than asked."""
    return "".join(f"<p><b>Caution</b>: {escaped(said)}</p>" for said in found.basis.cautions)


def _sizes(found: PredictionSets) -> list[str]:
    counts = np.bincount(np.minimum(found.size, 3), minlength=4) / len(found.size)
    shares = [percent(share) for share in counts]
    return [percent(found.coverage, decimals=0), f"{found.size.mean():.2f}", *shares, _observed(found.covered)]


def _observed(covered: np.ndarray) -> str:
    found = observe(covered)
    return f"{percent(found.share)} ({percent(found.low)} to {percent(found.high)})"


def _parts(
    found: Covering,
    what: str,
    part: Sequence[Any],
    order: Sequence[Any] | None = None,
    *,
    sizes: np.ndarray | None = None,
) -> str:
    """A table of the coverage of each part, in an order or the least covered first; of many some are folded away."""
    part, lines = np.asarray(part), []
    for value in np.unique(part).tolist() if order is None else order:
        mine = part == value
        size = [] if sizes is None else [f"{sizes[mine].mean():.2f}"]
        covered = found.covered[mine]
        lines.append((covered.mean(), [escaped(value), str(len(covered)), _observed(covered), *size]))
    if order is None:
        lines.sort(key=lambda line: line[0])
    heads = [what, "examples", "held the truth (95 % interval)", *([] if sizes is None else ["mean size"])]
    title = f"Coverage by {what}"

    def table(some: Sequence[Any]) -> str:
        return in_scroll(make_table(heads, [line for _, line in some], "numbers"), title)

    shown = table(lines)
    if len(lines) > LISTED:
        shown = f"{table(lines[:WORST])}<details><summary>All {len(lines)}</summary>{shown}</details>"
    return f"<h3>{title} ({percent(found.coverage, decimals=0)} asked)</h3>{shown}"


def _unfair(found: Covering, part: Sequence[Any], what: str, advice: str) -> str:
    """Those parts that are covered less often than asked, beyond chance."""
    part = np.asarray(part)
    values = np.unique(part).tolist()
    # by chance one of many parts is low: the level is divided among them (Bonferroni)
    low = [v for v in values if _is_low(found.covered[part == v], found.coverage, 0.025 / len(values))]
    if not low:
        return f"<p>In no {what} is the truth held less often than asked by more than chance.</p>"
    listed = ", ".join(map(str, low[:NAMED])) + (f" and {len(low) - NAMED} more" if len(low) > NAMED else "")
    said = f"the truth is held less often than asked, by more than chance, in this {what}: {listed}. {advice}"
    return f"<p><b>Caution</b>: {escaped(said)}</p>"


def _is_low(covered: np.ndarray, coverage: float, level: float) -> bool:
    from scipy.stats import binomtest

    return bool(binomtest(int(covered.sum()), len(covered), coverage, "less").pvalue < level)


def _thirds(predicted: np.ndarray) -> list[str]:
    """Of each example the third of the predicted numbers that it is in, in rising order."""
    ends = np.quantile(predicted, (1 / 3, 2 / 3))
    names = np.array([f"below {ends[0]:.4g}", f"{ends[0]:.4g} to {ends[1]:.4g}", f"above {ends[1]:.4g}"])
    return names[np.digitize(predicted, ends)].tolist()


def _by_group(found: Covering, result: Result, source: Source | None, **more: Any) -> str:
    """As `_parts` of the groups, by their names where the examples are there."""
    rows = result.out_of_fold
    if rows.group is None:
        return ""
    groups = None if source is None else source.groups
    return _parts(found, "group", rows.group if groups is None else np.asarray(groups)[rows.index], **more)


def _examples(found: PredictionSets, result: Result, source: Source | None) -> str:
    """Empty sets, then the largest ones of at least two classes."""
    held, task, size = result.out_of_fold, result.asked, found.size
    usual = found.p_values.max(1)  # of sets of one size, those whose classes are all strange come first
    empty = first_places(held, usual, size == 0, EXAMPLES // 2)
    places = np.concatenate([empty, first_places(held, usual - size, size > 1, EXAMPLES - len(empty))])
    if not len(places):
        return "<p>Every set holds one class.</p>"
    words = found.classes
    rows = [
        {
            "index": int(held.index[i]),
            "true": task.names[held.target[i]],
            "set": ", ".join(words[i]) or "empty",
            "size": int(size[i]),
        }
        for i in places
    ]

    def caption(row: Mapping[str, Any]) -> tuple[str, str]:
        return f"true {row['true']}, set {row['set']}", f"(size {row['size']})"

    title = "Empty and large sets"
    said = (
        f"Of {len(size)} sets {(size == 0).sum()} are empty (no class is as probable as is usual for a true one) and "
        f"{(size > 1).sum()} hold several classes. The empty ones come first here, then the largest."
    )
    return f"<h3>{title}</h3><p>{said}</p>{list_examples(rows, caption, source, title)}"
