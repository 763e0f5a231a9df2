"""CV+ beside MAPIE, and on real data with models of scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxdl.tasks.conformal import cumulative_probability
from jaxdl.validation.conformal.comparison import choose, guaranteed, interval_ends, p_values

LEVELS = [0.8, 0.9, 0.95]
FOLDS = KFold(5, shuffle=True, random_state=0)


def classifier():
    return make_pipeline(StandardScaler(), LogisticRegression())


def halves(load, seed):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    return x, y, order[: len(x) // 2], order[len(x) // 2 :]


def fold_models(model, x, y, train, at):
    """What the models of five folds say of their test parts, and of what comes after; and the fold of each row."""
    member, held, new = np.empty(len(train), int), [None] * len(train), []
    for k, (kept, tested) in enumerate(FOLDS.split(train)):
        fitted = model().fit(x[train[kept]], y[train[kept]])
        say = getattr(fitted, "predict_proba", fitted.predict)
        member[tested] = k
        for row, said in zip(tested, say(x[train[tested]]), strict=True):
            held[row] = said
        new.append(say(x[at]))
    return np.array(held), np.array(new), member


def test_intervals_are_those_of_mapie():
    mapie = pytest.importorskip("mapie.regression")
    x, y, train, new = halves(load_diabetes, 0)
    oracle = mapie.CrossConformalRegressor(LinearRegression(), confidence_level=LEVELS, cv=FOLDS, method="plus")
    oracle.fit_conformalize(x[train], y[train])
    expected = oracle.predict_interval(x[new])[1]
    held, said, member = fold_models(LinearRegression, x, y, train, new)
    for i, coverage in enumerate(LEVELS):
        found = interval_ends(said, np.abs(y[train] - held), member, np.arange(len(train)), coverage)
        np.testing.assert_allclose(np.transpose(found), expected[:, :, i], rtol=1e-6)


def test_sets_are_those_of_mapie():
    """MAPIE asks for α (n - 1) calibration examples that are as strange, the paper for α (n + 1) - 1.

    Both are asked for the same number here. (Its adaptive scores are random, so that they cannot be compared.)
    """
    mapie = pytest.importorskip("mapie.classification")
    x, y, train, new = halves(load_wine, 0)
    n = len(train)
    enough = np.floor((1 - np.array(LEVELS)) * (n + 1) + 1e-9)
    asked = (1 - (enough - 0.5) / (n - 1)).tolist()
    oracle = mapie.CrossConformalClassifier(classifier(), confidence_level=asked, cv=FOLDS, conformity_score="lac")
    oracle.fit_conformalize(x[train], y[train])
    expected = oracle.predict_set(x[new], agg_scores="crossval")[1]
    held, said, member = fold_models(classifier, x, y, train, new)
    p = p_values(1 - said, 1 - held[np.arange(n), y[train]], member, np.arange(n))
    for i, coverage in enumerate(LEVELS):
        np.testing.assert_array_equal(choose(p, coverage), expected[:, :, i])


@pytest.mark.slow
def test_coverage_of_what_was_held_out_of_real_data():
    """Ten random halves each; a half has 221 people or 89 wines, so that the mean is known to about 1 or 2 points."""
    found = {"diabetes": [], "wine": []}
    for seed in range(10):
        x, y, train, new = halves(load_diabetes, seed)
        held, said, member = fold_models(LinearRegression, x, y, train, new)
        low, high = interval_ends(said, np.abs(y[train] - held), member, np.arange(len(train)), 0.9)
        found["diabetes"].append(((low <= y[new]) & (y[new] <= high)).mean())
        x, y, train, new = halves(load_wine, seed)
        held, said, member = fold_models(classifier, x, y, train, new)
        scores = cumulative_probability(held)[np.arange(len(train)), y[train]]
        p = p_values(np.array(list(map(cumulative_probability, said))), scores, member, np.arange(len(train)))
        found["wine"].append(choose(p, 0.9)[np.arange(len(new)), y[new]].mean())
    assert abs(np.mean(found["diabetes"]) - 0.9) < 0.03
    assert np.mean(found["wine"]) > 0.9  # the most probable class, which is in every set, is right more often than that
    assert min(map(np.mean, found.values())) > guaranteed(0.9, 89, 5)
