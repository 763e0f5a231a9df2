"""What people expect of training, through the commands; and the commands that draw."""

import contextlib
import os
import re

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, refused
from PIL import Image
from sklearn.metrics import log_loss

import jaxdl
from jaxdl.training.plan import Plan
from jaxdl.training.range_test import find_learning_rate
from jaxdl.training.transfer import hold_out
from jaxdl.validation.result import load_result
from jaxdl.weights.checkpoint import fingerprint

MLP = "--model mlp --data plain.npz --model-arguments hidden=[6,4]"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Numbers of two classes, one of them rare and hard to tell, small images, and a network to start from."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] + random.normal(size=60) > 1.2).astype(int)
    np.savez(home / "plain.npz", x=x, y=y, class_names=["common", "rare"])
    images = random.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(home / "images.npz", x=images, y=np.arange(24) % 2)
    with contextlib.chdir(home):
        jaxdl_command(f"pretrain {MLP} --epochs 1 --out parent")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


@pytest.fixture
def trained(tmp_path):
    """A function from options to the checkpoint that they make."""

    def train(options, command=f"pretrain {MLP}", out="new"):
        jaxdl_command(f"{command} {options} --out {tmp_path / out}")
        return jaxdl.restore(tmp_path / out)

    return train


def same(one, other):
    return fingerprint(one.variables) == fingerprint(other.variables)


# Early stopping, best and last


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    line = f"pretrain {MLP} --epochs 30 --learning-rate 0.1 --early-stopping 2 --inner-fraction 0.3 --out"
    said = jaxdl_command(f"{line} {tmp_path / 'new'}")
    best = int(re.search(r"^best epoch: (\d+), in (.*)$", said, re.MULTILINE)[1])
    assert f"best epoch: {best}, in {tmp_path / 'new' / 'best'}\n" in said
    last, chosen = jaxdl.restore(tmp_path / "new"), jaxdl.restore(tmp_path / "new" / "best")
    assert len(last.history) == best + 2 < 30
    assert same(last, chosen)  # what is left of it is its best epoch
    shorter = jaxdl_command(f"{line.replace('--epochs 30', '--epochs 30 --early-stopping 1')} {tmp_path / 'one'}")
    assert "best epoch" in shorter
    assert len(jaxdl.restore(tmp_path / "one").history) <= len(last.history)


def test_best_and_last_by_the_held_out_examples(tmp_path):
    said = jaxdl_command(
        f"pretrain {MLP} --epochs 25 --learning-rate 0.1 --validation-fraction 0.3 --seed 3 --out {tmp_path / 'new'}"
    )
    last, best = jaxdl.restore(tmp_path / "new"), jaxdl.restore(tmp_path / "new" / "best")
    losses = [row["test_loss"] for row in last.history]
    assert f"best epoch: {np.argmin(losses) + 1}, in " in said
    assert not same(last, best)
    _, held = hold_out(jaxdl.data.npz("plain.npz"), 0.3, seed=3)
    for checkpoint, loss in ((last, losses[-1]), (best, min(losses))):
        assert log_loss(held.targets(), jaxdl.predict(checkpoint, held).probabilities) == pytest.approx(loss, abs=1e-5)


@pytest.mark.slow
def test_folds_stop_early_each_at_its_own_epoch(tmp_path):
    options = "--epochs 30 --learning-rate 0.1 --early-stopping 1 --folds 3 --fold-strategy vmap"
    jaxdl_command(f"cross-validate {MLP} {options} --out {tmp_path / 'run'}")
    result = load_result(tmp_path / "run")
    for fold in result.folds:
        epochs = [row["epoch"] for row in result.curves if row["fold"] == fold["fold"]]
        assert epochs == list(range(1, fold["best_epoch"] + 2))
    assert not (tmp_path / "run" / "folds" / "0" / "best").exists()


def test_held_out_examples_are_measured_every_so_often(trained):
    rows = trained("--epochs 5 --validation-fraction 0.2 --eval-every 2").history
    assert [row["epoch"] for row in rows if "test_loss" in row] == [2, 4, 5]


# What a batch is made of


def test_balanced_class_weights_are_inverse_frequencies(trained):
    counts = np.bincount(np.load("plain.npz")["y"])
    factors = (60 / (2 * counts)).tolist()
    assert factors[1] > 2 * factors[0]
    balanced = trained("--epochs 2 --class-weights balanced")
    said = trained(f"--epochs 2 --class-weights common={factors[0]!r} rare={factors[1]!r}", out="said")
    np.testing.assert_allclose(
        *(np.concatenate([np.ravel(a) for a in jax.tree.leaves(c.variables)]) for c in (balanced, said))
    )
    assert balanced.card.plan["class_weights"] == "balanced"
    assert said.card.plan["class_weights"] == {"common": factors[0], "rare": factors[1]}
    assert not same(balanced, trained("--epochs 2", out="plain"))


@pytest.mark.slow
def test_class_weights_are_relative(trained):
    """The loss is a weighted mean; and classes that are not named count once."""
    one = trained("--epochs 2 --class-weights common=2 rare=1")
    assert same(one, trained("--epochs 2 --class-weights rare=0.5", out="other"))
    assert not same(one, trained("--epochs 2", out="plain"))


