"""One device against eight: jit over a mesh, and pmap."""

import functools

import jax
import numpy as np
import pytest

from jaxdl import data
from jaxdl.data.batches import evaluation_batches, training_batches
from jaxdl.models import create
from jaxdl.parallel import pmap
from jaxdl.training.feeds import MemoryFeeds
from jaxdl.training.loop import fit
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.runners import data_parallel_runner, mesh_runner, one_batch, pmap_runner, single_runner
from jaxdl.training.step import Batch

MODELS = {
    "mlp": dict(hidden=(32,)),
    "cnn": dict(features=(8, 16), hidden=(32,)),
    "vit": dict(width=32, depth=2, num_heads=2, patch_size=2),
    "resnet20_cifar": dict(depths=(1, 1, 1), width=8),
}
STEPS = 20


def run(setup, kind, part, devices):
    """Trained parameters, the loss of each step, and logits of the part, after 20 steps."""
    if kind == "single":
        runner = single_runner(setup.make_step(), setup.make_predict(), setup.scan)
    else:
        runner = data_parallel_runner(kind, setup.make_step, setup.make_predict(), setup.scan, devices)
    plan = setup.plan
    losses, logits = [], []

    def on_epoch(epoch, metrics, predicted, stopped):
        losses.append(float(metrics["loss"]))
        logits.append(predicted[: len(part)])
        return []

    feeds = MemoryFeeds(
        setup.shared,
        lambda epoch: one_batch(training_batches([part], plan.batch_size, 0, [0], epoch)[0]),
        one_batch(evaluation_batches([part], plan.batch_size, [0])[0]),
        None,
    )
    fitted = fit(
        lambda epoch: runner,
        setup.initial_states([0])[0],
        epochs=plan.epochs,
        stages=setup.model.stage_names,
        train=feeds.train,
        held_out=feeds.held_out,
        on_epoch=on_epoch,
    )
    state = fitted.state
    assert int(state.step) == STEPS
    return jax.tree.map(np.asarray, (state.params, state.batch_stats)), np.array(losses), logits[-1]


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
    return prepare(create(name, 10, **{**MODELS[name], **arguments}), source, plan, [part]), part


@functools.cache
def run_alone(*case, **arguments):
    """What one device makes of a setup; computed once for all that is held to it."""
    setup, part = make_setup(*case, **arguments)
    return run(setup, "single", part, None)


def largest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# 64: divides by 8 devices. 50 in two batches of 25: does not. 5: leaves three devices with nothing.
SIZES = {64: 64, 50: 32, 5: 5}
CASES = [("mlp", 50), ("cnn", 64), ("cnn", 50), ("cnn", 5), ("vit", 50), ("resnet20_cifar", 5)]


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
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_adamw_gives_one_devices_losses_and_logits(name, kind):
    case = (name, 50, 32, "adamw")
    setup, part = make_setup(*case)
    alone = run_alone(*case)
    eight = run(setup, kind, part, jax.devices())
    difference = largest(alone[1:], eight[1:])
    print(f"{name} {kind} adamw: losses and logits differ by at most {difference:.1e}")
    assert difference < 1e-4


def test_dropout_is_the_same_under_jit_and_another_per_device_under_pmap():
    setup, part = make_setup("mlp", 64, 64, "sgd", dropout=0.5)
    alone = run_alone("mlp", 64, 64, "sgd", dropout=0.5)
    assert largest(alone, run(setup, "jit", part, jax.devices())) < 1e-4
    mapped = run(setup, "pmap", part, jax.devices())
    assert largest(alone, mapped) > 1e-3  # other masks: no equality is claimed

    # one and the same example on each device: were the masks the same, so would the mean loss be that of one device
    step, alone_step = jax.pmap(setup.make_step("data"), axis_name="data"), jax.jit(setup.make_step())
    state = setup.initial_states([0])[0]
    single = Batch(np.zeros(1, np.int32), np.ones(1, np.float32))
    spread = pmap.replicate((state, single, setup.shared), jax.devices())
    losses = np.asarray(step(*spread)[1]["loss"])
    assert np.ptp(losses) == 0  # reduced over devices
    assert abs(losses[0] - float(alone_step(state, single, setup.shared)[1]["loss"])) > 1e-3


def test_batches_are_really_divided():
    setup, part = make_setup("mlp", 64, 64, "sgd")
    for make in (mesh_runner, pmap_runner):
        step = setup.make_step("data" if make is pmap_runner else None)
        runner = make(step, setup.make_predict(), False, jax.devices())
        state, shared = runner.place(setup.initial_states([0])[0]), runner.place_shared(setup.shared)
        assert len(state.params["head"]["dense"]["kernel"].sharding.device_set) == 8
        batch = jax.tree.map(lambda a: a[0], one_batch(training_batches([part], 64, 0, [0], 0)[0]))
        state, _ = runner.step(state, batch, shared)
        assert len(state.params["head"]["dense"]["kernel"].sharding.device_set) == 8


def test_a_step_over_the_mesh_reduces_gradients_once_compiled():
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxdl.parallel import mesh as meshes

    setup, part = make_setup("cnn", 64, 64, "sgd")
    mesh = meshes.make_mesh(jax.devices(), meshes.DATA)
    state, shared = meshes.replicate((setup.initial_states([0])[0], setup.shared), mesh)
    batch = jax.tree.map(lambda a: a[0], one_batch(training_batches([part], 64, 0, [0], 0)[0]))
    parts = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    text = jax.jit(setup.make_step()).lower(state, parts, shared).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather(" not in text  # nothing is collected in full on every device


def test_no_device_holds_all_of_the_data():
    setup, _ = make_setup("cnn", 50, 25, "sgd")
    runner = mesh_runner(setup.make_step(), setup.make_predict(), False, jax.devices())
    shared = runner.place_shared(setup.shared)
    assert shared.x.dtype == np.uint8
    assert shared.x.shape == (56, 8, 8, 1)  # padded until eight devices divide it
    assert {shard.data.shape[0] for shard in shared.x.addressable_shards} == {7}
    np.testing.assert_array_equal(shared.x[:50], setup.shared.x)
