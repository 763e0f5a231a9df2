"""Into what the variance of a score divides."""

import dataclasses
import json

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.units import percent
from jaxdl.report.variance import advice, compared, component_rows
from jaxdl.tasks import choose_task
from jaxdl.training.resume import Interrupted, RunFolder
from jaxdl.validation import components
from jaxdl.validation.baselines import NO_TABLE, tell_baselines
from jaxdl.validation.components import repeats, standard_deviation, variance_components
from jaxdl.validation.splits import split_source

DIGITS = data.digits(range(3))
SOURCE = data.subset(DIGITS, np.random.default_rng(0).permutation(len(DIGITS))[:60])
PLAN = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=1e-2)
MLP = jaxdl.create("mlp", 3, hidden=(8,))
TRUTH = {
    "data": 4.0,
    "seed": 2.0,
    "hyperparameters": 3.0,
    "data × hyperparameters": 1.0,
    "seed × hyperparameters": 0.5,
}


def simulate(random, plans, splits, seeds):
    """Scores of the model with the variances of `TRUTH`."""
    data, seed, plan, both, rest = (np.sqrt(v) for v in TRUTH.values())
    return (
        80
        + plan * random.normal(size=(plans, 1, 1))
        + data * random.normal(size=(splits, 1))
        + both * random.normal(size=(plans, splits, 1))
        + seed * random.normal(size=(splits, seeds))
        + rest * random.normal(size=(plans, splits, seeds))
    )


def test_two_way_layout_has_its_closed_form():
    """Plans × splits, one seed: mean squares of rows, columns and the rest, as in any textbook."""
    scores = np.random.default_rng(0).normal(size=(4, 6))
    rows, columns, grand = scores.mean(1), scores.mean(0), scores.mean()
    between_rows = 6 * np.var(rows, ddof=1)
    between_columns = 4 * np.var(columns, ddof=1)
    rest = np.sum((scores - rows[:, None] - columns + grand) ** 2) / (3 * 5)
    found = {one.name: one for one in variance_components(scores[..., None])}
    assert found["data"].estimate == pytest.approx((between_columns - rest) / 4)
    assert found["hyperparameters"].estimate == pytest.approx((between_rows - rest) / 6)
    assert found["seed and data × hyperparameters"].estimate == pytest.approx(rest)
    assert rest == pytest.approx(np.var(scores, ddof=1) * 23 / 15 - between_rows * 3 / 15 - between_columns * 5 / 15)
    one_way = {one.name: one for one in variance_components(scores[None])}  # 4 splits of 6 seeds each, one plan
    within = np.mean(np.var(scores, axis=1, ddof=1))
    assert one_way["seed"].estimate == pytest.approx(within)
    assert one_way["data"].estimate == pytest.approx(np.var(rows, ddof=1) - within / 6)
    assert one_way["seed"].standard_error == pytest.approx(within * np.sqrt(2 / 22))


def test_sums_of_squares_are_those_of_least_squares():
    """By regressions on ever more indicators: what each adds is its term's sum of squares."""
    scores = simulate(np.random.default_rng(1), 3, 4, 2)
    plan, split, seed = (axis.ravel() for axis in np.indices(scores.shape))
    groups = [0 * plan, plan, split, plan * 4 + split, split * 2 + seed]
    columns, left = np.zeros((24, 0)), [np.sum(scores**2)]
    for labels in groups:
        columns = np.hstack([columns, np.equal.outer(labels, np.unique(labels)).astype(float)])
        fitted = columns @ np.linalg.lstsq(columns, scores.ravel(), rcond=None)[0]
        left.append(np.sum((scores.ravel() - fitted) ** 2))
    explained = -np.diff(left)[1:]
    found = components._squares(scores)
    names = ("hyperparameters", "data", "data × hyperparameters", "seed")
    np.testing.assert_allclose([found[name][0] for name in names], explained)
    assert found["seed × hyperparameters"] == (pytest.approx(left[-1]), 8)
    assert [found[name][1] for name in names] == [2, 3, 6, 4]


