"""Recurrent classifiers of text: an embedding, recurrent layers, the state after the last token."""

from functools import partial
from typing import Any

import flax.linen as nn

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import Head
from jaxdl.models.recurrent import CELLS, Recurrent, hidden_of
from jaxdl.models.sequence import (
    EmbedTokens,
    Flow,
    Pooled,
    SequenceDropout,
    by_sequence,
    masked_max,
    masked_mean,
    of_tokens,
)
from jaxdl.models.staged import Mode, Stage


class RecurrentLayer(nn.Module):
    """A recurrent layer and dropout; what it ends with flows on as ``last [batch, features of all directions]``."""

    features: int
    kind: str
    both_ways: bool
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        layer = Recurrent(self.features, self.kind, self.both_ways, name="cells", **dtypes)
        hidden, last = layer(*by_sequence(x))
        before = x["mask"].shape
        hidden = SequenceDropout(self.dropout)(hidden.reshape(*before, -1), mode)
        return {**x, "hidden": hidden, "last": hidden_of(last).reshape(*before[:-1], -1)}


class StatePool(nn.Module):
    """Features: the last states, the mean or largest of all outputs, or each token's own; see `RNN.pool`."""

    pool: str
    dropout: float

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Any:
        if self.pool == "none":
            return of_tokens({**x, "hidden": SequenceDropout(self.dropout)(x["hidden"], mode)})
        drop = nn.Dropout(self.dropout, deterministic=not mode.train)
        if self.pool == "last":
            return drop(x["last"])
        return drop({"mean": masked_mean, "max": masked_max}[self.pool](x["hidden"], x["mask"]))


class RNN(Pooled):
    """Stages ``embed, layer1, …, layer<depth>, pool, head``.

    Attributes:
      kind: of the cells: ``"lstm"``, ``"gru"`` or ``"rnn"``.
      vocabulary: number of tokens known.
      width: of a token's vector.
      features: of the hidden state, for each direction.
      depth: number of layers.
      both_ways: whether each layer also goes from the last token to the first.
      pool: ``"last"``, the state after the last token (of each direction), ``"mean"`` or ``"max"`` of all outputs;
        ``"none"``, every token's own, so that the head gives outputs for each of them.
      dropout: in training, after the embedding, between layers and before the head.
    """

    kind: str = "lstm"
    vocabulary: int = 30522
    width: int = 128
    features: int = 128
    depth: int = 1
    both_ways: bool = True
    pool: str = "last"
    dropout: float = 0.2

    def stages(self) -> tuple[Stage, ...]:
        check_choice("kind", self.kind, CELLS)
        check_choice("pool", self.pool, ("last", "mean", "max", "none"))
        if min(self.vocabulary, self.width, self.features, self.depth) < 1:
            raise InputError(
                f"an rnn needs a vocabulary, width, features and depth of at least 1, not {self.vocabulary}, "
                f"{self.width}, {self.features} and {self.depth}"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        # that of the last layer comes after pooling
        layers = tuple(
            (
                f"layer{i}",
                partial(
                    RecurrentLayer,
                    self.features,
                    self.kind,
                    self.both_ways,
                    self.dropout if i < self.depth else 0.0,
                    **dtypes,
                ),
            )
            for i in range(1, self.depth + 1)
        )
        return (
            ("embed", partial(EmbedTokens, self.vocabulary, self.width, self.dropout, self.kind, **dtypes)),
            *layers,
            ("pool", partial(StatePool, self.pool, self.dropout)),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )
