"""Learning curves against the number of training examples."""

import dataclasses
import json
import re

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.learning_curve import outlook
from jaxdl.tasks import choose_task
from jaxdl.training.resume import Interrupted, RunFolder
from jaxdl.validation.learning_curve import load_learning_curve
from jaxdl.validation.power_law import PowerLaw
from jaxdl.validation.splits import split_source
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.training_sizes import nested_parts, resolve_sizes

DIGITS = data.digits(range(3))
SOURCE = data.subset(DIGITS, np.random.default_rng(0).permutation(len(DIGITS))[:90])
PLAN = jaxdl.Plan(epochs=4, batch_size=16, learning_rate=1e-2, warmup_epochs=1)
MLP = jaxdl.create("mlp", 3, hidden=(8,))
AT_ONCE = jaxdl.Execution(fold_strategy="vmap")
OPTIONS = {"folds": 3, "execution": AT_ONCE}
TASK = choose_task(SOURCE, purpose="a test")


@pytest.fixture(scope="module")
def curve():
    return jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[6, "50%", 1.0], **OPTIONS)


def drawn(source, sizes, splitter="auto", folds=3, seed=0):
    split = split_source(source, splitter, folds, seed)
    strata = choose_task(source, purpose="a test").strata(source.targets())
    wanted = resolve_sizes(sizes, strata, split)
    return split, nested_parts(source, strata, split, list(wanted.values()), seed)


def test_smaller_training_parts_are_fair_parts_of_larger_ones():
    labels = np.repeat([0, 1, 2], [140, 50, 10])
    source = data.arrays(np.zeros((200, 2), np.float32), labels, class_names=("a", "b", "c"))
    split, parts = drawn(source, [3, 10, 40, "100%"])
    for fold, train in enumerate(split.train):
        inner = set()
        for size, part in zip([3, 10, 40, len(train)], [p[fold] for p in parts], strict=True):
            assert len(set(part)) == len(part) == size
            assert inner <= set(part) <= set(train)
            inner = set(part)
            counts = np.bincount(labels[part], minlength=3)
            assert counts.min() >= 1
            fair = size * np.bincount(labels[train]) / len(train)
            assert (np.abs(counts - fair) < 2.2).all()
        np.testing.assert_array_equal(parts[-1][fold], train)
    again = drawn(source, [10, 40])[1]
    np.testing.assert_array_equal(again[0][1], parts[1][1])  # whatever other sizes there are
    assert (drawn(source, [10], seed=1)[1][0][0] != parts[1][0]).any()


def test_groups_come_whole_and_of_a_series_the_latest():
    random = np.random.default_rng(0)
    groups = random.permutation(np.repeat(np.arange(12), 10))
    source = data.arrays(
        np.zeros((120, 2), np.float32),
        random.integers(2, size=120),
        class_names=("a", "b"),
        groups=groups,
        times=random.permutation(120),
    )
    _, parts = drawn(source, [25, 45], "group")
    for small, large in zip(*parts, strict=True):
        counts = np.bincount(groups[small], minlength=12)
        assert sorted(counts[counts > 0]) == [5, 10, 10]  # two groups, and the third as far as it goes
        assert (np.bincount(groups[large], minlength=12) >= counts).all()
    split, (parts,) = drawn(dataclasses.replace(source, groups=None), [20], TimeSeriesSplit(3))
    for train, part in zip(split.train, parts, strict=True):
        latest = np.sort(source.times[train])[-20:]
        np.testing.assert_array_equal(np.sort(source.times[part]), latest)


def test_sizes_by_number_share_and_halving():
    split, strata = split_source(SOURCE, "stratified", 3, 0), SOURCE.labels
    assert resolve_sizes(["50%", 60, 0.5, "10"], strata, split) == {"10": [10] * 3, "50%": [30] * 3, "60": [60] * 3}
    assert list(resolve_sizes("auto", strata, split)) == ["25%", "50%", "100%"]  # 15, and not 7
    for sizes, said in (
        ([61], "at most that"),
        ([2], "at least 3"),
        (["2%"], "at least 3"),
        ([0], "size is 0"),
        ([1.5], "share up to 1"),
        (["many"], "size is 'many'"),
        ([True], "size is True"),
        ([], "sizes is"),
    ):
        with pytest.raises(InputError, match=said):
            resolve_sizes(sizes, strata, split)


def test_each_point_is_a_cross_validation_on_the_same_test_examples(curve):
    assert [(p["asked"], p["size"]) for p in curve.points] == [("6", 6), ("50%", 30), ("100%", 60)]
    whole = jaxdl.cross_validate(MLP, SOURCE, PLAN, **OPTIONS)
    np.testing.assert_array_equal(curve.results[-1].out_of_fold.kept, whole.out_of_fold.kept)
    assert curve.split["sha256"] == whole.split["sha256"]
    for point, result in zip(curve.points, curve.results, strict=True):
        np.testing.assert_array_equal(result.out_of_fold.index, whole.out_of_fold.index)
        assert {row["train"] for row in result.folds} == {point["size"]}
        assert point["folds"] == [row["accuracy"] for row in result.folds]
        assert point["mean"] == np.mean(point["folds"])
        assert point["interval"] == result.interval == dataclasses.asdict(interval(result, whole=60))
        assert point["interval"]["low"] <= point["mean"] <= point["interval"]["high"]
    assert curve.points[0]["mean"] < curve.points[-1]["mean"]


