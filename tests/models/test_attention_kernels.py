"""Each kernel against the definition, under every mask that it knows, and where programs take it."""

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
from jaxdl.models.attention import attend, cudnn_attention, cudnn_refuses, plain_attention, splash_attention
from jaxdl.models.masks import Mask
from jaxdl.parallel.topology import ENVIRONMENT

SCALE = 0.3
# padding in between, in front, behind; and an example of padding alone
REAL = np.array([[1, 0, 1, 1, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0, 0], [0] * 9], bool)


def _with_gradients(attention, shown=1.0):
    """What `attention` gives, and the gradients of a sum of it in which all matters that is `shown`."""

    def run(*qkv):
        total = lambda *qkv: (shown * jnp.sin(3 * attention(*qkv).astype(jnp.float32))).sum()  # noqa: E731
        return shown * attention(*qkv), *jax.grad(total, (0, 1, 2))(*qkv)

    return run


def _compare(attention, mask, to, few=2, atol=1e-5):
    """`attention` with the definition, for every fold, the mask being common to the folds."""
    batch, offered = (3, 130) if mask.real is None else mask.real.shape
    rng = np.random.default_rng(0)
    shapes = [(2, batch, to, 2, 8), *[(2, batch, offered, few, 8)] * 2]
    qkv = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    shown = np.asarray(mask.real_keys())[..., None, None] if mask.real is not None and to == offered else 1.0
    found, expected = (
        jax.jit(jax.vmap(_with_gradients(one, shown)))(*qkv)
        for one in (
            lambda *qkv: attention(*qkv, mask, SCALE),
            lambda *qkv: plain_attention(*qkv, mask, scale=SCALE)[0],
        )
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 0.01
        # gradients reach 20, and releases of XLA add up the 130 terms of theirs in other orders
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=atol)


@pytest.mark.parametrize(
    ("mask", "to", "few"),
    [
        (Mask(), 7, 2),  # filled up to 128, and 130 to 256
        (Mask(real=REAL, causal=True), 9, 1),
        (Mask(real=REAL), 9, 2),
        (Mask(real=REAL), 5, 1),
        (Mask(causal=True), 130, 2),
    ],
)
def test_splash_attention_is_plain_attention_for_every_fold_with_gradients(mask, to, few):
    _compare(lambda *given: splash_attention(*given, interpret=True), mask, to, few)


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True), Mask(real=REAL), Mask(real=REAL, causal=True)])
@pytest.mark.parametrize("to", [9, 5])
def test_what_is_asked_of_cudnn_is_plain_attention(monkeypatch, mask, to):
    """JAX's own implementation in the place of cuDNN's, given the same lengths, flags and order of positions."""
    if mask.real is not None and mask.causal and to == 5:
        return  # refused, below
    theirs = jax.nn.dot_product_attention
    asked = []

    def instead(*qkv, implementation, **options):
        asked.append((implementation, options))
        assert all(x.shape[1] % 2 == 0 for x in qkv)
        return theirs(*qkv, **options)

    monkeypatch.setattr("jax.nn.dot_product_attention", instead)
    _compare(cudnn_attention, mask, to)
    implementation, options = asked[0]
    assert implementation == "cudnn"
    assert options["is_causal"] == mask.causal


def _kernels(positions, platform, *, divided=False, implementation="auto", **mask):
    """How often a program for `platform`, lowered here, calls one of the kernels for TPUs."""
    run = lambda real, *qkv: _with_gradients(  # noqa: E731
        lambda *qkv: attend(
            *qkv,
            Mask(real=real if mask.get("real") else None, causal=mask.get("causal", False)),
            implementation=implementation,
        )
    )(*qkv)
    if not divided:
        mesh = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
        run = jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    x = jax.ShapeDtypeStruct((2, positions, 2, 64), jnp.bfloat16)
    real = jax.ShapeDtypeStruct((2, positions), bool)
    return jax.jit(run).trace(real, x, x, x).lower(lowering_platforms=(platform,)).as_text().count("tpu_custom_call")


def test_programs_for_tpus_take_the_kernel_where_it_pays_and_may_be_called():
    assert _kernels(577, "tpu") == 4  # alone, and in the gradient: forward, of the query, of key and value
    assert _kernels(577, "tpu", real=True, causal=True) == 4
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
from jaxdl.models.masks import Mask
mesh = Mesh(np.array(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices).reshape(-1),
            ("data",), axis_types=(AxisType.Auto,))
