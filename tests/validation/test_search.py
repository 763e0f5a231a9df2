"""Search: its numbers are those of each configuration alone, its score is of folds that had no say."""

import dataclasses
import json

import numpy as np
import pytest
from interruptions import run_to_the_end
from sklearn.model_selection import GroupKFold

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.prepare import prepare
from jaxdl.training.traced_hyperparameters import BatchedRun, traced_hyperparameters
from jaxdl.validation.batched_runs import BatchedRuns
from jaxdl.validation.crossval import Folds, run_folds
from jaxdl.validation.search.configurations import configure, group
from jaxdl.validation.search.evaluate import Evaluation
from jaxdl.validation.search.inner import OUTER, inner_splits
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.strategy import run_bytes

DIGITS = data.digits(range(3))
ORDER = np.random.default_rng(0).permutation(len(DIGITS))
SOURCE, OTHERS = data.subset(DIGITS, ORDER[:60]), data.subset(DIGITS, ORDER[60:120])
PLAN = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=5e-3)
MLP = jaxdl.create("mlp", 3, hidden=(8,))
TASK = choose_task(SOURCE, purpose="a test")


def evaluation(space, splits, *, init=MLP, plan=PLAN, source=SOURCE, strategy="vmap", memory=None, seeds=(0,)):
    drawn = [dict(zip(space, values, strict=True)) for values in zip(*space.values(), strict=True)]
    configurations = configure(drawn, init, plan, source, TASK)
    execution = jaxdl.Execution(fold_strategy=strategy, memory=memory)
    return configurations, Evaluation(source, TASK, splits, group(configurations), seeds, execution)


@pytest.mark.parametrize("strategy", ["vmap", pytest.param("loop", marks=pytest.mark.slow)])
def test_runs_side_by_side_give_what_each_configuration_gives_alone(strategy):
    """Logits of side-by-side trainings against `cross_validate` of each plan by itself."""
    space = {
        "learning_rate": [1e-3, 2e-2, 5e-3],
        "weight_decay": [0.0, 1e-2, 1e-1],
        "label_smoothing": [0.0, 0.2, 0.1],
        "clip_norm": [None, 0.5, 1.0],
        "stage_lr.head": [1.0, 3.0, 10.0],
        "model.dropout": [0.0, 0.4, 0.2],
    }
    split = split_source(SOURCE, "stratified", 3, 0)
    configurations, found = evaluation(space, {OUTER: split}, strategy=strategy, seeds=(0, 7))
    assert len(found.groups) == 1
    kept = {}
    table = found.run([(c.number, (OUTER, f)) for c in configurations for f in range(3)], "all")
    (together,) = found.groups
    setup = prepare(MLP, SOURCE, together.first.plan, split.train, TASK)
    runs = [BatchedRun(f, seed, together.traced(c)) for c in configurations for seed in (0, 7) for f in range(3)]
    outcomes = iter(BatchedRuns(setup, split.test, strategy, len(runs), init=MLP).run(runs, "all"))
    for one in configurations:
        for seed in (0, 7):
            plan = dataclasses.replace(one.plan, seed=seed)
            alone = jaxdl.cross_validate(
                one.init, SOURCE, plan, splitter=split, execution=jaxdl.Execution(fold_strategy="vmap")
            )
            for fold in range(3):
                mine = alone.out_of_fold.fold == fold
                got = table[one.number, (OUTER, fold), seed]
                outcome = next(outcomes)
                np.testing.assert_allclose(outcome.held_out["kept"], alone.out_of_fold.kept[mine], atol=1e-5)
                assert outcome.scores["loss"] == pytest.approx(got["loss"], abs=1e-6)
                assert got["loss"] == pytest.approx(alone.folds[fold]["loss"], abs=1e-5)
                kept[one.number, seed, fold] = got["loss"]
    assert len({round(loss, 4) for loss in kept.values()}) == len(kept)  # and they do differ from one another


