"""The commands, as a user gives them: in a folder of one's own, on small data."""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro
from command_line import call, jaxdl_command, read_csv, refused, says_what_was_read
from PIL import Image
from rich.console import Console

import jaxdl
from jaxdl import cli
from jaxdl.cli_options import (
    Choosing,
    Dividing,
    Division,
    Examples,
    RunningFolds,
    RunningFoldsOnHosts,
    RunningOnHosts,
    RunningSearch,
    Start,
    Subject,
    TrainingOptions,
    Untrained,
    registry,
)
from jaxdl.commands import console
from jaxdl.data.content import hash_indices
from jaxdl.training.plan import Plan
from jaxdl.validation.result import load_result
from jaxdl.validation.splits import SPLIT

FEW = "--epochs 1 --model-arguments hidden=[8]"
CLASSES = ("ants & bees", "wasps, big")


def numbers_of(path, stage):
    """All parameters of a stage of a checkpoint, in one row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jaxdl.restore(path).variables["params"][stage])])


def draw_images(folder, number, random):
    """Dark ants and bright wasps: grey and in colour, of many sizes, in every format."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(number):
            mode, suffix = [("RGB", "png"), ("L", "jpg"), ("RGB", "webp"), ("RGBA", "png"), ("RGB", "JPEG")][i % 5]
            pixels = np.clip(random.normal(60 + 130 * label, 20, (*random.integers(8, 20, 2), 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / name / f"im {i}.{suffix}")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with data of each kind and a pretrained network."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(30, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    groups = np.array([f"patient {i // 3}" for i in range(30)])
    np.savez(home / "plain.npz", x=x, y=y)
    np.savez(home / "full.npz", x=x, y=y, groups=groups, times=random.permutation(30), class_names=["no", "yes"])
    np.savez(home / "new.npz", x=x[:5])
    np.savez(home / "eight.npz", x=x[:8], y=np.arange(8) % 2)
    draw_images(home / "my photos" / "train", 6, random)
    draw_images(home / "my photos" / "val", 3, random)
    (home / "loose").mkdir()
    for i in range(2):
        Image.new("RGB", (9, 12), (60 + 130 * i,) * 3).save(home / "loose" / f"photo, {i}.png")
    with contextlib.chdir(home):
        jaxdl_command("pretrain --model mlp --data full.npz --epochs 3 --model-arguments hidden=[8,6] --out pretrained")
        jaxdl_command(f"pretrain --model mlp --data 'my photos' {FEW} --image-size 8 --out seer")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


# What --help says


@pytest.mark.parametrize("command", [None, *cli.COMMANDS])
@pytest.mark.parametrize("asked", ["--help", "--help-all"])
def test_help_reads_well(monkeypatch, command, asked):
    monkeypatch.setenv("COLUMNS", "80")
    said = jaxdl_command(f"{command or ''} {asked}")
    assert said.startswith(f"usage: jaxdl {command or ''}".strip())
    assert max(map(len, said.splitlines())) <= 80
    for ugly in ("`", "None", "True,False", "(default: )", "no-debug", "no-restart", "Optional", "PATH|"):
        assert ugly not in said


def test_help_names_every_command():
    said = jaxdl_command("--help")
    assert re.findall(r"^  ([a-z-]+)  ", said, re.MULTILINE) == list(cli.COMMANDS)
    assert said == jaxdl_command("-h")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_is_explained_in_one_line(command):
    """tyro takes a line's end for that of a paragraph."""
    function = cli.COMMANDS[command]
    lines = function.__doc__.split("Args:\n")[1].strip().split("\n")
    explained = [re.fullmatch(r" *(\w+): (\S.*\.)", line) for line in lines]
    assert all(explained), lines
    assert [found[1] for found in explained] == list(inspect.signature(function).parameters)


def options_of(said):
    return re.findall(r"^[ │]*(--[a-z][a-z-]+)(?=[\s,])", said, re.MULTILINE)


def fields_of(kind):
    return [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)]


BLOCKS = {
    "pretrain": {"subject": Untrained, "training": Plan, "running": RunningOnHosts},
    "finetune": {"subject": Subject, "training": Plan, "running": RunningOnHosts},
    "cross-validate": {"subject": Subject, "dividing": Dividing, "training": Plan, "running": RunningFoldsOnHosts},
    "search": {
        "subject": Subject,
        "choosing": Choosing,
        "dividing": Dividing,
        "training": Plan,
        "running": RunningSearch,
    },
    "learning-curve": {"subject": Subject, "dividing": Dividing, "training": Plan, "running": RunningFolds},
    "variance": {"subject": Subject, "division": Division, "training": Plan, "running": RunningFolds},
    "find-lr": {"subject": Start, "training": Plan},
    "split": {"subject": Examples, "dividing": Dividing},
}


ON = {"--nested": "--no-nested", "--report": "--no-report"}  # what is on by default is turned off


@pytest.mark.parametrize("command", BLOCKS)
def test_options_are_the_same_everywhere(command):
    boxes = re.split(r"(\w+) options\b", jaxdl_command(f"{command} --help-all"))[1:]
    shown = {name: options_of(said) for name, said in zip(boxes[::2], boxes[1::2], strict=True)}
    assert shown == {name: [ON.get(flag, flag) for flag in fields_of(kind)] for name, kind in BLOCKS[command].items()}


def test_every_option_of_a_plan_is_explained_by_its_part():
    said = re.sub(r"[│\s]+", " ", jaxdl_command("finetune --help-all"))
    documented = {}
    for part in Plan.__bases__:
        listed = inspect.getdoc(part).split("Attributes:\n")[1]
        documented |= dict(re.findall(r"^  (\w+): ((?:.|\n(?!  \w))*)", listed, re.MULTILINE))
    assert documented.keys() == {field.name for field in dataclasses.fields(Plan)}
    for name, text in documented.items():
        metavar = r"(?:, --no-\S+|(?! --[a-z]).)*?"
        assert re.search(rf"--{name.replace('_', '-')}\b{metavar} {re.escape(' '.join(text.split()))}", said), name


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_no_command_has_many_parameters(command):
    assert len(inspect.signature(cli.COMMANDS[command]).parameters) <= 10


def test_options_reach_the_plan():
    options = (
        "--freeze-through body --epochs 7 --batch-size 9 --optimizer lamb "
        "--learning-rate 3e-4 --schedule step --warmup-epochs 0.5 --weight-decay 0 --stage-lr head=10 stage3=1 "
        "--clip-norm 2 --label-smoothing 0.1 --precision bfloat16 --seed 5 --no-cache-features "
        "--accumulate 3 --group-by-length --augment crop flip --ema 0.9 --class-weights rare=5 a=b=0.5 "
        "--unfreeze-every 2 --early-stopping 4 --inner-fraction 0.3 --eval-every 6 --train biases "
        "--adapter lora:4:stage2,stage3/*/conv1 --loss-function dice"
    )
    given = [tyro.cli(TrainingOptions, args=line.split(), registry=registry) for line in ("", options)]
    plans = [Plan(**vars(one)) for one in given]
    assert plans[0] == Plan()
    assert plans[1] == Plan(
        freeze_through="body",
        epochs=7,
        batch_size=9,
        optimizer="lamb",
        learning_rate=3e-4,
        schedule="step",
        warmup_epochs=0.5,
        weight_decay=0.0,
        stage_lr={"head": 10.0, "stage3": 1.0},
        clip_norm=2.0,
        label_smoothing=0.1,
        precision="bfloat16",
        seed=5,
        cache_features=False,
        accumulate=3,
        group_by_length=True,
        augment=("crop", "flip"),
        ema=0.9,
        class_weights={"rare": 5.0, "a=b": 0.5},
        unfreeze_every=2,
        early_stopping=4,
        inner_fraction=0.3,
        eval_every=6,
        loss_function="dice",
        train="biases",
        adapter="lora:4:stage2,stage3/*/conv1",
    )
    changed = [
        field.name
        for field in dataclasses.fields(Plan)
        if getattr(plans[0], field.name) != getattr(plans[1], field.name)
    ]
    assert changed == [field.name for field in dataclasses.fields(Plan)]


# pretrain and finetune


@pytest.mark.parametrize(
    "options",
    [
        "--optimizer adamw --schedule cosine --precision bfloat16",
        pytest.param(
            "--optimizer adam --schedule one-cycle --clip-norm 1 --label-smoothing 0.1", marks=pytest.mark.slow
        ),
        "--optimizer sgd --schedule constant --parallel pmap",
        "--optimizer lamb --schedule step --warmup-epochs 0.5 --stage-lr head=10 layer1=0.5",
    ],
)
def test_every_optimizer_and_schedule_trains(tmp_path, options):
    said = jaxdl_command(f"pretrain --model mlp --data plain.npz {FEW} {options} --out {tmp_path / 'new'}")
    assert "training: accuracy" in said
    head = numbers_of(tmp_path / "new", "head")
    assert np.isfinite(head).all()
    assert head.dtype == np.float32


def test_pretrain_writes_a_checkpoint_that_says_all():
    checkpoint = jaxdl.restore("pretrained")
    assert checkpoint.card.class_names == ("no", "yes")
    assert checkpoint.card.data == "full.npz"
    assert checkpoint.card.plan["epochs"] == 3
    assert checkpoint.model.hidden == (8, 6)
    assert [row["epoch"] for row in checkpoint.history] == [1, 2, 3]


def test_val_is_held_out_where_there_is_one():
    rows = jaxdl.restore("seer").history
    assert "test_accuracy" in rows[0]
    card = json.loads(Path("seer/card.json").read_text())
    assert card["data"] == "my photos:train"
    assert card["split"] == hash_indices([np.arange(12)])  # the 12 images of train/ alone


def test_finetune_keeps_the_head_for_the_same_classes(tmp_path, home):
    options = "--epochs 1 --learning-rate 1e-12 --weight-decay 0 --validation-fraction 0.2 --allow parent"
    said = jaxdl_command(f"finetune --init pretrained --data full.npz {options} --out {tmp_path / 'kept'}")
    assert "held out: accuracy" in said
    jaxdl_command(f"finetune --init pretrained --data full.npz --head fresh {options} --out {tmp_path / 'fresh'}")
    first, kept, fresh = (numbers_of(p, "head") for p in ("pretrained", tmp_path / "kept", tmp_path / "fresh"))
    np.testing.assert_allclose(kept, first, atol=1e-6)
    assert np.abs(fresh - first).max() > 0.1
    assert jaxdl.restore(tmp_path / "kept").card.parent == str(home / "pretrained")


def test_frozen_stages_stay(tmp_path):
    options = "--epochs 1 --freeze-through layer1 --stage-lr head=10 layer2=1"
    jaxdl_command(f"finetune --init pretrained --data full.npz {options} --out {tmp_path / 'new'}")
    moved = {s: numbers_of("pretrained", s) != numbers_of(tmp_path / "new", s) for s in ("layer1", "layer2")}
    assert not moved["layer1"].any()
    assert moved["layer2"].any()


# cross-validate


@pytest.fixture(scope="module")
def run(home):
    """A cross-validation in every detail, and what was printed."""
    with contextlib.chdir(home):
        return jaxdl_command(
            "cross-validate --init pretrained --data plain.npz --epochs 2 --folds 3 --seed 4 --freeze-through layer1 "
            "--stage-lr head=10 --allow parent --out run"
        )


def test_the_result_holds_what_was_asked_and_found(run, home):
    held = json.loads(Path("run/result.json").read_text())
    assert sorted(p.name for p in Path("run").iterdir()) == [
        "folds",
        "metrics.jsonl",
        "out_of_fold.npz",
        "report.html",
        "result.json",
        "run.json",
        "split.npz",
    ]
    assert sorted(p.name for p in Path("run/folds").iterdir()) == ["0", "1", "2"]
    assert (held["task"], held["metric"]) == ("classification", "accuracy")
    scores = [row["accuracy"] for row in held["folds"]]
    assert held["mean"] == pytest.approx(np.mean(scores))
    assert held["std"] == pytest.approx(np.std(scores, ddof=1))
    for i, row in enumerate(held["folds"]):
        assert row.keys() == {"fold", "train", "test", "accuracy", "loss", "seconds"}
        assert (row["fold"], row["train"], row["test"]) == (i, 20, 10)
        assert row["seconds"] > 0
    assert held["fold_strategy"]["name"] in ("loop", "vmap")
    assert held["fold_strategy"]["reason"]
    assert held["split"]["sizes"] == [{"train": 20, "test": 10}] * 3
    assert (held["split"]["kind"], held["split"]["k"], held["split"]["seed"]) == ("stratified", 3, 4)
    assert held["init"] == {"kind": "checkpoint", "model": "mlp", "path": str(home / "pretrained")}
    assert held["plan"] == Plan(epochs=2, seed=4, freeze_through="layer1", stage_lr={"head": 10.0}).as_dict()
    assert held["environment"]["packages"]["jax"]
    assert held["environment"]["devices"]
    assert held["cached"] is True


def test_the_split_is_scikit_learns(run):
    from sklearn.model_selection import StratifiedKFold

    y = np.load("plain.npz")["y"]
    pairs = list(StratifiedKFold(3, shuffle=True, random_state=4).split(y, y))
    held = json.loads(Path("run/result.json").read_text())
    assert held["split"]["sha256"] == hash_indices([part for pair in pairs for part in pair])
    with np.load("run/out_of_fold.npz") as rows:
        np.testing.assert_array_equal(rows["index"], np.concatenate([test for _, test in pairs]))
        np.testing.assert_array_equal(rows["fold"], np.repeat([0, 1, 2], 10))


def test_the_predictions_give_the_scores(run):
    held = json.loads(Path("run/result.json").read_text())
    with np.load("run/out_of_fold.npz") as file:
        assert set(file.files) == {"index", "fold", "target", "kept"}
        rows = dict(file)
    assert rows["kept"].shape == (30, 2)
    assert rows["kept"].dtype == np.float32
    np.testing.assert_array_equal(rows["target"], np.load("plain.npz")["y"][rows["index"]])
    np.testing.assert_array_equal(np.sort(rows["index"]), np.arange(30))
    for score in held["folds"]:
        mine = rows["fold"] == score["fold"]
        assert score["accuracy"] == (rows["kept"][mine].argmax(-1) == rows["target"][mine]).mean()
    curves = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert sorted((row["fold"], row["epoch"]) for row in curves) == [(f, e) for f in range(3) for e in (1, 2)]
    last = {row["fold"]: row["test_accuracy"] for row in curves if row["epoch"] == 2}
    assert [last[fold] for fold in range(3)] == [score["accuracy"] for score in held["folds"]]


def test_the_answer_is_printed(run, home):
    held = json.loads(Path("run/result.json").read_text())
    assert f"{100 * held['mean']:.1f} ± {100 * held['std']:.1f} %" in run
    for row in held["folds"]:  # counted as in the files
        assert f"fold {row['fold']}: accuracy {row['accuracy']:.3f}" in run
    assert held["fold_strategy"]["name"] in run
    assert f"results and report.html in {home / 'run'}" in run


@pytest.mark.parametrize(
    ("splitter", "data", "folds"),
    [
        pytest.param("kfold", "plain.npz", 3, marks=pytest.mark.slow),
        pytest.param("group", "full.npz", 3, marks=pytest.mark.slow),
        ("holdout", "plain.npz", 1),
        pytest.param("leave-one-out", "eight.npz", 8, marks=pytest.mark.slow),
        pytest.param("monte-carlo", "plain.npz", 3, marks=pytest.mark.slow),
        pytest.param("time-series", "full.npz", 3, marks=pytest.mark.slow),
    ],
)
def test_splitters(tmp_path, splitter, data, folds):
    out = tmp_path / "run"
    leaks = {"group": "--allow times", "time-series": "--allow groups"}.get(splitter, "")
    options = f"{FEW} --splitter {splitter} --folds 3 --fold-strategy vmap {leaks}"
    said = jaxdl_command(f"cross-validate --model mlp --data {data} {options} --out {out}")
    result, held = load_result(out), np.load(data)
    rows, tested = result.out_of_fold, np.unique(result.out_of_fold.index)
    assert result.split["kind"] == splitter
    assert result.split["k"] == len(result.folds) == folds
    parts = [rows.index[rows.fold == fold] for fold in range(folds)]
    assert [len(part) for part in parts] == [row["test"] for row in result.folds]
    if splitter in ("kfold", "group", "leave-one-out"):
        np.testing.assert_array_equal(np.sort(rows.index), np.arange(len(held["y"])))
    if splitter == "group":
        belongs = [set(held["groups"][part]) for part in parts]
        assert sum(map(len, belongs)) == len(set.union(*belongs)) == 10
        assert "Caution: groups" not in said
    if splitter == "time-series":
        times = [held["times"][part] for part in parts]
        assert max(times[0]) < min(times[1])
        assert max(times[1]) < min(times[2])
        assert "Caution: groups: 16 examples are tested of a group that the same fold trains on" in said
        assert len(tested) < 30
    if splitter in ("monte-carlo", "holdout"):
        assert all(len(part) == 6 for part in parts)
    if splitter == "holdout":
        assert result.std is None
        assert "There is a single fold" in said


@pytest.mark.parametrize(
    ("folds", "keep", "kept"),
    [
        pytest.param(21, "auto", False, marks=pytest.mark.slow),
        (3, "auto", True),
        pytest.param(21, "always", True, marks=pytest.mark.slow),
        pytest.param(3, "never", False, marks=pytest.mark.slow),
    ],
)
def test_many_folds_are_neither_listed_nor_kept(tmp_path, folds, keep, kept):
    options = f"{FEW} --splitter kfold --folds {folds} --fold-strategy vmap --keep-models {keep}"
    said = jaxdl_command(f"cross-validate --model mlp --data plain.npz {options} --out {tmp_path / 'run'}")
    assert ("fold 0:" in said) == (folds <= 20)
    assert (tmp_path / "run" / "folds").exists() == kept
    if kept:
        source, rows = jaxdl.data.npz("plain.npz"), load_result(tmp_path / "run").out_of_fold
        for fold in range(folds):
            tested = jaxdl.data.subset(source, rows.index[rows.fold == fold])
            again = jaxdl.predict(jaxdl.restore(tmp_path / "run" / "folds" / str(fold)), tested).logits
            np.testing.assert_allclose(again, rows.kept[rows.fold == fold], atol=1e-5)


@pytest.mark.slow
def test_fold_strategies_agree(tmp_path):
    logits = {}
    for strategy in ("loop", "vmap", "shard"):
        jaxdl_command(
            f"cross-validate --init pretrained --data plain.npz --epochs 2 --folds 3 --fold-strategy {strategy} "
            "--allow parent "
            f"--out {tmp_path / strategy}"
        )
        result = load_result(tmp_path / strategy)
        assert result.fold_strategy["name"] == strategy
        logits[strategy] = result.out_of_fold.kept
    np.testing.assert_allclose(logits["vmap"], logits["loop"], atol=1e-4)
    np.testing.assert_allclose(logits["shard"], logits["loop"], atol=1e-4)


@pytest.mark.slow
def test_a_folder_with_splits_gives_train_and_says_so(tmp_path):
    options = "--epochs 1 --folds 2 --fold-strategy vmap --freeze-through body --allow parent"
    said = jaxdl_command(f"cross-validate --init seer --data 'my photos' {options} --out {tmp_path / 'train'}")
    assert said.startswith("my photos:train: 12 examples")
    jaxdl_command(f"cross-validate --init seer --data 'my photos:all' {options} --out {tmp_path / 'all'}")
    assert load_result(tmp_path / "train").data["examples"] == 12
    assert load_result(tmp_path / "all").data["examples"] == 18
    assert load_result(tmp_path / "all").class_names == CLASSES


# predict


def test_predict_a_labelled_folder(tmp_path):
    out = tmp_path / "new folder" / "table 1.csv"
    said = jaxdl_command(f"predict --checkpoint seer --data 'my photos:val' --out '{out}'")
    assert f"6 predictions in {out}" in said
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    rows = read_csv(out)
    assert list(rows[0]) == ["example", "predicted", "confidence", "label", *(f"p:{c}" for c in CLASSES)]
    assert [row["example"] for row in rows] == sorted(
        str(p) for p in Path("my photos/val").rglob("*") if p.suffix.lower() != ""
    )
    for row in rows:
        p = {c: float(row[f"p:{c}"]) for c in CLASSES}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(p, key=p.get)
        assert float(row["confidence"]) == max(p.values())
        assert row["label"] == Path(row["example"]).parent.name
    accuracy = np.mean([row["label"] == row["predicted"] for row in rows])
    assert f"accuracy {accuracy:.4f}" in said


def test_predict_takes_what_is_held_out_of_a_folder_with_splits(tmp_path):
    said = jaxdl_command(f"predict --checkpoint seer --data 'my photos' --out {tmp_path / 'p.csv'}")
    assert said.startswith("my photos:val: 6 examples")
    assert "6 predictions" in said
    said = jaxdl_command(f"predict --checkpoint seer --data 'my photos:all' --out {tmp_path / 'all.csv'}")
    assert len(read_csv(tmp_path / "all.csv")) == 18


def test_predict_images_without_labels(tmp_path):
    said = jaxdl_command(f"predict --checkpoint seer --data loose --out {tmp_path / 'p.csv'}")
    rows = read_csv(tmp_path / "p.csv")
    assert [row["example"] for row in rows] == ["loose/photo, 0.png", "loose/photo, 1.png"]
    assert "label" not in rows[0]
    assert "accuracy" not in said


def test_predict_arrays_with_and_without_labels(tmp_path):
    said = jaxdl_command(f"predict --checkpoint pretrained --data new.npz --out {tmp_path / 'a.csv'}")
    assert "accuracy" not in said
    assert [row["example"] for row in read_csv(tmp_path / "a.csv")] == list("01234")
    said = jaxdl_command(f"predict --checkpoint pretrained --data plain.npz --out {tmp_path / 'b.csv'}")
    assert "no accuracy" in said
    assert "(0, 1)" in said
    assert [row["label"] for row in read_csv(tmp_path / "b.csv")] == [str(y) for y in np.load("plain.npz")["y"]]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is text")
def test_file_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.png", "wb") as file:
        Image.new("L", (8, 8)).save(file, format="PNG")
    cli.main(["predict", "--checkpoint", "seer", "--data", os.fsdecode(folder), "--out", str(tmp_path / "p.csv")])
    (row,) = read_csv(tmp_path / "p.csv")  # the table is text
    assert row["example"] == f"{tmp_path}/caf\\xe9/\\xff.png"


def test_brackets_in_a_path_are_printed(tmp_path):
    out = tmp_path / "[red]p.csv"
    assert f"in {out}" in jaxdl_command(f"predict --checkpoint pretrained --data new.npz --out '{out}'")
    assert out.is_file()


def test_a_checkpoint_in_a_folder_with_brackets(tmp_path):
    out = tmp_path / "[1] new"
    jaxdl_command(f"finetune --init pretrained --data full.npz --epochs 1 --out '{out}'")
    jaxdl.restore(out)


def test_a_linked_folder_takes_a_checkpoint(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    jaxdl_command(f"finetune --init pretrained --data full.npz --epochs 1 --out {tmp_path / 'link'}")
    assert (tmp_path / "link").is_symlink()
    assert jaxdl.restore(tmp_path / "disk").card.class_names == ("no", "yes")


# inspect


def test_inspect_a_model():
    said = jaxdl_command("inspect resnet20_cifar")
    assert "resnet20_cifar for inputs of shape (32, 32, 3) and 10 classes" in said
    for name in ("stem", "stage1", "stage2", "stage3", "head", "FLOPs", "32×32×16", "269,722"):  # He et al. 2015: 0.27M
        assert name in said
    said = jaxdl_command("inspect vit --input-shape 16 16 1 --num-outputs 3 --model-arguments depth=2")
    assert "block2" in said
    assert "block3" not in said


def test_inspect_a_checkpoint(home):
    said = jaxdl_command("inspect pretrained")
    assert f"checkpoint {home / 'pretrained'}" in said
    assert "2 classes (no, yes); input 4 float32" in said
    assert "trained on: full.npz" in said
    assert f"{4 * 8 + 8 + 8 * 6 + 6 + 6 * 2 + 2}" in said


# How it shows


def test_progress_is_shown_to_who_watches(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "errors", Console(file=screen, force_terminal=True, width=140))
    row = {"fold": 4, "epoch": 2, "step": 20, "train_loss": 0.51234, "train_accuracy": 0.9, "test_accuracy": 0.8}
    with console.display(6, "accuracy") as shown:
        shown.steps(1)
        clock = shown.begin
        monkeypatch.setattr(time, "monotonic", lambda: clock + 2)  # two seconds after the first step
        shown.steps(19)
        shown.row(row)
        task = shown.bar.tasks[0]
        assert (task.completed, task.total) == (20, 60)  # 10 steps in each of 6 rows
        assert task.fields["rate"] == "9.5 steps/s"
    lines = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "fold" in line]
    assert "fold 4, epoch 2: loss 0.512, accuracy 0.900, held out accuracy 0.800" in lines[-1]
    assert "9.5 steps/s" in lines[-1]
    assert re.search(r"[\d-]:[\d-]{2}:[\d-]{2}", lines[-1])  # the remaining time
    assert re.search(r"CPU, \d+\.\d GiB", lines[-1])
    screen.truncate(0)
    with console.display(6, "r2") as shown:
        shown.row({"epoch": 1, "step": 5, "train_loss": 2.0, "train_mae": 0.25, "test_r2": -0.5})
        assert shown.bar.tasks[0].total == 30
    assert "epoch 1: loss 2.000, mae 0.250, held out r2 -0.500" in screen.getvalue()
    quiet = io.StringIO()
    monkeypatch.setattr(console, "errors", Console(file=quiet))
    with console.display(2, "accuracy") as shown:
        shown.steps(3)
        shown.row(row)
    assert quiet.getvalue() == ""


def test_the_program_starts():
    """The installed entry point, in a process of its own, with a terminal that knows only ASCII."""
    done = subprocess.run(
        [sys.executable, "-c", "from jaxdl.cli import main; main()", "inspect", "pretrained"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"layer2" in done.stdout


def stop(*arguments, **named):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["numpy.load", "sklearn.model_selection.StratifiedKFold.split"])
def test_interruption_before_anything_is_saved_leaves_nothing(monkeypatch, tmp_path, place):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.eye(8, dtype=np.float32), y=np.arange(8) % 2)
    monkeypatch.setattr(place, stop)
    line = f"cross-validate --model mlp --data d.npz {FEW} --folds 2 --fold-strategy vmap --out o"
    code, out, err = call(line)
    assert (code, err) == (130, "jaxdl: interrupted\n")
    assert says_what_was_read(out)
    assert os.listdir() == ["d.npz"]


def test_interruption_before_results_are_written_keeps_what_was_trained(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.eye(8, dtype=np.float32), y=np.arange(8) % 2)
    command = f"cross-validate --model mlp --data d.npz {FEW} --folds 2 --fold-strategy vmap"
    jaxdl_command(f"{command} --out whole")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", stop)
        jaxdl_command(f"{command} --out o", code=130)
    assert sorted(os.listdir()) == ["d.npz", "o", "whole"]
    assert sorted(os.listdir("o")) == ["run.json", "state"]
    code, _, err = call(f"{command} --out o")
    assert (code, "going on with the run" in err) == (0, True)
    assert sorted(os.listdir("o")) == sorted(os.listdir("whole"))
    np.testing.assert_array_equal(*(load_result(name).out_of_fold.kept for name in ("whole", "o")))


@pytest.mark.slow
def test_interruption_in_the_middle_of_placing_results(monkeypatch, tmp_path):
    """What is there is kept, says that it is not whole, and is made whole by the same command."""
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.eye(8, dtype=np.float32), y=np.arange(8) % 2)
    command = f"cross-validate --model mlp --data d.npz {FEW} --folds 2 --fold-strategy loop"
    jaxdl_command(f"{command} --out whole")
    replace, left = Path.replace, [3]  # split.npz is written by one, too

    def replace_some(path, target):
        if "result.made" in path.parts:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_some)
        jaxdl_command(f"{command} --out o", code=130)
    assert len(set(os.listdir("o")) & set(os.listdir("whole")) - {"run.json"}) == 1
    assert not Path("o/result.json").exists()
    assert json.loads(Path("o/run.json").read_text())["finished"] is False
    assert "is not finished; give its command again to go on" in refused("report o")
    jaxdl_command(f"{command} --out o")
    assert sorted(os.listdir("o")) == sorted(os.listdir("whole"))
    np.testing.assert_array_equal(*(load_result(name).out_of_fold.kept for name in ("whole", "o")))


def test_interruption_while_the_report_is_drawn(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.eye(8, dtype=np.float32), y=np.arange(8) % 2)
    command = f"cross-validate --model mlp --data d.npz {FEW} --folds 2 --fold-strategy vmap --out o"
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", stop)
        jaxdl_command(command, code=130)
    assert sorted(os.listdir("o")) == ["folds", "metrics.jsonl", "out_of_fold.npz", "result.json", "run.json", SPLIT]
    assert "is finished" in jaxdl_command(command)
    assert "</html>" in Path("o/report.html").read_text()


@pytest.mark.slow
def test_a_second_start_compiles_nothing_again(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "caches")
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # or a slow moment would decide what is kept

    def start(out):
        command = f"pretrain --model mlp --data digits:0-1 --epochs 1 --out {tmp_path / out}"
        program = [sys.executable, "-c", "import jaxdl.cli; jaxdl.cli.main()", *command.split()]
        subprocess.run(program, env=environment, check=True, capture_output=True)
        return {path.name for path in (tmp_path / "caches" / "jaxdl" / "xla").iterdir() if "atime" not in path.name}

    first = start("one")
    assert first
    assert start("two") == first
