"""Folds that test a class on which they do not train: said by every command that makes folds, and on the page."""

import contextlib

import numpy as np
import pytest
from command_line import jaxdl_command

import jaxdl
from jaxdl import data
from jaxdl.report.cautions import cautions
from jaxdl.tasks import Classification, MultiLabel
from jaxdl.validation.leakage.checks import find_untaught
from jaxdl.validation.splits import split_source

GROUPS = np.repeat(np.arange(6), 10)
LABELS = np.where(GROUPS == 5, 2, np.arange(60) % 2)  # the third class is of one group alone
NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def source():
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    return data.arrays(x, LABELS, class_names=NAMES, groups=GROUPS)


def test_what_a_fold_does_not_teach_is_counted():
    task = Classification(NAMES)
    assert task.untaught(LABELS, np.arange(50), np.arange(45, 60)) == {"owl": 10}
    assert task.untaught(LABELS, np.arange(51), np.arange(51, 60)) == {}
    labels = MultiLabel(("warm", "wet"))
    targets = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    assert labels.untaught(targets, np.arange(2), np.arange(2, 4)) == {"wet": 2}


def test_the_fold_the_class_and_the_count_are_named(source):
    split = split_source(source, "group", 3, 0)
    lacking = [k for k, train in enumerate(split.train) if 2 not in LABELS[train]]
    (leak,) = find_untaught(source, Classification(NAMES), split)
    assert (leak.caution, leak.examples) == (True, 10)
    assert f"fold {lacking[0]}: 'owl' (10 examples)" in leak.said
    assert f"{len(lacking)} of 3 folds" in leak.said
    stratified = split_source(data.arrays(source.x, np.arange(60) % 3), "stratified", 3, 0)
    assert find_untaught(data.arrays(source.x, np.arange(60) % 3), Classification(NAMES), stratified) == []


def test_a_result_keeps_it(source):
    asked = jaxdl.Probing(heads=("ncm",))
    found = jaxdl.probe(source.x, LABELS, "group", asked, folds=3, class_names=NAMES, groups=GROUPS)
    (said,) = cautions(found.leaks, found.result("ncm").leaks)  # once
    assert "'owl' (10 examples)" in said


@pytest.mark.parametrize(
    "command",
    [
        "cross-validate {} --epochs 1",
        pytest.param("learning-curve {} --epochs 1 --sizes 50% 100%", marks=pytest.mark.slow),
        pytest.param("search {} --epochs 1 --space learning_rate=1e-3,1e-2 --inner-folds 2", marks=pytest.mark.slow),
    ],
)
def test_commands_say_it(source, tmp_path, command):
    with contextlib.chdir(tmp_path):
        np.savez("owls.npz", x=source.x, y=LABELS, class_names=NAMES, groups=GROUPS)
        options = "--model mlp --model-arguments hidden=[4] --data owls.npz --splitter group --folds 3 --out run"
        assert "a class that they do not train on" in " ".join(jaxdl_command(command.format(options)).split())
        assert "'owl' (10 examples)" in (tmp_path / "run" / "report.html").read_text().replace("&#x27;", "'")
