"""The train step of a wrapped module, against one written by hand for the module itself."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from own_models import GROUPS, SOURCE, Body, MyNet, Top, preprocessing, wrapped

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import Classification
from jaxdl.training.labels import divide
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run

PART = np.arange(48)
TASK = Classification(SOURCE.class_names)


def setup_of(init, **options):
    plain = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.05, "schedule": "constant"}
    return prepare(init, SOURCE, jaxdl.Plan(**{**plain, "weight_decay": 0.0, **options}), [PART], TASK)


def trained(setup, count=3):
    state, step = of_run(setup.states([0]), 0), jax.jit(setup.make_step())
    for place in range(count):
        rows = np.arange(16 * place, 16 * place + 16) % 48
        state, metrics = step(state, Batch(rows, np.ones(16, np.float32)), setup.shared)
    return state, metrics


@pytest.fixture(scope="module")
def parent():
    return jaxdl.from_model(wrapped().clone(num_outputs=3), preprocessing(), SOURCE.class_names, seed=1)


def by_hand(own, still, count=3):
    """Three steps of optax on the module itself; paths of the module that begin with one of `still` do not move."""
    optimizer, fixed = optax.sgd(0.05, momentum=0.9), preprocessing()

    def loss_of(params, stats, x, y):
        moved = {**own["params"], **params}
        outputs, changed = ByHand(bool(still)).apply(
            {"params": moved, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), changed["batch_stats"]

    params = {name: tree for name, tree in own["params"].items() if name not in still}
    stats, opt_state = own["batch_stats"], optimizer.init(params)
    gradient_of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    for place in range(count):
        rows = np.arange(16 * place, 16 * place + 16) % 48
        x = fixed.network_input(SOURCE.x[rows])
        (_, stats), gradients = gradient_of(params, stats, x, SOURCE.labels[rows])
        updates, opt_state = optimizer.update(gradients, opt_state)
        params = optax.apply_updates(params, updates)
    return {"params": {**own["params"], **params}, "batch_stats": stats}


class ByHand(nn.Module):
    """`Net` with three outputs, whose first batch normalisation may be frozen."""

    still: bool

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), name="Conv_0")(x)
        x = nn.tanh(nn.BatchNorm(use_running_average=self.still or not train, momentum=0.9, name="BatchNorm_0")(x))
        x = nn.Conv(6, (3, 3), strides=2, name="Conv_1")(x)
        x = nn.tanh(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="BatchNorm_1")(x)).mean((1, 2))
        return nn.Dense(3, name="Dense_1")(nn.tanh(nn.Dense(8, name="Dense_0")(x)))


@pytest.mark.parametrize("freeze", [pytest.param(None, marks=pytest.mark.slow), "early"])
def test_three_steps_are_those_of_optax(parent, freeze):
    setup = setup_of(parent, freeze_through=freeze)
    setup = dataclasses.replace(setup, kept=jax.tree.map(np.asarray, parent_part(setup, parent)))
    state, _ = trained(setup)
    made = setup.model.to_own(setup.variables(state))
    wanted = by_hand(parent.model.to_own(parent.variables), GROUPS["early"] if freeze else ())
    have, want = dict(walk_shapes(made)), dict(walk_shapes(wanted))
    assert have.keys() == want.keys()
    for name, leaf in want.items():
        np.testing.assert_allclose(have[name], leaf, atol=2e-5, err_msg=name)
    before = dict(walk_shapes(parent.model.to_own(parent.variables)))
    moved = {name for name in have if not np.array_equal(have[name], before[name])}
    assert (set(before) - moved) == ({n for n in before if n.split("/")[1] in GROUPS["early"]} if freeze else set())


def parent_part(setup, parent):
    """What is trained of the parent, its head included."""
    return divide(parent.variables, setup.label)[0]


def test_frozen_groups_and_their_rates(parent):
    _, metrics = trained(setup_of(parent, freeze_through="middle"))
    assert set(metrics["stage_grad_norms"]) == {"body", "head"}
    one, half = (
        trained(setup_of(parent, freeze_through="early", stage_lr=rates), 1)[0].params
        for rates in ({}, {"middle": 0.5})
    )
    start = parent.variables["params"]["middle"]
    jax.tree.map(
        lambda a, b, at: np.testing.assert_allclose(b - at, (a - at) / 2, atol=1e-6),
        one["middle"],
        half["middle"],
        start,
    )
    jax.tree.map(np.testing.assert_array_equal, one["body"], half["body"])
    with pytest.raises(InputError, match=r"'erly'.*'early'"):
        setup_of(parent, freeze_through="erly")


def test_the_body_is_computed_once_where_all_of_it_is_frozen(parent):
    cached, whole = (setup_of(parent, freeze_through="body", cache_features=cache) for cache in (True, False))
    assert (cached.start, whole.start) == ("head", None)
    assert cached.shared.x.shape == (48, 8)
    assert setup_of(parent, freeze_through="middle").start is None  # no cut there
    (one, _), (two, _) = trained(cached), trained(whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, two.params)


@pytest.mark.parametrize("options", [{"adapter": "lora:2"}, {"adapter": "lora:2:middle"}, {"train": "norm"}])
def test_adapters_and_labels(parent, options):
    setup = setup_of(parent, **options)
    state, _ = trained(setup)
    moved = {name for name, _ in walk_shapes(state.params)}
    if "adapter" in options:
        layers = ["middle/Conv_1"] if ":middle" in options["adapter"] else ["early/Conv_0", "middle/Conv_1"]
        layers += [] if ":middle" in options["adapter"] else ["body/Dense_0"]
        wanted = {f"{layer}/{leaf}" for layer in layers for leaf in ("lora_a", "lora_b")}
        variables = setup.variables(state)
        merged = jaxdl.models.adapters.merge(variables["params"])
        x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
        np.testing.assert_allclose(
            setup.model.apply({**variables, "params": merged}, x), setup.model.apply(variables, x), atol=1e-5
        )
        assert not np.array_equal(
            merged["middle"]["Conv_1"]["kernel"], parent.variables["params"]["middle"]["Conv_1"]["kernel"]
        )
    else:
        norms = ("early/BatchNorm_0", "middle/BatchNorm_1")
        wanted = {f"{norm}/{leaf}" for norm in norms for leaf in ("scale", "bias")}
    assert moved == wanted | {"head/Dense_1/kernel", "head/Dense_1/bias"}


@pytest.mark.parametrize("init", [wrapped(), MyNet(3)])
def test_padding_changes_nothing(init):
    setup = setup_of(init)
    step, state = jax.jit(setup.make_step()), of_run(setup.states([0]), 0)
    real = Batch(np.arange(10), np.ones(10, np.float32))
    padded = Batch(np.r_[np.arange(10), [47] * 6], np.r_[np.ones(10), np.zeros(6)].astype(np.float32))
    (a, _), (b, _) = step(state, real, setup.shared), step(state, padded, setup.shared)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), (a.params, a.batch_stats), (b.params, b.batch_stats)
    )


def test_a_model_without_a_head_is_refused():
    class Headless(jaxdl.Staged):
        def stages(self):
            return ("layer0", lambda name: Body(4, name=name)), ("top", lambda name: Top(3, name=name))

    for model, said in ((Headless(3), "Headless.*layer0, top.*'head'"), (jaxdl.Staged(3), "Staged has no stages")):
        with pytest.raises(InputError, match=said):
            setup_of(model)
        with pytest.raises(InputError, match=said):
            jaxdl.from_model(model, preprocessing())


class Drops(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, mode):
        x = nn.Dense(8, name="dense")(x.reshape(len(x), -1))
        return nn.Dropout(self.rate)(x, not mode.train) if self.rate else x


class Dropping(jaxdl.Staged):
    dropout: float = 0.1

    def stages(self):
        return ("body", lambda name: Drops(self.dropout, name=name)), ("head", lambda name: Top(3, name=name))


@pytest.mark.slow
def test_a_users_dropout_is_searched_as_a_part_of_the_program():
    """Which asks in Python whether there is any."""
    space, plan = {"model.dropout": [0.0, 0.5]}, jaxdl.Plan(epochs=1, optimizer="sgd", learning_rate=0.05)
    found = jaxdl.search(Dropping(3), SOURCE, plan, space, jaxdl.Searching(nested=False), folds=2)
    losses = {row["configuration"]: row["loss"] for row in found.ranking}
    for number, rate in enumerate(space["model.dropout"]):
        alone = jaxdl.search(
            Dropping(3, dropout=rate), SOURCE, plan, {"epochs": [1, 2]}, jaxdl.Searching(nested=False), folds=2
        )
        np.testing.assert_allclose(
            losses[number], next(row["loss"] for row in alone.ranking if row["configuration"] == 0), rtol=1e-5
        )
