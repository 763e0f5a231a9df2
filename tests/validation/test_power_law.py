"""The curve that errors follow, and how well it predicts."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from jaxdl.errors import InputError
from jaxdl.validation.learning_curve import distance_to_best
from jaxdl.validation.power_law import extrapolate, fit_power_law

SIZES = np.array([25, 50, 100, 200, 400.0])


def simulate(random, law, folds=5, tests=100):
    """Errors ``[folds, sizes]`` of the same test examples at all sizes, with noise of each training part."""
    asymptote, scale, exponent = law
    p = asymptote + scale * SIZES**-exponent
    p = np.clip(p + random.normal(size=(folds, len(SIZES))) * 0.1 / np.sqrt(SIZES), 0, 1)
    return (random.random((folds, tests, 1)) < p[:, None]).mean(1)


@pytest.mark.parametrize("asymptote", [0.0, 0.02, 0.3])
@pytest.mark.parametrize(
    "exponent",
    [0.06, 0.25, 0.5, 1.0, 2.5, 3.9, *(pytest.param(e, marks=pytest.mark.slow) for e in (0.1, 1 / 3, 0.777, 1.6))],
)
def test_exact_laws_are_found_and_predicted(asymptote, exponent):
    """However small the noise is that is believed; with the error of the smallest size at 0.4 above the asymptote."""
    scale = 0.4 * SIZES[0] ** exponent
    law = np.array([asymptote, scale, exponent])
    errors = np.tile(_law(SIZES, *law), (5, 1))
    for resolution in (1e-3, 1e-9):
        found, why = extrapolate(SIZES, errors, test_share=0.25, resolution=resolution)
        assert found is not None, why
        assert found.error == pytest.approx(_law(800, *law), rel=1e-6)
        assert found.gain == pytest.approx(_law(400, *law) - _law(800, *law), rel=1e-5)
        assert found.exponent == pytest.approx(exponent, rel=1e-4)


def test_the_fit_is_the_weighted_least_squares_of_scipy():
    random, noise = np.random.default_rng(1), 0.03 / np.sqrt(SIZES / 25)
    for _ in range(5):
        errors = 0.08 + 2 * SIZES**-0.6 + noise * random.normal(size=5)
        a, b, c = fit_power_law(SIZES / 400, errors[None], noise)
        bounds = ([0, 0, 0.05], [1, 10, 4])
        found, _ = curve_fit(_law, SIZES / 400, errors, (0.05, 0.05, 0.6), noise, bounds=bounds)
        ours, best = (
            np.sum(((_law(SIZES / 400, *values) - errors) / noise) ** 2) for values in ((a[0], b[0], c[0]), found)
        )
        assert ours <= best * (1 + 1e-9)
        np.testing.assert_allclose(_law(2.0, a[0], b[0], c[0]), _law(2.0, *found), rtol=1e-3)


def _law(n, asymptote, scale, exponent):
    return asymptote + scale * n**-exponent


@pytest.mark.slow
def test_predictions_cover_the_truth():
    """Out of 80 simulated curves each; a 95 % interval misses 11 or more with a probability below 0.3 %."""
    for law in ((0.05, 2.0, 0.5), (0.02, 1.0, 0.3)):
        asymptote, scale, exponent = law
        truth = asymptote + scale * 800**-exponent
        gain = asymptote + scale * 400**-exponent - truth
        found = [
            extrapolate(SIZES, simulate(np.random.default_rng(i), law), test_share=0.25, resolution=0.005)[0]
            for i in range(80)
        ]
        found = [one for one in found if one is not None]
        assert len(found) > 60
        misses = sum(not one.error_low <= truth <= one.error_high for one in found)
        assert misses <= 10
        assert sum(not one.gain_low <= gain <= one.gain_high for one in found) <= 10
        assert np.median([one.error_high - one.error_low for one in found]) < 0.4  # and says something


def test_errors_are_distances_to_the_best_score():
    """The law is the same for a score that rises to 1 and for a loss that falls to 0."""
    errors = _law(SIZES, 0.1, 2, 0.5)
    np.testing.assert_allclose(distance_to_best(1 - errors), errors)
    np.testing.assert_allclose(distance_to_best(errors, best=0), errors)


def test_what_is_not_sound_is_not_predicted():
    good = 0.05 + 2 * SIZES**-0.5 + 0.01 * np.random.default_rng(0).normal(size=(5, 5))
    options = {"test_share": 0.25, "resolution": 0.005}
    assert extrapolate(SIZES, good, **options)[0].doubled == 800
    up = 0.1 + 0.3 * np.array([1, 0.2, 0.9, 0.2, 0.1]) + 0.01 * np.random.default_rng(0).normal(size=(5, 5))
    for sizes, errors, said in (
        (SIZES[:3], good[:, :3], "3 sizes"),
        (np.array([100, 110, 120, 130, 140.0]), good, "1.4 times the smallest"),
        (SIZES, good[:2], "2 folds"),
        (SIZES, good[:, ::-1], "does not fall"),
        (SIZES, np.full((5, 5), 0.1), "does not fall"),
        (SIZES, up, "farther from every power law"),
        (SIZES, 0.5 - 0.015 * np.log(SIZES / 25) + 0 * good, "as slowly as a logarithm"),
    ):
        law, why = extrapolate(sizes, errors, **options)
        assert law is None
        assert said in why
    with pytest.raises(InputError, match="finite"):
        extrapolate(SIZES, good * np.nan, **options)
