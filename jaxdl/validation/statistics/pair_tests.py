"""Tests of the difference of two scores on the same folds, each with the interval of that difference."""

from collections.abc import Sequence

import numpy as np

from jaxdl.errors import InputError
from jaxdl.tasks.metric import Mean, NoInterval
from jaxdl.validation.statistics.intervals import OVERLAP, expanded_p, percentiles
from jaxdl.validation.statistics.sample import Sample, scores_of_draws

DRAWS = 4000  # of the paired bootstrap, at least
LEAST_QUANTILE = 0.05  # of what the variance of folds could be by their test examples alone, see `corrected_t`
LEAST_FOLDS = 3  # of the corrected t-test: two folds agree by chance too often, see experiments/corrected_t_size.py
Found = tuple[float, float, float | None, float | None]  # difference, p, low and high


def corrected_t(first: Sample, second: Sample, alpha: float = 0.05) -> Found:
    """Mean difference of the folds' scores and the corrected resampled t-test (Nadeau & Bengio 2003).

    Few folds, and scores that are shares of few examples, may differ by nearly the same amount in every fold, by
    chance: their variance is 0, and p would be 0. But single test examples alone make folds vary, by a variance v that
    the rows of all folds give. The variance that K folds show is then below q v, where q is the 5 % quantile of a χ²
    variable with K - 1 degrees ÷ (K - 1), in one case of twenty; in these cases q v takes its place.

    Args:
      first, second: of the same folds.
      alpha: one less the level of the interval.

    Raises:
      InputError: for fewer than `LEAST_FOLDS` folds, or a fold without a score.
    """
    from scipy.stats import chi2, t

    differences = first.fold_scores - second.fold_scores
    k, name = len(differences), first.metric.name
    if k < LEAST_FOLDS:
        raise InputError(f"the corrected t-test needs {LEAST_FOLDS} folds, and there are {k}; use the test 'bootstrap'")
    if np.isnan(differences).any():
        together = not np.isnan(first.pooled_score - second.pooled_score)
        remedy = "use the test 'bootstrap' or another metric" if together else "use another metric"
        raise InputError(f"a fold has no {name}: {first.metric.undefined}; {remedy}")
    mean, variance = float(differences.mean()), differences.var(ddof=1)
    if not isinstance(first.metric, NoInterval) and first.units > 1:
        in_fold = len(np.unique(first.index)) / first.test.mean() * difference_variance(first, second, mean)
        variance = max(variance, chi2.ppf(LEAST_QUANTILE, k - 1) / (k - 1) * in_fold)
    if variance < 1e-20:  # the same predictions, or nothing to judge a difference by
        return mean, 1.0, None, None
    error = float(np.sqrt((1 / k + np.mean(first.test / first.train)) * variance))
    half = float(t.ppf(1 - alpha / 2, k - 1)) * error
    return mean, float(2 * t.sf(abs(mean) / error, k - 1)), mean - half, mean + half


def out_of_fold(first: Sample, second: Sample, alpha: float = 0.05) -> Found:
    """Difference of the pooled scores and Student's test, over test examples that are paired.

    As for the interval ``out-of-fold`` of a single score, the variance over test units is multiplied by 1 + ρ · share
    for training parts that are others and overlap; the K differences of folds, which are few, have no part in it. That
    tells more than `corrected_t` with few folds: with 3 of them its quantile is 4.3.

    Args:
      first, second: of the same folds.
      alpha: one less the level of the interval.
    """
    from scipy.stats import t

    difference = float(first.pooled_score - second.pooled_score)
    if first.units < 2:
        return difference, 1.0, None, None
    share = len(np.unique(first.index)) / float(first.train.mean())
    error = float(np.sqrt((1 + OVERLAP * share) * difference_variance(first, second, difference)))
    if not error > 0:  # the same predictions, or no score
        return difference, 1.0, None, None
    half = float(t.ppf(1 - alpha / 2, first.units - 1)) * error
    return difference, float(2 * t.sf(abs(difference) / error, first.units - 1)), difference - half, difference + half


