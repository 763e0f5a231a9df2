"""The heads by name, and what each makes of the folds."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.validation.probes.linear import Kind, fit_folds
from jaxdl.validation.probes.mlp import NOTE, fit_mlp
from jaxdl.validation.probes.neighbours import knn, nearest_mean
from jaxdl.validation.probes.ridge import fit_ridge, ridge_leaving_one_out, ridge_targets
from jaxdl.validation.probes.standard import Shared, Standard, share, standardise

# by how much a class without training examples is behind: log-odds, or of ridge and svm units of their outputs
ABSENT = 100.0
SCALE_NOTE = "columns are scaled by all examples, the one that is left out included (its label is not used)"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Features on the device, with what they are to predict.

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
        return padded(self.train, self.rows[0])

    @property
    def labels(self) -> np.ndarray:
        """Of `padded`."""
        return self.examples.labels[self.padded]

    def standard(self, dtype: Any) -> Standard:
        """Standardised by the training part alone; float64 only where that is enabled."""
        weight = (np.arange(self.rows[0]) < len(self.train)).astype(dtype)
        test = padded(self.test, self.rows[1])
        return standardise(
            self.examples.features, jnp.asarray(self.padded), jnp.asarray(weight), test, scaled=self.examples.scaled
        )


def padded(indices: np.ndarray, rows: int) -> np.ndarray:
    """The first one repeated behind them."""
    return np.concatenate([indices, np.repeat(indices[:1], rows - len(indices))])


@dataclasses.dataclass(frozen=True, eq=False)
class Folds:
    """The folds of one split.

    Attributes:
      examples: all of them.
      folds: of the split, all of whose test parts are padded to the largest.
      used: indices that any of them trains or tests on.
      rows: to which these are padded, so that splits of nearly the same size share a program.
    """

    examples: Examples
    folds: Sequence[Fold]
    used: np.ndarray
    rows: int

    @cached_property
    def padded(self) -> np.ndarray:
        """`used`, the first one repeated behind them."""
        return padded(self.used, self.rows)

    @property
    def labels(self) -> np.ndarray:
        """Of `padded`."""
        return self.examples.labels[self.padded]

    @property
    def test(self) -> np.ndarray:
        """``[folds, test]``: where the examples to be predicted stand in `padded`."""
        most = max(fold.rows[1] for fold in self.folds)
        return np.stack([padded(np.searchsorted(self.used, fold.test), most) for fold in self.folds])

    def shared(self) -> Shared:
        """Rows `padded`, standardised by each training part alone."""
        rows, scaled = self.padded, self.examples.scaled
        real = (np.arange(self.rows) < len(self.used)).astype(np.float32)
        standard = standardise(self.examples.features, rows, jnp.asarray(real), rows[:1], scaled=scaled)
        weight = np.stack([np.isin(rows, fold.train) for fold in self.folds]) * real
        return share(standard, jnp.asarray(weight), scaled=scaled)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a head makes of a fold.

    Attributes:
      outputs: logits, or decision values, or numbers ``[grid, test, classes or 1]``.
      gradient: largest entry of a gradient that was left, of a head that is iterated to an optimum; else None.
    """

    outputs: np.ndarray
    gradient: float | None = None


@dataclasses.dataclass(frozen=True)
class Head:
    """A kind of head.

    Attributes:
      fit: to all folds of a split, for a grid.
      grid: what its grid holds: ``"penalty"``, ``"neighbours"``, or nothing: ``""``.
      numbers: whether it can predict numbers, too.
      probabilistic: whether its outputs are logits, whose loss means something.
      note: on how it is fitted.
    """

    fit: Callable[[Folds, np.ndarray], list[Fitted]]
    grid: str
    numbers: bool
    probabilistic: bool
    note: str


def as_logits(outputs: np.ndarray) -> np.ndarray:
    """``[…, classes]``; of two classes with one output ``z``: −z/2 and z/2, whose softmax is the sigmoid of z."""
    return np.concatenate([-outputs / 2, outputs / 2], -1) if outputs.shape[-1] == 1 else outputs


