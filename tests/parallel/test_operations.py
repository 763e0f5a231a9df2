"""Operations counted by hand, and by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.parallel.operations import operations_of


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def test_a_product_and_its_gradients():
    """Of ``x[b, i] @ w[i, o]``: 2 b i o forward, and as much for each of the two gradients."""

    def loss(w, x):
        return ((x @ w) ** 2).sum()

    once = 2 * 8 * 16 * 32
    assert operations_of(loss, shape(16, 32), shape(8, 16)).flops == once
    assert operations_of(jax.grad(loss), shape(16, 32), shape(8, 16)).flops == 2 * once  # x needs no gradient
    assert operations_of(jax.grad(loss, argnums=(0, 1)), shape(16, 32), shape(8, 16)).flops == 3 * once


def test_what_a_product_moves():
    found = operations_of(lambda x, w: x @ w, shape(8, 16), shape(16, 32, dtype=jnp.bfloat16))
    assert found.moved == 4 * 8 * 16 + 2 * 16 * 32 + 4 * 8 * 32
    assert operations_of(jnp.sum, shape(8, 16)).moved == 4 * 8 * 16


def test_a_scan_counts_as_often_as_it_is_long_and_of_a_condition_the_longer_branch():
    def run(x, w):
        x, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, length=7)
        return jax.lax.cond(x.sum() > 0, lambda: (x @ w) @ w, lambda: x @ w)

    found = operations_of(jax.jit(run), shape(4, 16), shape(16, 16))
    assert found.flops == 9 * 2 * 4 * 16 * 16
    assert found.loops == 0


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    def run(x, w):
        return jax.lax.while_loop(lambda h: h.sum() > 0, lambda h: h @ w, x)

    found = operations_of(run, shape(4, 16), shape(16, 16))
    assert (found.flops, found.loops) == (2 * 4 * 16 * 16, 1)


CONVOLUTIONS = [
    dict(window_strides=(1, 1), padding="VALID"),
    dict(window_strides=(1, 1), padding="SAME"),
    dict(window_strides=(2, 2), padding="SAME"),
    dict(window_strides=(2, 1), padding=((3, 2), (0, 1)), rhs_dilation=(1, 2)),
    dict(window_strides=(1, 1), padding="SAME", feature_group_count=4),
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_convolutions_and_their_gradients_are_what_xla_counts(options):
    """XLA counts the same products, and some sums besides."""
    groups = options.get("feature_group_count", 1)

    def run(x, w):
        return jax.lax.conv_general_dilated(x, w, **options, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def gradients(x, w, given):
        return jax.vjp(run, x, w)[1](given)

    shapes = shape(3, 15, 14, 8), shape(3, 3, 8 // groups, 16)
    made = jax.eval_shape(run, *shapes)
    for function, given in ((run, shapes), (gradients, (*shapes, made))):
        theirs = jax.jit(function).lower(*given).compile().cost_analysis()["flops"]
        assert operations_of(function, *given).flops == pytest.approx(theirs, rel=0.02)


def test_a_convolution_by_hand():
    """3 x 3 positions of an image of 4 x 4 without padding: 4 outputs of 9 products each; with padding of one, 100."""
    x, w = shape(1, 4, 4, 1), shape(3, 3, 1, 1)

    def run(padding):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=numbers)

    assert operations_of(run("VALID"), x, w).flops == 2 * 4 * 9
    assert operations_of(run("SAME"), x, w).flops == 2 * 10 * 10  # along an axis 2 + 3 + 3 + 2 positions meet a value
    assert np.isfinite(operations_of(run("SAME"), x, w).moved)
