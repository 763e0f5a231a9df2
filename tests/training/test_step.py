"""The train step: back-propagation, freezing, padding, caching."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import Classification
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run

FAMILIES = {
    "mlp": dict(hidden=(16, 16), dropout=0.2),
    # smooth: where a maximum or a ReLU is tied, rounding decides, and equal runs part
    "cnn": dict(features=(4, 8), hidden=(16,), dropout=0.2, activation="tanh", pool="average"),
    "vit": dict(width=16, depth=2, num_heads=2, patch_size=2, dropout=0.2),
    "resnet20_cifar": dict(depths=(1, 1, 1), width=4),
}
SOURCE = data.subset(data.digits(), np.arange(48))
PART = np.arange(48)
TASK = Classification(SOURCE.class_names)


# These two compile longest, and show of a step what the others do.
FEW = [pytest.param(name, marks=[pytest.mark.slow] if name in ("vit", "resnet20_cifar") else []) for name in FAMILIES]


@functools.cache
def parent_of(name):
    """A pretrained checkpoint of a family."""
    return jaxdl.pretrain(jaxdl.create(name, 10, **FAMILIES[name]), SOURCE, jaxdl.Plan(epochs=1))


def setup_of(init, **options):
    return prepare(init, SOURCE, jaxdl.Plan(**{"epochs": 2, "batch_size": 16, **options}), [PART], TASK)


def first_state(setup):
    """Of the only run: the step is written for one."""
    return of_run(setup.states([0]), 0)


def steps(setup, count, batch_size=16):
    """State and losses after some steps."""
    state, step = first_state(setup), jax.jit(setup.make_step())
    losses = []
    for epoch in range(count):
        made = training_batches([PART], batch_size, 0, [0], epoch)[0]
        state, metrics = step(state, Batch(made.indices[0], made.weights[0]), setup.shared)
        losses.append(float(metrics["loss"]))
    return state, losses


def test_gradients_are_those_of_back_propagation_by_hand():
    """A network of one hidden layer, differentiated with pencil and paper."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 5)), random.integers(0, 3, 6)
    model = jaxdl.create("mlp", 3, hidden=(4,), activation="tanh")
    source = data.arrays(x.astype(np.float32), y)
    plan = jaxdl.Plan(optimizer="sgd", learning_rate=1.0, schedule="constant", weight_decay=0.0, epochs=1)
    setup = prepare(model, source, plan, [np.arange(6)], Classification(source.class_names))
    state = first_state(setup)
    after, metrics = jax.jit(setup.make_step())(state, Batch(np.arange(6), np.ones(6, np.float32)), setup.shared)

    normal = (x - x.mean(0)) / x.std(0)
    w1, b1 = (np.float64(state.params["layer1"]["dense"][k]) for k in ("kernel", "bias"))
    w2, b2 = (np.float64(state.params["head"]["dense"][k]) for k in ("kernel", "bias"))
    hidden = np.tanh(normal @ w1 + b1)
    logits = hidden @ w2 + b2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert float(metrics["loss"]) == pytest.approx(-np.log(p[np.arange(6), y]).mean(), rel=1e-5)
    delta2 = (p - np.eye(3)[y]) / 6  # softmax and cross-entropy together
    delta1 = (delta2 @ w2.T) * (1 - hidden**2)  # back through the weights, then through tanh
    expected = {
        "head": {"kernel": hidden.T @ delta2, "bias": delta2.sum(0)},
        "layer1": {"kernel": normal.T @ delta1, "bias": delta1.sum(0)},
    }
    for stage, leaves in expected.items():
        for name, gradient in leaves.items():
            moved = state.params[stage]["dense"][name] - after.params[stage]["dense"][name]
            np.testing.assert_allclose(moved, gradient, atol=2e-6)
    norm = np.sqrt(sum((g**2).sum() for leaves in expected.values() for g in leaves.values()))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "vit"))])
def test_gradients_agree_with_finite_differences(name):
    plan = dict(optimizer="sgd", learning_rate=1.0, schedule="constant", weight_decay=0.0)
    smooth = {"activation": "tanh"} if name == "mlp" else {}  # its ReLUs have corners within the difference
    model = jaxdl.create(name, 10, **{**FAMILIES[name], "dropout": 0.0, **smooth})
    with jax.enable_x64(True):
        setup = prepare(model, SOURCE, jaxdl.Plan(epochs=1, **plan), [PART], TASK)
        setup = dataclasses.replace(setup, model=model.clone(dtype="float64", param_dtype="float64"))
        state = first_state(setup)
        wide = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)  # noqa: E731
        state = state.replace(params=wide(state.params))
        step = jax.jit(setup.make_step())
        batch = Batch(np.arange(16), np.ones(16))
        gradient = jax.tree.map(jnp.subtract, state.params, step(state, batch, setup.shared)[0].params)
        random = np.random.default_rng(0)
        unit = lambda tree: jax.tree.map(lambda a: a / optax.tree.norm(tree), tree)  # noqa: E731
        sideways = jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape)), state.params)
        direction = jax.tree.map(jnp.add, unit(gradient), unit(sideways))
        size = 1e-3  # the loss itself is float32

        def loss(sign):
            moved = jax.tree.map(lambda p, d: p + sign * size * d, state.params, direction)
            return float(step(state.replace(params=moved), batch, setup.shared)[1]["loss"])

        slope = (loss(1) - loss(-1)) / (2 * size)
        dot = sum(float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    assert slope == pytest.approx(dot, rel=5e-3)


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "mlp")])
def test_frozen_stages_neither_move_nor_hold_optimizer_state(name):
    parent = parent_of(name)
    names = parent.model.stage_names
    for boundary in range(1, len(names)):
        setup = setup_of(parent, freeze_through=names[boundary - 1], stage_lr={"head": 2.0})
        trained = names[min(setup.held) :]
        state = first_state(setup)
        assert set(state.params) <= set(trained)
        held = " ".join(path for path, _ in walk_shapes(state.opt_state))
        for stage in names[: min(setup.held)]:
            assert f"/{stage}/" not in held
        # nothing of a frozen stage is even an input of the compiled step
        assert setup.start
        assert not jax.tree.leaves(setup.shared.frozen)
    final = jaxdl.finetune(parent, SOURCE, jaxdl.Plan(epochs=1, freeze_through=names[1]))
    before, after = dict(walk_shapes(parent.variables)), dict(walk_shapes(final.variables))
    changed = {path.split("/")[1] for path in before if not np.array_equal(before[path], after[path])}
    assert changed.isdisjoint(names[:2])
    assert changed == {s for s in names[2:] if s in parent.variables["params"]}


