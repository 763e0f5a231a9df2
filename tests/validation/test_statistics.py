"""Intervals, comparisons, metrics and calibration of results, against closed forms, scipy and scikit-learn."""

import dataclasses
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

import jaxdl
from jaxdl.data import digits, subset
from jaxdl.errors import InputError
from jaxdl.report.trust import show_reliability, show_wrong
from jaxdl.report.uncertainty import show_uncertainty
from jaxdl.tasks.classification import Classification, probabilities
from jaxdl.tasks.metric import NoInterval
from jaxdl.tasks.regression import Regression
from jaxdl.validation.result import OutOfFold, Result
from jaxdl.validation.statistics import intervals
from jaxdl.validation.statistics.compare import compare, holm, letters
from jaxdl.validation.statistics.metrics import calibrate, fit_temperature, measure
from jaxdl.validation.statistics.nested import nested
from jaxdl.validation.statistics.sample import drawn_counts
from jaxdl.validation.statistics.summary import summarised


def _result(label, logits, folds=5, names=("a", "b", "c"), sha="same", metric=None):
    """As `cross_validate` would have made it, every `folds`-th example in the same fold."""
    n = len(label)
    fold = np.arange(n) % folds
    order = np.argsort(fold, kind="stable")
    held = OutOfFold(order, fold[order], np.asarray(label)[order], np.asarray(logits, np.float32)[order])
    metric = metric or ("accuracy" if names else "r2")
    rows = []
    for k in range(folds):
        mine = held.fold == k
        if names:
            value = float((held.kept[mine].argmax(1) == held.target[mine]).mean())
        else:
            value = sk.r2_score(held.target[mine], held.kept[mine, 0])
        rows.append({"fold": k, "train": int(n - mine.sum()), "test": int(mine.sum()), metric: value})
    scores = [row[metric] for row in rows]
    empty = dict(
        fold_strategy={"name": "loop", "reason": ""},
        init={"kind": "scratch", "model": "mlp"},
        model={"name": "mlp", "arguments": {}},
        plan={},
        environment={},
    )
    return Result(
        task="classification" if names else "regression",
        metric=metric,
        mean=float(np.mean(scores)),
        std=float(np.std(scores, ddof=1)) if folds > 1 else None,
        folds=rows,
        split={"kind": "kfold", "k": folds, "seed": 0, "sha256": sha},
        data={"name": "made", "examples": n, "class_names": list(names)},
        cached=False,
        seconds=0.0,
        out_of_fold=held,
        curves=[],
        **empty,
    )


def _drawn(n=60, strength=1.0, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=n)
    return label, rng.normal(size=(n, classes)) + strength * np.eye(classes)[label]


def test_corrected_t_is_its_formula():
    scores = [0.7, 0.8, 0.75, 0.9]
    low, high = intervals.corrected_t(scores, 1 / 3)
    variance = sum((s - 0.7875) ** 2 for s in scores) / 3
    half = 3.182446305284263 * ((1 / 4 + 1 / 3) * variance) ** 0.5  # t of 3 degrees of freedom, from a table
    assert (low, high) == (pytest.approx(0.7875 - half), pytest.approx(0.7875 + half))


def test_a_result_says_its_interval_and_what_it_is_about():
    result = _result(*_drawn())
    found = intervals.interval(result, "corrected-t")
    scores = [fold["accuracy"] for fold in result.folds]
    assert (found.low, found.high) == pytest.approx(np.clip(intervals.corrected_t(scores, 12 / 48), 0, 1))
    assert "about 48 examples" in found.about
    held_out = _result(*_drawn(), folds=1)
    alone = intervals.interval(dataclasses.replace(held_out, folds=[{**held_out.folds[0], "train": 240}]))
    assert alone.method == "out-of-fold"
    with pytest.raises(InputError, match="needs 2 folds"):
        intervals.interval(_result(*_drawn(), folds=1), "corrected-t")
    with pytest.raises(InputError, match="level is 95"):
        intervals.interval(result, level=95)


