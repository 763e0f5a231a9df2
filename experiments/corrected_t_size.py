"""How often the corrected t-test finds a difference between two models that are equally good.

    python experiments/corrected_t_size.py [--repetitions 20000]

Two models are right and wrong on the examples of K folds; they disagree on some, and each is as often the better one.
The accuracy of a fold moves in steps of one example: folds may all differ by the same amount, and a test that takes the
variance of the folds as it is then gives p = 0. The column "old" is that test; `compare` refuses 2 folds.
The models of the folds may differ, too: `fold_effect` is the standard deviation of a fold's true difference, the same
for all folds to the extent that they share training examples (correlation test ÷ all, as Nadeau & Bengio assume).
"""

import argparse

import numpy as np
from scipy.stats import chi2, t

from jaxdl.validation.statistics.pair_tests import LEAST_QUANTILE

FOLDS = (2, 3, 5, 10)
CASES = {  # examples in all, share on which the models disagree, fold_effect
    "n 60, 10 % disagree": (60, 0.1, 0.0),
    "n 60, 30 % disagree": (60, 0.3, 0.0),
    "n 200, 5 % disagree": (200, 0.05, 0.0),
    "n 200, 20 % disagree": (200, 0.2, 0.0),
    "n 1000, 10 % disagree": (1000, 0.1, 0.0),
    "n 60, 30 %, folds differ by 0.05": (60, 0.3, 0.05),
    "n 200, 20 %, folds differ by 0.03": (200, 0.2, 0.03),
}


def differences(rng: np.random.Generator, n: int, disagree: float, effect: float, k: int, draws: int) -> np.ndarray:
    """How much better the first model is in each fold, and the spread of single examples: ``[draws, k + 1]``."""
    size = n // k
    shared = np.sqrt(1 / k) * rng.normal(size=(draws, 1)) + np.sqrt(1 - 1 / k) * rng.normal(size=(draws, k))
    better = np.clip(disagree / 2 + effect / 2 * shared, 0, disagree)
    won = rng.binomial(size, better)
    lost = rng.binomial(size - won, np.clip((disagree - better) / (1 - better), 0, 1))
    mean = (won - lost).sum(1) / (size * k)
    spread = (won + lost).sum(1) / (size * k) - mean**2
    return np.concatenate([(won - lost) / size, spread[:, None] / (size * k - 1)], 1)


def p_values(found: np.ndarray, k: int, quantile: float | None) -> np.ndarray:
    """Of the test, with the variance of folds kept above a `quantile` of what test examples make it, or not (None)."""
    scores, spread = found[:, :-1], found[:, -1]
    mean, variance = scores.mean(1), scores.var(1, ddof=1)
    if quantile is not None:
        variance = np.maximum(variance, chi2.ppf(quantile, k - 1) / (k - 1) * k * spread)
    variance = np.where(variance > 1e-20, variance, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(mean) / np.sqrt((1 / k + 1 / (k - 1)) * variance)
    return 2 * t.sf(np.where(np.abs(mean) < 1e-12, 0.0, statistic), k - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20_000)
    draws, rng = parser.parse_args().repetitions, np.random.default_rng(0)
    print(f"share of p ≤ 0.05 (and of p < 1e-6) where there is no difference, {draws} repetitions")
    print(f"{'':36}" + "".join(f"{f'K {k}, old':>18}{f'K {k}, new':>18}" for k in FOLDS))
    for name, (n, disagree, effect) in CASES.items():
        cells = []
        for k in FOLDS:
            found = differences(rng, n, disagree, effect, k, draws)
            for quantile in (None, LEAST_QUANTILE):
                if k == 2 and quantile is not None:
                    cells.append("refused")
                    continue
                p = p_values(found, k, quantile)
                cells.append(f"{np.mean(p <= 0.05):.3f} ({np.mean(p < 1e-6):.4f})")
        print(f"{name:36}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
