"""Logistic regression and the linear support vector machine, along the path of penalties."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdl.validation.probes.descent import Problem, leading_directions, minimise
from jaxdl.validation.probes.standard import Standard

TOGETHER = 20  # outputs that are moved at once: fewer leave the matrix product idle, more wait for the slowest
MOST_STEPS = 2000
TOLERANCE = 1e-4  # scikit-learn's


class Path(NamedTuple):
    """Linear heads, one for each penalty, of standardised features.

    Attributes:
      kernel: ``[penalties, columns, outputs]``.
      bias: ``[penalties, outputs]``.
      gradient: largest entry of each gradient; 0 where the solution is exact.
      steps: that each took; 0 for a closed form.
    """

    kernel: Float[Array, "penalties columns outputs"]
    bias: Float[Array, "penalties outputs"]
    gradient: Float[Array, " penalties"]
    steps: Int[Array, " penalties"]

    def predict(self, x: jax.Array) -> jax.Array:
        """``[penalties, examples, outputs]`` for standardised examples."""
        return jnp.einsum("nd,pdc->pnc", x, self.kernel) + self.bias[:, None]


def fit_logistic(
    standard: Standard,
    labels: np.ndarray,
    classes: int,
    penalties: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Path:
    """Multinomial logistic regression: the minimum of ``sum(cross-entropy) + penalty / 2 × |kernel|²``.

    That is scikit-learn's LogisticRegression with ``C = 1 / penalty``. Two classes have one output, as there.

    Args:
      standard: the training part.
      labels: class of each of its rows; of padding any.
      classes: how many there are.
      penalties: falling, so that each begins where the one before it, which is stronger, has ended.
      tolerance: no entry of the gradient of the mean loss, by the weights of the standardised columns and the bias, is
        larger at the end.
      most_steps: for each penalty.
    """
    if classes == 2:
        loss, targets = "sigmoid", (labels == 1).astype(float)[:, None, None]
    else:
        loss, targets = "softmax", np.eye(classes)[labels][:, None]
    path = _follow(standard, targets, penalties, loss, tolerance, most_steps)
    if classes == 2:
        return path
    # adding a number to all logits of an example changes nothing: of all biases alike the one around zero
    return path._replace(bias=path.bias - path.bias.mean(-1, keepdims=True))


def fit_svm(
    standard: Standard,
    labels: np.ndarray,
    classes: int,
    penalties: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Path:
    """One class against the rest: the minimum of ``sum(max(0, 1 ∓ output)²) + penalty / 2 × |kernel|²`` for each.

    That is what scikit-learn's LinearSVC minimises with ``C = 1 / penalty``, but that the bias is not penalised here
    (there it is the weight of a column of ``intercept_scaling``). Arguments as for `fit_logistic`; two classes have one
    output.
    """
    signs = np.where(labels == 1, 1.0, -1.0)[:, None] if classes == 2 else np.eye(classes)[labels] * 2 - 1
    return _follow(standard, signs[:, :, None], penalties, "hinge", tolerance, most_steps)


def _follow(
    standard: Standard, targets: np.ndarray, penalties: np.ndarray, loss: str, tolerance: float, most: int
) -> Path:
    """`targets` are ``[examples, problems, outputs]``: the problems that each penalty has."""
    if (np.diff(penalties) > 0).any():
        raise ValueError("the penalties do not fall")
    dtype = standard.train.dtype
    width = min(len(penalties), max(1, math.ceil(TOGETHER / targets[0].size)))
    short = -len(penalties) % width
    padded = np.concatenate([penalties, np.repeat(penalties[-1:], short)]).reshape(-1, width)
    made = _follow_groups(
        standard.train,
        standard.weight,
        jnp.asarray(targets, dtype),
        jnp.asarray(padded, dtype),
        loss=loss,
        tolerance=tolerance,
        most=most,
    )
    return jax.tree.map(lambda a: a[: len(penalties)], made)


@partial(jax.jit, static_argnames=("loss", "tolerance", "most"))
def _follow_groups(
    x: jax.Array, weight: jax.Array, targets: jax.Array, penalties: jax.Array, *, loss: str, tolerance: float, most: int
) -> Path:
    """Groups of penalties in turn, those of a group together, all in one program."""
    groups, width = penalties.shape
    _, problems, outputs = targets.shape
    directions = leading_directions(x, weight)
    repeated = jnp.tile(targets, (1, width if problems > 1 else 1, 1))  # lanes: of each penalty all problems

    def group(start: tuple[jax.Array, jax.Array], mine: jax.Array) -> tuple:
        begin = jax.tree.map(lambda a: jnp.tile(a, (width, 1)), start)
        problem = Problem(x, weight, repeated, *directions)
        lanes = jnp.repeat(mine, problems)
        made = minimise(problem, lanes, begin, loss=loss, tolerance=tolerance, most=most)
        return (made.kernel[:, -problems:], made.bias[-problems:]), made

    start = jnp.zeros((x.shape[1], problems, outputs), x.dtype), jnp.zeros((problems, outputs), x.dtype)
    _, made = jax.lax.scan(group, start, penalties)
    many = groups * width
    kernel = jnp.moveaxis(made.kernel, 1, 2).reshape(many, problems, -1, outputs)
    return Path(
        kernel=jnp.moveaxis(kernel, 1, 2).reshape(many, -1, problems * outputs),
        bias=made.bias.reshape(many, problems * outputs),
        gradient=made.gradient.reshape(many, problems).max(-1),
        steps=made.steps.reshape(many, problems).max(-1),
    )
