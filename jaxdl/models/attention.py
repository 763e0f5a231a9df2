"""Self-attention: Vaswani et al., "Attention Is All You Need" (arXiv:1706.03762).

`plain_attention` is the definition. `attend` computes the same by the fastest way at hand.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Bool, Float

from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Mode
from jaxdl.parallel.devices import first_device


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
    # heads first and the smaller factor scaled: on a CPU each of these saves a quarter of the time or more
    query, key = jnp.swapaxes(query * query.shape[-1] ** -0.5, 1, 2), jnp.swapaxes(key, 1, 2)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
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
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), jnp.swapaxes(value, 1, 2))
    return jnp.swapaxes(mixed, 1, 2), weights


def attend(
    query: Float[Array, "batch to heads width"],
    key: Float[Array, "batch from heads width"],
    value: Float[Array, "batch from heads width"],
    mask: Bool[Array, "batch heads to from"] | None = None,
    implementation: str = "auto",
) -> Float[Array, "batch to heads width"]:
    """Scaled dot-product attention without its weights, as `plain_attention` computes it.

    Args:
      query: what each position looks for.
      key: what each position offers.
      value: what each position gives.
      mask: False where a position must not look; its dimensions may be 1.
      implementation: ``"plain"``; ``"cudnn"``, cuDNN's flash attention (arXiv:2205.14135) for NVIDIA GPUs;
        ``"splash"``, its like in JAX for TPUs; or ``"auto"``, the one that suits. The middle two never store the
        weights, and have no second derivative.

    Raises:
      InputError: if the implementation asked for cannot do it, with the reason.
    """
    check_choice("implementation of attention", implementation, ("auto", "plain", *FAST))
    if implementation == "auto":
        return _automatic(query, key, value, mask)
    if implementation == "plain":
        return plain_attention(query, key, value, mask)[0]
    run, refuses = FAST[implementation]
    if reason := refuses(query, key, mask):
        raise InputError(f"attention with implementation='{implementation}': {reason}; 'auto' takes what suits")
    return run(query, key, value)


def _automatic(query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    """The choice is left to the lowering where there is one: a program may be compiled for a machine that is not here.

    Where there is none, nothing but the plain way is traced.
    """
    ways = {}
    if is_symbolic_dim(query.shape[0]):  # exported, for every machine alike; cuDNN's program is not stable in a file
        return plain_attention(query, key, value, mask)[0]
    if not cudnn_refuses(query, key, mask):
        ways["cuda"] = cudnn_attention
    if not splash_refuses(query, key, mask) and key.shape[1] >= SPLASH_POSITIONS and _undivided():
        ways["tpu"] = splash_attention
    plain = lambda *qkv: plain_attention(*qkv, mask)[0]  # noqa: E731
    return jax.lax.platform_dependent(query, key, value, **ways, default=plain) if ways else plain(query, key, value)


def cudnn_attention(query: Array, key: Array, value: Array) -> Array:
    """cuDNN's flash attention, as `attend`."""
    attention = partial(jax.nn.dot_product_attention, implementation="cudnn")
    to, offered = query.shape[1], key.shape[1]
    if to % 2 == 0 and offered % 2 == 0:
        return attention(query, key, value)
    # a class token makes the number of positions odd, and JAX has cuDNN's gradient for even ones only
    even = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))  # noqa: E731
    lengths = dict(query_seq_lengths=_lengths(query, to), key_value_seq_lengths=_lengths(query, offered))
    return attention(even(query), even(key), even(value), **lengths)[:, :to]


def _lengths(query: Array, positions: int) -> Array:
    """`positions` for every example, computed from the query: under `vmap` JAX wants them mapped where it is."""
    return jnp.isnan(query[:, 0, 0, 0]).astype(jnp.int32) * 0 + positions