for causal in (False, True):
    def loss(query, key, value, real):
        mask = Mask(real=real, causal=True) if causal else Mask()
        return attend(query, key, value, mask).astype(jnp.float32).sum()
    step = jax.shard_map(jax.grad(loss, (0, 1, 2)), mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    laid = NamedSharding(mesh, P("data"))
    x = jax.ShapeDtypeStruct((8, 577, 1, 80), jnp.bfloat16, sharding=laid)
    real = jax.ShapeDtypeStruct((8, 577), bool, sharding=laid)
    print(jax.jit(step).lower(x, x, x, real).compile().as_text().count('"tpu_custom_call"'))
"""


def test_the_compiler_for_tpus_takes_the_kernel():
    pytest.importorskip("libtpu", reason="the compiler for TPUs is in libtpu: pip install libtpu")
    ran = subprocess.run([sys.executable, "-c", ON_A_TPU], env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert ran.stdout.split()[-2:] == ["3", "3"], ran.stderr


@pytest.mark.parametrize("positions", [8, 9])
@pytest.mark.parametrize("causal", [None, False, True])
def test_programs_for_gpus_take_cudnn(monkeypatch, positions, causal):
    """Without a mask (None), or with one of padding that is common to the folds."""
    # lowering needs no GPU, once the two questions that are put to it are answered
    monkeypatch.setattr("jaxdl.models.attention.cudnn_refuses", lambda *_: "")
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    x = jax.ShapeDtypeStruct((3, 2, positions, 2, 64), jnp.bfloat16)
    real = jax.ShapeDtypeStruct((2, positions), bool)

    def run(real, *qkv):
        mask = Mask() if causal is None else Mask(real=real, causal=causal)
        return jax.vmap(_with_gradients(lambda *qkv: attend(*qkv, mask)))(*qkv)

    traced = jax.jit(run).trace(real, x, x, x)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("__cudnn$fmhaSoftmax(") == 2
    assert program.count("__cudnn$fmhaSoftmaxBackward(") == 1
    even = positions + positions % 2  # JAX has the gradient for these alone
    calls = [line for line in program.splitlines() if "__cudnn$fmha" in line]
    assert all(f"tensor<6x{even}x2x64xbf16>" in line for line in calls)
    kind = "PADDING_CAUSAL" if causal else "NO_MASK" if causal is None and positions == even else "PADDING"
    assert all(f'"mask_type": "{kind}"' in line.replace("\\22", '"') for line in calls), calls[0]
    assert all(("tensor<6xi32>" in line) == (kind != "NO_MASK") for line in calls)
    assert "cudnn" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("positions", [64, 197])
@pytest.mark.parametrize("causal", [None, False, True])
def test_cudnn_is_plain_attention_for_every_fold_with_gradients(positions, causal):
    query, key, value = np.random.default_rng(0).normal(size=(3, 2, 2, positions, 3, 64)).astype(jnp.bfloat16)
    mask, shown = Mask(), 1.0
    if causal is not None:
        real = np.arange(positions) < np.array([[positions - 3], [positions // 2]])
        real[1] = real[1, ::-1]
        mask, shown = Mask(real=real, causal=causal), real[..., None, None]
    if reason := cudnn_refuses(query[0], key[0], mask, None):
        pytest.skip(reason)
    ours = lambda *qkv: attend(*qkv, mask, implementation="cudnn")  # noqa: E731
    found = jax.jit(jax.vmap(_with_gradients(ours, shown)))(query, key, value)
    exact = (x.astype(np.float32) for x in (query, key, value))
    plain = lambda *qkv: plain_attention(*qkv, mask)[0]  # noqa: E731
    expected = jax.jit(jax.vmap(_with_gradients(plain, shown)))(*exact)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.astype(np.float32), theirs, atol=0.03 * np.abs(theirs).max())


PAIRS = {"mask": Mask(pairs=np.ones((1, 1, 4, 4), bool))}
BIAS = {"bias": np.ones((1, 2, 4, 4), np.float32)}
TWO = {"mask": Mask(real=np.ones((1, 6), bool), causal=True)}


@pytest.mark.parametrize(
    ("implementation", "dtype", "width", "given", "message"),
    [
        ("cudn", "bfloat16", 64, {}, "unknown implementation of attention 'cudn'.*Did you mean 'cudnn'?"),
        ("cudnn", "float32", 64, {}, "'cudnn': cuDNN computes it in bfloat16 or float16, not float32"),
        ("cudnn", "bfloat16", 20, {}, "a multiple of 8 up to 128, not 20"),
        ("cudnn", "bfloat16", 256, {}, "a multiple of 8 up to 128, not 256"),
        ("cudnn", "bfloat16", 64, PAIRS, "'cudnn': it is run without .* pair of positions, only; 'auto' takes what"),
        ("cudnn", "bfloat16", 64, BIAS, "'cudnn': it is run without a bias"),
        ("cudnn", "bfloat16", 64, TWO, "'cudnn': causal and with padding, .* looks at itself only"),
        ("splash", "float16", 64, {}, "'splash': splash attention computes in float32 or bfloat16, not float16"),
        ("splash", "bfloat16", 20, {}, "a multiple of 8, not 20"),
        ("splash", "bfloat16", 64, PAIRS, "'splash': it is run without"),
        ("splash", "bfloat16", 64, BIAS, "'splash': it is run without a bias"),
    ],
)
def test_an_implementation_that_cannot_do_it_says_why(implementation, dtype, width, given, message):
    query = jnp.zeros((1, 4, 2, width), dtype)
    key = jnp.zeros((1, 6 if given is TWO else 4, 2, width), dtype)
    with pytest.raises(InputError, match=message):
        attend(query, key, key, **given, implementation=implementation)
    if given and given is not TWO:  # as it says
        exact = plain_attention(query, key, key, given.get("mask", Mask()), given.get("bias"))[0]
        np.testing.assert_array_equal(attend(query, key, key, **given), exact)
