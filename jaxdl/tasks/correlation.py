"""Correlations of predictions with targets: Pearson's of the numbers, Spearman's of their ranks.

Of the folds of a cross-validation they are averaged: a network that knows nothing predicts about the mean of its
training part, which is lower where the tested targets are higher, so that all rows together would correlate below 0.
Predictions that are all alike correlate with nothing: 0.
"""

import numpy as np
from jaxtyping import Float

from jaxdl.tasks.metric import Ranks, Record

ALIKE = 1e-12  # a standard deviation below this share of the root mean square is rounding
UNDEFINED = "a fold tests examples with a single target, with which nothing can correlate"


def correlate(
    one: Float[np.ndarray, "*draws n"], two: Float[np.ndarray, "*draws n"], weights: Float[np.ndarray, "*draws n"]
) -> np.ndarray:
    """The weighted correlation over the last axis: 0 where `one` has no variance, NaN where `two` has none."""
    total = weights.sum(-1, keepdims=True)
    moments = []
    for values in (one, two):
        centred = values - (weights * values).sum(-1, keepdims=True) / total
        moments.append((centred, (weights * centred**2).sum(-1), (weights * values**2).sum(-1)))
    (a, var_a, square_a), (b, var_b, square_b) = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (weights * a * b).sum(-1) / np.sqrt(var_a * var_b)
    found = np.where(var_a > ALIKE**2 * square_a, np.clip(found, -1, 1), 0.0)
    return np.where(var_b > ALIKE**2 * square_b, found, np.nan)


def ranks_of(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, "*draws n"]) -> Float[np.ndarray, "*draws n"]:
    """The rank of each row where it counts ``weights`` times, up to a constant; equal values have their mean rank."""
    order = np.argsort(values, kind="stable")
    begins = np.r_[True, np.diff(values[order]) != 0]
    group = np.cumsum(begins) - 1
    sizes = np.add.reduceat(weights[..., order], np.flatnonzero(begins), -1)
    ranks = np.empty(weights.shape)
    ranks[..., order] = (np.cumsum(sizes, -1) - sizes / 2)[..., group]
    return ranks


def _pair(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and target, less their means: squares of numbers far from 0 would cancel."""
    pair = [np.asarray(record[name], np.float64) for name in ("predicted", "target")]
    return pair[0] - pair[0].mean(), pair[1] - pair[1].mean()


def _pearson(record: Record, weights: np.ndarray) -> np.ndarray:
    return correlate(*_pair(record), weights)


def _pearson_influence(record: Record) -> np.ndarray:
    """Of standard scores a of predictions and b of targets (a·b − r · (a² + b²) / 2) / n: Devlin et al. 1975."""
    pair = _pair(record)
    n, r = len(pair[0]), correlate(*pair, np.ones(len(pair[0])))
    if np.isnan(r) or (r == 0 and not pair[0].std() > ALIKE * np.sqrt(np.square(pair[0]).mean())):
        return np.full(n, r)  # not defined, or 0 whatever rows there are
    a, b = (values / values.std() for values in pair)
    return (a * b - r * (a**2 + b**2) / 2) / np.sqrt(n * (n - 1))


def _spearman(record: Record, weights: np.ndarray) -> np.ndarray:
    return correlate(*(ranks_of(values, weights) for values in _pair(record)), weights)


OF = dict(bounds=(-1.0, 1.0), scale="share", undefined=UNDEFINED, reads=("target", "predicted"))
CORRELATIONS = (
    Ranks("pearson", rank=_pearson, influence=_pearson_influence, **OF),
    Ranks("spearman", rank=_spearman, **OF),
)