def cudnn_refuses(query: Array, key: Array, mask: Array | None) -> str:
    """Why cuDNN cannot do it, or nothing. JAX asks the device at hand while tracing, so it must be there."""
    if mask is not None:
        return "it is run without a mask only"
    width = query.shape[-1]
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"cuDNN computes it in bfloat16 or float16, not {query.dtype.name}"
    if width % 8 or width > 128:
        return f"cuDNN needs heads whose width is a multiple of 8 up to 128, not {width}"
    device = first_device()
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return f"cuDNN needs an NVIDIA GPU, and the device here is '{device.device_kind}'"
    if float(device.compute_capability) < 8:
        return f"cuDNN needs a GPU of compute capability 8 or more, and '{device.device_kind}' has less"
    return ""


# Below so many positions the plain way is the faster one by the TPU compiler's estimates (v5e, bfloat16, forward and
# backward): at 197 positions bringing them to a multiple of 128 alone takes longer than all of it, at 577 the two are
# level and the kernel needs a third of the memory, from 785 it is ahead.
SPLASH_POSITIONS = 512
LANES = 128  # positions come to the kernel in multiples of this
LARGEST_BLOCK = 1024  # positions that it keeps in fast memory at a time


def splash_attention(query: Array, key: Array, value: Array, *, interpret: bool = False) -> Array:
    """JAX's kernel for TPUs, as `attend`; the positions are filled up with ones at which nobody looks.

    Args:
      interpret: whether the kernel is run step by step, as can be done without a TPU.
    """
    # imported here: nothing but TPUs needs it
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask import FullMask, MultiHeadMask

    (_, to, heads, width), offered = query.shape, key.shape[1]
    query, key, value = (_filled_up(x) for x in (query * width**-0.5, key, value))
    full_to, full_offered = query.shape[2], key.shape[2]
    rows, columns = _block(full_to), _block(full_offered)
    kernel = kernels.make_splash_mha(
        MultiHeadMask([FullMask((full_to, full_offered))] * heads),
        block_sizes=kernels.BlockSizes(
            block_q=rows,
            block_kv=columns,
            block_q_dkv=rows,
            block_kv_dkv=columns,
            block_q_dq=rows,
            block_kv_dq=columns,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    # a position looks at those of its own segment: the real ones are 1
    segments = kernels.SegmentIds(jnp.ones(full_to, jnp.int32), (jnp.arange(full_offered) < offered).astype(jnp.int32))
    mixed = jax.vmap(kernel, in_axes=(0, 0, 0, None))(query, key, value, segments)
    return jnp.swapaxes(mixed[:, :, :to], 1, 2)


def _filled_up(x: Float[Array, "batch positions heads width"]) -> Float[Array, "batch heads filled width"]:
    """Heads first, and zeros up to a multiple of `LANES` positions."""
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, -x.shape[1] % LANES), (0, 0)))


def _block(positions: int) -> int:
    """The largest block that divides a multiple of `LANES`."""
    return max(size for size in range(LANES, LARGEST_BLOCK + 1, LANES) if positions % size == 0)


def splash_refuses(query: Array, key: Array, mask: Array | None) -> str:
    """Why JAX's kernel for TPUs cannot do it, or nothing."""
    if mask is not None:
        return "it is run without a mask only"
    if query.dtype not in (jnp.float32, jnp.bfloat16):
        return f"splash attention computes in float32 or bfloat16, not {query.dtype.name}"
    if query.shape[-1] % 8:
        return f"splash attention needs heads whose width is a multiple of 8, not {query.shape[-1]}"
    return ""


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


class SelfAttention(nn.Module):
    """Multi-head self-attention over ``[batch, positions, width]``.

    Offers the tap ``attention``, weights ``[batch, heads, to, from]``. Untapped it runs `attend`, which need not store
    them.
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
            mixed = attend(query, key, value)
            mode.offer("attention", lambda: None)
        return nn.Dense(width, name="out", kernel_init=nn.initializers.xavier_uniform(), **dtypes)(
            mixed.reshape(batch, positions, width)
        )
