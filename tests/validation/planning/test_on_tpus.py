"""Steps of small networks, compiled by the TPU compiler for slices that are not here: what the programs hold."""

import dataclasses
import importlib.util
import math

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

import jaxdl
from jaxdl import data
from jaxdl.parallel.chips import parse_slice
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.topology import DoesNotFit, compile_ahead, topology_devices
from jaxdl.tasks import choose_task
from jaxdl.training.execution import Execution
from jaxdl.training.outline import outline
from jaxdl.validation.planning.elsewhere import Elsewhere
from jaxdl.validation.planning.plan import plan_on
from jaxdl.validation.planning.planned import Asked

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'jax[tpu]'"
)
EIGHT = ("v5e:2x4", "v5p:2x2x2")
COUNT, SIDE, ROWS = 256, 16, 128
MODELS = {
    "resnet": ("resnet20_cifar", dict(depths=(1, 1, 1), width=8)),
    "vit": ("vit", dict(width=128, depth=2, num_heads=4, patch_size=4)),
    "unet": ("unet", dict(depth=2, width=8)),
}


def pictures(*, maps=False):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    y = (x[..., 0] > 128).astype(np.uint8) if maps else np.arange(COUNT) % 10
    return data.arrays(x, y)


def asked(name, arguments, *, parts=1, plan=None, **execution):
    source = pictures(maps=name == "unet")
    task = choose_task(source, None, None, purpose="a test")
    everything = np.arange(COUNT)
    divided = [everything] if parts == 1 else [np.setdiff1d(everything, everything[k::parts]) for k in range(parts)]
    plan = plan or jaxdl.Plan(epochs=3, batch_size=ROWS)
    model = jaxdl.create(name, task.num_outputs, **arguments)
    return Asked(model, source, plan, task, Execution(**execution), divided)


def parameters(setup):
    state = jax.eval_shape(lambda: setup.states([setup.run(0)]))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))


def check_data_parallel(family, slice_name):
    """Gradients are summed once, beside the sums of batch normalisation and metrics; nothing else is sent."""
    given = asked(*MODELS[family], streaming=True)
    planned = plan_on(given, parse_slice(slice_name), 0)
    step = planned.best.step
    assert step.fits
    assert step.rows == ROWS
    assert step.collectives.keys() == {"all-reduce"}
    count = parameters(planned.setup)
    assert 4 * count <= step.collectives["all-reduce"].bytes <= 4 * count * 1.1 + 2**14
    assert step.parts["parameters"] >= 4 * count
    assert step.parts["optimizer"] >= 2 * 4 * count  # two moments
    # each device has its part of the batch
    assert step.parts["examples"] == pytest.approx(ROWS / 8 * (SIDE * SIDE * 3 + _target_bytes(family)), rel=0.01)
    assert 0 < step.times.overlapped <= step.times.step
    assert planned.seconds == pytest.approx(3 * 2 * step.times.step)
    return step


def _target_bytes(family):
    return SIDE * SIDE if family == "unet" else 8


def test_a_vision_transformer_over_eight_chips():
    """Its operations by hand: 3 times those of the forward pass, without the gradient of the pictures."""
    step = check_data_parallel("vit", "v5e:2x4")
    width, tokens, blocks = 128, (SIDE // 4) ** 2 + 1, 2
    patches = 2 * (tokens - 1) * (4 * 4 * 3) * width
    dense = 2 * tokens * width * (4 * width + 2 * 4 * width)  # queries, keys, values and output; two of four times
    attention = 2 * 2 * tokens * tokens * width
    head = 2 * width * 10
    by_hand = ROWS * (2 * patches + 3 * (blocks * (dense + attention) + head))
    assert step.flops == pytest.approx(by_hand, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "slice_name"),
    [(family, name) for family in MODELS for name in EIGHT if (family, name) != ("vit", "v5e:2x4")],
)
def test_data_parallel_over_eight_chips(family, slice_name):
    check_data_parallel(family, slice_name)


