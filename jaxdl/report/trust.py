"""Sections on how far held-out predictions can be trusted: by class, by their probabilities, example by example."""

from collections.abc import Sequence

import numpy as np

from jaxdl.report.answer import list_examples
from jaxdl.report.diagrams import draw_regression, draw_reliability
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.predictions import ClassScores, class_scores, least_certain, reliability
from jaxdl.report.run import Run
from jaxdl.report.table import percent
from jaxdl.tasks.classification import probabilities
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.metrics import NO_PROBABILITIES

LISTED = 30  # classes; of more, those with the lowest F1 are shown and the others folded away
WORST = 10
EXAMPLES = 12


def show_classes(result: Result) -> Section:
    """Precision, recall and F1 of each class."""
    held = result.out_of_fold
    scores = class_scores(held.label, held.predicted, len(result.class_names))
    every = _class_table(result.class_names, scores, np.arange(len(scores.support)), mean=True)
    said = (
        "Precision: of the examples given a class, the share that are of it. Recall: of the examples of a class, the "
        "share given it. F1: their harmonic mean. Support: how many held-out examples are of the class. The last line "
        "is the mean over classes (macro). – stands where nothing was given a class."
    )
    title = "Class by class"
    if len(scores.support) <= LISTED:
        return Section(title, in_scroll(every, title) + note(said))
    worst = np.argsort(np.nan_to_num(scores.f1, nan=np.inf), kind="stable")[:WORST]
    shown = _class_table(result.class_names, scores, worst, mean=True)
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
    if not result.probabilistic:
        return Section(title, note(NO_PROBABILITIES))
    held = result.out_of_fold
    found = reliability(probabilities(held.logits), held.label)
    sure, right = float(probabilities(held.logits).max(-1).mean()), float((held.predicted == held.label).mean())
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


def show_doubtful(run: Run) -> Section:
    """The examples of which the networks were least certain."""
    title = "Least certain"
    if not run.result.probabilistic:
        return Section(title, note("The outputs are decision values: there are no probabilities to go by."))
    rows = least_certain(run.result.out_of_fold, EXAMPLES)
    said = "Held-out examples whose most probable class has the smallest probability, right or wrong."
    return Section(title, f"<p>{said}</p>{list_examples(rows, run.class_names, run.source, title)}")


def show_regression(result: Result) -> Section:
    """Predicted against true numbers, and what is left."""
    held = result.out_of_fold
    target, predicted = np.asarray(held.label, np.float64), np.asarray(held.logits[:, 0], np.float64)
    error = predicted - target
    scatter, residuals = draw_regression(target, predicted)
    small = (
        "Held-out predictions of all folds together. On the dashed lines a prediction equals the truth. Residuals that "
        "bend or fan out along the prediction are structure that the model has missed."
    )
    worst = np.argsort(-np.abs(error), kind="stable")[:EXAMPLES]
    lines = [[str(held.index[i]), *(f"{value:.4g}" for value in (target[i], predicted[i], error[i]))] for i in worst]
    table = make_table(["index", "true", "predicted", "error"], lines, "numbers")
    said = (
        f"Mean absolute error {np.abs(error).mean():.4g}, root mean squared error "
        f"{np.sqrt(np.square(error).mean()):.4g}, mean error {error.mean():+.2g}; the true numbers run from "
        f"{target.min():.4g} to {target.max():.4g}."
    )
    grid = f'<div class="grid wide"><div>{scatter}</div><div>{residuals}</div></div>'
    listed = f"<h3>Largest errors</h3>{in_scroll(table, 'Largest errors')}"
    return Section("Predicted and true", f"<p>{said}</p>{grid}{note(small)}{listed}")
