"""One number per example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.errors import InputError
from jaxdl.tasks.conformal import IntervalScore
from jaxdl.tasks.correlation import CORRELATIONS
from jaxdl.tasks.metric import ERROR, Mean, Metric, Record, Sums
from jaxdl.tasks.task import Constants, Task


def error_of(record: Record) -> np.ndarray:
    """Predictions less targets, ``float64[n, …]``."""
    return np.asarray(record["predicted"], np.float64) - np.asarray(record["target"], np.float64)


def spread_and_error(record: Record) -> np.ndarray:
    """Squared error, target, squared target and 1 of each number, ``float64[n, …, 4]``.

    Targets are less their mean, so that nothing cancels.
    """
    target = np.asarray(record["target"], np.float64)
    target = target - (target.mean(0) if len(target) else 0.0)
    return np.stack([np.square(error_of(record)), target, np.square(target), np.ones_like(target)], -1)


def r2_of(sums: np.ndarray) -> np.ndarray:
    """R² for sums ``[..., 4]`` of squared error, target, squared target and 1; NaN where all targets are alike."""
    error, target, square, count = np.moveaxis(sums, -1, 0)
    spread = square - np.square(target) / count
    # targets that are all alike leave no more than rounding
    return np.where(spread > 1e-12 * square, 1 - error / spread, np.nan)


LOSS = dict(**ERROR, reads=("target", "predicted"))
R2 = dict(bounds=(-np.inf, 1.0), scale="distance", reads=LOSS["reads"])
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Sums(
            "r2",
            columns=spread_and_error,
            combine=r2_of,
            undefined="a fold tests examples with a single target, which has no variance",
            **R2,
        ),
        Mean("mse", value=lambda record: np.square(error_of(record)), **LOSS),
        Mean("mae", value=lambda record: np.abs(error_of(record)), **LOSS),
        *CORRELATIONS,
    )
}


CONFORMAL = {"residual": IntervalScore("residual", lambda kept: np.asarray(kept, np.float64)[:, 0])}


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """One number per example, learned by least squares; targets are ``float[n]``.

    The network learns the number in units of its spread over the training part (see `fit`): a head that starts near
    zero then starts at the mean, whatever the numbers' size. Predictions are in the numbers' own units.
    """

    name = "regression"
    METRICS = METRICS
    LOSS = "mse"
    PROBED = "numbers"
    CONFORMAL = CONFORMAL
    SHOWN = ("r2", "mse", "mae")
    SECTIONS = ("residuals", "intervals", "wrong")
    KEPT = ("scaling",)
    ELSEWHERE: ClassVar = {"scaling": (0.0, 1.0)}
    ANSWERS_WHOLE = True
    PREDICTS = "the number in its own units; the scaling of the targets is undone inside"
    mixes = True
    BASELINE = "mean"

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind == "f"

    @classmethod
    def of(cls, targets: Any, names: Sequence[str]) -> "Regression":
        if names and not cls.fits(targets, names):
            raise InputError(
                f"the task is regression, but the labels are {len(names)} classes; leave the task out to learn "
                "classes, or give examples with a number each (FILE.csv:COLUMN or FILE.npz)"
            )
        if names:
            raise InputError(
                f"the labels are numbers, but {len(names)} classes are named; classes are whole numbers from 0"
            )
        return cls()

    @property
    def num_outputs(self) -> int:
        return 1

    def tally(self, targets: np.ndarray) -> str:
        return f"a number each, {targets.min():.4g} to {targets.max():.4g} (mean {targets.mean(dtype=float):.4g})"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, ()) or len(targets) != count:
            raise InputError(f"the labels of {data} are no array of {count} floats (regression); see data.arrays")
        if len(bad := np.flatnonzero(~np.isfinite(targets))):
            raise InputError(
                f"{len(bad)} labels of {data} are NaN or infinity, the first at index {bad[0]}; remove them"
            )
        if len(targets) < 2:
            raise InputError(f"{data} holds a single example; {purpose} needs at least two")

    def check_test(self, count: int, purpose: str) -> None:
        if self.metric == "r2" and count < 2:
            raise InputError(
                f"{purpose} tests a single example in a fold, of which there is no R²; use another splitter, fewer "
                "folds, or the metric mse"
            )

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """Positive numbers that are not whole: these every metric of numbers takes."""
        targets = np.arange(12) + 1.25
        return targets[:, None] + 0.5, targets

    def baseline(self, targets: np.ndarray, count: int) -> np.ndarray:
        """The mean of the training part."""
        return np.full((count, 1), np.mean(targets, dtype=np.float64), np.float32)

    def boosted(self, x: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(random_state=0).fit(x, targets).predict(asked)[:, None].astype(np.float32)

    def fit(self, targets: np.ndarray) -> Constants:
        """``scaling``, ``float32[2]``: mean and standard deviation (1 for the latter if all are alike)."""
        return self.fit_weighted(targets, np.ones(len(targets)))

    def fit_weighted(self, targets: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`, with weighted moments."""
        targets = targets.astype(np.float64)
        mean = np.average(targets, weights=weights)
        spread = float(np.sqrt(np.average(np.square(targets - mean), weights=weights)))
        return {"scaling": np.float32([mean, spread if spread > 0 else 1.0])}

    def check_constants(self, held: Mapping[str, Sequence[float]]) -> None:
        if "scaling" in held:
            _, spread = held["scaling"]
            if not spread > 0:
                raise ValueError(f"scaling is {held['scaling']}")

    def loss(
        self, outputs: Float[Array, "batch 1"], targets: Float[Array, " batch"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Squared error in units of the spread, and 1."""
        mean, spread = constants["scaling"]
        squares = jnp.square(outputs[:, 0].astype(jnp.float32) - (targets - mean) / spread)
        return squares, jnp.ones_like(squares)

    def reported_loss(self, loss: jax.Array, constants: Constants) -> jax.Array:
        """In the numbers' own units, squared."""
        return loss * jnp.square(constants["scaling"][1])

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        return {"mae": jnp.abs(record["predicted"] - record["target"])}

    def predict(self, outputs: Float[Array, "batch 1"], constants: Constants) -> Float[Array, "batch 1"]:
        """The numbers, in their own units."""
        mean, spread = constants["scaling"]
        return outputs.astype(jnp.float32) * spread + mean

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """``target`` and ``predicted`` ``[n]``, for numbers ``kept[n, 1]`` and ``targets[n]`` on device or host."""
        return {"target": targets, "predicted": kept[:, 0]}

    def as_head(self, kernel: np.ndarray, bias: np.ndarray, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = constants["scaling"]
        return kernel / spread, (bias - mean) / spread

    def head_elsewhere(
        self, kernel: np.ndarray, bias: np.ndarray, constants: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = constants["scaling"]
        return kernel * spread, bias * spread + mean

    def predicted(self, kept: np.ndarray) -> np.ndarray:
        """The number of each example, ``float[n]``."""
        return np.asarray(kept)[:, 0]

    def columns(self, kept: np.ndarray) -> dict[str, list[Any]]:
        return {"predicted": self.predicted(kept).tolist()}

    def combine(self, kept: jax.Array, weights: jax.Array) -> jax.Array:
        """The mean number."""
        return (kept * weights[..., None]).sum(0) / weights.sum(0)[:, None]
