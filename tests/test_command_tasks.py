"""What is asked and how it is scored, through the commands: several labels, and metrics by name."""

import contextlib
import json

import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from sklearn.metrics import f1_score, roc_auc_score

import jaxdl

MLP = "--model mlp --model-arguments hidden=[6] --epochs 3 --learning-rate 1e-2"
FOLDS = "--folds 2 --fold-strategy vmap"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """``labels.csv``: 40 rows of four numbers with two labels, and a cross-validation ``run`` on them; classes, too."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(40, 4))
    warm, wet = (x[:, 0] > 0).astype(int), (x[:, 1] > 0.5).astype(int)
    rows = [",".join([*(f"{v:.5f}" for v in row), str(a), str(b)]) for row, a, b in zip(x, warm, wet, strict=True)]
    (home / "labels.csv").write_text("a,b,c,d,warm,wet\n" + "\n".join(rows) + "\n")
    np.savez(home / "classes.npz", x=x.astype(np.float32), y=warm, class_names=["cold", "warm"])
    with contextlib.chdir(home):
        jaxdl_command(f"cross-validate {MLP} --data labels.csv:warm,wet {FOLDS} --out run")
        jaxdl_command(f"cross-validate {MLP} --data classes.npz {FOLDS} --metric auc --out auc")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def labels():
    return np.array([[int(row["warm"]), int(row["wet"])] for row in read_csv("labels.csv")])


# Several labels


def test_several_labels_are_cross_validated(home):
    result = jaxdl.load_result("run")
    assert (result.task, result.metric, result.class_names) == ("multilabel", "macro_f1", ("warm", "wet"))
    rows = result.out_of_fold
    np.testing.assert_array_equal(rows.target, labels()[rows.index])
    for fold in result.folds:
        mine = rows.fold == fold["fold"]
        truth, said = rows.target[mine], rows.kept[mine] > 0
        assert fold["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))
    assert json.loads((home / "run" / "run.json").read_text())["task"] == "auto"


def test_several_labels_are_learned_and_predicted(tmp_path):
    said = jaxdl_command(
        f"finetune {MLP} --data labels.csv:warm,wet --validation-fraction 0.25 --out {tmp_path / 'new'}"
    )
    assert "macro_f1" in said
    assert "labels (warm, wet)" in jaxdl_command(f"inspect {tmp_path / 'new'}")
    table = tmp_path / "p.csv"
    said = jaxdl_command(f"predict --checkpoint {tmp_path / 'new'} --data labels.csv:warm,wet --out {table}")
    rows, names = read_csv(table), ("warm", "wet")
    assert list(rows[0]) == ["example", "predicted", "label", "p:warm", "p:wet"]
    chances = np.array([[float(row[f"p:{name}"]) for name in names] for row in rows])
    for row, truth, p in zip(rows, labels(), chances, strict=True):
        assert row["label"].split() == [name for name, there in zip(names, truth, strict=True) if there]
        assert row["predicted"].split() == [name for name, one in zip(names, p, strict=True) if one > 0.5]
    score = f1_score(labels(), chances > 0.5, average="macro", zero_division=0)
    assert f"macro_f1 {score:.4f}" in said
    again = jaxdl_command(
        f"finetune --init {tmp_path / 'new'} --data labels.csv:wet,warm --epochs 1 --out {tmp_path}/b"
    )
    assert "label_accuracy" in again


def test_a_report_of_several_labels(tmp_path):
    page = tmp_path / "page.html"
    jaxdl_command(f"report run --out {page}")
    text = page.read_text()
    assert "warm" in text
    assert "wet" in text


# Metrics by name


def test_the_score_is_the_metric_that_is_asked_for(home):
    result = jaxdl.load_result("auc")
    assert result.metric == "auc"
    rows = result.out_of_fold
    for fold in result.folds:
        mine = rows.fold == fold["fold"]
        assert fold["auc"] == pytest.approx(roc_auc_score(rows.target[mine], np.diff(rows.kept[mine])[:, 0]))
    assert json.loads((home / "auc" / "result.json").read_text())["metric"] == "auc"


def test_a_run_scored_otherwise_is_another_run():
    code, out, said = call(f"cross-validate {MLP} --data classes.npz {FOLDS} --metric kappa --out auc")
    assert (code, out) == (2, "")
    assert "auc then, kappa now" in said


@pytest.mark.slow
def test_a_search_chooses_by_the_metric_that_is_asked_for(tmp_path):
    line = f"search {MLP} --data classes.npz --folds 2 --inner-folds 2 --space learning_rate=1e-3,1e-1"
    said = jaxdl_command(f"{line} --metric f1 --out {tmp_path / 'f1'}")
    found = jaxdl.load_search(tmp_path / "f1")
    assert (found.result.metric, found.selection["criterion"]) == ("macro_f1", "metric")
    assert "--metric f1" in said.splitlines()[-1]  # the line that trains the final one
    jaxdl_command(f"{line} --out {tmp_path / 'plain'}")
    found = jaxdl.load_search(tmp_path / "plain")
    assert (found.result.metric, found.selection["criterion"]) == ("accuracy", "loss")


def test_runs_are_compared_by_any_metric(tmp_path):
    jaxdl_command(f"cross-validate {MLP} --data classes.npz {FOLDS} --learning-rate 1e-1 --out {tmp_path / 'other'}")
    line = f"compare auc {tmp_path / 'other'}"
    assert "bootstrap" in refused(line)  # there are two folds: what the message advises then works
    jaxdl_command(f"{line} --test bootstrap --metric f1 --out {tmp_path / 'numbers.json'}")
    held = json.loads((tmp_path / "numbers.json").read_text())
    assert held["metric"] == "macro_f1"
    rows = jaxdl.load_result("auc").out_of_fold
    said = rows.kept.argmax(-1)
    scores = [
        f1_score(rows.target[rows.fold == fold], said[rows.fold == fold], average="macro", zero_division=0)
        for fold in range(2)
    ]
    assert held["scores"]["auc"] == pytest.approx(np.mean(scores))
    assert "'kappa'" in refused(f"{line} --metric kapa")


@pytest.mark.slow
def test_curves_and_variances_are_scored_by_the_metric(tmp_path):
    plain = f"{MLP} --data classes.npz --metric balanced-accuracy"
    jaxdl_command(f"learning-curve {plain} {FOLDS} --sizes 10 100% --out {tmp_path / 'curve'}")
    assert jaxdl.load_learning_curve(tmp_path / "curve").metric == "balanced_accuracy"
    jaxdl_command(f"variance {plain} --splits 2 --seeds 2 --configurations none --out {tmp_path / 'variance'}")
    assert jaxdl.load_variance(tmp_path / "variance").metric == "balanced_accuracy"


def test_a_scorer_of_scikit_learn(tmp_path):
    jaxdl_command(f"cross-validate {MLP} --data classes.npz {FOLDS} --metric matthews_corrcoef --out {tmp_path}/run")
    assert jaxdl.load_result(tmp_path / "run").metric == "matthews_corrcoef"


@pytest.mark.parametrize("command", ["pretrain", "finetune", "cross-validate", "search --space epochs=1,2", "variance"])
def test_an_unknown_metric_is_named_with_the_nearest(tmp_path, command):
    said = refused(f"{command} {MLP} --data classes.npz --metric acuracy --out {tmp_path / 'new'}")
    assert "'acuracy'" in said
    assert "'accuracy'" in said
    assert not (tmp_path / "new").exists()
