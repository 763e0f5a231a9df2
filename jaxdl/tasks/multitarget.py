"""Several numbers per example."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.errors import InputError
from jaxdl.tasks.metric import Mean, Metric, Record, Sums
from jaxdl.tasks.regression import LOSS, R2, error_of, r2_of, spread_and_error
from jaxdl.tasks.task import Constants, Task


def _sums(record: Record) -> np.ndarray:
    """As `spread_and_error`, ``float64[n, 4 · numbers]``."""
    columns = spread_and_error(record)
    return columns.reshape(len(columns), 4 * columns.shape[1])


def _mean_r2(sums: np.ndarray) -> np.ndarray:
    return r2_of(sums.reshape(*sums.shape[:-1], -1, 4)).mean(-1)


def of_target(place: int, name: str) -> tuple[Metric, Metric]:
    """R² and mean absolute error of the number at `place`, called ``r2:NAME`` and ``mae:NAME``."""
    return (
        Sums(
            f"r2:{name}",
            columns=lambda record: spread_and_error(record)[:, place],
            combine=r2_of,
            undefined=f"a fold tests examples with a single {name}, which has no variance",
            **R2,
        ),
        Mean(f"mae:{name}", value=lambda record: np.abs(error_of(record)[:, place]), **LOSS),
    )


def _standardised(record: Record) -> np.ndarray:
    return np.square(error_of(record) / np.asarray(record["spread"], np.float64)).mean(1)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Sums(
            "mean_r2",
            columns=_sums,
            combine=_mean_r2,
            undefined="a fold tests examples of which one number is always the same, and has no variance",
            **R2,
        ),
        # squared errors in units of the targets' variance over the training part: what is learned
        Mean("standardised_mse", value=_standardised, **{**LOSS, "reads": (*LOSS["reads"], "spread")}),
    )
}


@dataclasses.dataclass(frozen=True)
class MultiTarget(Task):
    """Several numbers per example, learned by least squares; targets are ``float[n, numbers]``.

    Each number is learned in units of its spread over the training part, so that all of them count alike, whatever
    their units. What is kept of an example is a dict of ``numbers``, its predictions in their own units, and
    ``spread``, those units, both ``float32[n, numbers]``.

    Attributes:
      names: of the numbers.
    """

    name = "multitarget"
    METRICS = METRICS
    LOSS = "standardised_mse"
    SHOWN = ("mean_r2",)
    SECTIONS = ("targets", "wrong")
    KEPT = ("center", "spread")
    ANSWERS_WHOLE = True
    PREDICTS = "the numbers in their own units, in the order of the names; the scaling of the targets is undone inside"
    mixes = True
    BASELINE = "mean"
    NOT_CONFORMAL = (
        "an interval holds one number, and an example here has several; train on the column of one alone, such as "
        "FILE.csv:NUMBER"
    )

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 2 and targets.dtype.kind == "f"

    metrics_of = staticmethod(of_target)

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    def describe(self) -> str:
        return f"{len(self.names)} number{'s' if len(self.names) > 1 else ''} ({self.first_names()})"

    def tally(self, targets: np.ndarray) -> str:
        return f"{self.describe()} each"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, self.names) or targets.shape != (count, len(self.names)):
            raise InputError(
                f"the targets of {data} are no matrix of floats, {count} examples by {len(self.names)} numbers with a "
                "name each; see data.arrays"
            )
        if len(bad := np.argwhere(~np.isfinite(targets))):
            raise InputError(
                f"{len(bad)} targets of {data} are NaN or infinity, the first '{self.names[bad[0][1]]}' at index "
                f"{bad[0][0]}; remove them"
            )
        if count < 2:
            raise InputError(f"{data} holds a single example; {purpose} needs at least two")

    def check_test(self, count: int, purpose: str) -> None:
        if "r2" in self.metric and count < 2:
            raise InputError(
                f"{purpose} tests a single example in a fold, of which there is no R²; use another splitter, fewer "
                "folds, or the metric standardised_mse"
            )

    def match(self, targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The columns of this task's numbers; InputError where one is missing."""
        if missing := [name for name in self.names if name not in names]:
            raise InputError(f"the targets {', '.join(missing)} are missing; there are {', '.join(names)}")
        return targets[:, [list(names).index(name) for name in self.names]]

    def example(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Positive numbers that are not whole, of at most three targets."""
        targets = np.arange(12)[:, None] * np.arange(1, 1 + min(len(self.names), 3)) + 1.25
        return {"numbers": targets + 0.5, "spread": np.ones_like(targets)}, targets

    def baseline(self, targets: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """The means of the training part."""
        return self._kept(np.tile(np.mean(targets, 0, dtype=np.float64), (count, 1)), targets)

    def boosted(self, x: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
        """Trees for each number by itself."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        said = [HistGradientBoostingRegressor(random_state=0).fit(x, one).predict(asked) for one in targets.T]
        return self._kept(np.stack(said, 1), targets)

    def _kept(self, numbers: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        """As `predict` gives it, for numbers ``[n, numbers]`` and the targets of a training part."""
        spread = np.tile(self.fit(targets)["spread"], (len(numbers), 1))
        return {"numbers": numbers.astype(np.float32), "spread": spread}

    def fit(self, targets: np.ndarray) -> Constants:
        """``center`` and ``spread``, ``float32[numbers]``: means and standard deviations (1 where all are alike)."""
        return self.fit_weighted(targets, np.ones(len(targets)))

    def fit_weighted(self, targets: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`, with weighted moments."""
        targets = targets.astype(np.float64)
        center = np.average(targets, axis=0, weights=weights)
        spread = np.sqrt(np.average(np.square(targets - center), axis=0, weights=weights))
        return {"center": np.float32(center), "spread": np.float32(np.where(spread > 0, spread, 1.0))}

    def check_constants(self, held: Mapping[str, Sequence[float]]) -> None:
        for name, values in held.items():
            if len(values) != len(self.names) or (name == "spread" and not min(values) > 0):
                raise ValueError(f"{name} is {values}")

    def loss(
        self, outputs: Float[Array, "batch numbers"], targets: Float[Array, "batch numbers"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Squared error in units of the spread, mean over numbers, and 1."""
        scaled = (targets - constants["center"]) / constants["spread"]
        squares = jnp.square(outputs.astype(jnp.float32) - scaled).mean(-1)
        return squares, jnp.ones_like(squares)

    def predict(self, outputs: Float[Array, "batch numbers"], constants: Constants) -> dict[str, jax.Array]:
        """The numbers in their own units, with the spread of each."""
        spread = jnp.broadcast_to(constants["spread"], outputs.shape)
        return {"numbers": outputs.astype(jnp.float32) * spread + constants["center"], "spread": spread}

    def record(self, kept: Mapping[str, Any], targets: Any) -> dict[str, Any]:
        """``target``, ``predicted`` and ``spread``, all ``[n, numbers]``, on device or host."""
        return {"target": targets, "predicted": kept["numbers"], "spread": kept["spread"]}

    def predicted(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The numbers of each example, ``float[n, numbers]``."""
        return np.asarray(kept["numbers"])

    def columns(self, kept: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """All numbers as one text, then each by itself."""
        numbers = self.predicted(kept)
        return {"predicted": self.target_words(numbers)} | self._by_name("predicted", numbers)

    def target_columns(self, targets: np.ndarray) -> dict[str, list[Any]]:
        return self._by_name("target", targets)

    def _by_name(self, what: str, numbers: np.ndarray) -> dict[str, list[Any]]:
        return {f"{what}:{name}": column.tolist() for name, column in zip(self.names, numbers.T, strict=True)}

    def target_words(self, targets: np.ndarray) -> list[Any]:
        """Such as ``"length 1.25, width 3"``."""
        return [
            ", ".join(f"{name} {value:.4g}" for name, value in zip(self.names, row, strict=True)) for row in targets
        ]

    def combine(self, kept: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, jax.Array]:
        """The mean numbers; the spread likewise."""
        return {name: (each * weights[..., None]).sum(0) / weights.sum(0)[:, None] for name, each in kept.items()}
