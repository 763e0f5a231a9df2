"""The score of a network on unseen examples: its interval against SciPy's."""

import numpy as np
import pytest
from scipy.stats import binomtest, sem, t

from jaxdl.tasks import Classification, Regression
from jaxdl.validation.statistics.unseen import score_on_unseen


def test_of_an_accuracy_it_is_wilsons():
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    logits = random.normal(size=(400, 2)).astype(np.float32) + 1.5 * np.eye(2, dtype=np.float32)[targets]
    found = score_on_unseen(Classification(("a", "b")), logits, targets, 50)
    right = int((logits.argmax(1) == targets).sum())
    expected = binomtest(right, 400).proportion_ci(0.95, method="wilson")
    assert found.estimate == right / 400
    assert "50 examples" in found.about
    np.testing.assert_allclose([found.low, found.high], expected, atol=1e-3)


def test_groups_are_taken_whole():
    """A group whose examples are right together counts as one: as wide as of the groups' means."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    right = np.repeat(random.random(40) < 0.7, 10)
    targets = np.zeros(400, int)
    logits = np.stack([np.where(right, 1.0, -1.0), np.zeros(400)], 1).astype(np.float32)
    task = Classification(("a", "b"))
    apart, whole = (score_on_unseen(task, logits, targets, 50, given) for given in (None, groups))
    assert whole.estimate == apart.estimate == right.mean()
    wilson = binomtest(int(right[::10].sum()), 40).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([whole.low, whole.high], wilson, atol=0.02)
    assert whole.high - whole.low > 2.5 * (apart.high - apart.low)


def test_of_an_error_it_is_students_on_the_scale_of_its_logarithm():
    random = np.random.default_rng(2)
    targets = random.normal(size=200).astype(np.float32)
    predicted = (targets + random.normal(size=200)).astype(np.float32)
    errors = np.abs(predicted - targets)
    found = score_on_unseen(Regression().scored_by("mae"), predicted[:, None], targets, 50)
    assert found.estimate == pytest.approx(errors.mean())
    half = t.ppf(0.975, 199) * sem(errors) / errors.mean()
    np.testing.assert_allclose([found.low, found.high], errors.mean() * np.exp([-half, half]), rtol=5e-3)


def test_of_a_single_example_there_is_none():
    assert score_on_unseen(Classification(("a", "b")), np.ones((1, 2), np.float32), np.zeros(1, int), 50) is None


@pytest.mark.parametrize("count", [3, 8, 49, 150])
def test_where_all_are_right_the_upper_end_is_1_and_the_lower_is_wilsons(count):
    """Of Student's quantile, since the examples are few; that rounding leaves a variance makes no difference."""
    logits = np.tile(np.float32([2.0, 0.3]), (count, 1))
    found = score_on_unseen(Classification(("a", "b")), logits, np.zeros(count, int), 50)
    square = t.ppf(0.975, count - 1) ** 2
    np.testing.assert_allclose([found.low, found.high], [count / (count + square), 1], rtol=1e-9)
