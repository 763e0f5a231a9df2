"""Folds given as a list of indices: they are those of scikit-learn's splitters, and mistakes in them are named."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, TimeSeriesSplit

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.probes.places import Places
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.search.inner import inner_splits
from jaxdl.validation.splits import load_split, split_source

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 40)
FEATURES = np.float32(RANDOM.normal(size=(40, 3)) + LABELS[:, None])
GROUPS, TIMES = np.arange(40) // 4, RANDOM.permutation(40)
SOURCE = data.arrays(FEATURES, LABELS, groups=GROUPS)
HALVES = [(range(20), range(20, 40)), (range(20, 40), range(20))]
MLP, PLAN = jaxdl.create("mlp", 2, hidden=(2,)), jaxdl.Plan(epochs=1)
HEADS = Probing(("ridge",), (1.0,))


def test_a_list_of_folds_scores_as_the_splitter_that_made_it():
    splitter = KFold(4, shuffle=True, random_state=0)
    wanted = jaxdl.probe(FEATURES, LABELS, splitter, HEADS)
    for given in (list(splitter.split(FEATURES)), splitter.split(FEATURES)):  # a list, and an iterator
        found = jaxdl.probe(FEATURES, LABELS, given, HEADS)
        np.testing.assert_array_equal(found.heads["ridge"].scores, wanted.heads["ridge"].scores)
        assert found.split.sha256 == wanted.split.sha256


def test_the_folds_are_known_for_what_they_are(tmp_path):
    whole = split_source(SOURCE, list(GroupKFold(5).split(FEATURES, LABELS, GROUPS)), 1, 0)
    assert (whole.kind, whole.grouped, len(whole)) == ("given", True, 5)
    read = load_split(whole.save(tmp_path / "split.npz", SOURCE))
    assert (read.sha256, read.kind, read.name) == (whole.sha256, "given", whole.name)
    timed = data.arrays(FEATURES, LABELS, times=np.arange(40))
    with pytest.warns(UserWarning, match="10 of the 40"):  # the beginning is only trained on
        assert split_source(timed, list(TimeSeriesSplit(3).split(FEATURES)), 1, 0).forward


def test_an_example_that_no_fold_tests_is_told_of():
    with pytest.warns(UserWarning, match="3 of the 40 .* index 37"):
        split_source(SOURCE, [(range(20), range(20, 37)), HALVES[1]], 1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_source(SOURCE, HALVES, 1, 0)


WRONG = {
    "fold 1.* trains on 5 .* index 20": [HALVES[0], (range(20, 40), range(15, 25))],
    "test part of fold 0 .* index 40.* 0 to 39": [(range(20), range(20, 41))],
    "training part of fold 0 .* index -1": [(range(-1, 20), range(20, 40))],
    "training part of fold 0 .* index 3 2 times": [([3, 3, 4], range(20, 40))],
    "test part of fold 1 is empty": [HALVES[0], (range(20), [])],
    "numpy.flatnonzero": [(LABELS == 0, LABELS == 1)],
    "entry 0 .* no pair": HALVES[0],  # a single fold that is not in a list
    "entry 1 .* no pair": [HALVES[0], 3],
    "no folds": [],
}
CALLS = {
    "cross_validate": lambda folds: jaxdl.cross_validate(MLP, SOURCE, PLAN, splitter=folds),
    "search": lambda folds: jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3, 1e-2]}, splitter=folds),
    "learning_curve": lambda folds: jaxdl.learning_curve(MLP, SOURCE, PLAN, splitter=folds),
    "variance": lambda folds: jaxdl.variance(MLP, SOURCE, PLAN, splitter=folds),
    "probe": lambda folds: jaxdl.probe(FEATURES, LABELS, folds, HEADS),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_mistake_is_named_with_its_fold(said):
    with pytest.raises(InputError, match=said):
        split_source(SOURCE, WRONG[said], 1, 0)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_with_folds_takes_and_checks_a_list(call):
    said = next(iter(WRONG))
    with pytest.raises(InputError, match=said):
        CALLS[call](WRONG[said])


def test_advice_for_a_mask_and_a_single_fold_can_be_followed():
    train, test = (np.flatnonzero(value == LABELS) for value in (0, 1))
    assert len(split_source(SOURCE, [(train, test), (test, train)], 1, 0)) == 2
    with pytest.warns(UserWarning, match="20 of the 40"):
        assert len(split_source(SOURCE, [HALVES[0]], 1, 0)) == 1


def test_a_list_cannot_divide_training_parts():
    outer = split_source(SOURCE, HALVES, 1, 0)
    task = jaxdl.Classification(("0", "1"))
    with pytest.raises(InputError, match="inner_splitter"):
        inner_splits(SOURCE, task, outer, HALVES, 2, 0)
    inner = inner_splits(SOURCE, task, outer, None, 2, 0)  # which follows from the outer ones
    assert [len(one) for one in inner] == [2, 2]


def test_folds_of_images_are_those_of_all_their_places():
    places = Places(SOURCE, np.repeat(np.arange(10), 4), SOURCE)
    ((train, test),) = places.of_places([(np.arange(5), np.array([7, 9]))])
    np.testing.assert_array_equal(train, np.arange(20))
    np.testing.assert_array_equal(test, [28, 29, 30, 31, 36, 37, 38, 39])
