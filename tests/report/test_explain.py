"""Maps of where a network looks, against closed forms, PyTorch's gradients and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_variables
from jaxdl.report.explain import (
    attention_rollout,
    explain,
    explains_with,
    grad_cam,
    last_spatial_stage,
    rollout_map,
)

SHAPE = (12, 8, 3)


def made(name, shape=SHAPE, outputs=4, **arguments):
    """A model with drawn variables, its biases and statistics too, and three images."""
    model = jaxdl.create(name, outputs, **arguments)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.4, leaf.shape), jnp.float32), shapes)
    variables["batch_stats"] = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.5, variables["batch_stats"])
    return model, variables, jnp.asarray(random.normal(size=(3, *shape)), jnp.float32)


def test_grad_cam_behind_average_pooling_is_the_class_activation_map():
    model, variables, x = made("resnet20_cifar", depths=(1, 1), width=4)
    classes = np.array([3, 0, 1])
    assert last_spatial_stage(model, variables, SHAPE) == "stage2"
    maps = np.asarray(model.apply(variables, x, stop="pool"), np.float64)
    kernel = np.asarray(variables["params"]["head"]["dense"]["kernel"], np.float64)
    weighted = np.einsum("bhwk,kb->bhw", maps, kernel[:, classes])
    expected = np.maximum(weighted, 0) / (maps.shape[1] * maps.shape[2])
    found = np.asarray(grad_cam(model, variables, x, classes))
    assert found.shape == (3, 6, 4)
    assert (weighted < 0).any()
    assert expected.max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_before_fully_connected_layers_equals_torchs_gradients():
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
    model, variables, x = made("cnn", features=(4, 5), hidden=(7,), norm="none")
    classes = np.array([2, 2, 0])
    maps = torch.tensor(np.asarray(model.apply(variables, x, stop="dense1")), requires_grad=True)
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables["params"])
    dense, head = params["dense1"]["dense"], params["head"]["dense"]
    hidden = torch.relu(maps.reshape(3, -1) @ dense["kernel"] + dense["bias"])
    logits = hidden @ head["kernel"] + head["bias"]
    logits[torch.arange(3), torch.tensor(classes)].sum().backward()
    weights = maps.grad.mean((1, 2), keepdim=True)
    expected = torch.relu((weights * maps).sum(-1)).detach().numpy()
    assert expected.max() > 0.01
    np.testing.assert_allclose(grad_cam(model, variables, x, classes), expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_of_an_earlier_stage_has_its_size():
    model, variables, x = made("cnn", features=(4, 5), hidden=(7,))
    classes = np.zeros(3, int)
    assert grad_cam(model, variables, x, classes, "conv1").shape == (3, 6, 4)
    alone = grad_cam(model, variables, x[1:2], classes[:1])
    np.testing.assert_allclose(alone, grad_cam(model, variables, x, classes)[1:2], rtol=1e-5, atol=1e-7)


def rolled(attention):
    """Section 3 of Abnar & Zuidema, number by number."""
    layers, heads, tokens = len(attention), len(attention[0]), len(attention[0][0])
    flow = np.eye(tokens)
    for layer in range(layers):
        moved = np.zeros((tokens, tokens))
        for to in range(tokens):
            for through in range(tokens):
                mean = sum(attention[layer][head][to][through] for head in range(heads)) / heads
                share = 0.5 * mean + (0.5 if to == through else 0.0)
                moved[to] += share * flow[through]
        flow = moved
    return flow


def test_rollout_equals_plain_loops():
    random = np.random.default_rng(3)
    weights = random.random((4, 2, 3, 5, 5)) ** 3  # layers, batch, heads, to, from
    weights /= weights.sum(-1, keepdims=True)
    found = np.asarray(attention_rollout([jnp.asarray(layer) for layer in weights]))
    for example in range(2):
        np.testing.assert_allclose(found[example], rolled(weights[:, example]), atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    with pytest.raises(InputError, match="at least one layer"):
        attention_rollout([])


@pytest.mark.parametrize("pool", ["token", pytest.param("mean", marks=pytest.mark.slow)])
def test_rollout_map_of_a_vit(pool):
    model, variables, x = made("vit", patch_size=4, width=8, depth=2, num_heads=2, pool=pool)
    _, tapped = model.apply(variables, x, taps=("block1/attention", "block2/attention"))
    attention = [np.asarray(tapped[f"block{i}/attention"], np.float64) for i in (1, 2)]
    found = np.asarray(rollout_map(model, variables, x))
    assert found.shape == (3, 3, 2)
    for example in range(3):
        flow = rolled([layer[example] for layer in attention])
        expected = flow[0, 1:] if pool == "token" else flow.mean(0)
        np.testing.assert_allclose(found[example].reshape(-1), expected, rtol=1e-4)
    assert np.ptp(found) > 1e-3
    np.testing.assert_array_equal(explain(model, variables, x, np.zeros(3, int)), found)


def test_the_method_suits_the_model():
    cases = {"cnn": "Grad-CAM", "vit": "attention roll-out"}
    for name, method in cases.items():
        model, variables, _ = made(name)
        assert explains_with(model, variables, SHAPE) == method
    model, variables, _ = made("vit", depth=0)
    assert explains_with(model, variables, SHAPE) is None
    model, variables, x = made("mlp")
    assert explains_with(model, variables, SHAPE) is None
    with pytest.raises(InputError, match="no stage whose output is a map"):
        explain(model, variables, x, np.zeros(3, int))


def test_mistakes_are_named():
    model, variables, x = made("cnn")
    classes = np.zeros(3, int)
    with pytest.raises(InputError, match="Did you mean 'conv1'"):
        grad_cam(model, variables, x, classes, "convv1")
    with pytest.raises(InputError, match="before the last"):
        grad_cam(model, variables, x, classes, "head")
    with pytest.raises(InputError, match="no map"):
        grad_cam(model, variables, x, classes, "dense1")
    with pytest.raises(InputError, match="is for a vit"):
        rollout_map(model, variables, x)
