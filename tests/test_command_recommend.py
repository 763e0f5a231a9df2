"""jaxdl recommend: what it prints works when it is followed, and its page says the same."""

import json
import shlex
import shutil

import numpy as np
import pytest
from command_line import call, jaxdl_command, refused
from PIL import Image

import jaxdl
from jaxdl import data

COUNT = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A checkpoint that tells digits apart, and a file of others."""
    home = tmp_path_factory.mktemp("home")
    known, new = data.digits(range(3)), data.digits(range(3, 6))
    model = jaxdl.create("mlp", 3, hidden=(16, 8))
    jaxdl.save(jaxdl.pretrain(model, known, jaxdl.Plan(epochs=3, learning_rate=1e-2)), home / "parent")
    chosen = np.random.default_rng(0).permutation(len(new))[:COUNT]
    np.savez(home / "few.npz", x=new.x[chosen], y=new.labels[chosen])
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


COMMON = "recommend --data few.npz --init parent --folds 3 --epochs 3 --task classification"


@pytest.fixture(scope="module")
def told(home):
    """What the command with three methods prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return jaxdl_command(f"{COMMON} --out run --methods probe frozen full")


def commands(said):
    lines = said.partition("The same by hand:\n")[2].splitlines()
    return [line.strip() for line in lines if line.startswith("  jaxdl ")]


def follow(said, *folders):
    """Runs the commands that were printed, with other names of --out; the lines have them as the first ones."""
    for line in commands(said):
        words = shlex.split(line)[1:]
        for old, new in zip(("by-hand-checkpoint", "by-hand"), folders, strict=True):
            words = [str(new) if word == old else word for word in words]
        jaxdl_command(shlex.join(words))


def same(one, two):
    examples = data.npz("few.npz")
    np.testing.assert_allclose(jaxdl.predict(one, examples).logits, jaxdl.predict(two, examples).logits, atol=1e-4)


@pytest.mark.parametrize("method", ["probe", pytest.param("full", marks=pytest.mark.slow)])
def test_the_commands_that_it_prints_do_the_same(home, tmp_path, method):
    run = tmp_path / "run"
    said = jaxdl_command(f"{COMMON} --out {run} --methods {method} --batch-size 16 --seed 3")
    told = json.loads((run / "recommendation.json").read_text())
    assert commands(said) == told["by_hand"]
    follow(said, tmp_path / "checkpoint", tmp_path / "scored")
    same(jaxdl.restore(run / "checkpoint"), jaxdl.restore(tmp_path / "checkpoint"))
    folder = next(row["folder"] for row in told["methods"] if row["name"] == told["chosen"])
    scored = tmp_path / "scored" / ("logistic" if method == "probe" else "")
    mine, theirs = jaxdl.load_result(run / "methods" / folder), jaxdl.load_result(scored)
    assert mine.mean == theirs.mean
    assert mine.split["sha256"] == theirs.split["sha256"]
    np.testing.assert_allclose(mine.out_of_fold.kept, theirs.out_of_fold.kept, atol=1e-4)


def test_the_table_says_what_was_found(home, told):
    kept = json.loads((home / "run" / "recommendation.json").read_text())
    assert [row["kind"] for row in kept["methods"]] == ["probe", "frozen", "full", "full"]
    for row in kept["methods"]:
        line = next(line for line in told.splitlines() if line.strip("* ").startswith(row["name"]))
        assert line.startswith("* ") == (row["name"] == kept["chosen"])
        assert f"{100 * row['mean']:.1f} ± " in line
        assert f"{100 * row['interval']['low']:.1f} to {100 * row['interval']['high']:.1f}" in line
        if row["difference"] is None:
            assert row["name"] == kept["best"]
        else:
            assert f"{100 * row['difference']['value']:+.1f}" in line
    table = told.partition("Recommended")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert f"{100 * kept['without_luck']:.1f}" in told


def test_each_method_is_a_run_that_report_and_compare_take(home, told, tmp_path):
    folders = sorted((home / "run" / "methods").iterdir())
    assert [path.name for path in folders] == ["frozen-body", "full-at-0.0001", "full-at-0.001", "logistic-head"]
    compared = jaxdl_command(shlex.join(["compare", *map(str, folders), "--test", "out-of-fold"]))
    assert all(path.name in compared for path in folders)
    jaxdl_command(f"report {folders[0]} --out {tmp_path / 'page.html'}")
    assert "frozen" in (tmp_path / "page.html").read_text()


def test_the_page_says_the_same(home, told):
    page = (home / "run" / "report.html").read_text()
    kept = json.loads((home / "run" / "recommendation.json").read_text())
    for row in kept["methods"]:
        assert row["name"] in page
        assert f"{100 * row['mean']:.1f} ± " in page
    for title in ("The answer", "The same by hand", "Which classes are confused", "How this was made"):
        assert f">{title}<" in page
    assert f'{kept["chosen"]} <span class="tag">recommended</span>' in page


def test_an_unseen_part_is_scored_and_may_hold_no_copies(home, tmp_path):
    """On images of a folder with val/, against predict; a copy in val/ is refused before anything is trained."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 5)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(random.normal(90 + 70 * label, 50, (8, 8)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{i}.png")
    line = f"recommend --data {tmp_path}/photos --init parent --folds 2 --epochs 2 --methods probe --out"
    said = " ".join(jaxdl_command(f"{line} {tmp_path}/run").split())
    told = json.loads((tmp_path / "run" / "recommendation.json").read_text())["unseen"]
    val = data.folder(tmp_path / "photos", "val")
    truth = jaxdl.predict(jaxdl.restore(tmp_path / "run" / "checkpoint"), val).accuracy
    assert (told["examples"], told["estimate"]) == (10, truth)
    assert 0 <= told["low"] <= truth <= told["high"] <= 1
    assert "On the 10 examples" in said
    page = (tmp_path / "run" / "report.html").read_text()
    result = jaxdl.load_result(tmp_path / "run" / "methods" / "logistic-head")
    assert page.count("<img") == (result.record["right"] == 0).sum() > 0  # a picture of each that was wrong
    shutil.copy(tmp_path / "photos/train/dark/0.png", tmp_path / "photos/val/dark/9.png")
    assert "duplicates" in refused(f"{line} {tmp_path}/other")


def test_a_finished_run_is_told_again_and_other_options_are_refused(home, told):
    again = jaxdl_command(f"{COMMON} --out run --methods probe frozen full")
    assert told[told.index("  method") :].partition("The same by hand")[0] in again
    assert commands(again) == commands(told)
    assert "methods" in call(f"{COMMON} --out run --methods probe")[2]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--data few.npz --out new", "--init"),
        ("--data few.npz --init parent --out new --minutes 0", "minutes"),
        ("--data few.npz --init parent --out new --methods all", "all"),
        ("--data few.npz --init nowhere --out new", "nowhere"),
        ("--data few.npz --init parent --out new --folds 1", "folds"),
    ],
)
def test_mistakes_end_in_one_line(home, options, named):
    assert named in refused(f"recommend {options}")
    assert not (home / "new").exists()
