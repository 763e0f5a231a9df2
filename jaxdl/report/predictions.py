"""What held-out predictions say beyond the one score: class by class, and whether the probabilities can be believed."""

import dataclasses
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.tasks import Task
from jaxdl.validation.result import OutOfFold

BINS = 15  # as in the paper


@dataclasses.dataclass(frozen=True, eq=False)
class ClassScores:
    """Of each class, ``float64[classes]``; NaN where a ratio is 0 / 0.

    Attributes:
      precision: of the examples given this class, the share that are of it.
      recall: of the examples of this class, the share given it.
      f1: harmonic mean of the two.
      support: how many examples are of it, ``int[classes]``.
      macro: mean over the classes that occur of precision, recall and F1; where nothing was given a class, its
        precision counts as 0.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    macro: tuple[float, float, float]


def class_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> ClassScores:
    """Precision, recall and F1 of each of the classes 0 to `classes` - 1, by scikit-learn.

    Args:
      labels: int[n].
      predicted: int[n].
      classes: how many there are, whether they occur or not.

    Raises:
      InputError: without examples.
    """
    from sklearn.metrics import precision_recall_fscore_support

    if len(labels) == 0:
        raise InputError("there are no predictions to score; expected at least one")
    found = precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=np.nan)
    precision, recall, f1, support = (np.asarray(part) for part in found)
    occurs = support > 0
    macro = tuple(float(np.nan_to_num(part[occurs]).mean()) for part in (precision, recall, f1))
    return ClassScores(precision, recall, f1, support, macro)


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """How often predictions of about the same confidence are right (Guo et al. 2017, arXiv:1706.04599).

    Attributes:
      edges: of the bins, ``[bins + 1]`` from 0 to 1; a bin holds its upper edge and not its lower one.
      count: predictions in each bin.
      confidence: their mean probability of the predicted class; NaN in an empty bin.
      accuracy: the share of them that are right; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Σ over bins of (count / n) · \\|accuracy - confidence\\|, equation 3 of the paper."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.count / self.count.sum() * gap).sum())


def reliability(p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Predictions sorted by their confidence into bins of equal width.

    Args:
      p: probabilities ``[n, classes]``.
      labels: int[n].
      bins: how many.

    Raises:
      InputError: without predictions, or if they are no numbers.
    """
    if len(p) == 0 or not np.isfinite(p).all():
        raise InputError("probabilities of at least one example, all of them numbers, are needed for a calibration")
    confidence, right = p.max(-1), p.argmax(-1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(place, minlength=bins)
    total = lambda values: np.bincount(place, values, minlength=bins)  # noqa: E731
    filled = np.where(count > 0, count, np.nan)
    return Reliability(edges, count, total(confidence) / filled, total(right) / filled)


def check_classes(held: OutOfFold, task: Task) -> None:
    """Raises InputError unless each target and each answer is one of the task's outputs, by number."""
    answers = (held.target, task.predicted(held.kept))
    if not all(np.ndim(each) == 1 and np.isin(each, range(len(task.names))).all() for each in answers):
        raise InputError(f"This section shows one class out of several per example, which {task.name} does not have.")


def most_wrong(held: OutOfFold, task: Task, limit: int) -> list[dict[str, Any]]:
    """The examples that were given a wrong class with the largest probability, at most `limit`, each once.

    Returns:
      Rows of ``index`` (in the source), ``fold``, ``label``, ``predicted`` and ``probability`` of the predicted class.
    """
    return _first(held, task, -_confidence(held, task), task.predicted(held.kept) != held.target, limit)


def least_certain(held: OutOfFold, task: Task, limit: int) -> list[dict[str, Any]]:
    """The examples whose most probable class has the smallest probability; rows as of `most_wrong`."""
    return _first(held, task, _confidence(held, task), np.full(len(held.index), True), limit)


def most_certain_right(held: OutOfFold, task: Task, limit: int) -> list[dict[str, Any]]:
    """Examples predicted right with the largest probability, one of each class, then a second of each, and so on.

    Returns:
      At most `limit` rows as of `most_wrong`.
    """
    p, is_right = _confidence(held, task), task.predicted(held.kept) == held.target
    right = np.flatnonzero(is_right)
    right = right[np.argsort(-p[right], kind="stable")]
    place_in_class = np.zeros(len(held.index))
    for label in np.unique(held.target[right]):
        mine = right[held.target[right] == label]
        place_in_class[mine] = np.arange(len(mine))
    return _first(held, task, place_in_class - p / 2, is_right, limit)


def _confidence(held: OutOfFold, task: Task) -> np.ndarray:
    return task.probabilities(held.kept).max(-1)


def first_places(held: OutOfFold, order: np.ndarray, wanted: np.ndarray, limit: int) -> np.ndarray:
    """Places of the `wanted` rows with the smallest `order`; of several rows of one example the first alone."""
    places = np.flatnonzero(wanted)
    places = places[np.lexsort((held.fold[places], held.index[places], order[places]))]
    _, first = np.unique(held.index[places], return_index=True)  # monte-carlo tests an example in several folds
    return places[np.sort(first)][:limit]


def most_confused(counts: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """The pairs (true, predicted) of different classes with the largest ``counts[classes, classes]``, none of 0."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    return [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]


def _first(held: OutOfFold, task: Task, order: np.ndarray, wanted: np.ndarray, limit: int) -> list[dict[str, Any]]:
    p, predicted = _confidence(held, task), task.predicted(held.kept)
    return [
        {
            "index": int(held.index[i]),
            "fold": int(held.fold[i]),
            "label": int(held.target[i]),
            "predicted": int(predicted[i]),
            "probability": float(p[i]),
        }
        for i in first_places(held, order, wanted, limit)
    ]
