"""Sequences of uneven length are computed at few lengths, and nothing that comes out depends on it."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.data.preprocessing.raw import RawPreprocessing
from jaxdl.models import create
from jaxdl.training import lengths, runners
from jaxdl.training import prepare as preparing
from jaxdl.training.execution import Execution
from jaxdl.training.lengths import Lengths, ladder, lengthened, lengths_of, shortened, stored
from jaxdl.weights.checkpoint import from_model

VOCABULARY, LENGTH = 20, 64
MODELS = {
    "lstm": ("lstm", {"width": 6, "features": 5, "depth": 2, "dropout": 0.3}),
    "textcnn": ("textcnn", {"width": 6, "features": 4}),
    "bert": ("bert_tiny", {"width": 12, "depth": 1, "num_heads": 3, "longest": LENGTH, "pool": "mean"}),
    "transformer": (
        "transformer",
        {"width": 12, "depth": 1, "num_heads": 3, "positions": "relative", "causal": True, "pool": "last"},
    ),
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "bert" else pytest.mark.slow) for name in MODELS]
)


def made(name, **options):
    model, arguments = MODELS[name]
    return create(model, 2, vocabulary=VOCABULARY, **arguments | options)


def begun():
    return from_model(made("bert"), RawPreprocessing.of(sentences(8)), ["low", "high"])


def sentences(count=48, seed=0, longest=40):
    """Tokens of which the first tells the class; most are short, and what stands in the padding is whatever."""
    rng = np.random.default_rng(seed)
    mask = np.arange(LENGTH) < np.minimum(rng.geometric(0.08, (count, 1)), longest)
    tokens = rng.integers(0, VOCABULARY, (count, LENGTH), dtype=np.int32)
    high = (tokens[:, 0] > 9).astype(np.int32)
    return data.Arrays({"tokens": tokens, "mask": mask}, high, ("low", "high"))


@pytest.fixture
def whole(monkeypatch):
    """Makes everything be computed at full length."""

    def switch():
        monkeypatch.setattr(lengths, "lengths_of", lambda *_: None)
        monkeypatch.setattr(preparing, "lengths_of", lambda *_: None)

    return switch


@pytest.fixture
def computed(monkeypatch):
    """The lengths of all batches that went into a program of a training."""
    seen = []
    feed = runners.Runner.feed

    def watched(self, *arguments):
        for count, batch, shared in feed(self, *arguments):
            seen.append(batch.length)
            yield count, batch, shared

    monkeypatch.setattr(runners.Runner, "feed", watched)
    return seen


@given(st.integers(1, 600), st.data(), st.integers(1, 9))
def test_lengths_to_compute_at_are_few_and_hold_the_longest(full, drawn, most):
    longest = drawn.draw(st.integers(0, full))
    sizes = ladder(full, longest, most)
    assert list(sizes) == sorted(set(sizes))
    assert 1 <= len(sizes) <= most
    assert longest <= sizes[-1] <= full
    assert all(size % 8 == 0 and size >= lengths.SHORTEST for size in sizes if size != full)
    # those of other examples are the same: no call compiles lengths of its own
    assert set(sizes) <= set(ladder(full, full, 100))


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_length_reaches_to_the_last_real_token(rows):
    mask = np.array(rows)
    expected = [max((i + 1 for i, real in enumerate(row) if real), default=0) for row in rows]
    model = made("bert")
    np.testing.assert_array_equal(lengths_of(model, {"mask": mask, "tokens": mask.astype(int)}), expected)
    parts = np.stack([mask, np.zeros_like(mask)], 1)  # of which each example has two
    np.testing.assert_array_equal(lengths_of(model, {"mask": parts}), expected)


def test_what_is_no_sequence_is_not_cut():
    mask = np.ones((3, 4), bool)
    assert lengths_of(create("mlp", 2), {"mask": mask}) is None
    assert lengths_of(made("bert"), {"tokens": mask}) is None
    assert lengths_of(made("bert"), np.ones((3, 4))) is None
    assert shortened(np.ones((3, 4)), None).shape == (3, 4)


def test_only_what_belongs_to_tokens_is_cut():
    flow = {
        "mask": np.ones((3, 4), bool),
        "tokens": np.ones((3, 4), np.int32),
        "hidden": np.ones((3, 4, 5)),
        "last": np.ones((3, 4)),  # a state of as many numbers as there are tokens
        "offsets": np.ones((3, 4, 2), np.int32),
        "class": np.ones(3, np.int32),
    }
    cut = {name: leaf.shape for name, leaf in shortened(flow, 2).items()}
    assert cut == {
        "mask": (3, 2),
        "tokens": (3, 2),
        "hidden": (3, 2, 5),
        "last": (3, 4),
        "offsets": (3, 2, 2),
        "class": (3,),
    }


def test_rows_that_only_pad_do_not_make_a_batch_longer():
    held = Lengths(np.array([40, 3, 5]), (8, 16, 40))
    assert held.at(np.array([1, 2])) == 8
    assert held.at(np.array([1, 2, 0]), np.array([1.0, 1.0, 0.0])) == 8
    assert held.at(np.array([[1, 2], [0, 0]]), np.array([[1.0, 1.0], [1.0, 0.0]])) == 40


def test_batches_come_from_long_to_short_and_go_back():
    source = sentences(37)
    held = stored(made("bert"), source.x, 8)
    batches = list(held.batches)
    sizes = [batch["tokens"].shape[1] for batch in batches]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < LENGTH
    filled = [lengthened(batch, jax.tree.map(lambda a: a[:1], source.x)) for batch in batches]
    rows = np.concatenate([batch["tokens"] for batch in filled])
    np.testing.assert_array_equal(
        np.where(source.x["mask"], held.by_example(rows, 37), 0), np.where(source.x["mask"], source.x["tokens"], 0)
    )


def test_a_last_batch_that_is_padded_is_as_short_as_its_examples():
    source = sentences(37)
    sizes = [batch["tokens"].shape[1] for batch in stored(made("bert"), source.x, 4).batches]
    assert len(sizes) == 10  # of 4 rows: 3 only pad
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


@EACH
def test_a_training_is_that_of_whole_sequences(name, whole, computed, monkeypatch):
    """Dropout and all."""
    monkeypatch.setattr(lengths, "STEPS", 1)
    plan = jaxdl.Plan(epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.03)
    source, execution = sentences(), Execution(fold_strategy="loop")
    cut = jaxdl.cross_validate(made(name), source, plan, folds=2, execution=execution)
    assert len(set(computed)) > 1
    assert max(computed) < LENGTH
    computed.clear()
    whole()
    full = jaxdl.cross_validate(made(name), source, plan, folds=2, execution=execution)
    assert set(computed) == {None}
    np.testing.assert_allclose(cut.out_of_fold.kept, full.out_of_fold.kept, atol=1e-5)


@pytest.mark.slow
def test_folds_side_by_side_are_those_one_by_one(computed, monkeypatch):
    """Though a batch is as long as the longest of all folds there."""
    monkeypatch.setattr(lengths, "STEPS", 1)
    plan = jaxdl.Plan(epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.03)
    found = [
        jaxdl.cross_validate(made("bert"), sentences(), plan, folds=3, execution=Execution(fold_strategy=way))
        for way in ("loop", "vmap")
    ]
    assert len(set(computed)) > 1
    np.testing.assert_allclose(found[0].out_of_fold.kept, found[1].out_of_fold.kept, atol=1e-5)


def test_predictions_do_not_depend_on_the_order_or_the_batch(whole):
    checkpoint = begun()
    source = sentences(40, seed=1)
    found = jaxdl.predict(checkpoint, source, batch_size=4).outputs
    order = np.random.default_rng(0).permutation(40)
    again = jaxdl.predict(checkpoint, data.subset(source, order), batch_size=7).outputs
    np.testing.assert_allclose(found[order], again, atol=1e-6)
    whole()
    np.testing.assert_allclose(found, jaxdl.predict(checkpoint, source, batch_size=40).outputs, atol=1e-6)


def test_activations_of_cut_sequences_train_the_rest(whole):
    """Of frozen stages, which see long sequences and short ones in batches of different length."""
    checkpoint = begun()
    source = sentences()
    plan = jaxdl.Plan(epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.1, freeze_through="embed")
    cut = jaxdl.finetune(checkpoint, source, plan)
    whole()
    full = jaxdl.finetune(checkpoint, source, plan)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut.variables, full.variables)


@pytest.mark.slow
def test_members_of_an_ensemble_weigh_the_examples_that_they_saw():
    plan = jaxdl.Plan(epochs=1, batch_size=8)
    source = sentences()
    result = jaxdl.cross_validate(made("bert"), source, plan, folds=2, execution=Execution(keep_models=True))
    members = jaxdl.ensemble(result)
    found = members.predict(sentences(40, seed=2), batch_size=4).outputs
    again = members.predict(sentences(40, seed=2), batch_size=40).outputs
    np.testing.assert_allclose(found, again, atol=1e-6)


def test_of_windows_those_behind_the_last_real_one_are_left_out():
    """A text of one window is cut within it, one of several to whole windows; what is cut is padding alone."""
    mask = np.zeros((3, 4, 8), bool)
    mask[0, 0, :5], mask[1, :2], mask[2, 0] = True, True, True
    mask[1, 1, 3:] = False
    model = made("bert")
    assert lengths_of(model, {"mask": mask}).tolist() == [5, 16, 8]
    x = {"mask": mask, "tokens": np.zeros((3, 4, 8), np.int32), "carried": {"places": np.zeros((3, 4, 8, 2), np.int32)}}
    for length, shape in ((5, (1, 5)), (8, (1, 8)), (16, (2, 8)), (24, (3, 8))):
        cut = shortened(x, length)
        assert cut["mask"].shape == cut["tokens"].shape == (3, *shape)
        assert cut["carried"]["places"].shape == (3, *shape, 2)
    assert ladder(256, 4 * 256, 8) == (64, 96, 128, 184, 256, 512, 768, 1024)
    assert ladder(256, 20 * 256, 20)[-8:] == (512, 768, 1024, 1280, 1792, 2560, 3584, 5120)


def test_batches_of_like_lengths_hold_each_example_once_and_differ_from_epoch_to_epoch():
    rng = np.random.default_rng(0)
    each, parts = rng.permutation(200), [np.arange(0, 200, 2)]
    drawn, again, later = (training_batches(parts, 8, 0, [0], epoch, None, each)[0] for epoch in (0, 0, 1))
    plain = training_batches(parts, 8, 0, [0], 0)[0]

    def spans(batches):
        held = [each[row[weight > 0]] for row, weight in zip(batches.indices, batches.weights, strict=True)]
        return np.mean([np.ptp(one) for one in held])

    assert sorted(drawn.indices[drawn.weights > 0]) == parts[0].tolist()
    assert spans(drawn) < spans(plain) / 4
    np.testing.assert_array_equal(drawn.indices, again.indices)
    assert (drawn.indices != later.indices).any()
    firsts = [each[row[0]] for row in drawn.indices]
    assert firsts != sorted(firsts)


@pytest.mark.slow
def test_groups_by_length_compute_less_and_are_refused_where_there_are_no_lengths(computed):
    plan = jaxdl.Plan(epochs=1, batch_size=2)
    for grouped in (False, True):
        jaxdl.pretrain(made("lstm"), sentences(120), dataclasses.replace(plan, group_by_length=grouped))
    half = len(computed) // 2
    assert sum(computed[half:]) < sum(computed[:half])
    images = data.arrays(np.zeros((8, 4), np.float32), [0, 1] * 4)
    with pytest.raises(jaxdl.InputError, match="group_by_length is for sequences"):
        jaxdl.pretrain(create("mlp", 2), images, dataclasses.replace(plan, group_by_length=True))
