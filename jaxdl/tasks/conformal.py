"""How strange an answer would be: the scores from which prediction sets and intervals are made."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class SetScore:
    """Of a task whose answer is one of several candidates, such as classes.

    Attributes:
      name: of the score.
      candidates: ``kept[n, …] -> float64[n, candidates]``, how strange each would be as the truth; larger is stranger.
    """

    name: str
    candidates: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class IntervalScore:
    """Of a task whose answer is a number: the distance of the truth from `centres`.

    Attributes:
      name: of the score.
      centres: ``kept[n, …] -> float64[n]``, the predicted numbers.
    """

    name: str
    centres: Callable[[np.ndarray], np.ndarray]


def cumulative_probability(p: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
    """The adaptive score of Romano, Sesia & Candès 2020 (arXiv:2006.02544, equation 7).

    The probability of a class and of all that are more probable; of equally probable ones the first comes first. Sets
    then grow where a network is unsure, so that hard examples are covered about as often as easy ones.

    Args:
      p: probabilities ``float64[n, classes]``.
      uniform: a number from 0 to 1 for each example, ``[n]``, the same for all members of an ensemble: this share of
        the class's own probability is left out. Drawn at random it makes sets smaller, and coverage exact. None for 0:
        sets are somewhat larger, and the same each time.

    Returns:
      ``float64[n, classes]``.
    """
    order = np.argsort(-p, axis=1, kind="stable")
    cumulative = np.empty_like(p, dtype=np.float64)
    np.put_along_axis(cumulative, order, np.cumsum(np.take_along_axis(p, order, 1), axis=1), 1)
    return cumulative if uniform is None else cumulative - np.asarray(uniform)[:, None] * p
