"""The loss and the metrics of classification, against numpy and scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from jaxdl.tasks.classification import Classification, probabilities


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (50, 4)).astype(np.float32), rng.integers(0, 4, 50).astype(np.int32)


def _log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_of_each_example(answers, smoothing):
    logits, labels = answers
    task = Classification(4, smoothing)
    assert task.num_outputs == 4
    log_p = _log_softmax(logits)
    picked = log_p[np.arange(50), labels]
    expected = -(1 - smoothing) * picked - smoothing * log_p.mean(-1)
    loss = task.loss(logits, labels)
    assert loss.shape == (50,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    slope = jax.grad(lambda z: task.loss(z, labels).sum())(logits)
    np.testing.assert_allclose(slope, np.exp(log_p) - target, atol=1e-5)


def test_loss_is_float32_and_finite_whatever_comes_in(answers):
    logits, labels = answers
    half = jax.numpy.asarray(logits, "bfloat16")
    loss = Classification(4).loss(half, labels)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, -_log_softmax(np.asarray(half, np.float32))[np.arange(50), labels], rtol=1e-5)
    far = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    np.testing.assert_allclose(Classification(2).loss(far, np.array([1, 1])), [1e4, 0])


def test_metrics_are_those_of_scikit_learn(answers):
    logits, labels = answers
    task = Classification(4, label_smoothing=0.2)  # which the metrics do not use
    measured = task.evaluate(logits, labels)
    assert measured["accuracy"] == accuracy_score(labels, logits.argmax(-1))
    np.testing.assert_allclose(measured["loss"], log_loss(labels, np.exp(_log_softmax(logits))), rtol=1e-9)
    assert 0 < measured["accuracy"] < 1
    each = task.scores(logits, labels)
    assert set(each) == {"accuracy"}
    np.testing.assert_array_equal(each["accuracy"], logits.argmax(-1) == labels)
    assert task.metric in measured


def test_metrics_of_extreme_logits():
    measured = Classification(2).evaluate(np.array([[2e4, 0], [0, 2e4]]), np.array([0, 0]))
    assert measured == {"accuracy": 0.5, "loss": 1e4}


def test_probabilities(answers):
    logits, _ = answers
    np.testing.assert_allclose(probabilities(logits), np.exp(_log_softmax(logits)), rtol=1e-12)
    np.testing.assert_allclose(probabilities(logits + 5000).sum(-1), 1)
