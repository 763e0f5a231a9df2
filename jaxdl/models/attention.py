"""Attention: Vaswani et al., "Attention Is All You Need" (arXiv:1706.03762).

`plain_attention` is the definition. `attend` computes the same by the fastest way at hand. `masks` says where a
position may look, `positions` how it knows where it is.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from jaxdl.errors import InputError, check_choice
from jaxdl.models.attention_kernels import (
    SPLASH_POSITIONS,
    cudnn_attention,
    cudnn_refuses,
    repeated,
    splash_attention,
    splash_refuses,
)
from jaxdl.models.masks import Mask
from jaxdl.models.positions import rotate
from jaxdl.models.staged import Mode

EVERYWHERE = Mask()


def attention_weights(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from few width"],
    mask: Mask = EVERYWHERE,
    bias: Float[Array, "batch heads to from"] | None = None,
    scale: float | None = None,
) -> Float[Array, "batch heads to from"]:
    """softmax(scale · QKᵀ + bias): how much each position takes from each other one; rows sum to one.

    Args:
      query: what each position looks for.
      key: what each position offers; of fewer heads where neighbouring queries share one.
      mask: where a position may look.
      bias: added to the scores; its dimensions may be 1.
      scale: of the scores; 1/√width by default.
    """
    # heads first and the smaller factor scaled: on a CPU each of these saves a quarter of the time or more
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    key = repeated(key, query.shape[2])
    query, key = jnp.swapaxes(query * scale, 1, 2), jnp.swapaxes(key, 1, 2)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if (allowed := mask.allowed(*scores.shape[2:])) is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def plain_attention(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from few width"],
    value: Float[Array, "batch from few width"],
    mask: Mask = EVERYWHERE,
    bias: Float[Array, "batch heads to from"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Array, "batch to heads width"], Float[Array, "batch heads to from"]]:
    """Scaled dot-product attention, equation 1 of the paper, and its weights; see `attention_weights`.

    Without position embeddings it treats its input as a set: permuting the positions permutes the output.
    """
    weights = attention_weights(query, key, mask, bias, scale)
    value = jnp.swapaxes(repeated(value, query.shape[2]), 1, 2)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value)
    return jnp.swapaxes(mixed, 1, 2), weights


def attend(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from few width"],
    value: Float[Array, "batch from few width"],
    mask: Mask = EVERYWHERE,
    bias: Float[Array, "batch heads to from"] | None = None,
    scale: float | None = None,
    implementation: str = "auto",
) -> Float[Array, "batch to heads width"]:
    """Scaled dot-product attention without its weights, as `plain_attention` computes it.

    Args:
      query: what each position looks for.
      key: what each position offers.
      value: what each position gives.
      mask: where a position may look.
      bias: added to the scores; its dimensions may be 1.
      scale: of the scores; 1/√width by default.
      implementation: ``"plain"``; ``"cudnn"``, cuDNN's flash attention (arXiv:2205.14135) for NVIDIA GPUs;
        ``"splash"``, its like in JAX for TPUs; or ``"auto"``, the one that suits. The middle two never store the
        weights, and have no second derivative. What a position gets that only pads may differ between them.

    Raises:
      InputError: if the implementation asked for cannot do it, with the reason.
    """
    check_choice("implementation of attention", implementation, ("auto", "plain", *FAST))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if implementation == "auto":
        return _automatic(query, key, value, mask, bias, scale)
    if implementation == "plain":
        return plain_attention(query, key, value, mask, bias, scale)[0]
    run, refuses = FAST[implementation]
    if reason := refuses(query, key, mask, bias):
        raise InputError(f"attention with implementation='{implementation}': {reason}; 'auto' takes what suits")
    return run(query, key, value, mask, scale)


def _automatic(query: Array, key: Array, value: Array, mask: Mask, bias: Array | None, scale: float) -> Array:
    """The choice is left to the lowering where there is one: a program may be compiled for a machine that is not here.

    Where there is none, nothing but the plain way is traced.
    """
    plain = lambda *qkv: plain_attention(*qkv, mask, bias, scale)[0]  # noqa: E731
    ways = {}
    if is_symbolic_dim(query.shape[0]):  # exported, for every machine alike; cuDNN's program is not stable in a file
        return plain(query, key, value)
    if not cudnn_refuses(query, key, mask, bias):
        ways["cuda"] = lambda *qkv: cudnn_attention(*qkv, mask, scale)
    if not splash_refuses(query, key, mask, bias) and key.shape[1] >= SPLASH_POSITIONS and _undivided():
        ways["tpu"] = lambda *qkv: splash_attention(*qkv, mask, scale)
    return jax.lax.platform_dependent(query, key, value, **ways, default=plain) if ways else plain(query, key, value)


def _undivided() -> bool:
    """Whether the program is one device's alone: the compiler cannot divide a kernel among devices.

    It is inside `pmap` and `shard_map` (with ``check_vma=False``), where each device has its own part. Under `jit` that
    is not known yet, except where there is but one device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty:
        return mesh.are_all_axes_manual
    return jax.default_backend() == "tpu" and jax.device_count() == 1


