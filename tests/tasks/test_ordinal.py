"""Classes in order: probabilities, loss, gradient and scores, against closed forms, finite differences and
scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit
from sklearn import metrics as sk

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import Classification, choose_task
from jaxdl.tasks.ordinal import Ordinal

NAMES = ("1-low", "2-middle", "3-high", "4-top")
TASK = Ordinal(NAMES)
RANDOM = np.random.default_rng(0)
OUTPUTS = np.float32(RANDOM.normal(0, 3, (50, 3)))
TARGETS = RANDOM.integers(0, 4, 50)


def by_hand(outputs):
    """Probabilities of the cumulative logit model, in float64."""
    outputs = outputs.astype(np.float64)
    above = outputs[:, :1] - np.concatenate(
        [np.zeros((len(outputs), 1)), np.cumsum(np.logaddexp(0, outputs[:, 1:]), 1)], 1
    )
    reached = np.concatenate([np.ones((len(outputs), 1)), expit(above), np.zeros((len(outputs), 1))], 1)
    return -np.diff(reached, axis=1)


def test_probabilities_and_loss_are_those_of_the_cumulative_model():
    p = by_hand(OUTPUTS)
    kept = TASK.predict(jnp.asarray(OUTPUTS), {})
    np.testing.assert_allclose(np.exp(kept), p, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(TASK.probabilities(kept).sum(1), 1)
    loss, count = TASK.loss(jnp.asarray(OUTPUTS), jnp.asarray(TARGETS), {})
    np.testing.assert_allclose(loss, -np.log(p[np.arange(50), TARGETS]), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(count, np.ones(50))
    total = lambda z: -np.log(by_hand(z)[np.arange(50), TARGETS]).sum()  # noqa: E731
    slope = jax.grad(lambda z: TASK.loss(z, jnp.asarray(TARGETS), {})[0].sum())(jnp.asarray(OUTPUTS))
    wide = OUTPUTS.astype(np.float64)
    for row, column in ((0, 0), (3, 1), (7, 2)):
        step = np.zeros_like(wide)
        step[row, column] = 1e-5
        expected = (total(wide + step) - total(wide - step)) / 2e-5
        assert float(slope[row, column]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_loss_and_gradient_are_finite_however_large_the_outputs():
    outputs = jnp.asarray([[1e4, 50.0, -50.0], [-1e4, -200.0, -200.0], [0.0, -1e4, 1e4]])
    for target in range(4):
        loss, slope = jax.value_and_grad(lambda z, t=target: TASK.loss(z, jnp.full(3, t), {})[0].sum())(outputs)
        assert np.isfinite(float(loss))
        assert np.isfinite(slope).all()


def test_two_classes_are_a_logistic_regression():
    task = Ordinal(("no", "yes"))
    assert task.num_outputs == 1
    loss, _ = task.loss(jnp.asarray(OUTPUTS[:, :1]), jnp.asarray(TARGETS % 2), {})
    np.testing.assert_allclose(loss, -log_expit(OUTPUTS[:, 0] * (2 * (TARGETS % 2) - 1)), rtol=1e-4, atol=1e-6)


def test_scores_are_scikit_learns():
    kept = np.log(by_hand(OUTPUTS)).astype(np.float32)
    record, said = TASK.host_record(kept, TARGETS), kept.argmax(1)
    expected = {
        "quadratic_kappa": sk.cohen_kappa_score(TARGETS, said, weights="quadratic"),
        "rank_mae": sk.mean_absolute_error(TARGETS, said),
        "accuracy": sk.accuracy_score(TARGETS, said),
        "log_loss": sk.log_loss(TARGETS, by_hand(OUTPUTS)),
    }
    for name, value in expected.items():
        assert TASK.metrics[name].score(record) == pytest.approx(value, rel=1e-4), name
    weights = RANDOM.integers(0, 3, 50).astype(float)
    weighted = sk.cohen_kappa_score(TARGETS, said, weights="quadratic", sample_weight=weights)
    assert TASK.metrics["quadratic_kappa"].score(record, weights) == pytest.approx(weighted)
    each = TASK.train_scores(jax.jit(TASK.record)(kept, TARGETS))
    assert float(each["rank_mae"].mean()) == pytest.approx(expected["rank_mae"])


@pytest.mark.parametrize(
    ("names", "fine"),
    [
        (("1", "2", "10"), True),
        (("low", "middle", "high"), True),  # in an order that somebody gave them
        (("no", "yes"), True),
        (("high", "low", "middle"), False),  # as they are spelled
        (("1", "10", "2"), False),
    ],
)
def test_an_order_that_is_only_one_of_spelling_is_asked_about(names, fine):
    source = data.arrays(np.zeros((12, 2), np.float32), np.arange(12) % len(names), class_names=names)
    if fine:
        assert choose_task(source, "ordinal", purpose="a test").names == names
    else:
        with pytest.raises(InputError, match=" < ".join(names)):
            choose_task(source, "ordinal", purpose="a test")
    assert choose_task(source, Ordinal(names), purpose="a test").names == names  # as the message advises
    assert choose_task(source, purpose="a test").name == "classification"
    with pytest.raises(InputError, match="another order"):
        choose_task(source, Ordinal(names[::-1]), purpose="a test")


def test_folds_learn_an_order_save_it_and_predict(tmp_path):
    x = np.float32(RANDOM.normal(size=(80, 3)))
    y = np.digitize(x[:, 0] + 0.3 * RANDOM.normal(size=80), [-0.8, 0, 0.8])
    source = data.arrays(x, y, class_names=NAMES, task="ordinal")
    plan = jaxdl.Plan(epochs=30, batch_size=20, learning_rate=2e-2)
    how = jaxdl.Execution(fold_strategy="vmap", keep_models=True)
    model = jaxdl.create("mlp", 3, hidden=(8,))
    result = jaxdl.cross_validate(model, source, plan, task="ordinal", folds=3, execution=how)
    assert result.mean > 0.7  # quadratic kappa
    assert result.interval["low"] < result.sample().pooled_score < result.interval["high"]
    frame = result.to_frame()
    ranks = [[NAMES.index(word) for word in frame[column]] for column in ("target", "predicted")]
    pooled = sk.cohen_kappa_score(*ranks, weights="quadratic")
    assert result.sample().pooled_score == pytest.approx(pooled)
    np.testing.assert_array_equal(result.confusion_matrix(), sk.confusion_matrix(*ranks, labels=range(4)))
    page = jaxdl.write_page(tmp_path / "page.html", "Grades", {"mlp": result}, source=source).read_text()
    assert "Which classes are confused" in page
    assert Ordinal.CONFORMAL == Classification.CONFORMAL
    assert jaxdl.load_result(result.save(tmp_path / "run")).asked == result.asked
    restored = jaxdl.restore(jaxdl.save(result.models[0], tmp_path / "network"))
    assert restored.task == TASK
    said = jaxdl.predict(restored, data.arrays(x))
    np.testing.assert_allclose(said.probabilities.sum(1), 1, atol=1e-6)