OPTIONS = {
    "sgd": dict(optimizer="sgd", ema=0.9, warmup_epochs=1, schedule="linear"),
    "early stopping": dict(early_stopping=1, epochs=3, optimizer="adam"),
    "balanced, in parts": dict(class_weights="balanced", accumulate=2, augment=("crop",), schedule="step"),
}


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_other_plans_are_mapped_alike(options):
    space = {"learning_rate": [1e-3, 2e-2], "weight_decay": [0.0, 1e-2]}
    plan, split = jaxdl.Plan(**{**vars(PLAN), **options}), split_source(SOURCE, "stratified", 2, 0)
    configurations, found = evaluation(space, {OUTER: split}, plan=plan)
    table = found.run([(c.number, (OUTER, f)) for c in configurations for f in range(2)], "all")
    for one in configurations:
        alone = jaxdl.cross_validate(
            MLP, SOURCE, one.plan, splitter=split, execution=jaxdl.Execution(fold_strategy="loop")
        )
        for row in alone.folds:
            assert table[one.number, (OUTER, row["fold"]), 0]["loss"] == pytest.approx(row["loss"], rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_dropout_is_mapped_in_every_family_that_has_it():
    for name, arguments in {
        "cnn": dict(features=(4,), hidden=(8,), activation="tanh", pool="average"),
        "vit": dict(width=8, depth=1, num_heads=2, patch_size=4),
    }.items():
        model = jaxdl.create(name, 3, **arguments)
        plan, whole = jaxdl.Plan(epochs=1, optimizer="sgd", learning_rate=0.1), np.arange(len(SOURCE))
        fixed = prepare(model.clone(dropout=0.5), SOURCE, plan, [whole], TASK)
        by_value = BatchedRuns(prepare(model, SOURCE, plan, [whole], TASK), [whole], "loop", 1)
        alone = BatchedRuns(fixed, [whole], "loop", 1).run([BatchedRun(0, 0)], "alone", epochs=1)[0].scores["loss"]
        runs = [BatchedRun(0, 0, traced_hyperparameters(plan, (), rate)) for rate in (0.0, 0.5)]
        without, mapped = (made.scores["loss"] for made in by_value.run(runs, "by value", epochs=1))
        assert mapped == pytest.approx(alone, abs=1e-5)
        assert without != pytest.approx(alone, abs=1e-4)


@pytest.mark.slow
def test_a_memory_budget_splits_the_runs_and_changes_nothing():
    split = split_source(SOURCE, "stratified", 2, 0)
    space = {"learning_rate": [1e-3, 3e-3, 1e-2, 2e-2, 5e-2]}
    wanted = [(number, (OUTER, fold)) for number in range(5) for fold in range(2)]
    _, whole = evaluation(space, {OUTER: split})
    together = whole.run(wanted, "all")
    assert whole.chosen[0]["width"] == 10
    setup = prepare(MLP, SOURCE, PLAN, split.train, TASK)
    one = run_bytes(setup, BatchedRun(0, 0, traced_hyperparameters(PLAN, ())))
    _, little = evaluation(space, {OUTER: split}, memory=int(3.5 * one))
    apart = little.run(wanted, "all")
    assert little.chosen[0]["width"] == 3
    assert list(apart) == list(together)
    for key, scores in together.items():
        assert apart[key]["loss"] == pytest.approx(scores["loss"], abs=1e-6)


def test_memory_of_a_run_bounds_what_the_compiler_takes():
    import jax

    setup = prepare(jaxdl.create("mlp", 3, hidden=(64, 64)), SOURCE, PLAN, [np.arange(60)], TASK)
    runs = [BatchedRun(0, 0, traced_hyperparameters(PLAN, ()))] * 8
    state = setup.states(runs)
    batch = jax.tree.map(lambda a: a[0], epoch_batches(setup, runs, 0))
    step = jax.jit(jax.vmap(setup.make_step(), in_axes=(0, 0, None)))
    used = step.lower(state, batch, setup.shared).compile().memory_analysis()
    data_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(setup.shared))
    taken = used.argument_size_in_bytes + used.temp_size_in_bytes - data_bytes
    assert taken <= 8 * run_bytes(setup, runs[0]) <= 5 * taken


def test_a_run_that_diverges_does_not_disturb_the_others():
    split = split_source(SOURCE, "stratified", 2, 0)
    plan = jaxdl.Plan(epochs=2, batch_size=16, optimizer="sgd", schedule="constant")
    losses = []
    for rates in ([1e-2, 1e30], [1e-2]):
        _, found = evaluation({"learning_rate": rates}, {OUTER: split}, plan=plan)
        table = found.run([(number, (OUTER, 0)) for number in range(len(rates))], "all")
        losses.append(table[0, (OUTER, 0), 0]["loss"])
        if len(rates) == 2:
            assert np.isnan(list(table[1, (OUTER, 0), 0].values())).all()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    result = jaxdl.search(MLP, SOURCE, plan, {"learning_rate": [1e30, 1e-2]}, jaxdl.Searching(nested=False), folds=2)
    assert result.final == 1
    assert result.ranking[-1]["mean"] is None
    json.loads(json.dumps(result.as_dict(), allow_nan=False))
    with pytest.raises(InputError, match="every configuration"):
        jaxdl.search(MLP, SOURCE, plan, {"learning_rate": [1e30]}, jaxdl.Searching(nested=False), folds=2)


