"""Kernels for attention that never store its weights. `attention.attend` chooses among them.

Each takes ``query[batch, to, heads, width]``, ``key`` and ``value [batch, from, heads or fewer, width]``, a `Mask` and
the scale of the scores. What a position gets that only pads means nothing, and may differ between them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdl.models.masks import Mask
from jaxdl.parallel.devices import first_device

NO_PAIRS = "it is run without a bias, and without a mask for each pair of positions, only"


def repeated(x: Float[Array, "batch from few width"], heads: int) -> Float[Array, "batch from heads width"]:
    """Keys or values for `heads` queries, of which neighbours share one (arXiv:2305.13245)."""
    return x if x.shape[2] == heads else jnp.repeat(x, heads // x.shape[2], axis=2)


def cudnn_attention(query: Array, key: Array, value: Array, mask: Mask, scale: float) -> Array:
    """cuDNN's flash attention (arXiv:2205.14135) for NVIDIA GPUs.

    It knows of lengths and of causal masks, and leaves out the work. Padding that does not stand behind is put there.
    """
    attention = partial(jax.nn.dot_product_attention, implementation="cudnn", scale=scale, is_causal=mask.causal)
    to, offered, back = query.shape[1], key.shape[1], None
    looking, looked_at, real = to, offered, mask.real_keys()
    if real is not None:
        order = jnp.argsort(~real, axis=1)  # stable: what comes before what stays so
        key, value = _taken(key, order), _taken(value, order)
        looked_at = real.sum(1, dtype=jnp.int32)
        if mask.causal:
            query, back, looking = _taken(query, order), jnp.argsort(order, axis=1), looked_at
    # a class token makes the number of positions odd, and JAX has cuDNN's gradient for even ones only
    even = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))  # noqa: E731
    lengths = {}
    if real is not None or to % 2 or offered % 2:
        lengths = dict(query_seq_lengths=_lengths(query, looking), key_value_seq_lengths=_lengths(query, looked_at))
    mixed = attention(even(query), even(key), even(value), **lengths)[:, :to]
    return mixed if back is None else _taken(mixed, back)


def _taken(x: Float[Array, "batch positions heads width"], order: Int[Array, "batch positions"]) -> Array:
    """The positions in another order."""
    return jnp.take_along_axis(x, order[:, :, None, None], axis=1)


def _lengths(query: Array, positions: Array | int) -> Array:
    """`positions` for every example, computed from the query: under `vmap` JAX wants them mapped where it is."""
    return jnp.isnan(query[:, 0, 0, 0]).astype(jnp.int32) * 0 + positions


def cudnn_refuses(query: Array, key: Array, mask: Mask, bias: Array | None) -> str:
    """Why cuDNN cannot do it, or nothing. JAX asks the device at hand while tracing, so it must be there."""
    if bias is not None or mask.pairs is not None:
        return NO_PAIRS
    if mask.causal and mask.real is not None and query.shape[1] != key.shape[1]:
        return "causal and with padding, it is run for a sequence that looks at itself only"
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


def splash_attention(
    query: Array, key: Array, value: Array, mask: Mask, scale: float, *, interpret: bool = False
) -> Array:
    """JAX's kernel for TPUs; the positions are filled up with ones at which nobody looks.

    Args:
      query: as of all kernels here, with the four following.
      key: see `query`.
      value: see `query`.
      mask: without `pairs`.
      scale: of the scores.
      interpret: whether the kernel is run step by step, as can be done without a TPU.
    """
    # imported here: nothing but TPUs needs it
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    (batch, to, heads, _), offered = query.shape, key.shape[1]
    query, key, value = (_filled_up(repeated(x, heads)) for x in (query * scale, key, value))
    full_to, full_offered = query.shape[2], key.shape[2]
    rows, columns = _block(full_to), _block(full_offered)
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([(masks.CausalMask if mask.causal else masks.FullMask)((full_to, full_offered))] * heads),
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
    real = mask.real_keys()
    real = jnp.ones((batch, offered), bool) if real is None else real
    real = jnp.pad(real, ((0, 0), (0, full_offered - offered))).astype(jnp.int32)
    segments = kernels.SegmentIds(jnp.ones((batch, full_to), jnp.int32), real)
    mixed = jax.vmap(kernel)(query, key, value, segments)
    return jnp.swapaxes(mixed[:, :, :to], 1, 2)


def _filled_up(x: Float[Array, "batch positions heads width"]) -> Float[Array, "batch heads filled width"]:
    """Heads first, and zeros up to a multiple of `LANES` positions."""
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, -x.shape[1] % LANES), (0, 0)))


def _block(positions: int) -> int:
    """The largest block that divides a multiple of `LANES`."""
    return max(size for size in range(LANES, LARGEST_BLOCK + 1, LANES) if positions % size == 0)


def splash_refuses(query: Array, key: Array, mask: Mask, bias: Array | None) -> str:
    """Why JAX's kernel for TPUs cannot do it, or nothing."""
    if bias is not None or mask.pairs is not None:
        return NO_PAIRS
    if query.dtype not in (jnp.float32, jnp.bfloat16):
        return f"splash attention computes in float32 or bfloat16, not {query.dtype.name}"
    if query.shape[-1] % 8:
        return f"splash attention needs heads whose width is a multiple of 8, not {query.shape[-1]}"
    return ""
