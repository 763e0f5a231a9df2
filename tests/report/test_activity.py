"""Dead and saturated units, against networks in which they were planted and against counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_variables
from jaxdl.report.activity import stage_activity


def made(name, shape, seed=0, **arguments):
    model = jaxdl.create(name, 3, **arguments)
    variables = init_variables(model, jax.random.key(seed), shape)
    return model, variables, jax.random.normal(jax.random.key(1), (40, *shape))


def test_planted_dead_relus_are_found():
    model, variables, x = made("mlp", (10,), hidden=(8, 16))
    bias = variables["params"]["layer1"]["dense"]["bias"]
    variables["params"]["layer1"]["dense"]["bias"] = bias.at[jnp.array([1, 4])].set(-1e4)
    kernel = variables["params"]["layer2"]["dense"]["kernel"]
    variables["params"]["layer2"]["dense"]["kernel"] = kernel.at[:, 3].set(0)  # constant, and not zero
    variables["params"]["layer2"]["dense"]["bias"] = variables["params"]["layer2"]["dense"]["bias"].at[3].set(2)
    rows = {row.name: row for row in stage_activity(model, variables, x)}
    assert list(rows) == ["layer1", "layer2", "head"]
    assert (rows["layer1"].units, rows["layer2"].units, rows["head"].units) == (8, 16, 3)
    for name in rows:
        stop = {"layer1": "layer2", "layer2": "head", "head": None}[name]
        values = np.asarray(model.apply(variables, x, stop=stop))
        dead = sum(len(set(values[:, unit].tolist())) == 1 for unit in range(values.shape[1]))
        assert rows[name].dead == dead / values.shape[1]
        assert rows[name].saturated is None
        assert rows[name].near_bounds is None
    assert rows["layer1"].dead >= 2 / 8
    assert rows["layer2"].dead >= 1 / 16


def test_a_channel_is_dead_if_it_is_so_at_every_place():
    model, variables, x = made("cnn", (8, 8, 1), features=(4, 6), hidden=(5,), norm="none")
    kernel = variables["params"]["conv2"]["conv"]["kernel"]
    variables["params"]["conv2"]["conv"]["kernel"] = kernel.at[..., jnp.array([0, 2, 5])].set(0)
    x = x.at[:, :, :4].set(0)  # at the places on the left no channel differs between examples
    rows = {row.name: row for row in stage_activity(model, variables, x)}
    assert rows["conv1"].dead == 0
    assert (rows["conv2"].units, rows["conv2"].dead) == (6, 0.5)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_planted_saturation_is_counted(activation):
    model, variables, x = made("mlp", (10,), hidden=(12, 9), activation=activation)
    layer = variables["params"]["layer1"]["dense"]
    layer["kernel"] = layer["kernel"].at[:, :3].multiply(1e4)  # on either side, depending on the example
    rows = stage_activity(model, variables, x)
    low, high = (-0.98, 0.98) if activation == "tanh" else (0.01, 0.99)
    for row, stop in zip(rows[:2], ("layer2", "head"), strict=True):
        values = np.asarray(model.apply(variables, x, stop=stop))
        near = (values <= low) | (values >= high)
        assert row.near_bounds == pytest.approx(near.mean(), abs=1e-6)
        assert row.saturated == pytest.approx((near.mean(0) >= 0.95).mean(), abs=1e-6)
    assert rows[0].saturated >= 3 / 12
    assert rows[0].dead == 0
    assert rows[2].saturated is None
    slope = {"tanh": 1 - 0.98**2, "sigmoid": 4 * 0.99 * 0.01}[activation]  # of its largest, at the limit
    assert slope == pytest.approx(0.0396)


def test_tokens_of_a_transformer_are_units_by_feature():
    model, variables, x = made("vit", (8, 8, 1), width=8, depth=1, num_heads=2)
    rows = {row.name: row for row in stage_activity(model, variables, x)}
    assert list(rows) == list(model.stage_names)
    assert rows["block1"].units == 8
    assert all(row.dead == 0 for row in rows.values())


def test_one_example_says_nothing():
    model, variables, x = made("mlp", (10,))
    with pytest.raises(InputError, match="at least two"):
        stage_activity(model, variables, x[:1])
