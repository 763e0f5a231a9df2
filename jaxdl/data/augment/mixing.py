"""MixUp and CutMix: part of another example in each image, and in its label."""

import jax
import jax.numpy as jnp

from jaxdl.data.augment.images import within

SHARE, PARTNER, WHICH, BOX = 0, 1, 2, 3  # what a draw is for


def mix(
    images: jax.Array,
    keys: jax.Array,
    real: jax.Array,
    *,
    mixup: float | None = None,
    cutmix: float | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Every real example mixed with another real one; where both kinds are wanted, by a toss of a coin for each.

    Args:
      images: ``float32[batch, height, width, channels]``.
      keys: one for each example.
      real: ``bool[batch]``, False for rows that only pad; the real ones come first.
      mixup: alpha of MixUp: pixels are ``share * own + (1 - share) * other`` with a share from Beta(alpha, alpha)
        (Zhang et al. 2018, arXiv:1710.09412); None to do without.
      cutmix: alpha of CutMix: a rectangle of the other image with the image's own aspect, of an area of 1 - Beta(alpha,
        alpha), cut at the borders (Yun et al. 2019, arXiv:1905.04899); None to do without.

    Returns:
      The images; the row of the other example, and the own share, as in `Augmented`. CutMix's share is counted in
      pixels.
    """
    rows = jnp.arange(len(images), dtype=jnp.int32)
    count = jnp.maximum(real.sum(dtype=jnp.int32), 1)
    # one of the others, each as likely; a lonely example is its own
    ahead = 1 + jnp.floor(_uniform(keys, PARTNER) * (count - 1)).astype(jnp.int32)
    partner = jnp.where(real, (rows + jnp.minimum(ahead, jnp.maximum(count - 1, 1))) % count, rows)
    others = images[partner]
    made = []
    if mixup is not None:
        share = jax.vmap(lambda key: jax.random.beta(jax.random.fold_in(key, SHARE), mixup, mixup))(keys)
        lot = share[:, None, None, None]
        made.append((lot * images + (1 - lot) * others, share))
    if cutmix is not None:
        pasted = jax.vmap(lambda key: _box(key, *images.shape[1:3], cutmix))(keys)
        made.append((jnp.where(pasted, others, images), 1 - pasted.mean((1, 2, 3), dtype=jnp.float32)))
    mixed, share = made[0]
    if len(made) == 2:
        second = _uniform(keys, WHICH) < 0.5
        mixed = jnp.where(second[:, None, None, None], made[1][0], mixed)
        share = jnp.where(second, made[1][1], share)
    alone = (partner == rows) | (share == 1)
    mixed = jnp.where(alone[:, None, None, None], images, mixed)
    return mixed, jnp.where(alone, rows, partner), jnp.where(alone, 1, share)


def _uniform(keys: jax.Array, purpose: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, purpose)))(keys)


def _box(key: jax.Array, height: int, width: int, alpha: float) -> jax.Array:
    """``bool[height, width, 1]``: CutMix's rectangle, whose centre is anywhere in the image."""
    side = jnp.sqrt(1 - jax.random.beta(jax.random.fold_in(key, SHARE), alpha, alpha))
    centre = jax.random.uniform(jax.random.fold_in(key, BOX), (2,))
    tall, wide = side * height, side * width
    return within(height, width, centre[0] * height - tall / 2, centre[1] * width - wide / 2, tall, wide)
