"""As which types arrays are collected: as the function computes with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxdl
from jaxdl.models.initialise import init_variables
from jaxdl.parallel.fsdp import types_at_use


def cast(w):
    return w["a"].astype(jnp.bfloat16).sum()


def steps(w, cast_in_loop):
    a = w["a"] if cast_in_loop else w["a"].astype(jnp.bfloat16)
    return jax.lax.scan(lambda h, _: (h * a.astype(jnp.bfloat16), None), jnp.ones(3, jnp.bfloat16), None, 4)[0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (cast, "bfloat16"),
        (jax.jit(cast), "bfloat16"),
        (jax.checkpoint(cast), "bfloat16"),
        (lambda w: cast(w) + jax.nn.relu(w["a"].astype("bfloat16")).sum(), "bfloat16"),
        (lambda w: steps(w, True), "bfloat16"),
        (lambda w: steps(w, False), "bfloat16"),
        (lambda w: w["a"].sum(), "float32"),
        (lambda w: cast(w) + w["a"].sum(), "float32"),  # as of a table that a head reads in float32
        (lambda w: (cast(w), w["a"]), "float32"),  # it comes out, too
        (lambda w: w["a"].astype("float16") * w["a"].astype("bfloat16"), "float32"),
        (lambda w: w["a"].astype("int8"), "float32"),
        (lambda w: 0, "float32"),  # not used at all
        # what a loop hands from turn to turn is not the array that went in
        (lambda w: jax.lax.fori_loop(0, 3, lambda _, a: a.astype("bfloat16").astype("float32"), w["a"]), "float32"),
        (lambda w: jax.lax.cond(True, cast, lambda w: w["a"].sum().astype("bfloat16"), w), "float32"),
    ],
)
def test_an_array_is_collected_as_it_is_computed_with(function, expected):
    assert types_at_use(function, {"a": jnp.ones(3)}) == {"a": jnp.dtype(expected)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_of_a_network_kernels_are_in_its_precision(precision):
    model = jaxdl.create("vit", 3, width=16, depth=2, num_heads=2, patch_size=2, dtype=precision)
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), (8, 8, 1)))
    types = types_at_use(lambda v: model.apply(v, jnp.ones((2, 8, 8, 1))), variables)
    kernels = {str(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(types) if "kernel" in str(path[-1])}
    assert kernels == {precision}
    norm = nn.LayerNorm(dtype=precision)
    x = jnp.ones((2, 5))
    scale = types_at_use(lambda v: norm.apply(v, x), norm.init(jax.random.key(0), x))["params"]["scale"]
    assert scale == jnp.float32  # Flax multiplies by it in float32
