"""What is asked and how it is scored, through the commands: several labels, and metrics by name."""

import contextlib
import json

import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused, says_what_was_read
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

import jaxdl

MLP = "--model mlp --model-arguments hidden=[6] --epochs 3 --learning-rate 1e-2"
FOLDS = "--folds 2 --fold-strategy vmap --allow target-columns"  # the labels are two of the features, rounded


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
    assert list(rows[0]) == ["example", "predicted", "label", "trained on", "p:warm", "p:wet"]
    chances = np.array([[float(row[f"p:{name}"]) for name in names] for row in rows])
    for row, truth, p in zip(rows, labels(), chances, strict=True):
        assert row["label"].split() == [name for name, there in zip(names, truth, strict=True) if there]
        assert row["predicted"].split() == [name for name, one in zip(names, p, strict=True) if one > 0.5]
    for seen in ("yes", "no"):
        part = [row["trained on"] == seen for row in rows]
        score = f1_score(labels()[part], chances[part] > 0.5, average="macro", zero_division=0)
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
    assert code == 2
    assert says_what_was_read(out)
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


def test_a_scorer_of_classes_is_refused_for_numbers_before_anything_is_trained(tmp_path):
    np.savez("numbers.npz", x=np.eye(40, 4), y=np.arange(40.0) / 7)
    said = refused(f"cross-validate {MLP} --data numbers.npz --metric roc_auc --out {tmp_path / 'new'}")
    assert "'roc_auc'" in said
    assert "regression" in said
    assert "Did you mean" not in refused(f"cross-validate {MLP} --data numbers.npz --metric auc --out {tmp_path}/new")
    assert not (tmp_path / "new").exists()


def test_auc_of_several_labels_is_the_mean_over_them(tmp_path):
    jaxdl_command(f"cross-validate {MLP} --data labels.csv:warm,wet {FOLDS} --metric auc --out {tmp_path / 'run'}")
    result = jaxdl.load_result(tmp_path / "run")
    assert result.metric == "mean_auc"
    rows = result.out_of_fold
    wanted = [roc_auc_score(rows.target[rows.fold == fold], rows.kept[rows.fold == fold]) for fold in range(2)]
    assert result.mean == pytest.approx(np.mean(wanted))


# Labels that do not fit the task, and what the message says to do


@pytest.fixture(scope="module")
def sources(home):
    """20 examples with a class each, as a table, arrays and a folder of images, and with labels A and B."""
    random = np.random.default_rng(0)
    words, both = np.array(["bee", "fly"])[np.arange(20) % 2], np.arange(20)[:, None] >> np.arange(2) & 1
    rows = [(str(i), word, *map(str, pair)) for i, (word, pair) in enumerate(zip(words, both, strict=True))]
    for name, columns in (("words.csv", [0, 1, 2]), ("labels.csv", [0, 2, 3])):
        lines = [",".join(row[column] for column in columns) for row in [("x", "kind", "A", "B"), *rows]]
        (home / "tables").mkdir(exist_ok=True)
        (home / "tables" / name).write_text("\n".join(lines) + "\n")
    np.savez(home / "tables" / "words.npz", x=random.normal(size=(20, 3)), y=words)
    np.savez(home / "tables" / "labels.npz", x=random.normal(size=(20, 3)), y=both)
    for i, word in enumerate(words):
        photos = home / "tables" / "photos" / word
        photos.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(photos / f"{i}.png")
    return home / "tables"


@pytest.mark.parametrize(
    ("given", "named", "advised"),
    [
        (
            "words.csv:kind --task multilabel",
            ["'kind'", "words.csv:A,B", "leave out the task multilabel"],
            ["words.csv:kind", "labels.csv:A,B"],
        ),
        ("words.csv:kind,A", ["'kind'", "words.csv:kind"], ["words.csv:kind"]),
        ("words.csv:kind,A --task multilabel", ["'kind'", "leave out the task multilabel"], ["words.csv:kind"]),
        (
            "labels.csv:A,B --task classification",
            ["A, B", "classification", "labels.csv:A"],
            ["labels.csv:A --task classification", "labels.csv:A,B --task multilabel"],
        ),
        ("words.csv:kind --task regression", ["'kind'", "'bee'", "leave out the task regression"], ["words.csv:kind"]),
        ("labels.csv:A,", ["'A,'", "comma", "labels.csv:A"], ["labels.csv:A"]),
        ("labels.csv:A,,B", ["'A,,B'", "comma", "labels.csv:A,B"], ["labels.csv:A,B"]),
        ("words.npz --task multilabel", ["words.npz", "[20]", "0 and 1", "leave out"], ["words.npz", "labels.npz"]),
        ("photos --task multilabel", ["photos", "multilabel", "FILE.csv:A,B"], ["photos", "labels.csv:A,B"]),
        ("photos --task regression", ["regression", "2 classes"], ["photos", "labels.csv:x"]),
    ],
)
def test_labels_that_do_not_fit_the_task_are_named_and_the_advice_works(sources, monkeypatch, given, named, advised):
    monkeypatch.chdir(sources)
    said = refused(f"split --data {given} --folds 2")
    for part in named:
        assert part in said
    for line in advised:
        jaxdl_command(f"split --data {line} --folds 2")


def test_a_single_label_is_called_a_label(sources, monkeypatch, tmp_path):
    monkeypatch.chdir(sources)
    jaxdl_command(f"finetune {MLP} --data labels.csv:A --task multilabel --out {tmp_path / 'one'}")
    assert "1 label (A)" in jaxdl_command(f"inspect {tmp_path / 'one'}")
