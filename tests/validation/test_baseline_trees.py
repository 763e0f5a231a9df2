"""Gradient-boosted trees beside a result: what scikit-learn says of the same folds, and where they are left out."""

import dataclasses
import re

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import jaxdl
from jaxdl import data
from jaxdl.report.table import baseline_rows, beside, left_out, results_table, uneven
from jaxdl.tasks import Classification, Regression
from jaxdl.validation.baselines import MOST_ENTRIES, TREES, grow_trees
from jaxdl.validation.statistics.compare import compare

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
RARE = (X[:, 0] + X[:, 1] ** 2 > 1.6).astype(np.int32)
NUMBERS = X[:, 0] + X[:, 1] ** 2


@pytest.fixture(scope="module")
def probed():
    """Heads on the rows themselves, on the same three folds; of classes, and of numbers."""
    probing = jaxdl.Probing(heads=("ridge",), penalties=(1.0,))
    return [
        jaxdl.probe(X, y, probing=probing, folds=3, class_names=names)
        for y, names in ((RARE, ("common", "rare")), (NUMBERS, ()))
    ]


def told(result, name=TREES):
    return next(one for one in result.baselines if one["name"] == name)


def parts(result):
    held = result.out_of_fold
    for row in result.folds:
        test = held.index[held.fold == row["fold"]]
        yield np.setdiff1d(np.arange(len(X)), test), test


def test_trees_are_scikit_learns_on_the_same_folds(probed):
    classes, numbers = (made.result("ridge") for made in probed)
    for place, (train, test) in enumerate(parts(classes)):
        model = HistGradientBoostingClassifier(random_state=0).fit(X[train], RARE[train])
        found = {name: folds[place] for name, folds in told(classes)["folds"].items()}
        assert found["accuracy"] == pytest.approx(model.score(X[test], RARE[test]))
        assert found["log_loss"] == pytest.approx(sk.log_loss(RARE[test], model.predict_proba(X[test])), rel=1e-5)
        assert found["auc"] == pytest.approx(sk.roc_auc_score(RARE[test], model.predict_proba(X[test])[:, 1]))
        balanced = sk.balanced_accuracy_score(RARE[test], model.predict(X[test]))
        assert found["balanced_accuracy"] == pytest.approx(balanced)
    for place, (train, test) in enumerate(parts(numbers)):
        model = HistGradientBoostingRegressor(random_state=0).fit(X[train], NUMBERS[train])
        assert told(numbers)["folds"]["r2"][place] == pytest.approx(model.score(X[test], NUMBERS[test]), rel=1e-5)


def test_a_table_of_results_has_them_below_and_balanced_accuracy_where_classes_are_uneven(probed):
    classes, numbers = ({"ridge": made.result("ridge")} for made in probed)
    rows = baseline_rows(classes)
    assert [row["method"] for row in rows] == ["most frequent class", TREES]
    assert rows[0]["others"] == {"balanced_accuracy": "50.0 %"}
    assert rows[0]["mean"] == pytest.approx(np.mean([1 - RARE[test].mean() for _, test in parts(classes["ridge"])]))
    assert f"{100 * (1 - RARE.mean()):.1f} % of the examples are 'common'" in uneven(classes)
    recall = [sk.balanced_accuracy_score(*pair) for pair in _by_fold(classes["ridge"])]
    assert results_table(classes)[0]["others"] == {"balanced_accuracy": f"{100 * np.mean(recall):.1f} %"}
    assert ([row["method"] for row in baseline_rows(numbers)], uneven(numbers)) == (["mean", TREES], "")


def _by_fold(result):
    held = result.out_of_fold
    return [(held.target[held.fold == k], result.predicted[held.fold == k]) for k in range(len(result.folds))]


def test_they_are_kept_with_a_result_and_compared(probed, tmp_path):
    result = probed[0].result("ridge")
    again = jaxdl.load_result(result.save(tmp_path / "run"))
    assert again.baselines == result.baselines
    found = compare({"one": result, "two": again})
    assert found.baselines[TREES] == told(result)["folds"]["accuracy"]
    older = dataclasses.replace(result, baselines=None)
    assert (baseline_rows({"older": older}), compare({"a": older, "b": older}).baselines) == ([], {})


def test_an_even_choice_of_classes_says_nothing():
    task = Classification(("a", "b", "c"))
    assert task.uneven(np.arange(30) % 3) == ""
    assert "'a'" in task.uneven(np.r_[np.zeros(30, int), 1, 2])
    assert Regression().uneven(NUMBERS) == ""


@pytest.mark.parametrize(
    ("x", "folds", "said"),
    [
        (RNG.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8), 2, "no table"),
        (np.zeros((12, MOST_ENTRIES), np.float16), 2, "too large"),
        (RNG.normal(size=(60, 2)).astype(np.float32), 30, "30 folds"),
    ],
)
def test_where_they_are_left_out_the_reason_is_said(x, folds, said):
    source = data.arrays(x, np.arange(len(x)) % 2)
    test = np.array_split(np.arange(len(x)), folds)
    train = [np.setdiff1d(np.arange(len(x)), part) for part in test]
    found = grow_trees(source, Classification(("0", "1")), train, test)
    assert (found.kept, said in found.skipped) == (None, True)


def test_a_class_that_the_training_part_lacks_is_never_predicted():
    task = Classification(("a", "b", "c"))
    kept = task.boosted(X, RARE * 2, X[:7])
    assert kept.shape == (7, 3)
    assert set(kept.argmax(1)) <= {0, 2}
    np.testing.assert_array_equal(task.boosted(X[:5], np.ones(5, int), X[:7]).argmax(1), 1)


def test_reasons_are_sentences_of_a_page(probed):
    result = probed[0].result("ridge")
    skipped = [{"name": TREES, "folds": {}, "skipped": "it is Sunday"}]
    assert left_out({"ridge": dataclasses.replace(result, baselines=skipped)}) == [
        f"No {TREES} beside it: it is Sunday."
    ]


def test_a_sentence_gives_them_where_a_table_has_no_room(probed):
    result = probed[0].result("ridge")
    shares = [100 * np.mean(told(result, name)["folds"]["accuracy"]) for name in ("most frequent class", TREES)]
    numbers = re.findall(r"([\d.]+) %", beside({"ridge": result}))
    assert [float(number) for number in numbers] == pytest.approx(shares, abs=0.051)
    assert beside({"older": dataclasses.replace(result, baselines=None)}) == ""
