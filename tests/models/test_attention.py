"""Attention against its definition, and what it knows of the order of its inputs."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.attention import (
    SelfAttention,
    attend,
    attention_weights,
    cudnn_refuses,
    plain_attention,
    splash_attention,
)
from jaxdl.models.initialise import init_variables
from jaxdl.models.staged import Mode, Taps

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
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(array).transpose(1, 2) for array in qkv), attn_mask=None if mask is None else torch.tensor(mask)
    )
    np.testing.assert_allclose(plain_attention(*qkv, mask)[0], theirs.transpose(1, 2), atol=1e-6)


def test_attending_on_this_machine_is_plain_attention(qkv, mask):
    expected = plain_attention(*qkv, mask)[0]
    np.testing.assert_array_equal(attend(*qkv, mask), expected)
    np.testing.assert_array_equal(attend(*qkv, mask, "plain"), expected)


def _with_gradients(attention):
    """What `attention` gives, and the gradients of a sum of it in which all matters."""

    def run(query, key, value):
        total = lambda *qkv: jnp.sin(3 * attention(*qkv).astype(jnp.float32)).sum()  # noqa: E731
        return attention(query, key, value), *jax.grad(total, (0, 1, 2))(query, key, value)

    return run


def test_splash_attention_is_plain_attention_for_every_fold_with_gradients():
    # 7 and 130 positions are filled up to 128 and 256
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 1, n, 2, 8)).astype(np.float32) for n in (7, 130, 130))
    interpreted = lambda *qkv: splash_attention(*qkv, interpret=True)  # noqa: E731
    found = jax.jit(jax.vmap(_with_gradients(interpreted)))(query, key, value)
    expected = jax.jit(jax.vmap(_with_gradients(lambda *qkv: plain_attention(*qkv)[0])))(query, key, value)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def _kernels(positions, platform, *, divided=False, implementation="auto"):
    """How often a program for `platform`, lowered here, calls one of the kernels for TPUs."""
    run = _with_gradients(lambda *qkv: attend(*qkv, implementation=implementation))
    if not divided:
        mesh = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
        run = jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    x = jax.ShapeDtypeStruct((2, positions, 2, 64), jnp.bfloat16)
    return jax.jit(run).trace(x, x, x).lower(lowering_platforms=(platform,)).as_text().count("tpu_custom_call")


def test_programs_for_tpus_take_the_kernel_where_it_pays_and_may_be_called():
    assert _kernels(577, "tpu") == 4  # alone, and in the gradient: forward, of the query, of key and value
    assert _kernels(577, "cpu") == 0
    assert _kernels(577, "cuda") == 0
    assert _kernels(197, "tpu") == 0
    assert _kernels(577, "tpu", divided=True) == 0  # by jit among devices: the compiler cannot divide a kernel
    assert _kernels(197, "tpu", divided=True, implementation="splash") == 4


ON_A_TPU = """
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from jaxdl.models.attention import attend
mesh = Mesh(np.array(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices).reshape(-1),
            ("data",), axis_types=(AxisType.Auto,))
loss = lambda *qkv: attend(*qkv).astype(jnp.float32).sum()
step = jax.shard_map(jax.grad(loss, (0, 1, 2)), mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
x = jax.ShapeDtypeStruct((8, 577, 1, 80), jnp.bfloat16, sharding=NamedSharding(mesh, P("data")))
print(jax.jit(step).lower(x, x, x).compile().as_text().count('"tpu_custom_call"'))
"""


def test_the_compiler_for_tpus_takes_the_kernel():
    pytest.importorskip("libtpu", reason="the compiler for TPUs is in libtpu: pip install libtpu")
    machine = {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_LOG_DIR": "disabled",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    ran = subprocess.run([sys.executable, "-c", ON_A_TPU], env=os.environ | machine, capture_output=True, text=True)
    assert ran.stdout.split()[-1:] == ["3"], ran.stderr


@pytest.mark.parametrize("positions", [8, 9])
def test_programs_for_gpus_take_cudnn(monkeypatch, positions):
    # lowering needs no GPU, once the two questions that are put to it are answered
    monkeypatch.setattr("jaxdl.models.attention.cudnn_refuses", lambda *_: "")
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    x = jax.ShapeDtypeStruct((3, 2, positions, 2, 64), jnp.bfloat16)
    traced = jax.jit(jax.vmap(_with_gradients(attend))).trace(x, x, x)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("__cudnn$fmhaSoftmax(") == 2
    assert program.count("__cudnn$fmhaSoftmaxBackward(") == 1
    even = positions + positions % 2  # JAX has the gradient for these alone
    calls = [line for line in program.splitlines() if "__cudnn$fmha" in line]
    assert all(f"tensor<6x{even}x2x64xbf16>" in line for line in calls)
    assert "cudnn" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("positions", [64, 197])
def test_cudnn_is_plain_attention_for_every_fold_with_gradients(positions):
    query, key, value = np.random.default_rng(0).normal(size=(3, 2, 2, positions, 3, 64)).astype(jnp.bfloat16)
    if reason := cudnn_refuses(query[0], key[0], None):
        pytest.skip(reason)
    found = jax.jit(jax.vmap(_with_gradients(lambda *qkv: attend(*qkv, implementation="cudnn"))))(query, key, value)
    exact = (x.astype(np.float32) for x in (query, key, value))
    expected = jax.jit(jax.vmap(_with_gradients(lambda *qkv: plain_attention(*qkv)[0])))(*exact)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.astype(np.float32), theirs, atol=0.03 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("implementation", "dtype", "width", "masked", "message"),
    [
        ("cudn", "bfloat16", 64, False, "unknown implementation of attention 'cudn'.*Did you mean 'cudnn'?"),
        ("cudnn", "float32", 64, False, "'cudnn': cuDNN computes it in bfloat16 or float16, not float32"),
        ("cudnn", "bfloat16", 20, False, "a multiple of 8 up to 128, not 20"),
        ("cudnn", "bfloat16", 256, False, "a multiple of 8 up to 128, not 256"),
        ("cudnn", "bfloat16", 64, True, "'cudnn': it is run without a mask only; 'auto' takes what suits"),
        ("splash", "float16", 64, False, "'splash': splash attention computes in float32 or bfloat16, not float16"),
        ("splash", "bfloat16", 20, False, "a multiple of 8, not 20"),
        ("splash", "bfloat16", 64, True, "'splash': it is run without a mask only"),
    ],
)
def test_an_implementation_that_cannot_do_it_says_why(implementation, dtype, width, masked, message):
    x = jnp.zeros((1, 4, 2, width), dtype)
    with pytest.raises(InputError, match=message):
        attend(x, x, x, jnp.ones((1, 1, 1, 4), bool) if masked else None, implementation)


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
