"""CV+ and jackknife+ in numpy: new examples compared with the held-out scores of the folds.

The members of an ensemble are the networks of K folds. Fold k tested the calibration examples of its test part: each
of them has a score, how strange the truth was to a network that had not seen it. A new example is shown to all members;
what member k says is compared with the scores of fold k alone, which are of this very network. That is what makes CV+
(Barber, Candès, Ramdas & Tibshirani 2021, Annals of Statistics 49(1):486-507, arXiv:1905.02928) valid: a quantile of
all scores together, applied to the mean prediction, has no such guarantee. With a fold for each example it is the
jackknife+.

What is guaranteed: if the calibration examples and a new one are exchangeable (such as drawn independently from one
population), and the folds are of equal size and made without looking at the labels, the truth is in the set or
interval with at least the probability that `guaranteed` gives: 1 - 2α less a small term, where α is 1 - coverage.
Typically it is about 1 - α. This is an average over examples, and over data sets: not for each kind of example.

Units: where examples come in groups (patients, sites), whole groups are exchangeable and examples are not. Each unit
has the weight 1, which its rows share. The comparison of two units is then the mean of comparisons between their rows,
and the proof goes through: the same numbers are guaranteed for a random example of a new unit (Lee, Barber & Willett
2023, arXiv:2306.06342). The same weights serve an example that several folds tested.
"""

import math

import numpy as np

from jaxdl.errors import InputError

ROUNDING = 1e-9  # what weights that add up to a whole number, and 1 - coverage, are off by at most
HALVINGS = 52  # of the range in which the end of an interval lies


def unit_weights(unit: np.ndarray) -> tuple[np.ndarray, int]:
    """The weight of each row, ``float64[rows]``: 1 for each unit, shared by its rows; and the number of units."""
    _, place, rows = np.unique(unit, return_inverse=True, return_counts=True)
    return 1 / rows[place], len(rows)


