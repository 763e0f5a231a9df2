"""The frozen part runs over the data once."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing, normalise
from jaxdl.models import Entry
from jaxdl.models.layers import Head
from jaxdl.models.staged import Staged
from jaxdl.tasks import Classification
from jaxdl.training import features
from jaxdl.training import prepare as preparing
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore, activation_bytes, compute_features
from jaxdl.training.lengths import stored
from jaxdl.weights.checkpoint import from_model

LOOP = Execution(fold_strategy="loop")
seen: list[int] = []


class Body(nn.Module):
    """A linear layer that reports on the host every example that passes through it."""

    @nn.compact
    def __call__(self, x, mode):
        jax.debug.callback(lambda part: seen.append(len(part)), x)
        return nn.Dense(16)(x.reshape(len(x), -1))


class Counting(Staged):
    def stages(self):
        return ("body", Body), ("head", lambda name: Head(self.num_outputs, name=name))


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setitem(jaxdl.MODELS, "counting", Entry(Counting))
    checkpoint = from_model(Counting(5), ImagePreprocessing((8, 8, 1), (0.3,), (0.3,)))
    jax.effects_barrier()
    seen.clear()  # of what passed to make the variables
    return checkpoint


def passed():
    jax.effects_barrier()
    return sum(seen)


@pytest.mark.parametrize(
    "strategy", ["vmap", *(pytest.param(name, marks=pytest.mark.slow) for name in ("loop", "shard"))]
)
def test_five_folds_with_a_frozen_body_run_it_once(counting, strategy):
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=6, batch_size=16, freeze_through="body")
    result = jaxdl.cross_validate(counting, source, plan, execution=Execution(fold_strategy=strategy))
    assert result.cached
    assert passed() == 64  # not 5 folds × 6 epochs × (51 + 13)


def test_an_uncached_body_runs_every_time(counting):
    """The count can count: without the cache it is what one expects."""
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=2, batch_size=64, freeze_through="body", cache_features=False)
    result = jaxdl.cross_validate(counting, source, plan, splitter="holdout", execution=LOOP)
    assert not result.cached
    assert passed() == 2 * 64  # 51 trained on and 13 tested, in each of two epochs


def test_features_are_what_the_stages_make(counting):
    x = data.digits(range(5)).x[:37]
    stop, variables = "head", counting.variables
    preprocessing = counting.card.preprocessing
    parts = stored(counting.model, x, 16)
    found = compute_features(counting.model, variables, stop, parts, len(x), preprocessing, preprocessing.constants)
    expected = counting.model.apply(variables, normalise(jnp.asarray(x), 0.3, 0.3), stop=stop)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.nbytes == activation_bytes(counting.model, variables, stop, preprocessing.spec(), len(x))


def test_what_does_not_fit_is_not_kept(counting, monkeypatch):
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=2, batch_size=16, freeze_through="body")
    kept = jaxdl.cross_validate(counting, source, plan, execution=LOOP)
    monkeypatch.setattr(preparing, "memory_limit", lambda: 64 * 16 * 4 - 1)
    dropped = jaxdl.cross_validate(counting, source, plan, execution=LOOP)
    assert (kept.cached, dropped.cached) == (True, False)
    np.testing.assert_allclose(kept.out_of_fold.kept, dropped.out_of_fold.kept, atol=1e-5)


def test_without_a_checkpoint_each_fold_normalises_by_its_own_part_and_nothing_is_shared():
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=1, freeze_through="layer1")
    assert not jaxdl.cross_validate(jaxdl.create("mlp", 5), source, plan).cached


def test_what_a_search_freezes_runs_once_for_each_boundary(counting):
    """Groups (of two batch sizes), inner folds and outer ones, and the trainings of what was chosen share it."""
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=1, freeze_through="body")
    space = {"batch_size": [16, 32], "learning_rate": [1e-3, 1e-2]}
    found = jaxdl.search(counting, source, plan, space, jaxdl.Searching(inner_folds=2), folds=2, execution=LOOP)
    assert len(found.scores) > 0
    assert passed() == 64


@pytest.mark.slow
def test_a_learning_curve_and_the_variance_freeze_once(counting):
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=1, freeze_through="body")
    curve = jaxdl.learning_curve(counting, source, plan, sizes=[15, 30], folds=2, execution=LOOP)
    assert len(curve.points) == 2
    assert passed() == 64
    jaxdl.variance(counting, source, plan, splits=2, seeds=2, execution=LOOP)
    assert passed() == 2 * 64


def test_what_is_kept_for_others_is_what_each_would_compute(counting):
    """Other weights, another stage or other normalisation is not taken for it."""
    source = data.subset(data.digits(range(5)), np.arange(64))
    plan = jaxdl.Plan(epochs=1, batch_size=16, freeze_through="body")
    other = from_model(Counting(5), counting.card.preprocessing, seed=1)
    brighter = dataclasses.replace(
        counting,
        card=dataclasses.replace(counting.card, preprocessing=ImagePreprocessing((8, 8, 1), (0.1,), (0.3,))),
    )
    store, task = DataStore(16), Classification(source.class_names)
    inits = (counting, other, brighter, counting)
    kept, alone = (
        [preparing.prepare(init, source, plan, [np.arange(64)], task, how).shared.x for init in inits]
        for how in (Execution(store=store), Execution())
    )
    for one, same in zip(kept, alone, strict=True):
        np.testing.assert_array_equal(one, same)
    assert np.abs(kept[0] - kept[1]).max() > 0.1
    assert np.abs(kept[0] - kept[2]).max() > 0.1


@pytest.mark.parametrize("what", [pytest.param("examples", marks=pytest.mark.slow), "activations"])
def test_sources_of_equal_shape_share_a_store_and_not_what_is_kept(what, counting):
    """The same name, number and shape: only the content tells them apart."""
    one = data.subset(data.digits(range(5)), np.arange(64))
    other = dataclasses.replace(one, x=one.x[::-1].copy(), labels=one.labels[::-1].copy())
    if what == "examples":
        init, plan = jaxdl.create("mlp", 5, hidden=(8,)), jaxdl.Plan(epochs=2, batch_size=16)
    else:
        init, plan = counting, jaxdl.Plan(epochs=2, batch_size=16, freeze_through="body")
    store = DataStore(16)
    shared, alone = (
        [jaxdl.cross_validate(init, source, plan, folds=2, execution=how) for source in (one, other, one)]
        for how in (LOOP.replace(store=store), LOOP)
    )
    for mine, expected in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(mine.out_of_fold.kept, expected.out_of_fold.kept)
    assert np.abs(shared[0].out_of_fold.kept - shared[1].out_of_fold.kept).max() > 0.01
    if what == "activations":
        assert passed() == 64 * (2 + 3)  # with the store once for each source, else in every call


def test_a_store_lets_go_of_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(features, "memory_limit", lambda: 3 * 80)
    store, made = DataStore(1), []

    def ask(key):
        return store.get(key, lambda: made.append(key) or np.full(10, key, np.float64))

    for key in (1, 2, 3, 1, 4, 1, 2):  # when 4 comes, 2 is the least recent
        assert ask(key)[0] == key
    assert made == [1, 2, 3, 4, 2]
