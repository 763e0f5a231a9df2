"""Which configuration to take, given how each did on the inner folds."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from jaxdl.errors import InputError
from jaxdl.validation.search.configurations import Configuration

Selection = Literal["best", "one-se"]
Criterion = Literal["auto", "metric", "loss"]
SELECTIONS, CRITERIA = get_args(Selection), get_args(Criterion)


@dataclasses.dataclass(frozen=True, eq=False)
class Standing:
    """How the configurations did on the parts of one division.

    Attributes:
      numbers: of the configurations.
      values: what is chosen by, larger is better; ``float[configurations, parts]``, NaN where training diverged.
      losses: mean loss of each, by which ties are broken.
    """

    numbers: Sequence[int]
    values: np.ndarray
    losses: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """``float[configurations]``; minus infinity where a part diverged."""
        means = self.values.mean(1)
        return np.where(np.isfinite(means), means, -np.inf)

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the means over parts, as if these were independent; 0 for a single part."""
        parts = self.values.shape[1]
        return self.values.std(1, ddof=1) / np.sqrt(parts) if parts > 1 else np.zeros(len(self.values))

    @property
    def order(self) -> np.ndarray:
        """Places from the best mean to the worst; of equal ones the smaller loss, then the earlier one, is first."""
        losses = np.where(np.isfinite(self.losses), self.losses, np.inf)
        return np.lexsort((np.arange(len(self.numbers)), losses, -self.means))


def simplicity(one: Configuration) -> tuple[float, ...]:
    """What makes a configuration simpler than another: smaller is simpler, the first entry that differs decides.

    Fewer trained parameters (more frozen stages), fewer parameters, fewer epochs, stronger weight decay, more dropout,
    more label smoothing, a lower learning rate (that of the fastest stage).
    """
    plan = one.plan
    return (
        one.trained,
        one.parameters,
        plan.epochs,
        -plan.weight_decay,
        -getattr(one.model, "dropout", 0.0),
        -plan.label_smoothing,
        plan.learning_rate * max([1.0, *plan.stage_lr.values()]),
        one.number,
    )


def select(standing: Standing, configurations: Sequence[Configuration], rule: str) -> int:
    """The number of the configuration to take.

    Args:
      standing: of one division.
      configurations: all of them, by number.
      rule: ``best``: the best mean; ``one-se``: the simplest whose mean is within one standard error, that of the best
        one, of the best mean (Breiman et al. 1984; Hastie, Tibshirani & Friedman 2009, 7.10). See `simplicity`.

    Raises:
      InputError: if no configuration could be trained on all parts.
    """
    best, means = standing.order[0], standing.means
    if not np.isfinite(means[best]):
        raise InputError(
            "the numbers of every configuration stopped being finite; give lower learning rates, or clip_norm"
        )
    if rule == "best":
        return standing.numbers[best]
    within = np.flatnonzero(means >= means[best] - standing.errors[best])
    return min((standing.numbers[place] for place in within), key=lambda n: simplicity(configurations[n]))


def halving_rungs(count: int, epochs: int, eta: int) -> list[tuple[int, int]]:
    """Rungs of successive halving (Jamieson & Talwalkar 2016): epochs to train for, and how many to go on with.

    Each rung trains about 1/eta of the configurations of the one before for eta times as many epochs; the last trains
    what is left for all of them.

    Args:
      count: configurations at the start.
      epochs: of the plan.
      eta: at least 2.
    """
    if not isinstance(eta, int) or eta < 2:
        raise InputError(f"eta is {eta!r}; expected a whole number of at least 2")
    rungs, left, after = 1, count, epochs
    while left > 1 and after >= eta:
        left, after, rungs = -(-left // eta), after // eta, rungs + 1
    made, left = [], count
    for rung in range(rungs):
        left = -(-left // eta)
        made.append((max(1, round(epochs / eta ** (rungs - 1 - rung))), left))
    return made
