"""``jaxdl compare`` from the command line."""

import json

import pytest
from command_line import jaxdl_command, refused
from report.parsed_page import read_page

ARGUMENTS = "cross-validate --model mlp --model-arguments hidden=[8] --data digits:0-2 --folds 3"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    jaxdl_command(f"{ARGUMENTS} --epochs 1 --learning-rate 1e-4 --out {folder}/short")
    jaxdl_command(f"{ARGUMENTS} --epochs 4 --learning-rate 1e-2 --out {folder}/long")
    jaxdl_command(f"{ARGUMENTS} --epochs 1 --seed 1 --out {folder}/other")
    return folder


def test_it_tells_which_runs_differ_and_writes_both_files(runs, tmp_path):
    shown = jaxdl_command(f"compare {runs}/short {runs}/long --out {tmp_path}/numbers.json")
    assert "Holm" in shown
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert list(found["scores"]) == [f"{runs}/long", f"{runs}/short"]
    assert found["pairs"][0]["p"] < 0.05
    assert found["letters"] == {f"{runs}/long": "a", f"{runs}/short": "b"}
    jaxdl_command(f"compare {runs}/short {runs}/long --out {tmp_path}/picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    jaxdl_command(f"compare {runs}/short {runs}/long --out {tmp_path}/page.html")
    page = read_page(tmp_path / "page.html")
    scores, pairs = page.cells(0), page.cells(1)
    for row, (name, mean) in zip(scores[1:], found["scores"].items(), strict=False):
        assert (row[0], row[1], row[-1]) == (name, f"{100 * mean:.1f} %", found["letters"][name])
    (pair,) = found["pairs"]
    assert pairs[1][1:3] == [
        f"{100 * pair['difference']:+.1f}",
        f"{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}",
    ]
    assert len(page.all("svg")) == 2


def test_the_page_says_a_detectable_difference_in_the_units_of_its_table(runs, tmp_path):
    line = f"compare {runs}/short {runs}/long --alpha 1e-9 --out {tmp_path}"
    jaxdl_command(f"{line}/numbers.json")
    jaxdl_command(f"{line}/page.html")
    (pair,) = json.loads((tmp_path / "numbers.json").read_text())["pairs"]
    page = read_page(tmp_path / "page.html")
    assert page.cells(1)[1][-1] == f"{100 * pair['detectable']:.1f}"
    assert f"a difference of {100 * pair['detectable']:.1f} points" in page.text()


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ("short", "", "1 result"),
        ("short short", "", "twice"),
        ("short other", "", "other folds"),
        ("short nowhere", "", "nowhere"),
        ("short long", "--test mcnemarr", "mcnemar"),
        ("short long", "--alpha 5", "alpha is 5"),
        ("short long", "--out picture.gif", "picture.gif"),
    ],
)
def test_mistakes_end_in_one_message(runs, names, options, said):
    line = " ".join(f"{runs}/{name}" for name in names.split())
    assert said in refused(f"compare {line} {options}")


def test_runs_of_different_metrics_are_compared_by_the_first_one_which_is_said(runs, tmp_path):
    jaxdl_command(f"{ARGUMENTS} --epochs 4 --learning-rate 1e-2 --metric auc --out {tmp_path}/auc")
    said = jaxdl_command(f"compare {runs}/short {tmp_path}/auc --out {tmp_path}/numbers.json")
    assert f"accuracy, the metric of {runs}/short ({tmp_path}/auc by auc)" in said
    found = json.loads((tmp_path / "numbers.json").read_text())
    same = [json.loads((runs / name / "result.json").read_text())["mean"] for name in ("long", "short")]
    assert list(found["scores"].values()) == pytest.approx(same)
    asked = jaxdl_command(f"compare {runs}/short {tmp_path}/auc --metric auc")  # as the message says
    assert "different metrics" not in asked
    assert "auc" in asked.splitlines()[0]
