"""Ridge regression in float64 by NumPy: all penalties from one eigendecomposition, and leave-one-out from the same.

The eigenvectors are those of the smaller of two matrices: ``xᵀx`` where rows are more than columns, else ``x xᵀ``.
"""

import numpy as np


def ridge_targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """``float64[examples, outputs]``: as scikit-learn's RidgeClassifier, 1 for the class and −1 for all others.

    Two classes have one output, which is 1 for the second. Without classes (0) the numbers themselves.
    """
    if not classes:
        return np.asarray(labels, np.float64)[:, None]
    signs = np.eye(classes)[labels] * 2 - 1
    return signs[:, 1:] if classes == 2 else signs


def fit_ridge(x: np.ndarray, targets: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minimum of ``|target − output|² + penalty × |kernel|²`` for every penalty; the bias is not penalised.

    That is scikit-learn's Ridge with ``alpha = penalty``.

    Args:
      x: ``float64[rows, columns]``, each column with a mean of 0.
      targets: ``[rows, outputs]``.
      penalties: in any order, above 0.

    Returns:
      Kernels ``[penalties, columns, outputs]``, and the bias ``[outputs]``, which is the same for all.
    """
    bias = targets.mean(0)
    values, vectors = _factorise(x)
    right = targets - bias if _wide(x) else x.T @ (targets - bias)
    solved = vectors @ ((vectors.T @ right) / (values + penalties[:, None])[:, :, None])
    return (x.T @ solved if _wide(x) else solved), bias


def ridge_leaving_one_out(x: np.ndarray, targets: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Every example as all others predict it: ``[penalties, rows, outputs]``. Arguments as of `fit_ridge`.

    Leaving out example i changes its residual by the factor 1 / (1 − hᵢ), hᵢ its leverage (Allen's PRESS, 1974; Golub,
    Heath and Wahba 1979). This is exact, the bias included, for features whose scale is fixed: `x` is scaled by all
    examples.
    """
    values, vectors = _factorise(x)
    turned = vectors * np.sqrt(values) if _wide(x) else x @ vectors
    share = 1 / (values + penalties[:, None])  # [penalties, rank]
    centred = targets - targets.mean(0)
    leverage = 1 / len(x) + share @ np.square(turned).T  # [penalties, rows]
    residual = centred - turned @ (share[:, :, None] * (turned.T @ centred))
    return targets - residual / (1 - leverage)[:, :, None]


def _wide(x: np.ndarray) -> bool:
    return x.shape[1] > len(x)


def _factorise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors; eigenvalues that rounding makes negative are 0."""
    from scipy.linalg import eigh

    values, vectors = eigh(x @ x.T if _wide(x) else x.T @ x, driver="evd", check_finite=False)
    return np.maximum(values, 0), vectors
