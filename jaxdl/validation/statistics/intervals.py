"""How far a cross-validated score may be trusted: 95 % intervals by name.

What they are worth is measured on simulated problems whose truth is known: `experiments/coverage.py`. The spread of the
folds' scores divided by √K is no standard error, because the folds' training parts overlap (Bengio & Grandvalet 2004);
an interval made of it misses the truth several times as often as it claims.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.tasks.metric import Metric, NoInterval
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.sample import Sample

Method = Literal["auto", "out-of-fold", "wider", "corrected-t", "bootstrap", "nested"]
METHODS = get_args(Method)
POOLED, OVER_FOLDS = "that of all held-out predictions together", "the mean over folds"
DRAWS = 2000
# Measured by experiments/coverage.py: what other training examples add to the variance of a score, in variances of a
# score on as many test examples as there are training examples (Nadeau & Bengio's correction is 1, none is 0). R² and
# losses are skewed, and ask for more where units are few. The same numbers serve all kinds of metrics: of sums, ranks,
# pairs and unstable learners (`coverage.py --kinds`) the intervals hold the truth in 94.7 to 98.3 % of 300 data sets.
OVERLAP, SKEW = 1 / 3, 25.0
ROUNDING = 1e-15  # a variance of shares below that is none
FOLDS = (
    "{metric} on new examples of the same kind, of networks trained as the folds were, on about {train} examples; "
    "other training examples, other test examples and the overlap of the folds are allowed for"
)
ABOUT = {
    "out-of-fold": FOLDS,
    "wider": FOLDS,
    "corrected-t": FOLDS,
    "bootstrap": (
        "{metric} on new examples of the same kind, of the very networks that were trained here; other training "
        "examples are not allowed for"
    ),
    "held-out": "{metric} of this very network, trained on {train} examples, on new examples of the same kind",
    "nested": "{metric} on new examples of the same kind, of a network trained on all {train} examples",
}


@dataclasses.dataclass(frozen=True)
class Interval:
    """Where a score lies, in `level` of all cases.

    Attributes:
      low, high: its ends, in the units of the score.
      level: how often such intervals hold the truth, as they claim.
      method: by which it was made.
      about: what it is about, in words.
      estimate: the score that lies inside it; it may be another than the mean over folds.
      of: what `estimate` is, in words.
    """

    low: float
    high: float
    level: float
    method: str
    about: str
    estimate: float
    of: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def interval(
    result: Result,
    method: Method = "auto",
    *,
    metric: str | Callable[..., float] | Metric | None = None,
    level: float = 0.95,
    groups: np.ndarray | None = None,
    seed: int = 0,
    whole: float | None = None,
) -> Interval | None:
    """An interval for a score of a result.

    That of ``out-of-fold`` and ``bootstrap`` is about the score of all held-out rows together (of a metric that is
    averaged, such as the AUC: the mean over folds), that of ``corrected-t`` and ``wider`` about the mean over folds.
    The two differ where folds differ in size, and for R² where they are small: the variance of few targets is below
    that of many, so that the mean of the folds' R² is too low for new examples.

    Args:
      result: of `cross_validate`.
      method: ``out-of-fold``: see `out_of_fold`; ``corrected-t`` (Nadeau & Bengio 2003); ``bootstrap``, over the
        held-out predictions; ``wider``, mean ± the larger of the half width of corrected-t and one made of the
        bootstrap's standard error, because folds that agree by chance, or by stratification where a class is rare,
        make the former far too narrow; ``auto``: out-of-fold, but wider for folds in the order of time, where examples
        are not independent; ``nested`` trains more: ask `cross_validate` for it.
      metric: see `Result.sample`; by default that of the result.
      level: how often it is to hold the truth.
      groups: of every example, which out-of-fold and the bootstrap then take whole; by default those that the result
        knows.
      seed: of the bootstrap.
      whole: number of examples in a training part from which those trained on were drawn, where they were fewer, as for
        a learning curve. What is corrected for is training examples that folds share: smaller parts share fewer, and
        the correction of the whole is enough for them.

    Returns:
      The interval; None where there is nothing to make it from (one example or group, folds without a score), or where
      the metric has none.

    Raises:
      InputError: for an unknown method or metric, a level outside 0 to 1, or a method that needs more folds.
    """
    check_choice("method", method, METHODS)
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    sample = result.sample(metric)
    if groups is not None:
        sample = dataclasses.replace(sample, unit=groups[sample.index])
    if method == "auto":
        method = "wider" if sample.timed and len(sample.test) > 1 else "out-of-fold"
    if method == "nested":
        raise InputError("the method 'nested' trains more networks; ask for it when you cross-validate")
    check_method(method, len(sample.test))
    train = sample.train if whole is None else np.full(len(sample.train), float(whole))
    ends = None if isinstance(sample.metric, NoInterval) else _ends(sample, method, level, seed, train)
    if ends is None or not np.isfinite(ends).all():
        return None
    by_folds = method in ("corrected-t", "wider")
    estimate = float(sample.fold_scores.mean()) if by_folds else sample.pooled_score
    of = OVER_FOLDS if by_folds or sample.metric.averaged else POOLED
    return made_interval(sample, ends, level, method, estimate, of)


def check_method(method: str, folds: int) -> None:
    """Raises InputError if there are too few folds for it."""
    if method in ("corrected-t", "wider") and folds < 2:
        raise InputError(f"the method '{method}' needs 2 folds or more; use 'bootstrap'")


def made_interval(
    sample: Sample, ends: Sequence[float], level: float, method: str, estimate: float, of: str, train: int | None = None
) -> Interval:
    """An interval within the bounds of the metric, with what it is about: networks trained on `train` examples."""
    low, high = np.clip(ends, *sample.metric.bounds)
    train = round(float(sample.train.mean())) if train is None else train
    about = ABOUT[method].format(metric=sample.metric.name, train=train)
    return Interval(float(low), float(high), level, method, about, estimate, of)


def _ends(sample: Sample, method: str, level: float, seed: int, train: np.ndarray) -> Sequence[float] | None:
    """Of the interval; None where there is nothing to make it from."""
    scores, share = sample.fold_scores, float(np.mean(sample.test / train))
    if method in ("corrected-t", "wider") and not np.isfinite(scores).all():
        return None
    if method == "corrected-t":
        return corrected_t(scores, share, level)
    if sample.units < 2:
        return None
    if method == "out-of-fold":
        tested = len(np.unique(sample.index)) / float(train.mean())
        return out_of_fold(sample.metric, sample.pooled_score, sample.variance, sample.units, tested, level)
    drawn = sample.drawn_scores(DRAWS, seed)
    drawn = drawn[np.isfinite(drawn)]  # a draw may miss a class
    if len(drawn) < DRAWS / 2:
        return None
    if method == "wider":
        return wider(scores, share, drawn.std(ddof=1), level)
    return percentiles(drawn, sample.units, level)


def out_of_fold(
    metric: Metric, score: float, variance: float, count: int, share: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a score of held-out rows, widened for training parts that are others and overlap.

    The variance over test examples is multiplied by 1 + ρ · share. The K scores of folds, which are few and may agree
    by chance, have no part in it. Nadeau and Bengio's correction, written for examples, has ρ = 1; ρ = `OVERLAP` was
    enough in simulations. The quantile is that of Student's t with G - 1 degrees. On the scale ``share`` the interval
    is solved as by Wilson (1927), with as many examples as give the variance found, so that it is no point where all
    are right; on the scale ``distance`` it is symmetric in log(|best - score|), and ρ is larger by `SKEW` / G.

    Args:
      metric: says the scale.
      score: estimate.
      variance: of the score over test examples, see `Sample.deviations`.
      count: number G of independent units.
      share: number of distinct examples that were tested ÷ size of a training part.
      level: of the interval.
    """
    from scipy.stats import t

    added = 1 + (OVERLAP + (SKEW / count if metric.scale == "distance" else 0.0)) * share
    quantile = float(t.ppf((1 + level) / 2, count - 1))
    half = quantile * np.sqrt(added * variance)
    if metric.scale == "plain":
        return score - half, score + half
    if metric.scale == "distance":
        away = max(abs(metric.best - score), 1e-12)
        factor, side = np.exp(half / away), 1.0 if score <= metric.best else -1.0
        ends = metric.best - side * away * factor, metric.best - side * away / factor
        return float(min(ends)), float(max(ends))
    low, high = metric.bounds
    part = (score - low) / (high - low)
    rest, spread = added * variance / (high - low) ** 2, part * (1 - part)
    # no variance at all, or none but rounding: as many examples as there are units
    effective = spread / rest if min(spread, rest) > ROUNDING else count / added
    square = quantile**2 / effective if effective > 0 else np.inf
    if not np.isfinite(square):
        return low, high
    centre = (part + square / 2) / (1 + square)
    half = np.sqrt(square * part * (1 - part) + square**2 / 4) / (1 + square)
    return float(low + (high - low) * (centre - half)), float(low + (high - low) * (centre + half))