def test_folds_that_agree_do_not_make_the_interval_narrow():
    label = np.repeat([0, 1], [90, 10])  # all are said to be of the common class: every fold has the same score
    result = _result(label, np.tile([1.0, 0.0], (100, 1)), names=("common", "rare"))
    result = dataclasses.replace(result, folds=[{**fold, "accuracy": 0.9} for fold in result.folds])
    corrected, found = intervals.interval(result, "corrected-t"), intervals.interval(result, "wider")
    assert (corrected.low, corrected.high) == pytest.approx((0.9, 0.9))
    default = intervals.interval(result)
    assert default.method == "out-of-fold"
    assert default.high - default.low > 0.1
    timed = dataclasses.replace(result, split={**result.split, "kind": "time-series"})
    assert intervals.interval(timed).method == "wider"
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.sqrt(1.25 * 0.9 * 0.1 / 100), rel=0.05)
    scores = [0.5, 0.7, 0.9]
    assert intervals.wider(scores, 0.5, 0.01) == pytest.approx(intervals.corrected_t(scores, 0.5))


SHARE, R2 = Classification.METRICS["accuracy"], Regression.METRICS["r2"]


@pytest.mark.parametrize("right", [3000, 2990, 1700])
def test_out_of_fold_is_wilsons_interval_where_nothing_is_added(right):
    theirs = stats.binomtest(right, 3000).proportion_ci(method="wilson")
    share = right / 3000
    found = intervals.out_of_fold(SHARE, share, share * (1 - share) / 3000, 3000, 0.0)
    assert found == pytest.approx((theirs.low, theirs.high), abs=5e-5)  # t, not normal


def test_out_of_fold_adds_a_third_of_nadeau_and_bengios_variance():
    low, high = intervals.out_of_fold(SHARE, 0.5, 0.25 / 10_000, 10_000, share=1.25)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.005 * np.sqrt(1 + 1.25 / 3), rel=1e-3)


def _closed_form(score, values, units, share, *, skewed):
    """The formulas of both scales in one place, from a value for each row."""
    place = np.unique(units, return_inverse=True)[1]
    count = place.max() + 1
    added = 1 + (intervals.OVERLAP + (intervals.SKEW / count if skewed else 0.0)) * share
    variance = np.square(np.bincount(place, values - values.mean())).sum() / len(values) ** 2 * count / (count - 1)
    quantile = stats.t.ppf(0.975, count - 1)
    if skewed:
        factor = np.exp(quantile * np.sqrt(added * variance) / (1 - score))
        return 1 - (1 - score) * factor, 1 - (1 - score) / factor
    square = quantile**2 * added * variance / (score * (1 - score))
    half = np.sqrt(square * score * (1 - score) + square**2 / 4)
    return (score + square / 2 - half) / (1 + square), (score + square / 2 + half) / (1 + square)


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_of_accuracy_and_r2_are_their_closed_formulas(grouped):
    label, logits = _drawn(90)
    groups = np.arange(90) // 6 if grouped else np.arange(90)
    given = groups if grouped else None
    result = _result(label, logits)
    held = result.out_of_fold
    right = (result.predicted == held.target).astype(float)
    found = intervals.interval(result, groups=given)
    wanted = _closed_form(right.mean(), right, groups[held.index], 90 / 72, skewed=False)
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)

    target = 1e4 + label + np.random.default_rng(5).normal(size=90)
    result = _result(target, (target + logits[:, 0])[:, None], names=())
    held = result.out_of_fold
    squares = np.square(held.kept[:, 0] - held.target)
    distances = np.square(held.target - held.target.mean())
    ratio = squares.mean() / distances.mean()
    values = -(squares - ratio * distances) / distances.mean()
    found = intervals.interval(result, groups=given)
    wanted = _closed_form(1 - ratio, values, groups[held.index], 90 / 72, skewed=True)
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)
    assert found.estimate == pytest.approx(1 - ratio, abs=1e-12)


