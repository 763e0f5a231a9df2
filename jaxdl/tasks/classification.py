"""Telling classes apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Classification:
    """One class out of several.

    Attributes:
      num_classes: how many.
      label_smoothing: share of each label that is spread over all classes in the training loss (Szegedy et al. 2016,
        arXiv:1512.00567).
    """

    num_classes: int
    label_smoothing: float = 0.0
    name: str = "classification"
    metric: str = "accuracy"

    @property
    def num_outputs(self) -> int:
        """Size of the head."""
        return self.num_classes

    def loss(self, logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
        """Cross-entropy of each example, in nats, against the smoothed labels."""
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        target = jax.nn.one_hot(labels, self.num_classes) * (1 - self.label_smoothing)
        return -((target + self.label_smoothing / self.num_classes) * log_p).sum(-1)

    def scores(
        self, logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
    ) -> dict[str, Float[Array, " batch"]]:
        """``accuracy`` of each example: 1 where the largest logit is the label's, else 0."""
        return {"accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)}

    def scale(self, labels: jax.Array, scaling: None) -> jax.Array:
        """Classes are learned as they are; see `Regression.scale`."""
        return labels

    def unscale(self, logits: jax.Array, scaling: None) -> jax.Array:
        """As they are; see `Regression.unscale`."""
        return logits

    def unscale_loss(self, loss: jax.Array, scaling: None) -> jax.Array:
        """As it is; see `Regression.unscale_loss`."""
        return loss

    def fit_scaling(self, labels: np.ndarray) -> None:
        """Nothing; see `Regression.fit_scaling`."""

    def evaluate(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """``accuracy`` and ``loss`` (mean cross-entropy in nats, not smoothed) of predictions ``[n, classes]``."""
        logits = np.asarray(logits, np.float64)
        top = logits.max(-1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        return {
            "accuracy": float((logits.argmax(-1) == labels).mean()),
            "loss": float(-log_p[np.arange(len(labels)), labels].mean()),
        }


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of ``logits[n, classes]``."""
    logits = np.asarray(logits, np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)
