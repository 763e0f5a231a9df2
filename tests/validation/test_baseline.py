"""The baseline of a result is what scikit-learn's models that know nothing but the targets say of the same folds."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor

import jaxdl
from jaxdl import data

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype(np.float32)
CLASSES = RNG.choice(3, 90, p=[0.6, 0.3, 0.1])
NUMBERS = (100 + 7 * RNG.normal(size=90)).astype(np.float32)
LABELS = (RNG.random((90, 3)) < [0.7, 0.4, 0.1]).astype(np.uint8)
PLAN = jaxdl.Plan(epochs=1, batch_size=32)


def run(y, outputs, **options):
    return jaxdl.cross_validate(jaxdl.create("mlp", outputs, hidden=(4,)), data.arrays(X, y), PLAN, folds=3, **options)


def parts(result):
    """Training and test part of each fold, from what the result tells of the latter."""
    held = result.out_of_fold
    for row in result.folds:
        test = held.index[held.fold == row["fold"]]
        yield np.setdiff1d(np.arange(90), test), test


def test_of_classes():
    result = run(CLASSES, 3)
    accuracy, loss = [], []
    for train, test in parts(result):
        dummy = DummyClassifier(strategy="prior").fit(X[train], CLASSES[train])
        accuracy += (dummy.predict(X[test]) == CLASSES[test]).tolist()
        loss += (-np.log(dummy.predict_proba(X[test])[np.arange(len(test)), CLASSES[test]])).tolist()
    assert result.baseline["accuracy"] == pytest.approx(np.mean(accuracy))
    assert result.baseline["log_loss"] == pytest.approx(np.mean(loss), rel=1e-5)


def test_of_classes_by_other_metrics():
    result = run(CLASSES, 3, metrics="balanced_accuracy")
    said, truth = [], []
    for train, test in parts(result):
        said += DummyClassifier(strategy="most_frequent").fit(X[train], CLASSES[train]).predict(X[test]).tolist()
        truth += CLASSES[test].tolist()
    assert result.baseline["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, said))
    assert run(CLASSES, 3, metrics="auc").baseline["auc"] == 0.5  # who says the same of all ranks nothing


def test_of_numbers(tmp_path):
    result = run(NUMBERS, 1)
    said, truth = [], []
    for train, test in parts(result):
        said += DummyRegressor().fit(X[train], NUMBERS[train]).predict(X[test]).tolist()
        truth += NUMBERS[test].tolist()
    assert result.baseline["mse"] == pytest.approx(sk.mean_squared_error(truth, said), rel=1e-5)
    assert result.baseline["r2"] == pytest.approx(sk.r2_score(truth, said), abs=1e-5)
    assert result.baseline["r2"] < 0  # the training mean is not that of the held-out rows
    again = jaxdl.load_result(result.save(tmp_path / "run"))
    assert again.baseline == json.loads(json.dumps(result.baseline))


def test_of_labels():
    """Log-odds with an example more on either side: a label that never occurs in training is no certainty."""
    result = run(LABELS, 3)
    said, nats, truth = [], [], []
    for train, test in parts(result):
        shares = (LABELS[train].sum(0) + 1) / (len(train) + 2)
        said += np.tile(shares > 0.5, (len(test), 1)).tolist()
        nats += (-np.log(np.where(LABELS[test] == 1, shares, 1 - shares)).mean(1)).tolist()
        truth += LABELS[test].tolist()
    dummy = DummyClassifier(strategy="most_frequent").fit(X, LABELS).predict(X)
    np.testing.assert_array_equal(
        dummy[result.out_of_fold.index], said
    )  # every fold's most frequent ones are those of all
    # labels that nobody has and nobody is said to have count for nothing, in scikit-learn as 0 of all labels
    known = [place for place in range(3) if np.any(truth, 0)[place] or np.any(said, 0)[place]]
    wanted = sk.f1_score(truth, said, average=None, zero_division=0)[known].mean()
    assert result.baseline["macro_f1"] == pytest.approx(wanted)
    assert result.baseline["log_loss"] == pytest.approx(np.mean(nats), rel=1e-5)


@pytest.mark.slow
def test_of_a_search():
    model = jaxdl.create("mlp", 3, hidden=(4,))
    source, searching = data.arrays(X, CLASSES), jaxdl.Searching(inner_folds=2)
    found = jaxdl.search(model, source, PLAN, {"learning_rate": [1e-3, 1e-2]}, searching, folds=3)
    assert found.result.baseline == run(CLASSES, 3).baseline