def p_values(candidates: np.ndarray, scores: np.ndarray, member: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """How many of the calibration examples were at least as strange as each candidate would be (CV+).

    A set of the candidates whose value is above α is the one of Romano, Sesia & Candès 2020 (arXiv:2006.02544,
    equation 12). See the file's beginning for what it guarantees. By themselves they are no p-values in the strict
    sense: below α with a probability of at most 2α, and not α.

    Args:
      candidates: how strange each candidate would be to each member, ``float64[members, n, candidates]``.
      scores: how strange the truth of each calibration row was to the member that tested it, ``float64[rows]``.
      member: number of that member, ``int[rows]``.
      unit: what is independent, of each row: number of the example or its group, ``int[rows]``.

    Returns:
      ``float64[n, candidates]``: (1 + Σ weight · [score ≥ candidate]) / (units + 1).
    """
    weight, units = unit_weights(unit)
    total = np.zeros(candidates.shape[1:])
    for k in np.unique(member):
        mine = np.flatnonzero(member == k)
        mine = mine[np.argsort(scores[mine], kind="stable")]
        at_least = np.append(np.cumsum(weight[mine][::-1])[::-1], 0.0)
        total += at_least[np.searchsorted(scores[mine], candidates[k], side="left")]
    return (1 + total) / (units + 1)


def p_values_by_class(
    candidates: np.ndarray, scores: np.ndarray, member: np.ndarray, unit: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """As `p_values`, each class compared with calibration examples of this class alone (Mondrian; class-conditional).

    What is guaranteed then holds for the examples of each class, with the number of its units in place of all.

    Args:
      candidates: see `p_values`; candidate c is class c.
      scores: see `p_values`, as `member` and `unit`.
      label: class of each calibration row, ``int[rows]``.
    """
    made = np.empty(candidates.shape[1:])
    for c in range(candidates.shape[2]):
        of_class = label == c
        rows = scores[of_class], member[of_class], unit[of_class]
        made[:, c : c + 1] = p_values(candidates[:, :, c : c + 1], *rows)
    return made


def choose(p: np.ndarray, coverage: float) -> np.ndarray:
    """Which candidates are in the sets, ``bool[n, candidates]``, of `p_values`."""
    return p > 1 - coverage + ROUNDING


def interval_ends(
    centres: np.ndarray, residuals: np.ndarray, member: np.ndarray, unit: np.ndarray, coverage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the CV+ intervals (jackknife+ where each fold tested one example).

    The upper end is the ⌈(1 - α)(n + 1)⌉-th smallest of centre + residual over the n calibration examples, the centre
    being what the member says of the new example that tested the calibration example; the lower end likewise of centre
    - residual, from above. See the file's beginning for what it guarantees.

    Args:
      centres: what each member predicts of each new example, ``float64[members, n]``.
      residuals: \\|truth - prediction\\| of each calibration row by the member that tested it, ``float64[rows]``.
      member: number of that member, ``int[rows]``.
      unit: see `p_values`.
      coverage: 1 - α; see `check_enough`.

    Returns:
      ``float64[n]`` twice, the low ends and the high ones.
    """
    return -_upper(-centres, residuals, member, unit, coverage), _upper(centres, residuals, member, unit, coverage)


def _upper(
    centres: np.ndarray, residuals: np.ndarray, member: np.ndarray, unit: np.ndarray, coverage: float
) -> np.ndarray:
    """The smallest number below or at which enough of centre + residual lie, by halving the range of it."""
    weight, units = unit_weights(unit)
    need = coverage * (units + 1) - ROUNDING * (units + 1)
    folds = []
    for k in np.unique(member):
        mine = np.flatnonzero(member == k)
        mine = mine[np.argsort(residuals[mine], kind="stable")]
        folds.append((centres[k], residuals[mine], np.append(0.0, np.cumsum(weight[mine]))))

    def below(end: np.ndarray) -> np.ndarray:
        return sum(upto[np.searchsorted(mine, end - centre, side="right")] for centre, mine, upto in folds)

    low = np.min([centre + mine[0] for centre, mine, _ in folds], 0)
    high = np.max([centre + mine[-1] for centre, mine, _ in folds], 0)
    low, high = low - 1e-12 * np.abs(low), high + 1e-12 * np.abs(high)  # whatever rounding does, all lie between
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        enough = below(middle) >= need
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def guaranteed(coverage: float, units: int, folds: int) -> float:
    """The probability with which CV+ holds the truth whatever the network and the data, at least.

    1 - 2α - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)), theorem 4 of Barber et al. 2021; 1 - 2α for K = n. It
    is for n exchangeable units in K folds of equal size.
    """
    lost = min(2 * (1 - 1 / folds) / (units / folds + 1), (1 - folds / units) / (folds + 1))
    return max(0.0, 1 - 2 * (1 - coverage) - max(0.0, lost))


def check_coverage(coverage: float) -> None:
    """Raises InputError unless it is a number between 0 and 1."""
    if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise InputError(
            f"coverage is {coverage!r:.50}; expected a number above 0 and below 1, such as 0.9 for sets that hold the "
            "truth nine times out of ten"
        )


def check_enough(units: int, coverage: float, what: str, more: str = "") -> None:
    """Raises InputError where sets would hold everything: below 1/α - 1 calibration units.

    Args:
      units: how many there are.
      coverage: that was asked for.
      what: they are, in words.
      more: what else can be done, a clause that begins with "or".
    """
    needed = math.ceil(1 / (1 - coverage) - 1 - ROUNDING)
    if units >= needed:
        return
    most = math.floor(1e4 * units / (units + 1)) / 1e4
    lower = f"ask for a coverage of at most {most:g}" if most else "give more examples"
    raise InputError(
        f"a coverage of {coverage:g} needs at least {needed} {what}, but there {'is' if units == 1 else 'are'} {units}",
        f"every set would hold everything: {lower}{f', {more}' if more else ''}",
    )
