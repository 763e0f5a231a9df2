"""How far a cross-validated score may be trusted: 95 % intervals by name.

What they are worth is measured on simulated problems whose truth is known: `experiments/coverage.py`. The spread of the
folds' scores divided by √K is no standard error, because the folds' training parts overlap (Bengio & Grandvalet 2004);
an interval made of it misses the truth several times as often as it claims.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.validation.result import Result
from jaxdl.validation.splitters import TIMED

Method = Literal["auto", "out-of-fold", "wider", "corrected-t", "bootstrap", "nested"]
METHODS = get_args(Method)
POOLED, OVER_FOLDS = "that of all held-out predictions together", "the mean over folds"
DRAWS = 2000
# Measured by experiments/coverage.py: what training anew adds to the variance of a score, in variances of a score on as
# many test examples as there are training examples (Nadeau & Bengio's correction is 1, none is 0). R² is skewed, and
# asks for more where units are few.
OVERLAP, SKEW = 1 / 3, 25.0
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
    "nested": "{metric} on new examples of the same kind, of a network trained on all {train} examples",
}
BOUNDS = {"accuracy": (0.0, 1.0), "r2": (-np.inf, 1.0)}


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
    level: float = 0.95,
    groups: np.ndarray | None = None,
    seed: int = 0,
    whole: float | None = None,
) -> Interval | None:
    """An interval for the score of a result.

    That of ``out-of-fold`` and ``bootstrap`` is about the score of all held-out rows together, that of ``corrected-t``
    and ``wider`` about the mean over folds. The two differ where folds differ in size, and for R² where they are small:
    the variance of few targets is below that of many, so that the mean of the folds' R² is too low for new examples.

    Args:
      result: of `cross_validate`.
      method: ``out-of-fold``: see `out_of_fold`; ``corrected-t`` (Nadeau & Bengio 2003); ``bootstrap``, over the
        held-out predictions; ``wider``, mean ± the larger of the half width of corrected-t and one made of the
        bootstrap's standard error, because folds that agree by chance, or by stratification where a class is rare,
        make the former far too narrow; ``auto``: out-of-fold, but wider for folds in the order of time, where examples
        are not independent; ``nested`` trains more: ask `cross_validate` for it.
      level: how often it is to hold the truth.
      groups: of every example of the source, which out-of-fold and the bootstrap then take whole; by default those
        that the result knows.
      seed: of the bootstrap.
      whole: number of examples in a training part from which those trained on were drawn, where they were fewer, as for
        a learning curve. What is corrected for is training examples that folds share: smaller parts share fewer, and
        the correction of the whole is enough for them.

    Returns:
      The interval; None where there is nothing to tell it from: one example or group, folds without a score.

    Raises:
      InputError: for an unknown method, a level that is none, or a method that needs more folds.
    """
    check_choice("method", method, METHODS)
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    if method == "auto":
        timed = len(result.folds) > 1 and result.split["kind"] in (*TIMED, "TimeSeriesSplit")
        method = "wider" if timed else "out-of-fold"
    if method == "nested":
        raise InputError("the method 'nested' trains more networks; ask for it when you cross-validate")
    check_method(method, len(result.folds))
    held = result.out_of_fold
    units = held.unit if groups is None else groups[held.index]
    ends = _ends(result, method, level, units, seed, whole)
    if ends is None:
        return None
    over_folds = method in ("corrected-t", "wider")
    estimate = result.mean if over_folds else float(pooled(result, np.ones((1, len(units))))[0])
    return made_interval(result, ends, level, method, estimate, OVER_FOLDS if over_folds else POOLED)


def check_method(method: str, folds: int) -> None:
    """Raises InputError if there are too few folds for it."""
    if method in ("corrected-t", "wider") and folds < 2:
        raise InputError(f"the method '{method}' needs 2 folds or more; use 'bootstrap'")


def made_interval(
    result: Result, ends: Sequence[float], level: float, method: str, estimate: float, of: str, train: int | None = None
) -> Interval:
    """An interval within the bounds of the metric, with what it is about: networks trained on `train` examples."""
    low, high = np.clip(ends, *BOUNDS.get(result.metric, (-np.inf, np.inf)))
    train = round(float(np.mean([fold["train"] for fold in result.folds]))) if train is None else train
    return Interval(
        float(low), float(high), level, method, ABOUT[method].format(metric=result.metric, train=train), estimate, of
    )


def _ends(
    result: Result, method: str, level: float, units: np.ndarray, seed: int, whole: float | None
) -> Sequence[float] | None:
    """Of the interval; None where there is nothing to tell it from."""
    scores = np.array([fold[result.metric] for fold in result.folds], np.float64)
    train = np.array([fold["train"] if whole is None else whole for fold in result.folds], np.float64)
    share = float(np.mean(np.array([fold["test"] for fold in result.folds]) / train))
    if method in ("corrected-t", "wider") and not np.isfinite(scores).all():
        return None
    if method == "corrected-t":
        return corrected_t(scores, share, level)
    count = len(np.unique(units))
    if count < 2:
        return None
    if method == "out-of-fold":
        tested = len(np.unique(result.out_of_fold.index))
        return out_of_fold(parts(result), units, tested / float(train.mean()), level, skewed=not result.class_names)
    drawn = pooled(result, drawn_weights(units, DRAWS, seed))
    if method == "wider":
        return wider(scores, share, drawn.std(ddof=1), level)
    return percentiles(drawn, count, level)


def out_of_fold(
    values: np.ndarray, units: np.ndarray, share: float, level: float = 0.95, *, skewed: bool = False
) -> tuple[float, float]:
    """Interval of a mean over held-out rows, widened for training parts that are others and overlap.

    The variance is that of a mean of G independent units, G/(G - 1) · Σ over units (Σ of its rows' deviations)² / N²,
    times 1 + ρ · share. The K scores of folds, which are few and may agree by chance, have no part in it. Nadeau and
    Bengio's correction, written for examples, has ρ = 1; ρ = `OVERLAP` was enough in simulations. The quantile is that
    of Student's t with G - 1 degrees. For shares it is solved as by Wilson (1927), with as many examples as give the
    variance found, so that it is no point where all are right; for R² it is symmetric in log(1 - R²).

    Args:
      values: of each row, so that their mean is the score; of shares from 0 to 1, else see `parts`.
      units: the example or group of each row; units are independent, rows of one are not.
      share: number of distinct examples that were tested ÷ size of a training part.
      level: of the interval.
      skewed: whether the values are those of R².
    """
    from scipy.stats import t

    _, place = np.unique(units, return_inverse=True)
    count, mean = int(place.max()) + 1, float(values.mean())
    sums = np.bincount(place, values - mean)
    added = 1 + (OVERLAP + (SKEW / count if skewed else 0.0)) * share
    variance = added * count / (count - 1) * float(np.square(sums).sum()) / len(values) ** 2
    quantile = float(t.ppf((1 + level) / 2, count - 1))
    if skewed:
        factor = np.exp(quantile * np.sqrt(variance) / max(1 - mean, 1e-12))
        return 1 - (1 - mean) * factor, 1 - (1 - mean) / factor
    effective = mean * (1 - mean) / variance if variance > 0 else count / added
    square = quantile**2 / effective
    centre = (mean + square / 2) / (1 + square)
    half = np.sqrt(square * mean * (1 - mean) + square**2 / 4) / (1 + square)
    return float(centre - half), float(centre + half)


def parts(result: Result) -> np.ndarray:
    """A value for each held-out row, whose mean is the pooled score and whose spread is that score's.

    Of classes 1 where the row is right, else 0. Of numbers R² less the row's influence on it: with e the error, c the
    distance from the mean target, θ = Σe² / Σc², it is 1 - θ - (e² - θ c²) / mean(c²) (the delta method).
    """
    held = result.out_of_fold
    if result.class_names:
        return (held.predicted == held.label).astype(np.float64)
    target = held.label.astype(np.float64)
    return parts_of_r2(target, held.logits[:, 0] - target)


def parts_of_r2(target: np.ndarray, error: np.ndarray) -> np.ndarray:
    """See `parts`."""
    squares, distances = np.square(error), np.square(target - target.mean())
    ratio = squares.mean() / max(distances.mean(), 1e-30)
    return 1 - ratio - (squares - ratio * distances) / max(distances.mean(), 1e-30)


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


def pooled(result: Result, weights: np.ndarray) -> np.ndarray:
    """The score (accuracy, or R²) over all held-out rows under each of the weightings ``[draws, rows]``."""
    held, total = result.out_of_fold, weights.sum(1)
    if result.class_names:
        return weights @ (held.predicted == held.label) / total
    target = held.label.astype(np.float64)
    error = weights @ np.square(held.logits[:, 0] - target)
    variance = weights @ np.square(target) - np.square(weights @ target) / total
    return 1 - error / np.maximum(variance, 1e-30)


def drawn_weights(units: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """How often each row is drawn, ``float64[draws, rows]``: rows with the same unit (example, group) come together."""
    distinct, place = np.unique(units, return_inverse=True)
    n = len(distinct)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    return drawn[:, place].astype(np.float64)
