"""The interval of nested cross-validation, against its algorithm written down in loops."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from test_statistics import _result

import jaxdl
from jaxdl.data import Arrays, digits, subset
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.training.resume import Interrupted
from jaxdl.validation.crossval import Folds, run_folds
from jaxdl.validation.result import OutOfFold
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.statistics.nested import extra_trainings, nested_interval, without_pairs


def _by_the_book(losses, splits, n):
    """Algorithm 1 of Bates, Hastie & Tibshirani; `losses(train, test)` are those of a model of `train`."""
    found, squares, inner, everything = [], [], [], []
    for tests in splits:
        k = len(tests)
        for one in range(k):
            within = []
            for other in range(k):
                if other != one:
                    left = np.setdiff1d(np.arange(n), np.r_[tests[one], tests[other]])
                    within.append(losses(left, tests[other]))
            held = losses(np.setdiff1d(np.arange(n), tests[one]), tests[one])
            within = np.concatenate(within)
            squares.append((within.mean() - held.mean()) ** 2)
            found.append(held.var(ddof=1) / len(held))
            inner.append(within.mean())
            everything.append(held)
    mse = np.mean(squares) - np.mean(found)
    k = len(splits[0])
    plain = np.mean([np.concatenate(everything[i : i + k]).std(ddof=1) for i in range(0, len(everything), k)])
    plain /= np.sqrt(n)
    spread = np.clip(np.sqrt((k - 1) / k * max(mse, 0)), plain, plain * np.sqrt(k))
    estimate = np.concatenate(everything).mean()
    centre = np.mean(inner) - (1 + (k - 2) / k) * (np.mean(inner) - estimate)
    return centre, centre - 1.959964 * spread, centre + 1.959964 * spread


def test_it_is_the_papers_algorithm_for_ridge():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 12))
    y = (x @ rng.normal(size=12) + 2 * rng.normal(size=30)).astype(np.float32)
    source = Arrays(np.float32(x), y, (), name="numbers")

    def run(split, name):
        said = [Ridge().fit(x[a], y[a]).predict(x[b]) for a, b in zip(split.train, split.test, strict=True)]
        index = np.concatenate(split.test)
        fold = np.repeat(np.arange(len(split)), [len(test) for test in split.test])
        held = OutOfFold(index, fold, y[index], np.concatenate(said)[:, None])
        rows = [{"fold": i, "train": len(train), "test": 6, "r2": 0.0} for i, train in enumerate(split.train)]
        return dataclasses.replace(_result(y, y[:, None], names=()), out_of_fold=held, folds=rows)

    split = split_source(source, "kfold", 5, 0)
    with pytest.raises(InputError, match="r2"):
        nested_interval(run(split, ""), source, split, run, repeats=2)
    found = nested_interval(run(split, ""), source, split, run, repeats=2, metric="mse")
    splits = [[test for _, test in KFold(5, shuffle=True, random_state=seed).split(x)] for seed in (0, 1)]
    loss = lambda train, test: np.square(Ridge().fit(x[train], y[train]).predict(x[test]) - y[test])  # noqa: E731
    centre, low, high = _by_the_book(loss, splits, 30)
    assert (found.estimate, found.low, found.high) == pytest.approx((centre, low, high), rel=1e-5)
    assert "trained on all 30 examples" in found.about


@pytest.mark.slow
def test_cross_validate_trains_what_it_takes_and_goes_on_after_an_interruption(tmp_path):
    source, model = subset(digits(range(3)), np.arange(60)), jaxdl.create("mlp", 3, hidden=(8,))
    plan = jaxdl.Plan(epochs=3, batch_size=64, learning_rate=1e-3)
    steps = []
    how, options = jaxdl.Execution(fold_strategy="loop"), dict(folds=3, interval=("nested", 1))
    result = jaxdl.cross_validate(model, source, plan, execution=how.replace(on_steps=steps.append), **options)
    assert sum(steps) == 3 * (3 + extra_trainings(3, 1))
    split = split_source(source, "stratified", 3, 0)
    pairs = list(combinations(range(3), 2))
    left_out = without_pairs(split, pairs)
    alone = jaxdl.cross_validate(
        model, source, plan, splitter=left_out, execution=jaxdl.Execution(fold_strategy="loop")
    ).out_of_fold
    number = {tuple(sorted(left_out.test[i])): i for i in range(3)}

    def losses(train, test):
        place = number.get(tuple(np.setdiff1d(np.arange(60), train)))  # of a pair; None of a fold itself
        held = result.out_of_fold if place is None else alone
        rows = np.isin(held.index, test) & ((held.fold == place) | (place is None))
        return (held.kept.argmax(1) != held.target)[rows].astype(float)

    _, low, high = _by_the_book(losses, [split.test], 60)
    found = result.interval
    assert found["method"] == "nested"
    assert (found["low"], found["high"]) == pytest.approx((max(0, 1 - high), min(1, 1 - low)))
    begun = tmp_path / "run" / "state" / "nested-0"
    stopping = jaxdl.RunFolder(tmp_path / "run", should_stop=begun.is_dir)
    with pytest.raises(Interrupted):
        jaxdl.cross_validate(model, source, plan, execution=how.replace(work=stopping), **options)
    resumed = jaxdl.cross_validate(model, source, plan, execution=how.replace(work=tmp_path / "run"), **options)
    assert resumed.interval == found


def test_where_it_does_not_hold_it_is_refused_before_anything_is_trained():
    source, model = subset(digits(range(2)), np.arange(40)), jaxdl.create("mlp", 2, hidden=(4,))
    grouped = dataclasses.replace(source, groups=np.arange(40) // 4)
    own = Split("kfold", 0, [np.arange(20, 40)] * 3, [np.arange(20)] * 3, examples=40)
    for why, given, options in (
        ("come in groups", grouped, dict(splitter="group")),
        ("'monte-carlo'", source, dict(splitter="monte-carlo")),
        ("3 or more", source, dict(folds=2)),
        ("each example once", source, dict(splitter=own)),
    ):
        with pytest.raises(InputError, match=why):
            jaxdl.cross_validate(model, given, jaxdl.Plan(), interval="nested", **options)
    with pytest.raises(InputError, match=r"repeats of nested .* 0"):
        jaxdl.cross_validate(model, source, jaxdl.Plan(), interval=("nested", 0))
    task = choose_task(source, purpose="a test")
    some = Folds(model, source, jaxdl.Plan(), task, split_source(source, "stratified", 5, 0), "nested", only=[1])
    with pytest.raises(InputError, match="1 of 5 folds"):
        run_folds(some, jaxdl.Execution())
    with pytest.raises(InputError, match="interval"):
        jaxdl.cross_validate(model, source, jaxdl.Plan(), interval="wald")
    with pytest.raises(InputError, match="needs 2 folds"):
        jaxdl.cross_validate(model, source, jaxdl.Plan(), splitter="holdout", interval="corrected-t")


def test_other_methods_are_had_by_name():
    source, model = subset(digits(range(2)), np.arange(40)), jaxdl.create("mlp", 2, hidden=(4,))
    found = jaxdl.cross_validate(model, source, jaxdl.Plan(epochs=1), folds=3, interval="corrected-t")
    assert found.interval["method"] == "corrected-t"
    assert found.interval["estimate"] == found.mean
