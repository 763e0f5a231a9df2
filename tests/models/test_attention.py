"""Attention against its definition, and what it knows of the order of its inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import library

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.attention import Attention, attend, attention_weights, plain_attention
from jaxdl.models.initialise import init_variables
from jaxdl.models.masks import Mask
from jaxdl.models.staged import Mode, Taps

BATCH, POSITIONS, OFFERED, HEADS, WIDTH = 2, 5, 7, 6, 4


def _asked(name):
    """Query, key and value with the options of one case: a mask, a bias, a scale, keys that queries share."""
    rng = np.random.default_rng(0)
    heads = {"grouped": 2, "all options": 3}.get(name, HEADS)
    offered = POSITIONS if name == "all options" else OFFERED
    drawn = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    qkv = drawn(BATCH, POSITIONS, HEADS, WIDTH), *(drawn(BATCH, offered, heads, WIDTH) for _ in "kv")
    pairs = rng.random((BATCH, HEADS, POSITIONS, offered)) < 0.5
    pairs[..., 0] = True  # every position may look somewhere
    real = np.arange(offered) < np.array([[3], [offered]])
    options = {
        "pairs": {"mask": Mask(pairs=pairs)},
        "pairs of all heads": {"mask": Mask(pairs=pairs[:, :1])},
        "padding": {"mask": Mask(real=real)},
        "padding as numbers": {"mask": Mask(real=real.astype(np.int32))},
        "causal": {"mask": Mask(causal=True)},
        "bias": {"bias": drawn(1, HEADS, POSITIONS, offered)},
        "scale": {"scale": 1.0},
        "all options": {
            "mask": Mask(real, pairs, causal=True),
            "bias": drawn(BATCH, 1, POSITIONS, offered),
            "scale": 0.7,
        },
    }.get(name, {})
    return qkv, options


EVERYWHERE = Mask()
CASES = (
    "plain",
    "pairs",
    "pairs of all heads",
    "padding",
    "padding as numbers",
    "causal",
    "bias",
    "scale",
    "grouped",
    "all options",
)


def _by_loops(query, key, value, mask=EVERYWHERE, bias=None, scale=None):
    """Equation 1 of Vaswani et al., one position at a time."""
    out = np.zeros(query.shape)
    weights = np.zeros((BATCH, query.shape[2], query.shape[1], key.shape[1]))
    pairs = np.broadcast_to(True if mask.pairs is None else mask.pairs, weights.shape)
    bias = np.broadcast_to(0.0 if bias is None else bias, weights.shape)
    share = query.shape[2] // key.shape[2]
    for b, h, q in np.ndindex(weights.shape[:3]):
        scores = np.array([query[b, q, h] @ key[b, k, h // share] for k in range(key.shape[1])], np.float64)
        odds = np.exp(scores * (scale or query.shape[-1] ** -0.5) + bias[b, h, q]) * pairs[b, h, q]
        if mask.real is not None:
            odds *= mask.real[b]
        if mask.causal:
            odds[q + 1 :] = 0
        weights[b, h, q] = odds / odds.sum()
        out[b, q, h] = weights[b, h, q] @ value[b, :, h // share]
    return out, weights


@pytest.mark.parametrize("case", CASES)
def test_plain_attention(case):
    qkv, options = _asked(case)
    out, weights = plain_attention(*qkv, **options)
    expected, expected_weights = _by_loops(*qkv, **options)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    np.testing.assert_array_equal(attention_weights(*qkv[:2], **options), weights)


@pytest.mark.parametrize("case", CASES)
def test_plain_attention_is_that_of_torch(case):
    torch = library("torch")
    qkv, options = _asked(case)
    mask, bias = options.get("mask", Mask()), options.get("bias")
    allowed = mask.allowed(POSITIONS, qkv[1].shape[1])
    kept = {} if allowed is None else {"attn_mask": torch.tensor(np.asarray(allowed))}
    if case == "causal":
        kept = {"is_causal": True}
    elif bias is not None:
        added = bias if allowed is None else np.where(allowed, bias, -np.inf)
        kept = {"attn_mask": torch.tensor(np.broadcast_to(added, (BATCH, HEADS, *added.shape[2:])).copy())}
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(array).transpose(1, 2) for array in qkv),
        scale=options.get("scale"),
        enable_gqa=qkv[1].shape[2] != HEADS,
        **kept,
    )
    np.testing.assert_allclose(plain_attention(*qkv, **options)[0], theirs.transpose(1, 2), atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_attending_on_this_machine_is_plain_attention(case):
    qkv, options = _asked(case)
    expected = plain_attention(*qkv, **options)[0]
    np.testing.assert_array_equal(attend(*qkv, **options), expected)
    np.testing.assert_array_equal(attend(*qkv, **options, implementation="plain"), expected)


def test_an_example_of_padding_alone_is_finite_and_has_no_say():
    qkv, _ = _asked("plain")
    real = np.array([[False] * OFFERED, [True] * OFFERED])

    def total(*qkv):
        return attend(*qkv, Mask(real=real))[1].sum()

    assert np.isfinite(attend(*qkv, Mask(real=real))).all()
    for gradient in jax.grad(total, (0, 1, 2))(*map(jnp.asarray, qkv)):
        assert not np.asarray(gradient)[0].any()
        assert np.isfinite(gradient).all()


def _drawn(shapes):
    """Variables drawn by numpy, which need not compile anything."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes)


