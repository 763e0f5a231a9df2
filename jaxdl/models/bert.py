"""BERT: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (arXiv:1810.04805).

Smaller ones by Turc et al. (arXiv:1908.08962); MiniLM by Wang et al. (arXiv:2002.10957), with the mean over tokens of
Reimers and Gurevych's sentence-transformers (arXiv:1908.10084).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.attention import Attention, check_heads
from jaxdl.models.layers import Head
from jaxdl.models.masks import Mask
from jaxdl.models.positions import LearnedPositions
from jaxdl.models.sequence import (
    Flow,
    Pooled,
    SequenceDropout,
    by_sequence,
    carried_by,
    check_tokens,
    masked_mean,
    of_tokens,
)
from jaxdl.models.staged import Mode, Stage

POOLS = ("pooler", "token", "mean", "none")


class Embed(nn.Module):
    """The sum of a vector for each token, its type and its position, normalised.

    Without ``types`` in the input all are of the first: one sentence.
    """

    vocabulary: int
    width: int
    longest: int
    types: int
    epsilon: float
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        check_tokens(x, "bert")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        table = partial(nn.Embed, features=self.width, embedding_init=nn.initializers.normal(0.02), **dtypes)
        hidden = table(self.vocabulary, name="tokens")(x["tokens"])
        hidden = LearnedPositions(self.longest, self.param_dtype, name="positions")(hidden)
        types = table(self.types, name="types")
        hidden = hidden + types(x["types"] if "types" in x else jnp.zeros_like(x["tokens"]))
        hidden = nn.LayerNorm(self.epsilon, name="norm", **dtypes)(hidden)
        hidden = SequenceDropout(self.dropout)(hidden, mode)
        return {"hidden": hidden, "mask": x["mask"].astype(bool), **carried_by(x)}


class Block(nn.Module):
    """Post-norm transformer block: norm(x + attention(x)), then norm(x + mlp(x)); its GELU is the exact one."""

    num_heads: int
    mlp_width: int
    epsilon: float
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        drop = partial(SequenceDropout, self.dropout)
        norm = partial(nn.LayerNorm, self.epsilon, **dtypes)
        hidden, (each, real) = x["hidden"], by_sequence(x)
        y = Attention(self.num_heads, name="attention", **dtypes)(each, mode, Mask(real=real)).reshape(hidden.shape)
        hidden = norm(name="norm1")(hidden + drop()(y, mode))
        y = nn.gelu(nn.Dense(self.mlp_width, name="mlp1", **dtypes)(hidden), approximate=False)
        y = nn.Dense(hidden.shape[-1], name="mlp2", **dtypes)(y)
        return {**x, "hidden": norm(name="norm2")(hidden + drop()(y, mode))}


class Pool(nn.Module):
    """From hidden states to features, see `Bert.pool`."""

    pool: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Any:
        hidden = x["hidden"]
        if self.pool == "none":
            return of_tokens(x)
        if self.pool == "mean":
            return masked_mean(hidden, x["mask"])
        first = hidden[..., 0, :]
        if self.pool == "token":
            return first
        return nn.tanh(nn.Dense(hidden.shape[-1], dtype=self.dtype, param_dtype=self.param_dtype, name="dense")(first))


class Bert(Pooled):
    """Stages ``embed, block1, …, block<depth>, pool, head``. Each block offers the tap ``block<i>/attention``.

    It is fed with tokens and their mask, see `sequence`, and if there are several sentences with ``types int32[batch,
    length]``, the number of the sentence.

    Attributes:
      vocabulary: number of tokens known.
      width: of a hidden state.
      depth: number of blocks.
      num_heads: attention heads; divides `width`.
      mlp_width: of the hidden layer in each block; 4 × `width` if 0.
      longest: positions known.
      types: sentences known.
      pool: the features: ``"pooler"``, a layer and tanh on the first token (``[CLS]``) as pretrained; ``"token"``, that
        token alone; ``"mean"`` of all tokens, as sentence-transformers take it; ``"none"``, every token's own, so that
        the head gives outputs for each of them.
      epsilon: of layer normalisation.
      dropout: in training, after embedding, attention and each block's last linear map, and before the head. (That of
        attention weights is left out: the fast ways do not store them.)
    """

    vocabulary: int = 30522
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int = 0
    longest: int = 512
    types: int = 2
    pool: str = "pooler"
    epsilon: float = 1e-12
    dropout: float = 0.1

    # Fine-tuned on 828 questions of XQuAD (rate 1e-4, 3 epochs) MiniLM gets an F1 of 37 % on other articles; with a
    # head of a tenth of this size 22 %.
    HEAD_SCALE = 1.0
    HIGHEST_RATE = 3e-4  # Devlin et al. 2018 (arXiv:1810.04805) take 2e-5 to 5e-5, Turc et al. 2019 up to 3e-4

    def stages(self) -> tuple[Stage, ...]:
        self._check()
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        embed = partial(Embed, self.vocabulary, self.width, self.longest, self.types, self.epsilon, self.dropout)
        block = partial(Block, self.num_heads, self.mlp_width or 4 * self.width, self.epsilon, self.dropout, **dtypes)
        return (
            ("embed", partial(embed, **dtypes)),
            *((f"block{i + 1}", block) for i in range(self.depth)),
            ("pool", partial(Pool, self.pool, **dtypes)),
            ("head", partial(Head, self.num_outputs, self.dropout, **dtypes)),
        )

    def _check(self) -> None:
        check_choice("pool", self.pool, POOLS)
        check_heads(self.width, self.num_heads)
        if min(self.vocabulary, self.longest, self.types) < 1:
            raise InputError(
                f"a bert needs a vocabulary, longest and types of at least 1, not {self.vocabulary}, {self.longest} "
                f"and {self.types}"
            )
        if self.epsilon <= 0:
            raise InputError(f"epsilon of a bert is {self.epsilon}; expected a small positive number, such as 1e-12")
