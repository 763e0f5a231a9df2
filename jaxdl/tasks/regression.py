"""Predicting a number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Regression:
    """One number per example, learned by least squares.

    The network learns the number in units of its spread over the training part (see `scale`): a head that starts near
    zero then starts at the mean, whatever the numbers' size. Predictions are in the numbers' own units.
    """

    name: str = "regression"
    metric: str = "r2"

    @property
    def num_outputs(self) -> int:
        """Size of the head."""
        return 1

    def loss(self, outputs: Float[Array, "batch 1"], targets: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Squared error of each example; both in units of the spread."""
        return jnp.square(outputs[:, 0].astype(jnp.float32) - targets)

    def scores(
        self, outputs: Float[Array, "batch 1"], targets: Float[Array, " batch"]
    ) -> dict[str, Float[Array, " batch"]]:
        """``mae``: the absolute error of each example, in the units that both are in."""
        return {"mae": jnp.abs(outputs[:, 0].astype(jnp.float32) - targets)}

    def scale(self, targets: jax.Array, scaling: jax.Array) -> jax.Array:
        """What the network learns: `targets` less ``scaling[0]``, divided by ``scaling[1]``."""
        return (targets - scaling[0]) / scaling[1]

    def unscale(self, outputs: jax.Array, scaling: jax.Array) -> jax.Array:
        """Undoes `scale` for the network's outputs."""
        return outputs * scaling[1] + scaling[0]

    def unscale_loss(self, loss: jax.Array, scaling: jax.Array) -> jax.Array:
        """A `loss` in the numbers' own units, squared."""
        return loss * jnp.square(scaling[1])

    def fit_scaling(self, targets: np.ndarray) -> np.ndarray:
        """Mean and standard deviation ``float32[2]`` of the training part (1 for the latter if all are alike)."""
        spread = float(np.std(targets.astype(np.float64)))
        return np.float32([np.mean(targets.astype(np.float64)), spread if spread > 0 else 1.0])

    def evaluate(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """``r2`` (NaN where the targets do not vary), ``mse``, ``mae`` and ``loss`` (the mse again) of ``[n, 1]``."""
        error = np.asarray(outputs, np.float64)[:, 0] - np.asarray(targets, np.float64)
        mse = float(np.square(error).mean())
        variance = float(np.var(np.asarray(targets, np.float64)))
        return {
            "r2": 1 - mse / variance if variance > 0 else float("nan"),
            "mse": mse,
            "mae": float(np.abs(error).mean()),
            "loss": mse,
        }
