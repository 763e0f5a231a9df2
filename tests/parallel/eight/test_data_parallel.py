"""One device against eight: jit over a mesh, and pmap."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from own_models import wrapped

from jaxdl import data, models
from jaxdl.models import Entry, create
from jaxdl.models.layers import Head
from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor, on_one_device
from jaxdl.parallel.layout import Layout
from jaxdl.tasks import Classification
from jaxdl.training.feeds import epoch_batches, make_feeds
from jaxdl.training.loop import Training, fit
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.runners import make_runner
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run, runner_on

MODELS = {
    "mlp": dict(hidden=(32,)),
    "cnn": dict(features=(8, 16), hidden=(32,)),
    "vit": dict(width=32, depth=2, num_heads=2, patch_size=2),
    "resnet20_cifar": dict(depths=(1, 1, 1), width=8),
}
STEPS = 20


def run(setup, kind, part, devices):
    """After 20 steps: trained parameters; the loss of each epoch and of each example at the end; logits of the part."""
    executor = on_one_device() if kind == "single" else Executor(tuple(devices), data=len(devices), pmap=kind == "pmap")
    runner = runner_on(executor, setup)
    losses, nats = [], []

    def on_epoch(epoch, metrics, record, stopped):
        losses.append(float(metrics["loss"][0]))
        nats.append(record["nats"][0, : len(part)])
        return []

    runs = [setup.run(0)]
    feeds = make_feeds(setup, runs, [part])
    training = Training(
        lambda epoch: runner,
        setup.plan.epochs,
        setup.model.stage_names,
        feeds.train,
        on_epoch,
        feeds.held_out,
    )
    fitted = fit(training, functools.partial(setup.states, runs))
    state = of_run(fitted.state, 0)
    assert int(state.step) == STEPS
    logits = fitted.held_out["kept"][0, : len(part)]
    assert logits.shape == (len(part), 10)
    measured = np.concatenate([losses, nats[-1]])
    return jax.tree.map(np.asarray, (state.params, state.batch_stats)), measured, logits


@functools.cache
def make_setup(name, examples, batch_size, optimizer, **arguments):
    source = data.digits()
    source = data.subset(source, np.random.default_rng(0).permutation(len(source))[:examples])
    steps = -(-examples // batch_size)
    plan = Plan(
        epochs=STEPS // steps,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=0.01 if optimizer == "sgd" else 0.001,
    )
    part = np.arange(examples)
    model, task = create(name, 10, **{**MODELS[name], **arguments}), Classification(source.class_names)
    return prepare(model, source, plan, [part], task), part


@functools.cache
def run_alone(*case, **arguments):
    """What one device makes of a setup; computed once for all that is held to it."""
    setup, part = make_setup(*case, **arguments)
    return run(setup, "single", part, None)


def first_batch(setup):
    """Of the only run, ``[1, rows]``."""
    return jax.tree.map(lambda a: a[0], epoch_batches(setup, [setup.run(0)], 0))


def largest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# 64: divides by 8 devices. 50 in two batches of 25: does not. 5: leaves three devices with nothing.
SIZES = {64: 64, 50: 32, 5: 5}
CASES = [
    ("mlp", 5),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (("mlp", 50), ("cnn", 5), ("cnn", 50), ("cnn", 64), ("vit", 50), ("resnet20_cifar", 5))
    ),
]


@pytest.mark.parametrize(("name", "examples"), CASES)
@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_sgd_gives_one_devices_parameters(name, kind, examples):
    case = (name, examples, SIZES[examples], "sgd")
    setup, part = make_setup(*case)
    alone = run_alone(*case)
    eight = run(setup, kind, part, jax.devices())
    difference = largest(alone[0], eight[0])
    print(f"{name} {kind} {examples}: parameters differ by at most {difference:.1e}")
    assert difference < 1e-5
    assert largest(alone[1:], eight[1:]) < 1e-4


@pytest.mark.parametrize("kind", ["jit", "pmap"])
@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "vit"))])
def test_adamw_gives_one_devices_losses_and_logits(name, kind):
    case = (name, 50, 32, "adamw")
    setup, part = make_setup(*case)
    alone = run_alone(*case)
    eight = run(setup, kind, part, jax.devices())
    difference = largest(alone[1:], eight[1:])
    print(f"{name} {kind} adamw: losses and logits differ by at most {difference:.1e}")
    assert difference < 1e-4


class Both(nn.Module):
    """What two arrays of a dict come to."""

    @nn.compact
    def __call__(self, x, mode):
        return nn.tanh(nn.Dense(8, name="rows")(x["rows"]) + nn.Dense(8, name="last")(x["more"]["last"]))


class Pair(Staged):
    def stages(self):
        return ("both", Both), ("head", lambda name: Head(self.num_outputs, name=name))


@pytest.mark.parametrize("kind", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_examples_that_are_dicts_are_divided_too(kind, monkeypatch):
    monkeypatch.setitem(models.MODELS, "pair", Entry(Pair))
    pixels = data.digits().x[:50, :, :, 0].astype(np.float32) / 16
    x = {"rows": pixels[:, :7].reshape(50, -1), "more": {"last": pixels[:, 7]}}
    source = data.Arrays(x, data.digits().labels[:50], data.digits().class_names)
    plan = Plan(epochs=STEPS // 2, batch_size=32, optimizer="sgd", learning_rate=0.01)
    part = np.arange(50)
    setup = prepare(Pair(10), source, plan, [part], Classification(source.class_names))
    alone, eight = (run(setup, how, part, jax.devices()) for how in ("single", kind))
    assert largest(alone[0], eight[0]) < 1e-5
    assert largest(alone[1:], eight[1:]) < 1e-4
    fresh = of_run(setup.states([0]), 0).params
    assert largest(fresh, alone[0][0]) > 1e-2


@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [pytest.param("jit", marks=pytest.mark.slow), "pmap"])
def test_flaxs_batch_normalisation_adds_up_over_devices(kind, examples):
    """Of a module that knows nothing of devices; three hold no example, or the last ones fewer."""
    source = data.subset(data.digits(), np.random.default_rng(0).permutation(1797)[:examples])
    steps = -(-examples // SIZES[examples])
    plan = Plan(epochs=STEPS // steps, batch_size=SIZES[examples], optimizer="sgd", learning_rate=0.01)
    part = np.arange(examples)
    setup = prepare(wrapped(), source, plan, [part], Classification(source.class_names))
    alone, eight = (run(setup, how, part, jax.devices()) for how in ("single", kind))
    assert largest(alone[0], eight[0]) < 1e-5
    assert largest(alone[1:], eight[1:]) < 1e-4
    # a statistic of the parts is another than that of all
    assert largest(of_run(setup.states([0]), 0).batch_stats, alone[0][1]) > 1e-2


@pytest.mark.slow
def test_dropout_is_the_same_under_jit_and_another_per_device_under_pmap():
    setup, part = make_setup("mlp", 64, 64, "sgd", dropout=0.5)
    alone = run_alone("mlp", 64, 64, "sgd", dropout=0.5)
    assert largest(alone, run(setup, "jit", part, jax.devices())) < 1e-4
    mapped = run(setup, "pmap", part, jax.devices())
    assert largest(alone, mapped) > 1e-3  # other masks: no equality is claimed

    # one and the same example on each device: were the masks the same, so would the mean loss be that of one device
    step, alone_step = jax.pmap(setup.make_step("data"), axis_name="data"), jax.jit(setup.make_step())
    state = of_run(setup.states([0]), 0)
    single = Batch(np.zeros(1, np.int32), np.ones(1, np.float32))
    spread = Layout(parallel="pmap").executor().place_state((state, single, setup.shared))
    losses = np.asarray(step(*spread)[1]["loss"])
    assert np.ptp(losses) == 0  # reduced over devices
    assert abs(losses[0] - float(alone_step(state, single, setup.shared)[1]["loss"])) > 1e-3


def placed(executor, setup):
    """A runner, and what its step takes: the state, a batch, the shared data."""
    runner = make_runner(executor, setup.recipe(), False)
    return runner, (executor.place_state(setup.states([0])), first_batch(setup), runner.place_shared(setup.shared))


@pytest.mark.parametrize("pmap", [False, True])
def test_batches_are_really_divided(pmap):
    setup, _ = make_setup("mlp", 64, 64, "sgd")
    runner, (state, batch, shared) = placed(Layout(parallel="pmap" if pmap else "data").executor(), setup)
    assert len(state.params["head"]["dense"]["kernel"].sharding.device_set) == 8
    state, _ = runner.step(state, batch, shared)
    assert len(state.params["head"]["dense"]["kernel"].sharding.device_set) == 8


def test_a_step_over_the_mesh_reduces_gradients_once_compiled():
    setup, _ = make_setup("cnn", 64, 64, "sgd")
    executor = Layout().executor()
    runner, (state, batch, shared) = placed(executor, setup)
    whole = shared.replace(x=setup.shared.x, y=setup.shared.y)  # else the rows of the batch are fetched, too
    whole = jax.device_put(whole, jax.sharding.NamedSharding(executor.mesh, jax.sharding.PartitionSpec()))
    text = runner.step.lower(state, batch, whole).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather(" not in text  # nothing is collected in full on every device


def test_no_device_holds_all_of_the_data():
    setup, _ = make_setup("cnn", 50, 25, "sgd")
    _, (_, _, shared) = placed(Layout().executor(), setup)
    assert shared.x.dtype == np.uint8
    assert shared.x.shape == (56, 8, 8, 1)  # padded until eight devices divide it
    assert {shard.data.shape[0] for shard in shared.x.addressable_shards} == {7}
    np.testing.assert_array_equal(shared.x[:50], setup.shared.x)
