"""Convolutions over words: Kim, "Convolutional Neural Networks for Sentence Classification" (arXiv:1408.5882)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError
from jaxdl.models.layers import Head
from jaxdl.models.sequence import EmbedTokens, Flow, by_sequence, masked_max
from jaxdl.models.staged import Mode, Stage, Staged


class Convolutions(nn.Module):
    """Filters of several widths side by side, and a ReLU; each output belongs to the token in its middle.

    Padding counts as zeros, as what is beyond the ends does.
    """

    features: int
    widths: tuple[int, ...]
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        rows, real = by_sequence(x)
        hidden = jnp.where(real[..., None], rows, 0)
        length = hidden.shape[1]
        made = []
        for width in self.widths:
            before = (width - 1) // 2
            padded = jnp.pad(hidden, ((0, 0), (before, width - 1 - before), (0, 0)))
            # windows as one product: mapped over folds a convolution is slow
            windows = jnp.concatenate([padded[:, i : i + length] for i in range(width)], -1)
            layer = nn.Dense(self.features, dtype=self.dtype, param_dtype=self.param_dtype, name=f"width{width}")
            made.append(nn.relu(layer(windows)))
        return {**x, "hidden": jnp.concatenate(made, -1).reshape(*x["mask"].shape, -1)}


class MaxOverTime(nn.Module):
    """Features ``[batch, width]``: the largest over all tokens."""

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> jax.Array:
        return masked_max(x["hidden"], x["mask"])


class TextCNN(Staged):
    """Stages ``embed, conv, pool, head``.

    Attributes:
      vocabulary: number of tokens known.
      width: of a token's vector.
      features: filters of each width.
      widths: of the filters, in tokens.
      dropout: in training, before the head.
    """

    SEQUENCES = True

    vocabulary: int = 30522
    width: int = 128
    features: int = 100
    widths: tuple[int, ...] = (3, 4, 5)
    dropout: float = 0.5

    def stages(self) -> tuple[Stage, ...]:
        if min(self.vocabulary, self.width, self.features) < 1 or not self.widths:
            raise InputError(
                "a textcnn needs a vocabulary, width and features of at least 1 and at least one of widths, not "
                f"{self.vocabulary}, {self.width}, {self.features} and {self.widths}"
            )
        if len(set(self.widths)) < len(self.widths):
            raise InputError(f"widths of a textcnn are {self.widths}; expected different ones")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return (
            ("embed", partial(EmbedTokens, self.vocabulary, self.width, 0.0, "textcnn", **dtypes)),
            ("conv", partial(Convolutions, self.features, self.widths, **dtypes)),
            ("pool", MaxOverTime),
            ("head", partial(Head, self.num_outputs, self.dropout, **dtypes)),
        )
