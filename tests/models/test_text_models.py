"""What holds of every model of text: padding has no say, order only where it should."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.initialise import batch_of, init_head, init_variables
from jaxdl.models.sequence import token_spec

VOCABULARY, LENGTH = 12, 7
BERT = {"width": 12, "depth": 2, "num_heads": 3, "longest": 16}
SMALL = {
    "lstm": ("lstm", {"width": 6, "features": 5, "depth": 2}),
    "gru, one way, mean": ("gru", {"width": 6, "features": 5, "both_ways": False, "pool": "mean"}),
    "rnn, max": ("rnn", {"width": 6, "features": 5, "pool": "max"}),
    "textcnn": ("textcnn", {"width": 6, "features": 4}),
    "bert": ("bert_tiny", BERT),
    "bert, token": ("bert_tiny", BERT | {"pool": "token"}),
    "bert, mean": ("bert_tiny", BERT | {"pool": "mean"}),
    "bert, none": ("bert_tiny", BERT | {"pool": "none"}),
    "transformer": ("transformer", BERT),
    "transformer, no positions, none": ("transformer", BERT | {"positions": "none", "pool": "none"}),
    "transformer, sinusoidal, max": ("transformer", BERT | {"positions": "sinusoidal", "pool": "max"}),
    "transformer, rotary, few keys": ("transformer", BERT | {"positions": "rotary", "key_heads": 1}),
    "transformer, relative": ("transformer", BERT | {"positions": "relative"}),
    "transformer, causal, relative, last": (
        "transformer",
        BERT | {"positions": "relative", "causal": True, "pool": "last"},
    ),
    "transformer, causal, rotary, none": (
        "transformer",
        BERT | {"positions": "rotary", "causal": True, "pool": "none"},
    ),
    "transformer, causal, none": ("transformer", BERT | {"causal": True, "pool": "none"}),
}


QUICK = ("lstm", "textcnn", "bert, mean", "transformer, relative")
CASES = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in SMALL]
)


def made(case):
    """A small network with drawn variables, compiled."""
    name, arguments = SMALL[case]
    return made_of(name, tuple(arguments.items()))


@functools.cache
def made_of(name, arguments):
    model = create(name, 3, vocabulary=VOCABULARY, **dict(arguments))
    shapes = jax.eval_shape(lambda key: init_variables(model, key, token_spec(LENGTH)), jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return model, variables, jax.jit(model.apply, static_argnames=("stop", "train"))


def drawn(lengths, length, seed):
    """Tokens of these lengths, and whatever in the padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (len(lengths), length), dtype=np.int32)
    return {"tokens": tokens, "mask": np.arange(length) < np.array(lengths)[:, None]}


LENGTHS = st.lists(st.integers(1, LENGTH), min_size=3, max_size=3)


@CASES
@settings(max_examples=10, deadline=None)
@given(LENGTHS, st.integers(0, 2**32 - 1))
def test_padding_batch_and_length_of_the_bucket_change_nothing(case, lengths, seed):
    _, variables, run = made(case)
    x = drawn(lengths, LENGTH, seed)
    found = np.asarray(run(variables, x))
    longer = drawn(lengths, LENGTH + 5, seed + 1)  # other tokens in more padding
    longer["tokens"][:, :LENGTH] = np.where(x["mask"], x["tokens"], longer["tokens"][:, :LENGTH])
    again = np.asarray(run(variables, longer))
    if case.endswith("none"):  # an output for each token
        found, again = found[x["mask"]], again[longer["mask"]]
    np.testing.assert_allclose(again, found, atol=2e-5)
    order = np.array([2, 0, 1])
    moved = np.asarray(run(variables, {name: one[order] for name, one in x.items()}))
    if not case.endswith("none"):
        np.testing.assert_allclose(moved, found[order], atol=2e-5)