@pytest.mark.slow
def test_on_noise_the_nested_score_is_chance_and_the_other_is_not():
    """A planted temptation: 24 configurations, labels that follow from nothing. Ten data sets of 30 examples."""
    model = jaxdl.create("mlp", 2, hidden=(4,))
    plan = jaxdl.Plan(epochs=4, batch_size=32)
    space = {"learning_rate": np.geomspace(1e-4, 0.5, 8).tolist(), "weight_decay": [0.0, 1.0, 10.0]}
    honest, tempting = [], []
    for number in range(10):
        random = np.random.default_rng(number)
        source = data.arrays(random.normal(size=(30, 5)).astype(np.float32), random.permutation(np.arange(30) % 2))
        result = jaxdl.search(
            model,
            source,
            plan,
            space,
            jaxdl.Searching(inner_folds=2, criterion="metric"),
            folds=3,
            execution=jaxdl.Execution(fold_strategy="vmap"),
        )
        honest.append(result.result.mean)
        tempting.append(result.not_nested)
    spread = np.std(honest, ddof=1) / np.sqrt(10)
    assert abs(np.mean(honest) - 0.5) < 2.5 * spread + 0.01
    assert np.mean(tempting) > 0.58
    assert np.mean(tempting) > np.mean(honest) + 3 * spread


def test_the_outer_folds_are_trained_with_what_their_inner_folds_chose():
    """Against the loop that a person would write: choose on the training part alone, then train and predict."""
    space, splits = {"learning_rate": [1e-4, 3e-3, 3e-2]}, split_source(SOURCE, "stratified", 2, 0)
    result = jaxdl.search(
        MLP,
        SOURCE,
        PLAN,
        space,
        jaxdl.Searching(inner_folds=2, criterion="loss"),
        folds=2,
        execution=jaxdl.Execution(fold_strategy="loop"),
    )
    assert result.nested
    assert result.warning is None
    for fold, (train, test) in enumerate(zip(splits.train, splits.test, strict=True)):
        chosen = result.configurations[result.choices[fold]]["values"]["learning_rate"]
        rows = {r["configuration"]: r for r in result.scores if r["division"] == f"outer fold {fold}"}
        part = data.subset(SOURCE, train)
        if fold == 0:  # there the draws are those of a cross-validation of the part alone
            for number, rate in enumerate(space["learning_rate"]):
                plan = dataclasses.replace(PLAN, learning_rate=rate)
                alone = jaxdl.cross_validate(MLP, part, plan, folds=2, execution=jaxdl.Execution(fold_strategy="loop"))
                assert rows[number]["loss"] == pytest.approx(np.mean([f["loss"] for f in alone.folds]), abs=1e-5)
        assert chosen == space["learning_rate"][min(rows, key=lambda number: rows[number]["loss"])]
        plan = dataclasses.replace(PLAN, learning_rate=chosen)
        alone = run_folds(Folds(MLP, SOURCE, plan, TASK, splits, only=[fold]), jaxdl.Execution(fold_strategy="loop"))
        mine = result.result.out_of_fold.fold == fold
        np.testing.assert_array_equal(result.result.out_of_fold.index[mine], test)
        np.testing.assert_allclose(result.result.out_of_fold.kept[mine], alone.out_of_fold.kept, atol=1e-5)
    assert result.result.mean == pytest.approx(np.mean([row["accuracy"] for row in result.result.folds]))
    assert result.result.split["sha256"] == splits.sha256


