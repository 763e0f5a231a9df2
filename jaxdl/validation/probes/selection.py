"""Which penalty to take, by scores of folds."""

from typing import Literal, get_args

import numpy as np

from jaxdl.errors import InputError

Rule = Literal["best", "one-se"]
RULES = get_args(Rule)


def select(scores: np.ndarray, rule: str) -> int:
    """The place in the grid to take.

    Args:
      scores: ``[grid, folds]``, larger is better; the grid begins with the simplest head (the strongest penalty).
      rule: ``best`` mean; or ``one-se``: the simplest whose mean is within one standard error, that of the best one, of
        the best mean (Breiman et al. 1984). Of equal ones the simplest.

    Raises:
      InputError: if no score is finite.
    """
    means = scores.mean(1)
    if not np.isfinite(means).any():
        raise InputError("no head of the grid gave finite scores; are there features that are not finite?")
    best = int(np.nanargmax(means))
    folds = scores.shape[1]
    if rule == "best" or folds == 1:
        return best
    error = scores[best].std(ddof=1) / np.sqrt(folds)
    return int(np.flatnonzero(means >= means[best] - error)[0])