def test_rows_of_a_unit_count_once():
    """Copies of an example, or members of a group that are all alike, bring nothing."""
    label, logits = _drawn(60)
    groups = np.arange(60) // 6
    alone = _result(label, logits).sample()
    rows = np.tile(np.arange(60), 7)
    copied = dataclasses.replace(
        alone,
        record={key: values[rows] for key, values in alone.record.items()},
        **{name: getattr(alone, name)[rows] for name in ("fold", "unit", "index")},
    )
    for metric in Classification.METRICS.values():
        if not isinstance(metric, NoInterval):
            one, many = (dataclasses.replace(sample, metric=metric) for sample in (alone, copied))
            assert (many.pooled_score, many.variance) == pytest.approx((one.pooled_score, one.variance), rel=0.2)
    assert copied.variance == pytest.approx(alone.variance)
    logits += 4 * np.random.default_rng(1).normal(size=(10, 3))[groups]
    alone, grouped = (intervals.interval(_result(label, logits), groups=g) for g in (None, groups))
    assert grouped.high - grouped.low > 1.2 * (alone.high - alone.low)


def test_the_score_inside_the_interval_is_told_where_it_is_not_the_mean_over_folds():
    rng = np.random.default_rng(3)
    target = rng.normal(size=40)
    small = summarised(_result(target, (target + 0.9 * rng.normal(size=40))[:, None], folds=10, names=()))
    found = small.interval
    assert found["estimate"] == pytest.approx(sk.r2_score(target, _in_order(small)))
    assert found["low"] < found["estimate"] < found["high"]
    assert small.mean < found["low"]  # the R² of four examples says little
    shown = show_uncertainty(small).body
    assert "outside the interval" in shown
    assert f"{found['estimate']:.3g}, that of all held-out predictions together" in shown
    by_folds = intervals.interval(small, "corrected-t")
    assert (by_folds.estimate, by_folds.of) == (small.mean, "the mean over folds")
    even = summarised(_result(*_drawn(60)))
    assert even.interval["estimate"] == pytest.approx(even.mean)
    assert "The mean over folds" not in show_uncertainty(even).body


def _in_order(result):
    held = result.out_of_fold
    return held.kept[np.argsort(held.index), 0]


def _coverage(monkeypatch):
    folder = Path(__file__).parents[2] / "experiments"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", folder / "coverage.py")
    coverage = importlib.util.module_from_spec(spec)  # there is a package of the script's own name
    spec.loader.exec_module(coverage)
    return coverage


