"""What is made of held-out predictions, against counting."""

import math

import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.report.predictions import (
    class_scores,
    least_certain,
    most_certain_right,
    most_wrong,
    reliability,
)
from jaxdl.tasks import Classification
from jaxdl.validation.result import OutOfFold

TASK = Classification(("no", "yes"))


def test_scores_of_classes_equal_counting():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 4, 200), random.integers(0, 4, 200)
    predicted = np.where(random.random(200) < 0.6, labels, predicted)
    predicted[predicted == 3] = 2  # nothing is given class 3, and class 4 does not occur
    found = class_scores(labels, predicted, 5)
    sums = np.zeros(3)
    for c in range(5):
        hit = sum(y == c and p == c for y, p in zip(labels, predicted, strict=True))
        said, held = sum(predicted == c), sum(labels == c)
        precision = hit / said if said else math.nan
        recall = hit / held if held else math.nan
        f1 = 2 * hit / (said + held) if said + held else math.nan
        scores = found.precision[c], found.recall[c], found.f1[c]
        np.testing.assert_allclose(scores, (precision, recall, f1))
        assert found.support[c] == held
        sums += np.nan_to_num((precision, recall, f1)) if held else 0
    assert math.isnan(found.precision[3])
    assert found.recall[3] == 0
    assert math.isnan(found.recall[4])
    np.testing.assert_allclose(found.macro, sums / 4)
    with pytest.raises(InputError, match="no predictions"):
        class_scores(labels[:0], predicted[:0], 5)


def test_macro_is_that_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    random = np.random.default_rng(1)
    labels, predicted = random.integers(0, 3, (2, 80))
    expected = precision_recall_fscore_support(labels, predicted, average="macro")[:3]
    np.testing.assert_allclose(class_scores(labels, predicted, 3).macro, expected)


def brute_force_error(p, labels, bins):
    """Equation 3 of Guo et al., bin by bin and example by example."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(p)) if (m - 1) / bins < max(p[i]) <= m / bins]
        if inside:
            accuracy = sum(int(np.argmax(p[i])) == labels[i] for i in inside) / len(inside)
            confidence = sum(max(p[i]) for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_brute_force(bins):
    random = np.random.default_rng(bins)
    p = random.dirichlet((0.5,) * 4, 300)
    labels = random.integers(0, 4, 300)
    found = reliability(p, labels, bins)
    assert found.expected_calibration_error == pytest.approx(brute_force_error(p, labels, bins))
    assert found.count.sum() == 300
    empty = found.count == 0
    assert np.isnan(found.accuracy[empty]).all()
    assert np.isfinite(found.accuracy[~empty]).all()


def test_calibration_at_the_edges():
    p = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25], [0.75, 0.25]])
    found = reliability(p, np.array([1, 0, 0, 1]), bins=4)
    assert found.count.tolist() == [0, 1, 2, 1]  # a bin holds its upper edge
    # |0 - 0.5| / 4 + |0.5 - 0.75| · 2 / 4 + 0
    assert found.expected_calibration_error == pytest.approx(0.25)
    perfect = reliability(np.eye(3), np.arange(3))
    assert perfect.expected_calibration_error == 0
    for bad in (p[:0], np.full((2, 2), np.nan)):
        with pytest.raises(InputError, match="at least one example"):
            reliability(bad, np.zeros(len(bad), int))


def held():
    """Predictions with probabilities that are easy to see; example 7 is predicted in two folds."""
    p = {3: 0.9, 5: 0.6, 7: 0.55, 8: 0.8, 9: 0.95}
    rows = [(3, 0, 1, 0), (5, 0, 0, 0), (7, 0, 1, 1), (8, 1, 1, 1), (9, 1, 0, 1), (7, 1, 1, 0)]
    logits = [[math.log(p[index]), math.log(1 - p[index])][:: 1 if said == 0 else -1] for index, _, _, said in rows]
    index, fold, label, _ = np.array(rows).T
    return OutOfFold(index, fold, label, np.float64(logits))


def chosen(rows):
    return [(row["index"], row["fold"], row["label"], row["predicted"], round(row["probability"], 6)) for row in rows]


def test_examples_are_chosen_by_their_probability():
    assert chosen(most_wrong(held(), TASK, 2)) == [(9, 1, 0, 1, 0.95), (3, 0, 1, 0, 0.9)]
    assert chosen(least_certain(held(), TASK, 3)) == [(7, 0, 1, 1, 0.55), (5, 0, 0, 0, 0.6), (8, 1, 1, 1, 0.8)]
    # the best of each class first, then the second of each
    assert chosen(most_certain_right(held(), TASK, 9)) == [(8, 1, 1, 1, 0.8), (5, 0, 0, 0, 0.6), (7, 0, 1, 1, 0.55)]
