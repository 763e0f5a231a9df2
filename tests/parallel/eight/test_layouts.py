"""What a layout does to whole calls: predictions, features and ensembles, searches, and the number format."""

import dataclasses

import jax
import numpy as np
import pytest
from test_ways import (
    WAYS,
    executor_of,
    largest,
    setup_of,
    small_arrays_are_divided_too,  # noqa: F401 (a fixture)
    trained,
)

import jaxdl
from jaxdl import Layout, data
from jaxdl.errors import InputError
from jaxdl.training import loop
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.resume import Interrupted, RunFolder
from jaxdl.training.setup import Setup
from jaxdl.training.transfer import of_run
from jaxdl.validation.search.space import Choice

ONE = Layout(devices=1)
FOR_EXAMPLES = {
    "data": Layout(),
    "three devices": Layout(devices=3),
    "fsdp": Layout(parallel="fsdp"),
    "data × model": Layout(mesh={"data": 4, "model": 2}),
}


def source_of(*rows):
    return data.subset(data.digits(range(4)), np.arange(*rows))


@pytest.fixture(scope="module")
def networks():
    """Of folds, trained on one device."""
    model, plan = jaxdl.create("mlp", 4, hidden=(16, 16)), jaxdl.Plan(epochs=2, batch_size=16)
    how = Execution(fold_strategy="loop", keep_models=True, layout=ONE)
    return jaxdl.cross_validate(model, source_of(60), plan, folds=3, execution=how)


def told(networks, layout):
    """Predictions, an ensemble's, and features, of 43 new examples in batches of 10."""
    execution, new, one = Execution(layout=layout), source_of(60, 103), networks.models[0]
    return (
        jaxdl.predict(one, new, batch_size=10, execution=execution).outputs,
        jaxdl.ensemble(networks).predict(new, batch_size=10, execution=execution).outputs,
        np.asarray(jaxdl.extract_features(one, new, batch_size=10, execution=execution)),
    )


QUICK = ("fsdp", "data × model")


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in FOR_EXAMPLES]
)
def test_predictions_features_and_ensembles_are_those_of_one_device(way, networks):
    found, expected = told(networks, FOR_EXAMPLES[way]), told(networks, ONE)
    print(f"| {way} | " + " | ".join(f"{largest(a, b):.0e}" for a, b in zip(found, expected, strict=True)) + " |")
    assert largest(found, expected) < 1e-5


@pytest.mark.parametrize(
    ("way", "name"),
    [("fsdp", "mlp"), *(pytest.param(way, "vit", marks=pytest.mark.slow) for way in ("fsdp", "data × model", "pmap"))],
)
def test_accumulation_and_rematerialisation_go_with_it(way, name):
    layout, count = WAYS[way]
    setup = setup_of(name, accumulate=2, ema=0.9)
    again = dataclasses.replace(setup, remat=True)
    one = trained(setup, executor_of(ONE, 1), range(1))[1:]
    eight = trained(again, executor_of(layout, count), range(1))[1:]
    print(f"{way}, {name}: in two parts and with remat, differs by at most {largest(eight, one):.0e}")
    assert largest(eight, one) < 1e-5


@pytest.mark.parametrize(
    ("way", "name"), [("fsdp", "mlp"), *(pytest.param(w, "vit", marks=pytest.mark.slow) for w in WAYS)]
)
def test_parameters_stay_float32_where_the_computation_is_in_bfloat16(way, name):
    layout, count = WAYS[way]
    setup = setup_of(name, precision="bfloat16", optimizer="adamw")
    state, losses, *_ = trained(setup, executor_of(layout, count), range(count))
    kept = jax.tree.leaves((state.params, state.opt_state))
    assert {leaf.dtype.name for leaf in kept if leaf.dtype.kind == "f"} == {"float32"}
    assert np.isfinite(losses).all()
    assert "bf16" in str(jax.make_jaxpr(lambda s, b: setup.make_step()(s, b, setup.shared))(*one_step(setup)))


def one_step(setup):
    batch = jax.tree.map(lambda a: a[0, 0], epoch_batches(setup, [setup.run(0)], 0))
    return of_run(setup.states([0]), 0), batch


def searched(layout, strategy="auto", **plan):
    space = {"learning_rate": Choice((0.003, 0.01, 0.03, 0.1))}
    plan = jaxdl.Plan(epochs=2, batch_size=16, optimizer="sgd", **plan)
    how = Execution(layout=layout, fold_strategy=strategy)
    model, searching = jaxdl.create("mlp", 4, hidden=(16,)), jaxdl.Searching(nested=False)
    return jaxdl.search(model, source_of(60), plan, space, searching, folds=2, execution=how)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [Layout(parallel="folds"), Layout(mesh={"fold": 4, "data": 2})])
