"""How an error falls with the number of training examples, and what twice as many would bring."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.errors import InputError

EXPONENTS = np.geomspace(0.05, 4.0, 30)  # the best one lies between the neighbours of the best of these
REFINEMENTS = 60  # of golden section: the interval shrinks to 3e-13 of its width
GOLDEN = (np.sqrt(5) - 1) / 2
EDGE = 1e-6  # an exponent that is so near to the ends of the grid is beyond them
LEAST_SIZES, LEAST_RANGE, LEAST_FOLDS = 4, 4.0, 3
DRAWS = 1000
LEVEL = 0.95
MISFIT = 0.01  # probability below which a distance from the curve is no chance


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """``error(n) = asymptote + scale · n^-exponent``, and what it predicts for twice the largest n.

    Attributes:
      asymptote: error that no number of examples would go below, at least 0. The data say little of it.
      scale: at least 0.
      exponent: how fast the error falls.
      doubled: number of training examples that is predicted for, twice the largest measured.
      error: predicted there.
      error_low, error_high: its 95 % interval.
      gain: by how much the error falls from the curve at the largest size to the one at twice as many.
      gain_low, gain_high: its 95 % interval, narrower than two of errors: most of their noise is shared.
    """

    asymptote: float
    scale: float
    exponent: float
    doubled: float
    error: float
    error_low: float
    error_high: float
    gain: float
    gain_low: float
    gain_high: float

    def __call__(self, n: np.ndarray) -> np.ndarray:
        """The error at `n` training examples."""
        return self.asymptote + self.scale * np.asarray(n, np.float64) ** -self.exponent

    def as_dict(self) -> dict[str, float]:
        return dataclasses.asdict(self)


def fit_power_law(
    sizes: np.ndarray, errors: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares with asymptote and scale of at least 0: a grid of exponents, then golden section.

    Args:
      sizes: ``[sizes]``, in units of the largest, so that the scale is the share of its error that falls.
      errors: ``[rows, sizes]``, a curve each.
      noise: standard deviations ``[sizes]`` of the errors.

    Returns:
      Asymptote, scale (for these units) and exponent, ``[rows]`` each. The exponent is within `EXPONENTS`.
    """
    w = noise**-2 / np.sum(noise**-2)

    def loss(logarithm: np.ndarray) -> np.ndarray:
        return _best_line(sizes ** -np.exp(logarithm)[:, None], errors, w)[2]

    grid = np.log(EXPONENTS)
    on_grid = _best_line(sizes ** -EXPONENTS[:, None, None], errors, w)[2]  # [exponents, rows]
    best = on_grid.argmin(0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(REFINEMENTS):
        step = (high - low) * GOLDEN
        left, right = high - step, low + step
        falls = loss(left) > loss(right)
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    exponent = np.exp((low + high) / 2)
    a, b, _ = _best_line(sizes ** -exponent[:, None], errors, w)
    return a, b, exponent


def _best_line(z: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of ``y ≈ a + b · z`` with a and b of at least 0, over the last axis: a, b and the weighted sum of squares.

    It is the sum over residuals, not a difference of large sums: that would be blind to small ones.
    """
    z, y = np.broadcast_arrays(z, y)
    z1, y1 = z @ w, y @ w
    from_mean = z - z1[..., None]
    b = ((y - y1[..., None]) * from_mean) @ w / (from_mean**2 @ w)
    free = np.stack([y1 - b * z1, b])
    candidates = np.stack(  # at most one of the two constraints binds at a time, or both
        [free, [np.zeros_like(b), np.maximum((y * z) @ w / (z**2 @ w), 0)], [np.maximum(y1, 0), np.zeros_like(b)]]
    )
    loss = (y - candidates[:, 0, ..., None] - candidates[:, 1, ..., None] * z) ** 2 @ w
    loss = np.where((candidates >= 0).all(1), loss, np.inf)
    chosen = loss.argmin(0)
    a, b = np.take_along_axis(candidates, chosen[None, None], 0)[0]
    return a, b, loss.min(0)


def extrapolate(
    sizes: Sequence[float], errors: np.ndarray, *, test_share: float, resolution: float, seed: int = 0
) -> tuple[PowerLaw | None, str]:
    """Fits the curve and predicts the error at twice the largest size, where that can be done soundly.

    The intervals come from a bootstrap that draws whole folds (a fold's test examples are the same at all sizes). Its
    standard deviation is widened as in the corrected resampled t-test (Nadeau and Bengio 2003): folds share training
    examples, so that their scores are not independent.

    Args:
      sizes: numbers of training examples, rising.
      errors: ``[folds, sizes]``: by how much each score misses its best value; see `learning_curve.distance_to_best`.
      test_share: number of test examples of a fold over that of its training examples.
      resolution: the smallest spread between folds that is believed, such as half an example's worth.
      seed: of the bootstrap.

    Returns:
      The law, or None; and why there is none, or in words how it was fitted.

    Raises:
      InputError: if the errors are not numbers.
    """
    x, errors = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    if errors.ndim != 2 or errors.shape[1] != len(x) or not np.isfinite(errors).all():
        raise InputError(f"errors are {errors.shape} for {len(x)} sizes, or not all finite; expected [folds, sizes]")
    if reason := _too_little(x, errors):
        return None, reason
    from scipy import stats

    folds, unit = len(errors), x / x[-1]
    widened = 1 + folds * test_share
    noise = _smooth_noise(x, errors, resolution)
    drop = errors[:, 0] - errors[:, -1]
    if drop.mean() <= stats.t.ppf(LEVEL, folds - 1) * np.sqrt(widened / folds) * max(drop.std(ddof=1), resolution):
        return None, "the error does not fall by more than its noise from the smallest to the largest size"
    (a,), (b,), (c,) = fit_power_law(unit, errors.mean(0)[None], noise)
    misfit = float(np.sum(((errors.mean(0) - a - b * unit**-c) / noise) ** 2))
    if stats.chi2.sf(misfit, len(x) - 3) < MISFIT:
        return None, "the scores lie farther from every power law than their noise explains"
    if not EXPONENTS[0] < c * (1 - EDGE) < c * (1 + EDGE) < EXPONENTS[-1]:
        slow = "as slowly as a logarithm" if c < 1 else "all at once"
        return None, f"the error falls {slow}: no exponent fits"
    drawn = np.random.default_rng((seed, 0xB007)).integers(folds, size=(DRAWS, folds))
    many_a, many_b, many_c = fit_power_law(unit, errors[drawn].mean(1), noise)
    reach = stats.t.ppf((1 + LEVEL) / 2, folds - 1) * np.sqrt(widened * folds / (folds - 1))
    error, gain = a + b * 2**-c, b * (1 - 2**-c)
    error_reach = reach * np.std(many_a + many_b * 2**-many_c)
    gain_reach = reach * np.std(many_b * (1 - 2**-many_c))
    law = PowerLaw(
        asymptote=float(a),
        scale=float(b * x[-1] ** c),
        exponent=float(c),
        doubled=float(2 * x[-1]),
        error=float(error),
        error_low=float(max(error - error_reach, 0)),
        error_high=float(error + error_reach),
        gain=float(gain),
        gain_low=float(max(gain - gain_reach, 0)),
        gain_high=float(gain + gain_reach),
    )
    return law, f"weighted least squares; {DRAWS} bootstrap draws of whole folds, widened as the corrected resampled t"


def _too_little(x: np.ndarray, errors: np.ndarray) -> str:
    """Why there is too little to fit a curve to; empty if there is enough."""
    if len(x) < LEAST_SIZES:
        return f"there are {len(x)} sizes; a curve of three parameters needs at least {LEAST_SIZES}"
    if x[-1] < LEAST_RANGE * x[0]:
        return f"the largest size is {x[-1] / x[0]:.2g} times the smallest; at least {LEAST_RANGE:g} times is needed"
    if len(errors) < LEAST_FOLDS:
        return f"there are {len(errors)} folds; the bootstrap needs at least {LEAST_FOLDS}"
    return ""


def _smooth_noise(x: np.ndarray, errors: np.ndarray, resolution: float) -> np.ndarray:
    """Standard error of the mean over folds at each size; a few folds tell each badly, so that a line joins them.

    The line is one of the logarithm of the variance in that of the size.
    """
    variance = np.maximum(errors.var(0, ddof=1), resolution**2)
    slope, height = np.polyfit(np.log(x), np.log(variance), 1)
    return np.sqrt(np.exp(slope * np.log(x) + height) / len(errors))


def describe_law(law: PowerLaw) -> dict[str, Any]:
    """The formula and the numbers that a reader wants."""
    return {"formula": f"{law.asymptote:.3g} + {law.scale:.3g} · n^-{law.exponent:.2g}", **law.as_dict()}
