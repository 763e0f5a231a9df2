"""The heads by name, and what each makes of one fold."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.validation.probes.linear import Path, fit_logistic, fit_svm
from jaxdl.validation.probes.mlp import NOTE, fit_mlp
from jaxdl.validation.probes.neighbours import knn, nearest_mean
from jaxdl.validation.probes.ridge import fit_ridge, ridge_targets
from jaxdl.validation.probes.standard import Standard, standardise


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Features on the device, with what they are to foretell.

    Attributes:
      features: ``float32[examples, columns]``.
      labels: class or number of each.
      classes: how many; 0 for numbers.
      scaled: whether columns are divided by their standard deviation in each training part.
      seed: of what is drawn at random.
      tolerance: of what is iterated.
    """

    features: jax.Array
    labels: np.ndarray
    classes: int
    scaled: bool
    seed: int
    tolerance: float


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """One training part, and the examples that are to be predicted from it.

    Attributes:
      examples: all of them.
      train: indices.
      test: indices.
      rows: to which both are padded, so that folds of nearly the same size share a program.
      number: of the fold; joins the seed.
    """

    examples: Examples
    train: np.ndarray
    test: np.ndarray
    rows: tuple[int, int]
    number: int = 0

    @cached_property
    def padded(self) -> np.ndarray:
        """Indices of the training part, the first one repeated behind them."""
        return _padded(self.train, self.rows[0])

    @property
    def labels(self) -> np.ndarray:
        """Of `padded`."""
        return self.examples.labels[self.padded]

    def standard(self, dtype: Any) -> Standard:
        """Standardised by the training part alone; float64 only where that is enabled."""
        weight = (np.arange(self.rows[0]) < len(self.train)).astype(dtype)
        test = _padded(self.test, self.rows[1])
        return standardise(
            self.examples.features, jnp.asarray(self.padded), jnp.asarray(weight), test, scaled=self.examples.scaled
        )

    @cached_property
    def single(self) -> Standard:
        """In float32, for all heads that take it."""
        return self.standard(np.float32)


def _padded(indices: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([indices, np.repeat(indices[:1], rows - len(indices))])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a head makes of a fold.

    Attributes:
      outputs: logits, or decision values, or numbers ``[grid, test, classes or 1]``.
      gradient: largest entry of a gradient that was left, of a head that is iterated to an optimum; else None.
      steps: over all of the grid.
    """

    outputs: np.ndarray
    gradient: float | None = None
    steps: int = 0


@dataclasses.dataclass(frozen=True)
class Head:
    """A kind of head.

    Attributes:
      fit: to a fold, for a grid.
      grid: what its grid holds: ``"penalty"``, ``"neighbours"``, or nothing: ``""``.
      numbers: whether it can foretell numbers, too.
      probabilistic: whether its outputs are logits, whose loss means something.
      note: on how it is fitted.
    """

    fit: Callable[[Fold, np.ndarray], Fitted]
    grid: str
    numbers: bool
    probabilistic: bool
    note: str


def as_logits(outputs: np.ndarray) -> np.ndarray:
    """``[…, classes]``; of two classes with one output ``z``: −z/2 and z/2, whose softmax is the sigmoid of z."""
    return np.concatenate([-outputs / 2, outputs / 2], -1) if outputs.shape[-1] == 1 else outputs


def _of_path(fold: Fold, standard: Standard, path: Path) -> Fitted:
    outputs = np.asarray(path.predict(standard.test), np.float32)[:, : len(fold.test)]
    outputs = as_logits(outputs) if fold.examples.classes else outputs
    return Fitted(outputs, float(path.gradient.max()), int(path.steps.sum()))


def _ridge(fold: Fold, grid: np.ndarray) -> Fitted:
    with jax.enable_x64(True):
        standard = fold.standard(np.float64)
        path = fit_ridge(standard, ridge_targets(fold.labels, fold.examples.classes), grid)
        return dataclasses.replace(_of_path(fold, standard, path), gradient=None)


def _logistic(fold: Fold, grid: np.ndarray) -> Fitted:
    made = fit_logistic(fold.single, fold.labels, fold.examples.classes, grid, tolerance=fold.examples.tolerance)
    return _of_path(fold, fold.single, made)


def _svm(fold: Fold, grid: np.ndarray) -> Fitted:
    made = fit_svm(fold.single, fold.labels, fold.examples.classes, grid, tolerance=fold.examples.tolerance)
    return _of_path(fold, fold.single, made)


def _knn(fold: Fold, grid: np.ndarray) -> Fitted:
    return Fitted(np.float32(knn(fold.single, fold.labels, fold.examples.classes, grid)[:, : len(fold.test)]))


def _ncm(fold: Fold, grid: np.ndarray) -> Fitted:
    made = nearest_mean(fold.single, fold.labels, classes=fold.examples.classes)
    return Fitted(np.asarray(made)[:, : len(fold.test)])


def _mlp(fold: Fold, grid: np.ndarray) -> Fitted:
    key = jax.random.fold_in(jax.random.key(fold.examples.seed), fold.number)
    outputs, _ = fit_mlp(fold.single, fold.labels, fold.examples.classes, grid, key)
    return Fitted(np.float32(outputs[:, : len(fold.test)]))


HEADS: Mapping[str, Head] = {
    "ridge": Head(_ridge, "penalty", True, False, "exact, from one eigendecomposition a fold"),
    "logistic": Head(_logistic, "penalty", False, True, "preconditioned L-BFGS along the path of penalties"),
    "svm": Head(_svm, "penalty", False, False, "squared hinge, one class against the rest, bias not penalised"),
    "knn": Head(_knn, "neighbours", True, True, "Euclidean distance, each neighbour one vote"),
    "ncm": Head(_ncm, "", False, True, "nearest class mean"),
    "mlp": Head(_mlp, "penalty", True, True, NOTE),
}
