"""How a network knows where in a sequence something stands: attention by itself treats its input as a set."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdl.errors import InputError


def sinusoidal(positions: int, width: int, base: float = 10_000.0) -> Float[np.ndarray, "positions width"]:
    """Sines and cosines in turn, section 3.5 of Vaswani et al. (arXiv:1706.03762); they are added to the input.

    Column 2i holds sin(position / base^(2i/width)), column 2i + 1 the cosine of the same.
    """
    angles = _angles(positions, width, base)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(positions, -1)[:, :width].astype(np.float32)


def _angles(positions: int, width: int, base: float) -> Float[np.ndarray, "positions frequencies"]:
    return np.arange(positions)[:, None] * base ** (-np.arange(0, width, 2) / width)


class LearnedPositions(nn.Module):
    """Adds a learned vector for each position to ``[…, positions, width]``.

    Attributes:
      longest: the number of positions that there are vectors for.
      scale: standard deviation of their numbers at first.
    """

    longest: int
    param_dtype: str = "float32"
    scale: float = 0.02

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Raises InputError for more positions than that."""
        if x.shape[-2] > self.longest:
            raise InputError(
                f"the input has {x.shape[-2]} positions, and the network knows {self.longest}: shorten the input, or "
                "divide it into windows"
            )
        # of the name of no kernel or embedding: weight decay would only pull what is added towards zero
        table = self.param("table", nn.initializers.normal(self.scale), (self.longest, x.shape[-1]), self.param_dtype)
        return x + table[: x.shape[-2]].astype(x.dtype)


def rotate(x: Float[Array, "batch positions heads width"], base: float = 10_000.0) -> Array:
    """Rotary positions of queries or keys: Su et al., "RoFormer" (arXiv:2104.09864), by halves as in Llama.

    Numbers i and i + width/2 are a point in the plane, which is turned by position / base^(2i/width). The product of a
    query and a key then depends on how far they are from each other alone.

    Raises:
      InputError: for an odd width.
    """
    positions, width = x.shape[1], x.shape[3]
    if width % 2:
        raise InputError(f"rotary positions turn pairs of numbers; heads of width {width} are odd")
    angles = _angles(positions, width, base)[:, None]
    cos, sin = jnp.float32(np.cos(angles)), jnp.float32(np.sin(angles))
    one, other = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, axis=-1)
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], -1).astype(x.dtype)


def relative_buckets(
    to: int, offered: int, *, both_ways: bool = True, buckets: int = 32, farthest: int = 128
) -> Int[np.ndarray, "to from"]:
    """The bucket of each distance from a position that looks to one that it looks at, as in T5 (arXiv:1910.10683).

    Half of the buckets hold one distance each, the others logarithmically more up to `farthest`, the last all beyond.

    Args:
      to: number of positions that look.
      offered: of those that are looked at.
      both_ways: whether what comes later has half of the buckets to itself; else it shares that of distance 0.
      buckets: how many there are.
      farthest: distance from which on all share a bucket.
    """
    distance = np.arange(offered) - np.arange(to)[:, None]
    first = np.zeros_like(distance)
    if both_ways:
        buckets //= 2
        first = buckets * (distance > 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    # in float32, as T5 was trained: at powers of two it decides on which side of a border a distance is
    log = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(farthest / exact)
    )
    far = exact + (log * np.float32(buckets - exact)).astype(int)
    return first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))


class RelativeBias(nn.Module):
    """T5's learned bias ``[1, heads, to, from]`` of the scores, by bucket of distance; see `relative_buckets`."""

    num_heads: int
    both_ways: bool = True
    buckets: int = 32
    farthest: int = 128
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, to: int, offered: int) -> Float[Array, "1 heads to from"]:
        shape = self.buckets, self.num_heads
        table = self.param("table", nn.initializers.normal(self.num_heads**-0.5), shape, self.param_dtype)
        chosen = relative_buckets(to, offered, both_ways=self.both_ways, buckets=self.buckets, farthest=self.farthest)
        return jnp.moveaxis(table[chosen], 2, 0)[None]
