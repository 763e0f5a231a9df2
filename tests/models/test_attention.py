"""Attention against its definition, and what it knows of the order of its inputs."""

import jax
import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.attention import SelfAttention, attention_weights, plain_attention
from jaxdl.models.staged import Mode, Taps, init_variables

BATCH, POSITIONS, OFFERED, HEADS, WIDTH = 2, 5, 7, 3, 4


@pytest.fixture(scope="module")
def qkv():
    rng = np.random.default_rng(0)
    drawn = lambda positions: rng.normal(size=(BATCH, positions, HEADS, WIDTH)).astype(np.float32)  # noqa: E731
    return drawn(POSITIONS), drawn(OFFERED), drawn(OFFERED)


@pytest.fixture(scope="module", params=["all", "some", "shared"])
def mask(request):
    if request.param == "all":
        return None
    shape = (BATCH, HEADS, POSITIONS, OFFERED) if request.param == "some" else (BATCH, 1, 1, OFFERED)
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[..., 0] = True  # every position may look somewhere
    return mask


def _by_loops(query, key, value, mask):
    """Equation 1 of Vaswani et al., one position at a time."""
    out = np.zeros(query.shape)
    weights = np.zeros((BATCH, HEADS, query.shape[1], key.shape[1]))
    allowed = np.ones(weights.shape, bool) if mask is None else np.broadcast_to(mask, weights.shape)
    for b, h, q in np.ndindex(weights.shape[:3]):
        scores = np.array([query[b, q, h] @ key[b, k, h] for k in range(key.shape[1])], np.float64)
        odds = np.exp(scores / np.sqrt(query.shape[-1])) * allowed[b, h, q]
        weights[b, h, q] = odds / odds.sum()
        out[b, q, h] = weights[b, h, q] @ value[b, :, h]
    return out, weights


def test_plain_attention(qkv, mask):
    out, weights = plain_attention(*qkv, mask)
    expected, expected_weights = _by_loops(*qkv, mask)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    np.testing.assert_array_equal(attention_weights(*qkv[:2], mask), weights)


def test_plain_attention_is_that_of_jax(qkv, mask):
    np.testing.assert_allclose(plain_attention(*qkv, mask)[0], jax.nn.dot_product_attention(*qkv, mask=mask), atol=1e-6)


def test_plain_attention_is_that_of_torch(qkv, mask):
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install jaxdl[torch]")
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(array).transpose(1, 2) for array in qkv), attn_mask=None if mask is None else torch.tensor(mask)
    )
    np.testing.assert_allclose(plain_attention(*qkv, mask)[0], theirs.transpose(1, 2), atol=1e-6)


def _drawn(shapes):
    """Variables drawn by numpy, which need not compile anything."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes)


def _self_attention(tap):
    x = np.random.default_rng(2).normal(size=(BATCH, POSITIONS, 12)).astype(np.float32)
    module = SelfAttention(num_heads=HEADS)
    variables = _drawn(jax.eval_shape(lambda key: module.init(key, x, Mode()), jax.random.key(0)))
    if tap:
        mode = Mode(stage="here", taps=Taps(("here/attention",)))
        return x, module.apply(variables, x, mode), mode.taps.found["here/attention"], variables
    return x, module.apply(variables, x, Mode()), None, variables


def test_self_attention_with_and_without_tap():
    x, out, weights, variables = _self_attention(tap=True)
    np.testing.assert_allclose(out, _self_attention(tap=False)[1], atol=1e-6)
    split = {
        name: (x @ p["kernel"] + p["bias"]).reshape(BATCH, POSITIONS, HEADS, WIDTH)
        for name, p in variables["params"].items()
        if name != "out"
    }
    mixed, expected_weights = _by_loops(split["query"], split["key"], split["value"], None)
    last = variables["params"]["out"]
    np.testing.assert_allclose(out, mixed.reshape(BATCH, POSITIONS, -1) @ last["kernel"] + last["bias"], atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)


def test_self_attention_sees_a_set():
    x, out, _, variables = _self_attention(tap=False)
    order = np.array([3, 0, 4, 1, 2])
    permuted = SelfAttention(num_heads=HEADS).apply(variables, x[:, order], Mode())
    np.testing.assert_allclose(permuted, out[:, order], atol=1e-6)
    assert np.abs(permuted - out).max() > 1e-2


def test_self_attention_refuses_a_width_its_heads_do_not_divide():
    with pytest.raises(InputError, match="width 10 cannot be divided among 4 attention heads"):
        SelfAttention(num_heads=4).init(jax.random.key(0), np.zeros((1, 3, 10), np.float32), Mode())


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
