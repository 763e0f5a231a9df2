"""Simulated problems whose truth is known, each cross-validated many times in one mapped program.

Features are normal, the target comes from a linear score, and the model is ridge with an unpenalised intercept (of
classes: on targets of -1 and 1, as scikit-learn's RidgeClassifier). Then the error of any fitted model on new examples
has a closed form, or is an integral over one or two normal variables, done by Gauss-Hermite quadrature to 1e-4 or
better: no test set, whose noise would count as a miss of the interval.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

PENALTY = 1.0


@dataclasses.dataclass(frozen=True)
class Problem:
    """A way to draw data sets, and how they are cross-validated.

    Attributes:
      n: examples.
      features: how many; `decay` is the power with which their variances fall, ``j**-decay``.
      k: folds; stratified by class, whole groups where there are groups.
      classes: two classes, or a number to predict.
      signal: standard deviation of the linear score; of classes in logits, of numbers against noise of 1.
      offset: added to the score, so that one class is rare.
      flipped: share of labels that are replaced by the other class.
      tails: degrees of freedom of Student's t noise (scaled to a variance of 1); 0 for normal noise.
      groups: of equal size, 0 for none; their members share half of the variance of their features and an effect on the
        target of standard deviation `group_effect`.
      penalty: of ridge.
      size: examples that are drawn from each fold's training part to train on, as for a learning curve; 0 for all.
    """

    n: int
    features: int
    k: int
    classes: bool = True
    signal: float = 3.0
    decay: float = 0.0
    offset: float = 0.0
    flipped: float = 0.0
    tails: float = 0.0
    groups: int = 0
    group_effect: float = 1.0
    penalty: float = PENALTY
    size: int = 0

    @property
    def scales(self) -> np.ndarray:
        """Standard deviation of each feature."""
        return np.arange(1, self.features + 1) ** (-self.decay / 2)

    @property
    def variance(self) -> float:
        """Of a number to predict: score, noise and the groups' effect."""
        return self.signal**2 + 1.0 + (self.group_effect**2 if self.groups else 0.0)

    @property
    def weights(self) -> np.ndarray:
        """Of the linear score: it has standard deviation `signal`, every feature the same share in it."""
        return self.signal / (np.sqrt(self.features) * self.scales)


