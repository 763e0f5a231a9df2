"""Folds × data × model on eight devices against one: the same numbers, really divided, lowered ahead of time."""

import functools
import re
import warnings

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.parallel.executor import Executor, on_one_device
from jaxdl.parallel.layout import Layout
from jaxdl.tasks import Classification
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.prepare import prepare
from jaxdl.training.runners import make_runner
from jaxdl.validation.strategy import draws, executor_of

DEVICES = tuple(jax.devices())
MODELS = {
    "mlp": dict(hidden=(32,)),
    "cnn": dict(features=(8, 16), hidden=(32,)),  # with batch norm
    "vit": dict(width=32, depth=1, num_heads=2, patch_size=2),
}
RULES = (
    ("head/dense/kernel", ("model", None)),
    ("layer1/dense/kernel", (None, "model")),
    ("layer1/dense/bias", ("model",)),
)
WAYS = {
    "data": (Executor(DEVICES, data=8), 1),
    "pmap": (Executor(DEVICES, data=8, pmap=True), 1),
    "folds": (Executor(DEVICES, fold=8), 8),
    "folds × data": (Executor(DEVICES, fold=4, data=2), 4),
    "two folds on each × data": (Executor(DEVICES[:4], fold=2, data=2), 4),
    "data × model": (Executor(DEVICES, data=4, model=2, rules=RULES), 1),
    "folds × model": (Executor(DEVICES, fold=4, model=2, rules=RULES), 4),
    "folds × data × model": (Executor(DEVICES, fold=2, data=2, model=2, rules=RULES), 4),
}
COLLECTIVES = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("


@functools.cache
def setup_of(name="mlp", **options):
    source = data.subset(data.digits(range(4)), np.random.default_rng(0).permutation(720)[:75])
    arguments = {**MODELS[name], **{key: options.pop(key) for key in ("dropout",) if key in options}}
    plan = jaxdl.Plan(**{"epochs": 4, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.01, **options})
    parts = [np.delete(np.arange(75), np.arange(fold, 75, 8)) for fold in range(8)]  # 65 or 66: batches do not divide
    return prepare(jaxdl.create(name, 4, **arguments), source, plan, parts, Classification(source.class_names))


def trained(setup, executor, count):
    """State on the first device, losses ``[steps, runs]`` and predictions ``[runs, rows, …]`` of the last batch."""
    runner = make_runner(executor, setup.recipe(), False)
    runs, losses = [setup.run(fold) for fold in range(count)], []
    state = executor.place_state(jax.tree.map(lambda a: a.copy(), setup.states(runs)))
    shared = runner.place_shared(setup.shared)
    for epoch in range(4):
        batches = epoch_batches(setup, runs, epoch)
        for step in range(len(batches.indices)):
            batch = jax.tree.map(lambda a, i=step: a[i], batches)
            state, metrics = runner.step(state, batch, shared)
            losses.append(np.asarray(metrics["loss"]))
    predicted = jax.tree.map(np.asarray, runner.predict(state, batch, shared))
    return state, jax.tree.map(np.asarray, executor.fetch_state(state).params), np.stack(losses), predicted


@functools.cache
def alone(name, count):
    return trained(setup_of(name), on_one_device(), count)


def largest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


QUICK = ("folds × data", "data × model", "folds × data × model")  # the others are held to one device elsewhere, too
SLOW = [pytest.param(way, "mlp", marks=pytest.mark.slow) for way in WAYS if way not in QUICK]
SLOW += [
    pytest.param(way, name, marks=pytest.mark.slow) for way in ("folds × data", "folds") for name in ("cnn", "vit")
]


@pytest.mark.parametrize(("way", "name"), [*((way, "mlp") for way in QUICK), *SLOW])
def test_every_way_gives_one_devices_numbers(way, name):
    executor, count = WAYS[way]
    if executor.model > 1 and name != "mlp":
        pytest.skip("the rules are those of the MLP")
    state, params, losses, predicted = trained(setup_of(name), executor, count)
    _, expected, losses_alone, predicted_alone = alone(name, count)
    print(f"{way}, {name}: parameters differ by at most {largest(params, expected):.1e}")
    assert losses.shape == losses_alone.shape == (12, count)
    assert largest(params, expected) < 2e-6
    assert largest((losses, predicted), (losses_alone, predicted_alone)) < 2e-5
    assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == len(executor.devices)


DIVIDED = [pytest.param(way, marks=pytest.mark.slow) for way in ("data × model", "folds × model")]


@pytest.mark.parametrize("way", ["folds × data × model", *DIVIDED])
def test_parameters_are_really_divided(way):
    executor, count = WAYS[way]
    state, *_ = trained(setup_of(optimizer="adamw"), executor, count)
    kernel, runs = state.params["layer1"]["dense"]["kernel"], count // executor.fold
    assert kernel.shape == (count, 64, 32)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(runs, 64, 16)}
    kept = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert kept  # the two moments
    assert {shard.data.shape for leaf in kept for shard in leaf.addressable_shards} == {(runs, 64, 16)}
    head = state.params["head"]["dense"]
    assert {shard.data.shape for shard in head["kernel"].addressable_shards} == {(runs, 16, 4)}
    assert {shard.data.shape for shard in head["bias"].addressable_shards} == {(runs, 4)}  # named by no rule


