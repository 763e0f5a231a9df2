"""Divisions of the data."""

import dataclasses
import json
import re
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as sk
from sklearn.linear_model import RidgeClassifier

from jaxdl import data
from jaxdl.data.content import hash_indices
from jaxdl.errors import InputError
from jaxdl.validation.splits import SPLITTERS, Splitting, load_split, split_source
from jaxdl.validation.splitters import GROUPED, UNSHUFFLED, is_timed
from jaxdl.validation.time_splits import CombinatorialPurgedKFold, PurgedKFold, PurgedTimeSeriesSplit

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


def labelled(source=SOURCE):
    return np.zeros(len(source)), source.labels, source.groups


@pytest.mark.parametrize(
    ("kind", "options", "theirs"),
    [
        ("stratified", {}, sk.StratifiedKFold(4, shuffle=True, random_state=3)),
        ("kfold", {}, sk.KFold(4, shuffle=True, random_state=3)),
        ("group", {}, sk.GroupKFold(4, shuffle=True, random_state=3)),
        ("stratified-group", {}, sk.StratifiedGroupKFold(4, shuffle=True, random_state=3)),
        ("leave-one-out", {}, sk.LeaveOneOut()),
        ("leave-groups-out", {}, sk.LeaveOneGroupOut()),
        ("leave-groups-out", {"test_groups": 2}, sk.LeavePGroupsOut(2)),
        ("monte-carlo", {"test_fraction": 0.3}, sk.StratifiedShuffleSplit(4, test_size=0.3, random_state=3)),
        ("repeated-stratified", {}, sk.RepeatedStratifiedKFold(n_splits=4, n_repeats=5, random_state=3)),
        ("repeated-kfold", {"repeats": 2}, sk.RepeatedKFold(n_splits=4, n_repeats=2, random_state=3)),
        ("holdout", {}, sk.StratifiedShuffleSplit(1, test_size=0.2, random_state=3)),
    ],
)
def test_names_stand_for_scikit_learns_splitters(kind, options, theirs):
    split = split_source(SOURCE, Splitting(kind, **options), 4, 3)
    expected = list(theirs.split(*labelled()))
    for (train, test), mine, held in zip(expected, split.train, split.test, strict=True):
        np.testing.assert_array_equal(train, mine)
        np.testing.assert_array_equal(test, held)


@pytest.mark.parametrize(
    ("kind", "options", "ours"),
    [
        ("time-series", {"gap": 3}, None),
        ("time-series", {"gap": 3, "horizon": 4}, PurgedTimeSeriesSplit(4, gap=3, times=SOURCE.times, horizon=4)),
        ("purged", {"horizon": 4, "embargo": 2}, PurgedKFold(4, times=SOURCE.times, horizon=4, embargo=2)),
        ("combinatorial-purged", {"test_groups": 3}, CombinatorialPurgedKFold(4, 3, times=SOURCE.times)),
    ],
)
def test_names_stand_for_ours(kind, options, ours):
    split = split_source(SOURCE, Splitting(kind, **options), 4, 3)
    if ours is None:
        order = np.argsort(SOURCE.times)
        pairs = [(order[a], order[b]) for a, b in sk.TimeSeriesSplit(4, gap=3).split(order)]
    else:
        pairs = list(ours.split(SOURCE.labels))
        named = split.as_dict()
        mine = split_source(SOURCE, ours, 0, 0).as_dict()
        assert {key for key in named if named[key] != mine[key]} == {"kind"}
    for (train, test), mine, held in zip(pairs, split.train, split.test, strict=True):
        np.testing.assert_array_equal(train, mine)
        np.testing.assert_array_equal(test, held)
    assert split.seed is None


@pytest.mark.parametrize("kind", GROUPED)
def test_splitters_of_groups_keep_them_whole(kind):
    splitter = Splitting(kind, test_groups=2) if kind == "leave-groups-out" else kind
    split = split_source(SOURCE, splitter, 4, 0)
    for train, test in zip(split.train, split.test, strict=True):
        assert not set(SOURCE.groups[train]) & set(SOURCE.groups[test])
        assert len(train) + len(test) == 120