@pytest.mark.parametrize("numbers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_default_covers_on_simulated_problems_where_the_naive_interval_does_not(numbers, monkeypatch):
    coverage = _coverage(monkeypatch)
    rows = coverage.measure(coverage.Problem(50, 8, 5, classes=not numbers), 200, 0)
    assert rows[coverage.DEFAULT][0] >= stats.binom.ppf(0.001, 200, 0.93) / 200
    assert rows["naive"][0] < stats.binom.ppf(0.999, 200, 0.85) / 200
    assert rows[coverage.DEFAULT][1] < 0.75 * rows["wider"][1]


@pytest.mark.parametrize(
    "kind",
    [
        "unstable: AUC, 5 nearest",
        pytest.param("unstable: macro F1, tree", marks=pytest.mark.slow),
        pytest.param("unstable: R², tree", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_the_default_covers_for_metrics_of_other_kinds(kind, monkeypatch):
    coverage = _coverage(monkeypatch)
    covered, _, width, other = coverage.measure_kind(coverage.SETTINGS[kind], 25)
    assert covered >= stats.binom.ppf(0.001, 25, 0.93) / 25
    assert width < 0.8 * other


def test_the_labels_of_the_picture_of_coverage_stay_within_their_axes(monkeypatch, tmp_path):
    coverage = _coverage(monkeypatch)
    row = {method: (0.9 + place / 100, 1.0 + place, 0.9) for place, method in enumerate(coverage.METHODS)}
    figure = coverage.draw(dict.fromkeys(coverage.PROBLEMS, row), str(tmp_path / "coverage.png"))
    for axes in figure.axes:
        label, inside = axes.xaxis.label.get_window_extent(), axes.get_window_extent()
        assert inside.x0 <= label.x0 < label.x1 <= inside.x1


def test_the_bootstrap_agrees_with_scipys():
    label, logits = _drawn(200)
    result = _result(label, logits)
    right = (logits.argmax(1) == label).astype(float)
    theirs = stats.bootstrap((right,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
    found = intervals.interval(result, "bootstrap")
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.012)


def test_the_bootstrap_of_few_units_misses_as_seldom_as_it_says():
    """The mean of six numbers: plain percentiles miss it in 14 of 100 cases. Interval and p are one test."""
    rng = np.random.default_rng(0)
    weights = np.concatenate(list(drawn_counts(6, 2000, 0, width=6)))
    missed, rejected, plain = np.zeros((3, 500), bool)
    for place, values in enumerate(rng.normal(size=(500, 6))):
        drawn = weights @ values / 6
        low, high = intervals.percentiles(drawn, 6)
        missed[place] = not low <= 0 <= high
        p = 2 * min((drawn <= 0).mean(), (drawn >= 0).mean())
        rejected[place], plain[place] = intervals.expanded_p(p, 6) <= 0.05, p <= 0.05
    assert 0.025 < missed.mean() < 0.085
    assert (missed != rejected).mean() < 0.01
    assert plain.mean() > 0.11
    assert intervals.expanded_p(0.03, 10**6) == pytest.approx(0.03, abs=1e-5)


def test_the_bootstrap_draws_groups_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    label = np.repeat(rng.integers(2, size=12), 10)  # a group is right or wrong as a whole
    right = np.repeat(np.arange(12) % 3 > 0, 10)
    logits = np.eye(2)[np.where(right, label, 1 - label)]
    result = _result(label, logits, names=("a", "b"))
    alone, whole = intervals.interval(result, "bootstrap"), intervals.interval(result, "bootstrap", groups=groups)
    ratio = (whole.high - whole.low) / (alone.high - alone.low)
    assert 2.4 < ratio < 3.9  # √10, for ten copies of one draw


def test_corrected_t_covers_where_the_naive_interval_does_not():
    rng = np.random.default_rng(0)
    hits = {"naive": 0, "corrected": 0}
    for _ in range(
        400
    ):  # the mean of a sample as a "model" that predicts new draws; its true mean squared error is known
        y = rng.normal(size=40)
        truths, scores = [], []
        for part in np.split(rng.permutation(40), 5):
            mean = np.delete(y, part).mean()
            scores.append(np.square(y[part] - mean).mean())
            truths.append(1 + mean**2)
        for name, (low, high) in {
            "naive": intervals.naive(scores),
            "corrected": intervals.corrected_t(scores, 8 / 32),
        }.items():
            hits[name] += low <= np.mean(truths) <= high
    assert hits["naive"] / 400 < 0.88
    assert hits["corrected"] / 400 > 0.92


def test_nested_is_its_formula_in_numbers_small_enough_to_check():
    fold = np.array([[0, 0, 1, 1]])
    outer = np.array([[1.0, 3.0, 2.0, 6.0]])
    inner = np.array([[[np.nan, np.nan, 1.0, 2.0], [3.0, 5.0, np.nan, np.nan]]])
    found, half = nested(outer, inner, fold, estimate=3.0)
    # fold 0: (1.5 - 2)² less 2/2; fold 1: (4 - 4)² less 8/2
    mse = np.mean([0.25 - 1.0, 0.0 - 4.0])
    plain = np.std([1, 3, 2, 6], ddof=1) / 2
    spread = min(max(np.sqrt(0.5 * max(mse, 0)), plain), plain * np.sqrt(2))
    centre = 2.75 - 1.0 * (2.75 - 3.0)
    assert (found, half) == (pytest.approx(centre), pytest.approx(1.959964 * spread))


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_are_scikit_learns(classes):
    label, logits = _drawn(classes=classes)
    result = _result(label, logits, names=("a", "b", "c")[:classes])
    found = measure(result)
    logits = logits.astype(np.float32)
    chances = probabilities(logits)
    wanted = {
        "accuracy": sk.accuracy_score(label, logits.argmax(1)),
        "balanced_accuracy": sk.balanced_accuracy_score(label, logits.argmax(1)),
        "macro_f1": sk.f1_score(label, logits.argmax(1), average="macro"),
        "kappa": sk.cohen_kappa_score(label, logits.argmax(1)),
        "log_loss": sk.log_loss(label, chances),
    }
    for name, value in wanted.items():
        assert found["pooled"][name] == pytest.approx(value, rel=1e-6), name
    areas = [
        sk.roc_auc_score(label[fold::5], chances[fold::5, 1] if classes == 2 else chances[fold::5], multi_class="ovr")
        for fold in range(5)
    ]
    assert found["pooled"]["auc"] == pytest.approx(np.mean(areas))  # ranks of different networks share no scale
    assert found["folds"]["auc"] == pytest.approx(areas)
    brier = (
        sk.brier_score_loss(label, chances[:, 1])
        if classes == 2
        else np.square(chances - np.eye(3)[label]).sum(1).mean()
    )
    assert found["pooled"]["brier"] == pytest.approx(brier)
    assert found["folds"]["accuracy"] == [fold["accuracy"] for fold in result.folds]
    assert found["undefined"] == {}


@pytest.mark.parametrize("classes", [2, 3])
def test_decision_values_have_no_probabilities(classes, tmp_path):
    label, decisions = _drawn(classes=classes)
    result = dataclasses.replace(_result(label, decisions, names="abc"[:classes]), outputs="decision values")
    found = summarised(result)
    assert list(found.metrics["pooled"]) == ["accuracy", "balanced_accuracy", "macro_f1", "kappa", "auc"]
    assert "decision values" in found.metrics["left_out"]
    assert found.calibration is None
    with pytest.raises(InputError, match="log_loss"):
        result.sample("log_loss")
    assert jaxdl.load_result(found.save(tmp_path / "run")).outputs == "decision values"


@pytest.mark.parametrize("classes", [2, 3])
def test_the_page_says_that_decision_values_are_no_probabilities(classes):
    label, decisions = _drawn(classes=classes)
    result = dataclasses.replace(_result(label, decisions, names="abc"[:classes]), outputs="decision values")
    found = summarised(result)
    for section in (show_reliability(found), show_wrong("ridge", found, None)):
        assert "decision values" in section.body
    assert "decision values" in show_uncertainty(found).body


def test_a_result_of_an_older_release_is_read(tmp_path):
    path = summarised(_result(*_drawn())).save(tmp_path / "run")
    held = json.loads((path / "result.json").read_text())
    for name in ("outputs", "selected", "metrics", "interval", "calibration"):
        held.pop(name, None)
    (path / "result.json").write_text(json.dumps(held))
    loaded = jaxdl.load_result(path)
    assert (loaded.outputs, loaded.metrics, loaded.out_of_fold.group) == ("logits", None, None)


def test_numbers_have_their_own_metrics_and_what_is_undefined_says_why():
    rng = np.random.default_rng(0)
    target = rng.normal(size=30).astype(np.float32)
    outputs = (target + rng.normal(size=30))[:, None]
    result = _result(target, outputs, names=())
    found = measure(result)
    assert found["pooled"]["r2"] == pytest.approx(sk.r2_score(target, outputs[:, 0]), rel=1e-5)
    assert found["pooled"]["mae"] == pytest.approx(sk.mean_absolute_error(target, outputs[:, 0]), rel=1e-5)
    assert calibrate(result) is None
    single = measure(_result(np.arange(6) % 3, np.eye(3)[np.arange(6) % 3], folds=6))  # a fold tests one example
    assert single["folds"]["auc"] == [None] * 6
    assert "single class" in single["undefined"]["auc"]
    assert json.loads(json.dumps(single, allow_nan=False)) == single


@pytest.mark.slow
def test_temperature_is_that_of_a_grid_and_is_fitted_on_the_other_folds():
    label, logits = _drawn(300, strength=2.0)
    overconfident = 3.0 * logits
    grid = np.geomspace(0.5, 20, 1000)
    best = grid[np.argmin([sk.log_loss(label, probabilities(overconfident / t)) for t in grid])]
    assert fit_temperature(label, overconfident) == pytest.approx(best, rel=5e-3)
    result = _result(label, overconfident)
    found = calibrate(result)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    held = result.out_of_fold
    for k, temperature in enumerate(found["temperatures"]):
        others = held.fold != k
        assert temperature == pytest.approx(fit_temperature(held.target[others], held.kept[others].astype(float)))
    # a fold's own labels have no say in its temperature
    spoiled = held.target.copy()
    spoiled[held.fold == 2] = (spoiled[held.fold == 2] + 1) % 3
    changed = calibrate(dataclasses.replace(result, out_of_fold=dataclasses.replace(held, target=spoiled)))
    assert changed["temperatures"][2] == found["temperatures"][2]
    assert changed["temperatures"][1] != found["temperatures"][1]


def _by_closed_testing(p):
    """Holm's adjusted p is the largest Bonferroni p over all intersections that hold the hypothesis."""
    places = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(places, size)]
    return [max(min(1, len(s) * min(p[i] for i in s)) for s in subsets if place in s) for place in places]


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03], [0.5, 0.001, 0.02], [0.2, 0.2, 0.9], [0.01]])
def test_holm_is_a_closed_test(p):
    np.testing.assert_allclose(holm(p), _by_closed_testing(p))


def test_letters_are_shared_by_just_those_that_do_not_differ():
    rng = np.random.default_rng(0)
    names = list("ABCDE")
    pairs = list(itertools.combinations(names, 2))
    for _ in range(50):
        different = {pair for pair in pairs if rng.random() < 0.5}
        given = letters(names, different)
        for pair in pairs:
            assert bool(set(given[pair[0]]) & set(given[pair[1]])) == (pair not in different), (different, given)


def test_pairs_are_tested_as_by_hand():
    label, logits = _drawn(100)
    better = logits + 1.5 * np.eye(3)[label]
    one, two = _result(label, better), _result(label, logits)
    differences = np.subtract(*([fold["accuracy"] for fold in r.folds] for r in (one, two)))
    found = compare({"worse": two, "better": one})
    t = differences.mean() / np.sqrt((1 / 5 + 20 / 80) * differences.var(ddof=1))
    assert list(found.scores) == ["better", "worse"]
    assert found.pairs[0].p == pytest.approx(2 * stats.t.sf(t, 4))
    right = [(r.predicted == r.out_of_fold.target) for r in (one, two)]
    won, lost = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    exact = compare({"worse": two, "better": one}, test="mcnemar").pairs[0]
    assert exact.p == pytest.approx(min(1, 2 * stats.binom.cdf(min(won, lost), won + lost, 0.5)))
    assert compare({"worse": two, "better": one}, test="bootstrap").pairs[0].p < 0.01
    same = compare({"one": one, "again": dataclasses.replace(one)})
    assert (same.pairs[0].p, same.letters) == (1.0, {"one": "a", "again": "a"})


def test_what_cannot_be_compared_is_refused():
    label, logits = _drawn()
    one = _result(label, logits)
    with pytest.raises(InputError, match="other folds"):
        compare({"one": one, "two": _result(label, logits, sha="other")})
    with pytest.raises(InputError, match="other labels"):
        compare({"one": one, "two": _result((label + 1) % 3, logits)})
    with pytest.raises(InputError, match="expected at least 2"):
        compare({"one": one})
    numbers = _result(label.astype(np.float32), logits[:, :1], names=())
    with pytest.raises(InputError, match="r2"):
        compare({"one": numbers, "two": numbers}, test="mcnemar")


def test_cross_validate_says_all_of_it_and_saves_it(tmp_path):
    source = subset(digits(range(3)), np.arange(90))
    result = jaxdl.cross_validate(jaxdl.create("mlp", 3, hidden=(8,)), source, jaxdl.Plan(epochs=2), folds=3)
    again = summarised(dataclasses.replace(result, interval=None, metrics=None, calibration=None))
    assert (result.interval, result.metrics, result.calibration) == (again.interval, again.metrics, again.calibration)
    assert result.metrics["folds"]["accuracy"] == pytest.approx([fold["accuracy"] for fold in result.folds])
    loaded = jaxdl.load_result(result.save(tmp_path / "run"))
    assert loaded.interval == result.interval
    assert loaded.metrics == result.metrics
