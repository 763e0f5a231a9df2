"""Convolution and max pooling, whose gradients have a way of their own on the CPU, against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxdl.models import convolution
from jaxdl.models.convolution import convolve
from jaxdl.models.layers import conv
from jaxdl.models.pooling import _native, max_pool

LAYOUT = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _assert_same_gradients(ours, xlas, *operands):
    answer, pull = jax.vjp(ours, *operands)
    wanted, their_pull = jax.vjp(xlas, *operands)
    np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-4)
    gradient = _drawn(*answer.shape, seed=1)
    for mine, theirs in zip(pull(gradient), their_pull(gradient), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    batch=st.integers(1, 5),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    kernel=st.sampled_from([(1, 1), (1, 1), (1, 2), (3, 3), (3, 2)]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.sampled_from([((0, 0), (0, 0)), ((0, 0), (0, 0)), ((1, 0), (0, 1)), "SAME", "VALID"]),
    together=st.sampled_from([1, 7, 30, 1024]),
)
def test_any_convolution_has_xlas_gradients(batch, height, width, kernel, strides, padding, together):
    x, weights = _drawn(batch, height, width, 3), _drawn(*kernel, 3, 4, seed=2)
    before = convolution.POSITIONS
    convolution.POSITIONS = together  # so that few positions are divided as many are
    try:
        _assert_same_gradients(
            lambda x, w: convolve(x, w, strides, padding, **LAYOUT),
            lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **LAYOUT),
            x,
            weights,
        )
    finally:
        convolution.POSITIONS = before


@pytest.mark.parametrize(
    ("sides", "channels", "size", "stride", "padding"),
    [
        ((2, 2), (3, 4), (3, 3), 1, ((1, 1), (1, 1))),
        ((2, 2), (40, 30), (3, 3), 1, "SAME"),  # the kernel is larger than the gradient
        pytest.param((4, 4), (3, 4), (3, 3), 2, ((1, 1), (1, 1)), marks=pytest.mark.slow),
        pytest.param((1, 7), (3, 2), (3, 5), 2, ((1, 1), (2, 1)), marks=pytest.mark.slow),
        pytest.param((5, 5), (3, 2), (5, 5), 1, "VALID", marks=pytest.mark.slow),
        pytest.param((4, 4), (3, 2), (7, 7), 2, ((3, 3), (3, 3)), marks=pytest.mark.slow),
    ],
)
def test_kernels_larger_than_the_image_are_products(sides, channels, size, stride, padding):
    x, weights = _drawn(3, *sides, channels[0]), _drawn(*size, *channels, seed=2)
    ours = lambda x, w: convolve(x, w, (stride, stride), padding, **LAYOUT)  # noqa: E731
    assert "dot_general" in str(jax.make_jaxpr(ours)(x, weights))
    _assert_same_gradients(
        ours, lambda x, w: lax.conv_general_dilated(x, w, (stride, stride), padding, **LAYOUT), x, weights
    )


def test_a_kernel_that_nothing_is_made_of_is_left_to_xla():
    x, weights = _drawn(2, 2, 2, 3), _drawn(3, 3, 3, 4)
    assert convolve(x, weights, (1, 1), "VALID", **LAYOUT).shape == (2, 0, 0, 4)


@pytest.mark.parametrize("options", [dict(feature_group_count=2), dict(rhs_dilation=(2, 2)), dict(lhs_dilation=(1, 2))])
def test_groups_and_dilation_are_left_to_xla(options):
    x, weights = _drawn(2, 9, 9, 4), _drawn(1, 1, 4 // options.get("feature_group_count", 1), 6, seed=2)
    _assert_same_gradients(
        lambda x, w: convolve(x, w, (1, 1), ((0, 0), (0, 0)), **LAYOUT, **options),
        lambda x, w: lax.conv_general_dilated(x, w, (1, 1), ((0, 0), (0, 0)), **LAYOUT, **options),
        x,
        weights,
    )


@pytest.mark.parametrize(("size", "stride"), [(1, 2), (3, 1), pytest.param(11, 1, marks=pytest.mark.slow)])
def test_a_layer_mapped_over_kernels_is_the_layer_in_turn(size, stride):
    layer = conv(4, size, stride)
    x = _drawn(3, 2, 9, 9, 3)
    kernels = {"params": {"kernel": jnp.asarray(_drawn(3, size, size, 3, 4, seed=2))}}

    def gradient(variables, x):
        return jax.grad(lambda v: jnp.square(layer.apply(v, x)).sum())(variables)

    mapped = jax.vmap(gradient)(kernels, x)
    for place in range(3):
        alone = gradient(jax.tree.map(lambda a, i=place: a[i], kernels), x[place])
        found = mapped["params"]["kernel"][place]
        np.testing.assert_allclose(found, alone["params"]["kernel"], rtol=1e-4, atol=1e-3)


def test_second_derivatives_are_those_of_xla():
    x, weights = _drawn(2, 6, 6, 2), _drawn(1, 1, 2, 3, seed=2)

    def curvature(apply):
        loss = lambda w: jnp.sin(apply(x, w, (2, 1), ((0, 0), (0, 0)), **LAYOUT)).sum()  # noqa: E731
        return jax.grad(lambda w: jnp.vdot(jax.grad(loss)(w), weights))(weights)

    np.testing.assert_allclose(curvature(convolve), curvature(lax.conv_general_dilated), rtol=1e-3, atol=1e-3)


def test_bfloat16_is_summed_up_in_float32():
    x, weights = jnp.ones((8, 40, 40, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    found = jax.grad(lambda w: convolve(x, w, (1, 1), ((0, 0), (0, 0)), **LAYOUT).astype(jnp.float32).sum())(weights)
    assert found.dtype == jnp.bfloat16
    assert found.item() == 8 * 40 * 40  # in bfloat16 256 + 1 is 256


@pytest.mark.parametrize(
    ("sides", "size", "stride", "padding", "ties"),
    [
        pytest.param((8, 8), 3, 2, ((1, 1), (1, 1)), False, marks=pytest.mark.slow),
        ((9, 7), 3, 2, ((0, 1), (1, 0)), True),
        ((11, 10), 2, 3, ((0, 0), (0, 0)), False),
        ((7, 9), 4, 2, ((1, 0), (1, 1)), True),
        pytest.param((6, 5), 3, 1, ((1, 1), (1, 1)), True, marks=pytest.mark.slow),
    ],
)
def test_max_pooling_has_xlas_gradient(sides, size, stride, padding, ties):
    x = _drawn(2, *sides, 3)
    x = np.round(x) if ties else x
    _assert_same_gradients(
        lambda x: max_pool(x, size, stride, padding), lambda x: _native(x, size, stride, padding), jnp.asarray(x)
    )
