"""Logistic regression and the linear support vector machine, along the path of penalties."""

import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.validation.probes.descent import Problem, Solution, leading_directions, minimise
from jaxdl.validation.probes.standard import Shared, Standard, alone

TOGETHER = 500  # outputs of folds and classes that are moved at once: bounds the memory
FURTHER = 2.0  # how many of the last step between penalties are gone beyond its end at the most
MOST_STEPS = 2000  # for each penalty
TOLERANCE = 1e-4  # scikit-learn's, where residuals are large

Kind = Literal["logistic", "svm"]


class Path(NamedTuple):
    """Linear heads, one for each penalty, of standardised features.

    Attributes:
      kernel: ``[penalties, columns, outputs]``.
      bias: ``[penalties, outputs]``.
      gradient: what is left of it, as `descent.Solution` measures it.
    """

    kernel: Float[Array, "penalties columns outputs"]
    bias: Float[Array, "penalties outputs"]
    gradient: Float[Array, " penalties"]


def fit_linear(
    kind: Kind,
    standard: Standard,
    labels: np.ndarray,
    classes: int,
    penalties: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
) -> Path:
    """A linear head for every penalty; two classes have one output.

    ``logistic`` is multinomial logistic regression, the minimum of ``sum(cross-entropy) + penalty / 2 × |kernel|²``:
    scikit-learn's LogisticRegression with ``C = 1 / penalty``.

    ``svm`` is one class against the rest, for each the minimum of ``sum(max(0, 1 ∓ output)²) + penalty / 2 ×
    |kernel|²``: scikit-learn's LinearSVC with ``C = 1 / penalty``, but that the bias is not penalised here (there it is
    the weight of a column of ``intercept_scaling``).

    Args:
      kind: which of the two.
      standard: the training part.
      labels: class of each of its rows; of padding any.
      classes: how many there are.
      penalties: falling, so that each begins where the ones before it, which are stronger, lead.
      tolerance: no entry of the gradient of the mean loss, by the weights of the standardised columns and the bias, is
        larger at the end than this share of the mean residual. A residual is the size of the loss's derivative by the
        output (1 if that is larger): of logistic regression 1 less the probability of the example's class.
    """
    loss, targets = _targets(kind, labels, classes)
    (kernel, bias), gradient = _follow(alone(standard), targets, penalties, loss, tolerance)
    return Path(jnp.moveaxis(kernel[:, 0], 1, 2), bias[:, 0], gradient[:, 0])


def fit_folds(
    kind: Kind,
    shared: Shared,
    labels: np.ndarray,
    classes: int,
    penalties: np.ndarray,
    test: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """`fit_linear` in many folds at once, for what each says of its test part.

    Args:
      kind: which of the two.
      shared: the folds.
      labels: class of each of their rows.
      classes: how many there are.
      penalties: falling.
      test: ``[folds, test]``, rows that each fold is to predict.
      tolerance: as of `fit_linear`.

    Returns:
      Outputs ``[folds, penalties, test, outputs]``, and the gradient ``[folds, penalties]``, as of `Path`.
    """
    loss, targets = _targets(kind, labels, classes)
    many = len(test)
    parts = math.ceil(many / max(1, TOGETHER // targets[..., 0].size))
    size = math.ceil(many / parts)
    made = []
    for begin in range(0, many, size):
        places = np.minimum(np.arange(begin, begin + size), many - 1)  # the last part is filled with the last fold
        part = Shared(shared.features, *(array[places] for array in shared[1:]))
        one = _follow(part, targets, penalties, loss, tolerance, jnp.asarray(test[places]))
        made.append(jax.tree.map(lambda a: np.moveaxis(np.asarray(a), 1, 0)[: many - begin], one))  # noqa: B023
    outputs, gradient = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
    return outputs, gradient


def _targets(kind: Kind, labels: np.ndarray, classes: int) -> tuple[str, np.ndarray]:
    """The loss, and what it takes: ``[problems, outputs, rows]``, each penalty having as many problems."""
    member = np.eye(classes)[labels].T
    if kind == "svm":
        return "hinge", (member * 2 - 1)[classes == 2 :, None]
    return ("sigmoid", member[None, 1:]) if classes == 2 else ("softmax", member[None])


def _follow(
    shared: Shared,
    targets: np.ndarray,
    penalties: np.ndarray,
    loss: str,
    tolerance: float,
    test: jax.Array | None = None,
) -> tuple:
    if (np.diff(penalties) > 0).any():
        raise ValueError("the penalties do not fall")
    dtype = shared.features.dtype
    steps = -np.diff(np.log(penalties), prepend=np.log(penalties[:1]))  # how far each is from the one before it
    ratio = np.zeros(len(penalties))
    ratio[2:] = np.minimum(steps[2:] / np.maximum(steps[1:-1], 1e-12), FURTHER)
    return _follow_penalties(
        shared,
        jnp.asarray(targets, dtype),
        jnp.asarray(penalties, dtype),
        jnp.asarray(ratio, dtype),
        test,
        loss=loss,
        tolerance=tolerance,
    )


@partial(jax.jit, static_argnames=("loss", "tolerance"))
def _follow_penalties(
    shared: Shared,
    targets: jax.Array,
    penalties: jax.Array,
    ratio: jax.Array,
    test: jax.Array | None,
    *,
    loss: str,
    tolerance: float,
) -> tuple:
    """One penalty after the other, in one program; the lanes are the folds, of each all problems.

    The optimum moves nearly evenly with the logarithm of the penalty: each begins where the last two lead.
    """
    folds, problems, outputs = len(shared.weight), *targets.shape[:2]
    each = lambda array: jnp.repeat(array, problems, axis=0)  # noqa: E731
    directions, variance, rest = leading_directions(shared.features)
    problem = Problem(
        features=shared.features,
        weight=each(shared.weight),
        targets=jnp.tile(targets, (folds, 1, 1)) if problems > 1 else targets,
        mean=each(shared.mean),
        inverse=each(shared.inverse),
        penalty=jnp.ones(folds * problems, penalties.dtype),
        directions=directions,
        variance=variance,
        rest=rest,
    )
    join = lambda array: array.reshape(folds, problems * outputs, *array.shape[2:])  # noqa: E731

    def keep(solution: Solution) -> tuple:
        kernel, bias = solution.point
        # adding a number to all logits of an example changes nothing: of all biases alike the one around zero
        shift = bias.mean(-1, keepdims=True) if loss == "softmax" else jnp.zeros_like(bias)
        if test is None:
            found = join(kernel), join(bias - shift)
        else:
            logits = join(solution.logits - shift[:, :, None])
            found = jnp.moveaxis(jnp.take_along_axis(logits, test[:, None], 2), 1, 2)
        return found, solution.gradient.reshape(folds, problems).max(-1)

    def follow(held: tuple, now: tuple) -> tuple:
        last, before = held
        penalty, further = now
        start = jax.tree.map(lambda a, b: a + further * (a - b), last, before)
        mine = problem._replace(penalty=problem.penalty * penalty)
        solution = minimise(mine, start, loss=loss, tolerance=tolerance, most=MOST_STEPS)
        return (solution.point, last), keep(solution)

    lanes, dtype = folds * problems, penalties.dtype
    start = jnp.zeros((lanes, outputs, shared.features.shape[1]), dtype), jnp.zeros((lanes, outputs), dtype)
    return jax.lax.scan(follow, (start, start), (penalties, ratio))[1]