def test_known_components_are_found_without_bias_and_covered(monkeypatch):
    """400 simulated layouts; a 95 % interval misses 36 or more of them with a probability of 0.04 %."""
    monkeypatch.setattr(components, "DRAWS", 400)
    made = [variance_components(simulate(np.random.default_rng(i), 5, 8, 3), i) for i in range(400)]
    for place, (name, truth) in enumerate(TRUTH.items()):
        mine = [one[place] for one in made]
        assert {one.name for one in mine} == {name}
        estimates = np.array([one.estimate for one in mine])
        assert abs(estimates.mean() - truth) < 4 * estimates.std() / np.sqrt(400)
        assert np.mean([one.standard_error**2 for one in mine]) == pytest.approx(estimates.var(), rel=0.35)
        assert sum(not one.low <= truth <= one.high for one in mine) < 36
        assert sum(one.share for one in made[0]) == pytest.approx(1)


def test_a_negative_estimate_is_zero_and_said():
    scores = np.array([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]])[None]  # the splits have the same mean
    data, seed = variance_components(scores)
    assert (data.estimate, data.variance, data.negative) == (pytest.approx(-1 / 3), 0.0, True)
    assert (seed.variance, seed.negative, seed.share) == (1.0, False, 1.0)
    assert variance_components(np.ones((2, 3, 2)))[0].share == 0  # nothing varies


def test_the_mean_varies_as_told():
    """Against means of simulated layouts of a settled plan, which are drawn anew."""
    means = [simulate(np.random.default_rng(i), 1, 4, 3) for i in range(3000)]
    known = {**TRUTH, "hyperparameters": 0.0}
    told = standard_deviation(TRUTH, 4, 3)
    assert told == standard_deviation(known, 4, 3)
    spread = np.sqrt(np.var([one.mean() for one in means]) - TRUTH["hyperparameters"])
    assert told == pytest.approx(spread, rel=0.08)
    rows = repeats(TRUTH, 4, 3)
    assert [(row["splits"], row["seeds"]) for row in rows] == [(1, 1), (4, 3), (8, 3), (4, 6), (12, 1)]
    assert rows[4]["std"] == min(row["std"] for row in rows if row["trainings"] == 12)


@pytest.fixture(scope="module")
def found():
    return jaxdl.variance(MLP, SOURCE, PLAN, splits=3, seeds=2, execution=jaxdl.Execution(fold_strategy="vmap"))


def test_every_training_is_the_one_that_fine_tuning_gives(found):
    """Of each configuration, with the first split's key: another split's draws are its own."""
    assert [one["learning_rate"] for one in found.configurations] == [0.005, 0.01, 0.02]
    assert (found.scores.shape, found.seeds, found.mean) == ((3, 3, 2), [0, 1], found.scores.mean())
    split = split_source(SOURCE, "monte-carlo", 3, 0)
    assert split.sha256 == found.split["sha256"]
    for plan, values in enumerate(found.configurations):
        for seed in found.seeds:
            tuned = jaxdl.finetune(
                MLP, data.subset(SOURCE, split.train[0]), jaxdl.Plan(**{**vars(PLAN), **values, "seed": seed})
            )
            accuracy = jaxdl.predict(tuned, data.subset(SOURCE, split.test[0])).accuracy
            assert found.scores[plan, 0, seed] == pytest.approx(accuracy)