def corrected_t(scores: Sequence[float], share: float, level: float = 0.95) -> tuple[float, float]:
    """Student's interval with Nadeau and Bengio's variance: mean ± t · √((1/K + test/train) · s²), K - 1 degrees.

    Args:
      scores: of the K folds.
      share: size of a test part ÷ that of its training part.
      level: of the interval.
    """
    from scipy.stats import t

    scores = np.asarray(scores, np.float64)
    k = len(scores)
    half = t.ppf((1 + level) / 2, k - 1) * np.sqrt((1 / k + share) * scores.var(ddof=1))
    return float(scores.mean() - half), float(scores.mean() + half)


def wider(scores: Sequence[float], share: float, error: float, level: float = 0.95) -> tuple[float, float]:
    """mean ± the larger of `corrected_t`'s half width and that of a normal variable: 1.96 · √(1 + test/train) · error.

    The root is Nadeau and Bengio's allowance for training parts that overlap.

    Args:
      scores: of the K folds.
      share: size of a test part ÷ that of its training part.
      error: standard error of the score over test examples, such as a bootstrap's standard deviation.
      level: of the interval.
    """
    from scipy.stats import norm

    low, high = corrected_t(scores, share, level)
    half = max((high - low) / 2, float(norm.ppf((1 + level) / 2) * np.sqrt(1 + share) * error))
    return (low + high) / 2 - half, (low + high) / 2 + half