# each with the function that says why it cannot do it
FAST: dict[str, tuple[Callable[..., Array], Callable[..., str]]] = {
    "cudnn": (cudnn_attention, cudnn_refuses),
    "splash": (splash_attention, splash_refuses),
}


def check_heads(width: int, heads: int) -> None:
    """Raises InputError unless `width` can be divided among so many heads."""
    if not heads or width % heads:
        raise InputError(f"width {width} cannot be divided among {heads} attention heads")


class Attention(nn.Module):
    """Multi-head attention of ``[batch, to, width]`` over itself, or over another sequence ``[batch, from, any]``.

    Offers a tap, weights ``[batch, heads, to, from]``. Untapped it runs `attend`, which need not store them.

    Attributes:
      num_heads: of the queries.
      key_heads: of keys and values, where neighbouring queries share them (grouped queries, arXiv:2305.13245); 0 for as
        many as of the queries.
      head_width: numbers in each; 0 to divide the width among the heads.
      use_bias: whether the four projections have a bias.
      scale: of the scores; None for 1/√head_width.
      rotary: base of rotary positions, such as 10,000; 0 for none.
      tap: its name in the stage.
    """

    num_heads: int
    key_heads: int = 0
    head_width: int = 0
    use_bias: bool = True
    scale: float | None = None
    rotary: float = 0.0
    tap: str = "attention"
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mode: Mode,
        mask: Mask = EVERYWHERE,
        bias: jax.Array | None = None,
        other: jax.Array | None = None,
    ) -> jax.Array:
        """What each position of `x` takes from those of `other`, by default of `x` itself.

        Args:
          x: what looks.
          mode: see `Mode`.
          mask: where it may look.
          bias: added to the scores, such as that of `positions.RelativeBias`.
          other: what it looks at.

        Raises:
          InputError: for heads that do not divide the width, or each other; for rotary positions of two sequences.
        """
        width, heads, few = x.shape[-1], self.num_heads, self.key_heads or self.num_heads
        if not self.head_width:
            check_heads(width, heads)
        if heads % few:
            raise InputError(f"{heads} attention heads cannot share the keys of {few}; expected a divisor")
        if self.rotary and other is not None:
            raise InputError("rotary positions tell how far two places of one sequence are apart; here are two of them")
        kernels = dict(
            kernel_init=nn.initializers.xavier_uniform(),
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        each, seen = self.head_width or width // heads, x if other is None else other
        query, key, value = (
            nn.Dense(count * each, name=name, **kernels)(flowing).reshape(*flowing.shape[:-1], count, each)
            for name, flowing, count in (("query", x, heads), ("key", seen, few), ("value", seen, few))
        )
        if self.rotary:
            query, key = rotate(query, self.rotary), rotate(key, self.rotary)
        # Here is the place of a cache for generation: keys and values of earlier positions, in a collection of the
        # module ("cache"), come before these, and `rotate` and the causal mask then count from where they end.
        if mode.wants(self.tap):
            mixed, weights = plain_attention(query, key, value, mask, bias, self.scale)
            mode.offer(self.tap, weights)
        else:
            mixed = attend(query, key, value, mask, bias, self.scale)
            mode.offer(self.tap, lambda: None)
        return nn.Dense(width, name="out", **kernels)(mixed.reshape(*x.shape[:-1], heads * each))
