"""Several numbers per example: loss, gradient and scores, against closed forms, scikit-learn and a regression."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.tasks.multitarget import MultiTarget

NAMES = ("length", "mass")
TASK = MultiTarget(NAMES)
RANDOM = np.random.default_rng(0)
TARGETS = np.float32(RANDOM.normal(size=(40, 2)) * [1, 1000] + [5, -3000])
SAID = np.float32(TARGETS + RANDOM.normal(size=(40, 2)) * [0.5, 800])


def test_loss_and_gradient_count_all_numbers_alike_whatever_their_units():
    constants = TASK.fit(TARGETS)
    outputs = np.float32(RANDOM.normal(size=(40, 2)))
    scaled = (TARGETS.astype(np.float64) - TARGETS.mean(0, float)) / TARGETS.std(0, dtype=float)
    loss, count = TASK.loss(jnp.asarray(outputs), jnp.asarray(TARGETS), constants)
    np.testing.assert_allclose(loss, np.square(outputs - scaled).mean(1), rtol=1e-4)
    np.testing.assert_array_equal(count, np.ones(40))
    slope = jax.grad(lambda z: TASK.loss(z, jnp.asarray(TARGETS), constants)[0].sum())(jnp.asarray(outputs))
    np.testing.assert_allclose(slope, outputs - scaled, atol=1e-4)
    said = TASK.predict(jnp.asarray(scaled), constants)
    np.testing.assert_allclose(TASK.predicted(said), TARGETS, rtol=1e-4)


def test_scores_are_scikit_learns():
    kept = {"numbers": SAID, "spread": np.tile(TARGETS.std(0), (40, 1))}
    record = TASK.host_record(kept, TARGETS)
    truth, said = TARGETS.astype(float), SAID.astype(float)
    each = sk.r2_score(truth, said, multioutput="raw_values")
    expected = {
        "mean_r2": sk.r2_score(truth, said),
        "standardised_mse": np.mean(sk.mean_squared_error(truth, said, multioutput="raw_values") / TARGETS.var(0)),
        **{f"r2:{name}": value for name, value in zip(NAMES, each, strict=True)},
        **{f"mae:{name}": np.abs(truth - said)[:, place].mean() for place, name in enumerate(NAMES)},
    }
    assert set(expected) == set(TASK.metrics)
    for name, value in expected.items():
        assert TASK.metrics[name].score(record) == pytest.approx(value, rel=1e-5), name
    weights = RANDOM.integers(0, 3, 40).astype(float)
    weighted = TASK.metrics["mean_r2"].score(record, weights)
    assert weighted == pytest.approx(sk.r2_score(truth, said, sample_weight=weights), rel=1e-6)
    assert np.isnan(TASK.metrics["mean_r2"].score(TASK.host_record(kept, np.ones_like(TARGETS))))
    asked = choose_task(data.arrays(SAID, TARGETS), None, "explained_variance", purpose="a test")
    assert asked.score.score(record) == pytest.approx(sk.explained_variance_score(truth, said), rel=1e-5)


def test_the_baseline_is_the_mean_and_weights_are_rows_repeated():
    guess = TASK.baseline(TARGETS, 3)
    np.testing.assert_allclose(guess["numbers"], np.tile(TARGETS.mean(0, float), (3, 1)), rtol=1e-6)
    weights = RANDOM.integers(0, 3, 40)
    repeated = TASK.fit(np.repeat(TARGETS, weights, 0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), TASK.fit_weighted(TARGETS, weights), repeated
    )


def test_one_number_is_learned_as_a_regression_does():
    x, plan = np.float32(RANDOM.normal(size=(40, 3))), jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)
    model = jaxdl.create("mlp", 1, hidden=(4,))
    alone = jaxdl.finetune(model, data.arrays(x, TARGETS[:, 1]), plan)
    several = jaxdl.finetune(model, data.arrays(x, TARGETS[:, 1:], class_names=["mass"]), plan)
    assert several.task == MultiTarget(("mass",))
    said, expected = (jaxdl.predict(one, data.arrays(x)).predicted for one in (several, alone))
    np.testing.assert_allclose(said[:, 0], expected, rtol=1e-5)


def test_what_a_matrix_is_follows_from_its_values(tmp_path):
    x = np.zeros((6, 2), np.float32)
    numbers, zeros = TARGETS[:6], np.eye(2)[[0, 1, 0, 1, 0, 0]]
    kinds = {name: choose_task(data.arrays(x, y), purpose="a test").name for name, y in (("a", numbers), ("b", zeros))}
    assert kinds == {"a": "multitarget", "b": "multilabel"}
    with pytest.raises(InputError, match="task multitarget"):  # labels with a mistake, or numbers?
        data.arrays(x, 2 * zeros)
    forced = data.arrays(x, 2 * zeros, task="multitarget")
    assert choose_task(forced, purpose="a test").name == "multitarget"
    (tmp_path / "t.csv").write_text(
        "x,length,mass\n" + "".join(f"{i},{a:.3f},{b:.3f}\n" for i, (a, b) in enumerate(numbers))
    )
    table = data.csv(tmp_path / "t.csv", ["length", "mass"])
    assert table.class_names == NAMES
    np.testing.assert_allclose(table.targets(), numbers, atol=1e-3)
    assert table.to_frame()["target:mass"].tolist() == table.targets()[:, 1].tolist()


def test_targets_are_matched_by_name_and_mistakes_are_named():
    np.testing.assert_array_equal(TASK.match(TARGETS, ("mass", "length")), TARGETS[:, ::-1])
    with pytest.raises(InputError, match="mass"):
        TASK.match(TARGETS, ("length", "width"))
    bad = TARGETS.copy()
    bad[4, 1] = np.inf
    with pytest.raises(InputError, match="'mass' at index 4"):
        TASK.check(bad, 40, "the data", "a test")
    with pytest.raises(InputError, match="no R²"):
        TASK.check_test(1, "a test")
    dataclasses.replace(TASK, metric="standardised_mse").check_test(1, "a test")  # as it says
