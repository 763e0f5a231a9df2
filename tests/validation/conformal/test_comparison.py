"""CV+ and jackknife+: by hand, beside the papers' formulas in plain loops, and by how often the truth is held."""

import math

import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.tasks.conformal import cumulative_probability
from jaxdl.validation.conformal.comparison import (
    check_coverage,
    check_enough,
    choose,
    guaranteed,
    interval_ends,
    p_values,
    p_values_by_class,
    unit_weights,
)


def test_jackknife_plus_by_hand():
    """Three examples, a fold each; at coverage 0.5 the second smallest of centre + residual is the end."""
    centres = np.array([[0.0, 10.0], [1.0, 10.0], [5.0, 10.0]])
    residuals, member = np.array([1.0, 4.0, 2.0]), np.arange(3)
    low, high = interval_ends(centres, residuals, member, member, 0.5)
    # sums 1, 5, 7 and 11, 14, 12; differences -1, -3, 3 and 9, 6, 8
    np.testing.assert_allclose((low, high), ([-1, 8], [5, 12]), rtol=1e-12)
    low, high = interval_ends(centres, residuals, member, member, 0.75)
    np.testing.assert_allclose((low, high), ([-3, 6], [7, 14]), rtol=1e-12)


def test_sets_by_hand():
    """Four examples in two folds; fold 0 calls all alike, fold 1 knows better."""
    candidates = np.array([[[0.5, 0.5, 0.9]], [[0.1, 0.6, 0.9]]])
    scores, member = np.array([0.5, 0.7, 0.2, 0.6]), np.array([0, 0, 1, 1])
    found = p_values(candidates, scores, member, np.arange(4))
    np.testing.assert_allclose(found, [[5 / 5, 4 / 5, 1 / 5]])
    np.testing.assert_array_equal(choose(found, 0.8), [[True, True, False]])  # at exactly α it is out
    np.testing.assert_array_equal(choose(found, 0.81), [[True, True, True]])
    by_class = p_values_by_class(candidates, scores, member, np.arange(4), np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(by_class, [[3 / 3, 3 / 3, 1 / 1]])  # of class 2 there is no example


def test_adaptive_scores_by_hand():
    p = np.array([[0.2, 0.5, 0.3], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(cumulative_probability(p, 0), [[1.0, 0.5, 0.8], [0.75, 1.0, 0.5]])
    np.testing.assert_allclose(cumulative_probability(p), [[0.8, 0, 0.5], [0.5, 0.75, 0]], atol=1e-12)
    found = cumulative_probability(p, np.array([1.0, 0.5]))
    np.testing.assert_allclose(found, [[0.8, 0, 0.5], [0.625, 0.875, 0.25]], atol=1e-12)


def slow_set(candidates, scores, member, coverage):
    """Romano et al. 2020, equation 12, candidate by candidate."""
    n = len(scores)
    return [
        sum(score < candidates[k][c] for score, k in zip(scores, member, strict=True)) < coverage * (n + 1)
        for c in range(len(candidates[0]))
    ]


def slow_interval(centres, residuals, member, coverage):
    """Barber et al. 2021, the display before theorem 4."""
    n = len(residuals)
    above = sorted(centres[k] + r for r, k in zip(residuals, member, strict=True))
    below = sorted(centres[k] - r for r, k in zip(residuals, member, strict=True))
    return below[math.floor((1 - coverage) * (n + 1)) - 1], above[math.ceil(coverage * (n + 1)) - 1]


@pytest.mark.parametrize("coverage", [0.515, 0.8351, 0.9123])
def test_the_same_as_the_formulas_of_the_papers(coverage):
    random = np.random.default_rng(0)
    for members, n in ((2, 13), (5, 40), (20, 20)):
        member = random.permutation(np.arange(n) % members)
        scores = np.round(random.random(n), 2)  # with ties
        candidates = np.round(random.random((members, 7, 4)), 2)
        sets = choose(p_values(candidates, scores, member, np.arange(n)), coverage)
        low, high = interval_ends(candidates[:, :, 0], scores, member, np.arange(n), coverage)
        for i in range(7):
            assert sets[i].tolist() == slow_set(candidates[:, i], scores, member, coverage)
            ends = slow_interval(candidates[:, i, 0], scores, member, coverage)
            np.testing.assert_allclose((low[i], high[i]), ends, rtol=1e-9, atol=1e-12)


def test_rows_of_a_unit_share_its_weight():
    """What is said twice of an example counts once; each group counts alike, whatever its size."""
    weight, units = unit_weights(np.array([7, 3, 7, 7]))
    np.testing.assert_allclose(weight, [1 / 3, 1, 1 / 3, 1 / 3])
    assert units == 2
    random = np.random.default_rng(1)
    scores, candidates = random.random(20), random.random((4, 6, 3))
    member, unit = np.arange(20) % 4, np.arange(20)
    once = p_values(candidates, scores, member, unit)
    twice = p_values(candidates, np.tile(scores, 2), np.tile(member, 2), np.tile(unit, 2))
    np.testing.assert_allclose(once, twice)
    ends = interval_ends(candidates[:, :, 0], scores, member, unit, 0.8)
    again = interval_ends(candidates[:, :, 0], np.tile(scores, 2), np.tile(member, 2), np.tile(unit, 2), 0.8)
    np.testing.assert_allclose(ends, again)


def test_what_is_guaranteed():
    assert guaranteed(0.9, 50, 50) == pytest.approx(0.8)  # the jackknife+
    assert guaranteed(0.9, 100, 5) == pytest.approx(0.8 - min(2 * 0.8 / 21, 0.95 / 6))
    assert guaranteed(0.9, 10, 2) == pytest.approx(0.8 - min(2 * 0.5 / 6, 0.8 / 3))
    assert guaranteed(0.5, 10, 2) == 0


def test_the_advice_of_a_refusal_helps():
    for units in (1, 6, 19, 1000):
        with pytest.raises(InputError, match=r"at most 0\.\d+") as refusal:
            check_enough(units, 0.99999, "calibration examples")
        advised = float(str(refusal.value).split("at most ")[1].split(",")[0])
        check_enough(units, advised, "calibration examples")
    check_enough(9, 0.9, "calibration examples")
    with pytest.raises(InputError, match=r"at least 9 .* there are 8"):
        check_enough(8, 0.9, "calibration examples")
    for wrong in (0, 1, -0.1, 90, float("nan"), True, "0.9"):
        with pytest.raises(InputError, match="coverage is"):
            check_coverage(wrong)


# how often the truth is held: models of least squares and of class means, cheap enough for hundreds of data sets


def folds_of(random, n, k):
    return random.permutation(np.arange(n) % k)


def least_squares(x, y, at):
    return at @ np.linalg.lstsq(x, y, rcond=None)[0]


def held_by_intervals(random, n, k, coverage, features, unit=None):
    """Whether CV+ intervals hold the truth of new examples; with `unit` these are of new groups with a shift each.

    Returns:
      The share of 50 new examples, and that where the examples are taken for the units.
    """
    groups = np.arange(n + 50) if unit is None else np.concatenate([unit, unit.max() + 1 + np.arange(50)])
    x = random.normal(size=(n + 50, features))
    y = x[:, 0] + random.standard_t(3, n + 50) + (0 if unit is None else 20 * random.normal(size=len(groups))[groups])
    fold = folds_of(random, n, k) if unit is None else folds_of(random, unit.max() + 1, k)[unit]
    centres, residuals = [], np.empty(n)
    for one in range(k):
        train, test = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        residuals[test] = np.abs(y[test] - least_squares(x[train], y[train], x[test]))
        centres.append(least_squares(x[train], y[train], x[n:]))
    found = []
    for units in (groups[:n],) if unit is None else (unit, np.arange(n)):
        low, high = interval_ends(np.array(centres), residuals, fold, units, coverage)
        found.append(((low <= y[n:]) & (y[n:] <= high)).mean())
    return found


@pytest.mark.parametrize(("n", "k", "features"), [(100, 5, 3), pytest.param(40, 8, 5, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth_as_often_as_they_say(n, k, features):
    random = np.random.default_rng(0)
    held = [held_by_intervals(random, n, k, 0.9, features) for _ in range(120)]
    assert abs(np.mean(held) - 0.9) < 0.03


def test_the_worst_model_keeps_the_bound():
    """A model made to deceive: of ten examples it knows from its training part which two are missing.

    Of these it predicts one right, the other wrong by 1. The examples 0, 1 and 2 lose to each other in a circle, and to
    all others. Then each of the three is missed: 1 - 2α + 1/10 is covered of 1 - α.
    """

    def errs(one, other):
        if one < 3 and other < 3:
            return (other - one) % 3 == 1
        return one < other

    held, in_set = [], []
    for new in range(10):
        others, places = [i for i in range(10) if i != new], np.arange(9)
        residuals = np.array([errs(i, new) for i in others], float)
        centres = np.array([errs(new, i) for i in others], float)[:, None]  # the truth is 0 everywhere
        low, high = interval_ends(centres, residuals, places, places, 0.8)
        held.append(low[0] <= 1e-9 and high[0] >= -1e-9)
        in_set.append(choose(p_values(centres[:, :, None], residuals, places, places), 0.8).item())
    assert held == in_set == [False] * 3 + [True] * 7
    assert guaranteed(0.8, 9, 9) == pytest.approx(0.6)


@pytest.mark.slow
def test_unstable_models_keep_the_bound():
    """As many features as training examples: least squares at its most unstable."""
    random = np.random.default_rng(0)
    held = np.mean([held_by_intervals(random, 10, 10, 0.8, 9) for _ in range(60)])
    assert held >= guaranteed(0.8, 10, 10)


def test_whole_groups_are_the_units():
    """Shifts of whole groups: with examples as units, new groups are held less often than it says."""
    random = np.random.default_rng(0)
    unit = np.repeat(np.arange(12), np.arange(12) % 6 + 5)
    held = np.array([held_by_intervals(random, len(unit), 4, 0.9, 2, unit) for _ in range(120)]).mean(0)
    assert 0.88 < held[0] < 0.9 + 1 / 13 + 0.02
    assert held[1] < held[0] - 0.03


def class_probabilities(x, y, at, classes):
    """Of normal distributions around class means."""
    means = np.array([x[y == c].mean(0) if (y == c).any() else np.zeros(x.shape[1]) for c in range(classes)])
    logits = -np.square(at[:, None] - means).sum(-1) / 2 + np.log(np.bincount(y, minlength=classes) + 0.5)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def held_by_sets(random, score, coverage, by_class=False, n=200, k=5):
    """For each new example its class, whether the set holds it, and the size of the set."""
    shares = [0.7, 0.2, 0.1]
    y = random.choice(3, n + 200, p=shares)
    x = random.normal(size=(n + 200, 2)) + 1.5 * np.array([[0, 0], [1, 0], [0, 1]])[y]
    fold = folds_of(random, n, k)
    uniform = random.random(n + 200)  # of a new example the same for all members
    candidates, scores = [], np.empty(n)
    for one in range(k):
        train, test = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        said = class_probabilities(x[train], y[train], np.concatenate([x[test], x[n:]]), 3)
        strange = score(said, np.concatenate([uniform[test], uniform[n:]]))
        scores[test] = strange[np.arange(len(test)), y[test]]
        candidates.append(strange[len(test) :])
    rows = np.array(candidates), scores, fold, np.arange(n)
    found = choose(p_values_by_class(*rows, y[:n]) if by_class else p_values(*rows), coverage)
    return np.stack([y[n:], found[np.arange(200), y[n:]], found.sum(1)])


SCORES = {
    "probability": lambda p, uniform: 1 - p,
    "adaptive": lambda p, uniform: cumulative_probability(p),
    "randomised": cumulative_probability,
}


def test_sets_hold_the_truth_as_often_as_they_say():
    found = {}
    for name, score in SCORES.items():
        random = np.random.default_rng(0)
        found[name] = np.concatenate([held_by_sets(random, score, 0.9) for _ in range(100)], 1)
    assert all(abs(held[1].mean() - 0.9) < 0.02 for held in found.values())
    sizes = {name: held[2] for name, held in found.items()}
    assert sizes["probability"].mean() < sizes["adaptive"].mean() < sizes["randomised"].mean()
    assert sizes["adaptive"].min() == 1
    # on average, and not for each class: the adaptive ones are fairer to the rare
    rare = {name: held[1][held[0] == 2].mean() for name, held in found.items()}
    assert rare["probability"] < rare["adaptive"] < rare["randomised"] < 0.8


def test_class_conditional_sets_hold_each_class_as_often_as_they_say():
    random = np.random.default_rng(0)
    label, held, _ = np.concatenate([held_by_sets(random, SCORES["probability"], 0.9, True) for _ in range(100)], 1)
    for one in range(3):
        assert 0.88 < held[label == one].mean() < 0.9 + 1 / 21 + 0.01  # of the rarest there are 20 on average