@pytest.mark.slow
def test_fully_sharded_over_eight_chips():
    """Each chip holds its part of the state; weights are collected, gradients scattered, and nothing is exchanged."""
    given = asked("vit", dict(width=256, depth=2, num_heads=4, patch_size=4), streaming=True)
    layout = Layout(parallel="fsdp")
    given = dataclasses.replace(given, execution=given.execution.replace(layout=layout))
    planned = plan_on(given, parse_slice("v5e:2x4"), 0)
    step, count = planned.best.step, parameters(planned.setup)
    assert step.fits
    assert step.parts["parameters"] < 4 * count * (1 / 8 + 0.05)
    assert step.parts["optimizer"] < 8 * count * (1 / 8 + 0.05)
    assert "all-to-all" not in step.collectives
    assert step.collectives["reduce-scatter"].bytes == pytest.approx(4 * count, rel=0.1)
    assert step.collectives["all-gather"].bytes >= 2 * count * 0.9  # each weight at least once, in bfloat16


@pytest.mark.parametrize("slice_name", ["v5e:2x4", pytest.param("v5p:2x2x2", marks=pytest.mark.slow)])
def test_folds_of_a_probe_over_chips_send_nothing(slice_name):
    """Heads on what frozen stages make of the examples, computed once: eight folds, one on each chip."""
    few = data.subset(pictures(), np.arange(20))
    network = jaxdl.pretrain(jaxdl.create("mlp", 10, hidden=(32,)), few, jaxdl.Plan(epochs=1))
    plan = jaxdl.Plan(epochs=3, batch_size=ROWS, freeze_through="body")
    given = asked("mlp", {}, parts=8, plan=plan, fold_strategy="shard")
    planned = plan_on(dataclasses.replace(given, init=network), parse_slice(slice_name), 0)
    step = planned.best.step
    assert planned.setup.start == "head"
    assert (planned.best.name, planned.best.chips, step.collectives) == ("shard", 8, {})
    assert step.fits
    # on each chip all activations, and the parameters of one fold: the head's, and those of the frozen body
    assert step.parts["examples"] >= COUNT * 32 * 4
    assert step.flops == 8 * step.rows * 2 * 2 * 32 * 10  # forward, and the gradient of the kernel


def test_what_does_not_fit_is_told_with_what_helps():
    """Activations of 256 places of 4,096 pictures on one chip are too much; less of them at a time is not."""
    given = asked("vit", dict(width=1024, depth=2, num_heads=4, patch_size=1), plan=jaxdl.Plan(batch_size=ROWS))
    setup = given.outlined(parse_slice("v5e:1x1"))
    there = Elsewhere(parse_slice("v5e:1x1"), lambda said: None)
    executor, runs = there.executor(setup, "loop", 1)
    step = there.step(setup, executor, runs, 4096)
    assert not step.fits
    assert step.times is None
    assert step.needs > step.has == int(15.75 * 2**30)


def test_what_fits_is_what_the_table_of_chips_says():
    """A sum of an array and 1 needs it twice: just below what a chip leaves it is compiled, just above it is not."""
    rented = parse_slice("v5e:1x1")
    (device,) = topology_devices(rented)
    half = rented.chip.usable // 2

    def compiled(nbytes):
        shape = jax.ShapeDtypeStruct((nbytes // 2**20, 2**18), "float32", sharding=SingleDeviceSharding(device))
        return compile_ahead(jax.jit(lambda a: a + 1).lower(shape))

    taken = compiled(half - 2**25).memory_analysis()
    assert taken.argument_size_in_bytes + taken.output_size_in_bytes == 2 * (half - 2**25)
    with pytest.raises(DoesNotFit) as error:
        compiled(half + 2**25)
    assert error.value.has == rented.chip.usable < error.value.needed


def test_a_slice_that_the_compiler_does_not_know_is_refused():
    unknown = dataclasses.replace(parse_slice("v5e:4x4"), name="v5e:3x5", topology=(3, 5))
    with pytest.raises(jaxdl.InputError, match="v5e:3x5"):
        topology_devices(unknown)


def test_an_outline_has_the_shapes_of_what_runs_here():
    """State, examples and steps are those of `prepare`."""
    from jaxdl.training.prepare import prepare

    given = asked("mlp", dict(hidden=(8,)))
    real = prepare(given.init, given.source, given.plan, given.parts, given.task)
    outlined = outline(
        given.init, given.source, given.plan, given.parts, given.task, given.execution, usable=16 * 2**30
    )
    shapes = [
        jax.tree.map(lambda a: (a.shape, a.dtype), (jax.eval_shape(lambda s=s: s.states([s.run(0)])), s.shared))
        for s in (real, outlined)
    ]
    assert shapes[0] == shapes[1]
    assert (real.steps, real.streamed, real.start) == (outlined.steps, outlined.streamed, outlined.start)
