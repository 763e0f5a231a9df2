"""Divisions of the data."""

import dataclasses

import numpy as np
import pytest
from sklearn import model_selection as sk

from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.splits import SPLITTERS, split_source
from jaxdl.validation.splitters import UNSHUFFLED

SOURCE = dataclasses.replace(
    data.subset(data.digits(range(4)), np.arange(120)),
    groups=np.arange(120) // 7,
    times=np.random.default_rng(0).permutation(120),
)


# of 120 examples in 18 groups, asked for 4 folds: how many are made, and how often they test an example
FOLDS = {
    "leave-one-out": 120,
    "leave-groups-out": 18,
    "holdout": 1,
    "repeated-stratified": 5 * 4,
    "repeated-kfold": 5 * 4,
    "combinatorial-purged": 6,
}
TESTED = {"repeated-stratified": 5, "repeated-kfold": 5, "combinatorial-purged": 3}


@pytest.mark.parametrize("kind", SPLITTERS)
def test_every_splitter_keeps_training_and_test_apart(kind):
    split = split_source(SOURCE, kind, 4, seed=1)
    for train, test in zip(split.train, split.test, strict=True):
        assert len(test)
        assert not set(train) & set(test)
    tested = np.bincount(np.concatenate(split.test), minlength=120)
    if kind not in ("monte-carlo", "holdout", "time-series"):
        assert set(tested) == {TESTED.get(kind, 1)}
    assert len(split) == FOLDS.get(kind, 4)
    again = split_source(SOURCE, kind, 4, seed=1)
    assert split.sha256 == again.sha256
    if kind not in UNSHUFFLED:
        assert split.sha256 != split_source(SOURCE, kind, 4, seed=2).sha256


def test_groups_are_never_on_both_sides():
    split = split_source(SOURCE, "group", 4, seed=0)
    for train, test in zip(split.train, split.test, strict=True):
        assert not set(SOURCE.groups[train]) & set(SOURCE.groups[test])


def test_time_goes_forward():
    split = split_source(SOURCE, "time-series", 4, seed=0)
    for train, test in zip(split.train, split.test, strict=True):
        assert SOURCE.times[train].max() < SOURCE.times[test].min()


def test_stratified_keeps_the_balance_of_classes():
    split = split_source(SOURCE, "stratified", 4, seed=0)
    for test in split.test:
        assert np.ptp(np.bincount(SOURCE.labels[test], minlength=4) - np.bincount(SOURCE.labels) / 4) <= 2


@pytest.mark.parametrize(
    "splitter",
    [
        sk.StratifiedKFold(3, shuffle=True, random_state=5),
        sk.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
        sk.LeaveOneGroupOut(),
        sk.StratifiedGroupKFold(3),
        sk.PredefinedSplit(np.arange(120) % 3),
        sk.TimeSeriesSplit(3, gap=2),
    ],
    ids=lambda s: type(s).__name__,
)
def test_scikit_learns_splitters_divide_as_they_do_there(splitter):
    split = split_source(SOURCE, splitter, 0, 0)
    order = np.argsort(SOURCE.times) if isinstance(splitter, sk.TimeSeriesSplit) else np.arange(120)
    expected = list(splitter.split(np.zeros(120), SOURCE.labels[order], SOURCE.groups[order]))
    assert len(expected) == len(split)
    for (train, test), mine, held in zip(expected, split.train, split.test, strict=True):
        np.testing.assert_array_equal(order[train], mine)
        np.testing.assert_array_equal(order[test], held)


class Overlapping:
    def split(self, x, y=None, groups=None):
        yield np.arange(10), np.arange(9, 20)


@pytest.mark.parametrize(
    ("source", "splitter", "folds", "message"),
    [
        (SOURCE, "stratifed", 5, "Did you mean 'stratified'"),
        (SOURCE, "stratified", 1, "needs at least 2"),
        (SOURCE, "stratified", 40, "fewer than 40 folds"),
        (SOURCE, "kfold", 121, "too few for 121 folds"),
        (SOURCE, "group", 19, "18 groups, fewer than 19"),
        (data.digits(), "group", 5, "has no groups"),
        (data.digits(), "time-series", 5, "has no times"),
        (SOURCE, 5, 5, "scikit-learn splitter"),
        (SOURCE, Overlapping(), 5, "trains on 1 of its own test examples"),
        (SOURCE, sk.StratifiedKFold(60), 5, "cannot be divided"),
    ],
)
def test_impossible_divisions_are_refused(source, splitter, folds, message):
    with pytest.raises(InputError, match=message):
        split_source(source, splitter, folds, 0)
