"""What models of sequences of tokens share.

They are fed with ``{"tokens": int32[batch, length], "mask": bool[batch, length]}``; the mask, of which numbers will do,
is False where a sequence is padded. Between their stages flows ``{"hidden": [batch, length, width], "mask": …}``.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdl.errors import InputError
from jaxdl.models.staged import Mode

Flow = Mapping[str, jax.Array]


def token_spec(length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of an example of so many tokens."""
    return {"tokens": jax.ShapeDtypeStruct((length,), "int32"), "mask": jax.ShapeDtypeStruct((length,), "bool")}


def check_tokens(x: Any, kind: str) -> None:
    """Raises InputError for what no model of tokens called `kind` can read."""
    held = x if isinstance(x, Mapping) else {"": x}
    tokens, mask = held.get("tokens"), held.get("mask")
    if (
        held.keys() <= {"tokens", "mask", "types"}
        and tokens is not None
        and mask is not None
        and jnp.issubdtype(tokens.dtype, jnp.integer)
        and tokens.ndim == 2
        and all(one.shape == tokens.shape for one in held.values())
    ):
        return
    got = ", ".join(f"{name} {one.dtype}{list(one.shape)}".strip() for name, one in held.items())
    raise InputError(
        f"a {kind} reads a dict of tokens int32[batch, length] and mask bool[batch, length], False for padding (a bert "
        f"types int32[batch, length], too), got {got}"
    )


class SequenceDropout(nn.Module):
    """Dropout of ``[…, length, width]`` that draws the same for the first places, however many follow them.

    So a batch that is cut behind its last token (`training.lengths`) trains as the whole one does: of random bits each
    depends on its place among all of them, and the length is made their first axis.
    """

    rate: float

    @nn.compact
    def __call__(self, hidden: jax.Array, mode: Mode) -> jax.Array:
        drop = nn.Dropout(self.rate, deterministic=not mode.train)
        return jnp.moveaxis(drop(jnp.moveaxis(hidden, -2, 0)), 0, -2)


class EmbedTokens(nn.Module):
    """A learned vector for each token of a vocabulary."""

    vocabulary: int
    width: int
    dropout: float
    kind: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Flow, mode: Mode) -> Flow:
        check_tokens(x, self.kind)
        table = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, param_dtype=self.param_dtype, name="tokens")
        hidden = SequenceDropout(self.dropout)(table(x["tokens"]), mode)
        return {"hidden": hidden, "mask": x["mask"].astype(bool)}


def masked_mean(
    hidden: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]
) -> Float[Array, "batch width"]:
    """The mean over real tokens, in float32 or wider; zeros where there is none."""
    weights = mask.astype(jnp.promote_types(hidden.dtype, jnp.float32))[..., None]
    return ((hidden * weights).sum(1) / jnp.maximum(weights.sum(1), 1)).astype(hidden.dtype)


def masked_max(
    hidden: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]
) -> Float[Array, "batch width"]:
    """The largest over real tokens; zeros where there is none.

    Of values that are equal the first has the gradient: that of `max` counts them, see `layers.pool`.
    """
    low = jnp.where(mask[..., None], hidden, jnp.finfo(hidden.dtype).min)
    largest = jnp.take_along_axis(low, jax.lax.stop_gradient(low).argmax(1)[:, None], axis=1)[:, 0]
    return jnp.where(mask.any(1)[:, None], largest, 0)
