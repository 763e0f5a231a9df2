"""Purged splitters, held to what they promise example by example."""

import itertools
import math
from datetime import timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn import model_selection as sk
from sklearn.linear_model import LogisticRegression

from jaxdl.errors import InputError
from jaxdl.validation.time_splits import CombinatorialPurgedKFold, PurgedKFold, PurgedTimeSeriesSplit

RANDOM = np.random.default_rng(0)
TIMES = np.sort(RANDOM.uniform(0, 100, 60))[RANDOM.permutation(60)]


def allowed(times, ends, test, embargo):
    """Whose label interval meets that of no tested example, by two loops over the definition."""
    free = []
    for i in range(len(times)):
        meets = any(times[i] <= ends[j] + embargo and times[j] <= ends[i] for j in test)
        if i not in set(test) and not meets:
            free.append(i)
    return free


def blocks(times, number):
    return np.array_split(np.argsort(times, kind="stable"), number)


moments = st.lists(st.integers(0, 40), min_size=12, max_size=40)
spans = st.floats(0, 6).map(lambda value: round(value, 1))


@settings(max_examples=60, deadline=None)
@given(moments, spans, spans, st.integers(2, 5))
def test_purged_k_fold_is_its_definition(times, horizon, embargo, folds):
    """Every block tested, and of the others all that may be trained on: no more, and no fewer."""
    times = np.array(times, float)
    splitter = PurgedKFold(folds, times=times, horizon=horizon, embargo=embargo)
    expected = [(allowed(times, times + horizon, test, embargo), test) for test in blocks(times, folds)]
    if not all(train for train, _ in expected):
        with pytest.raises(InputError, match="nothing left to train on"):
            list(splitter.split(times))
        return
    for (train, test), (mine, held) in zip(expected, splitter.split(times), strict=True):
        assert sorted(mine) == train
        np.testing.assert_array_equal(held, test)


@settings(max_examples=30, deadline=None)
@given(moments, st.data(), spans, st.integers(3, 5))
def test_combinatorial_folds_are_their_definition(times, data, embargo, number):
    """Labels of any length each; folds for every choice of blocks."""
    times = np.array(times, float)
    ends = times + np.array(data.draw(st.lists(spans, min_size=len(times), max_size=len(times))))
    tested = data.draw(st.integers(1, number - 1))
    splitter = CombinatorialPurgedKFold(number, tested, times=times, ends=ends, embargo=embargo)
    cut = blocks(times, number)
    choices = [np.concatenate(choice) for choice in itertools.combinations(cut, tested)]
    expected = [(allowed(times, ends, test, embargo), test) for test in choices]
    assert splitter.get_n_splits() == len(expected) == math.comb(number, tested)
    if not all(train for train, _ in expected):
        with pytest.raises(InputError, match="nothing left to train on"):
            list(splitter.split(times))
        return
    found = list(splitter.split(times))
    for (train, test), (mine, held) in zip(expected, found, strict=True):
        assert sorted(mine) == train
        np.testing.assert_array_equal(held, test)
    often = np.bincount(np.concatenate([held for _, held in found]), minlength=len(times))
    assert set(often) == {math.comb(number - 1, tested - 1)}


fractions = st.builds(Fraction, st.integers(0, 40), st.sampled_from([1, 2, 3, 7, 10]))


@settings(max_examples=60, deadline=None)
@given(moments, fractions, fractions, st.sampled_from(["int", "float", "days", "microseconds"]))
@example([0] * 8 + [1, 1, 4, 5], Fraction(4, 7), Fraction(24, 7), "days")  # four days, though neither float is exact
def test_fractional_horizons_and_embargoes_are_exact(times, horizon, embargo, unit):
    """Whole moments and durations between them, by two loops over fractions; given as floats."""
    whole = np.array(times)
    given = {
        "int": whole,
        "float": whole.astype(float),
        "days": np.datetime64("2024-02-20") + whole,
        "microseconds": np.datetime64("2024-02-20", "us") + whole,
    }[unit]
    scale = 24 * 3600 * 10**6 if unit == "microseconds" else 1
    # a float of days does not hold thirds of a microsecond
    assume(scale == 1 or horizon.denominator == embargo.denominator == 1)
    splitter = PurgedKFold(3, times=given, horizon=float(horizon / scale), embargo=float(embargo / scale))
    exact = np.array([Fraction(t) for t in times], object)
    expected = [allowed(exact, exact + horizon, test, embargo) for test in blocks(whole, 3)]
    if not all(expected):
        with pytest.raises(InputError, match="nothing left to train on"):
            list(splitter.split(given))
        return
    for train, (mine, _) in zip(expected, splitter.split(given), strict=True):
        assert sorted(mine) == train


@pytest.mark.parametrize(("horizon", "embargo"), [(0.5, 0.5), (0.7, 0.3), (1 / 3, 2 / 3), (0, 1), (1, 0)])
def test_horizon_and_embargo_act_as_their_sum(horizon, embargo):
    train = next(iter(PurgedKFold(2, times=np.arange(20), horizon=horizon, embargo=embargo).split(np.zeros(20))))[0]
    assert min(train) == 11  # the last label of the first ten is known at 9 + horizon, and the embargo ends at 10


def test_without_horizon_purged_folds_are_scikit_learns_in_the_order_of_time():
    order = np.argsort(TIMES)
    for (train, test), (mine, held) in zip(
        sk.KFold(7).split(TIMES), PurgedKFold(7, times=TIMES).split(TIMES), strict=True
    ):
        np.testing.assert_array_equal(order[train], mine)
        np.testing.assert_array_equal(order[test], held)


