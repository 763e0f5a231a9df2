"""Layers against their definitions, written in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.models.layers import ACTIVATIONS, BatchNorm, Norm, activation, conv, pool
from jaxdl.models.staged import Mode

EPSILON, MOMENTUM = 1e-5, 0.9
MASK = np.array([True, False, True, True, False, True])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


CLOSED_FORMS = {
    "sigmoid": _sigmoid,
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x * _sigmoid(x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_its_slope(name):
    x = np.linspace(-5, 5, 200)  # without 0, where three of them have a corner
    np.testing.assert_allclose(activation(name)(jnp.float32(x)), CLOSED_FORMS[name](x), atol=1e-6)
    step = 1e-5
    slope = (CLOSED_FORMS[name](x + step) - CLOSED_FORMS[name](x - step)) / (2 * step)
    np.testing.assert_allclose(jax.vmap(jax.grad(activation(name)))(jnp.float32(x)), slope, atol=2e-6)


def test_unknown_activation_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown activation 'relu6'.*Did you mean 'relu'\?"):
        activation("relu6")


def _pool_by_loops(x, reduce, size):
    batch, height, width, channels = x.shape
    out = np.zeros((batch, height // size, width // size, channels))
    for i in range(height // size):
        for j in range(width // size):
            window = x[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            out[:, i, j] = reduce(reduce(window, 1), 1)
    return out


@pytest.mark.parametrize(("kind", "reduce"), [("max", np.max), ("average", np.mean)])
@pytest.mark.parametrize(("shape", "size"), [((6, 4), 2), ((7, 5), 2), ((9, 8), 3), ((3, 3), 3)])
def test_pool(kind, reduce, shape, size):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    np.testing.assert_allclose(pool(x, kind, size), _pool_by_loops(x, reduce, size), atol=1e-6)


def test_unknown_pool_is_refused():
    with pytest.raises(InputError, match="unknown pool 'min'; expected one of: max, average"):
        pool(jnp.zeros((1, 4, 4, 1)), "min")


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_pads_alike_on_all_sides(size, stride):
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 2)).astype(np.float32)
    made = jax.eval_shape(conv(3, size, stride).init, jax.random.key(0), x)["params"]
    assert {name: leaf.shape for name, leaf in made.items()} == {"kernel": (size, size, 2, 3)}
    kernel = np.random.default_rng(1).normal(size=(size, size, 2, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    expected = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    np.testing.assert_allclose(conv(3, size, stride).apply({"params": {"kernel": kernel}}, x), expected, atol=5e-5)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    x = rng.normal(3, 2, (6, 3, 4, 5)).astype(np.float32)
    variables = {
        "params": {"scale": rng.normal(1, 0.5, 5), "bias": rng.normal(size=5)},
        "batch_stats": {"mean": rng.normal(size=5), "var": 0.5 + rng.random(5)},
    }
    return x, jax.tree.map(np.float32, variables)


def _batch_norm(x, mean, var, params):
    return (x - mean) / np.sqrt(var + EPSILON) * params["scale"] + params["bias"]


def _train(variables, x, mask=None, **options):
    return BatchNorm(**options).apply(variables, x, Mode(train=True, mask=mask), mutable=["batch_stats"])


def test_batch_norm_in_use(batch):
    x, variables = batch
    stats = variables["batch_stats"]
    out, changed = BatchNorm().apply(variables, x, Mode(mask=MASK), mutable=["batch_stats"])
    np.testing.assert_allclose(out, _batch_norm(x, stats["mean"], stats["var"], variables["params"]), atol=2e-5)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], stats)


@pytest.mark.parametrize("mask", [None, MASK])
def test_batch_norm_in_training(batch, mask):
    x, variables = batch
    real = x if mask is None else x[mask]
    flat = real.reshape(-1, 5).astype(np.float64)
    out, changed = _train(variables, x, mask)
    expected = _batch_norm(real, flat.mean(0), flat.var(0), variables["params"])
    np.testing.assert_allclose(out if mask is None else out[mask], expected, atol=2e-5)
    old, new = variables["batch_stats"], changed["batch_stats"]
    np.testing.assert_allclose(new["mean"], MOMENTUM * old["mean"] + (1 - MOMENTUM) * flat.mean(0), rtol=1e-5)
    unbiased = flat.var(0, ddof=1)  # the running variance is PyTorch's: divided by n - 1
    np.testing.assert_allclose(new["var"], MOMENTUM * old["var"] + (1 - MOMENTUM) * unbiased, rtol=1e-5)


def test_batch_norm_does_not_see_what_padding_holds(batch):
    x, variables = batch
    other = np.where(MASK[:, None, None, None], x, 1e3).astype(np.float32)
    (one, changed), (two, changed_too) = _train(variables, x, MASK), _train(variables, other, MASK)
    np.testing.assert_array_equal(one[MASK], two[MASK])
    jax.tree.map(np.testing.assert_array_equal, changed, changed_too)


def test_batch_norm_of_no_example_keeps_its_statistics(batch):
    x, variables = batch
    out, changed = _train(variables, x, np.zeros(6, bool))
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])
    assert np.isfinite(out).all()


def test_batch_norm_of_one_value_is_finite(batch):
    _, variables = batch
    out, changed = _train(variables, np.ones((2, 5), np.float32), np.array([True, False]))
    np.testing.assert_allclose(out[0], variables["params"]["bias"], atol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(changed))


def test_batch_norm_is_exact_far_from_zero(batch):
    _, variables = batch
    x = np.random.default_rng(2).normal(1000, 0.1, (64, 5)).astype(np.float32)
    out, _ = _train(variables, x)
    expected = _batch_norm(x, x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64), variables["params"])
    np.testing.assert_allclose(out, expected, atol=0.01)


@pytest.mark.parametrize("mask", [None, MASK])
def test_gradient_of_batch_norm(batch, mask):
    """dx = γ/σ · (dy - mean(dy) - x̂ · mean(dy · x̂)), the means over the real examples."""
    x, variables = batch
    real = np.ones(6, bool) if mask is None else mask
    upstream = np.random.default_rng(3).normal(size=x.shape) * real[:, None, None, None]

    def loss(params, x):
        return (_train({**variables, "params": params}, x, mask)[0] * upstream).sum()

    by_params, by_x = jax.grad(loss, (0, 1))(variables["params"], x)
    flat, dy = x[real].reshape(-1, 5).astype(np.float64), upstream[real].reshape(-1, 5)
    sigma = np.sqrt(flat.var(0) + EPSILON)
    normal = (flat - flat.mean(0)) / sigma
    dx = variables["params"]["scale"] / sigma * (dy - dy.mean(0) - normal * (dy * normal).mean(0))
    np.testing.assert_allclose(by_x[real].reshape(-1, 5), dx, atol=1e-5)
    np.testing.assert_allclose(by_x[~real], 0, atol=1e-6)
    np.testing.assert_allclose(by_params["scale"], (dy * normal).sum(0), rtol=1e-4)
    np.testing.assert_allclose(by_params["bias"], dy.sum(0), rtol=1e-4)


def test_batch_norm_keeps_float32_statistics_in_bfloat16(batch):
    x, variables = batch
    out, changed = _train(variables, x.astype(jnp.bfloat16), dtype="bfloat16")
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {np.dtype("float32")}
    exact = x.astype(jnp.bfloat16).astype(np.float64).mean((0, 1, 2))
    expected = MOMENTUM * variables["batch_stats"]["mean"] + (1 - MOMENTUM) * exact
    np.testing.assert_allclose(changed["batch_stats"]["mean"], expected, rtol=1e-5)


def test_batch_norm_as_in_torch(batch):
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
    x, variables = batch
    theirs = torch.nn.BatchNorm2d(5, eps=EPSILON, momentum=1 - MOMENTUM)
    with torch.no_grad():
        for name, value in (("weight", "scale"), ("bias", "bias")):
            getattr(theirs, name).copy_(torch.tensor(variables["params"][value]))
        theirs.running_mean.copy_(torch.tensor(variables["batch_stats"]["mean"]))
        theirs.running_var.copy_(torch.tensor(variables["batch_stats"]["var"]))
    theirs_x = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    theirs_out = theirs(theirs_x)
    theirs_out.square().mul(torch.arange(4)).sum().backward()

    def loss(params, x):
        out, changed = _train({**variables, "params": params}, x)
        return (out**2 * jnp.arange(4)[:, None]).sum(), (out, changed["batch_stats"])

    (by_params, by_x), (out, stats) = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    np.testing.assert_allclose(out, theirs_out.detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(stats["mean"], theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], theirs.running_var, rtol=1e-5)
    np.testing.assert_allclose(by_x, theirs_x.grad.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(by_params["scale"], theirs.weight.grad, rtol=1e-4)
    np.testing.assert_allclose(by_params["bias"], theirs.bias.grad, rtol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (6, 2), (5, 1)])
def test_group_norm(channels, groups):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (2, 3, 3, channels)).astype(np.float32)
    params = {"scale": rng.normal(size=channels), "bias": rng.normal(size=channels)}
    params = jax.tree.map(np.float32, params)
    out = jax.jit(lambda v, x: Norm("group").apply(v, x, Mode()))({"params": {"group": params}}, x)
    grouped = x.reshape(2, 9, groups, -1).astype(np.float64)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * params["scale"] + params["bias"]
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_no_norm_changes_nothing():
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(Norm("none").apply({}, x, Mode(train=True)), x)


@pytest.mark.parametrize(("shape", "learns"), [((1, 1, 1, 3), False), ((4, 1, 1, 3), True), ((1, 4, 1, 3), True)])
def test_a_single_value_is_not_normalised_in_training(shape, learns):
    """(x - mean) of one value is 0: the gradient of what comes before would be 0, too."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, Mode(train=True))

    def total(x):
        return (layer.apply(variables, x, Mode(train=True), mutable=["batch_stats"])[0] ** 3).sum()

    if learns:
        assert np.abs(jax.grad(total)(x)).max() > 0
    else:
        with pytest.raises(InputError, match="batch_size of at least 4"):
            total(x)
    assert layer.apply(variables, x, Mode()).shape == shape  # in use it may be alone
