"""Weights of examples: what they do to the loss, and what they leave alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.data.source import Joined, Subset
from jaxdl.data.stream import TrainingOrder
from jaxdl.errors import InputError
from jaxdl.tasks import Classification
from jaxdl.training.step import Examples, _loss
from jaxdl.validation.probes.probe import Probing, probe_source

RANDOM = np.random.default_rng(0)
X, Y = np.float32(RANDOM.normal(size=(40, 4))), RANDOM.integers(0, 2, 40)
WEIGHTS = RANDOM.integers(0, 4, 40).astype(float)
SOURCE = data.arrays(X, Y, weights=WEIGHTS, groups=np.arange(40) // 2)
MLP = jaxdl.create("mlp", 2, hidden=(4,))
PLAN = jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)
HALVES = [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]


def test_a_source_keeps_its_weights_through_all_that_is_made_of_it():
    some = np.array([7, 3, 3])
    plain = data.arrays(X, Y)
    for source in (SOURCE, data.with_weights(Subset(plain, np.arange(40)), WEIGHTS)):
        for made in (source, source.with_groups(np.arange(40)), source.take(np.arange(40))):
            np.testing.assert_array_equal(made.weights, WEIGHTS)
            np.testing.assert_array_equal(made.take(some).weights, WEIGHTS[some])
        assert source.to_frame().weight.tolist() == WEIGHTS.tolist()
    for one, two in ((SOURCE, plain), (plain, SOURCE)):  # a validation part has none
        expected = np.concatenate([np.ones(40) if s.weights is None else s.weights for s in (one, two)])
        np.testing.assert_array_equal(Joined(one, two, np.tile(Y, 2)).weights, expected)
        np.testing.assert_array_equal(one.join(two, np.tile(Y, 2)).weights, expected)


def test_weights_are_part_of_what_a_run_is_of():
    plain = data.arrays(X, Y, groups=np.arange(40) // 2)
    others = [data.with_weights(plain, weights) for weights in (np.ones(40), WEIGHTS)]
    assert len({source.fingerprint() for source in (plain, *others)}) == 3
    assert others[1].fingerprint() == SOURCE.fingerprint()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (WEIGHTS[:-1], r"\[39\].* 40 examples"),
        (np.ones((40, 1)), r"\[40, 1\]"),
        (np.where(np.arange(40) == 3, -1, WEIGHTS), "index 3 is -1"),
        (np.where(np.arange(40) == 5, np.nan, WEIGHTS), "index 5 is nan"),
        (np.zeros(40), "all weights are 0"),
        (["much"] * 40, "weights are <U4"),
    ],
)
def test_what_cannot_be_weights_is_refused(weights, said):
    with pytest.raises(InputError, match=said):
        data.with_weights(SOURCE, weights)
    with pytest.raises(InputError, match=said):
        data.arrays(X, Y, weights=weights)


def test_an_npz_file_may_hold_weights(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y, weights=WEIGHTS)
    np.testing.assert_array_equal(data.npz(tmp_path / "d.npz").weights, WEIGHTS)


def test_batches_hold_the_weights_in_memory_and_streamed():
    (plain,), (weighted,) = (training_batches([np.arange(37)], 8, 0, [0], 2, w) for w in (None, WEIGHTS + 1))
    np.testing.assert_array_equal(weighted.indices, plain.indices)
    np.testing.assert_array_equal(weighted.weights, plain.weights * (WEIGHTS + 1)[plain.indices])
    np.testing.assert_array_equal(TrainingOrder((np.arange(37),), 8, 0, 0, WEIGHTS + 1)(2).weights, weighted.weights)


def test_the_loss_of_mixed_examples_is_weighted_part_by_part():
    logits, share = RANDOM.normal(size=(3, 2)), np.array([0.25, 0.5, 1.0])
    y, partner, weights = np.array([0, 1, 1]), np.array([1, 2, 2]), np.array([2.0, 3.0, 0.5])
    given = (None, y, y[partner], share, weights, weights[partner])
    total, count = _loss(Classification(("a", "b")), jnp.asarray(logits), Examples(*map(as_array, given)), {})
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    parts = [(i, y[i], share[i] * weights[i]) for i in range(3)]
    parts += [(i, y[partner[i]], (1 - share[i]) * weights[partner[i]]) for i in range(3)]
    assert float(total) == pytest.approx(sum(-log_p[i, c] * w for i, c, w in parts), rel=1e-5)
    assert float(count) == pytest.approx(sum(w for *_, w in parts), rel=1e-5)


def as_array(value):
    return None if value is None else jnp.asarray(value)


@pytest.fixture(scope="module")
def result():
    how = jaxdl.Execution(fold_strategy="vmap")
    return jaxdl.cross_validate(MLP, SOURCE, PLAN, splitter=HALVES, execution=how)


def test_folds_learn_by_the_weights_and_are_scored_without(result):
    held, how = result.out_of_fold, jaxdl.Execution(fold_strategy="vmap")
    plain = jaxdl.cross_validate(MLP, data.arrays(X, Y), PLAN, splitter=HALVES, execution=how)
    assert np.abs(held.kept - plain.out_of_fold.kept).max() > 1e-3
    right = [accuracy_score(held.target[held.fold == k], result.predicted[held.fold == k]) for k in (0, 1)]
    assert result.mean == pytest.approx(np.mean(right))
    # what has no weight teaches nothing: neither the network nor the normalisation nor any count
    changed = dataclasses.replace(SOURCE, x=np.where(WEIGHTS[:, None] == 0, 1e3 + X, X))
    other = jaxdl.cross_validate(MLP, changed, PLAN, splitter=HALVES, execution=how).out_of_fold
    counted = WEIGHTS[held.index] > 0
    np.testing.assert_array_equal(other.kept[counted], held.kept[counted])


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"accumulate": 2}, {"streaming": True}, {"strategy": "loop"}])
def test_weights_mean_the_same_however_a_training_is_executed(result, change):
    plan = dataclasses.replace(PLAN, accumulate=change.get("accumulate", 1))
    how = jaxdl.Execution(
        fold_strategy=change.get("strategy", "loop"), streaming=change.get("streaming", False), workers=0
    )
    other = jaxdl.cross_validate(MLP, SOURCE, plan, splitter=HALVES, execution=how)
    np.testing.assert_allclose(other.out_of_fold.kept, result.out_of_fold.kept, atol=1e-5)


def test_a_training_part_without_weight_is_refused_and_heads_say_that_they_take_none():
    halves = data.with_weights(SOURCE, np.arange(40) >= 20)
    with pytest.raises(InputError, match="all 20 examples"):
        jaxdl.cross_validate(MLP, halves, PLAN, splitter=HALVES)
    task = Classification(("0", "1"))
    with pytest.warns(UserWarning, match="take no weights"):
        probe_source(SOURCE, X, task, HALVES, Probing(("ridge",), (1.0,)), folds=2, progress=None)


def test_moments_are_those_of_repeated_rows():
    preprocessing = data.TablePreprocessing((4,))
    repeated = np.repeat(np.arange(40), WEIGHTS.astype(int))
    weighted = preprocessing.fit_weighted(preprocessing.measure(X), np.arange(40), WEIGHTS)
    jax.tree.map(np.testing.assert_allclose, weighted, preprocessing.fit(preprocessing.measure(X), repeated))
    balanced = Classification(("a", "b"), class_weights="balanced")
    jax.tree.map(np.testing.assert_allclose, balanced.fit_weighted(Y, WEIGHTS), balanced.fit(Y[repeated]))
