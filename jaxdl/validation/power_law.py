"""How an error falls with the number of training examples, and what twice as many would bring."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.errors import InputError

EXPONENTS = np.geomspace(0.05, 4.0, 300)  # neighbours differ by 1.5 %, far less than any data tells them apart
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
    """Weighted least squares with asymptote and scale of at least 0; exact for each exponent of `EXPONENTS`.

    Args:
      sizes: ``[sizes]``, in units of the largest, so that the scale is the share of its error that falls.
      errors: ``[rows, sizes]``, a curve each.
      noise: standard deviations ``[sizes]`` of the errors.

    Returns:
      Asymptote, scale (for these units) and exponent, ``[rows]`` each.
    """
    z = sizes[None] ** -EXPONENTS[:, None]  # [exponents, sizes]
    w = noise**-2 / np.sum(noise**-2)
    y1, yy = errors @ w, (errors**2) @ w  # [rows]
    z1, zz, yz = z @ w, (z**2) @ w, (errors * w) @ z.T  # [exponents], [exponents], [rows, exponents]
    with np.errstate(all="ignore"):
        free_b = (yz - z1 * y1[:, None]) / (zz - z1**2)
        free_a = y1[:, None] - free_b * z1
    candidates = [  # at most one of the two constraints binds at a time, or both
        (free_a, free_b),
        (np.zeros_like(yz), np.maximum(yz / zz, 0)),
        (np.maximum(np.broadcast_to(y1[:, None], yz.shape), 0), np.zeros_like(yz)),
    ]
    a, b = (np.stack(values) for values in zip(*candidates, strict=True))
    loss = yy[:, None] - 2 * a * y1[:, None] - 2 * b * yz + a**2 + 2 * a * b * z1 + b**2 * zz
    loss = np.where((a >= 0) & (b >= 0) & np.isfinite(loss), loss, np.inf)
    form, exponent = np.unravel_index(loss.swapaxes(0, 1).reshape(len(errors), -1).argmin(-1), loss.shape[::2])
    row = np.arange(len(errors))
    return a[form, row, exponent], b[form, row, exponent], EXPONENTS[exponent]


def extrapolate(
    sizes: Sequence[float], errors: np.ndarray, *, test_share: float, resolution: float, seed: int = 0
) -> tuple[PowerLaw | None, str]:
    """Fits the curve and predicts the error at twice the largest size, where that can be done soundly.

    The intervals come from a bootstrap that draws whole folds (a fold's test examples are the same at all sizes). Its
    standard deviation is widened as in the corrected resampled t-test (Nadeau and Bengio 2003): folds share training
    examples, so that their scores are not independent.

    Args:
      sizes: numbers of training examples, rising.
      errors: ``[folds, sizes]``: 1 - accuracy, or 1 - R².
      test_share: number of test examples of a fold over that of its training examples.
      resolution: the smallest spread between folds that is believed, such as half an example's worth.
      seed: of the bootstrap.

    Returns:
      The law, or None; and why there is none, or in words how it was had.

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
    if c in EXPONENTS[[0, -1]]:
        slow = "as slowly as a logarithm" if c == EXPONENTS[0] else "all at once"
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
