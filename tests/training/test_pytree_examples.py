"""Examples that are dicts of arrays, between the stages too, through everything that trains and measures."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interruptions import Stop, run_to_the_end

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import RawPreprocessing
from jaxdl.models import Entry
from jaxdl.models.layers import Head
from jaxdl.models.staged import Staged
from jaxdl.training.execution import Execution
from jaxdl.training.resume import Interrupted, RunFolder

LENGTH, VOCABULARY = 6, 10


class Embed(nn.Module):
    """Tokens and numbers to a dict of vectors."""

    @nn.compact
    def __call__(self, x, mode):
        vectors = nn.Embed(VOCABULARY, 8, name="tokens")(x["text"]["tokens"])
        return {"vectors": vectors, "mask": x["text"]["mask"], "more": nn.Dense(4, name="numbers")(x["numbers"])}


class Pool(nn.Module):
    """The mean over real tokens, and the rest beside it."""

    @nn.compact
    def __call__(self, x, mode):
        weights = x["mask"][..., None].astype(x["vectors"].dtype)
        mean = (x["vectors"] * weights).sum(1) / jnp.maximum(weights.sum(1), 1)
        both = nn.tanh(nn.Dense(8, name="dense")(jnp.concatenate([mean, x["more"]], -1)))
        return nn.Dropout(0.1, deterministic=not mode.train)(both)


class Reader(Staged):
    def stages(self):
        return (
            ("embed", Embed),
            ("pool", Pool),
            ("head", lambda name: Head(self.num_outputs, name=name)),
        )


@pytest.fixture(autouse=True, scope="module")
def known_here():
    """The model is in the table while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(jaxdl.MODELS, "reader", Entry(Reader))
        yield


