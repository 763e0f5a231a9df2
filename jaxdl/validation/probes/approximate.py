"""Approximate leave-one-out: every example as all others would predict it, from one fit.

At the optimum of all examples one Newton step towards the optimum without example i has a closed form (Rad and Maleki
2020, "A scalable estimate of the out-of-sample prediction error via approximate leave-one-out"). It is exact for
squared losses; for others `check` tells how far it is from true refits.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError
from jaxdl.validation.probes.descent import SLOPES
from jaxdl.validation.probes.linear import Path
from jaxdl.validation.probes.standard import Standard

MOST_UNKNOWNS = 8192  # the Hessian of so many takes 512 MiB
FLAT = 1e-10  # of the largest diagonal entry: along biases that are all alike nothing changes


def leave_one_out(
    standard: Standard, targets: np.ndarray, path: Path, penalties: np.ndarray, *, loss: str
) -> np.ndarray:
    """Outputs ``[penalties, examples, outputs]`` of each example without it; to be called where float64 is enabled.

    Args:
      standard: of all examples, of float64, without padding.
      targets: ``[examples, outputs]`` as the loss takes them: one-hot, 0 or 1, or signs.
      path: the optimum on all examples for each penalty.
      penalties: of `path`.
      loss: ``softmax``, ``sigmoid`` or ``hinge``; of the latter every output is a problem of its own.

    Raises:
      InputError: if the Hessian is too large.
    """
    columns, outputs = path.kernel.shape[1:]
    coupled = outputs if loss == "softmax" else 1
    unknowns = (columns + 1) * coupled
    if unknowns > MOST_UNKNOWNS:
        raise InputError(
            f"approximate leave-one-out of {columns} features and {outputs} outputs has {unknowns} unknowns, more than "
            f"{MOST_UNKNOWNS}; use folds, a --stage with fewer features, or ridge, whose leave-one-out is exact"
        )
    x = jnp.concatenate([standard.train, jnp.ones((len(standard.train), 1))], 1)
    made = []
    for place, penalty in enumerate(penalties):
        kernel, bias = path.kernel[place].astype(jnp.float64), path.bias[place].astype(jnp.float64)
        logits = standard.train @ kernel + bias
        if loss == "softmax":
            made.append(_softmax(x, logits, jnp.asarray(targets), penalty))
        else:
            each = [_scalar(x, logits[:, k], jnp.asarray(targets[:, k]), penalty, loss) for k in range(outputs)]
            made.append(jnp.stack(each, -1))
    return np.asarray(jnp.stack(made))


@jax.jit
def _softmax(x: jax.Array, logits: jax.Array, targets: jax.Array, penalty: jax.Array) -> jax.Array:
    """With A the second derivative of the loss by an example's logits, K its x Hessian⁻¹ xᵀ and r the derivative, its
    logits without it are larger by (1 − K A)⁻¹ K r."""
    width, outputs = x.shape[1], logits.shape[1]
    p = jax.nn.softmax(logits)
    second = p[:, :, None] * jnp.eye(outputs) - p[:, :, None] * p[:, None, :]
    blocks = [[x.T @ (second[:, a, b, None] * x) for b in range(outputs)] for a in range(outputs)]
    hessian = jnp.block(blocks) + jnp.diag(jnp.tile(_penalties(width, penalty), outputs))
    inverse = _inverse(hessian).reshape(outputs, width, outputs, width)
    k = jnp.stack(
        [jnp.stack([((x @ inverse[a, :, b]) * x).sum(-1) for b in range(outputs)], -1) for a in range(outputs)], 1
    )
    moved = jnp.linalg.solve(jnp.eye(outputs) - k @ second, (k @ (p - targets)[:, :, None]))
    return logits + moved[:, :, 0]


def _scalar(x: jax.Array, logits: jax.Array, targets: jax.Array, penalty: float, loss: str) -> jax.Array:
    """The same for one output: larger by k r / (1 − k a)."""
    first, second = SLOPES[loss](logits, targets)
    inverse = _inverse(x.T @ (second[:, None] * x) + jnp.diag(_penalties(x.shape[1], penalty)))
    k = ((x @ inverse) * x).sum(-1)
    return logits + k * first / (1 - k * second)


def _penalties(width: int, penalty: jax.Array | float) -> jax.Array:
    """On the diagonal of the Hessian: the last unknown, the bias, has none."""
    return jnp.where(jnp.arange(width) < width - 1, penalty, 0.0)


def _inverse(hessian: jax.Array) -> jax.Array:
    flat = FLAT * jnp.diagonal(hessian).max()
    factor = jax.scipy.linalg.cho_factor(hessian + flat * jnp.eye(len(hessian)))
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(hessian)))
