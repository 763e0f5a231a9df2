"""The loss and the metrics of classification, against numpy, scikit-learn and slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from jaxdl.errors import InputError
from jaxdl.tasks.classification import MOST_NATS, Classification, probabilities

NAMES = ("ant", "bee", "cow", "dog")


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
    task = Classification(NAMES, label_smoothing=smoothing)
    assert task.num_outputs == 4
    log_p = _log_softmax(logits)
    picked = log_p[np.arange(50), labels]
    expected = -(1 - smoothing) * picked - smoothing * log_p.mean(-1)
    loss, count = task.loss(logits, labels, task.fit(labels))
    assert loss.shape == count.shape == (50,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(count, 1)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    slope = jax.grad(lambda z: task.loss(z, labels, {})[0].sum())(logits)
    np.testing.assert_allclose(slope, np.exp(log_p) - target, atol=1e-5)


@pytest.mark.parametrize("weights", [{"bee": 4.0, "cow": 0.0}, "balanced"])
def test_weighted_loss_and_count_are_those_of_a_slow_loop(answers, weights):
    logits, labels = answers
    labels = np.where(labels == 3, 0, labels)  # a class without an example, and uneven shares
    task = Classification(NAMES, label_smoothing=0.1, class_weights=weights)
    constants = task.fit(labels)
    assert constants["class_weights"].dtype == np.float32
    loss, count = task.loss(logits, labels, constants)
    for i, (row, label) in enumerate(zip(_log_softmax(logits), labels, strict=True)):
        if weights == "balanced":
            factor = 50 / (3 * sum(other == label for other in labels))
        else:
            factor = weights.get(NAMES[label], 1.0)
        nats = sum(-(0.9 * (label == k) + 0.1 / 4) * row[k] for k in range(4))
        assert float(count[i]) == pytest.approx(factor, rel=1e-6)
        assert float(loss[i]) == pytest.approx(factor * nats, rel=1e-5, abs=1e-6)


def test_class_weights_that_leave_nothing_are_refused(answers):
    _, labels = answers
    with pytest.raises(InputError, match="class_weights"):
        Classification(NAMES, class_weights=dict.fromkeys(NAMES, 0.0)).fit(labels)
    with pytest.raises(InputError, match="'cat'"):
        Classification(NAMES).with_options(class_weights={"cat": 2.0})


def test_loss_is_float32_and_finite_whatever_comes_in(answers):
    logits, labels = answers
    half = jnp.asarray(logits, "bfloat16")
    loss, count = Classification(NAMES).loss(half, labels, {})
    assert loss.dtype == count.dtype == np.float32
    np.testing.assert_allclose(loss, -_log_softmax(np.asarray(half, np.float32))[np.arange(50), labels], rtol=1e-5)
    far = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    np.testing.assert_allclose(Classification(("a", "b")).loss(far, np.array([1, 1]), {})[0], [1e4, 0])


def test_metrics_are_those_of_scikit_learn(answers):
    logits, labels = answers
    task = Classification(NAMES, label_smoothing=0.2)  # which the metrics do not use
    measured = task.evaluate(logits, labels)
    assert measured["accuracy"] == accuracy_score(labels, logits.argmax(-1))
    np.testing.assert_allclose(measured["loss"], log_loss(labels, np.exp(_log_softmax(logits))), rtol=1e-9)
    assert 0 < measured["accuracy"] < 1
    assert task.metric in measured
    each = task.train_scores(jax.jit(task.record)(logits, labels))
    assert set(each) == {"accuracy"}
    np.testing.assert_array_equal(each["accuracy"], logits.argmax(-1) == labels)


def test_what_curves_read_is_part_of_the_record_and_enough(answers):
    logits, labels = answers
    for metrics in (None, "auc", ["macro_f1", "brier"]):
        task = Classification(NAMES).scored_by(metrics)
        record = task.host_record(logits, labels)
        few = task.curve_record(record)
        assert set(few) < set(record)
        assert task.evaluate_record(few) == task.evaluate_record(record) == task.evaluate(logits, labels)


def test_metrics_of_extreme_logits():
    """A truth that is called impossible costs what it costs in scikit-learn."""
    logits, labels = np.array([[2e4, 0], [0, 2e4]]), np.array([0, 0])
    measured = Classification(("a", "b")).evaluate(logits, labels)
    assert measured == {"accuracy": 0.5, "loss": MOST_NATS / 2}
    assert measured["loss"] == pytest.approx(log_loss(labels, probabilities(logits), labels=[0, 1]), rel=1e-9)


def test_probabilities(answers):
    logits, _ = answers
    np.testing.assert_allclose(probabilities(logits), np.exp(_log_softmax(logits)), rtol=1e-12)
    np.testing.assert_allclose(probabilities(logits + 5000).sum(-1), 1)


def test_several_networks_say_the_mean_of_their_probabilities(answers):
    logits, _ = answers
    members = np.stack([logits, logits[::-1], -logits])
    weights = np.random.default_rng(1).uniform(0.1, 1, (3, 50)).astype(np.float32)
    found = probabilities(np.asarray(Classification(NAMES).combine(jnp.asarray(members), jnp.asarray(weights))))
    expected = (probabilities(members) * weights[..., None]).sum(0) / weights.sum(0)[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_classes_are_matched_by_name():
    task = Classification(NAMES)
    found = task.match(np.array([0, 1, 2, 1]), ("dog", "ant", "elk"))
    assert found.tolist() == [3, 0, -1, 0]
    assert task.known(found).tolist() == [True, True, False, True]
