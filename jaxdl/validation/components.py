"""Into what the variance of a score divides: the examples that were drawn, the seed, the hyperparameters."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.errors import InputError

LEVEL = 0.95
DRAWS = 10_000
DATA, SEED, PLANS, DATA_PLANS, SEED_PLANS, REST = (
    "data",
    "seed",
    "hyperparameters",
    "data × hyperparameters",
    "seed × hyperparameters",
    "seed and data × hyperparameters",
)


@dataclasses.dataclass(frozen=True)
class Component:
    """One source of variance.

    Attributes:
      name: ``data``, ``seed``, ``hyperparameters`` or one of their interactions.
      variance: its part of the variance of one training's score, at least 0.
      estimate: as the mean squares gave it: below 0 where chance made it so, then `variance` is 0.
      standard_error: of `estimate`.
      low, high: 95 % interval of the variance.
      share: of the sum of all variances, from 0 to 1.
    """

    name: str
    variance: float
    estimate: float
    standard_error: float
    low: float
    high: float
    share: float

    @property
    def negative(self) -> bool:
        """Whether the estimate was below 0, and is given as 0."""
        return self.estimate < 0

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def variance_components(scores: np.ndarray, seed: int = 0) -> list[Component]:
    """Variance components of a balanced layout, by equating mean squares to their expectations.

    The model is ``score = mean + H_c + D_d + (HD)_cd + S_ds + e_cds``, all random: plans are crossed with splits and
    seeds, and seeds are nested in splits, since what a seed draws (initial weights, order, dropout) differs from split
    to split. Standard errors are those of sums of independent mean squares, intervals generalised confidence intervals
    (Weerahandi 1993): each expected mean square is drawn as ``SS / χ²``, which supposes normal effects.

    Args:
      scores: ``[plans, splits, seeds]``.
      seed: of the draws for the intervals.

    Returns:
      A component for each source that the layout tells apart. Without seeds to repeat (one a split) what belongs to
      seeds and to the interaction is one component; with a single plan there are ``data`` and ``seed`` alone.

    Raises:
      InputError: for fewer than two splits, for one seed and one plan, or scores that are not finite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 3 or not np.isfinite(scores).all():
        raise InputError(f"scores are {scores.shape}, or not all finite; expected finite ones [plans, splits, seeds]")
    plans, splits, seeds = scores.shape
    if splits < 2 or plans * seeds < 2:
        raise InputError(
            f"there are {splits} splits, {seeds} seeds and {plans} plans; variances are told apart from 2 splits on, "
            "with 2 seeds or 2 plans"
        )
    squares = _squares(scores)
    means = {term: (total / freedom if freedom else 0.0) for term, (total, freedom) in squares.items()}
    random = np.random.default_rng((seed, 0xC0))
    drawn = {
        term: total / random.chisquare(freedom, DRAWS) if freedom else np.zeros(DRAWS)
        for term, (total, freedom) in squares.items()
    }
    found = []
    for name, combination in _expected(plans, splits, seeds).items():
        estimate = sum(factor * means[term] for term, factor in combination.items())
        error = np.sqrt(sum(2 * (f * means[t]) ** 2 / (squares[t][1] + 2) for t, f in combination.items()))
        many = np.maximum(sum(factor * drawn[term] for term, factor in combination.items()), 0)
        low, high = np.quantile(many, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.append((name, max(float(estimate), 0.0), float(estimate), float(error), float(low), float(high)))
    total = sum(variance for _, variance, *_ in found)
    return [Component(*one, share=one[1] / total if total else 0.0) for one in found]


def _squares(scores: np.ndarray) -> dict[str, tuple[float, int]]:
    """Sum of squares and degrees of freedom of each term."""
    plans, splits, seeds = scores.shape
    grand, by_plan, by_split = scores.mean(), scores.mean((1, 2)), scores.mean((0, 2))
    cell, by_seed = scores.mean(2), scores.mean(0)  # [plans, splits], [splits, seeds]
    both = cell - by_plan[:, None] - by_split + grand
    rest = scores - cell[..., None] - by_seed + by_split[:, None]
    return {
        PLANS: (splits * seeds * float(np.sum((by_plan - grand) ** 2)), plans - 1),
        DATA: (plans * seeds * float(np.sum((by_split - grand) ** 2)), splits - 1),
        DATA_PLANS: (seeds * float(np.sum(both**2)), (plans - 1) * (splits - 1)),
        SEED: (plans * float(np.sum((by_seed - by_split[:, None]) ** 2)), splits * (seeds - 1)),
        SEED_PLANS: (float(np.sum(rest**2)), (plans - 1) * splits * (seeds - 1)),
    }


def _expected(plans: int, splits: int, seeds: int) -> dict[str, dict[str, float]]:
    """Each component as a combination of mean squares: the expectations of these, solved for the variances."""
    if plans == 1:
        return {DATA: {DATA: 1 / seeds, SEED: -1 / seeds}, SEED: {SEED: 1.0}}
    if seeds == 1:
        return {
            DATA: {DATA: 1 / plans, DATA_PLANS: -1 / plans},
            PLANS: {PLANS: 1 / splits, DATA_PLANS: -1 / splits},
            REST: {DATA_PLANS: 1.0},
        }
    each = plans * seeds
    return {
        DATA: {DATA: 1 / each, SEED: -1 / each, DATA_PLANS: -1 / each, SEED_PLANS: 1 / each},
        SEED: {SEED: 1 / plans, SEED_PLANS: -1 / plans},
        PLANS: {PLANS: 1 / (splits * seeds), DATA_PLANS: -1 / (splits * seeds)},
        DATA_PLANS: {DATA_PLANS: 1 / seeds, SEED_PLANS: -1 / seeds},
        SEED_PLANS: {SEED_PLANS: 1.0},
    }


def standard_deviation(variances: Mapping[str, float], splits: int, seeds: int) -> float:
    """Of the mean score of one plan over `splits` splits with `seeds` seeds each, the plan itself being settled."""
    by_split = sum(variances.get(name, 0.0) for name in (DATA, DATA_PLANS))
    by_seed = sum(variances.get(name, 0.0) for name in (SEED, SEED_PLANS, REST))
    return float(np.sqrt(by_split / splits + by_seed / (splits * seeds)))


def repeats(variances: Mapping[str, float], splits: int, seeds: int) -> list[dict[str, Any]]:
    """How far the mean score of one plan would vary with more of this or that.

    Args:
      variances: by component.
      splits: of the layout.
      seeds: of the layout.

    Returns:
      Rows of ``splits, seeds, trainings, std``: one training; the layout; twice its splits; twice its seeds; and as
      many trainings as the layout has, each on a split of its own.
    """
    layouts = [(1, 1), (splits, seeds), (2 * splits, seeds), (splits, 2 * seeds), (splits * seeds, 1)]
    return [
        {"splits": d, "seeds": s, "trainings": d * s, "std": standard_deviation(variances, d, s)}
        for d, s in dict.fromkeys(layouts)
    ]
