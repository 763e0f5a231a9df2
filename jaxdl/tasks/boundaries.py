"""How well the boundaries of segments are met: Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?" (BMVC 2013)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.masks import VOID

SHARE_OF_DIAGONAL = 0.0075  # within which a boundary counts as met


def tolerance(height: int, width: int) -> int:
    """Pixels within which a boundary counts as met: 0.75 % of the diagonal, at least 1."""
    return max(1, round(SHARE_OF_DIAGONAL * math.hypot(height, width)))


def boundary_counts(said: Any, targets: Any, classes: int) -> Any:
    """Pixels on the boundaries of each class, and those of them that the other side meets.

    A pixel is on the boundary of its class if one of its four neighbours is of another one; where a pixel or its
    neighbour is void in the targets, there is no boundary in either map.

    Args:
      said: predicted classes, ``uint8[n, height, width]``, numpy or jax.
      targets: the true ones, `VOID` where they are not known.
      classes: how many there are.

    Returns:
      ``int32[n, 4, classes]``: predicted boundary pixels that are met, all predicted, true ones that are met, all true.
    """
    within = tolerance(*targets.shape[1:])
    if isinstance(said, np.ndarray):
        made = [_counted(*pair, classes, within) for pair in zip(said, targets, strict=True)]
        return np.stack(made) if made else np.zeros((0, 4, classes), np.int32)
    numbers = jnp.arange(classes, dtype=jnp.uint8)

    def counts(said: Any, targets: Any) -> Any:
        known = targets != VOID
        theirs, ours = ((_on_boundary(one, known)[..., None] & (one[..., None] == numbers)) for one in (said, targets))
        found, met = theirs & _widened(ours, within), ours & _widened(theirs, within)
        return jnp.stack([part.sum((0, 1), dtype=jnp.int32) for part in (found, theirs, met, ours)])

    return jax.vmap(counts)(said, targets)


def _counted(said: np.ndarray, targets: np.ndarray, classes: int, within: int) -> np.ndarray:
    """Of one image, by the nearest neighbours of its few boundary pixels."""
    from scipy.spatial import KDTree

    known, made = targets != VOID, np.zeros((4, classes), np.int32)
    theirs, ours = (np.where(_on_boundary(one, known, np), one, VOID) for one in (said, targets))
    for place in np.unique([theirs, ours]):
        if place == VOID or place >= classes:
            continue
        points = [np.argwhere(one == place) for one in (theirs, ours)]
        made[1, place], made[3, place] = map(len, points)
        if all(map(len, points)):
            trees = [KDTree(some) for some in points]
            for row, mine, other in ((0, points[0], trees[1]), (2, points[1], trees[0])):
                # the bound itself does not count as within
                distance, _ = other.query(mine, distance_upper_bound=within + 1e-6)
                made[row, place] = np.isfinite(distance).sum()
    return made


def _on_boundary(one: Any, known: Any, xp: Any = jnp) -> Any:
    """``bool[height, width]``: known pixels next to a known one of another class."""
    down = (one[1:] != one[:-1]) & known[1:] & known[:-1]
    across = (one[:, 1:] != one[:, :-1]) & known[:, 1:] & known[:, :-1]
    above, below = (xp.pad(down, (pair, (0, 0))) for pair in ((0, 1), (1, 0)))
    left, right = (xp.pad(across, ((0, 0), pair)) for pair in ((0, 1), (1, 0)))
    return above | below | left | right


def _widened(marked: Any, within: int) -> Any:
    """``bool[height, width, classes]``: places with a marked one at most `within` pixels away."""
    height, width, _ = marked.shape
    padded = jnp.pad(marked, ((within, within), (within, within), (0, 0)))
    made = marked
    for down in range(-within, within + 1):
        for across in range(-within, within + 1):
            if 0 < down**2 + across**2 <= within**2:
                made |= padded[within + down :, within + across :][:height, :width]
    return made
