"""Inner folds: of the same kind as the outer ones, however these were given."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest
from sklearn import model_selection as sk

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.validation.search.inner import inner_splits
from jaxdl.validation.splits import Split, Splitting, load_split, split_source
from jaxdl.validation.time_splits import CombinatorialPurgedKFold, PurgedKFold, PurgedTimeSeriesSplit

HORIZON, EMBARGO = 6, 3
RANDOM = np.random.default_rng(0)
DAYS = RANDOM.permutation(90)
SOURCE = data.arrays(
    RANDOM.normal(size=(90, 3)).astype(np.float32), np.arange(90) % 2, groups=np.arange(90) // 6, times=DAYS
)
SERIES = dataclasses.replace(SOURCE, groups=None)
PLAIN = dataclasses.replace(SERIES, times=None)
MLP = jaxdl.create("mlp", 2, hidden=(4,))
PLAN = jaxdl.Plan(epochs=1, batch_size=32)
TASK = choose_task(SOURCE, purpose="a test")


def touches(one, other):
    """Whether label intervals of examples meet, by their definition; the embargo lengthens those of `other`."""
    return any(DAYS[i] <= DAYS[j] + HORIZON + EMBARGO and DAYS[j] <= DAYS[i] + HORIZON for i in one for j in other)


def check_purged(outer, inner, folds):
    assert len(inner) == len(outer)
    for whole, split in zip(outer.train, inner, strict=True):
        assert len(split) == folds
        assert split.purged
        by_time = whole[np.argsort(DAYS[whole])]
        for train, test, block in zip(split.train, split.test, np.array_split(by_time, folds), strict=True):
            np.testing.assert_array_equal(test, block)
            assert not touches(train, test)
            left_out = np.setdiff1d(whole, [*train, *test])
            assert all(touches([i], test) for i in left_out)


DATES = dataclasses.replace(SERIES, times=np.datetime64("2024-02-01") + DAYS)


@pytest.mark.parametrize("saved", [False, True], ids=["given", "saved"])
@pytest.mark.parametrize(
    ("source", "splitter"),
    [
        (SERIES, Splitting("purged", horizon=HORIZON, embargo=EMBARGO)),
        (SERIES, Splitting("combinatorial-purged", horizon=HORIZON, embargo=EMBARGO)),
        (DATES, Splitting("purged", horizon=HORIZON, embargo=EMBARGO)),
        (SERIES, PurgedKFold(4, times=DAYS, horizon=HORIZON, embargo=EMBARGO)),
        (PLAIN, PurgedKFold(4, times=DAYS, horizon=HORIZON, embargo=EMBARGO)),
        (PLAIN, PurgedKFold(4, times=DAYS, ends=DAYS + HORIZON, embargo=EMBARGO)),
        (PLAIN, PurgedKFold(4, times=DATES.times, horizon=timedelta(HORIZON), embargo=np.timedelta64(EMBARGO, "D"))),
        (PLAIN, CombinatorialPurgedKFold(4, times=DAYS, ends=DAYS + HORIZON, embargo=EMBARGO)),
    ],
)
def test_of_purged_folds_they_are_purged_alike(source, splitter, saved, tmp_path):
    outer = split_source(source, splitter, 4, 0)
    if saved:
        outer = split_source(source, outer.save(tmp_path / "split.npz", source), 9, 0)
    check_purged(outer, inner_splits(source, TASK, outer, None, 3, 0), 3)


def test_a_name_takes_horizon_and_embargo_of_the_outer_folds():
    outer = split_source(SERIES, Splitting("purged", horizon=HORIZON, embargo=EMBARGO), 4, 0)
    check_purged(outer, inner_splits(SERIES, TASK, outer, "purged", 3, 0), 3)
    for split in inner_splits(SERIES, TASK, outer, "time-series", 2, 0):
        for train, test in zip(split.train, split.test, strict=True):
            assert DAYS[train].max() + HORIZON < DAYS[test].min()
    own = inner_splits(SERIES, TASK, outer, Splitting("purged", horizon=1), 3, 0)
    assert own[0].options == {"horizon": 1, "embargo": 0}
    kept = PurgedKFold(3, times=DAYS, horizon=HORIZON, embargo=EMBARGO)  # of all examples
    check_purged(outer, inner_splits(SERIES, TASK, outer, kept, 9, 0), 3)


@pytest.mark.parametrize("saved", [False, True], ids=["given", "saved"])
@pytest.mark.parametrize(
    ("source", "splitter"),
    [
        (SERIES, Splitting("time-series", gap=4)),
        (SERIES, sk.TimeSeriesSplit(3, gap=4)),
        (PLAIN, sk.TimeSeriesSplit(3, gap=4)),
        (PLAIN, PurgedTimeSeriesSplit(3, gap=4, times=DAYS)),
        (SERIES, sk.PredefinedSplit(np.where(DAYS < 50, -1, np.where(DAYS < 54, -1, 0)))),
    ],
)
def test_of_folds_forward_in_time_they_go_forward(source, splitter, saved, tmp_path):
    outer = split_source(source, splitter, 3, 0)
    outer = load_split(outer.save(tmp_path / "split.npz")) if saved else outer
    moments = np.arange(90) if source is PLAIN and outer.times is None else DAYS
    gap = 0 if outer.kind == "PredefinedSplit" else 4
    for whole, split in zip(outer.train, inner_splits(source, TASK, outer, None, 3, 0), strict=True):
        order = whole[np.argsort(moments[whole])]
        expected = list(sk.TimeSeriesSplit(3, gap=gap).split(order))
        for (train, test), mine, held in zip(expected, split.train, split.test, strict=True):
            np.testing.assert_array_equal(np.sort(order[train]), np.sort(mine))
            np.testing.assert_array_equal(np.sort(order[test]), np.sort(held))


@pytest.mark.parametrize("saved", [False, True], ids=["given", "saved"])
@pytest.mark.parametrize(
    "splitter",
    [
        "group",
        "leave-groups-out",
        "auto",
        sk.GroupKFold(4),
        sk.LeaveOneGroupOut(),
        sk.GroupShuffleSplit(3, random_state=0),
        sk.PredefinedSplit(SOURCE.groups % 3),
    ],
    ids=str,
)
def test_of_grouped_folds_they_keep_groups(splitter, saved, tmp_path):
    outer = split_source(SOURCE, splitter, 4, 0)
    outer = load_split(outer.save(tmp_path / "split.npz")) if saved else outer
    assert outer.grouped
    for whole, split in zip(outer.train, inner_splits(SOURCE, TASK, outer, None, 3, 0), strict=True):
        for train, test in zip(split.train, split.test, strict=True):
            assert not set(SOURCE.groups[train]) & set(SOURCE.groups[test])
            assert set(train) | set(test) <= set(whole)


def test_folds_that_do_not_say_their_horizon_are_refused():
    made = split_source(SERIES, PurgedKFold(4, times=DAYS, horizon=HORIZON), 4, 0)
    old = Split("PurgedKFold", None, made.train, made.test)  # as files of older releases hold it
    with pytest.raises(InputError, match="PurgedKFold"):
        inner_splits(SERIES, TASK, old, None, 3, 0)
    assert len(inner_splits(SERIES, TASK, old, Splitting("purged", horizon=HORIZON), 3, 0)) == 4


@pytest.mark.slow
def test_a_search_over_saved_folds_is_that_over_their_splitter(tmp_path, monkeypatch):
    """Scores of all configurations in all inner folds, so that these are the same."""
    from command_line import jaxdl_command

    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=SERIES.x, y=SERIES.labels, times=DAYS)
    options = "--data d.npz --folds 3 --splitter purged --horizon 6 --embargo 3"
    jaxdl_command(f"split {options} --out folds")
    common = "--model mlp --model-arguments hidden=[4] --epochs 1 --space learning_rate=1e-3,1e-1 --inner-folds 2"
    jaxdl_command(f"search {common} {options} --out one")
    jaxdl_command(f"search {common} --data d.npz --splitter folds --out two")
    one, two = (jaxdl.load_search(name) for name in ("one", "two"))
    assert one.scores == two.scores
    np.testing.assert_array_equal(one.result.out_of_fold.kept, two.result.out_of_fold.kept)


class Halves:
    """Two halves in the order of the examples, whatever their groups."""

    def split(self, x, y=None, groups=None):
        one, two = np.array_split(np.arange(len(x)), 2)
        yield one, two
        yield two, one


def test_leaks_of_inner_folds_are_found(tmp_path):
    """Halves of all examples cut no group here, halves of these halves do."""
    grouped = dataclasses.replace(PLAIN, groups=np.arange(90) // 9)
    with pytest.raises(InputError, match="groups: "):
        jaxdl.search(MLP, grouped, PLAN, {"learning_rate": [1e-3, 1e-2]}, splitter=Halves())
    parent = jaxdl.pretrain(MLP, data.arrays(SOURCE.x + 9, SOURCE.labels), PLAN)
    with pytest.raises(InputError, match="groups: "):
        jaxdl.probe_checkpoint(parent, grouped, Halves(), jaxdl.Probing(("ridge",), (1.0, 10.0)))
