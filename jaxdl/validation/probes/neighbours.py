"""Heads that fit nothing: the nearest neighbours, and the nearest class mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.validation.probes.standard import Standard

PART = 512  # test rows whose distances to all training rows are held at once


def knn(standard: Standard, labels: np.ndarray, classes: int, neighbours: np.ndarray) -> np.ndarray:
    """What the nearest training rows are, for all numbers of neighbours from one sorting.

    Args:
      standard: training and test rows.
      labels: class or number of each training row; of padding any.
      classes: how many there are; 0 for numbers.
      neighbours: numbers of neighbours, each at most the number of training rows.

    Returns:
      ``[neighbours, test, classes]``: log of the share of votes, each class given 1/classes of a vote more so that none
      has the logarithm of 0. Of numbers their mean, ``[neighbours, test, 1]``.
    """
    votes = np.eye(classes)[labels] if classes else np.asarray(labels, float)[:, None]
    votes = jnp.asarray(votes, standard.train.dtype)
    most = int(max(neighbours))
    parts = [
        _running_sums(standard.train, standard.weight, votes, standard.test[i : i + PART], most=most)
        for i in range(0, len(standard.test), PART)
    ]
    k = np.asarray(neighbours)
    sums = np.moveaxis(np.concatenate([np.asarray(part) for part in parts])[:, k - 1], 1, 0)
    k = k[:, None, None]
    return np.log((sums + 1 / classes) / (k + 1)) if classes else sums / k


@partial(jax.jit, static_argnames="most")
def _running_sums(train: jax.Array, weight: jax.Array, votes: jax.Array, test: jax.Array, *, most: int) -> jax.Array:
    """``[test, most, classes]``: the votes of the nearest, of the nearest two, …"""
    distances = jnp.square(train).sum(-1) - 2 * test @ train.T  # squared, less what is the same for all training rows
    _, nearest = jax.lax.top_k(-jnp.where(weight > 0, distances, jnp.inf), most)
    return jnp.cumsum(votes[nearest], 1)


@partial(jax.jit, static_argnames="classes")
def nearest_mean(standard: Standard, labels: np.ndarray, *, classes: int) -> Float[Array, "1 test classes"]:
    """Log likelihood, up to what all classes share, of normal classes around their means with one variance in all
    directions: the nearest mean is the most likely class. Of a class without training rows the output means nothing;
    `heads.finished` replaces it."""
    member = jax.nn.one_hot(labels, classes, dtype=standard.train.dtype) * standard.weight[:, None]
    count = member.sum(0)
    means = (member.T @ standard.train) / jnp.maximum(count, 1)[:, None]
    within = (jnp.square(standard.train - means[labels]) * standard.weight[:, None]).mean(1).sum() / count.sum()
    distances = jnp.square(means).sum(-1) - 2 * standard.test @ means.T
    return (-distances / (2 * jnp.maximum(within, 1e-12)))[None]
