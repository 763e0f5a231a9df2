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


def cumulative_probability(p: np.ndarray, uniform: np.ndarray | float = 1.0) -> np.ndarray:
    """The adaptive score of Romano, Sesia & Candès 2020 (arXiv:2006.02544, equation 7).

    The probability of a class and of all that are more probable, less the share `uniform` of its own; of equally
    probable classes the first comes first. Sets grow where a network is unsure, so that hard examples are covered about
    as often as easy ones.

    Args:
      p: probabilities ``float64[n, classes]``.
      uniform: from 0 to 1, for each example ``[n]`` or for all. As in the paper a random number (the same for all
        members of an ensemble) makes coverage exact. With 1 the score is what is more probable than the class: sets
        are the same each time, and the most probable class is in all of them. With 0 they are larger than need be.

    Returns:
      ``float64[n, classes]``.
    """
    order = np.argsort(-p, axis=1, kind="stable")
    cumulative = np.empty_like(p, dtype=np.float64)
    np.put_along_axis(cumulative, order, np.cumsum(np.take_along_axis(p, order, 1), axis=1), 1)
    return cumulative - np.broadcast_to(np.asarray(uniform), len(p))[:, None] * p