def test_a_search_lays_its_trainings_over_devices(layout):
    """4 learning rates × 2 folds."""
    found, expected = searched(layout), searched(ONE, "loop")
    assert [group["name"] for group in found.groups] == ["shard"]
    assert [group["name"] for group in expected.groups] == ["loop"]
    losses = [[row["loss"] for row in one.scores] for one in (found, expected)]
    assert len(losses[0]) == 4
    assert len(set(losses[0])) > 1
    assert largest(*losses) < 1e-5


@pytest.mark.slow
def test_folds_share_devices_only_where_nothing_is_drawn():
    model, plan = jaxdl.create("mlp", 4, hidden=(8,), dropout=0.5), jaxdl.Plan(epochs=1)

    def validated(**layout):
        execution = Execution(layout=Layout(**layout))
        return jaxdl.cross_validate(model, source_of(60), plan, folds=4, execution=execution)

    with pytest.raises(InputError, match=r"fold=4,data=2.*draws at random.*Leave data out of the mesh"):
        validated(mesh={"fold": 4, "data": 2})
    assert validated(mesh={"fold": 4}).fold_strategy["name"] == "shard"  # as the message advises
    assert validated(parallel="folds").fold_strategy["name"] == "shard"


PARTS, FEWER = Layout(parallel="fsdp"), Layout(parallel="fsdp", devices=4)
TWO = Layout(mesh={"data": 4, "model": 2})
KERNELS = {64 * 88, 88 * 56}  # elements of the two large arrays, and of nothing else


def whole_on_a_device(but=()):
    """Arrays that are there now and as large as a kernel, of which a device holds all; without those of before."""
    found = [array for array in jax.live_arrays() if array.size in KERNELS and not any(array is one for one in but)]
    return [one for one in found if any(shard.data.size == one.size for shard in one.addressable_shards)]


def trained_in(folder, layout, init, stop=None):
    """The trained network; `Interrupted` with `stop`, the number of times that it may go on."""
    asked = iter(range(1000))
    work = RunFolder(folder, save_every=1000, should_stop=lambda: stop is not None and next(asked) >= stop)
    plan = jaxdl.Plan(epochs=4, batch_size=16, learning_rate=0.003, ema=0.9)
    execution = Execution(work=work, layout=layout)
    try:
        return jaxdl.train(init, source_of(60), plan, validation=source_of(60, 90), execution=execution).best
    finally:
        work.release()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PARTS, PARTS),
        (ONE, PARTS),
        pytest.param(None, PARTS, marks=pytest.mark.slow),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((PARTS, FEWER), (PARTS, ONE), (TWO, PARTS))),
        pytest.param(PARTS, TWO, marks=pytest.mark.slow),
    ],
)
def test_no_device_ever_holds_all_of_what_lies_in_parts(before, after, tmp_path, monkeypatch):
    """Not as a run begins, goes on from a save of another layout, saves, measures, or ends; and the numbers are its."""
    model = jaxdl.create("mlp", 4, hidden=(88, 56))
    weights = jaxdl.pretrain(model, source_of(60), jaxdl.Plan(epochs=1), execution=Execution(layout=ONE))
    expected = trained_in(tmp_path / "whole", ONE, weights)
    if before:
        with pytest.raises(Interrupted):
            trained_in(tmp_path / "run", before, weights, stop=2)
    others, whole, parts, resumed = whole_on_a_device(), [], [], loop.resumed

    def noting(function):
        def noted(*arguments):
            whole.append([one.shape for one in whole_on_a_device(others)])
            made = function(*arguments)
            whole.append([one.shape for one in whole_on_a_device(others)])
            if function is resumed and before:
                kept = made[1].params, made[1].opt_state, made[1].ema
                kernels = [leaf for leaf in jax.tree.leaves(kept) if leaf.size in KERNELS]
                parts.extend(leaf.size / shard.data.size for leaf in kernels for shard in leaf.addressable_shards)
            return made

        return noted

    monkeypatch.setattr(loop, "resumed", noting(resumed))
    monkeypatch.setattr(Setup, "states", noting(Setup.states))
    monkeypatch.setattr(loop._Running, "conclude", noting(loop._Running.conclude))
    found = trained_in(tmp_path / "run", after, weights)
    if after is not ONE:
        assert whole == [[]] * len(whole)
    if before and after is not ONE:
        assert set(parts) == {2 if after is TWO else len(after.chosen())}
        assert len(parts) == 2 * 4 * len(after.chosen())  # parameters, two moments, and the running mean
    assert largest(found.variables, expected.variables) < 1e-5
    assert [row["train_loss"] for row in found.history] == pytest.approx(
        [row["train_loss"] for row in expected.history]
    )