def difference_variance(first: Sample, second: Sample, difference: float) -> float:
    """Of the difference of two scores over test examples, whose units are paired.

    It is at least what it would be if one unit less had shared the difference: all units may agree by chance.
    """
    apart = first.by_unit(first.deviations - second.deviations)
    return max(float(np.square(apart).sum()), (difference / first.units) ** 2)


def mcnemar(first: Sample, second: Sample, alpha: float = 0.05) -> Found:
    """Difference of the pooled accuracies and the exact test, over examples that are tested once.

    Where two results are equally good, they may be exchanged, and with them the sign of how many more examples of a
    unit one of them gets right. Of all these exchanges p is the share with a difference as large as that found. Units
    of one example make it McNemar's exact test. With whole groups as units its large-sample form is Obuchowski's
    ("On the comparison of correlated proportions for clustered data", 1998); McNemar's own would count the examples of
    a group, which are right and wrong together, as so many that are independent. The interval is Student's, with the
    spread of the units' differences.

    Args:
      first, second: of the same folds.
      alpha: one less the level of the interval.

    Raises:
      InputError: for a metric other than the accuracy, or examples that are tested several times.
    """
    if not isinstance(first.metric, Mean) or first.metric.value != "right":
        raise InputError(
            f"McNemar's test is for accuracy, not for '{first.metric.name}'; use 'corrected-t' or 'bootstrap'"
        )
    if len(np.unique(first.index)) < len(first.index):
        raise InputError("McNemar's test wants each example tested once; for repeated folds use 'corrected-t'")
    ahead = first.record["right"] - second.record["right"]
    sums = np.round(first.by_unit(ahead)).astype(int)
    mean = float(ahead.mean())
    return mean, sign_test(sums), *_student(first, second, mean, alpha)


def _student(first: Sample, second: Sample, difference: float, alpha: float) -> tuple[float | None, float | None]:
    from scipy.stats import t

    if first.units < 2:
        return None, None
    half = t.ppf(1 - alpha / 2, first.units - 1) * np.sqrt(difference_variance(first, second, difference))
    return float(difference - half), float(difference + half)


def sign_test(values: np.ndarray) -> float:
    """Share of all 2^n choices of signs whose sum of ± values is as far from 0 as that of `values`, whole numbers."""
    from scipy.stats import binom

    total, sizes = abs(int(values.sum())), np.abs(values)
    chances = np.ones(1)  # of the sum of those with a plus, from 0 on
    for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True):
        step = np.zeros(size * count + 1)
        step[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, step)
    signed = 2 * np.arange(len(chances)) - int(sizes.sum())
    return float(min(1.0, chances[np.abs(signed) >= total].sum()))


def paired_bootstrap(
    samples: Sequence[Sample], places: Sequence[tuple[int, int]], alpha: float, seed: int
) -> list[Found]:
    """Differences of the pooled scores and their p and interval, over the same draws of units for all results.

    The smallest p that D draws can give is about 2/D, and Holm's correction multiplies it by the number of pairs: D
    grows with that number, so that five draws are to be expected in each tail at the strictest level.

    Args:
      samples: of the same folds.
      places: pairs, by place in `samples`.
      alpha: for all pairs together; the interval of a pair is of level 1 - alpha.
      seed: of the draws.
    """
    count, draws = samples[0].units, max(DRAWS, int(np.ceil(10 * len(places) / alpha)))
    if count < 2:
        return [(samples[one].pooled_score - samples[other].pooled_score, 1.0, None, None) for one, other in places]
    drawn = scores_of_draws(samples, draws, seed)
    return [_drawn_pair(samples[one], samples[other], drawn[one] - drawn[other], alpha) for one, other in places]


def _drawn_pair(first: Sample, second: Sample, drawn: np.ndarray, alpha: float) -> Found:
    found = first.pooled_score - second.pooled_score
    drawn = drawn[np.isfinite(drawn)]  # a draw may miss a class
    if np.isnan(found) or not len(drawn):
        raise InputError(f"the metric '{first.metric.name}' has no score here: {first.metric.undefined}")
    low, high = (drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1  # the sample itself is one of the draws
    p = min(1.0, 2 * min(low, high) / (len(drawn) + 1))
    return found, expanded_p(p, first.units), *percentiles(drawn, first.units, 1 - alpha)
