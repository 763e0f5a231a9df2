"""Comparisons of results: what the tests find, with which intervals, for which metrics."""

import dataclasses
import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from test_statistics import _drawn, _result

from jaxdl.errors import InputError
from jaxdl.validation.statistics.compare import compare, detectable_difference
from jaxdl.validation.statistics.pair_tests import corrected_t


def _two(n=100, folds=5, better=1.0):
    label, logits = _drawn(n)
    rng = np.random.default_rng(5)
    other = logits + rng.normal(size=logits.shape) + better * np.eye(3)[label]
    return {"first": _result(label, other, folds=folds), "second": _result(label, logits, folds=folds)}


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "auc", "log_loss", "matthews_corrcoef"])
@pytest.mark.parametrize("test", ["corrected-t", "bootstrap"])
def test_any_metric_is_compared_with_the_interval_of_its_difference(metric, test, monkeypatch):
    monkeypatch.setattr("jaxdl.validation.statistics.pair_tests.DRAWS", 200)
    found = compare(_two(folds=4), metric=metric, test=test)
    (pair,) = found.pairs
    assert found.metric == metric
    assert list(found.scores) == ["first", "second"]  # the better one first, also of a loss
    assert pair.low < pair.difference < pair.high
    assert (pair.p <= 0.05) == (not pair.low <= 0 <= pair.high)
    assert json.loads(json.dumps(found.as_dict()))["pairs"][0]["low"] == pair.low


def test_a_fold_without_a_score_is_none_in_plain_values_and_the_bootstrap_does_without_it(monkeypatch):
    monkeypatch.setattr("jaxdl.validation.statistics.pair_tests.DRAWS", 200)
    label = np.arange(40) // 4 % 2
    label[::4] = 0  # of which the first of 4 folds tests no other, so that it has no AUC
    logits = np.random.default_rng(0).normal(size=(40, 2))
    results = {"first": _result(label, logits, 4, ("a", "b")), "second": _result(label, -logits, 4, ("a", "b"))}
    with pytest.raises(InputError, match="bootstrap"):
        compare(results, metric="auc")
    found = compare(results, metric="auc", test="bootstrap")
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [scores.index(None) for scores in plain["folds"].values()] == [0, 0]
    assert not np.isnan(found.pairs[0].difference)


def test_where_no_fold_has_a_score_no_test_is_recommended():
    label = np.arange(40) % 4 // 2  # each of 4 folds tests one class alone
    results = {name: _result(label, np.eye(2)[label], 4, ("a", "b")) for name in ("first", "second")}
    with pytest.raises(InputError, match="auc") as caught:
        compare(results, metric="auc")
    assert "bootstrap" not in str(caught.value)
    with pytest.raises(InputError, match="auc"):
        compare(results, metric="auc", test="bootstrap")


def test_the_interval_of_mcnemar_is_that_of_paired_rows():
    results = _two()
    (pair,) = compare(results, test="mcnemar").pairs
    ahead = np.subtract(*[(one.predicted == one.out_of_fold.target).astype(float) for one in results.values()])
    theirs = stats.ttest_1samp(ahead, 0).confidence_interval()
    assert (pair.low, pair.high) == pytest.approx(tuple(theirs), rel=1e-6)
    for metric in ("macro_f1", "log_loss"):
        with pytest.raises(InputError, match=metric):
            compare(results, metric=metric, test="mcnemar")


def test_results_of_different_metrics_are_all_scored_by_the_first_one():
    """What each result is by a metric does not depend on the metric that it was made with."""
    results = _two()
    wanted = compare(results, metric="auc")
    mixed = {"first": results["first"].scored_by("auc"), "second": results["second"].scored_by("kappa")}
    found = compare(mixed)
    assert (found.metric, found.scores, found.pairs) == ("auc", wanted.scores, wanted.pairs)
    assert found.other_metrics == {"second": "kappa"}
    assert json.loads(json.dumps(found.as_dict()))["other_metrics"] == {"second": "kappa"}
    assert compare(mixed, metric="kappa").scores == pytest.approx(compare(results, metric="kappa").scores)


def test_a_result_is_scored_by_another_metric_from_its_predictions():
    result = _two()["first"]
    held = result.out_of_fold
    again = result.scored_by("balanced_accuracy")
    folds = [held.fold == row["fold"] for row in again.folds]
    wanted = [sk.balanced_accuracy_score(held.target[rows], held.kept[rows].argmax(1)) for rows in folds]
    assert (again.metric, again.asked.metric) == ("balanced_accuracy",) * 2
    assert [row["balanced_accuracy"] for row in again.folds] == pytest.approx(wanted)
    assert (again.mean, again.std) == pytest.approx((np.mean(wanted), np.std(wanted, ddof=1)))
    assert again.interval["about"].startswith("balanced_accuracy")
    assert again.scored_by("accuracy").mean == pytest.approx(result.mean)
    with pytest.raises(InputError, match="'balancd_accuracy'"):
        result.scored_by("balancd_accuracy")


def _shifted(folds, each, ahead):
    """Two results of which the first gets `ahead` more examples right, in every fold alike."""
    label = np.zeros(folds * each, int)
    logits = np.tile([1.0, 0.0], (len(label), 1))
    worse = logits.copy()
    worse[: folds * ahead] = [0.0, 1.0]
    return {"first": _result(label, logits, folds, ("a", "b")), "second": _result(label, worse, folds, ("a", "b"))}


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_folds_that_all_differ_by_one_example_are_no_certainty(folds):
    (pair,) = compare(_shifted(folds, 20, 1)).pairs
    assert pair.difference == pytest.approx(0.05)
    assert pair.p > 1e-3
    assert pair.low < 0.05 < pair.high
    (all_of_them,) = compare(_shifted(folds, 20, 20)).pairs
    assert 0 < all_of_them.p < 1e-3


