"""``jaxdl search`` from the command line."""

import json
import shlex

import numpy as np
import pytest
from command_line import call, jaxdl_command, refused, told_on_page

import jaxdl
from jaxdl.commands import search as command
from jaxdl.report.search import search_rows

SPACE = "learning_rate=log:1e-3:1e-1:2 stage_lr.head=1,10"
MODEL = "--model mlp --model-arguments hidden=[6] --epochs 2 --folds 2"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with ``plain.npz``: 40 rows of two classes that differ."""
    home = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    np.savez(home / "plain.npz", x=(random.normal(size=(40, 4)) + 2 * y[:, None]).astype(np.float32), y=y)
    return home


@pytest.fixture(autouse=True)
def there(home, monkeypatch):
    monkeypatch.chdir(home)


def test_a_search_says_its_nested_score_first_and_how_to_train_the_final_one(home):
    said = jaxdl_command(f"search --data plain.npz --out found {MODEL} --inner-folds 2 --seeds 2 --space {SPACE}")
    assert said.splitlines()[1].startswith("Nested: accuracy")  # after what was read
    found = jaxdl.load_search("found")
    assert f"{100 * found.result.mean:.1f}" in said.splitlines()[1]
    assert len(found.configurations) == 4
    assert "outer folds chose the same configuration" in said
    assert "With each of the 2 seeds" in said
    assert "no standard error" in told_on_page(said)
    assert (
        f"For comparison, on the same folds: most frequent class {100 * found.result.baseline['accuracy']:.1f}" in said
    )
    line = next(line for line in said.splitlines() if line.startswith("To train the final one"))
    words = shlex.split(line.partition(": jaxdl ")[2])
    jaxdl_command(shlex.join([*words]))
    values = found.configurations[found.final]["values"]
    plan = jaxdl.restore("final").card.plan
    assert plan["learning_rate"] == pytest.approx(values["learning_rate"])
    assert plan["stage_lr"].get("head", 1) == values["stage_lr.head"]
    assert {"result.json", "search.json", "out_of_fold.npz", "split.npz", "report.html"} <= {
        path.name for path in (home / "found").iterdir()
    }
    page = (home / "found" / "report.html").read_text()
    assert "The search" in page
    assert "Nested: accuracy" in page
    assert page.count("networks of the folds were not kept") == 1
    again = jaxdl_command(f"search --data plain.npz --out found {MODEL} --inner-folds 2 --seeds 2 --space {SPACE}")
    assert "is finished" in again


def test_many_trainings_are_counted_before_they_begin(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "MANY", 24)
    said = jaxdl_command(
        f"search --data plain.npz --out {tmp_path}/found {MODEL} --inner-folds 2 --seeds 2 --no-report --space {SPACE}"
    )
    assert said.splitlines()[1].startswith("4 configurations on all folds: 48 trainings. ")  # (2 + 2 · 2) · 2 of each
    said = jaxdl_command(
        f"search --data plain.npz --out {tmp_path}/less {MODEL} --no-nested --no-report --space learning_rate=1e-3,1e-2"
    )
    assert "trainings" not in said.splitlines()[1]


@pytest.mark.parametrize(
    ("strategy", "criterion", "chose"),
    [
        ("grid", "loss", "log_loss"),
        pytest.param("grid", "metric", "auc", marks=pytest.mark.slow),
        pytest.param("halving --eta 2", "loss", "log_loss", marks=pytest.mark.slow),
        pytest.param("halving --eta 2", "metric", "auc", marks=pytest.mark.slow),
    ],
)
def test_the_inner_values_of_the_criterion_are_shown_and_named(home, tmp_path, strategy, criterion, chose):
    """Also where the score is another metric: the table is in the order of the values that chose."""
    options = f"--strategy {strategy} --criterion {criterion} --metric auc --inner-folds 2 --space {SPACE}"
    said = jaxdl_command(f"search --data plain.npz --out {tmp_path}/found {MODEL} {options}")
    found = jaxdl.load_search(tmp_path / "found")
    assert found.criterion == found.result.selected["criterion"] == chose
    assert f"by {chose} out of 4 configurations" in " ".join(said.split())
    headers, lines = search_rows(found)
    last = max(row["epochs"] for row in found.ranking)
    shown = [float(line[headers.index(f"inner {chose}")].split()[0]) for line in lines if line[-2] == str(last)]
    assert shown == sorted(shown, reverse=criterion == "metric")
    for header in (f"inner {chose}", "inner auc"):
        assert header in said
        assert header in (tmp_path / "found" / "report.html").read_text()
    assert ("inner log_loss" in said) == (criterion == "loss")
    rows = [row for row in found.ranking if row["epochs"] == last]
    assert all(row["loss"] > 0 and row["loss_se"] >= 0 for row in rows)


def test_a_score_that_is_not_nested_comes_with_its_warning(home):
    said = jaxdl_command(
        f"search --data plain.npz --out plain {MODEL} --no-nested --finetune --space learning_rate=1e-2"
    )
    first = " ".join(said.split()).partition("learning_rate")[0]
    assert " Not nested: accuracy" in first  # after what was read
    assert "it is too good" in first
    assert "it is too good" in (home / "plain" / "report.html").read_text()
    assert "is too good" in json.loads((home / "plain" / "search.json").read_text())["warning"]
    assert jaxdl.restore("plain/final").card.plan["learning_rate"] == pytest.approx(1e-2)


def test_mistakes_end_in_one_message():
    for options, expected in (
        ("--space learning_rat=1e-3", "'learning_rate'"),
        ("--space learning_rate=", "no values"),
        ("--space learning_rate=log:1:1e-3", "no range"),
        ("--space learning_rate", "JSON file"),
        ("--space learning_rate=1e-3 --strategy gird", "'grid'"),
        ("--space learning_rate=1e-3 --memory 0", "memory is 0"),
        ("--space freeze_through=hed", "'head'"),
    ):
        assert expected in " ".join(call(f"search --data plain.npz --out wrong {MODEL} {options}")[2].split()), options
    refused(f"search --data plain.npz --out wrong {MODEL} --space seed=1,2")