@pytest.mark.parametrize(
    ("kind", "folds", "seed", "options", "message"),
    [
        ("kfold", 2.5, 0, {}, "folds is 2.5; expected a whole number"),
        ("kfold", True, 0, {}, "folds is True; expected a whole number"),
        ("purged", 1, 0, {}, "'purged' needs at least 2"),
        ("monte-carlo", 0, 0, {}, "folds is 0; expected at least 1"),
        ("kfold", 3, -1, {}, "seed is -1; expected at least 0"),
        ("kfold", 3, 2**32, {}, "seed is 4294967296; expected at most"),
        ("kfold", 3, 0.5, {}, "seed is 0.5; expected a whole number"),
        ("kfold", 3, 0, {"repeats": 2}, "'kfold' has no such option; it is for repeated-stratified and repeated-kfold"),
        ("repeated-kfold", 3, 0, {"repeats": 0}, "repeats is 0; expected at least 1"),
        ("repeated-kfold", 3, 0, {"repeats": 1.5}, "repeats is 1.5; expected a whole number"),
        ("repeated-stratified", 50, 0, {}, "fewer than 50 folds"),
        ("time-series", 3, 0, {"gap": -1}, "gap is -1; expected at least 0"),
        ("time-series", 3, 0, {"gap": 100}, "cannot be divided by time-series"),
        ("time-series", 3, 0, {"embargo": 1}, "it is for purged and combinatorial-purged"),
        ("purged", 3, 0, {"horizon": -2}, "horizon is -2; expected a time from 0"),
        ("purged", 3, 0, {"horizon": float("nan")}, "horizon is nan"),
        ("purged", 3, 0, {"horizon": 500}, "fold 0 has nothing left to train on"),
        ("combinatorial-purged", 4, 0, {"test_groups": 4}, "expected fewer than the 4 blocks"),
        ("combinatorial-purged", 40, 0, {"test_groups": 20}, "at most 10000 folds"),
        ("leave-groups-out", 4, 0, {"test_groups": 18}, "expected fewer than the 18 groups"),
        ("leave-groups-out", 4, 0, {"test_groups": 9}, "48620 ways; expected at most 10000"),
        ("holdout", 1, 0, {"test_fraction": 1.0}, "test_fraction is 1.0; expected a share between 0 and 1"),
        ("holdout", 1, 0, {"test_fraction": 0.001}, "cannot be divided by holdout"),
    ],
)
def test_options_out_of_range_are_refused(kind, folds, seed, options, message):
    with pytest.raises(InputError, match=message):
        split_source(SOURCE, Splitting(kind, **options), folds, seed)


numbers = st.one_of(st.none(), st.integers(-3, 130), st.floats(allow_nan=True), st.booleans(), st.just("3"))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SPLITTERS),
    numbers,
    st.one_of(st.integers(-2, 4), numbers),
    st.dictionaries(
        st.sampled_from([f.name for f in dataclasses.fields(Splitting) if f.name != "splitter"]), numbers, max_size=2
    ),
)
def test_any_option_divides_or_is_refused_in_words(kind, folds, seed, options):
    try:
        split = split_source(SOURCE, Splitting(kind, **options), folds, seed)
    except InputError:
        return
    for train, test in zip(split.train, split.test, strict=True):
        assert len(train)
        assert len(test)
        assert not set(train) & set(test)


# Advice, followed

NUMBERS = data.arrays(np.zeros((9, 2), np.float32), np.arange(9, dtype=np.float32))