def finished(outputs: Any, present: np.ndarray) -> np.ndarray:
    """float32 outputs ``[grid, examples, classes or 1]``, of classes `as_logits`.

    No head can say anything of a class without training examples: some would give −∞, others a number that depends on
    where the iteration stops. Such a class gets a finite output, `ABSENT` below the largest one of the example: it is
    never predicted, and the log loss of an example of it is `ABSENT` to ``ABSENT + log(classes)``.

    Args:
      outputs: of a head.
      present: whether the training part of an example has the class, ``[classes]`` or ``[examples, classes]``; empty
        for numbers.
    """
    outputs = np.asarray(outputs, np.float32)
    if not present.shape[-1]:
        return outputs
    outputs = as_logits(outputs)
    largest = np.where(present, outputs, -np.inf).max(-1, keepdims=True)
    return np.where(present, outputs, largest - np.float32(ABSENT)).astype(np.float32)


def _of_fold(outputs: Any, fold: Fold) -> np.ndarray:
    """`finished`, without padding."""
    classes = fold.examples.classes
    return finished(outputs[:, : len(fold.test)], np.isin(np.arange(classes), fold.examples.labels[fold.train]))


def _each(fit: Callable[[Fold, np.ndarray], Any]) -> Callable[[Folds, np.ndarray], list[Fitted]]:
    """One fold after the other, by what gives outputs."""
    return lambda folds, grid: [Fitted(_of_fold(fit(fold, grid), fold)) for fold in folds.folds]


def _together(kind: Kind) -> Callable[[Folds, np.ndarray], list[Fitted]]:
    """All folds on the same rows."""

    def fit(folds: Folds, grid: np.ndarray) -> list[Fitted]:
        examples = folds.examples
        labels, test = folds.labels, folds.test
        made = fit_folds(kind, folds.shared(), labels, examples.classes, grid, test, tolerance=examples.tolerance)
        return [
            Fitted(_of_fold(outputs, fold), float(gradient.max()))
            for fold, outputs, gradient in zip(folds.folds, *made, strict=True)
        ]

    return fit


def _ridge(fold: Fold, grid: np.ndarray) -> np.ndarray:
    x, test = _float64(fold)
    kernels, bias = fit_ridge(x, ridge_targets(fold.examples.labels[fold.train], fold.examples.classes), grid)
    return test @ kernels + bias


def ridge_leave_one_out(examples: Examples, grid: np.ndarray) -> np.ndarray:
    """Outputs ``[grid, examples, classes or 1]`` of ridge for each example without it; see `SCALE_NOTE`."""
    everything, labels, classes = np.arange(len(examples.labels)), examples.labels, examples.classes
    x, _ = _float64(Fold(examples, everything, everything[:1], (len(everything), 1)))
    outputs = ridge_leaving_one_out(x, ridge_targets(labels, classes), grid)
    if not classes:
        return finished(outputs, np.ones(0, bool))
    return finished(outputs, np.bincount(labels, minlength=classes) - np.eye(classes)[labels] > 0)


def _float64(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Standardised training and test examples, without padding."""
    with jax.enable_x64(True):
        standard = fold.standard(np.float64)
    return np.asarray(standard.train)[: len(fold.train)], np.asarray(standard.test)[: len(fold.test)]


def _knn(fold: Fold, grid: np.ndarray) -> Any:
    return knn(fold.standard(np.float32), fold.labels, fold.examples.classes, grid)


def _ncm(fold: Fold, grid: np.ndarray) -> Any:
    return nearest_mean(fold.standard(np.float32), fold.labels, classes=fold.examples.classes)


def _mlp(fold: Fold, grid: np.ndarray) -> Any:
    key = jax.random.fold_in(jax.random.key(fold.examples.seed), fold.number)
    return fit_mlp(fold.standard(np.float32), fold.labels, fold.examples.classes, grid, key)


HEADS: Mapping[str, Head] = {
    "ridge": Head(_each(_ridge), "penalty", True, False, "exact, in float64"),
    "logistic": Head(_together("logistic"), "penalty", False, True, "L-BFGS along the path of penalties"),
    "svm": Head(_together("svm"), "penalty", False, False, "squared hinge, one against the rest, bias not penalised"),
    "knn": Head(_each(_knn), "neighbours", True, True, "Euclidean distance, each neighbour one vote"),
    "ncm": Head(_each(_ncm), "", False, True, "nearest class mean"),
    "mlp": Head(_each(_mlp), "penalty", True, True, NOTE),
}
