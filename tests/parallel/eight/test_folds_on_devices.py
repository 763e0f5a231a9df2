"""Fold k comes out the same alone, in the loop, under vmap, and sharded over 8 devices."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.tasks import Classification
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.prepare import prepare
from jaxdl.training.transfer import runner_on
from jaxdl.validation.crossval import Folds, run_folds
from jaxdl.validation.splits import split_source
from jaxdl.validation.strategy import executor_of, pad_runs

CASES = {
    "mlp": ("mlp", dict(hidden=(32,)), None),
    "cnn with batch norm and dropout": ("cnn", dict(features=(8, 16), hidden=(32,), dropout=0.3), None),
    "vit": ("vit", dict(width=32, depth=2, num_heads=2, patch_size=2, dropout=0.1), None),
    "frozen prefix": ("cnn", dict(features=(8, 16), hidden=(32,), dropout=0.3), "conv1"),
}


# The parent knows all digits: what counts here is that the numbers are equal, not that they are honest.
LOOP = Execution(fold_strategy="loop", allow="parent")


def source_of(examples=110):
    digits = data.digits()
    return data.subset(digits, np.random.default_rng(1).permutation(len(digits))[:examples])


SLOW = ("cnn with batch norm and dropout", "vit", "frozen prefix")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
def case(request):
    name, arguments, freeze = CASES[request.param]
    source = source_of()
    # 88 training examples in two batches of 44: ten epochs are 20 steps
    plan = jaxdl.Plan(epochs=10, batch_size=64, learning_rate=3e-3, freeze_through=freeze)
    init = jaxdl.create(name, 10, **arguments)
    if freeze:
        init = jaxdl.pretrain(init, data.digits(), jaxdl.Plan(epochs=1))
    loop = jaxdl.cross_validate(init, source, plan, splitter="kfold", execution=LOOP)
    assert loop.curves[-1]["step"] == 20
    assert loop.cached == bool(freeze)
    return request.param, init, source, plan, loop


@pytest.mark.parametrize("strategy", [pytest.param("vmap", marks=pytest.mark.slow), "shard"])
def test_strategies_give_the_loops_logits(case, strategy):
    name, init, source, plan, loop = case
    how = LOOP.replace(fold_strategy=strategy)
    other = jaxdl.cross_validate(init, source, plan, splitter="kfold", execution=how)
    assert other.split == loop.split
    assert (other.out_of_fold.index == loop.out_of_fold.index).all()
    difference = np.abs(other.out_of_fold.kept - loop.out_of_fold.kept).max()
    print(f"{name}: {strategy} differs from the loop by at most {difference:.1e}")
    assert difference < 1e-4
    assert len(other.curves) == len(loop.curves)


@pytest.mark.slow
def test_a_fold_alone_is_the_fold_among_others(case):
    name, init, source, plan, loop = case
    task = Classification(source.class_names)
    split = split_source(source, "kfold", 5, plan.seed, task)
    alone = run_folds(Folds(init, source, plan, task, split, only=[3]), LOOP)
    rows = loop.out_of_fold.fold == 3
    difference = np.abs(alone.out_of_fold.kept - loop.out_of_fold.kept[rows]).max()
    print(f"{name}: fold 3 alone differs by at most {difference:.1e}")
    assert difference < 1e-4
    assert [row["fold"] for row in alone.folds] == [3]


def test_folds_on_devices_do_not_talk():
    source = source_of()
    task = Classification(source.class_names)
    split = split_source(source, "kfold", 5, 0, task)
    model = jaxdl.create("cnn", 10, features=(8,), hidden=(16,))
    setup = prepare(model, source, jaxdl.Plan(epochs=1), split.train, task)
    assert pad_runs(range(5), "shard", setup.layout) == [0, 1, 2, 3, 4]
    runner = runner_on(executor_of(setup, "shard", 5), setup)
    runs = [setup.run(fold) for fold in range(5)]
    state, shared = runner.executor.place_state(setup.states(runs)), runner.place_shared(setup.shared)
    batch = jax.tree.map(lambda a: a[0], epoch_batches(setup, runs, 0))
    text = runner.step.lower(state, batch, shared).compile().as_text()
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert collective not in text
    assert len(runner.step(state, batch, shared)[0].params["head"]["dense"]["kernel"].sharding.device_set) == 5


@pytest.mark.slow
def test_auto_chooses_among_what_eight_devices_allow():
    source = source_of()
    result = jaxdl.cross_validate(jaxdl.create("mlp", 10), source, jaxdl.Plan(epochs=2), splitter="kfold")
    assert result.fold_strategy["name"] in ("loop", "shard")
    assert {"shard"} <= set(result.fold_strategy["trial"]) <= {"loop", "shard"}
