"""Sets and intervals of an ensemble of folds, saved and read; of the folds' own held-out examples; what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.splits import Splitting

DIGITS = data.digits(range(3))
ORDER = np.random.default_rng(0).permutation(len(DIGITS))
SOURCE, NEW = data.subset(DIGITS, ORDER[:90]), data.subset(DIGITS, ORDER[90:150])
PLAN = jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)
KEEPING = jaxdl.Execution(fold_strategy="vmap", keep_models=True)
MLP = jaxdl.create("mlp", 3, hidden=(8,))


def cross_validated(source, splitter="kfold", model=MLP):
    return jaxdl.cross_validate(model, source, PLAN, splitter=splitter, folds=3, execution=KEEPING)


@pytest.fixture(scope="module")
def result():
    return cross_validated(SOURCE)


@pytest.fixture(scope="module")
def made(result):
    return jaxdl.ensemble(result)


@pytest.fixture(scope="module")
def said(made):
    return made.predict(NEW, batch_size=32)  # whose last batch is padded


def softmax(logits):
    odds = np.exp(np.asarray(logits, np.float64))
    return odds / odds.sum(-1, keepdims=True)


def scores(p, score):
    if score == "probability":
        return 1 - p
    return np.array([[row[row > own].sum() for own in row] for row in p])


@pytest.mark.parametrize("score", ["probability", "adaptive"])
@pytest.mark.parametrize("by", ["example", "class"])
def test_sets_are_those_of_a_plain_loop_over_the_members(result, said, score, by):
    """Each member asked alone; each held-out example compared with what its own fold's member says."""
    held = result.out_of_fold
    own = scores(softmax(held.kept), score)[np.arange(90), held.target]
    each = [scores(softmax(jaxdl.predict(model, NEW).logits), score) for model in result.models]
    expected = np.zeros((60, 3), bool)
    for i in range(60):
        for c in range(3):
            rows = [r for r in range(90) if by == "example" or held.target[r] == c]
            below = sum(own[r] < each[held.fold[r]][i, c] - 1e-9 for r in rows)
            expected[i, c] = below < 0.8 * (len(rows) + 1)
    found = said.sets(0.8, by, score)
    np.testing.assert_array_equal(found.holds, expected)
    np.testing.assert_array_equal(found.size, expected.sum(1))
    np.testing.assert_array_equal(found.covered, expected[np.arange(60), NEW.labels])
    assert found.observed.share == pytest.approx(expected[np.arange(60), NEW.labels].mean())
    names = [{name for name, there in zip("012", row, strict=True) if there} for row in expected]
    assert list(map(set, found.classes)) == names
    assert [set(filter(None, cell.split("|"))) for cell in found.columns()["set"]] == names


def test_sets_show_themselves(said):
    found = said.sets(0.8)
    frame = found.to_frame()
    np.testing.assert_array_equal(frame["set_size"], found.size)
    np.testing.assert_array_equal(frame["covered"], found.covered)
    assert "coverage 0.8" in repr(found)
    assert len(repr(found).splitlines()) == 1


def test_more_coverage_means_larger_sets(said):
    small, large = said.sets(0.6), said.sets(0.95)
    assert (large.holds >= small.holds).all()
    assert large.size.sum() > small.size.sum()


def test_they_are_saved_and_read_again(made, said, tmp_path):
    again = jaxdl.load_ensemble(jaxdl.save_ensemble(made, tmp_path / "made")).predict(NEW)
    np.testing.assert_array_equal(again.sets(0.9).p_values, said.sets(0.9).p_values)
    assert again.sets(0.9).basis == said.sets(0.9).basis


def test_a_run_on_disk_gives_the_same(result, said, tmp_path):
    """A folder with the result and the folds' networks; and folds of which one was not kept."""
    result.save(tmp_path / "run")
    for fold, model in enumerate(result.models):
        jaxdl.save(model, tmp_path / "run" / "folds" / str(fold))
    made = jaxdl.ensemble(tmp_path / "run")
    np.testing.assert_array_equal(made.predict(NEW).sets(0.9).holds, said.sets(0.9).holds)
    shutil.rmtree(tmp_path / "run" / "folds" / "1")
    fewer = jaxdl.ensemble(tmp_path / "run")
    assert fewer.predict(NEW).sets(0.9).basis.units == 60
    np.testing.assert_array_equal(np.unique(fewer.held_out.rows.fold), [0, 1])


def test_what_a_member_was_trained_on_is_not_counted(made):
    mixed = data.subset(DIGITS, ORDER[80:110])
    found = made.predict(mixed).sets(0.9)
    assert found.observed.count == 20
    assert any("10 of the 30 examples" in caution for caution in found.cautions)
    assert made.predict(SOURCE).sets(0.9).observed is None


