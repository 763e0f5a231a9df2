"""Metrics of out-of-fold predictions, pooled and fold by fold, and the temperature that would calibrate them.

Temperature scaling is that of Guo et al. 2017 (arXiv:1706.04599).
"""

import dataclasses
import warnings
from typing import Any

import numpy as np

from jaxdl.validation.result import Result, finite

NO_PROBABILITIES = (
    "The outputs are decision values, of which no probabilities come: log loss, Brier score, calibration error and "
    "temperature are left out."
)


def measure(result: Result) -> dict[str, Any]:
    """All metrics of a result's task.

    Returns:
      ``pooled``: by name, over all out-of-fold rows, or for a metric that is averaged the mean over folds; ``folds``:
      by name a list with the value of each fold; ``undefined``: by name why a value is None; ``notes``: by name what a
      reader of a value needs to know, such as a convention. What needs probabilities
      is left out where there are none, and ``left_out`` says why.
    """
    sample = result.sample()
    every = result.asked.metrics
    known = [metric for metric in every.values() if all(key in sample.record for key in metric.reads)]
    samples = {metric.name: dataclasses.replace(sample, metric=metric) for metric in known}
    pooled = finite({name: float(one.pooled_score) for name, one in samples.items()})
    folds = finite({name: one.fold_scores.tolist() for name, one in samples.items()})
    return {
        "pooled": pooled,
        "folds": folds,
        "notes": {name: every[name].note for name in pooled if every[name].note},
        "undefined": {name: every[name].undefined for name in pooled if None in (pooled[name], *folds[name])},
        **({"left_out": NO_PROBABILITIES} if len(known) < len(every) else {}),
    }


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean cross-entropy in nats, not cut: it has to stay smooth where a temperature is fitted."""
    logits = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]))


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The number by which `logits` are divided for the smallest log loss.

    The log loss is convex in its inverse, whose logarithm is searched from 1/100 to 100.
    """
    from scipy.optimize import minimize_scalar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # logits of 1e4 and more overflow on the way
        found = minimize_scalar(
            lambda inverse: log_loss(labels, logits * np.exp(inverse)), bounds=np.log([0.01, 100]), method="bounded"
        )
    return float(np.exp(-found.x))


def calibrate(result: Result) -> dict[str, Any] | None:
    """Temperature scaling, fitted out of fold: each fold's logits by the temperature of all other folds' logits.

    Returns:
      ``temperatures`` of each fold, and ``before`` and ``after``: ``log_loss``, ``brier`` and
      ``expected_calibration_error`` of the pooled rows. None for numbers and decision values, or where there is one
      fold alone.
    """
    held = result.out_of_fold
    if not result.calibrated or len(result.folds) < 2:
        return None
    logits = held.kept.astype(np.float64)
    scaled, temperatures = logits.copy(), []
    for row in result.folds:
        mine = held.fold == row["fold"]
        # an example may be tested by several folds: none of its rows may have a say in its own temperature
        others = ~np.isin(held.index, held.index[mine])
        if not others.any():
            return None
        temperatures.append(fit_temperature(held.target[others], logits[others]))
        scaled[mine] = logits[mine] / temperatures[-1]
    task = result.asked
    before, after = (
        {name: task.metrics[name].score(task.record(kept, held.target)) for name in task.CALIBRATED}
        for kept in (logits, scaled)
    )
    return {"temperatures": temperatures, "before": before, "after": after}
