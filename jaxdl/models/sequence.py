"""What models of sequences of tokens share.

They are fed with ``{"tokens": int32[batch, length], "mask": bool[batch, length]}``; the mask, of which numbers will do,
is False where a sequence is padded. Between their stages flows ``{"hidden": [batch, length, width], "mask": …}``. A
long text may come as windows, ``[batch, windows, length]``: each is a sequence by itself.

What a task needs to know of each token, such as the word that it is a part of, is beside them: ``carried``, a dict of
arrays ``[batch, …]``. Nothing is learned from it. It flows through all stages as it is, and a network that answers for
each token gives it back with its answers: ``{"outputs": [batch, length, num_outputs], **carried}``.
"""

from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdl.errors import InputError
from jaxdl.models.staged import Mode, Staged

Flow = Mapping[str, Any]
CARRIED = "carried"


def token_spec(length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of an example of so many tokens."""
    return {"tokens": jax.ShapeDtypeStruct((length,), "int32"), "mask": jax.ShapeDtypeStruct((length,), "bool")}


def carried_by(x: Flow) -> dict[str, Any]:
    """What flows through all stages as it is, by its name; empty where there is nothing."""
    return {CARRIED: x[CARRIED]} if CARRIED in x else {}


def check_tokens(x: Any, kind: str) -> None:
    """Raises InputError for what no model of tokens called `kind` can read."""
    held = {name: one for name, one in x.items() if name != CARRIED} if isinstance(x, Mapping) else {"": x}
    tokens, mask = held.get("tokens"), held.get("mask")
    if (
        held.keys() <= {"tokens", "mask", "types"}
        and tokens is not None
        and mask is not None
        and jnp.issubdtype(tokens.dtype, jnp.integer)
        and tokens.ndim >= 2
        and all(one.shape == tokens.shape for one in held.values())
    ):
        return
    got = ", ".join(f"{name} {one.dtype}{list(one.shape)}".strip() for name, one in held.items())
    raise InputError(
        f"a {kind} reads a dict of tokens int32[batch, length] and mask bool[batch, length], False for padding (a bert "
        f"types int32[batch, length], too; windows are a further axis, [batch, windows, length]), got {got}"
    )


class Pooled(Staged):
    """Base of models of tokens whose field ``pool`` says what their features are: ``"none"`` for every token's own."""

    SEQUENCES = True

    @property
    def ANSWERS(self) -> str:
        """See `Staged`."""
        return "tokens" if self.pool == "none" else "classification"

    @nn.nowrap
    def for_each_token(self) -> Self:
        return self.clone(pool="none")


class SequenceDropout(nn.Module):
    """Dropout of ``[batch, …, length, width]`` that draws the same for the first places, however many follow them.

    So a batch that is cut behind its last token (`training.lengths`) trains as the whole one does: of random bits each
    depends on its place among all of them, and windows and length are made their first axes.
    """

    rate: float

    @nn.compact
    def __call__(self, hidden: jax.Array, mode: Mode) -> jax.Array:
        drop = nn.Dropout(self.rate, deterministic=not mode.train)
        return jnp.moveaxis(drop(jnp.moveaxis(hidden, 0, -2)), -2, 0)


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
        return {"hidden": hidden, "mask": x["mask"].astype(bool), **carried_by(x)}


def by_sequence(flow: Flow) -> tuple[Float[Array, "sequences length width"], Bool[Array, "sequences length"]]:
    """Hidden states and mask with the windows of all examples one after another."""
    hidden, mask = flow["hidden"], flow["mask"]
    return hidden.reshape(-1, *hidden.shape[-2:]), mask.reshape(-1, mask.shape[-1])


def of_tokens(flow: Flow) -> Any:
    """Features of each token, and with them what is carried: as `layers.Head` takes both."""
    return {"features": flow["hidden"], **flow[CARRIED]} if CARRIED in flow else flow["hidden"]


def masked_mean(
    hidden: Float[Array, "*batch length width"], mask: Bool[Array, "*batch length"]
) -> Float[Array, "*batch width"]:
    """The mean over real tokens, in float32 or wider; zeros where there is none."""
    weights = mask.astype(jnp.promote_types(hidden.dtype, jnp.float32))[..., None]
    return ((hidden * weights).sum(-2) / jnp.maximum(weights.sum(-2), 1)).astype(hidden.dtype)


def masked_max(
    hidden: Float[Array, "*batch length width"], mask: Bool[Array, "*batch length"]
) -> Float[Array, "*batch width"]:
    """The largest over real tokens; zeros where there is none.

    Of values that are equal the first has the gradient: that of `max` counts them, see `layers.pool`.
    """
    low = jnp.where(mask[..., None], hidden, jnp.finfo(hidden.dtype).min)
    place = jax.lax.stop_gradient(low).argmax(-2, keepdims=True)
    largest = jnp.take_along_axis(low, place, axis=-2)[..., 0, :]
    return jnp.where(mask.any(-1, keepdims=True), largest, 0)


def masked_last(
    hidden: Float[Array, "*batch length width"], mask: Bool[Array, "*batch length"]
) -> Float[Array, "*batch width"]:
    """That of the last real token; zeros where there is none."""
    place = mask.shape[-1] - 1 - mask[..., ::-1].argmax(-1, keepdims=True)
    last = jnp.take_along_axis(hidden, place[..., None], axis=-2)[..., 0, :]
    return jnp.where(mask.any(-1, keepdims=True), last, 0)