def _attention(x, *given, tap=False, **fields):
    """What a module with drawn variables gives, with the variables; its weights with `tap`."""
    module = Attention(**{"num_heads": 3, **fields})
    variables = _drawn(jax.eval_shape(lambda key: module.init(key, x, Mode(), *given), jax.random.key(0)))
    mode = Mode(stage="here", taps=Taps(("here/attention",) if tap else ()))
    out = module.apply(variables, x, mode, *given)
    return (out, variables["params"], mode.taps.found["here/attention"]) if tap else (out, variables["params"])


def _x(positions=POSITIONS, width=12, seed=2):
    return np.random.default_rng(seed).normal(size=(BATCH, positions, width)).astype(np.float32)


def _dense(x, kernel, bias=0.0):
    return x @ kernel + bias


def test_self_attention_with_and_without_tap():
    x = _x()
    out, params, weights = _attention(x, tap=True)
    np.testing.assert_allclose(out, _attention(x)[0], atol=1e-5)
    split = [_dense(x, **params[name]).reshape(BATCH, POSITIONS, 3, 4) for name in ("query", "key", "value")]
    mixed, expected_weights = _by_loops(*split)
    np.testing.assert_allclose(out, _dense(mixed.reshape(BATCH, POSITIONS, -1), **params["out"]), atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)


def test_attention_over_another_sequence_with_shared_keys():
    x, other = _x(), _x(OFFERED, 10, seed=3)
    real = np.arange(OFFERED) < np.array([[3], [7]])
    bias = _x(POSITIONS, OFFERED, seed=4)[:, None]
    fields = dict(num_heads=4, key_heads=2, head_width=5, use_bias=False, scale=1.0)
    out, params, weights = _attention(x, Mask(real=real), bias, other, tap=True, **fields)
    assert {name: list(layer) for name, layer in params.items()} == {
        name: ["kernel"] for name in ("key", "out", "query", "value")
    }
    query = _dense(x, **params["query"]).reshape(BATCH, POSITIONS, 4, 5)
    key, value = (_dense(other, **params[name]).reshape(BATCH, OFFERED, 2, 5) for name in ("key", "value"))
    mixed, expected = _by_loops(query, key, value, Mask(real=real), bias, 1.0)
    np.testing.assert_allclose(out, _dense(mixed.reshape(BATCH, POSITIONS, -1), **params["out"]), atol=2e-5)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert weights.shape == (BATCH, 4, POSITIONS, OFFERED)


def test_multi_head_attention_is_that_of_torch():
    torch = library("torch")
    x, other, real = _x(), _x(OFFERED, seed=3), np.arange(OFFERED) < np.array([[3], [7]])
    out, params = _attention(x, Mask(real=real), None, other)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    fused = ("query", "key", "value")
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.tensor(np.concatenate([params[name]["kernel"].T for name in fused])))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([params[name]["bias"] for name in fused])))
        theirs.out_proj.weight.copy_(torch.tensor(params["out"]["kernel"].T))
        theirs.out_proj.bias.copy_(torch.tensor(params["out"]["bias"]))
        expected, _ = theirs(torch.tensor(x), torch.tensor(other), torch.tensor(other), torch.tensor(~real))
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-5)


