"""Ridge regression for all penalties from one factorisation: by folds, and leaving out one example at a time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxdl.validation.probes.linear import Path
from jaxdl.validation.probes.standard import Shared, Standard

SMALLEST = 1e-12  # eigenvalues below this share of the largest count as zero
KEPT = 1e-4  # a smaller share of a column's squares than this, left by subtracting, is not trusted
BLOCK = 512  # columns of a scatter matrix that are multiplied at once
SIZES = 16  # parts of the rows to which the left-out rows are rounded up, so that folds share a program


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


def fit_ridge_folds(shared: Shared, targets: np.ndarray, penalties: np.ndarray, test: np.ndarray) -> np.ndarray:
    """`fit_ridge` in many folds, for what each says of its test part: one factorisation a fold.

    The scatter matrix of a training part is that of all rows less that of the rows which are left out: all folds of a
    partition together cost two scatter matrices. To be called where float64 is enabled.

    Args:
      shared: the folds, of float64; each should have more training rows than columns.
      targets: ``[rows, outputs]``.
      penalties: in any order, above 0.
      test: ``[folds, test]``, rows that each fold is to predict.

    Returns:
      ``float64[folds, penalties, test, outputs]``.
    """
    trains = np.asarray(shared.weight) > 0
    subtract = trains.mean() > 0.5
    chosen = ~trains if subtract else trains
    many, unit = len(chosen[0]), -(-len(chosen[0]) // SIZES)
    part = np.full((len(chosen), -(-int(chosen.sum(1).max()) // unit) * unit), many)  # beyond the rows: zeros
    for places, mine in zip(part, chosen, strict=True):
        places[: mine.sum()] = np.flatnonzero(mine)
    arrays = (jnp.asarray(array) for array in (targets, penalties, part, test))
    return np.asarray(_fit_folds(shared, *arrays, subtract=bool(subtract)))


@partial(jax.jit, static_argnames="subtract")
def _fit_folds(
    shared: Shared, targets: jax.Array, penalties: jax.Array, part: jax.Array, test: jax.Array, *, subtract: bool
) -> jax.Array:
    x = shared.features
    whole = _scatter(x) if subtract else None

    def scatter(weight: jax.Array, mean: jax.Array, inverse: jax.Array, places: jax.Array) -> jax.Array:
        """Of the training rows less their mean."""
        mine = _scatter(x.at[places].get(mode="fill", fill_value=0))
        before = whole if subtract else mine
        rest = (whole - mine if subtract else mine) - weight.sum() * mean[:, None] * mean
        # a column that is large in left-out rows alone would be lost in the rounding of the whole
        trusted = (jnp.diag(rest) >= KEPT * jnp.diag(before)) | (inverse == 0)
        return lax.cond(trusted.all(), lambda: rest, lambda: _scatter((x - mean) * weight[:, None]))

    def fit(fold: tuple) -> jax.Array:
        weight, mean, inverse, places, mine = fold
        matrix = scatter(weight, mean, inverse, places) * inverse[:, None] * inverse
        offset = weight @ targets / weight.sum()
        slopes = inverse[:, None] * (x.T @ (weight[:, None] * (targets - offset)))
        kernel = _solve(matrix, slopes, penalties)
        return jnp.einsum("nd,pdc->pnc", (x[mine] - mean) * inverse, kernel) + offset

    return lax.map(fit, (*shared[1:], part, test))


def _scatter(x: jax.Array) -> jax.Array:
    """``xᵀx``, of which only blocks on and above the diagonal are computed."""
    begins = range(0, x.shape[1], BLOCK)
    rows = [jnp.pad(x[:, begin : begin + BLOCK].T @ x[:, begin:], ((0, 0), (begin, 0))) for begin in begins]
    upper = jnp.concatenate(rows)
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def _solve(matrix: jax.Array, right: jax.Array, penalties: jax.Array) -> jax.Array:
    """``[penalties, rows, outputs]``: ``(matrix + penalty)⁻¹ right`` for each, the matrix being positive semidefinite.

    The matrix is factorised once: on the CPU to a tridiagonal one, Q T Qᵀ, whose systems are solved in linear time (in
    half the time of all eigenvectors, and closer to the exact solution), elsewhere to its eigenvectors.
    """
    return lax.platform_dependent(matrix, right, penalties, cpu=_solve_tridiagonal, default=_solve_eigen)


def _solve_tridiagonal(matrix: jax.Array, right: jax.Array, penalties: jax.Array) -> jax.Array:
    rows, outputs = right.shape
    if rows < 2:
        return right / (matrix[0] + penalties[:, None])[:, :, None]
    reflectors, diagonal, beside, scales = lax.linalg.tridiagonal(matrix)

    def turn(array: jax.Array, transpose: bool) -> jax.Array:
        """By Q, whose first row and column are those of the identity."""
        return jnp.concatenate(
            [array[:1], lax.linalg.ormqr(reflectors[1:, :-1], scales, array[1:], transpose=transpose)]
        )

    turned, below, above = turn(right, True), jnp.pad(beside, (1, 0)), jnp.pad(beside, (0, 1))
    solve = lambda penalty: lax.linalg.tridiagonal_solve(below, diagonal + penalty, above, turned)  # noqa: E731
    solved = jnp.moveaxis(lax.map(solve, penalties), 0, 1).reshape(rows, -1)
    return jnp.moveaxis(turn(solved, False).reshape(rows, len(penalties), outputs), 1, 0)


def _solve_eigen(matrix: jax.Array, right: jax.Array, penalties: jax.Array) -> jax.Array:
    values, vectors = jnp.linalg.eigh(matrix)
    shrunk = (vectors.T @ right) / (jnp.maximum(values, 0) + penalties[:, None])[:, :, None]
    return jnp.einsum("dr,prc->pdc", vectors, shrunk)


@jax.jit
def _fit(x: jax.Array, weight: jax.Array, targets: jax.Array, penalties: jax.Array) -> Path:
    rows, columns = x.shape
    mean = weight @ targets / weight.sum()
    centred = weight[:, None] * (targets - mean)
    if columns <= rows:
        kernel = _solve(_scatter(x), x.T @ centred, penalties)
    else:
        kernel = jnp.einsum("nd,pnc->pdc", x, _solve(_scatter(x.T), centred, penalties))
    many = len(penalties)
    bias = jnp.broadcast_to(mean, (many, len(mean)))
    return Path(kernel, bias, gradient=jnp.zeros(many), steps=jnp.zeros(many, jnp.int32))


def _factorise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues ``[rank]`` and eigenvectors ``[columns, rank]`` of the scatter matrix of centred rows.

    With more columns than rows they come from the smaller matrix of inner products; vectors that are not needed are 0.
    """
    rows, columns = x.shape
    if columns <= rows:
        values, vectors = jnp.linalg.eigh(_scatter(x))
        return jnp.maximum(values, 0), vectors
    values, left = jnp.linalg.eigh(_scatter(x.T))
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
