"""The section on how sure a score is: its interval, other metrics, and what calibration would bring."""

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

from jaxdl.report.cautions import cautions
from jaxdl.report.diagnosis import diagnose
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.units import measure, percent, score_metric
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.summary import summarised

WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy (mean recall)",
    "macro_f1": "macro F1",
    "kappa": "Cohen's kappa",
    "auc": "area under the ROC curve, mean over folds",
    "log_loss": "log loss, nats",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "pearson": "Pearson's correlation, mean over folds",
    "spearman": "Spearman's rank correlation, mean over folds",
    "micro_f1": "micro F1 (all labels together)",
    "label_accuracy": "label accuracy (share of labels that are right)",
    "subset_accuracy": "share of examples with every label right",
    "mean_auc": "area under the ROC curve, mean over labels",
}

HOW_SURE = "How sure is the number?"  # the heading of the section
HOW_SURE_OF = "How sure is the number of {}?"  # of one of several results
METHODS = {
    "out-of-fold": "the spread of held-out predictions, widened for training parts that overlap",
    "wider": "the wider of the corrected resampled t (Nadeau & Bengio 2003) and a bootstrap of held-out predictions",
    "corrected-t": "the corrected resampled t (Nadeau & Bengio 2003)",
    "bootstrap": "a bootstrap of held-out predictions",
    "held-out": "the spread of held-out predictions, of this network alone",
    "nested": "nested cross-validation (Bates, Hastie & Tibshirani 2024)",
}


def show_uncertainty(result: Result, dead: Mapping[str, float] | None = None) -> Section:
    """Interval, metrics, calibration; of a result of an older release, which holds none, they are made now.

    Args:
      result: of a cross-validation.
      dead: share of dead units by stage where it is known, for the diagnosis.
    """
    if result.metrics is None:
        result = summarised(result)
    title = HOW_SURE
    brief = diagnose(result, dead)
    return Section(
        title,
        _interval(result)
        + (f"<p>{escaped(brief)}</p>" if brief else "")
        + "".join(f"<p>{escaped(said)}</p>" for said in cautions(result.leaks))
        + _metrics(result.metrics, title)
        + _calibration(result.calibration),
    )


def _interval(result: Result) -> str:
    found = result.interval
    if not found:
        return "<p>There are too few independent examples to make an interval of.</p>"
    ends, rest = interval_said(result)
    said = f"<p>{percent(found['level'], decimals=0)} interval: <b>{ends}</b>{escaped(rest)}.</p>"
    small = f"Method: {METHODS.get(found['method'], escaped(found['method']))}."  # a later release may have another
    if len(result.folds) > 1:
        small += (
            " The ± beside a mean is the standard deviation between folds, no standard error: divided by √K it would "
            "miss the truth several times as often as it claims, because the folds' training parts overlap."
        )
    caution = f"<p><b>Caution</b>: {escaped(result.caution)}</p>" if result.caution else ""
    return caution + said + note(" ".join([small, *apart(result)]))


def interval_said(result: Result) -> tuple[str, str]:
    """The ends of the interval, and what belongs to them: the score that lies inside, and what they are about."""
    found, write = result.interval, partial(measure, score_metric(result))
    ends = f"{write(found['low'])} to {write(found['high'])}"
    if "estimate" not in found:  # of an older release
        return ends, f", for {found['about']}"
    return ends, f" around {write(found['estimate'])}, {found['of']}; it is about {found['about']}"


def apart(result: Result) -> list[str]:
    """A sentence where the mean over folds is visibly another score than that of the interval."""
    found = result.interval
    if not found or "estimate" not in found or result.mean is None:
        return []
    mean, other = (measure(score_metric(result), value) for value in (result.mean, found["estimate"]))
    if mean == other:
        return []
    why = "it weighs every fold the same, whatever its size"
    if result.metric == "r2":
        why = "the few targets of one fold vary less than all of them together"
    if found["method"] == "nested":
        why = "the interval is about networks trained on fewer examples"
    outside = "" if found["low"] <= result.mean <= found["high"] else ", outside the interval"
    return [f"The mean over folds is {mean}{outside}: {why}."]


def _metrics(found: dict[str, Any], title: str) -> str:
    lines, several = [], False
    for name, pooled in found["pooled"].items():
        folds = [value for value in found["folds"][name] if value is not None]
        ends = [f"{value:.4g}" for value in (min(folds), max(folds))] if folds else ["–", "–"]
        several |= len(found["folds"][name]) > 1
        lines.append([escaped(word(name)), "–" if pooled is None else f"{pooled:.4g}", *ends])
    headers = ["metric", "all held-out predictions", "lowest fold", "highest fold"]
    if not several:
        headers, lines = headers[:2], [line[:2] for line in lines]
    table = make_table(headers, lines, "numbers")
    why = "".join(note(f"{word(name)}: {reason}.") for name, reason in found["undefined"].items())
    why += "".join(note(f"{word(name)}: {said}") for name, said in found.get("notes", {}).items())
    return in_scroll(table, title) + why + (note(found["left_out"]) if "left_out" in found else "")


def word(metric: str) -> str:
    """A metric in words; a user's own is called by its name."""
    return WORDS.get(metric, metric.replace("_", " "))


def _calibration(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    temperatures = found["temperatures"]
    lines = [[word(name), f"{found['before'][name]:.4g}", f"{value:.4g}"] for name, value in found["after"].items()]
    said = (
        "Temperature scaling: the logits of each fold divided by the number that gives the smallest log loss on the "
        f"other folds' held-out predictions, here from {min(temperatures):.3g} to {max(temperatures):.3g}. "
        f"To predict so: jaxdl predict --temperature {fmean(temperatures):.3g}."
    )
    return in_scroll(make_table(["", "as trained", "scaled"], lines, "numbers"), "Calibration") + note(said)
