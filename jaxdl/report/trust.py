"""Sections on how far held-out predictions of classes can be trusted: by class, by probability, by example."""

from collections.abc import Sequence

import numpy as np

from jaxdl.data.source import Source
from jaxdl.report.diagrams import draw_reliability
from jaxdl.report.examples import EXAMPLES, list_classified
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.plots import MOST_COUNTS, draw_confusion
from jaxdl.report.predictions import (
    ClassScores,
    check_classes,
    class_scores,
    least_certain,
    most_confused,
    most_wrong,
    reliability,
)
from jaxdl.report.units import percent
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.metrics import NO_PROBABILITIES

LISTED = 30  # classes; of more, those with the lowest F1 are shown and the others folded away
WORST = 10
CONFUSED = 10  # pairs of classes that are named
NOT_SORTED = "The outputs are decision values: there are no probabilities to sort by."
CONFIDENCE = "confidence"  # of the record: the probability of the predicted class, where there are probabilities


def show_confusion(method: str, result: Result) -> Section:
    """The confusion matrix, and for many classes the pairs most often confused."""
    check_classes(result.out_of_fold, result.asked)
    counts = result.confusion_matrix()
    names = [escaped(name) for name in result.asked.names]
    together = ", all folds together" if len(result.folds) > 1 else ""
    said = f"Held-out predictions of “{escaped(method)}”{together}: blue are right, orange wrong."
    picture = in_scroll(draw_confusion(method, result), "Picture of the confusion matrix")
    pairs_table = ""
    if len(counts) > MOST_COUNTS and (pairs := most_confused(counts, CONFUSED)):
        lines = [[names[row], names[column], str(counts[row, column]), str(counts[row].sum())] for row, column in pairs]
        listed = make_table(["true class", "predicted class", "times", "of held-out"], lines, "examples")
        pairs_table = "<h3>Most often confused</h3>" + in_scroll(listed, "Most often confused")
    return Section("Which classes are confused", f"<p>{said}</p>{picture}{pairs_table}")


def show_classes(result: Result) -> Section:
    """Precision, recall and F1 of each class."""
    check_classes(result.out_of_fold, result.asked)
    names = result.asked.names
    scores = class_scores(result.out_of_fold.target, result.predicted, len(names))
    every = _class_table(names, scores, np.arange(len(scores.support)), mean=True)
    said = (
        "Precision: of the examples given a class, the share that are of it. Recall: of the examples of a class, the "
        "share given it. F1: their harmonic mean. Support: how many held-out examples are of the class. The last line "
        "is the mean over classes (macro). – stands where nothing was given a class."
    )
    title = "Class by class"
    if len(scores.support) <= LISTED:
        return Section(title, in_scroll(every, title) + note(said))
    worst = np.argsort(np.nan_to_num(scores.f1, nan=np.inf), kind="stable")[:WORST]
    shown = _class_table(names, scores, worst, mean=True)
    folded = f"<details><summary>All classes</summary>{in_scroll(every, 'All classes')}</details>"
    return Section(title, f"<p>The classes with the lowest F1:</p>{in_scroll(shown, title)}{folded}{note(said)}")


def _class_table(names: Sequence[str], scores: ClassScores, order: np.ndarray, *, mean: bool) -> str:
    def shown(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:.3f}"

    columns = scores.precision, scores.recall, scores.f1
    lines = [[escaped(names[i]), *(shown(column[i]) for column in columns), str(scores.support[i])] for i in order]
    if mean:
        lines.append(["mean over classes", *map(shown, scores.macro), str(scores.support.sum())])
    return make_table(["class", "precision", "recall", "F1", "support"], lines, "numbers", len(lines) - 1)


def show_reliability(result: Result) -> Section:
    """Whether predictions made with a probability of 80 % are right four times out of five."""
    title = "Can the probabilities be believed?"
    check_classes(result.out_of_fold, result.asked)
    if CONFIDENCE not in result.record:
        return Section(title, note(NO_PROBABILITIES))
    found = reliability(result.record["probabilities"], result.out_of_fold.target)
    sure, right = (float(result.record[key].mean()) for key in (CONFIDENCE, "right"))
    kind = "overconfident" if sure > right else "underconfident"
    diagram, counts = draw_reliability(found)
    said = (
        f"Expected calibration error: <b>{percent(found.expected_calibration_error)}</b>. On average a prediction "
        f"claims {percent(sure)} and is right for {percent(right)}: the probabilities are on the whole {kind}."
    )
    small = (
        f"Predictions are sorted by the probability of the predicted class into {len(found.count)} bins. Bars and dots "
        "show how many of a bin are right, dots at its mean probability; on the dashed line both are equal. The error "
        "is the mean distance from it, weighted by the number of predictions (Guo et al. 2017). Dots of bins that hold "
        "few predictions scatter by chance."
    )
    grid = f'<div class="grid wide"><div>{diagram}</div><div>{counts}</div></div>'
    return Section(title, f"<p>{said}</p>{grid}{note(small)}")


def show_wrong(method: str, result: Result, source: Source | None) -> Section:
    """The examples given a wrong class with the largest probability."""
    check_classes(result.out_of_fold, result.asked)
    title = "Most confidently wrong"
    if CONFIDENCE not in result.record:
        return Section(title, note(NOT_SORTED))
    rows = most_wrong(result.out_of_fold, result.asked, EXAMPLES)
    if not rows:
        total = len(result.out_of_fold.index)
        said = f"No prediction was wrong: “{escaped(method)}” is right for all {total} held-out examples."
        return Section(title, f"<p>{said}</p>")
    said = f"Held-out examples to which “{escaped(method)}” gave a wrong class with the largest probability."
    return Section(title, f"<p>{said}</p>{list_classified(rows, result.asked.names, source, title)}")


def show_doubtful(result: Result, source: Source | None) -> Section:
    """The examples of which the networks were least certain."""
    check_classes(result.out_of_fold, result.asked)
    title = "Least certain"
    if CONFIDENCE not in result.record:
        return Section(title, note(NOT_SORTED))
    rows = least_certain(result.out_of_fold, result.asked, EXAMPLES)
    said = "Held-out examples whose most probable class has the smallest probability, right or wrong."
    return Section(title, f"<p>{said}</p>{list_classified(rows, result.asked.names, source, title)}")