def of_classes(counts, groups=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    return data.arrays(np.zeros((len(labels), 2), np.float32), labels, groups=groups)


@pytest.mark.parametrize(
    ("source", "kind", "folds", "options"),
    [
        (of_classes([9, 1]), "stratified", 5, {}),
        (of_classes([9, 3]), "stratified", 5, {}),
        (of_classes([9, 1]), "repeated-stratified", 5, {}),
        (of_classes([9, 2]), "repeated-stratified", 5, {}),
        (of_classes([9, 1], np.arange(10)), "stratified-group", 5, {}),
        (of_classes([9, 2], np.arange(11) // 2), "stratified-group", 5, {}),
        (NUMBERS, "stratified", 5, {}),
        (NUMBERS, "repeated-stratified", 5, {}),
        (dataclasses.replace(NUMBERS, groups=np.arange(9) // 2), "stratified-group", 5, {}),
        (SOURCE, "leave-groups-out", 99, {"test_groups": 9}),
        (NUMBERS, "stratified-group", 5, {}),
        (of_classes([6, 6]), "purged", 5, {}),
        (of_classes([2, 2]), "stratified", 5, {}),
        (of_classes([1, 3]), "stratified", 5, {}),
        (of_classes([1, 3]), "repeated-stratified", 5, {}),
        (of_classes([2, 2]), "kfold", 5, {}),
    ],
)
def test_advice_can_be_followed(source, kind, folds, options):
    with pytest.raises(InputError) as error:
        split_source(source, Splitting(kind, **options), folds, 0)
    advised = [(kind, int(number)) for number in re.findall(r"--folds (\d+)", str(error.value))]
    for name in re.findall(r"(?:--|[Uu]se the )splitter '?([a-z-]+)", str(error.value)):
        most = re.search(r"with up to (\d+) folds", str(error.value))
        advised.append((name, int(most[1]) if most else folds))
    assert advised
    both = re.search(r"splitter ([a-z-]+) and --folds (\d+)", str(error.value))
    for name, number in [(both[1], int(both[2]))] if both else advised:
        assert len(split_source(source, name, number, 0)) in (number, 5 * number)


@pytest.mark.parametrize(
    ("source", "kind", "lacking"),
    [
        (of_classes([2, 2], np.zeros(4, int)), "leave-groups-out", "single group"),
        (of_classes([1]), "kfold", "single class"),
    ],
)
def test_what_no_advice_can_mend_is_named(source, kind, lacking):
    with pytest.raises(InputError, match=lacking) as error:
        split_source(source, kind, 5, 0)
    assert " use " not in str(error.value)


# A name with its options


def test_a_splitter_is_given_with_its_options():
    given = split_source(SOURCE, Splitting("purged", horizon=14), 4, 0)
    by_hand = PurgedKFold(4, times=SOURCE.times, horizon=14)
    assert given.sha256 == split_source(SOURCE, by_hand, 4, 0).sha256
    assert given.options == {"horizon": 14, "embargo": 0}
    assert split_source(SOURCE, Splitting(), 4, 0).kind == "stratified-group"
    assert split_source(SOURCE, Splitting("kfold"), 4, 0).kind == "kfold"
    with pytest.raises(InputError, match="horizon is 14"):
        split_source(SOURCE, Splitting("kfold", horizon=14), 4, 0)


# What folds are, however they were given


class Halves:
    """A splitter of nobody's: the examples in this order, tested half by half."""

    def __init__(self, order, tested=(0, 1)):
        self.order, self.tested = order, tested

    def split(self, x, y=None, groups=None):
        halves = np.array_split(self.order, 2)
        for half in self.tested:
            yield halves[1 - half], halves[half]


class OwnPurged(PurgedKFold):
    pass


BY_TIME = np.argsort(SOURCE.times)


@pytest.mark.parametrize(
    ("splitter", "name", "options"),
    [
        ("kfold", "kfold", {}),
        ("time-series", "time-series", {"gap": 0, "horizon": None}),
        ("purged", "purged", {"horizon": 0, "embargo": 0}),
        (sk.GroupKFold(3), "group", {}),
        (sk.LeavePGroupsOut(1), "leave-groups-out", {"test_groups": 1}),
        (sk.TimeSeriesSplit(3, gap=2), "time-series", {"gap": 2}),
        (sk.RepeatedKFold(n_splits=2, n_repeats=3), "repeated-kfold", {"repeats": 3}),
        (PurgedKFold(times=SOURCE.times, ends=SOURCE.times + 1), "purged", {"embargo": 0}),
        (OwnPurged(times=SOURCE.times, horizon=1), "purged", {"horizon": 1, "embargo": 0}),
        (PurgedTimeSeriesSplit(times=SOURCE.times, horizon=1), "time-series", {"gap": 0, "horizon": 1}),
        (CombinatorialPurgedKFold(times=SOURCE.times), "combinatorial-purged", None),
        (sk.ShuffleSplit(3, test_size=12), "monte-carlo", {}),
        (PurgedKFold(times=SOURCE.times, horizon=Fraction(1, 2)), "purged", {"horizon": 0.5, "embargo": 0}),
        (Halves(BY_TIME, [1]), "time-series", {"gap": 0}),
        (Halves(BY_TIME), None, {}),
        (Halves(np.arange(119)), None, {}),
        (Halves(np.arange(70), [1]), "stratified-group", {}),
    ],
)
def test_what_folds_are_is_known_however_they_were_given(splitter, name, options, tmp_path):
    made = split_source(SOURCE, splitter, 3, 0)
    path = made.save(tmp_path / "split.npz", SOURCE)
    for split in (made, load_split(path)):
        assert split.name == name
        assert split.timed == (name in ("time-series", "purged", "combinatorial-purged"))
        assert split.purged == (name in ("purged", "combinatorial-purged"))
        assert split.forward == (name == "time-series")
        assert split.grouped == (name in GROUPED)
        assert options is None or split.options == options
        assert is_timed(split.as_dict()) == split.as_dict()["timed"] == (split.timed or split.in_blocks)
        # of those without a name one cuts time into two stretches, whose scores go together as those of any blocks
        assert split.in_blocks == (isinstance(splitter, Halves) and splitter.order is BY_TIME and name is None)
        if split.timed:
            np.testing.assert_array_equal(split.times, SOURCE.times)
        if isinstance(splitter, PurgedKFold) and splitter.ends is not None:
            np.testing.assert_array_equal(split.ends, splitter.ends)


@pytest.mark.parametrize("splitter", ["purged", "kfold", sk.TimeSeriesSplit(3), PurgedKFold(times=SOURCE.times)])
def test_files_of_older_releases_are_read(splitter, tmp_path):
    """They hold no name of what the folds are, and no times."""
    split = split_source(SOURCE, splitter, 3, 0)
    with np.load(split.save(tmp_path / "new.npz", SOURCE)) as file:
        held = {name: file[name] for name in file.files if name not in ("times", "ends")}
    manifest = json.loads(str(held["manifest"]))
    del manifest["like"], manifest["timed"]
    np.savez(tmp_path / "old.npz", **held | {"manifest": np.array(json.dumps(manifest))})
    old = split_source(SOURCE, tmp_path / "old.npz", 3, 0)
    assert (old.sha256, old.name, old.timed) == (split.sha256, split.name, split.timed)
    assert is_timed(manifest) == split.timed


# The manifest, and the same folds again


def test_the_manifest_tells_what_folds_rest_on():
    split = split_source(SOURCE, "monte-carlo", 3, 5)
    held = json.loads(json.dumps(split.as_dict()))
    parts = [part for pair in zip(split.train, split.test, strict=True) for part in pair]
    assert held == {
        "kind": "monte-carlo",
        "k": 3,
        "seed": 5,
        "sha256": hash_indices(parts),
        "examples": 120,
        "options": {"test_fraction": 0.2},
        "groups_sha256": held["groups_sha256"],
        "times_sha256": None,
        "like": "monte-carlo",
        "timed": False,
        "sizes": [{"train": 96, "test": 24}] * 3,
    }

    def groups(values, kind="monte-carlo"):
        return split_source(dataclasses.replace(SOURCE, groups=values), kind, 3, 5).groups_sha256

    assert groups(np.array([f"patient {g}" for g in SOURCE.groups])) == held["groups_sha256"]  # called otherwise
    assert groups(SOURCE.groups // 2) != held["groups_sha256"]
    assert groups(None) is None
    later = dataclasses.replace(SOURCE, times=SOURCE.times + 1)
    ours, other = (split_source(source, "purged", 3, 0).as_dict() for source in (SOURCE, later))
    assert ours["sha256"] == other["sha256"]
    assert ours["times_sha256"] != other["times_sha256"]
    assert "sizes" not in split_source(SOURCE, "leave-one-out", 1, 0).as_dict()


@pytest.mark.parametrize("kind", SPLITTERS)
def test_folds_come_back_from_a_file(kind, tmp_path):
    split = split_source(SOURCE, kind, 3, 1)
    path = split.save(tmp_path / "folds" / "split.npz", SOURCE)
    for way in (path, str(path.parent), load_split(path)):
        again = split_source(SOURCE, way, 99, 99)
        assert again.as_dict() == split.as_dict()
        for side in ("train", "test"):
            for one, other in zip(getattr(split, side), getattr(again, side), strict=True):
                np.testing.assert_array_equal(one, other)
    if kind == "leave-one-out":
        with np.load(path) as file:
            assert file["train"].size == 0  # n² numbers are not written
    with pytest.raises(InputError, match="left as it is"):
        split.save(path)
    with pytest.raises(InputError, match="options are for splitters by name"):
        split_source(SOURCE, Splitting(str(path), gap=1), 3, 1)


def test_folds_are_not_used_on_other_examples(tmp_path):
    path = split_source(SOURCE, "stratified", 3, 1).save(tmp_path / "split.npz", SOURCE)
    x = SOURCE.x.copy()
    x[0, 0, 0] += 1
    turned = data.subset(SOURCE, np.arange(120)[::-1])
    for other in (dataclasses.replace(SOURCE, x=x), dataclasses.replace(SOURCE, groups=None), turned):
        with pytest.raises(InputError, match="made of other examples"):
            split_source(other, path, 3, 1)
    with pytest.raises(InputError, match=r"one of 120 examples, but .* has 119"):
        split_source(data.subset(SOURCE, np.arange(119)), path, 3, 1)
    with pytest.raises(InputError, match="one of 120 examples, not of 7"):
        next(load_split(path).split(np.zeros(7)))


def test_a_copy_of_images_is_divided_alike(tmp_path):
    from PIL import Image

    for name in "ab":
        (tmp_path / "one" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (20 * i, ord(name), 9)).save(tmp_path / "one" / name / f"{i}.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)  # with new times of change
    one, two = data.folder(tmp_path / "one"), data.folder(tmp_path / "two")
    split = split_source(one, "stratified", 2, 0)
    path = split.save(tmp_path / "split.npz", one)
    assert split_source(two, path, 2, 0).sha256 == split.sha256
    (tmp_path / "two" / "a" / "0.png").rename(tmp_path / "two" / "a" / "9.png")
    with pytest.raises(InputError, match="made of other examples"):
        split_source(data.folder(tmp_path / "two"), path, 2, 0)


def test_damaged_files_are_refused(tmp_path):
    split = split_source(SOURCE, "stratified", 3, 1)
    path = split.save(tmp_path / "split.npz")
    with np.load(path) as file:
        whole = dict(file)
    swapped = whole | {"test": whole["test"][::-1]}
    newer = whole | {"manifest": np.array(json.dumps(json.loads(str(whole["manifest"])) | {"format": 2}))}
    lacking = {name: array for name, array in whole.items() if name != "test_sizes"}
    objects = whole | {"test": np.array([print], object)}
    for held, message in ((swapped, "hash"), (newer, "update jaxdl"), (lacking, "test_sizes")):
        np.savez(tmp_path / "bad.npz", **held)
        with pytest.raises(InputError, match=message):
            load_split(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", **objects)
    with pytest.raises(InputError, match=r"bad\.npz"):
        load_split(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"bad\.npz"):
        load_split(tmp_path / "bad.npz")
    with pytest.raises(InputError, match="there is no split"):
        load_split(tmp_path / "empty")
    with pytest.raises(InputError, match=r"unknown splitter 'gone\.npz'"):
        split_source(SOURCE, "gone.npz", 3, 1)


def test_scikit_learn_works_on_the_same_folds():
    """The same split for another library's method: its scores are those of fits by hand."""
    split = split_source(SOURCE, Splitting("repeated-stratified", repeats=2), 3, 1)
    x, model = SOURCE.x.reshape(120, -1) / 255, RidgeClassifier()
    scores = sk.cross_val_score(model, x, SOURCE.labels, cv=split)
    y = SOURCE.labels
    by_hand = [model.fit(x[a], y[a]).score(x[b], y[b]) for a, b in zip(split.train, split.test, strict=True)]
    np.testing.assert_allclose(scores, by_hand)
    assert split.get_n_splits() == len(scores) == 6


@pytest.mark.parametrize(
    ("of_classes", "names"), [(True, ("stratified", "stratified-group")), (False, ("kfold", "group"))]
)
def test_auto_heeds_classes_and_groups(of_classes, names):
    labels = SOURCE.labels if of_classes else SOURCE.labels.astype(np.float32)
    for groups, name in zip((None, SOURCE.groups), names, strict=True):
        source = data.arrays(np.zeros((120, 2), np.float32), labels, groups=groups)
        found = split_source(source, "auto", 3, 0)
        assert (found.kind, found.sha256) == (name, split_source(source, name, 3, 0).sha256)
