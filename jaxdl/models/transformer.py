"""Transformers to train from scratch on text, that know the order of tokens in one of several ways, or not at all.

Blocks with normalisation before each branch, as in GPT-2 and T5 (Xiong et al., arXiv:2002.04745): they learn without a
warm-up. For published encoders see `bert`.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.attention import Attention, check_heads
from jaxdl.models.layers import Head
from jaxdl.models.masks import Mask
from jaxdl.models.positions import LearnedPositions, RelativeBias, sinusoidal
from jaxdl.models.sequence import (
    Flow,
    Pooled,
    SequenceDropout,
    by_sequence,
    carried_by,
    check_tokens,
    masked_last,
    masked_max,
    masked_mean,
    of_tokens,
)
from jaxdl.models.staged import Mode, Stage

POSITIONS = ("none", "learned", "sinusoidal", "rotary", "relative")
POOLS = {"mean": masked_mean, "max": masked_max, "last": masked_last}
ROTARY = 10_000.0  # the slowest turns take as many tokens, see `positions.rotate`


class Embed(nn.Module):
    """A vector for each token, and with learned or sinusoidal positions one for its place, of about the same size."""

    vocabulary: int
    width: int
    positions: str
    longest: int
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        check_tokens(x, "transformer")
        table = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, param_dtype=self.param_dtype, name="tokens")
        hidden = table(x["tokens"])
        if self.positions == "learned":
            place = LearnedPositions(self.longest, self.param_dtype, scale=self.width**-0.5, name="positions")
            hidden = place(hidden)
        if self.positions == "sinusoidal":  # section 3.4 of arXiv:1706.03762: the tokens are made larger
            waves = jnp.asarray(sinusoidal(hidden.shape[-2], self.width), hidden.dtype)
            hidden = hidden * self.width**0.5 + waves
        hidden = SequenceDropout(self.dropout)(hidden, mode)
        return {"hidden": hidden, "mask": x["mask"].astype(bool), **carried_by(x)}


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). With relative positions it has a bias of each distance."""

    num_heads: int
    key_heads: int
    mlp_width: int
    positions: str
    causal: bool
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        drop, norm = partial(SequenceDropout, self.dropout), partial(nn.LayerNorm, **dtypes)
        hidden = x["hidden"]
        each, real = by_sequence({**x, "hidden": norm(name="norm1")(hidden)})
        bias = None
        if self.positions == "relative":
            place = RelativeBias(self.num_heads, not self.causal, param_dtype=self.param_dtype, name="positions")
            bias = place(each.shape[1], each.shape[1])
        rotary = ROTARY if self.positions == "rotary" else 0.0
        attention = Attention(self.num_heads, self.key_heads, rotary=rotary, name="attention", **dtypes)
        y = attention(each, mode, Mask(real=real, causal=self.causal), bias).reshape(hidden.shape)
        hidden = hidden + drop()(y, mode)
        y = nn.Dense(self.mlp_width, name="mlp1", **dtypes)(norm(name="norm2")(hidden))
        y = nn.Dense(hidden.shape[-1], name="mlp2", **dtypes)(nn.gelu(y, approximate=False))
        return {**x, "hidden": hidden + drop()(y, mode)}


class Pool(nn.Module):
    """The last normalisation, then from hidden states to features: see `Transformer.pool`."""

    pool: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Any:
        hidden = nn.LayerNorm(name="norm", dtype=self.dtype, param_dtype=self.param_dtype)(x["hidden"])
        return of_tokens({**x, "hidden": hidden}) if self.pool == "none" else POOLS[self.pool](hidden, x["mask"])


class Transformer(Pooled):
    """Stages ``embed, block1, …, block<depth>, pool, head``. Each block offers the tap ``block<i>/attention``.

    Attributes:
      vocabulary: number of tokens known.
      width: of a hidden state.
      depth: number of blocks.
      num_heads: attention heads; divides `width`.
      key_heads: of keys and values, where queries share them; divides `num_heads`; 0 for as many.
      mlp_width: of the hidden layer in each block; 4 × `width` if 0.
      positions: how it knows where a token stands: ``"learned"``, a vector for each place, of which there are
        `longest`; ``"sinusoidal"``, waves (arXiv:1706.03762); ``"rotary"``, queries and keys are turned by their place
        (arXiv:2104.09864); ``"relative"``, attention has a bias of each distance (arXiv:1910.10683; here each block
        learns its own); ``"none"``: then it reads a set of tokens, unless it is causal.
      longest: places known with learned positions.
      causal: whether a token sees none that comes after it.
      pool: the features: ``"mean"`` or ``"max"`` of all tokens, the ``"last"`` token alone (in a causal network no
        other has seen all of them); ``"none"``, every token's own, so that the head gives outputs for each of them.
      dropout: in training, after embedding, attention and each block's last linear map, and before the head.
    """

    vocabulary: int = 30522
    width: int = 128
    depth: int = 2
    num_heads: int = 4
    key_heads: int = 0
    mlp_width: int = 0
    positions: str = "learned"
    longest: int = 512
    causal: bool = False
    pool: str = "mean"
    dropout: float = 0.1

    def stages(self) -> tuple[Stage, ...]:
        self._check()
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        embed = partial(Embed, self.vocabulary, self.width, self.positions, self.longest, self.dropout, **dtypes)
        heads, mlp_width = (self.num_heads, self.key_heads), self.mlp_width or 4 * self.width
        block = partial(Block, *heads, mlp_width, self.positions, self.causal, self.dropout, **dtypes)
        return (
            ("embed", embed),
            *((f"block{i + 1}", block) for i in range(self.depth)),
            ("pool", partial(Pool, self.pool, **dtypes)),
            ("head", partial(Head, self.num_outputs, self.dropout, **dtypes)),
        )

    def _check(self) -> None:
        check_choice("positions", self.positions, POSITIONS)
        check_choice("pool", self.pool, (*POOLS, "none"))
        check_heads(self.width, self.num_heads)
        if self.key_heads and self.num_heads % self.key_heads:
            raise InputError(
                f"{self.num_heads} attention heads cannot share the keys of {self.key_heads}; expected a divisor"
            )
        if min(self.vocabulary, self.longest, self.depth) < 1:
            raise InputError(
                f"a transformer needs a vocabulary, longest and depth of at least 1, not {self.vocabulary}, "
                f"{self.longest} and {self.depth}"
            )
        if self.positions == "rotary" and (each := self.width // self.num_heads) % 2:
            raise InputError(
                f"rotary positions turn pairs of numbers, and {self.num_heads} heads of a width of {self.width} have "
                f"{each} each: take a width that gives them an even number"
            )
