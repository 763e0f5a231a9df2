"""Files that release 0.1 wrote are read, and say what they said; see `experiments/frozen_numbers.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.splits import load_split, split_source
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.statistics.metrics import calibrate, measure

BEFORE = Path(__file__).parent / "before"
SAID = json.loads((BEFORE / "files.json").read_text())
SOURCE = data.subset(data.digits(range(5, 10)), range(0, 240, 4))


def written(name):
    return json.loads((BEFORE / name).read_text())


def test_a_result():
    old, result = written("result/result.json"), jaxdl.load_result(BEFORE / "result")
    assert result.mean == SAID["mean"] == np.mean([row["accuracy"] for row in result.folds])
    assert (result.asked.name, result.asked.names) == ("classification", ("5", "6", "7", "8", "9"))
    assert (result.question, result.baseline) == (None, None)
    held = result.out_of_fold
    np.testing.assert_array_equal(held.target, SOURCE.labels[held.index])
    assert held.kept.shape == (60, 5)
    for row in result.folds:
        mine = held.fold == row["fold"]
        assert row["accuracy"] == (result.predicted[mine] == held.target[mine]).mean()
    again = interval(result)
    assert (again.low, again.high) == pytest.approx((old["interval"]["low"], old["interval"]["high"]), abs=1e-6)
    found = measure(result)["pooled"]
    assert {name: found[name] for name in old["metrics"]["pooled"] if name != "auc"} == pytest.approx(
        {name: value for name, value in old["metrics"]["pooled"].items() if name != "auc"}  # which was pooled then
    )
    assert calibrate(result)["temperatures"] == pytest.approx(old["calibration"]["temperatures"], rel=1e-4)


def test_a_result_is_compared_with_one_of_today():
    result = jaxdl.load_result(BEFORE / "result")
    plan = jaxdl.Plan(epochs=1, learning_rate=1e-2)
    today = jaxdl.cross_validate(jaxdl.create("mlp", 5), SOURCE, plan, splitter=BEFORE / "split.npz")
    assert jaxdl.compare({"then": result, "now": today}, test="bootstrap").scores["then"] == result.mean


def test_a_result_is_written_again(tmp_path):
    result = jaxdl.load_result(BEFORE / "result")
    again = jaxdl.load_result(result.save(tmp_path / "copy"))
    assert again.as_dict() == result.as_dict()
    np.testing.assert_array_equal(again.out_of_fold.kept, result.out_of_fold.kept)


@pytest.mark.parametrize(("name", "place"), [("checkpoint", 0), ("checkpoint-of-numbers", 1)])
def test_a_checkpoint(name, place, tmp_path):
    made = jaxdl.restore(BEFORE / name)
    source = SOURCE
    if place:
        held = load_diabetes()
        source = data.arrays(held.data.astype(np.float32), held.target.astype(np.float32))
    said = jaxdl.predict(made, source)
    np.testing.assert_allclose(said.logits[:5], SAID["predicted"][place], rtol=1e-5, atol=1e-5)
    assert said.task.name == ("regression" if place else "classification")
    assert said.scores is not None
    assert made.card.data == written(f"{name}/card.json")["data"]
    again = jaxdl.restore(jaxdl.save(made, tmp_path / "copy"))
    assert again.card == made.card
    np.testing.assert_array_equal(jaxdl.predict(again, source).logits, said.logits)


def test_a_checkpoint_is_trained_further():
    made = jaxdl.restore(BEFORE / "checkpoint")
    further = jaxdl.finetune(made, SOURCE, jaxdl.Plan(epochs=2, learning_rate=1e-2))
    assert jaxdl.predict(further, SOURCE).scores["loss"] < jaxdl.predict(made, SOURCE).scores["loss"]


def test_a_split():
    old = load_split(BEFORE / "split.npz")
    assert old.sha256 == written("result/result.json")["split"]["sha256"]
    assert old.sha256 == split_source(SOURCE, "stratified", 2, 0).sha256 == split_source(SOURCE, old, 9, 9).sha256
    assert (old.kind, old.name, old.seed, old.examples, old.timed) == ("stratified", "stratified", 0, 60, False)
    with pytest.raises(InputError, match="59"):
        split_source(data.subset(SOURCE, range(59)), old, 2, 0)
    assert old.fingerprint is None  # the hash of the examples was another one then


def test_an_ensemble():
    made = jaxdl.load_ensemble(BEFORE / "ensemble")
    np.testing.assert_allclose(made.predict(SOURCE).logits[:5], SAID["ensemble"], atol=1e-5)
    with pytest.raises(InputError, match="60 of the 60"):
        _ = made.predict(SOURCE).scores
    held = jaxdl.load_result(BEFORE / "result")
    assert made.out_of_fold(SOURCE).accuracy == (held.predicted == held.out_of_fold.target).mean()


def test_a_search():
    old, made = written("search/search.json"), jaxdl.load_search(BEFORE / "search")
    assert (made.final, made.choices, made.scores) == (old["final"], old["choices"], old["scores"])
    assert made.result.mean == old["seed_means"][0] == np.mean([row["accuracy"] for row in made.result.folds])
    assert made.ranking[0]["configuration"] == made.final
    assert made.result.caution is None
    assert made.result.selected == {"configurations": 2, "nested": True}
