"""``jaxdl split``, and cross-validation on the folds that it showed."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import jaxdl_command, read_csv, refused
from PIL import Image
from report.parsed_page import read_page

from jaxdl import data
from jaxdl.report.split import PURGED, TEST, TRAIN, UNUSED, fold_rows, roles
from jaxdl.tasks import choose_task
from jaxdl.validation.result import load_result
from jaxdl.validation.splits import Splitting, load_split, split_source


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    names = ["no", "yes"]
    np.savez("plain.npz", x=x, y=y, class_names=names)
    np.savez("full.npz", x=x, y=y, class_names=names, groups=np.arange(40) // 4, times=random.permutation(40))
    np.savez("numbers.npz", x=x, y=x.sum(1))


def test_table_picture_and_folds_are_written_and_used_again(tmp_path):
    said = jaxdl_command("split --data plain.npz --splitter repeated-stratified --folds 4 --repeats 2 --out shown")
    assert "Every example is tested twice." in said
    assert sorted(path.name for path in Path("shown").iterdir()) == [
        "folds.csv",
        "folds.html",
        "folds.png",
        "split.npz",
    ]
    split, y = load_split("shown"), np.load("plain.npz")["y"]
    rows = read_csv("shown/folds.csv")
    assert len(rows) == len(split) == 8
    for row, train, test in zip(rows, split.train, split.test, strict=True):
        for side, part in (("train", train), ("test", test)):
            assert int(row[side]) == len(part)
            assert [int(row[f"{side}:{name}"]) for name in ("no", "yes")] == np.bincount(y[part]).tolist()
    assert np.ptp(np.asarray(Image.open("shown/folds.png").convert("RGB")), axis=(0, 1)).min() > 100
    assert split.sha256 in said
    page = read_page(Path("shown/folds.html"))
    assert split.sha256 in page.text()
    assert "Every example is tested twice." in page.text()
    headers, *lines = page.cells()
    assert headers[:3] == ["fold", "train", "test"]
    assert [line[:3] for line in lines] == [[row["fold"], row["train"], row["test"]] for row in rows]

    run = "cross-validate --model mlp --data plain.npz --epochs 1 --model-arguments hidden=[4] --fold-strategy vmap"
    jaxdl_command(f"{run} --splitter shown --out one")
    jaxdl_command(f"{run} --splitter one/split.npz --seed 7 --out two")
    for name in ("one", "two"):
        result, held = load_result(name), json.loads((tmp_path / name / "result.json").read_text())
        assert held["split"]["sha256"] == split.sha256 == load_split(name).sha256
        assert held["split"]["options"] == {"repeats": 2}
        np.testing.assert_array_equal(result.out_of_fold.index, np.concatenate(split.test))
        assert "</html>" in Path(name, "report.html").read_text()


def test_what_is_wrong_with_a_division_is_said():
    said = jaxdl_command("split --data full.npz --splitter stratified --folds 4")
    assert "folds have groups on both sides" in said
    assert "later than some" in said
    fine = jaxdl_command("split --data full.npz --splitter group --folds 4")
    assert "groups on both sides" not in fine
    assert "and 20 more folds" in jaxdl_command("split --data plain.npz --splitter leave-one-out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data plain.npz --splitter purged", "plain.npz has no times"),
        ("--data plain.npz --splitter leave-groups-out", "plain.npz has no groups"),
        ("--data plain.npz --gap 3", "gap is 3"),
        ("--data full.npz --splitter purged --horizon nan", "horizon is nan"),
        ("--data full.npz --splitter purgd", "'purged'"),
        ("--data plain.npz --folds 0", "folds is 0"),
        ("--data plain.npz --seed -1", "seed is -1"),
        ("--data plain.npz --out plain.npz", "plain.npz"),
        ("--data numbers.npz --splitter repeated-stratified", "'repeated-kfold'"),
        ("--data plain.npz --splitter .", "there is no split"),
    ],
)
def test_mistakes_end_in_one_line(options, message):
    assert message in refused(f"split {options}")


def test_a_split_of_other_data_is_refused():
    jaxdl_command("split --data plain.npz --out shown")
    assert "made of other examples" in refused("split --data full.npz --splitter shown")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("purged", {"horizon": 3, "embargo": 2}), ("time-series", {"gap": 2}), ("monte-carlo", {}), ("group", {})],
)
def test_roles_and_rows_are_those_of_the_folds(kind, options):
    source = data.npz("full.npz")
    split = split_source(source, Splitting(kind, **options), 4, 0)
    for row in fold_rows(split, source, choose_task(source, purpose="a split")):
        train, test = split.train[row["fold"]], split.test[row["fold"]]
        mine = roles(split, source, row["fold"])
        assert set(np.flatnonzero(mine == TRAIN)) == set(train)
        assert set(np.flatnonzero(mine == TEST)) == set(test)
        left = set(range(40)) - set(train) - set(test)
        before = {i for i in left if source.times[i] < source.times[test].min()}
        purged = {"purged": left, "time-series": before}.get(kind, set())
        assert set(np.flatnonzero(mine == PURGED)) == purged
        assert (mine == UNUSED).sum() == len(left - purged)
        assert row["left_out"] == len(left)
        assert row["both_groups"] == len(set(source.groups[train]) & set(source.groups[test]))
        assert row["test_times"] == (source.times[test].min(), source.times[test].max())
