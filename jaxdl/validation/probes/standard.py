"""The training part of a fold, standardised: mean and scale are its own; alone, or many folds on the same rows."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CONSTANT = 1e-10  # a spread below this share of a column's size is rounding


class Standard(NamedTuple):
    """Standardised features.

    Attributes:
      mean: of each column over the training part.
      scale: its standard deviation there (of all, not n − 1); 1 for a column that is constant, or if not asked for.
      train: ``[train, columns]``; zero for rows that only pad.
      weight: 1 for an example of `train`, 0 for padding.
      test: ``[test, columns]``, by the training part's mean and scale.
    """

    mean: Float[Array, " columns"]
    scale: Float[Array, " columns"]
    train: Float[Array, "train columns"]
    weight: Float[Array, " train"]
    test: Float[Array, "test columns"]


@partial(jax.jit, static_argnames="scaled")
def standardise(
    features: Float[Array, "examples columns"],
    train: Int[Array, " train"],
    weight: Float[Array, " train"],
    test: Int[Array, " test"],
    *,
    scaled: bool = True,
) -> Standard:
    """Fits mean and scale to the rows `train` alone, as scikit-learn's StandardScaler does.

    Args:
      features: of all examples.
      train: rows of the training part; padded by any.
      weight: 0 for those that only pad, else 1; of the type to compute in.
      test: rows to be scaled in the same way.
      scaled: whether to divide by the scale.
    """
    x = features[train].astype(weight.dtype)
    count = weight.sum()
    mean = weight @ x / count
    x = (x - mean) * weight[:, None]
    # what rounding has left of the mean is large beside the spread of a column with a large mean
    rest = x.sum(0) / count
    mean, x = mean + rest, (x - rest) * weight[:, None]
    scale = jnp.ones_like(mean)
    if scaled:
        spread = jnp.sqrt(jnp.square(x).sum(0) / count)
        scale = jnp.where(_varies(spread, jnp.abs(mean)), spread, 1)
    test_x = (features[test].astype(weight.dtype) - mean) / scale
    return Standard(mean, scale, x / scale, weight, test_x)


class Shared(NamedTuple):
    """Folds of the same rows, none of which has a copy of them.

    Attributes:
      features: ``[rows, columns]``, standardised over all rows, so that the folds' own mean and scale are near 0 and 1.
      weight: ``[folds, rows]``: 1 for the fold's training examples, 0 for all others.
      mean: ``[folds, columns]``, over the training examples.
      inverse: 1 / their standard deviation, or 1 if columns are not scaled; 0 for a column that is constant there.
    """

    features: Float[Array, "rows columns"]
    weight: Float[Array, "folds rows"]
    mean: Float[Array, "folds columns"]
    inverse: Float[Array, "folds columns"]


@partial(jax.jit, static_argnames="scaled")
def share(standard: Standard, weight: Float[Array, "folds rows"], *, scaled: bool = True) -> Shared:
    """Each fold's own mean and scale, as `standardise` finds them.

    Args:
      standard: whose training part are the rows of all folds, of training and test parts.
      weight: of `Shared`.
      scaled: whether columns are divided by their standard deviation.
    """
    x = standard.train

    def measure(mine: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = mine.sum()
        mean = mine @ x / count
        mean = mean + mine @ (x - mean) / count
        return mean, jnp.sqrt(mine @ jnp.square(x - mean) / count)

    mean, spread = jax.lax.map(measure, weight)
    varies = _varies(spread, jnp.abs(standard.mean) / standard.scale + jnp.abs(mean))
    inverse = jnp.where(varies, 1 / jnp.where(varies & scaled, spread, 1), 0)
    return Shared(x, weight, mean, inverse)


def alone(standard: Standard) -> Shared:
    """The training part as the only fold of its rows."""
    columns = jnp.zeros_like(standard.mean)[None]
    return Shared(standard.train, standard.weight[None], columns, columns + 1)


def _varies(spread: jax.Array, size: jax.Array) -> jax.Array:
    """Whether the spread is more than the rounding of numbers of that size."""
    return spread > (CONSTANT if spread.dtype == jnp.float64 else 1e-6) * size
