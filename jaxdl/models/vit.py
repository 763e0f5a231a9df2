"""Vision transformers: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929).

With the distillation token of Touvron et al., "Training data-efficient image transformers & distillation through
attention" (DeiT, arXiv:2012.12877). Without that token a DeiT is a ViT trained otherwise: DeiT-S is ``vit_s_16``.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.attention import Attention, check_heads
from jaxdl.models.layers import Head
from jaxdl.models.staged import Mode, Stage, Staged


class PatchEmbed(nn.Module):
    """Cuts the image into patches, maps each to a token, adds the other tokens in front and learned positions.

    Attributes:
      tokens: names of the tokens in front of the patches.
    """

    patch_size: int
    width: int
    tokens: tuple[str, ...]
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        patch = self.patch_size
        if x.ndim != 4 or x.shape[1] % patch or x.shape[2] % patch:
            raise InputError(
                f"a vit with patch_size={patch} needs [batch, height, width, channels] whose height and width it "
                f"divides, got {x.shape}"
            )
        # a convolution whose windows do not overlap, as one product: mapped over folds a convolution is slow
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x = nn.DenseGeneral(self.width, axis=(2, 4, 5), name="patch", **dtypes)(x).reshape(batch, -1, self.width)
        front = [self.param(name, nn.initializers.zeros, (1, 1, self.width), self.param_dtype) for name in self.tokens]
        front = [jnp.broadcast_to(token.astype(x.dtype), (batch, 1, self.width)) for token in front]
        x = jnp.concatenate([*front, x], axis=1)
        # attention alone does not know where a patch was
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width), self.param_dtype)
        x = x + position.astype(x.dtype)
        return nn.Dropout(self.dropout, deterministic=not mode.train)(x)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
      stochastic_depth: in training, the share of examples for which a branch is left out (arXiv:1603.09382).
    """

    num_heads: int
    mlp_width: int
    dropout: float
    stochastic_depth: float
    epsilon: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        drop = partial(nn.Dropout, self.dropout, deterministic=not mode.train)
        leave_out = partial(nn.Dropout, self.stochastic_depth, broadcast_dims=(1, 2), deterministic=not mode.train)
        y = nn.LayerNorm(self.epsilon, name="norm1", **dtypes)(x)
        y = Attention(self.num_heads, name="attention", **dtypes)(y, mode)
        x = x + leave_out()(drop()(y))
        y = nn.LayerNorm(self.epsilon, name="norm2", **dtypes)(x)
        y = nn.gelu(nn.Dense(self.mlp_width, name="mlp1", **dtypes)(y), approximate=False)
        y = nn.Dense(x.shape[-1], name="mlp2", **dtypes)(drop()(y))
        return x + leave_out()(drop()(y))


class TokenPool(nn.Module):
    """Final normalisation, then the features.

    The class token or the mean of all tokens, ``[batch, width]``, or the class and the distillation token side by side,
    ``[batch, 2·width]``. With `representation` a layer of that width and tanh follows, as in the paper's pretraining.
    """

    pool: str
    distilled: bool
    representation: int
    epsilon: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x = nn.LayerNorm(self.epsilon, name="norm", **dtypes)(x)
        if self.distilled:
            return x[:, :2].reshape(x.shape[0], -1)
        x = x[:, 0] if self.pool == "token" else x.mean(1)
        if self.representation:
            x = nn.tanh(nn.Dense(self.representation, name="representation", **dtypes)(x))
        return x


class DistilledHead(nn.Module):
    """The mean of two linear maps, one of the class token and one of the distillation token.

    In training too, as timm does: without a teacher both learn from the labels.
    """

    num_outputs: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        token, distilled = jnp.split(x, 2, axis=-1)
        linear = partial(nn.Dense, self.num_outputs, dtype=self.dtype, param_dtype=self.param_dtype)
        return (linear(name="dense")(token) + linear(name="dense_distilled")(distilled)) / 2


class ViT(Staged):
    """Stages ``embed, block1, …, block<depth>, pool, head``. Each block offers the tap ``block<i>/attention``.

    Attributes:
      patch_size: side of a square patch in pixels.
      width: of a token.
      depth: number of blocks.
      num_heads: attention heads; divides `width`.
      mlp_width: of the hidden layer in each block; 4 × `width` if 0.
      pool: ``"token"`` (the paper's class token) or ``"mean"`` (no class token; normalised, then averaged).
      distilled: whether there is a distillation token too, with a head of its own.
      representation: width of a tanh layer before the head; none if 0.
      epsilon: of layer normalisation; transformers (the library) has 1e-12, the others 1e-6.
      dropout: in training, after embedding, attention and both linear maps.
      stochastic_depth: in training, of the last block; it grows evenly from 0 in the first.
    """

    patch_size: int = 4
    width: int = 64
    depth: int = 4
    num_heads: int = 4
    mlp_width: int = 0
    pool: str = "token"
    distilled: bool = False
    representation: int = 0
    epsilon: float = 1e-6
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    @property
    def tokens(self) -> tuple[str, ...]:
        """Names of the tokens in front of the patches."""
        return ("class_token", "distillation_token") if self.distilled else ("class_token",) * (self.pool == "token")

    def stages(self) -> tuple[Stage, ...]:
        self._check()
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        blocks = tuple(
            (
                f"block{i + 1}",
                partial(
                    Block,
                    self.num_heads,
                    self.mlp_width or 4 * self.width,
                    self.dropout,
                    self.stochastic_depth * i / max(1, self.depth - 1),
                    self.epsilon,
                    **dtypes,
                ),
            )
            for i in range(self.depth)
        )
        head = DistilledHead if self.distilled else Head
        return (
            ("embed", partial(PatchEmbed, self.patch_size, self.width, self.tokens, self.dropout, **dtypes)),
            *blocks,
            ("pool", partial(TokenPool, self.pool, self.distilled, self.representation, self.epsilon, **dtypes)),
            ("head", partial(head, self.num_outputs, **dtypes)),
        )

    def _check(self) -> None:
        check_choice("pool", self.pool, ("token", "mean"))
        check_heads(self.width, self.num_heads)
        if self.distilled and (self.pool != "token" or self.representation):
            raise InputError(
                f"a vit with distilled=True has pool='token' and representation=0, not pool='{self.pool}' and "
                f"representation={self.representation}: its features are the class and the distillation token"
            )
        if not 0 <= self.stochastic_depth < 1:
            raise InputError(
                f"stochastic_depth of a vit is {self.stochastic_depth}; expected a share of at least 0 and less than 1"
            )
        if self.epsilon <= 0:
            raise InputError(f"epsilon of a vit is {self.epsilon}; expected a small positive number, such as 1e-6")