@pytest.mark.slow
def test_augmentation_changes_training_and_repeats(trained):
    command = "pretrain --model cnn --data images.npz --epochs 1 --model-arguments features=[4] hidden=[4]"
    plain, crop, again = (
        trained(f"--augment {names}", command, out)
        for names, out in (("none", "plain"), ("crop erasing", "crop"), ("crop erasing", "again"))
    )
    assert same(crop, again)
    assert not same(plain, crop)
    assert same(plain, trained("", command, "without"))
    assert plain.card.plan["augment"] == []
    assert crop.card.plan["augment"] == ["crop", "erasing"]


@pytest.mark.slow
def test_a_batch_in_parts_and_a_running_mean(trained):
    sgd = "--epochs 2 --optimizer sgd"
    whole, parts = trained(sgd), trained(f"{sgd} --accumulate 4", out="parts")
    for one, other in zip(*(jax.tree.leaves(c.variables) for c in (whole, parts)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert not same(whole, trained(f"{sgd} --ema 0.9", out="mean"))


# Gradual unfreezing


@pytest.mark.slow
def test_one_more_stage_is_trained_each_time(trained):
    parent, moved = jaxdl.restore("parent"), {}
    for epochs in (1, 2, 3):
        made = trained(
            f"--epochs {epochs} --freeze-through body --unfreeze-every 1 --head keep --schedule constant",
            "finetune --init parent --data plain.npz",
            f"{epochs}",
        )
        stages = made.variables["params"]
        moved[epochs] = [name for name in stages if not same_stage(parent, made, name)]
        norms = [set(row["stage_grad_norms"]) for row in made.history]
        assert norms == [{"head"}, {"head", "layer2"}, {"head", "layer2", "layer1"}][:epochs]
    assert [set(names) for names in moved.values()] == [{"head"}, {"head", "layer2"}, {"head", "layer2", "layer1"}]


def same_stage(one, other, name):
    leaves = [jax.tree.leaves(checkpoint.variables["params"][name]) for checkpoint in (one, other)]
    return all((a == b).all() for a, b in zip(*leaves, strict=True))


# find-lr


@pytest.mark.parametrize(
    "ending", ["svg", *(pytest.param(ending, marks=pytest.mark.slow) for ending in ("png", "pdf"))]
)
def test_find_lr_draws_and_suggests(tmp_path, ending):
    picture = tmp_path / "new folder" / f"rates.{ending}"
    said = jaxdl_command(f"find-lr {MLP} --steps 40 --highest 3 --batch-size 16 --out '{picture}'")
    found = find_learning_rate(
        jaxdl.create("mlp", 2, hidden=[6, 4]), jaxdl.data.npz("plain.npz"), Plan(batch_size=16), highest=3.0, steps=40
    )
    assert f"suggestion: --learning-rate {found.suggestion:.2g} " in said
    assert f"fell fastest at {found.steepest:.2g}; the test took {len(found.rates)} steps" in said
    assert f"picture in {picture}\n" in said
    begin = picture.read_bytes()[:5]
    assert begin == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[ending]
    if ending == "png":
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    if ending == "svg":
        assert "learning rate" in picture.read_text()


@pytest.mark.slow
def test_find_lr_from_a_checkpoint_and_for_numbers(tmp_path):
    said = jaxdl_command(
        f"find-lr --init parent --data plain.npz --steps 12 --freeze-through body --out {tmp_path}/a.png"
    )
    assert "suggestion: --learning-rate" in said
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i},{i * i / 7}\n" for i in range(12)))
    for task, spec in (("auto", "t.csv"), ("classification", "t.csv")):
        options = f"--steps 12 --task {task} --out {tmp_path}/{task}.png"
        assert "suggestion" in jaxdl_command(f"find-lr --model mlp --data {tmp_path}/{spec} {options}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--out taken.png", "taken.png'"),
        ("--out rates.jpg", "'rates.jpg'"),
        ("--out rates", "'rates'"),
        ("--out folder.png", "folder.png'"),
        ("--out taken.png/a.png", "taken.png'"),
        ("--steps 3", "steps is 3"),
        ("--lowest 0", "0.0 to 10.0"),
        ("--lowest 2 --highest 1", "2.0 to 1.0"),
        ("--highest inf", "inf"),
        ("--optimizer adamx", "'adamx'"),
        ("--task number", "'number'"),
        ("--init parent", "--init"),
    ],
)
def test_mistakes_of_find_lr(tmp_path, monkeypatch, home, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.npz").symlink_to(home / "plain.npz")
    (tmp_path / "taken.png").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    before = sorted(os.listdir())
    given = MLP.replace("plain", "nowhere") if "--out" in options else MLP  # which is looked at before the data
    assert message in refused(f"find-lr {given} {options}")
    assert sorted(os.listdir()) == before
    assert (tmp_path / "taken.png").read_text() == "mine"


# show


def test_show_draws_a_batch(tmp_path):
    said = jaxdl_command(f"show --data images.npz --augment standard --count 5 --out {tmp_path / 'a.png'}")
    assert said.splitlines()[-1] == f"5 images before and after standard in {tmp_path / 'a.png'}"
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 100
    assert "Did you mean 'standard'" in refused(f"show --data images.npz --augment standart --out {tmp_path / 'b.png'}")
    assert call(f"show --data images.npz --out {tmp_path / 'a.png'}")[0] == 2
    assert os.listdir(tmp_path) == ["a.png"]