def percentiles(drawn: np.ndarray, count: int, level: float = 0.95) -> tuple[float, float]:
    """The bootstrap's interval, from the scores of draws: its percentile interval, expanded for few units.

    Plain percentiles of `count` units are too narrow by √((count - 1) / count), and by a normal variable's quantile in
    the place of Student's t; the share that is cut off is made as much smaller (Hesterberg 2015). For 6 groups a plain
    95 % interval misses the truth in one case of seven.
    """
    from scipy.stats import norm, t

    cut = float(norm.sf(t.ppf((1 + level) / 2, count - 1) * np.sqrt(count / (count - 1))))
    low, high = np.quantile(drawn, [cut, 1 - cut])
    return float(low), float(high)


def expanded_p(p: float, count: int) -> float:
    """The two-sided p that belongs to `percentiles`, from the one of plain percentiles."""
    from scipy.stats import norm, t

    return float(2 * t.sf(norm.isf(p / 2) * np.sqrt((count - 1) / count), count - 1))


def naive(scores: Sequence[float]) -> tuple[float, float]:
    """mean ± 1.96 · s/√K, as is often printed. For contrast only: see the module."""
    scores = np.asarray(scores, np.float64)
    half = 1.96 * scores.std(ddof=1) / np.sqrt(len(scores))
    return float(scores.mean() - half), float(scores.mean() + half)
