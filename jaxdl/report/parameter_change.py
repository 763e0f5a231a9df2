"""How far each stage moved in training."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.models.adapters import merge
from jaxdl.models.variables import Variables


def stage_parameter_change(before: Variables, after: Variables, stages: Sequence[str]) -> dict[str, float | None]:
    """‖θ - θ₀‖ / ‖θ₀‖ of the parameters of each stage (Euclidean norms over all of them together).

    Running statistics are no parameters and do not count; an adapter counts as the change that it makes to its kernel.

    Args:
      before: variables that training started from.
      after: those it ended with.
      stages: names of the stages wanted.

    Returns:
      By stage: 0 for one that did not move, infinity for one that started at zero and moved; None for one that cannot
      be compared, because a side has no such parameters or they are of other shapes.
    """
    old, new = merge(before["params"]), merge(after["params"])
    return {name: _distance(old.get(name), new.get(name)) for name in stages}


def _distance(before: Any, after: Any) -> float | None:
    if not jax.tree.leaves(before) or jax.tree.structure(before) != jax.tree.structure(after):
        return None
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    if any(np.shape(old) != np.shape(new) for old, new in pairs):
        return None
    wide = [(np.asarray(old, np.float64), np.asarray(new, np.float64)) for old, new in pairs]
    moved = np.sqrt(sum(np.square(new - old).sum() for old, new in wide))
    size = np.sqrt(sum(np.square(old).sum() for old, _ in wide))
    if size == 0:
        return 0.0 if moved == 0 else float("inf")
    return float(moved / size)