@pytest.mark.slow
def test_groups_stay_together_inside_too():
    grouped = dataclasses.replace(SOURCE, groups=np.arange(60) // 4)
    outer = split_source(grouped, "group", 3, 0)
    for whole, inner in zip(outer.train, inner_splits(grouped, TASK, outer, None, 2, 0), strict=True):
        assert len(inner) == 2
        for train, test in zip(inner.train, inner.test, strict=True):
            assert set(train) | set(test) == set(whole)
            assert not set(grouped.groups[train]) & set(grouped.groups[test])
    asked = []

    class Noting(GroupKFold):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                asked.append((len(X), set(groups[train]) & set(groups[test])))
                yield train, test

    found = jaxdl.search(MLP, grouped, PLAN, {"learning_rate": [1e-3, 1e-2]}, splitter=Noting(3))
    assert asked == [(60, set())] * 3 + [(40, set())] * 9
    assert [len(row["folds"]) for row in found.scores] == [3] * 8


@pytest.mark.slow
def test_halving_keeps_the_best_and_trains_it_to_the_end():
    """Of nine rates eight learn next to nothing: the ninth must come through, with the numbers of a whole training."""
    plan = jaxdl.Plan(epochs=9, batch_size=16)
    space = {"learning_rate": [1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 3e-2, 6e-9, 7e-9, 8e-9]}
    halving = jaxdl.Searching(strategy="halving", nested=False, criterion="loss")
    for strategy in ("vmap", "loop"):
        how = jaxdl.Execution(fold_strategy=strategy)
        result = jaxdl.search(MLP, SOURCE, plan, space, halving, folds=2, execution=how)
        assert result.final == 5
        assert sorted(row["epochs"] for row in result.ranking) == [1] * 6 + [3] * 2 + [9]
        assert result.ranking[0]["configuration"] == 5
        best = dataclasses.replace(plan, learning_rate=3e-2)
        alone = jaxdl.cross_validate(MLP, SOURCE, best, folds=2, execution=jaxdl.Execution(fold_strategy="loop"))
        assert result.ranking[0]["loss"] == pytest.approx(np.mean([f["loss"] for f in alone.folds]), abs=1e-5)


@pytest.mark.slow
def test_configurations_of_other_shapes_are_searched_too():
    space = {"model": ["mlp"], "model.hidden": [[4], [8]], "learning_rate": "log:1e-3:1e-2:2"}
    result = jaxdl.search(MLP, SOURCE, PLAN, space, jaxdl.Searching(nested=False), folds=2)
    assert [len(one["configurations"]) for one in result.groups] == [2, 2]
    assert list(result.result.model["arguments"]["hidden"]) in ([4], [8])
    parent = jaxdl.pretrain(MLP, OTHERS, jaxdl.Plan(epochs=1))
    space = {"freeze_through": "none,layer1", "stage_lr.head": [1, 10], "model.dropout": [0.0, 0.5]}
    result = jaxdl.search(
        parent,
        SOURCE,
        PLAN,
        space,
        jaxdl.Searching(inner_folds=2, seeds=2),
        folds=2,
        execution=jaxdl.Execution(fold_strategy="vmap"),
    )
    assert len(result.groups) == 2
    assert len(result.seed_means) == 2
    assert result.final_init is not None
    trained = {one["values"]["freeze_through"]: one["trained"] for one in result.configurations}
    assert trained[None] > trained["layer1"] == 8 * 3 + 3


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["vmap", "loop"])
def test_a_search_goes_on_after_interruptions(strategy, tmp_path):
    space, plan = {"learning_rate": [1e-3, 1e-2, 1e-4]}, jaxdl.Plan(epochs=3, batch_size=16)

    def call(how):
        searching = jaxdl.Searching(strategy="halving", inner_folds=2)
        return jaxdl.search(MLP, SOURCE, plan, space, searching, folds=2, execution=how)

    how = jaxdl.Execution(fold_strategy=strategy)
    whole = call(how)
    again, stops = run_to_the_end(call, tmp_path / "run", 12 if strategy == "vmap" else 40, how)
    assert stops >= 2
    assert again.scores == whole.scores
    assert (again.choices, again.final) == (whole.choices, whole.final)
    np.testing.assert_array_equal(again.result.out_of_fold.kept, whole.result.out_of_fold.kept)
    with pytest.raises(InputError, match="other settings"):
        jaxdl.search(
            MLP, SOURCE, plan, {"learning_rate": [1.0]}, folds=2, execution=jaxdl.Execution(work=tmp_path / "run")
        )


def test_a_search_is_saved_and_read_again(tmp_path):
    result = jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3, 1e-2]}, jaxdl.Searching(inner_folds=2), folds=2)
    path = result.save(tmp_path / "found")
    again = jaxdl.load_search(path)
    assert again.as_dict() == json.loads(json.dumps(result.as_dict()))
    assert again.result.mean == jaxdl.load_result(path).mean == result.result.mean
    with pytest.raises(InputError, match=r"no search\.json"):
        jaxdl.load_search(tmp_path)
    (path / "search.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        jaxdl.load_search(path)


@pytest.mark.slow
def test_regression_is_searched(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3)).astype(np.float32)
    source = data.arrays(x, (x @ [1.0, 2.0, 3.0]).astype(np.float32))
    model = jaxdl.create("mlp", 1, hidden=(8,))
    plan = jaxdl.Plan(epochs=10, batch_size=16)
    result = jaxdl.search(model, source, plan, {"learning_rate": [1e-6, 5e-2]}, jaxdl.Searching(inner_folds=2), folds=2)
    assert result.choices == [1, 1]
    assert result.result.metric == "r2"
    assert result.result.mean > 0.5
    with pytest.raises(InputError, match="label_smoothing"):
        jaxdl.search(model, source, plan, {"label_smoothing": [0.0, 0.1]}, folds=2)


@pytest.mark.slow
def test_a_split_can_be_given():
    split = split_source(SOURCE, "stratified", 3, 5)
    kept = Split(split.kind, split.seed, split.train, split.test)
    result = jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3]}, jaxdl.Searching(inner_folds=2), splitter=kept)
    assert result.result.split["sha256"] == split.sha256
