"""Several labels per example, from a matrix of 0 and 1 to everything that is told of a result."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype(np.float32)
LABELS = (X[:, :3] + 0.5 * RNG.normal(size=(100, 3)) > [0.0, 0.5, -0.5]).astype(int)
NAMES = ("dog", "cat", "bird")
SOURCE, NEW = (data.arrays(X[rows], LABELS[rows], class_names=NAMES) for rows in (slice(80), slice(80, 100)))
PLAN = jaxdl.Plan(epochs=6, batch_size=32, learning_rate=2e-2)
MLP = jaxdl.create("mlp", 3, hidden=(16,))
KEEPING = jaxdl.Execution(fold_strategy="vmap", keep_models=True)


@pytest.fixture(scope="module")
def result():
    return jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=4, execution=KEEPING)


def folds_of(result):
    """Targets, logits and predictions of each fold."""
    held = result.out_of_fold
    for row in result.folds:
        mine = held.fold == row["fold"]
        yield held.target[mine], held.kept[mine].astype(np.float64), (held.kept[mine] > 0).astype(int)


def test_folds_are_plain_and_targets_the_matrix(result):
    assert (result.task, result.metric, result.split["kind"]) == ("multilabel", "macro_f1", "kfold")
    held = result.out_of_fold
    assert sorted(held.index) == list(range(80))
    np.testing.assert_array_equal(held.target, SOURCE.labels[held.index])
    assert held.kept.shape == (80, 3)
    np.testing.assert_array_equal(result.predicted, held.kept > 0)
    assert (result.class_names, result.calibrated, result.calibration) == (NAMES, False, None)


@pytest.mark.slow
def test_a_loop_is_folds_at_once(result):
    loop = jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=4, execution=jaxdl.Execution(fold_strategy="loop"))
    np.testing.assert_array_equal(loop.out_of_fold.index, result.out_of_fold.index)
    np.testing.assert_allclose(loop.out_of_fold.kept, result.out_of_fold.kept, atol=1e-4)
    assert loop.mean == pytest.approx(result.mean, abs=1e-6)


def test_a_fold_is_what_fine_tuning_gives(result):
    test = result.out_of_fold.index[result.out_of_fold.fold == 0]
    tuned = jaxdl.finetune(MLP, data.subset(SOURCE, np.setdiff1d(np.arange(80), test)), PLAN)
    said = jaxdl.predict(tuned, data.subset(SOURCE, test))
    np.testing.assert_allclose(said.outputs, result.out_of_fold.kept[result.out_of_fold.fold == 0], atol=1e-4)
    np.testing.assert_allclose(said.probabilities, 1 / (1 + np.exp(-said.outputs)), atol=1e-6)
    assert said.scores["macro_f1"] == pytest.approx(result.folds[0]["macro_f1"])


def test_metrics_are_scikit_learns(result):
    found = result.metrics["folds"]
    for k, (truth, logits, said) in enumerate(folds_of(result)):
        f1 = [sk.f1_score(truth[:, i], said[:, i]) for i in range(3)]
        auc = [sk.roc_auc_score(truth[:, i], logits[:, i]) for i in range(3)]
        nats = [sk.log_loss(truth[:, i], 1 / (1 + np.exp(-logits[:, i]))) for i in range(3)]
        assert found["macro_f1"][k] == pytest.approx(np.mean(f1))
        assert found["macro_f1"][k] == pytest.approx(sk.f1_score(truth, said, average="macro"))
        assert found["micro_f1"][k] == pytest.approx(sk.f1_score(truth, said, average="micro"))
        assert found["mean_auc"][k] == pytest.approx(np.mean(auc))
        assert found["mean_auc"][k] == pytest.approx(sk.roc_auc_score(truth, logits, average="macro"))
        assert found["label_accuracy"][k] == pytest.approx(1 - sk.hamming_loss(truth, said))
        assert found["subset_accuracy"][k] == pytest.approx(sk.accuracy_score(truth, said))
        assert found["log_loss"][k] == pytest.approx(np.mean(nats), rel=1e-6)
        assert result.folds[k]["loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert result.mean == pytest.approx(np.mean(found["macro_f1"]))
    truth, logits, said = map(np.concatenate, zip(*folds_of(result), strict=True))
    pooled = result.metrics["pooled"]
    assert pooled["macro_f1"] == pytest.approx(sk.f1_score(truth, said, average="macro"))
    assert pooled["mean_auc"] == pytest.approx(np.mean(found["mean_auc"]))  # networks share no scale
    assert result.interval["low"] < pooled["macro_f1"] < result.interval["high"]
    assert result.mean > result.baseline["macro_f1"] + 0.1


def test_each_label_alone(result):
    """A metric of a user that looks at one column is that of scikit-learn there."""
    held = result.out_of_fold
    for place in range(3):
        found = result.sample(lambda truth, said, place=place: sk.f1_score(truth[:, place], said[:, place]))
        wanted = sk.f1_score(held.target[:, place], held.kept[:, place] > 0)
        assert found.pooled_score == pytest.approx(wanted)


@pytest.mark.parametrize("asked", ["f1", "mean_auc", "f1_samples", "label_accuracy"])
def test_another_metric_is_the_score(asked, result):
    found = jaxdl.cross_validate(
        MLP, SOURCE, PLAN, metrics=asked, folds=4, execution=jaxdl.Execution(fold_strategy="vmap")
    )
    score = {
        "f1": lambda t, z, p: sk.f1_score(t, p, average="macro"),
        "mean_auc": lambda t, z, p: sk.roc_auc_score(t, z),
        "f1_samples": lambda t, z, p: sk.f1_score(t, p, average="samples", zero_division=0),
        "label_accuracy": lambda t, z, p: 1 - sk.hamming_loss(t, p),
    }[asked]
    assert found.mean == pytest.approx(np.mean([score(*fold) for fold in folds_of(found)]), rel=1e-6)
    assert found.interval["about"].startswith(found.metric)


def test_it_is_saved_and_read_again(result, tmp_path):
    again = jaxdl.load_result(result.save(tmp_path / "run"))
    assert again.as_dict() == json.loads(json.dumps(result.as_dict()))
    for name, array in result.out_of_fold.arrays().items():
        np.testing.assert_array_equal(again.out_of_fold.arrays()[name], array)
    assert again.asked == result.asked
    assert again.sample().pooled_score == result.sample().pooled_score
    assert jaxdl.interval(again).low == result.interval["low"]


def test_a_checkpoint_is_saved_and_read_again(result, tmp_path):
    path = jaxdl.save(result.models[0], tmp_path / "one")
    again = jaxdl.restore(path)
    assert again.card == result.models[0].card
    said = jaxdl.predict(again, NEW)
    np.testing.assert_array_equal(said.outputs, jaxdl.predict(result.models[0], NEW).outputs)
    columns = said.task.columns(said.outputs)
    assert columns["predicted"][0] == " ".join(np.array(NAMES)[said.predicted[0]])
    turned = data.arrays(NEW.x, NEW.labels[:, ::-1], class_names=NAMES[::-1])  # labels are known by their names
    assert jaxdl.predict(again, turned).scores == said.scores
    with pytest.raises(InputError, match="bird"):
        jaxdl.predict(again, data.arrays(NEW.x, NEW.labels[:, :2], class_names=NAMES[:2]))


def test_the_mean_probability_of_an_ensemble(result, tmp_path):
    made = jaxdl.load_ensemble(jaxdl.save_ensemble(jaxdl.ensemble(result), tmp_path / "made"))
    alone = np.mean([jaxdl.predict(one, NEW).probabilities for one in result.models], axis=0)
    together = made.predict(NEW)
    np.testing.assert_allclose(together.probabilities, alone, atol=1e-6)
    assert together.scores["macro_f1"] == pytest.approx(sk.f1_score(NEW.labels, alone > 0.5, average="macro"))
    with pytest.raises(InputError, match="80 of the 80"):
        _ = made.predict(SOURCE).scores
    held = result.out_of_fold
    np.testing.assert_allclose(made.out_of_fold(SOURCE).outputs[held.index], held.kept, atol=1e-4)


def test_a_learning_curve():
    curve = jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[10, 60], folds=4, execution=jaxdl.Execution())
    assert (curve.metric, [p["size"] for p in curve.points]) == ("macro_f1", [10, 60])
    for point, found in zip(curve.points, curve.results, strict=True):
        wanted = [sk.f1_score(t, p, average="macro") for t, _, p in folds_of(found)]
        assert point["folds"] == pytest.approx(wanted)
        assert point["interval"]["about"].startswith("macro_f1")


@pytest.mark.slow
def test_a_search():
    searching = jaxdl.Searching(inner_folds=2)
    found = jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-6, 2e-2]}, searching, folds=2)
    assert found.choices == [1, 1]
    assert found.result.mean == pytest.approx(
        np.mean([sk.f1_score(t, p, average="macro") for t, _, p in folds_of(found.result)])
    )


def test_results_are_compared(result):
    other = jaxdl.cross_validate(MLP, SOURCE, jaxdl.Plan(epochs=1, learning_rate=1e-5), folds=4)
    found = jaxdl.compare({"trained": result, "hardly": other}, metric="mean_auc")
    assert list(found.scores) == ["trained", "hardly"]
    assert found.pairs[0].difference > 0


@pytest.mark.slow
def test_nested_intervals_are_of_means_alone(result):
    with pytest.raises(InputError, match="macro_f1"):
        jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=4, interval="nested")
    found = jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=4, metrics="label_accuracy", interval=("nested", 1))
    assert found.interval["method"] == "nested"
    assert found.interval["low"] < found.mean < found.interval["high"]


def test_heads_on_frozen_features_are_not_for_it(result):
    with pytest.raises(InputError, match="multilabel"):
        jaxdl.probe_checkpoint(result.models[0], NEW, folds=2)
    with pytest.raises(InputError, match="3 labels"):
        result.confusion_matrix()
