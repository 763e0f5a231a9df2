"""Convolutions with a kernel for each channel, which go their own way on the CPU, against XLA's grouped convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl.models.convolution import convolve
from jaxdl.models.layers import conv

LAYOUT = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _both(channels, strides, padding):
    options = dict(**LAYOUT, feature_group_count=channels)
    return (
        lambda x, w: convolve(x, w, strides, padding, **options),
        lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **options),
    )


CASES = [
    # batch, height and width, kernel, strides, padding
    (3, (7, 6), (3, 3), (1, 1), ((1, 1), (1, 1))),
    (2, (8, 9), (3, 3), (2, 2), "SAME"),  # asymmetric for an even side
    (11, (9, 8), (5, 5), (2, 2), ((2, 2), (2, 2))),  # a batch that divides into no equal groups
    (16, (6, 6), (5, 5), (1, 1), "SAME"),
    (2, (5, 7), (3, 2), (2, 3), ((0, 1), (3, 0))),
    (1, (2, 2), (5, 5), (2, 2), "SAME"),  # the kernel is larger than the image
    (2, (7, 7), (1, 1), (2, 2), "VALID"),  # pixels that it does not see
    pytest.param(2, (9, 9), (7, 7), (1, 1), "VALID", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("batch", "sides", "size", "strides", "padding"), CASES)
def test_it_is_xlas_in_value_and_gradients(batch, sides, size, strides, padding):
    x, weights = _drawn(batch, *sides, 4), _drawn(*size, 1, 4, seed=2)
    ours, xlas = _both(4, strides, padding)
    gradient = _drawn(*jax.eval_shape(xlas, x, weights).shape, seed=1)

    def value_and_gradients(apply):
        def pulled(x, weights):
            answer, pull = jax.vjp(apply, x, weights)
            return answer, *pull(gradient)

        return jax.jit(pulled)(x, weights)

    for mine, theirs in zip(value_and_gradients(ours), value_and_gradients(xlas), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_on_the_cpu_it_is_no_convolution():
    x, weights = _drawn(2, 8, 8, 4), _drawn(3, 3, 1, 4)
    ours, _ = _both(4, (2, 2), "SAME")
    assert "custom_vjp" in str(jax.make_jaxpr(ours)(x, weights))
    step = jax.jit(jax.grad(lambda x, w: jnp.square(ours(x, w)).sum(), (0, 1)))
    assert "convolution(" not in step.lower(x, weights).compile().as_text()


def test_on_other_devices_it_is_xlas():
    x, weights = _drawn(2, 8, 8, 4), _drawn(3, 3, 1, 4)
    ours, _ = _both(4, (2, 2), "SAME")
    step = jax.jit(jax.grad(lambda x, w: jnp.square(ours(x, w)).sum(), (0, 1)))
    exported = step.trace(x, weights).lower(lowering_platforms=("tpu",)).as_text()
    assert exported.count("stablehlo.convolution") >= 3


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_mapped_over_kernels_is_the_layer_in_turn(stride):
    layer = conv(4, 3, stride, feature_group_count=4)
    x = _drawn(3, 2, 6, 5, 4)
    kernels = {"params": {"kernel": jnp.asarray(_drawn(3, 3, 3, 1, 4, seed=2))}}

    @jax.jit
    def gradients(variables, x):
        return jax.grad(lambda v, x: jnp.square(layer.apply(v, x)).sum(), (0, 1))(variables, x)

    mapped = jax.jit(jax.vmap(gradients))(kernels, x)
    for place in range(3):
        alone = gradients(jax.tree.map(lambda a, i=place: a[i], kernels), x[place])
        for found, wanted in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(found[place], wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_negative_padding_takes_away(groups):
    """By numpy; XLA's own convolution reads beyond the image there."""
    x, weights = _drawn(2, 9, 8, 4), _drawn(3, 3, 4 // groups, 4, seed=2)
    options = dict(**LAYOUT, feature_group_count=groups)
    found = convolve(x, weights, (2, 1), ((-1, 1), (0, -2)), **options)
    cropped = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:, :-2]
    wanted = lax.conv_general_dilated(cropped, weights, (2, 1), "VALID", **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_xla():
    x, weights = _drawn(2, 6, 5, 2), _drawn(3, 3, 1, 2, seed=2)

    def curvature(apply):
        loss = lambda w: jnp.sin(apply(x, w)).sum()  # noqa: E731
        return jax.jit(jax.grad(lambda w: jnp.vdot(jax.grad(loss)(w), weights)))(weights)

    ours, xlas = (curvature(apply) for apply in _both(2, (2, 1), ((1, 1), (0, 1))))
    np.testing.assert_allclose(ours, xlas, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_summed_up_in_float32():
    x, weights = jnp.ones((8, 40, 40, 2), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    ours, _ = _both(2, (1, 1), "VALID")
    assert ours(x, weights).dtype == jnp.bfloat16
    found = jax.grad(lambda w: ours(x, w).astype(jnp.float32).sum())(weights)
    assert found.dtype == jnp.bfloat16
    assert np.unique(found) == jnp.bfloat16(8 * 38 * 38)  # in bfloat16 256 + 1 is 256


@pytest.mark.parametrize(
    ("groups", "features", "options"),
    [
        (2, 4, {}),
        (4, 8, {}),
        (4, 4, {"rhs_dilation": (2, 2)}),
        (4, 4, {"precision": lax.Precision.HIGHEST}),
    ],
)
def test_other_groups_are_left_to_xla(groups, features, options):
    options = {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": groups, **LAYOUT, **options}
    x, weights = _drawn(2, 9, 9, 4), _drawn(3, 3, 4 // groups, features, seed=2)
    assert "custom_vjp" not in str(jax.make_jaxpr(lambda x, w: convolve(x, w, **options))(x, weights))
    wanted = lax.conv_general_dilated(x, weights, **options)
    np.testing.assert_allclose(convolve(x, weights, **options), wanted, rtol=1e-4, atol=1e-4)