@pytest.mark.parametrize("name", FEW)
def test_a_cached_prefix_trains_as_the_whole_network_does(name):
    """Frozen stages run in eval mode in both, dropout and batch norm included."""
    parent = parent_of(name)
    stage = parent.model.stage_names[1]
    cached = setup_of(parent, freeze_through=stage, optimizer="sgd")
    whole = setup_of(parent, freeze_through=stage, optimizer="sgd", cache_features=False)
    assert (bool(cached.start), bool(whole.start)) == (True, False)
    (one, losses_one), (two, losses_two) = steps(cached, 3), steps(whole, 3)
    np.testing.assert_allclose(losses_one, losses_two, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", FEW)
def test_padding_changes_nothing(name):
    setup = setup_of(parent_of(name), optimizer="sgd")
    model = setup.model.clone(dropout=0.0) if hasattr(setup.model, "dropout") else setup.model
    setup = dataclasses.replace(setup, model=model)
    step, state = jax.jit(setup.make_step()), first_state(setup)
    real = Batch(np.arange(10), np.ones(10, np.float32))
    padded = Batch(np.r_[np.arange(10), [47] * 6], np.r_[np.ones(10), np.zeros(6)].astype(np.float32))
    (a, metrics_a), (b, metrics_b) = step(state, real, setup.shared), step(state, padded, setup.shared)
    for x, y in zip(
        jax.tree.leaves((a.params, a.batch_stats)), jax.tree.leaves((b.params, b.batch_stats)), strict=True
    ):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert jax.tree.structure(metrics_a) == jax.tree.structure(metrics_b)
    for x, y in zip(jax.tree.leaves(metrics_a), jax.tree.leaves(metrics_b), strict=True):
        assert float(x) == pytest.approx(float(y), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("mlp", "float32"),
        ("cnn", "bfloat16"),
        *(pytest.param(name, "float32", marks=pytest.mark.slow) for name in FAMILIES if name != "mlp"),
        *(pytest.param(name, "bfloat16", marks=pytest.mark.slow) for name in FAMILIES if name != "cnn"),
    ],
)
def test_training_lowers_the_loss(name, precision):
    model = jaxdl.create(name, 10, **{**FAMILIES[name], **({} if name == "resnet20_cifar" else {"dropout": 0.0})})
    trained = jaxdl.pretrain(
        model, SOURCE, jaxdl.Plan(epochs=30 if name == "vit" else 16, learning_rate=1e-2, precision=precision)
    )
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < 0.6 * losses[0]
    assert {leaf.dtype for leaf in jax.tree.leaves(trained.variables)} == {np.dtype("float32")}


def test_dropout_differs_from_step_to_step_and_by_fold():
    setup = setup_of(jaxdl.create("mlp", 10, dropout=0.5))
    step = jax.jit(setup.make_step())
    batch = Batch(np.arange(16), np.ones(16, np.float32))
    one, two = first_state(setup), first_state(setup)
    loss = lambda state: float(step(state, batch, setup.shared)[1]["loss"])  # noqa: E731
    assert loss(one) == loss(two)
    assert loss(one) != loss(two.replace(step=two.step + 1))
    assert loss(one) != loss(two.replace(key=jax.random.fold_in(jax.random.key(0), 1)))


def test_label_smoothing_reaches_the_loss():
    plain, smooth = (setup_of(jaxdl.create("mlp", 10), label_smoothing=s) for s in (0.0, 0.3))
    batch = Batch(np.arange(16), np.ones(16, np.float32))
    state = first_state(plain)
    logits = jax.jit(plain.make_predict())(state, batch, plain.shared)["kept"]
    smoothed = Classification(SOURCE.class_names, label_smoothing=0.3)
    expected = smoothed.loss(logits, jnp.asarray(SOURCE.labels[:16]), {})[0].mean()
    found = jax.jit(smooth.make_step())(state, batch, smooth.shared)[1]["loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
