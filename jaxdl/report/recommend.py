"""What a recommendation says, for the terminal and for a page: the table, the choice, what was left out."""

from collections.abc import Mapping
from typing import Any

from jaxdl.report.table import baseline_rows
from jaxdl.report.units import in_percent, measure, score_metric
from jaxdl.tasks import Metric
from jaxdl.tasks.metric import percent
from jaxdl.validation.recommend.choice import LEVEL
from jaxdl.validation.recommend.methods import FROZEN, FULL, LORA, PARTIAL, PROBE, SCRATCH
from jaxdl.validation.result import Result

Told = Mapping[str, Any]  # as of `Recommendation.as_dict`


def table_of(told: Told, results: Mapping[str, Result]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells: a line for each method that was tried, from the simplest, then what it is to be held against.

    Shares are in percent.
    """
    level = percent(LEVEL, decimals=0)
    headers = ["method", told["metric"], f"{level} interval", "difference to the best", "seconds"]
    lines = []
    for row in told["methods"]:
        metric, found = score_metric(results[row["name"]]), row["interval"]
        ends = "–" if found is None else f"{_number(metric, found['low'])} to {_number(metric, found['high'])}"
        seconds = f"{row['seconds']:.1f}" if row["seconds"] < 100 else f"{row['seconds']:.0f}"
        difference = difference_said(metric, row["difference"])
        lines.append([row["name"], measure(metric, row["mean"], row["std"]), ends, difference, seconds])
    lines += [
        [row["method"], measure(row["score"], row["mean"], row["std"]), "–", "–", "–"] for row in baseline_rows(results)
    ]
    return headers, lines


def difference_said(metric: Metric, difference: Told | None) -> str:
    """A difference with its interval; of shares in points of a percentage."""
    if difference is None:
        return "(the best)"
    said, *ends = (
        None if difference[key] is None else _number(metric, difference[key], "+") for key in ("value", "low", "high")
    )
    return said if None in ends else f"{said} ({' to '.join(ends)})"


def _number(metric: Metric, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if in_percent(metric) else f"{value:{sign}.3g}"


def verdict(told: Told, results: Mapping[str, Result]) -> str:
    """Which method is recommended, and why, in two sentences."""
    chosen, best = told["chosen"], told["best"]
    if len(results) == 1:
        return f"Recommended: {chosen}, the only method that was tried."
    if chosen == best:
        return (
            f"Recommended: {chosen}. It has the best score, and every simpler method is shown to be worse than another."
        )
    row = next(row for row in told["methods"] if row["name"] == chosen)
    metric = score_metric(results[best])
    return (
        f"Recommended: {chosen}, the simplest method that no other is shown to beat. The best score is that of {best}; "
        f"the difference of {chosen} to it is {difference_said(metric, row['difference'])}: no difference shown."
    )


KINDS_SAID = {
    PROBE: "a linear head is fitted to what the frozen body makes of the examples",
    FROZEN: "frozen body trains a head on it step by step",
    PARTIAL: "partial trains the last third of the stages, too",
    LORA: "LoRA trains small additions to all stages",
    FULL: "full trains the whole network",
    SCRATCH: "scratch starts from random weights",
}


def words_said(told: Told, results: Mapping[str, Result]) -> str:
    """What names and numbers of the table mean."""
    kinds = [KINDS_SAID[kind] for kind in dict.fromkeys(row["kind"] for row in told["methods"])]
    said = f"{'; '.join(kinds)}. at: the peak of the learning rate."
    if len(results) > 1:
        metric = score_metric(results[told["chosen"]])
        unit = "points of a percentage" if in_percent(metric) else metric.name
        said += f" Differences are in {unit}, with their paired 95 % interval."
    return said[:1].upper() + said[1:]


def luck_said(told: Told, results: Mapping[str, Result]) -> str:
    """How much too good the best score is, for having been chosen by the folds that gave it; "" for one method."""
    if len(results) < 2:
        return ""
    said = (
        f"The same folds scored these {len(results)} methods and chose among them, so that the best score is a little "
        "too good"
    )
    if told["without_luck"] is None:
        return f"{said}."
    best = results[told["best"]]
    metric = score_metric(best)
    found, expected = (measure(metric, value) for value in (best.sample().pooled_score, told["without_luck"]))
    return (
        f"{said}: {found} of all held-out examples together, where {expected} is to be expected without that luck "
        "(BBC-CV, Tsamardinos et al. 2018). A simpler method that was chosen for not being beaten is affected less."
    )


def unseen_said(told: Told, results: Mapping[str, Result]) -> str:
    """What the checkpoint scores on examples that no fold has seen; "" where there were none."""
    if not (found := told.get("unseen")):
        return ""
    metric = score_metric(results[told["chosen"]])
    low, high = (_number(metric, found[end]) for end in ("low", "high"))
    return (
        f"On the {found['examples']} examples of {found['name']}, which had no part in any of this, the checkpoint's "
        f"{metric.name} is {measure(metric, found['estimate'])} (95 % interval {low} to {high})."
    )


def left_out_said(told: Told) -> list[str]:
    """Sentences on the methods that were left out, by the reason, with what they would take."""
    reasons: dict[str, list[str]] = {}
    for one in told["left_out"]:
        reasons.setdefault(one["why"], []).append(one["name"] + _time_said(one))
    return [f"Left out: {', '.join(names)}; {why}." for why, names in reasons.items()]


def _time_said(one: Told) -> str:
    if (seconds := one["seconds"]) is None:
        return ""
    about = "about" if one["timed"] else "at least"
    return f" ({about} {seconds:.0f} s)" if seconds < 100 else f" ({about} {seconds / 60:.0f} minutes)"