def test_components_are_those_of_the_scores(found, tmp_path):
    assert found.components == variance_components(found.scores)
    again = jaxdl.load_variance(found.save(tmp_path / "made"))
    assert json.dumps(again.as_dict()) == json.dumps(found.as_dict())
    assert advice(again) == advice(found)
    with pytest.raises(InputError, match="not a result of variance"):
        jaxdl.load_variance(tmp_path)
    (tmp_path / "made" / "variance.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        jaxdl.load_variance(tmp_path / "made")


def test_a_model_that_looks_at_no_example_is_beside_it(found, tmp_path):
    """What scikit-learn's says on the same splits; images get no trees, a table does."""
    from sklearn.dummy import DummyClassifier

    split = split_source(SOURCE, "monte-carlo", 3, 0)
    labels = SOURCE.targets()
    scores = [
        DummyClassifier(strategy="most_frequent").fit(train, labels[train]).score(test, labels[test])
        for train, test in zip(split.train, split.test, strict=True)
    ]
    constant, trees = found.baselines
    assert constant["folds"]["accuracy"] == pytest.approx(scores)
    assert trees["skipped"] == NO_TABLE
    assert f"most frequent class {percent(np.mean(scores), np.std(scores, ddof=1))}." in compared(found)
    assert jaxdl.load_variance(found.save(tmp_path / "made")).baselines == found.baselines
    assert compared(dataclasses.replace(found, baselines=None)) == ""  # of an older release
    table = data.arrays(SOURCE.x.reshape(len(SOURCE), -1)[:, 20:40].astype(np.float32), labels)
    (_, trees) = tell_baselines(choose_task(table, purpose="this test"), table, split.train, split.test)
    assert [score > 1.5 * other for score, other in zip(trees["folds"]["accuracy"], scores, strict=True)] == [True] * 3


def test_whole_groups_are_drawn():
    groups = np.repeat(np.arange(12), 5)
    source = data.arrays(SOURCE.x, SOURCE.labels, class_names=SOURCE.class_names, groups=groups)
    plan = jaxdl.Plan(epochs=1)
    made = jaxdl.variance(
        MLP, source, plan, splits=2, configurations=[{}], seeds=2, execution=jaxdl.Execution(fold_strategy="loop")
    )
    assert made.split["kind"] == "GroupShuffleSplit"
    assert [one.name for one in made.components] == ["data", "seed"]


def test_mistakes_are_named():
    for options, said in (
        ({"splits": 1}, "at least 2 splits"),
        ({"seeds": 1, "configurations": [{}]}, "2 seeds or"),
        ({"seeds": 0}, "seeds is 0"),
        ({"configurations": [{"learning_rat": 1}]}, "Did you mean 'learning_rate'"),
        ({"configurations": 3}, "expected dicts"),
        ({"splitter": jaxdl.Splitting(test_fraction=2.0)}, "test_fraction is 2.0"),
        ({"execution": jaxdl.Execution(allow=["x"])}, "x"),
    ):
        with pytest.raises(InputError, match=said):
            jaxdl.variance(MLP, SOURCE, PLAN, **{"splits": 3, **options})


def test_an_interrupted_run_goes_on_to_the_same_numbers(found, tmp_path):
    taken = []
    work = RunFolder(tmp_path / "run", should_stop=lambda: len(taken) > 1)
    how, call = jaxdl.Execution(fold_strategy="vmap"), {"splits": 3, "seeds": 2}
    with pytest.raises(Interrupted):
        jaxdl.variance(MLP, SOURCE, PLAN, execution=how.replace(work=work, on_steps=taken.append), **call)
    again = jaxdl.variance(MLP, SOURCE, PLAN, execution=how.replace(work=tmp_path / "run"), **call)
    np.testing.assert_array_equal(again.scores, found.scores)
    with pytest.raises(InputError, match="seeds: "):
        jaxdl.variance(
            MLP, SOURCE, PLAN, splits=3, seeds=3, execution=jaxdl.Execution(work=tmp_path / "run", fold_strategy="vmap")
        )


@pytest.mark.slow
def test_the_command(tmp_path):
    from command_line import jaxdl_command, refused

    np.savez(tmp_path / "d.npz", x=SOURCE.x, y=SOURCE.labels, class_names=list(SOURCE.class_names))
    line = (
        f"variance --model mlp --data {tmp_path / 'd.npz'} --epochs 1 --splits 2 --seeds 2 --fold-strategy vmap "
        f"--configurations label_smoothing=0,0.1 --model-arguments hidden=[8] --out {tmp_path / 'run'}"
    )
    said = jaxdl_command(line)
    made = jaxdl.load_variance(tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "report.html",
        "run.json",
        "variance.json",
        "variance.png",
    ]
    assert made.scores.shape == (2, 2, 2)
    for cells in component_rows(made)[1]:
        assert all(cell in said for cell in cells[:4])  # a note may be wrapped
    assert "what to repeat:" in said
    assert "is finished" in jaxdl_command(line)
    assert "at least 2 splits" in refused(line.replace("--splits 2", "--splits 1") + "2")
    assert "follows a single run" in refused(f"{line}3 --tensorboard")
