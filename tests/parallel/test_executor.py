"""The executor, as far as one device tells; with eight: `eight/`."""

import ast
import functools
import traceback
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from command_line import jaxdl_command
from jax.sharding import PartitionSpec as P

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.parallel.executor import Executor, on_one_device
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.program import over_runs, pad
from jaxdl.parallel.rules import path_of, spec_of
from jaxdl.training import runners

PACKAGE = Path(jaxdl.__file__).parent
DEVICE = tuple(jax.local_devices()[:1])


def test_devices_are_asked_for_in_one_place():
    """Nothing outside `parallel` takes a device, or a part of an array, on its own."""
    asked = {"addressable_data", "addressable_shards", "local_devices", "devices"}
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] == "parallel":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in asked:
                of_jax = isinstance(node.value, ast.Name) and node.value.id == "jax"
                found = of_jax or node.attr.startswith("addressable")
                assert not found, f"{file}:{node.lineno}"


@pytest.mark.parametrize(
    ("devices", "options", "named"),
    [
        (8, {"fold": 3}, "fold 3"),
        (8, {"fold": 4, "data": 0}, "data 0"),
        (8, {"fold": 4, "data": 2, "pmap": True}, "pmap"),
        (8, {"fold": 4, "data": 2, "fsdp": True}, "fsdp"),
        (8, {"data": 8, "pmap": True, "fsdp": True}, "fsdp"),
        (8, {"data": 4, "model": 2, "rules": ()}, "no rule"),
        (8, {"data": 4, "model": 2, "rules": (("head/kernel", (None, "fold")),)}, "head/kernel"),
        (8, {"data": 4, "model": 2, "rules": (("head/kernel", ("model", "model")),)}, "head/kernel"),
    ],
)
def test_what_cannot_be_is_refused_by_name(devices, options, named):
    with pytest.raises(InputError, match=named):
        Executor(tuple(range(devices)), **options)


def test_equal_executors_share_what_is_cached_for_them():
    made = functools.lru_cache(lambda executor: object())
    assert made(Executor(DEVICE)) is made(on_one_device())
    assert made(Executor(DEVICE)) is not made(Executor(DEVICE, pmap=True))


def test_fewer_runs_than_devices_share_them(monkeypatch):
    monkeypatch.setattr("jax.local_devices", lambda: list(range(8)))
    laid = {runs: Layout().executor_of_runs(runs) for runs in (1, 2, 3, 4, 5, 8, 24)}
    assert {runs: (e.fold, e.data) for runs, e in laid.items()} == {
        1: (1, 8),
        2: (2, 4),
        3: (3, 2),
        4: (4, 2),
        5: (5, 1),
        8: (8, 1),
        24: (8, 1),
    }
    assert [e.axis_name for e in laid.values()] == [None, "data", "data", "data", None, None, None]
    alone = Layout().executor_of_runs(4, divide=False)
    assert (alone.fold, alone.data) == (4, 1)


def test_rules():
    rules = (("mlp/*/kernel", (None, "model")), ("kernel", ("model", None)), ("kernel", (None, None, None, "model")))
    assert spec_of("params/block/mlp/hidden/kernel", (6, 8), rules, 2) == P(None, "model")
    assert spec_of("params/head/kernel", (6, 5), rules, 2) == P("model", None)
    assert spec_of("params/conv/kernel", (3, 3, 4, 8), rules, 2) == P(None, None, None, "model")
    for path, shape in (("params/head/bias", (6,)), ("params/head/subkernel", (6, 6)), ("params/head/kernel", (6,))):
        assert spec_of(path, shape, rules, 2) == P()
    assert spec_of("params/head/kernel", (6, 5), (), 2) == P()
    with pytest.raises(InputError, match="params/head/kernel"):
        spec_of("params/head/kernel", (5, 6), rules, 2)


