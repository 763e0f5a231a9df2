"""The vision transformer: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.attention import SelfAttention
from jaxdl.models.layers import Head
from jaxdl.models.staged import Mode, Stage, Staged


class PatchEmbed(nn.Module):
    """Cuts the image into patches, maps each to a token, adds the class token and learned positions."""

    patch_size: int
    width: int
    class_token: bool
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4 or x.shape[1] % self.patch_size or x.shape[2] % self.patch_size:
            raise InputError(
                f"a vit with patch_size={self.patch_size} needs [batch, height, width, channels] whose height and "
                f"width it divides, got {x.shape}"
            )
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.width, patch, patch, "VALID", dtype=self.dtype, param_dtype=self.param_dtype, name="patch")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width), self.param_dtype)
            token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        # attention alone does not know where a patch was
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width), self.param_dtype)
        x = x + position.astype(x.dtype)
        return nn.Dropout(self.dropout, deterministic=not mode.train)(x)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    num_heads: int
    mlp_width: int
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        drop = partial(nn.Dropout, self.dropout, deterministic=not mode.train)
        y = nn.LayerNorm(1e-6, name="norm1", **dtypes)(x)
        y = SelfAttention(self.num_heads, name="attention", **dtypes)(y, mode)
        x = x + drop()(y)
        y = nn.LayerNorm(1e-6, name="norm2", **dtypes)(x)
        y = nn.gelu(nn.Dense(self.mlp_width, name="mlp1", **dtypes)(y), approximate=False)
        y = nn.Dense(x.shape[-1], name="mlp2", **dtypes)(drop()(y))
        return x + drop()(y)


class TokenPool(nn.Module):
    """Final normalisation, then the class token or the mean of all tokens: ``[batch, width]``."""

    pool: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        x = nn.LayerNorm(1e-6, dtype=self.dtype, param_dtype=self.param_dtype, name="norm")(x)
        return x[:, 0] if self.pool == "token" else x.mean(1)


class ViT(Staged):
    """Stages ``embed, block1, …, block<depth>, pool, head``. Each block offers the tap ``block<i>/attention``.

    Attributes:
      patch_size: side of a square patch in pixels.
      width: of a token.
      depth: number of blocks.
      num_heads: attention heads; divides `width`.
      mlp_width: of the hidden layer in each block; 4 × `width` if 0.
      pool: ``"token"`` (the paper's class token) or ``"mean"``.
      dropout: in training, after embedding, attention and both linear maps.
    """

    patch_size: int = 4
    width: int = 64
    depth: int = 4
    num_heads: int = 4
    mlp_width: int = 0
    pool: str = "token"
    dropout: float = 0.0

    def stages(self) -> tuple[Stage, ...]:
        check_choice("pool", self.pool, ("token", "mean"))
        if not self.num_heads or self.width % self.num_heads:
            raise InputError(f"width {self.width} cannot be divided among {self.num_heads} attention heads")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        token = self.pool == "token"
        mlp_width = self.mlp_width or 4 * self.width
        blocks = tuple(
            (f"block{i + 1}", partial(Block, self.num_heads, mlp_width, self.dropout, **dtypes))
            for i in range(self.depth)
        )
        return (
            ("embed", partial(PatchEmbed, self.patch_size, self.width, token, self.dropout, **dtypes)),
            *blocks,
            ("pool", partial(TokenPool, self.pool, **dtypes)),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )
