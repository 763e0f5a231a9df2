"""Self-attention: Vaswani et al., "Attention Is All You Need" (arXiv:1706.03762)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdl.errors import InputError
from jaxdl.models.staged import Mode


def attention_weights(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from heads width"],
    mask: Bool[Array, "batch heads to from"] | None = None,
) -> Float[Array, "batch heads to from"]:
    """softmax(QKᵀ / √width): how much each position takes from each other one; rows sum to one.

    Args:
      query: what each position looks for.
      key: what each position offers.
      mask: False where a position must not look; its dimensions may be 1.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32) / jnp.sqrt(query.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def plain_attention(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from heads width"],
    value: Float[Array, "batch from heads width"],
    mask: Bool[Array, "batch heads to from"] | None = None,
) -> tuple[Float[Array, "batch to heads width"], Float[Array, "batch heads to from"]]:
    """Scaled dot-product attention, equation 1 of the paper, and its weights.

    Without position embeddings it treats its input as a set: permuting the positions permutes the output.
    """
    weights = attention_weights(query, key, mask)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value), weights


class SelfAttention(nn.Module):
    """Multi-head self-attention over ``[batch, positions, width]``.

    Offers the tap ``attention``, weights ``[batch, heads, to, from]``. Untapped it runs
    `jax.nn.dot_product_attention`, which need not store them.
    """

    num_heads: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        batch, positions, width = x.shape
        if width % self.num_heads:
            raise InputError(f"width {width} cannot be divided among {self.num_heads} attention heads")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        split = (batch, positions, self.num_heads, width // self.num_heads)
        query, key, value = (
            nn.Dense(width, name=name, kernel_init=nn.initializers.xavier_uniform(), **dtypes)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        if mode.wants("attention"):
            mixed, weights = plain_attention(query, key, value)
            mode.offer("attention", weights)
        else:
            mixed = jax.nn.dot_product_attention(query, key, value)
            mode.offer("attention", lambda: None)
        return nn.Dense(width, name="out", kernel_init=nn.initializers.xavier_uniform(), **dtypes)(
            mixed.reshape(batch, positions, width)
        )
