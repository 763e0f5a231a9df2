"""Correlations of predictions with targets, against SciPy's."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from jaxdl.tasks.metric import Ranks
from jaxdl.tasks.regression import Regression
from jaxdl.validation.statistics.sample import Sample

THEIRS = {"pearson": pearsonr, "spearman": spearmanr}


def _record(n=60, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    target = 1e4 + rng.normal(size=n)
    predicted = target + rng.normal(size=n)
    if ties:
        target, predicted = np.round(target), np.round(predicted)
    return Regression().record(predicted[:, None], target)


def _metric(name) -> Ranks:
    return Regression().metrics[name]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_correlations_are_scipys_also_of_rows_that_count_several_times(name, ties):
    record, metric = _record(ties=ties), _metric(name)
    assert metric.score(record) == pytest.approx(THEIRS[name](record["predicted"], record["target"])[0], abs=1e-12)
    counts = np.random.default_rng(1).integers(0, 4, (3, 60))
    wanted = [THEIRS[name](*(np.repeat(record[key], row) for key in ("predicted", "target")))[0] for row in counts]
    np.testing.assert_allclose(metric.scores(record, counts.astype(float)), wanted, atol=1e-12)


@pytest.mark.parametrize("name", THEIRS)
def test_predictions_that_are_alike_correlate_with_nothing_and_a_single_target_is_undefined(name):
    target = np.random.default_rng(0).normal(size=9)
    alike = Regression().record(np.full((9, 1), 0.1), target)
    assert _metric(name).score(alike) == 0
    assert np.isnan(_metric(name).score(Regression().record(target[:, None], np.full(9, 0.1))))


@pytest.mark.parametrize("name", THEIRS)
def test_folds_are_averaged_because_their_means_are_against_them(name):
    """The mean of the other folds is lower where the targets are higher: pooled it would be far below 0."""
    target, fold = np.random.default_rng(2).normal(size=60), np.arange(60) % 5
    guess = np.array([target[fold != one].mean() for one in range(5)])[fold]
    record = Regression().record(guess[:, None], target)
    assert THEIRS[name](guess, target)[0] < -0.1
    sizes = np.full(5, 12.0)
    sample = Sample(_metric(name), record, fold, np.arange(60), np.arange(60), 4 * sizes, sizes)
    assert sample.pooled_score == 0


@pytest.mark.parametrize("name", THEIRS)
def test_the_variance_is_that_of_other_examples(name):
    """Against the spread of the score over many samples of the same kind."""
    scores, variances = [], []
    for seed in range(150):
        record, rows = _record(40, seed), np.arange(40)
        sample = Sample(_metric(name), record, np.zeros(40, int), rows, rows, np.array([40.0]), np.array([40.0]))
        scores.append(sample.pooled_score)
        variances.append(sample.variance)
    assert np.mean(variances) == pytest.approx(np.var(scores), rel=0.25)
