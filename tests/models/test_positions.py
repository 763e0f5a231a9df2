"""Positions against their formulas, and transformers' T5 and Llama."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from libraries import library

from jaxdl.errors import InputError
from jaxdl.models.positions import LearnedPositions, RelativeBias, relative_buckets, rotate, sinusoidal


@pytest.mark.parametrize("width", [6, 7])
def test_sinusoidal_positions_are_the_papers(width):
    found = sinusoidal(5, width)
    assert found.shape == (5, width)
    for position, column in np.ndindex(found.shape):
        angle = position / 10_000 ** (column // 2 * 2 / width)
        assert found[position, column] == pytest.approx((np.sin, np.cos)[column % 2](angle), abs=1e-6)


def test_learned_positions_are_added_and_end_somewhere():
    module, x = LearnedPositions(4), np.ones((2, 3, 5), np.float32)
    variables = module.init(jax.random.key(0), x)
    table = variables["params"]["table"]
    assert table.shape == (4, 5)
    np.testing.assert_array_equal(module.apply(variables, x), x + table[None, :3])
    with pytest.raises(InputError, match="the input has 5 positions, and the network knows 4"):
        module.apply(variables, np.ones((2, 5, 5), np.float32))


@pytest.mark.parametrize("both_ways", [True, False])
def test_near_distances_have_a_bucket_each_and_far_ones_share(both_ways):
    buckets = relative_buckets(200, 200, both_ways=both_ways)
    half, row = (16, buckets[150]) if both_ways else (32, buckets[150])
    np.testing.assert_array_equal(row[151 - half // 2 : 151], np.arange(half // 2)[::-1])
    assert (np.diff(row[:151]) <= 0).all()
    assert set(row[: 150 - 128]) == {half - 1}
    later = row[151:]
    if both_ways:
        np.testing.assert_array_equal(later, 16 + buckets[150, 149 : 149 - len(later) : -1])
    else:
        assert not later.any()


@pytest.mark.slow
@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(
    ("to", "offered", "buckets", "farthest"), [(700, 5, 32, 128), (5, 700, 32, 128), (90, 80, 8, 20)]
)
def test_relative_buckets_are_those_of_t5(both_ways, to, offered, buckets, farthest):
    attention = library("transformers.models.t5.modeling_t5").T5Attention
    torch = library("torch")
    distance = torch.arange(offered)[None] - torch.arange(to)[:, None]
    theirs = attention._relative_position_bucket(distance, both_ways, buckets, farthest)
    ours = relative_buckets(to, offered, both_ways=both_ways, buckets=buckets, farthest=farthest)
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.slow
def test_the_relative_bias_is_that_of_t5():
    t5 = library("transformers.models.t5.modeling_t5")
    torch = library("torch")
    config = t5.T5Config(d_model=12, num_heads=3, d_kv=4, is_decoder=False)
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    table = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(torch.tensor(table))
        expected = theirs.compute_bias(9, 200).numpy()
    found = RelativeBias(3).apply({"params": {"table": table}}, 9, 200)
    np.testing.assert_array_equal(found, expected)
    shapes = jax.eval_shape(lambda key: RelativeBias(3).init(key, 9, 200), jax.random.key(0))
    assert shapes["params"]["table"].shape == table.shape


@pytest.mark.slow
def test_rotary_positions_are_those_of_llama():
    llama = library("transformers.models.llama.modeling_llama")
    torch = library("torch")
    query, key = np.random.default_rng(0).normal(size=(2, 2, 40, 3, 8)).astype(np.float32)
    config = llama.LlamaConfig(hidden_size=24, num_attention_heads=3, head_dim=8)
    turn = llama.LlamaRotaryEmbedding(config)(torch.tensor(query), torch.arange(40)[None])
    theirs = llama.apply_rotary_pos_emb(*(torch.tensor(x).transpose(1, 2) for x in (query, key)), *turn)
    for ours, expected in zip((rotate(query), rotate(key)), theirs, strict=True):
        np.testing.assert_allclose(ours, expected.transpose(1, 2).numpy(), atol=1e-5)


def test_rotary_scores_depend_on_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8)).astype(np.float32)
    queries, keys = (np.broadcast_to(x, (1, 30, 1, 8)) for x in (query, key))
    scores = jnp.einsum("bqhd,bkhd->qk", rotate(queries), rotate(keys))
    for distance in (-7, 0, 3):
        along = np.diagonal(np.asarray(scores), distance)
        np.testing.assert_allclose(along, along[0], atol=1e-5)
    assert np.asarray(scores)[0].std() > 0.1


def test_rotary_positions_keep_the_type():
    assert rotate(jnp.ones((1, 2, 1, 4), jnp.bfloat16)).dtype == jnp.bfloat16
