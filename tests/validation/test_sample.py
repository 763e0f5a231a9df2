"""Scores, deviations and draws of every kind of metric, against loops and scipy; memory stays bounded."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn import model_selection as splitters
from test_statistics import _drawn, _result

from jaxdl.data.source import Arrays
from jaxdl.errors import InputError
from jaxdl.tasks.classification import Classification
from jaxdl.tasks.metric import NoInterval, Ranks
from jaxdl.tasks.ranking import verification_accuracy, verification_auc
from jaxdl.tasks.regression import Regression
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.statistics.sample import Sample, drawn_counts, scores_of_draws
from jaxdl.validation.time_splits import CombinatorialPurgedKFold, PurgedKFold

METRICS = [*Classification.METRICS.values(), *Regression.METRICS.values()]


def _sample(metric, n=60, folds=3, groups=None, seed=0):
    rng = np.random.default_rng(seed)
    if metric.name in Regression.METRICS:
        target = rng.normal(size=n)
        record = {"target": target, "predicted": target + rng.normal(size=n)}
    elif "embedding" in metric.reads:
        identity = np.arange(n) % 12
        record = {"identity": identity, "embedding": np.eye(12)[identity] + rng.normal(size=(n, 12))}
    else:
        label, logits = _drawn(n, seed=seed)
        record = Classification().record(logits, label)
    fold = np.arange(n) % folds
    test = np.bincount(fold)
    unit = np.arange(n) if groups is None else np.arange(n) % groups
    return Sample(metric, record, fold, unit, np.arange(n), n - test, test)


def _rows(sample, rows):
    return {key: values[rows] for key, values in sample.record.items()}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_folds_are_scored_one_by_one_and_pooled_or_averaged(metric):
    sample = _sample(metric)
    by_fold = [metric.score(_rows(sample, sample.fold == fold)) for fold in range(3)]
    np.testing.assert_allclose(sample.fold_scores, by_fold)
    wanted = np.mean(by_fold) if metric.averaged else metric.score(sample.record)
    assert sample.pooled_score == pytest.approx(wanted)


@pytest.mark.parametrize("groups", [None, 20])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_deviations_agree_with_the_jackknife_and_the_bootstrap(metric, groups):
    sample = _sample(metric, n=240, groups=groups)
    if isinstance(metric, NoInterval):
        with pytest.raises(InputError, match=metric.name):
            _ = sample.deviations
        return
    if not (isinstance(metric, Ranks) and metric.influence is None):  # whose units are left out in blocks
        assert sample.deviations.sum() == pytest.approx(0, abs=1e-8)
    error = np.sqrt(sample.variance)
    jackknife = dataclasses.replace(sample)._left_out()
    assert error == pytest.approx(np.sqrt(np.square(sample.by_unit(jackknife)).sum()), rel=0.12)
    assert error == pytest.approx(sample.drawn_scores(1500, 0).std(ddof=1), rel=0.2)


def _delong_by_loop(scores, positive):
    """Variance of the AUC by the placements of every row (DeLong et al. 1988)."""
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in scores[~positive]] for a in scores[positive]])
    return wins.mean(), wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / wins.shape[1]


def test_the_variance_of_an_auc_is_delongs():
    rng = np.random.default_rng(1)
    label = np.arange(50) % 2
    scores = np.round(label + rng.normal(size=50), 1)  # some are equal
    record = Classification().record(np.stack([0 * scores, scores], 1), label)
    fold = np.arange(50) // 2 % 2
    sample = Sample(Classification.METRICS["auc"], record, fold, *[np.arange(50)] * 2, *[np.array([25, 25])] * 2)
    found = [_delong_by_loop(scores[fold == one], label[fold == one] == 1) for one in range(2)]
    assert sample.pooled_score == pytest.approx(np.mean([auc for auc, _ in found]))
    assert sample.variance == pytest.approx(sum(variance for _, variance in found) / 4)


@pytest.mark.parametrize("metric", [verification_auc(), verification_accuracy()], ids=lambda metric: metric.name)
def test_pairs_leave_identities_out(metric):
    sample = _sample(metric, n=72)
    assert sample.units == 12
    if metric.choose is None:
        kept = [sample.record["identity"] != one for one in range(12)]
        scores = np.array(
            [np.mean([metric.score(_rows(sample, rows & (sample.fold == fold))) for fold in range(3)]) for rows in kept]
        )
        assert sample.variance == pytest.approx(11 / 12 * np.square(scores - scores.mean()).sum())
    assert 0 < sample.variance < 0.1
    assert sample.drawn_scores(200, 0).std() == pytest.approx(np.sqrt(sample.variance), rel=0.5)


def test_a_threshold_is_chosen_without_the_tested_fold():
    sample = _sample(verification_accuracy())
    spoiled = dict(sample.record, embedding=sample.record["embedding"].copy())
    spoiled["embedding"][sample.fold == 1] = 1.0  # all alike
    other = dataclasses.replace(sample, record=spoiled)
    assert sample.parts[1][0].threshold == other.parts[1][0].threshold
    assert sample.parts[0][0].threshold != other.parts[0][0].threshold
    alone = dataclasses.replace(sample, fold=np.zeros(60, int), test=np.array([60]), train=np.array([60]))
    assert np.isnan(alone.pooled_score)


def test_many_units_are_left_out_in_blocks():
    rank = Classification.METRICS["auc"]
    closed = _sample(rank, n=900)
    without = dataclasses.replace(closed, metric=dataclasses.replace(rank, influence=None))
    assert without.variance == pytest.approx(closed.variance, rel=0.25)
    assert len(np.unique(np.round(without.deviations, 12))) <= 200


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_draws_in_chunks_are_those_of_all_at_once(metric, monkeypatch):
    sample = _sample(metric, groups=15)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(15, np.full(15, 1 / 15), size=40)[:, sample.place]
    wanted = []
    for weights in counts:
        rows = np.repeat(np.arange(60), weights)  # drawn rows, written out
        folds = [metric.score(_rows(sample, rows[sample.fold[rows] == fold])) for fold in range(3)]
        wanted.append(np.nanmean(folds) if metric.averaged else metric.score(_rows(sample, rows)))
    monkeypatch.setattr("jaxdl.validation.statistics.sample.ENTRIES", 200)
    assert len(list(drawn_counts(15, 40, 3, sample.width))) > 1
    np.testing.assert_allclose(sample.drawn_scores(40, 3), wanted)


@pytest.mark.slow
def test_memory_of_many_rows_stays_bounded():
    rng = np.random.default_rng(0)
    n = 50_000
    label = rng.integers(10, size=n)
    record = Classification().record(rng.normal(size=(n, 10)) + np.eye(10)[label], label)
    fold = np.arange(n) % 5
    sizes = np.full(5, n // 5)
    for name, draws in (("accuracy", 200), ("macro_f1", 200), ("auc", 5)):
        metric = Classification.METRICS[name]
        tracemalloc.start()
        sample = Sample(metric, record, fold, np.arange(n), np.arange(n), n - sizes, sizes)
        drawn, error = sample.drawn_scores(draws, 0), np.sqrt(sample.variance)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 300e6, name
        assert len(drawn) == draws
        if not isinstance(metric, Ranks):
            assert drawn.std() == pytest.approx(error, rel=0.2)


def test_the_same_units_are_drawn_for_several_results():
    label, logits = _drawn(60)
    samples = [_result(label, logits + noise).sample() for noise in (0.0, np.eye(3)[label])]
    both = scores_of_draws(samples, 50, 7)
    np.testing.assert_array_equal(both, [sample.drawn_scores(50, 7) for sample in samples])


def _fn(targets, predictions):
    return sk.matthews_corrcoef(targets, predictions)


@pytest.mark.parametrize(
    "metric", ["macro_f1", "auc", "brier", pytest.param("matthews_corrcoef", marks=pytest.mark.slow), _fn]
)
@pytest.mark.parametrize("method", ["out-of-fold", "bootstrap", "corrected-t", "wider"])
def test_every_metric_has_its_intervals(metric, method, monkeypatch):
    monkeypatch.setattr("jaxdl.validation.statistics.intervals.DRAWS", 100)  # scikit-learn takes its time
    result = _result(*_drawn(90))
    found = interval(result, method, metric=metric)
    assert found.low < found.estimate < found.high
    assert found.about.startswith("_fn" if metric is _fn else metric)
    assert interval(result, metric="expected_calibration_error") is None
    with pytest.raises(InputError, match="macro_f1"):
        interval(result, metric="macro_f2")


def _source(n=60, times=None):
    return Arrays(np.zeros((n, 2), np.float32), np.arange(n) % 2, ("a", "b"), times=times)


def test_folds_go_by_time_whatever_made_them():
    times = np.random.default_rng(0).permutation(60)
    timed, plain = _source(times=times), _source()
    named = split_source(timed, "purged", 3, 0)
    parts = [np.flatnonzero((times >= 20 * k) & (times < 20 * (k + 1))) for k in range(3)]
    number = np.zeros(60, int)
    for k, part in enumerate(parts):
        number[part] = k
    for source, splitter, wanted in (
        (timed, "purged", True),
        (timed, "time-series", True),
        (timed, PurgedKFold(3, times=times), True),
        (timed, CombinatorialPurgedKFold(4, 2, times=times), True),
        (timed, splitters.TimeSeriesSplit(3), True),
        (plain, splitters.TimeSeriesSplit(3), True),
        (timed, splitters.PredefinedSplit(number), True),  # blocks of time by another name
        (timed, Split("own", None, named.train, named.test, examples=60), True),
        (timed, "stratified", False),
        (plain, splitters.KFold(3), False),
        (timed, splitters.LeaveOneOut(), False),
    ):
        split = split_source(source, splitter, 3, 0)
        assert split.as_dict()["timed"] == wanted, splitter
        result = dataclasses.replace(_result(*_drawn(60)), split=split.as_dict())
        assert result.sample().timed == wanted
        assert interval(result).method == ("wider" if wanted else "out-of-fold")


def test_rows_know_their_fold_whatever_its_number():
    result = _result(*_drawn(60))
    moved = dataclasses.replace(result, folds=result.folds[::-1])
    np.testing.assert_allclose(moved.sample().fold_scores, [row["accuracy"] for row in moved.folds])