def draw(problem: Problem, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features ``[n, features]``, targets ``[n]`` (classes are -1 and 1) and the number of each one's group."""
    keys = iter(jax.random.split(key, 7))
    x = jax.random.normal(next(keys), (problem.n, problem.features))
    group, effect = jnp.arange(problem.n), jnp.zeros(problem.n)
    if problem.groups:
        group = group % problem.groups
        centre = jax.random.normal(next(keys), (problem.groups, problem.features))
        x = jnp.sqrt(0.5) * (x + centre[group])
        effect = problem.group_effect * jax.random.normal(next(keys), (problem.groups,))[group]
    x = x * problem.scales
    score = x @ problem.weights + problem.offset + effect
    if problem.classes:
        y = jnp.where(jax.random.uniform(next(keys), score.shape) < jax.nn.sigmoid(score), 1.0, -1.0)
        return x, jnp.where(jax.random.uniform(next(keys), score.shape) < problem.flipped, -y, y), group
    if problem.tails:
        noise = jax.random.t(next(keys), problem.tails, score.shape) / np.sqrt(problem.tails / (problem.tails - 2))
    else:
        noise = jax.random.normal(next(keys), score.shape)
    return x, score + noise, group


def divide(problem: Problem, key: jax.Array, y: jax.Array, group: jax.Array) -> jax.Array:
    """The fold of each example: random, balanced by class, or by whole groups."""
    if problem.groups:
        return (jax.random.permutation(key, problem.groups) % problem.k)[group]
    order = jnp.lexsort((jax.random.uniform(key, y.shape), y if problem.classes else jnp.zeros_like(y)))
    return jnp.zeros(problem.n, int).at[order].set(jnp.arange(problem.n) % problem.k)


def fit(problem: Problem, gram: jax.Array, moment: jax.Array) -> jax.Array:
    """Ridge's coefficients, the intercept first, from sums over the training examples of z zᵀ and z y, z = (1, x)."""
    penalties = jnp.full(problem.features + 1, problem.penalty).at[0].set(1e-6)
    return solve(gram + jnp.diag(penalties), moment)


def solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """The solution of a system whose matrix is positive definite, by Gauss-Jordan elimination without pivoting.

    Many small systems at once: LAPACK would take them one by one, and mapped on two cores it was seen to wait forever.
    """
    system = jnp.concatenate([matrix, right[:, None]], 1)

    def eliminate(i: jax.Array, system: jax.Array) -> jax.Array:
        row = system[i] / system[i, i]
        return (system - system[:, i, None] * row).at[i].set(row)

    return jax.lax.fori_loop(0, len(matrix), eliminate, system)[:, -1]


def true_loss(problem: Problem, coefficients: jax.Array) -> jax.Array:
    """Expected loss on a new example (of a new group): the share of errors, or the squared error."""
    b, w, scales, beta = coefficients[0], coefficients[1:], problem.scales, problem.weights
    effect = problem.group_effect if problem.groups else 0.0
    if not problem.classes:
        return jnp.sum(((w - beta) * scales) ** 2) + (b - problem.offset) ** 2 + effect**2 + 1.0
    nodes, mass = np.polynomial.hermite_e.hermegauss(80)
    mass = mass / mass.sum()
    v = problem.signal * nodes  # the linear score of a new example; that of the model is normal, given v
    covariance = jnp.sum(w * beta * scales**2)
    spread = jnp.sqrt(jnp.maximum(jnp.sum((w * scales) ** 2) - covariance**2 / problem.signal**2, 1e-12))
    says_one = norm.cdf((b + covariance / problem.signal**2 * v) / spread)
    is_one = jax.nn.sigmoid(v[:, None] + problem.offset + effect * nodes) @ mass
    is_one = is_one * (1 - problem.flipped) + (1 - is_one) * problem.flipped
    return mass @ (says_one * (1 - is_one) + (1 - says_one) * is_one)


def losses(problem: Problem, z: jax.Array, y: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Of each example: 1 for an error, or the squared error."""
    said = z @ coefficients
    return ((said > 0) != (y > 0)).astype(jnp.float32) if problem.classes else jnp.square(said - y)


def cross_validated(problem: Problem, key: jax.Array, repeats: int) -> dict[str, jax.Array]:
    """One data set, cross-validated, with nested folds over `repeats` more divisions.

    Returns:
      ``y``, ``group``, ``fold`` and out-of-fold ``loss`` ``[n]``; ``truth`` (the expected loss of the model that is
      fitted to all n examples), ``truth_of_folds`` (the mean of those of the K fold models); per repeat ``outer[n]``
      losses and the folds ``outer_fold[n]``, and ``inner[k, n]``: losses of models that trained on neither the
      example's fold nor fold k, NaN in fold k itself (Bates, Hastie & Tibshirani 2024).
    """
    draw_key, fold_key, nested_key = jax.random.split(key, 3)
    x, y, group = draw(problem, draw_key)
    z = jnp.concatenate([jnp.ones((problem.n, 1)), x], 1)

    def sums(fold: jax.Array) -> tuple[jax.Array, jax.Array]:
        mine = jax.nn.one_hot(fold, problem.k, axis=0)[:, :, None] * z
        mine = jnp.moveaxis(mine, 1, 2).reshape(-1, problem.n)  # one large product instead of many small ones
        shape = (problem.k, problem.features + 1)
        return (mine @ z).reshape(*shape, -1), (mine @ y).reshape(shape)

    def drawn(fold: jax.Array) -> tuple[jax.Array, jax.Array]:
        row, key_here = jnp.arange(problem.k)[:, None], jax.random.fold_in(key, 3)
        order = jnp.argsort(
            jax.random.uniform(key_here, (problem.k, problem.n)) + (fold == row), 1
        )  # its test part last
        mine = jnp.zeros((problem.k, problem.n)).at[row, order[:, : problem.size]].set(1.0)
        weighted = mine[:, :, None] * z
        return jnp.einsum("kni,nj->kij", weighted, z), jnp.einsum("kni,n->ki", weighted, y)

    def outer(fold: jax.Array, grams: jax.Array, moments: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = drawn(fold) if problem.size else (grams.sum(0) - grams, moments.sum(0) - moments)
        models = jax.vmap(partial(fit, problem))(*parts)
        every = jax.vmap(lambda c: losses(problem, z, y, c))(models)
        return models, every[fold, jnp.arange(problem.n)]

    first, second = np.triu_indices(problem.k, 1)

    def nested(key: jax.Array) -> dict[str, jax.Array]:
        fold = divide(problem, key, y, group)
        grams, moments = sums(fold)
        less = lambda part: part.sum(0) - part[first] - part[second]  # noqa: E731
        every = jax.vmap(lambda g, m: losses(problem, z, y, fit(problem, g, m)))(less(grams), less(moments))
        inner = jnp.full((problem.k, problem.n), jnp.nan)
        for one, other in ((first, second), (second, first)):  # a pair's model serves both of its folds
            here = jnp.where(fold == other[:, None], every, 0.0)
            held = fold == other[:, None]
            inner = jnp.where(
                jax.ops.segment_max(held.astype(int), one, problem.k) > 0,
                jax.ops.segment_sum(here, one, problem.k),
                inner,
            )
        return {"outer_fold": fold, "outer": outer(fold, grams, moments)[1], "inner": inner}

    fold = divide(problem, fold_key, y, group)
    grams, moments = sums(fold)
    models, loss = outer(fold, grams, moments)
    everything = fit(problem, grams.sum(0), moments.sum(0))
    return {
        "y": y,
        "group": group,
        "fold": fold,
        "loss": loss,
        "truth": true_loss(problem, everything),
        "truth_of_folds": jax.vmap(partial(true_loss, problem))(models).mean(),
        **(jax.vmap(nested)(jax.random.split(nested_key, repeats)) if repeats else {}),
    }


def simulate(
    problem: Problem, repetitions: int, repeats: int, seed: int = 0, batch: int = 100
) -> dict[str, np.ndarray]:
    """`cross_validated` of so many data sets, `batch` of them at a time in one mapped program."""
    keys = jax.random.split(jax.random.key(seed), repetitions)
    program = jax.jit(jax.vmap(lambda key: cross_validated(problem, key, repeats)))
    made = [jax.device_get(program(keys[i : i + batch])) for i in range(0, repetitions, batch)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *made)