def test_two_folds_are_too_few_for_the_t_test():
    with pytest.raises(InputError, match="there are 2"):
        compare(_two(folds=2))
    assert compare(_two(folds=2), test="bootstrap").pairs


def test_the_t_test_is_plain_where_folds_vary_and_the_simulation_of_its_size_uses_the_same():
    folder = Path(__file__).parents[2] / "experiments"
    spec = importlib.util.spec_from_file_location("size", folder / "corrected_t_size.py")
    size = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(size)
    for shifted in (_two(), _shifted(5, 20, 1)):
        one, other = (result.sample() for result in shifted.values())
        difference = one.fold_scores - other.fold_scores
        ahead = one.record["right"] - other.record["right"]
        found = np.r_[difference, ahead.var() / (len(ahead) - 1)][None]
        assert corrected_t(one, other)[1] == pytest.approx(size.p_values(found, 5, size.LEAST_QUANTILE)[0])
    one, other = (result.sample() for result in _two().values())
    difference = one.fold_scores - other.fold_scores
    error = np.sqrt((1 / 5 + 20 / 80) * difference.var(ddof=1))
    assert corrected_t(one, other)[1] == pytest.approx(2 * stats.t.sf(difference.mean() / error, 4))
    drawn = size.differences(np.random.default_rng(0), 60, 0.3, 0.0, 3, 2000)
    assert np.mean(size.p_values(drawn, 3, None) < 1e-6) > 0.005  # what was wrong
    assert np.mean(size.p_values(drawn, 3, size.LEAST_QUANTILE) <= 0.05) < 0.05


def test_the_bootstrap_finds_something_among_many_results():
    label, logits = _drawn(120)
    rng = np.random.default_rng(2)
    results = {f"same {i}": _result(label, logits + 0.1 * rng.normal(size=logits.shape)) for i in range(13)}
    results["better"] = _result(label, logits + 4 * np.eye(3)[label])
    tracemalloc.start()
    found = compare(results, test="bootstrap")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.pairs) == 91
    assert found.letters["better"] == "a"
    assert all(letter == "b" for name, letter in found.letters.items() if name != "better")
    assert peak < 200e6


def test_a_metric_without_an_interval_is_compared_by_folds_alone():
    results = _two()
    assert 0 <= compare(results, metric="expected_calibration_error").pairs[0].p <= 1
    numbers = np.arange(20.0) % 4
    single = {name: _result(numbers, numbers[:, None], folds=20, names=()) for name in "ab"}
    with pytest.raises(InputError, match="r2"):
        compare(single)
    changed = dataclasses.replace(results["second"], task="other")
    with pytest.raises(InputError, match="other"):
        compare({"first": results["first"], "second": changed})


# What could have been found


@pytest.mark.parametrize(("degrees", "pairs"), [(4, 1), (9, 3), (60, 1)])
def test_the_detectable_difference_is_found_in_four_of_five_experiments(degrees, pairs):
    """Simulated: t-tests of normal differences, whose standard error is estimated with these degrees of freedom."""
    error, alpha = 0.02, 0.05
    half = stats.t.ppf(1 - alpha / 2, degrees) * error
    found = detectable_difference(0.1 - half, 0.1 + half, degrees, alpha, pairs)
    rng, many = np.random.default_rng(0), 200_000
    means = rng.normal(found, error, many)
    errors = error * np.sqrt(rng.chisquare(degrees, many) / degrees)
    power = (2 * stats.t.sf(np.abs(means) / errors, degrees) <= alpha / pairs).mean()
    assert power == pytest.approx(0.8, abs=0.004)


def test_nothing_is_detectable_without_an_interval():
    assert detectable_difference(None, None, 4, 0.05) is None
    label, logits = _drawn(60)
    same = {name: _result(label, logits) for name in ("one", "two")}
    (pair,) = compare(same).pairs
    assert (pair.low, pair.detectable, pair.shown) == (None, None, False)


@pytest.mark.parametrize("test", ["corrected-t", "mcnemar", "bootstrap"])
def test_more_examples_show_smaller_differences_and_a_verdict_goes_by_holms_p(test):
    few, many = (compare(_two(n, better=0.3), test=test) for n in (100, 1600))
    assert many.pairs[0].detectable < few.pairs[0].detectable / 2
    for found in (few, many):
        (pair,) = found.pairs
        assert pair.shown == (pair.adjusted <= 0.05)
        assert (len(set(found.letters.values())) == 2) == pair.shown
        # an estimate as large as what is detectable lies outside its interval's half width
        assert pair.detectable > (pair.high - pair.low) / 2
        assert json.loads(json.dumps(found.as_dict()))["pairs"][0]["detectable"] == pair.detectable


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a", "b", "fly"), ["only the first has c", "only the second fly"]), (("b", "a", "c"), ["order of the names"])],
)
def test_results_of_other_classes_say_which(names, said):
    label, logits = _drawn(60)
    with pytest.raises(InputError) as caught:
        compare({"first": _result(label, logits), "second": _result(label, logits, names=names)})
    for words in said:
        assert words in str(caught.value)


def test_results_of_other_data_say_which():
    label, logits = _drawn(60)
    other = _result(label, logits, sha="another")
    other = dataclasses.replace(other, data={**other.data, "name": "elsewhere"})
    with pytest.raises(InputError, match="60 examples of made, the second of 60 examples of elsewhere"):
        compare({"first": _result(label, logits), "second": other})
    with pytest.raises(InputError, match="regression"):
        compare({"first": _result(label, logits), "second": _result(label, logits[:, :1], names=())})
