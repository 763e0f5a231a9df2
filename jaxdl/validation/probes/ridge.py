"""Ridge regression for all penalties from one factorisation: by folds, and leaving out one example at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.validation.probes.linear import Path
from jaxdl.validation.probes.standard import Standard

SMALLEST = 1e-12  # eigenvalues below this share of the largest count as zero


class LeftOut(NamedTuple):
    """Of `ridge_leaving_one_out`.

    Attributes:
      predictions: ``[penalties, examples, outputs]``, each by all other examples.
      leverage: ``[penalties, examples]``: the diagonal of the hat matrix.
    """

    predictions: Float[Array, "penalties examples outputs"]
    leverage: Float[Array, "penalties examples"]


def ridge_targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """``float64[examples, outputs]``: as scikit-learn's RidgeClassifier, 1 for the class and −1 for all others.

    Two classes have one output, which is 1 for the second. Without classes (0) the numbers themselves.
    """
    if not classes:
        return np.asarray(labels, np.float64)[:, None]
    signs = np.eye(classes)[labels] * 2 - 1
    return signs[:, 1:] if classes == 2 else signs


def fit_ridge(standard: Standard, targets: np.ndarray, penalties: np.ndarray) -> Path:
    """The minimum of ``|target − output|² + penalty × |kernel|²`` for every penalty; the bias is not penalised.

    That is scikit-learn's Ridge with ``alpha = penalty``. To be called where float64 is enabled.

    Args:
      standard: the training part, of float64.
      targets: ``[train, outputs]``; of padding any.
      penalties: in any order, above 0.
    """
    return _fit(standard.train, standard.weight, jnp.asarray(targets), jnp.asarray(penalties))


@jax.jit
def _fit(x: jax.Array, weight: jax.Array, targets: jax.Array, penalties: jax.Array) -> Path:
    mean = weight @ targets / weight.sum()
    values, vectors = _factorise(x)
    products = vectors.T @ (x.T @ (targets - mean))  # [rank, outputs]
    shrunk = products[None] / (values + penalties[:, None])[:, :, None]
    many = len(penalties)
    return Path(
        kernel=jnp.einsum("dr,prc->pdc", vectors, shrunk),
        bias=jnp.broadcast_to(mean, (many, len(mean))),
        gradient=jnp.zeros(many),
        steps=jnp.zeros(many, jnp.int32),
    )


def _factorise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues ``[rank]`` and eigenvectors ``[columns, rank]`` of the scatter matrix of centred rows.

    With more columns than rows they come from the smaller matrix of inner products; vectors that are not needed are 0.
    """
    rows, columns = x.shape
    if columns <= rows:
        values, vectors = jnp.linalg.eigh(x.T @ x)
        return jnp.maximum(values, 0), vectors
    values, left = jnp.linalg.eigh(x @ x.T)
    there = values > SMALLEST * values[-1]
    values = jnp.where(there, values, 1)
    vectors = x.T @ jnp.where(there, left / jnp.sqrt(values), 0)
    return jnp.where(there, values, 0), vectors


def ridge_leaving_one_out(standard: Standard, targets: np.ndarray, penalties: np.ndarray) -> LeftOut:
    """Every example as all others predict it, for all penalties from one factorisation of the whole.

    Leaving out example i changes its residual by the factor 1 / (1 − hᵢ), hᵢ its leverage (Allen's PRESS, 1974; Golub,
    Heath and Wahba 1979): exact, the bias included, for features whose scale is fixed. The scale of `standard` is one
    of all examples, the mean is taken anew by the formula.

    Args:
      standard: of all examples, of float64, without padding.
      targets: ``[examples, outputs]``.
      penalties: in any order, above 0.
    """
    return _leave_one_out(standard.train, jnp.asarray(targets), jnp.asarray(penalties))


@jax.jit
def _leave_one_out(x: jax.Array, targets: jax.Array, penalties: jax.Array) -> LeftOut:
    values, vectors = _factorise(x)
    turned = x @ vectors
    centred = targets - targets.mean(0)
    share = 1 / (values + penalties[:, None])  # [penalties, rank]
    leverage = 1 / len(x) + jnp.square(turned) @ share.T  # [examples, penalties]
    fitted = jnp.einsum("nr,prc->pnc", turned, share[:, :, None] * (turned.T @ centred))
    residual = centred - fitted
    return LeftOut(targets - residual / (1 - leverage.T)[:, :, None], leverage.T)