def examples(count, seed=0):
    """Of class 1 where a real token is 7 or the first number is large; what the mask hides has no say."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 7, (count, LENGTH)).astype(np.int32)
    mask = np.arange(LENGTH) < random.integers(2, LENGTH + 1, (count, 1))
    numbers = random.normal(size=(count, 3)).astype(np.float32)
    labels = random.integers(0, 2, count).astype(np.int32)
    by_token = random.random(count) < 0.5
    tokens[(labels == 1) & by_token, 0] = 7
    numbers[:, 0] = np.where((labels == 1) & ~by_token, 3, -1)
    tokens[~mask] = 7
    x = {"text": {"tokens": tokens, "mask": mask}, "numbers": numbers}
    return data.Arrays(x, labels, ("no", "yes"), name="texts")


class OneByOne(data.Source):
    """The same, of a source that has its examples one at a time."""

    def __init__(self, held):
        self.held, self.name, self.class_names = held, held.name, held.class_names

    def __len__(self):
        return len(self.held)

    def __getitem__(self, index):
        return self.held[index]


SOURCE, NEW = examples(60), examples(40, seed=1)
PLAN = jaxdl.Plan(epochs=25, batch_size=16, learning_rate=0.03)
SHORT = dataclasses.replace(PLAN, epochs=3)


@pytest.fixture(scope="module")
def trained():
    return jaxdl.pretrain(Reader(2), SOURCE, PLAN, validation=NEW)


def same(one, other, atol=0.0):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_training_learns_and_predictions_are_the_models_own(trained, tmp_path):
    found = jaxdl.predict(trained, NEW, batch_size=16)
    assert found.accuracy > 0.9
    assert trained.history[-1]["test_accuracy"] == pytest.approx(found.accuracy)
    np.testing.assert_allclose(found.outputs, trained.model.apply(trained.variables, NEW.x), atol=1e-5)
    assert isinstance(trained.card.preprocessing, RawPreprocessing)
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "reader"))
    assert again.card == dataclasses.replace(trained.card, trained_on=again.card.trained_on)
    np.testing.assert_array_equal(jaxdl.predict(again, NEW, batch_size=16).outputs, found.outputs)


def test_a_source_of_single_examples_gives_what_arrays_give(trained):
    one, other = (jaxdl.pretrain(Reader(2), source, SHORT) for source in (SOURCE, OneByOne(SOURCE)))
    same(one.variables, other.variables)
    assert one.card.seen.tolist() == other.card.seen.tolist()
    found = [jaxdl.predict(trained, source).outputs for source in (NEW, OneByOne(NEW))]
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_cross_validation_is_the_same_by_every_strategy():
    plan = dataclasses.replace(PLAN, epochs=15)
    loop, *others = (
        jaxdl.cross_validate(Reader(2), SOURCE, plan, folds=3, execution=Execution(fold_strategy=name))
        for name in ("loop", "vmap", "shard")
    )
    assert loop.mean > 0.85
    for other in others:
        assert (other.out_of_fold.index == loop.out_of_fold.index).all()
        np.testing.assert_allclose(other.out_of_fold.kept, loop.out_of_fold.kept, atol=1e-4)
        assert other.mean == loop.mean


@pytest.mark.parametrize("stage", [pytest.param("embed", marks=pytest.mark.slow), "pool"])
def test_frozen_stages_are_computed_once_and_train_as_uncached(stage, trained):
    plan = dataclasses.replace(SHORT, freeze_through=stage)
    how = Execution(fold_strategy="vmap", allow="parent")
    cached, whole = (
        jaxdl.cross_validate(trained, SOURCE, dataclasses.replace(plan, cache_features=c), folds=2, execution=how)
        for c in (True, False)
    )
    assert (cached.cached, whole.cached) == (True, False)
    np.testing.assert_allclose(cached.out_of_fold.kept, whole.out_of_fold.kept, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": 2},
        *(pytest.param(o, marks=pytest.mark.slow) for o in ({}, {"freeze_through": "embed"}, {"accumulate": 2})),
    ],
)
def test_streamed_and_in_memory_give_the_same_numbers(options, trained):
    plan, init = dataclasses.replace(SHORT, **options), trained if "freeze_through" in options else Reader(2)
    made = [
        jaxdl.finetune(init, OneByOne(SOURCE), plan, execution=Execution(streaming=s, workers=0)) for s in (False, True)
    ]
    same(made[0].variables, made[1].variables, atol=1e-6)
    found = [jaxdl.predict(made[0], NEW, execution=Execution(streaming=s, workers=0)).outputs for s in (False, True)]
    np.testing.assert_allclose(*found, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_killed_run_goes_on_bit_for_bit(streaming, tmp_path):
    how = Execution(streaming=streaming, workers=0)
    whole = jaxdl.pretrain(Reader(2), SOURCE, SHORT, execution=how)
    polls = 8 if streaming else 3
    again, stops = run_to_the_end(
        lambda how: jaxdl.pretrain(Reader(2), SOURCE, SHORT, execution=how), tmp_path / "run", polls, how
    )
    assert stops >= 2
    same(whole.variables, again.variables)
    assert whole.history == again.history


def test_an_example_that_differs_anywhere_is_other_data(tmp_path):
    changed = jax.tree.map(np.copy, SOURCE.x)
    changed["text"]["mask"][7, 1] ^= True
    work = RunFolder(tmp_path / "run", save_every=0, should_stop=Stop(2))
    with pytest.raises(Interrupted):
        jaxdl.pretrain(Reader(2), SOURCE, SHORT, execution=Execution(work=work))
    other = dataclasses.replace(SOURCE, x=changed)
    with pytest.raises(jaxdl.InputError, match=r"data\.sha256"):
        jaxdl.pretrain(Reader(2), other, SHORT, execution=Execution(work=tmp_path / "run"))


def test_examples_of_another_structure_are_refused(trained):
    short = dataclasses.replace(NEW, x={"text": NEW.x["text"]}, name="half")
    for call in (
        lambda: jaxdl.predict(trained, short),
        lambda: jaxdl.predict(trained, short, execution=Execution(streaming=True, workers=0)),
        lambda: jaxdl.finetune(trained, short, SHORT),
    ):
        with pytest.raises(jaxdl.InputError, match="half"):
            call()
    with pytest.raises(jaxdl.InputError, match="--augment"):
        jaxdl.pretrain(Reader(2), SOURCE, jaxdl.Plan(augment="flip"))