def test_ensembles_without_held_out_predictions_say_how_to_make_them(result, made, tmp_path):
    alone = jaxdl.ensemble(list(result.models)).predict(NEW)
    old = jaxdl.save_ensemble(made, tmp_path / "old")
    card = json.loads((old / "ensemble.json").read_text())
    del card["held_out"]
    (old / "ensemble.json").write_text(json.dumps(card))
    (old / "held_out.npz").unlink()
    older = jaxdl.load_ensemble(old).predict(NEW)
    single = jaxdl.predict(result.models[0], NEW)
    assert older.scores == made.predict(NEW).scores
    for predictions in (alone, older, single):
        for ask in (predictions.sets, predictions.intervals):
            with pytest.raises(InputError, match="--keep-models always --out RUN, then jaxdl ensemble RUN"):
                ask()
    with pytest.raises(InputError, match=r"out of fold.*Result\.sets"):
        made.out_of_fold(SOURCE).sets()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 90}, "coverage is 90"),
        ({"coverage": 0.999}, "at least 999 calibration examples.*at most 0.989"),
        ({"coverage": 0.97, "by": "class"}, "of each class.*leave out the coverage by class"),
        ({"by": "group"}, "no groups"),
        ({"by": "clas"}, "Did you mean 'class'"),
        ({"score": "aps"}, "expected one of: probability, adaptive"),
    ],
)
def test_what_cannot_be_is_refused(result, said, options, message):
    for ask in (said.sets, result.sets):
        with pytest.raises(InputError, match=message):
            ask(**options)
    with pytest.raises(InputError, match="ask for sets"):
        said.intervals()


def test_damaged_held_out_predictions_are_refused(made, tmp_path):
    path = jaxdl.save_ensemble(made, tmp_path / "made")
    (path / "held_out.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"held_out\.npz.*missing or not that of its card"):
        jaxdl.load_ensemble(path)
    rows = dataclasses.replace(made.held_out.rows, fold=made.held_out.rows.fold + 1)
    other = dataclasses.replace(made, held_out=dataclasses.replace(made.held_out, rows=rows))
    with pytest.raises(InputError, match="not of the 3 members"):
        jaxdl.load_ensemble(jaxdl.save_ensemble(other, tmp_path / "other"))


def test_predictions_that_are_not_finite_are_refused(made):
    rows = made.held_out.rows
    broken = dataclasses.replace(rows, kept=np.where(np.arange(90)[:, None] == 3, np.nan, rows.kept))
    made = dataclasses.replace(made, held_out=dataclasses.replace(made.held_out, rows=broken))
    with pytest.raises(InputError, match="not finite"):
        made.predict(NEW).sets(0.9)


def test_held_out_examples_are_compared_with_those_of_the_other_folds(result):
    held = result.out_of_fold
    strange = 1 - softmax(held.kept)
    own = strange[np.arange(90), held.target]
    expected = [
        [(own[held.fold != held.fold[i]] < strange[i, c] - 1e-9).sum() < 0.8 * 61 for c in range(3)] for i in range(90)
    ]
    found = result.sets(0.8)
    np.testing.assert_array_equal(found.holds, expected)
    assert abs(found.observed.share - 0.8) < 0.05
    assert (found.basis.units, found.basis.plus) == (60, False)


GROUPED = dataclasses.replace(SOURCE, groups=np.arange(90) // 4)


def test_groups_are_the_units():
    result = cross_validated(GROUPED, "group")
    said = jaxdl.ensemble(result).predict(NEW)
    assert said.sets(0.9).basis == said.sets(0.9, "group").basis
    assert (said.sets(0.9).basis.by, said.sets(0.9).basis.units) == ("group", 23)
    by_example = said.sets(0.9, "example")
    assert by_example.basis.units == 90
    assert any("new groups" in caution for caution in by_example.cautions)
    assert said.sets(0.8, "class").basis.unit == "group"
    with pytest.raises(InputError, match=r"at least 33 calibration groups, but there are 23.*by example"):
        said.sets(0.97)
    assert said.sets(0.97, "example").holds.any()


def test_an_example_that_several_folds_tested_counts_once():
    result = cross_validated(SOURCE, Splitting("repeated-kfold", repeats=2))
    found = jaxdl.ensemble(result).predict(NEW).sets(0.9)
    assert (found.basis.units, found.basis.folds) == (90, 6)
    assert result.sets(0.9).basis.units == 60  # neither repeat's own rows stand beside an example


@pytest.mark.slow
def test_folds_by_time_come_with_a_caution():
    timed = dataclasses.replace(DIGITS, times=np.arange(len(DIGITS))).take(ORDER[:90])
    found = jaxdl.ensemble(cross_validated(timed, "time-series")).predict(NEW).sets(0.8)
    assert any("by time" in caution for caution in found.cautions)


def test_intervals_of_numbers():
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 4)).astype(np.float32)
    y = (1000 + 50 * x[:, 0] + 20 * random.normal(size=120)).astype(np.float32)
    source, new = data.arrays(x[:80], y[:80]), data.arrays(x[80:], y[80:])
    result = cross_validated(source, model=jaxdl.create("mlp", 1, hidden=(8,)))
    said = jaxdl.ensemble(result).predict(new)
    held = result.out_of_fold
    each = np.array([jaxdl.predict(model, new).predicted for model in result.models], np.float64)
    residuals = np.abs(held.target - held.kept[:, 0].astype(np.float64))
    found = said.intervals(0.8)
    for i in range(40):
        above = sorted(each[held.fold, i] + residuals)
        below = sorted(each[held.fold, i] - residuals)
        ends = below[int(0.2 * 81 + 1e-9) - 1], above[int(np.ceil(0.8 * 81 - 1e-9)) - 1]
        np.testing.assert_allclose((found.low[i], found.high[i]), ends, rtol=1e-6)
    np.testing.assert_array_equal(found.covered, (found.low <= y[80:]) & (y[80:] <= found.high))
    checked = result.intervals(0.8)
    assert abs(checked.observed.share - 0.8) < 0.06
    assert checked.width.mean() > 0
    for wrong, message in ((said.sets, "ask for intervals"), (lambda: said.intervals(by="class"), "no classes")):
        with pytest.raises(InputError, match=message):
            wrong()
