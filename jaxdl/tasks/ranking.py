"""Areas under the ROC curve, of classes and of pairs, with the influence of each example (DeLong et al. 1988)."""

from collections.abc import Callable

import numpy as np

from jaxdl.tasks.metric import SHARE, Pairs, Ranks, Record, mean_of_defined


def auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The chance that a positive row has a higher score than a negative one; ties count half.

    Args:
      scores: ``[n]``.
      positive: ``bool[n]``.
      weights: ``float64[..., n]``.

    Returns:
      ``float64[...]``; NaN where no positive or no negative row has a weight.
    """
    order = np.argsort(scores, kind="stable")
    tied = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0]) if len(order) else np.zeros(0, int)
    weights, positive = weights[..., order], positive[order]
    if not len(tied):
        return np.full(weights.shape[:-1], np.nan)
    above = np.add.reduceat(weights * positive, tied, -1)
    below = np.add.reduceat(weights * ~positive, tied, -1)
    won = (above * (np.cumsum(below, -1) - below / 2)).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (above.sum(-1) * below.sum(-1))


def delong(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Each row's part in the error of the AUC, ``float64[n]``: the sum of squares is DeLong's variance.

    For a positive row it is the share of negative rows that it wins, less the AUC, divided by √(P (P - 1)) with P
    positive rows; for a negative one in the same way. A side with one row has no part.
    """
    from scipy.stats import rankdata

    parts, mean = np.zeros(len(scores)), 0.0
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        mine, others = int(side.sum()), int((~side).sum())
        if not mine or not others:
            return np.full(len(scores), np.nan)
        won = (rankdata(sign * scores)[side] - rankdata(sign * scores[side])) / others
        mean = won.mean()
        parts[side] = (won - mean) / np.sqrt(mine * max(mine - 1, 1))
    return parts


Question = tuple[np.ndarray, np.ndarray]  # scores [n], and for which rows the answer is yes, bool[n]


def _against_the_rest(record: Record) -> list[Question]:
    """One for each class; of two classes there is one."""
    target, scores = record["target"], record["scores"]
    if scores.ndim == 1:
        return [(scores, target == 1)]
    return [(scores[:, label], target == label) for label in np.unique(target)]


def mean_auc(name: str, questions: Callable[[Record], list[Question]], undefined: str) -> Ranks:
    """The mean of the areas under the ROC curve of several questions.

    Args:
      name: of the metric.
      questions: gives scores ``[n]`` and ``bool[n]`` of each question for a record.
      undefined: why there can be none.
    """

    def rank(record: Record, weights: np.ndarray) -> np.ndarray:
        return mean_of_defined(np.array([auc(scores, positive, weights) for scores, positive in questions(record)]))

    def influence(record: Record) -> np.ndarray:
        return mean_of_defined(np.array([delong(scores, positive) for scores, positive in questions(record)]))

    return Ranks(name, rank=rank, influence=influence, undefined=undefined, reads=("target", "scores"), **SHARE)


def class_auc() -> Ranks:
    """The area under the ROC curve; of more than two classes the mean of each against the rest.

    Rows are ranked by log-odds (``scores`` of the record), which do not saturate as probabilities do.
    """
    why = "a fold tests examples of a single class, of which nothing can be ranked"
    return mean_auc("auc", _against_the_rest, why)


def verification_auc() -> Pairs:
    """The chance that two embeddings of one identity are more alike than two of different ones."""
    why = "a fold has no pair of one identity, or of two"
    pair = lambda similarity, same, weights, _: auc(similarity, same, weights)  # noqa: E731
    return Pairs("verification_auc", pair=pair, undefined=why, **SHARE)


def verification_accuracy() -> Pairs:
    """The mean of the shares of equal and of different pairs that a threshold tells right."""
    why = "a fold has no pair of one identity, or of two, or there is no other fold to choose the threshold on"
    return Pairs("verification_accuracy", pair=_balanced, choose=_best_threshold, undefined=why, **SHARE)


def _balanced(similarity: np.ndarray, same: np.ndarray, weights: np.ndarray, threshold: float | None) -> float:
    right = (similarity >= threshold) == same
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean([(weights * right)[side].sum() / weights[side].sum() for side in (same, ~same)]))


def _best_threshold(similarity: np.ndarray, same: np.ndarray, weights: np.ndarray) -> float:
    """Halfway between the two similarities between which the balanced accuracy is highest."""
    order = np.argsort(-similarity, kind="stable")
    ordered, hits, alarms = similarity[order], *(np.cumsum((weights * side)[order]) for side in (same, ~same))
    gain = hits / max(hits[-1], 1e-30) - alarms / max(alarms[-1], 1e-30)
    gain[:-1][np.diff(ordered) == 0] = -np.inf  # equal similarities cannot be divided
    place = int(gain.argmax())
    return float((ordered[place] + ordered[min(place + 1, len(ordered) - 1)]) / 2)