def test_a_small_size_is_what_training_on_its_examples_gives(curve):
    """Against the loop that a person would write."""
    _, parts = drawn(SOURCE, [6])
    split = StratifiedKFold(3, shuffle=True, random_state=0)
    test = next(iter(split.split(SOURCE.x, SOURCE.labels)))[1]
    plan = dataclasses.replace(PLAN, epochs=16, warmup_epochs=4.0)  # 16 steps of one batch for 4 epochs of 4
    by_hand = jaxdl.finetune(MLP, data.subset(SOURCE, parts[0][0]), plan)
    held = curve.results[0].out_of_fold
    np.testing.assert_allclose(
        held.kept[held.fold == 0], jaxdl.predict(by_hand, data.subset(SOURCE, test)).logits, atol=1e-4
    )


def test_all_sizes_take_the_same_steps_or_the_same_epochs(curve):
    assert [(p["epochs"], p["steps"]) for p in curve.points] == [(16, 16), (8, 16), (4, 16)]
    for point, result in zip(curve.points, curve.results, strict=True):
        assert max(row["step"] for row in result.curves) == point["steps"]
    plain = jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[6, "100%"], budget="epochs", **OPTIONS)
    assert [(p["epochs"], p["steps"]) for p in plain.points] == [(4, 4), (4, 16)]
    assert plain.results[0].plan == PLAN.as_dict()


def test_a_curve_is_saved_and_read_again(curve, tmp_path):
    path = curve.save(tmp_path / "curve")
    again = load_learning_curve(path)
    assert json.dumps(again.as_dict()) == json.dumps(curve.as_dict())
    np.testing.assert_array_equal(again.results[1].out_of_fold.kept, curve.results[1].out_of_fold.kept)
    with pytest.raises(InputError, match="it was left as it is"):
        curve.save(path)
    (path / "learning_curve.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        load_learning_curve(path)
    with pytest.raises(InputError, match="not a learning curve"):
        load_learning_curve(tmp_path)


def test_an_interrupted_curve_goes_on_to_the_same_numbers(curve, tmp_path):
    stop = []
    work = RunFolder(tmp_path / "run", should_stop=lambda: bool(stop))

    def after_the_largest(row):
        stop.extend([True] if row["size"] == "50%" else [])

    call = {"sizes": [6, "50%", 1.0], "folds": 3}
    with pytest.raises(Interrupted):
        jaxdl.learning_curve(
            MLP, SOURCE, PLAN, execution=AT_ONCE.replace(work=work, progress=after_the_largest), **call
        )
    told = []
    again = jaxdl.learning_curve(
        MLP, SOURCE, PLAN, execution=AT_ONCE.replace(work=tmp_path / "run", progress=told.append), **call
    )
    assert "100%" not in {row["size"] for row in told}
    assert [p["folds"] for p in again.points] == [p["folds"] for p in curve.points]
    again_less = AT_ONCE.replace(work=tmp_path / "run")
    with pytest.raises(InputError, match="sizes: "):
        jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[6], folds=3, execution=again_less)


def test_too_few_sizes_foretell_nothing(curve):
    assert curve.law is None
    assert "there are 3 sizes" in outlook(curve)


def test_a_gain_is_told_along_the_curve_with_the_measured_score_beside_it(curve):
    """The curve misses the measured score at the largest size: both are named, and the gain is of which is said."""
    size = curve.points[-1]["size"]
    law = PowerLaw(0.1, 2.0, 1.0, 2 * size, 0.1 + 1 / size, 0.1, 0.3, 1 / size, 0.0, 2 / size)
    measured, fitted, doubled = curve.points[-1]["mean"], 0.9 - 2 / size, 0.9 - 1 / size
    assert measured != pytest.approx(fitted, abs=0.01)
    said = outlook(dataclasses.replace(curve, law=law))
    told = [float(number) for number in re.findall(r"(-?\d+\.\d) %", said)]
    assert told == pytest.approx([100 * doubled, 100 * measured, 100 * fitted], abs=0.051)
    gain = float(re.search(r"gain is (-?[\d.]+) points", said)[1])
    assert gain == pytest.approx(100 * (doubled - fitted), abs=0.051)


@pytest.mark.slow
def test_the_command(tmp_path):
    from command_line import call, jaxdl_command, refused

    np.savez(tmp_path / "d.npz", x=SOURCE.x, y=SOURCE.labels, class_names=list(SOURCE.class_names))
    line = (
        f"learning-curve --model mlp --data {tmp_path / 'd.npz'} --epochs 2 --folds 2 --fold-strategy vmap "
        f"--model-arguments hidden=[4] --out {tmp_path / 'run'}"
    )
    said = jaxdl_command(f"{line} --sizes 6 12 100%")
    assert "results, learning_curve.png and report.html in" in said
    made = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert made == ["learning_curve.json", "learning_curve.png", "report.html", "run.json", "sizes"]
    assert jaxdl.load_result(tmp_path / "run" / "sizes" / "12").folds[0]["train"] == 12
    assert "is finished" in jaxdl_command(f"{line} --sizes 6 12 100%")
    code, _, said = call(f"{line} --sizes 6")
    assert (code, "sizes: ['6', '12', '100%'] then, ['6'] now" in said) == (2, True)
    assert "at least 3" in refused(f"{line}2 --sizes 2 100%")
    assert "Did you mean 'steps'" in refused(f"{line}2 --budget stebs")
    assert "--wandb follows a single run" in refused(f"{line}2 --wandb here")