def test_forward_in_time_is_scikit_learns_less_the_labels_that_reach_the_test_part():
    order, horizon = np.argsort(TIMES), 8.0
    theirs = list(sk.TimeSeriesSplit(4, gap=2).split(TIMES))
    for given_horizon in (0, horizon):
        mine = list(PurgedTimeSeriesSplit(4, gap=2, times=TIMES, horizon=given_horizon).split(TIMES))
        for (train, test), (found, held) in zip(theirs, mine, strict=True):
            np.testing.assert_array_equal(order[test], held)
            kept = [i for i in order[train] if TIMES[i] + given_horizon < TIMES[order[test]].min()]
            np.testing.assert_array_equal(kept, found)
    assert len(mine[-1][0]) < len(theirs[-1][0])


@pytest.mark.parametrize(
    ("times", "horizon"),
    [
        (np.datetime64("2024-02-20") + np.arange(30).astype("timedelta64[D]"), 3),
        (np.datetime64("2024-02-20") + np.arange(30).astype("timedelta64[D]"), timedelta(days=3)),
        (np.datetime64("2024-02-20", "ns") + np.arange(30) * np.timedelta64(24, "h"), np.timedelta64(72, "h")),
        (np.arange(30) + 10**18, 3),  # float64 would not tell these apart
        (np.arange(30, dtype=np.uint8), 3.9),
    ],
)
def test_dates_and_whole_numbers_divide_as_days_do(times, horizon):
    expected = list(PurgedKFold(5, times=np.arange(30.0), horizon=3, embargo=2).split(times))
    found = list(PurgedKFold(5, times=times, horizon=horizon, embargo=2).split(times))
    for pair, mine in zip(expected, found, strict=True):
        for one, other in zip(pair, mine, strict=True):
            np.testing.assert_array_equal(one, other)
    train, test = found[1]
    assert (min(test), max(test)) == (6, 11)
    assert 2 in train  # its label is known on day 5, the test begins on day 6
    assert not {3, 4, 5} & set(train)  # reach day 6
    assert not {12, 13, 14, 15, 16} & set(train)  # the last label is known on day 14, and two more are under embargo
    assert 17 in train


@pytest.mark.parametrize(
    "splitter",
    [
        PurgedKFold(4, times=TIMES, horizon=3, embargo=2),
        CombinatorialPurgedKFold(4, 2, times=TIMES, horizon=1),
        PurgedTimeSeriesSplit(4, times=TIMES, horizon=1),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
def test_scikit_learn_takes_them(splitter):
    """Its own scores and search, against fits by hand on the same parts."""
    y = np.arange(60) % 2
    x = np.random.default_rng(1).normal(size=(60, 3)) + y[:, None]
    scores = sk.cross_val_score(LogisticRegression(), x, y, cv=splitter)
    by_hand = [LogisticRegression().fit(x[a], y[a]).score(x[b], y[b]) for a, b in splitter.split(x, y)]
    np.testing.assert_allclose(scores, by_hand)
    assert len(scores) == splitter.get_n_splits(x, y)
    search = sk.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=splitter).fit(x, y)
    assert search.n_splits_ == len(scores)
    assert "times" not in repr(splitter)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PurgedKFold(1, times=TIMES), "n_splits is 1; expected at least 2"),
        (lambda: PurgedKFold(2.0, times=TIMES), "n_splits is 2.0; expected a whole number"),
        (lambda: PurgedKFold(True, times=TIMES), "n_splits is True; expected a whole number"),
        (lambda: PurgedKFold(times=["a", "b"]), "expected one number or date"),
        (lambda: PurgedKFold(times=np.eye(3)), "expected one number or date"),
        (lambda: PurgedKFold(times=[1.0, np.nan]), "times hold nan at index 1"),
        (lambda: PurgedKFold(times=np.array(["2024-01-01", "NaT"], "datetime64[D]")), "times hold NaT at index 1"),
        (lambda: PurgedKFold(times=[2.0**63, 1.0]), "at index 0"),
        (lambda: PurgedKFold(times=TIMES, horizon=-1), "horizon is -1; expected a time from 0"),
        (lambda: PurgedKFold(times=TIMES, horizon=np.nan), "horizon is nan"),
        (lambda: PurgedKFold(times=TIMES, horizon="3"), "horizon is '3'"),
        (lambda: PurgedKFold(times=TIMES, horizon=timedelta(1)), "but the times are numbers"),
        (lambda: PurgedKFold(times=TIMES, horizon=1, ends=TIMES), "both ends and a horizon"),
        (lambda: PurgedKFold(times=TIMES, ends=TIMES - 1), "before it starts"),
        (lambda: PurgedKFold(times=TIMES, ends=TIMES[:3]), "expected as many of one kind"),
        (lambda: CombinatorialPurgedKFold(3, 3, times=TIMES), "expected fewer than the 3 blocks"),
        (lambda: CombinatorialPurgedKFold(40, 20, times=TIMES), "at most 10000 folds"),
        (lambda: PurgedTimeSeriesSplit(3, gap=-1, times=TIMES), "gap is -1"),
        (lambda: list(PurgedKFold(times=TIMES, embargo=-1).split(TIMES)), "embargo is -1"),
        (lambda: list(PurgedKFold(times=TIMES).split(TIMES[:5])), "5 examples but 60 times"),
        (lambda: list(PurgedKFold(9, times=TIMES[:5]).split(TIMES[:5])), "too few for 9 blocks"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