@CASES
def test_a_mask_of_numbers_is_one_and_an_empty_text_is_finite(case):
    model, variables, run = made(case)
    x = drawn([3, 0, 7], LENGTH, 0)
    logits = np.asarray(run(variables, x))
    np.testing.assert_array_equal(run(variables, x | {"mask": x["mask"].astype(np.float32)}), logits)
    assert np.isfinite(logits).all()
    gradient = jax.jit(jax.grad(lambda v: model.apply(v, x).sum()))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_without_positions_an_encoder_does_not_see_order(order, seed):
    """Tokens that trade places trade their hidden states, and nothing else changes; with positions it does."""
    _, variables, run = made("bert, none")
    x = drawn([5, 5, 5], LENGTH, seed)
    moved = {**x, "tokens": x["tokens"].copy()}
    moved["tokens"][:, :5] = x["tokens"][:, list(order)]
    embed = variables["params"]["embed"]
    bare = {
        "params": {**variables["params"], "embed": {**embed, "positions": {"table": embed["positions"]["table"] * 0}}}
    }
    one, two = (np.asarray(run(bare, each, stop="head")) for each in (x, moved))
    np.testing.assert_allclose(two[:, :5], one[:, list(order)], atol=2e-5)
    if list(order) != sorted(order):
        one, two = (np.asarray(run(variables, each, stop="head")) for each in (x, moved))
        assert np.abs(two[:, :5] - one[:, list(order)]).max() > 1e-3


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal", "rotary", "relative"])
def test_a_transformer_sees_order_by_its_positions_alone(positions, order, seed):
    name, arguments = SMALL["transformer, no positions, none"]
    _, variables, run = made_of(name, tuple((arguments | {"positions": positions}).items()))
    x = drawn([5, 5, 5], LENGTH, seed)
    moved = {**x, "tokens": x["tokens"].copy()}
    moved["tokens"][:, :5] = x["tokens"][:, list(order)]
    one, two = (np.asarray(run(variables, each)) for each in (x, moved))
    off = np.abs(two[:, :5] - one[:, list(order)]).max()
    if positions == "none":
        assert off < 2e-5
    elif list(order) != sorted(order) and not (moved["tokens"][:, :5] == x["tokens"][:, :5]).all():
        assert off > 1e-3


@pytest.mark.parametrize("positions", ["learned", pytest.param("rotary", marks=pytest.mark.slow), "relative"])
@settings(max_examples=10, deadline=None)
@given(st.integers(1, LENGTH - 1), st.integers(0, 2**32 - 1))
def test_a_causal_transformer_never_depends_on_later_tokens(positions, place, seed):
    name, arguments = SMALL["transformer, causal, none"]
    _, variables, run = made_of(name, tuple((arguments | {"positions": positions}).items()))
    x = drawn([LENGTH] * 3, LENGTH, seed)
    later = {**x, "tokens": x["tokens"].copy()}
    later["tokens"][:, place:] = (x["tokens"][:, place:] + 1) % VOCABULARY
    one, two = (np.asarray(run(variables, each)) for each in (x, later))
    np.testing.assert_array_equal(one[:, :place], two[:, :place])
    assert np.abs(one[:, place:] - two[:, place:]).min(-1).max() > 1e-4


def test_a_causal_transformer_ends_with_its_last_real_token():
    _, variables, run = made("transformer, causal, relative, last")
    x = drawn([2, 5, 7], LENGTH, 0)
    each = create("transformer", 3, vocabulary=VOCABULARY, **SMALL["transformer, causal, relative, last"][1])
    hidden = jax.jit(each.for_each_token().apply, static_argnames="stop")(variables, x, stop="head")
    for row, last in enumerate((1, 4, 6)):
        np.testing.assert_allclose(run(variables, x, stop="head")[row], hidden[row, last], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": "gps"}, "positions"),
        ({"pool": "first"}, "pool"),
        ({"num_heads": 5}, "width 12 cannot be divided among 5"),
        ({"key_heads": 2}, "3 attention heads cannot share the keys of 2"),
        ({"width": 9, "positions": "rotary"}, "3 heads of a width of 9 have 3 each"),
        ({"depth": 0}, "a vocabulary, longest and depth of at least 1"),
    ],
)
def test_a_transformer_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        create("transformer", 3, **(BERT | arguments)).stages()


@pytest.mark.parametrize(("name", "arguments", "size"), [("bert_tiny", BERT, 1.0), ("mlp", {"hidden": [50]}, 0.1)])
def test_a_fresh_head_is_so_large_that_it_learns_at_the_rate_of_its_body(name, arguments, size):
    """In units of one over the square root of the features: a BERT is trained at too low a rate for a small one."""
    model = create(name, 400, **arguments)
    spec = token_spec(LENGTH) if name == "bert_tiny" else (50,)
    body = init_variables(model, jax.random.key(0), spec)
    head = init_head(model, jax.random.key(1), body, batch_of(spec))["params"]["head"]["dense"]["kernel"]
    assert np.std(head) * np.sqrt(len(head)) == pytest.approx(size, rel=0.05)


def test_types_tell_sentences_apart_and_are_the_first_where_none_are_given():
    _, variables, run = made("bert")
    x = drawn([4, 7, 7], LENGTH, 0)
    first = {**x, "types": np.zeros_like(x["tokens"])}
    np.testing.assert_array_equal(run(variables, x), run(variables, first))
    second = {**x, "types": np.ones_like(x["tokens"])}
    assert np.abs(run(variables, x) - run(variables, second)).max() > 1e-2


PER_TOKEN = [("bert_tiny", BERT), ("transformer", BERT), ("lstm", SMALL["lstm"][1]), ("rnn", SMALL["rnn, max"][1])]