def prepared(way):
    executor, count = WAYS[way]
    setup = setup_of()
    runs = [setup.run(fold) for fold in range(count)]
    runner = make_runner(executor, setup.recipe(), False)
    return runner, setup.states(runs), jax.tree.map(lambda a: a[0], epoch_batches(setup, runs, 0)), setup.shared


@pytest.mark.parametrize("way", WAYS)
def test_a_donated_state_is_used_up_and_lies_as_it_came(way):
    runner, state, batch, shared = prepared(way)
    state = runner.executor.place_state(jax.tree.map(lambda a: a.copy(), state))
    shared = runner.place_shared(shared)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*donated.*")
        after, _ = runner.step(state, batch, shared)
        jax.block_until_ready(runner.step(jax.tree.map(lambda a: a.copy(), after), batch, shared))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(shared))
    if not runner.executor.pmap:
        placed = runner.executor.place_state(prepared(way)[1])
        for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(placed), strict=True):
            assert new.sharding == old.sharding


@pytest.mark.parametrize("way", WAYS)
def test_every_program_is_lowered_from_shapes_alone(way):
    runner, state, batch, shared = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype) if hasattr(a, "shape") else a, prepared(way)
    )
    state, shared = runner.executor.place_state(state), runner.place_shared(shared)
    for program in (runner.step, runner.predict):
        compiled = program.lower(state, batch, shared).compile()
        found = re.findall(COLLECTIVES, compiled.as_text())
        print(way, sorted(found))
        if way == "folds":
            assert not found  # devices do not talk
    text = runner.step.lower(state, batch, shared).compile().as_text()
    if way == "folds × data":
        assert set(re.findall(COLLECTIVES, text)) == {"all-reduce"}


def test_what_was_lowered_is_what_runs():
    runner, state, batch, shared = prepared("folds × data")
    args = runner.executor.place_state(state), batch, runner.place_shared(shared)
    compiled = runner.step.lower(*args).compile()
    ahead = compiled(args[0], runner.step.place(batch), args[2])
    now = runner.step(runner.executor.place_state(prepared("folds × data")[1]), *args[1:])
    for one, other in zip(jax.tree.leaves(ahead[1]), jax.tree.leaves(now[1]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", [16, 13, 3])
def test_forward_divides_rows_and_gives_no_padding(rows):
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    expected = np.tanh(x @ weight)
    for executor in (Layout().executor(), WAYS["folds × data"][0], WAYS["pmap"][0], on_one_device()):
        program = executor.forward(lambda w, x: {"made": jax.numpy.tanh(x @ w)})
        np.testing.assert_allclose(program(executor.place_variables(weight), x)["made"], expected, atol=1e-6)
        turned = executor.forward(lambda w, x: jax.numpy.tanh(x.T @ w).T, rows_in=1, rows_out=1)
        np.testing.assert_allclose(turned(executor.place_variables(weight), x.T), expected.T, atol=1e-6)
        struct = executor.place_variables(jax.ShapeDtypeStruct(weight.shape, weight.dtype))
        lowered = program.lower(struct, jax.ShapeDtypeStruct(x.shape, x.dtype))
        assert not re.findall(COLLECTIVES, lowered.compile().as_text())


def test_shard_lets_devices_share_a_fold_only_where_nothing_is_drawn():
    assert not draws(setup_of())
    plain = executor_of(setup_of(), "shard", 4)
    assert (plain.fold, plain.data, len(plain.devices)) == (4, 2, 8)
    assert [(e.fold, e.data) for e in (executor_of(setup_of(), "shard", n) for n in (2, 3, 5, 8, 16))] == [
        (2, 4),
        (3, 2),
        (5, 1),
        (8, 1),
        (8, 1),
    ]
    for options in ({"dropout": 0.5}, {"augment": "crop"}):
        assert draws(setup_of(**options))
        assert executor_of(setup_of(**options), "shard", 4).data == 1


@pytest.mark.slow
def test_four_folds_on_eight_devices_are_those_of_the_loop():
    source = data.subset(data.digits(range(4)), np.arange(90))
    plan = jaxdl.Plan(epochs=3, batch_size=32, optimizer="sgd", learning_rate=0.01)
    model = jaxdl.create("mlp", 4, hidden=(16,))
    loop, shard = (
        jaxdl.cross_validate(model, source, plan, folds=4, execution=Execution(fold_strategy=name))
        for name in ("loop", "shard")
    )
    assert np.abs(loop.out_of_fold.kept - shard.out_of_fold.kept).max() < 1e-5


def test_a_size_that_does_not_divide_is_refused_by_name():
    executor = Executor(DEVICES, fold=4, model=2, rules=(("head/dense/kernel", (None, "model")),))
    odd = {"head": {"dense": {"kernel": np.zeros((4, 6, 5), np.float32)}}}
    with pytest.raises(InputError, match="head/dense/kernel"):
        executor.place_state(odd)