def test_self_attention_sees_a_set():
    x = _x()
    out, _ = _attention(x)
    order = np.array([3, 0, 4, 1, 2])
    permuted, _ = _attention(x[:, order])
    np.testing.assert_allclose(permuted, out[:, order], atol=1e-5)
    assert np.abs(permuted - out).max() > 1e-2
    rotated, _ = _attention(x[:, order], rotary=10_000.0)
    assert np.abs(rotated - _attention(x, rotary=10_000.0)[0][:, order]).max() > 1e-2


@functools.cache
def _made(rotary, key_heads, causal):
    """A module with drawn variables, compiled: of `x` and which positions are real."""
    module = Attention(3, key_heads=key_heads, rotary=rotary)
    variables = _drawn(jax.eval_shape(lambda key: module.init(key, _x(), Mode()), jax.random.key(0)))
    return jax.jit(lambda x, real: module.apply(variables, x, Mode(), Mask(real=real, causal=causal)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, POSITIONS - 1), st.integers(0, 2**32 - 1), st.booleans())
def test_padding_has_no_say_and_a_causal_module_does_not_look_ahead(place, seed, rotary):
    """What is changed at one place, of padding or of what comes later, changes nothing elsewhere."""
    x = _x()
    other = x.copy()
    other[:, place] = 100 * np.random.default_rng(seed).normal(size=(BATCH, 12))
    others = np.arange(POSITIONS) != place
    rest = np.broadcast_to(others, (BATCH, POSITIONS))
    fields = (10_000.0, 1) if rotary else (0.0, 3)
    one, two = (_made(*fields, False)(each, rest) for each in (x, other))
    np.testing.assert_array_equal(one[:, others], two[:, others])
    one, two = (_made(*fields, True)(each, np.ones_like(rest)) for each in (x, other))
    np.testing.assert_array_equal(one[:, :place], two[:, :place])
    assert np.abs(one[:, place:] - two[:, place:]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 4}, "width 10 cannot be divided among 4 attention heads"),
        ({"num_heads": 5, "key_heads": 2}, "5 attention heads cannot share the keys of 2"),
        ({"num_heads": 5, "rotary": 10_000.0, "head_width": 3}, "heads of width 3 are odd"),
    ],
)
def test_heads_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Attention(**fields).init(jax.random.key(0), np.zeros((1, 3, 10), np.float32), Mode())


def test_rotary_positions_of_two_sequences_are_refused():
    x = np.zeros((1, 3, 10), np.float32)
    with pytest.raises(InputError, match=r"rotary positions .* two of them"):
        Attention(5, rotary=10_000.0).init(jax.random.key(0), x, Mode(), other=x)


def _vit(shape, **arguments):
    model = create("vit", 3, width=8, depth=2, num_heads=2, **arguments)
    return model, _drawn(jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0)))


def _patches_permuted(x, patch, order):
    batch, height, width, channels = x.shape
    rows, columns = height // patch, width // patch
    tiles = x.reshape(batch, rows, patch, columns, patch, channels).swapaxes(2, 3)
    tiles = tiles.reshape(batch, rows * columns, patch, patch, channels)[:, order]
    return tiles.reshape(batch, rows, columns, patch, patch, channels).swapaxes(2, 3).reshape(x.shape)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_vit_knows_where_a_patch_was_by_its_positions_alone(pool):
    model, variables = _vit((4, 6, 1), patch_size=2, pool=pool)
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 1)).astype(np.float32)
    permuted = _patches_permuted(x, 2, [4, 2, 0, 5, 1, 3])
    run = jax.jit(model.apply)

    def moved():
        """How much the logits change when the patches trade places, against the spread between images."""
        one, other = np.asarray(run(variables, x)), np.asarray(run(variables, permuted))
        return np.abs(other - one).max() / np.abs(one[0] - one[1]).max()

    assert moved() > 0.1
    variables["params"]["embed"]["position"] *= 0
    assert moved() < 1e-4


@pytest.mark.parametrize(("pool", "tokens"), [("token", 5), ("mean", 4)])
def test_taps_of_vit_show_where_each_block_looks(pool, tokens):
    model, variables = _vit((8, 8, 1), pool=pool)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    tapped = jax.jit(lambda v, x: model.apply(v, x, taps=("block1/attention", "block2/attention")))
    logits, taps = tapped(variables, x)
    assert set(taps) == {"block1/attention", "block2/attention"}
    for weights in taps.values():
        assert weights.shape == (3, 2, tokens, tokens)
        assert (np.asarray(weights) > 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert np.abs(taps["block1/attention"] - taps["block2/attention"]).max() > 1e-3
    np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, x), atol=1e-4)