@pytest.mark.parametrize(("name", "arguments"), PER_TOKEN, ids=lambda given: given if isinstance(given, str) else "")
def test_an_answer_for_each_token_comes_with_what_the_examples_carry(name, arguments):
    """Of windows each is answered as a text by itself, also from the states of a stage in the middle."""
    model = create(name, 3, vocabulary=VOCABULARY, **arguments).for_each_token()
    assert model.ANSWERS == "tokens"
    one = token_spec(LENGTH)
    variables = jax.jit(lambda key: init_variables(model, key, one))(jax.random.key(0))
    x = drawn([3, 5, 7, 0, 2, 6], LENGTH, 0)
    plain = np.asarray(jax.jit(model.apply)(variables, x))
    assert plain.shape == (6, LENGTH, 3)
    carried = {"words": np.arange(6 * LENGTH, dtype=np.int32).reshape(3, 2, LENGTH), "count": np.arange(3)}
    windows = {name: leaf.reshape(3, 2, LENGTH) for name, leaf in x.items()} | {"carried": carried}
    found = jax.jit(model.apply)(variables, windows)
    assert found.keys() == {"outputs", "words", "count"}
    np.testing.assert_allclose(found["outputs"], plain.reshape(3, 2, LENGTH, 3), atol=1e-6)
    for leaf in carried:
        np.testing.assert_array_equal(found[leaf], carried[leaf])
    middle = model.stage_names[2]
    half = jax.jit(lambda v, x: model.apply(v, x, stop=middle))(variables, windows)
    rest = jax.jit(lambda v, x: model.apply(v, x, start=middle))(variables, half)
    np.testing.assert_allclose(rest["outputs"], found["outputs"], atol=1e-6)


@pytest.mark.parametrize("case", ["lstm", "rnn, max", "textcnn", "bert, token", "bert, mean"])
@pytest.mark.slow
def test_windows_are_answered_as_texts_by_themselves(case):
    _, variables, run = made(case)
    x = drawn([3, 5, 7, 1, 2, 6], LENGTH, 0)
    found = np.asarray(run(variables, {name: leaf.reshape(3, 2, LENGTH) for name, leaf in x.items()}))
    np.testing.assert_allclose(found, np.asarray(run(variables, x)).reshape(3, 2, 3), atol=1e-6)


def test_taps_show_that_nobody_looks_at_padding():
    model, variables, _ = made("bert")
    x = drawn([3, 5, 7], LENGTH, 0)
    _, taps = jax.jit(lambda v, x: model.apply(v, x, taps=("block1/attention", "block2/attention")))(variables, x)
    for weights in map(np.asarray, taps.values()):
        assert weights.shape == (3, 3, LENGTH, LENGTH)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert not weights[~np.broadcast_to(x["mask"][:, None, None], weights.shape)].any()
        assert (weights[np.broadcast_to(x["mask"][:, None, None], weights.shape)] > 0).all()


def _textcnn_by_loops(params, tokens):
    """Kim's network on the real tokens of one text: each filter on each window, the largest, a linear map."""
    words = params["embed"]["tokens"]["embedding"][tokens]
    pooled = []
    for width in (3, 4, 5):
        layer = params["conv"][f"width{width}"]
        kernel = layer["kernel"].reshape(width, words.shape[1], -1)
        before = (width - 1) // 2
        outputs = []
        for middle in range(len(tokens)):
            total = layer["bias"].astype(np.float64)
            for place in range(width):
                at = middle - before + place
                if 0 <= at < len(tokens):
                    total = total + words[at] @ kernel[place]
            outputs.append(np.maximum(total, 0))
        pooled.append(np.max(outputs, 0))
    head = params["head"]["dense"]
    return np.concatenate(pooled) @ head["kernel"] + head["bias"]


def test_a_textcnn_is_its_definition():
    _, variables, run = made("textcnn")
    x = drawn([1, 4, 7], LENGTH, 0)
    expected = [_textcnn_by_loops(variables["params"], x["tokens"][i][x["mask"][i]]) for i in range(3)]
    np.testing.assert_allclose(run(variables, x), expected, atol=1e-5)


def test_a_deep_recurrent_network_ends_with_the_last_states_of_both_ways():
    """Two texts that differ in their first token differ in the backward state, too."""
    _, variables, run = made("lstm")
    x = drawn([5, 5, 5], LENGTH, 0)
    features = np.asarray(run(variables, x, stop="head"))
    assert features.shape == (3, 10)
    first, last = ({**x, "tokens": x["tokens"].copy()} for _ in range(2))
    first["tokens"][:, 0] = (x["tokens"][:, 0] + 1) % VOCABULARY
    last["tokens"][:, 4] = (x["tokens"][:, 4] + 1) % VOCABULARY
    for changed in (first, last):
        moved = np.abs(np.asarray(run(variables, changed, stop="head")) - features)
        assert moved[:, :5].max() > 1e-4
        assert moved[:, 5:].max() > 1e-4