def test_what_an_optimizer_keeps_has_the_path_of_its_parameter():
    parameters = {"head": {"dense": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}}}
    kept = {"state": (optax.adam(1e-3).init(parameters), {"head": optax.sgd(1, 0.9).init(parameters["head"])})}
    paths = [path_of(path) for path, leaf in jax.tree_util.tree_leaves_with_path(kept) if np.ndim(leaf)]
    assert len(paths) == 6
    assert {path.removeprefix("state/") for path in paths} == {"head/dense/kernel", "head/dense/bias"}


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("scan", [False, True])
def test_runs_and_steps_against_loops(runs, scan):
    """A step that draws a line through what it saw, in numpy: ``s ← 0.9 s + mean(batch) · shared``."""
    random = np.random.default_rng(0)
    batches = random.normal(size=(4, runs, 5)).astype(np.float32) if scan else random.normal(size=(runs, 5))
    state, factor = random.normal(size=(runs, 2)).astype(np.float32), 1.5

    def step(state, batch, shared):
        after = 0.9 * state + batch.mean() * shared
        return after, {"mean": batch.mean()}

    def predict(state, batch, shared):
        return batch[:, None] * state * shared

    stepped, metrics = over_runs(step, scan=scan, updates=True)(state, batches, factor)
    said = over_runs(predict, scan=scan, updates=False)(state, batches, factor)
    expected = state
    for at, batch in enumerate(batches if scan else batches[None]):
        expected = 0.9 * expected + batch.mean(1, keepdims=True) * factor
        np.testing.assert_allclose(metrics["mean"][at] if scan else metrics["mean"], batch.mean(1), atol=1e-6)
        np.testing.assert_allclose(said[at] if scan else said, batch[:, :, None] * state[:, None] * factor, atol=1e-5)
    np.testing.assert_allclose(stepped, expected, atol=1e-6)


def test_padding_of_arrays_and_shapes():
    array = np.arange(10).reshape(2, 5)
    padded = pad(array, 1, 4)
    assert padded.tolist() == [[0, 1, 2, 3, 4, 0, 0, 0], [5, 6, 7, 8, 9, 0, 0, 0]]
    assert pad(jax.ShapeDtypeStruct((2, 5), np.int32), 1, 4).shape == (2, 8)
    assert pad(array, 0, 2) is array


def test_one_device_is_lowered_from_shapes_and_gives_what_it_gives():
    executor = on_one_device()
    program = executor.step(lambda state, batch, shared: (state + batch.sum() * shared, {"sum": batch.sum()}))
    state, batch, shared = np.ones(1, np.float32), np.ones((1, 3), np.float32), np.float32(2)
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (state, batch, shared)]
    placed = executor.place_state(structs[0])
    assert placed.sharding.device_set == set(DEVICE)
    made = program.lower(placed, structs[1], executor.place_variables(structs[2])).compile()(state, batch, shared)
    assert float(made[0][0]) == 7
    assert float(made[1]["sum"][0]) == 3


def test_few_functions_stand_between_a_command_and_the_pure_step(monkeypatch, tmp_path):
    """Counted where the step is traced, of this package alone, the command's own function left out."""
    stacks, original = [], runners.make_step

    def make_step(*given):
        step = original(*given)

        def seen(state, batch, shared):
            frames = [f for f in traceback.extract_stack() if str(PACKAGE) in f.filename]
            stacks.append([f"{Path(f.filename).stem}.{f.name}" for f in frames])
            return step(state, batch, shared)

        return seen

    monkeypatch.setattr(runners, "make_step", make_step)
    runners.make_runner.cache_clear()  # or the programs of a test before would do
    jaxdl_command(f"pretrain --model mlp --data digits --epochs 1 --out {tmp_path / 'run'}")
    between = stacks[0][stacks[0].index("train.pretrain_command") + 1 :]
    print(between)
    assert len(between) <= 6


def test_data_is_not_divided_on_one_device():
    x = data.digits().x[:5]
    rows, _ = on_one_device().place_shared(x, {})
    np.testing.assert_array_equal(rows, x)
