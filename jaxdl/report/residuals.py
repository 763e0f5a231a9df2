"""The section on held-out predictions that are numbers."""

import numpy as np

from jaxdl.errors import InputError
from jaxdl.report.diagrams import draw_regression
from jaxdl.report.examples import EXAMPLES
from jaxdl.report.markup import Section, in_scroll, make_table, note
from jaxdl.validation.result import Result


def show_residuals(result: Result) -> Section:
    """Predicted against true numbers, and what is left."""
    target, predicted = _numbers(result)
    error = predicted - target
    scatter, residuals = draw_regression(target, predicted)
    small = (
        "Held-out predictions, of all folds together. On the dashed lines a prediction equals the truth. Residuals "
        "that bend or fan out along the prediction are structure that the model has missed."
    )
    worst = np.argsort(-np.abs(error), kind="stable")[:EXAMPLES]
    lines = [
        [str(result.out_of_fold.index[i]), *(f"{value:.4g}" for value in (target[i], predicted[i], error[i]))]
        for i in worst
    ]
    table = make_table(["index", "true", "predicted", "error"], lines, "numbers")
    said = (
        f"Mean absolute error {np.abs(error).mean():.4g}, root mean squared error "
        f"{np.sqrt(np.square(error).mean()):.4g}, mean error {error.mean():+.2g}; the true numbers run from "
        f"{target.min():.4g} to {target.max():.4g}."
    )
    grid = f'<div class="grid wide"><div>{scatter}</div><div>{residuals}</div></div>'
    listed = f"<h3>Largest errors</h3>{in_scroll(table, 'Largest errors')}"
    return Section("Predicted and true", f"<p>{said}</p>{grid}{note(small)}{listed}")


def _numbers(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted, ``float64[n]``. Raises InputError where they are not one number for each example."""
    try:
        target, predicted = (np.asarray(each, np.float64) for each in (result.out_of_fold.target, result.predicted))
    except (TypeError, ValueError):
        target = predicted = np.empty(())
    if not target.ndim == predicted.ndim == 1:
        raise InputError(f"This section shows one number per example, which {result.asked.name} does not have.")
    return target, predicted
