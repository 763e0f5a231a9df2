"""Metrics of out-of-fold predictions, pooled and fold by fold, and the temperature that would calibrate them.

All are scikit-learn's, but for the Brier score of several classes (Brier 1950) and the expected calibration error (Guo
et al. 2017, arXiv:1706.04599), whose temperature scaling this is, too.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from jaxdl.tasks.classification import probabilities
from jaxdl.validation.result import Result

BINS = 15  # of the expected calibration error
Value = float | None
PROBABILISTIC = ("log_loss", "brier", "expected_calibration_error")
NO_PROBABILITIES = (
    "The outputs are decision values, of which no probabilities come: log loss, Brier score, calibration error and "
    "temperature are left out."
)


def measure(result: Result) -> dict[str, Any]:
    """All metrics of a result's task.

    Returns:
      ``pooled``: by name, over all out-of-fold rows; ``folds``: by name a list with the value of each fold;
      ``undefined``: by name why a value is None. Of classes: ``accuracy, balanced_accuracy, macro_f1, auc`` (one
      against the rest, mean over classes; of two classes the usual one), ``log_loss`` (nats), ``brier`` (sum over
      classes, from 0 to 2), ``expected_calibration_error``. Of numbers: ``mse, mae, r2``. Of decision values what needs
      probabilities is left out, and ``left_out`` says why; AUC ranks by the decision value of a class.
    """
    held = result.out_of_fold
    metrics = CLASSIFICATION if result.class_names else REGRESSION
    left_out = {}
    if result.class_names and not result.probabilistic:
        metrics = {name: metric for name, metric in metrics.items() if name not in PROBABILISTIC}
        metrics["auc"] = partial(_auc, chances_of=_ranks)
        left_out = {"left_out": NO_PROBABILITIES}
    reasons: dict[str, str] = {}

    def values(rows: np.ndarray) -> dict[str, Value]:
        given = held.label[rows], held.logits[rows].astype(np.float64)
        found = {name: metric(*given) for name, metric in metrics.items()}
        reasons.update({name: UNDEFINED[name] for name, value in found.items() if value is None})
        return found

    by_fold = [values(held.fold == row["fold"]) for row in result.folds]
    pooled = values(np.ones(len(held.label), bool))
    return {
        "pooled": pooled,
        "folds": {name: [fold[name] for fold in by_fold] for name in metrics},
        "undefined": reasons,
        **left_out,
    }


def _accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    return float((logits.argmax(1) == labels).mean())


def _balanced_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    right = logits.argmax(1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _macro_f1(labels: np.ndarray, logits: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, logits.argmax(1), labels=np.unique(labels), average="macro", zero_division=0))


def _ranks(decisions: np.ndarray) -> np.ndarray:
    """What examples are ranked by: of two classes the difference says it all."""
    return decisions if decisions.shape[1] > 2 else decisions - decisions[:, ::-1]


def _auc(
    labels: np.ndarray, logits: np.ndarray, chances_of: Callable[[np.ndarray], np.ndarray] = probabilities
) -> Value:
    from sklearn.metrics import roc_auc_score

    occurring = np.unique(labels)
    if len(occurring) < 2:
        return None
    chances = chances_of(logits)
    if logits.shape[1] == 2:
        return float(roc_auc_score(labels, chances[:, 1]))
    return float(np.mean([roc_auc_score(labels == label, chances[:, label]) for label in occurring]))


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    logits = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]))


def _brier(labels: np.ndarray, logits: np.ndarray) -> float:
    return float(np.square(probabilities(logits) - np.eye(logits.shape[1])[labels]).sum(1).mean())


def expected_calibration_error(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean distance of confidence from accuracy over `BINS` bins of equal width, weighted by their examples."""
    chances = probabilities(logits)
    confidence, right = chances.max(1), chances.argmax(1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(place, right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _r2(targets: np.ndarray, outputs: np.ndarray) -> Value:
    variance = np.var(targets.astype(np.float64))
    return float(1 - _mse(targets, outputs) / variance) if variance > 0 else None


def _mse(targets: np.ndarray, outputs: np.ndarray) -> float:
    return float(np.square(outputs[:, 0] - targets).mean())


def _mae(targets: np.ndarray, outputs: np.ndarray) -> float:
    return float(np.abs(outputs[:, 0] - targets).mean())


CLASSIFICATION: Mapping[str, Callable[[np.ndarray, np.ndarray], Value]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auc": _auc,
    "log_loss": log_loss,
    "brier": _brier,
    "expected_calibration_error": expected_calibration_error,
}
REGRESSION: Mapping[str, Callable[[np.ndarray, np.ndarray], Value]] = {"mse": _mse, "mae": _mae, "r2": _r2}
UNDEFINED = {
    "auc": "a fold tests examples of a single class, of which nothing can be ranked",
    "r2": "a fold tests examples with a single target, which has no variance",
}


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
    if not result.probabilistic or len(result.folds) < 2:
        return None
    logits = held.logits.astype(np.float64)
    scaled, temperatures = logits.copy(), []
    for row in result.folds:
        mine = held.fold == row["fold"]
        # an example may be tested by several folds: none of its rows may have a say in its own temperature
        others = ~np.isin(held.index, held.index[mine])
        if not others.any():
            return None
        temperatures.append(fit_temperature(held.label[others], logits[others]))
        scaled[mine] = logits[mine] / temperatures[-1]
    return {
        "temperatures": temperatures,
        "before": {name: CLASSIFICATION[name](held.label, logits) for name in PROBABILISTIC},
        "after": {name: CLASSIFICATION[name](held.label, scaled) for name in PROBABILISTIC},
    }
