"""One class out of several that have an order, such as grades."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdl.errors import InputError
from jaxdl.tasks.classification import CONFORMAL as OF_LOGITS
from jaxdl.tasks.classification import METRICS as OF_CLASSES
from jaxdl.tasks.classification import Classification
from jaxdl.tasks.metric import ERROR, Mean, Metric, Record, Sums
from jaxdl.tasks.task import Constants

READS = ("target", "predicted")


def _ranks(record: Record) -> tuple[np.ndarray, np.ndarray]:
    target, predicted = (np.asarray(record[key], np.float64) for key in READS)
    return target, predicted


def _moments(record: Record) -> np.ndarray:
    target, predicted = _ranks(record)
    squares = np.square(target) + np.square(predicted)
    return np.stack([np.square(target - predicted), target, predicted, squares, np.ones_like(target)], 1)


def _quadratic_kappa(sums: np.ndarray) -> np.ndarray:
    """1 less the mean squared difference of ranks over what it would be if target and prediction were independent."""
    observed, target, predicted, squares, count = np.moveaxis(sums, -1, 0)
    return 1 - observed / (squares - 2 * target * predicted / count)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        # Cohen 1968, weights (i - j)²
        Sums(
            "quadratic_kappa",
            columns=_moments,
            combine=_quadratic_kappa,
            bounds=(-1.0, 1.0),
            scale="share",
            undefined="all examples are of one class, and all are predicted to be of it",
            reads=READS,
        ),
        Mean(
            "rank_mae",
            value=lambda record: np.abs(np.subtract(*_ranks(record))),
            reads=READS,
            **ERROR,
        ),
    )
} | dict(OF_CLASSES)


@dataclasses.dataclass(frozen=True)
class Ordinal(Classification):
    """One class out of several with an order, that of `names`; targets are ``int[n]`` from 0, the lowest.

    A cumulative logit model (McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x) whose thresholds depend on the
    example: of K classes the network has K - 1 outputs, and the log-odds of being above class k are the first output
    less softplus of the following ones up to k. They fall with k whatever the outputs are, so that every class has a
    probability of 0 or more. What is kept of an example are the logarithms of these, in place of logits.
    """

    name = "ordinal"
    METRICS = METRICS
    PROBED = ""
    CONFORMAL = OF_LOGITS  # which logarithms of probabilities are
    SHOWN = ("quadratic_kappa", "rank_mae", "accuracy")
    SECTIONS = tuple(section for section in Classification.SECTIONS if section != "saliency")
    PREDICTS = "the logarithm of the probability of each name of the task, in that order"

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        """Never by itself: whether classes have an order is said."""
        return False

    @classmethod
    def of(cls, targets: Any, names: Sequence[str]) -> Self:
        """The task for these classes.

        Raises:
          InputError: where the order of the names is one of spelling, and may not be that of the ranks.
        """
        task = cls(tuple(names))
        numbers = [re.match(r"-?\d+(\.\d+)?", name) for name in task.names]
        if all(numbers):
            ranks = [float(found.group()) for found in numbers]
            doubtful = ranks != sorted(ranks)
        else:
            doubtful = list(task.names) == sorted(task.names)
        if doubtful and len(task.names) > 2:
            raise InputError(
                f"the classes stand in the order {' < '.join(task.names)}, that of their spelling: is this their rank? "
                "Let each name begin with its rank, such as 1-low, 2-medium, 3-high (01 to 10 for ten of them); or, if "
                f"this is it, say so from Python with task=jaxdl.Ordinal({task.names!r})"
            )
        return task

    @property
    def num_outputs(self) -> int:
        return max(1, len(self.names) - 1)

    def describe(self) -> str:
        return f"{len(self.names)} classes in order ({' < '.join(self.names[:5])}{' < …' if self.names[5:] else ''})"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not Classification.fits(targets, self.names) or len(targets) != count:
            raise InputError(f"the labels of {data} are no array of {count} whole numbers (ranks); see data.arrays")
        Classification(self.names).check(targets, count, data, purpose)

    def log_probabilities(self, outputs: jax.Array) -> jax.Array:
        """``float32[batch, classes]`` of ``outputs[batch, classes - 1]``."""
        outputs = outputs.astype(jnp.float32)
        gaps = jax.nn.softplus(outputs[:, 1:])
        above = outputs[:, :1] - jnp.concatenate([jnp.zeros_like(outputs[:, :1]), jnp.cumsum(gaps, 1)], 1)
        # between two thresholds: σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), in which nothing cancels
        inner = jnp.log(-jnp.expm1(-jnp.maximum(gaps, 1e-30)))
        middle = jax.nn.log_sigmoid(above[:, :-1]) + jax.nn.log_sigmoid(-above[:, 1:]) + inner
        return jnp.concatenate([jax.nn.log_sigmoid(-above[:, :1]), middle, jax.nn.log_sigmoid(above[:, -1:])], 1)

    def loss(
        self, outputs: Float[Array, "batch thresholds"], targets: Int[Array, " batch"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """As of `Classification`, for these probabilities."""
        return super().loss(self.log_probabilities(outputs), targets, constants)

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        distance = jnp.abs(record["predicted"] - record["target"])
        return {"rank_mae": distance.astype(jnp.float32), "accuracy": record["right"]}

    def predict(self, outputs: Float[Array, "batch thresholds"], constants: Constants) -> Float[Array, "batch classes"]:
        """The logarithms of the probabilities."""
        return self.log_probabilities(outputs)

    def as_head(self, kernel: np.ndarray, bias: np.ndarray, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
        """Raises InputError: a linear map to classes is none to thresholds."""
        raise InputError("a head for classes in order cannot be put in place; train with freeze_through='body'")
