"""The section on how sure a score is: its interval, other metrics, and what calibration would bring."""

from typing import Any

from jaxdl.errors import InputError
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.table import measure
from jaxdl.report.underfit import underfit
from jaxdl.validation.result import Result

WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy (mean recall)",
    "macro_f1": "macro F1",
    "auc": "area under the ROC curve",
    "log_loss": "log loss, nats",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
}


METHODS = {
    "out-of-fold": "the spread of held-out predictions, widened for training parts that overlap",
    "wider": "the wider of the corrected resampled t (Nadeau & Bengio 2003) and a bootstrap of held-out predictions",
    "corrected-t": "the corrected resampled t (Nadeau & Bengio 2003)",
    "bootstrap": "a bootstrap of held-out predictions",
}


def show_sure(result: Result) -> Section:
    """Interval, metrics, calibration. Raises InputError for a result of an older release, which holds none."""
    if result.metrics is None:
        raise InputError("The result is of an older release, which kept no metrics; run it again for them.")
    title = "How sure is the number?"
    brief = underfit(result)
    return Section(
        title,
        _interval(result)
        + (f"<p>{escaped(brief)}</p>" if brief else "")
        + _metrics(result.metrics, title)
        + _calibration(result.calibration),
    )


def _interval(result: Result) -> str:
    found = result.interval
    if not found:
        return "<p>There is nothing to tell an interval from.</p>"
    low, high = (measure(result.metric, found[end]) for end in ("low", "high"))
    said = f"<p>{found['level']:.0%} interval: <b>{low} to {high}</b>, for {escaped(found['about'])}.</p>"
    small = (
        f"Method: {METHODS[found['method']]}. The spread of the folds divided by √K would be narrower, and would miss "
        "the truth several times as often as it claims, because the folds' training parts overlap."
    )
    return said + note(small)


def _metrics(found: dict[str, Any], title: str) -> str:
    lines = []
    for name, pooled in found["pooled"].items():
        folds = [value for value in found["folds"][name] if value is not None]
        ends = [f"{value:.4g}" for value in (min(folds), max(folds))] if folds else ["–", "–"]
        lines.append([WORDS[name], "–" if pooled is None else f"{pooled:.4g}", *ends])
    table = make_table(["metric", "all held-out predictions", "lowest fold", "highest fold"], lines, "numbers")
    why = "".join(note(f"{WORDS[name]}: {reason}.") for name, reason in found["undefined"].items())
    return in_scroll(table, title) + why + (note(found["left_out"]) if "left_out" in found else "")


def _calibration(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    temperatures = found["temperatures"]
    lines = [[WORDS[name], f"{found['before'][name]:.4g}", f"{value:.4g}"] for name, value in found["after"].items()]
    said = (
        "Temperature scaling: the logits of each fold divided by the number that gives the smallest log loss on the "
        f"other folds' held-out predictions, here from {min(temperatures):.3g} to {max(temperatures):.3g}."
    )
    return in_scroll(make_table(["", "as trained", "scaled"], lines, "numbers"), "Calibration") + note(said)
