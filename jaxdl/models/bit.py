"""Big Transfer: Kolesnikov et al., "Big Transfer (BiT): General Visual Representation Learning" (arXiv:1912.11370).

A ResNet-v2 (He et al., "Identity Mappings in Deep Residual Networks", arXiv:1603.05027: normalisation and ReLU come
before each convolution) with group normalisation (Wu & He, arXiv:1803.08494) and weight standardisation (Qiao et al.,
arXiv:1903.10520) in place of batch normalisation, so that an example's answer never depends on its batch.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError
from jaxdl.models.convolution import convolve
from jaxdl.models.layers import Head, he_normal
from jaxdl.models.pooling import max_pool
from jaxdl.models.staged import Mode, Stage, Staged

GROUPS = 32  # of every group normalisation


class StandardisedConv(nn.Conv):
    """A convolution whose kernel ``[height, width, in, out]`` has mean 0 and variance 1 for each output."""

    def param(self, name: str, *arguments: Any, **options: Any) -> jax.Array:
        value = super().param(name, *arguments, **options)
        if name != "kernel":
            return value
        kernel = value.astype(jnp.float32)
        kernel = kernel - kernel.mean((0, 1, 2))
        return kernel * jax.lax.rsqrt(jnp.square(kernel).mean((0, 1, 2)) + 1e-10)


def standardised_conv(features: int, size: int, stride: int = 1, **options: Any) -> StandardisedConv:
    """Square and without bias; ``size // 2`` zeros on every side, whatever the stride."""
    padding = (size // 2, size // 2)
    return StandardisedConv(
        features,
        (size, size),
        (stride, stride),
        (padding, padding),
        use_bias=False,
        kernel_init=he_normal,
        conv_general_dilated=convolve,
        **options,
    )


def group_norm(**options: Any) -> nn.GroupNorm:
    # of the two ways to the variance the one that stays exact where the mean is large
    return nn.GroupNorm(GROUPS, epsilon=1e-5, use_fast_variance=False, **options)


class PreactivatedBottleneck(nn.Module):
    """1×1 down, 3×3 with the stride, 1×1 up to four times `features`; each after normalisation and ReLU.

    Where the shape changes, the shortcut is a strided 1×1 convolution of the normalised input; else it is the input.
    """

    features: int
    stride: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = nn.relu(group_norm(name="norm1", **dtypes)(x))
        if x.shape[-1] != 4 * self.features or self.stride != 1:
            x = standardised_conv(4 * self.features, 1, self.stride, name="shortcut_conv", **dtypes)(y)
        y = standardised_conv(self.features, 1, name="conv1", **dtypes)(y)
        y = nn.relu(group_norm(name="norm2", **dtypes)(y))
        y = standardised_conv(self.features, 3, self.stride, name="conv2", **dtypes)(y)
        y = nn.relu(group_norm(name="norm3", **dtypes)(y))
        return x + standardised_conv(4 * self.features, 1, name="conv3", **dtypes)(y)


class BlockGroup(nn.Module):
    """One stage: `depth` blocks, the first with the stride."""

    depth: int
    features: int
    stride: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        for i in range(self.depth):
            stride = self.stride if i == 0 else 1
            x = PreactivatedBottleneck(self.features, stride, name=f"block{i + 1}", **dtypes)(x, mode)
        return x


class Stem(nn.Module):
    """7×7 with stride 2 and a 3×3 maximum with stride 2."""

    features: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4:
            raise InputError(f"a bit network needs [batch, height, width, channels], got {x.shape}")
        x = standardised_conv(self.features, 7, 2, dtype=self.dtype, param_dtype=self.param_dtype, name="conv")(x)
        # around the image the published network's maximum sees zeros: no ReLU came before it, so they count
        return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


class Pool(nn.Module):
    """Normalisation and ReLU, which the last block leaves out, then the mean: ``[batch, channels]``."""

    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        x = group_norm(dtype=self.dtype, param_dtype=self.param_dtype, name="norm")(x)
        return nn.relu(x).mean((1, 2))


class BiT(Staged):
    """Stages ``stem, stage1, stage2, …, pool, head``.

    Attributes:
      depths: blocks in each stage; every stage but the first halves height and width and doubles the channels.
      width: channels of the stem: 64 times the factor that the names give; a multiple of 32.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64

    def stages(self) -> tuple[Stage, ...]:
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"width {self.width} of a bit network; expected a multiple of its {GROUPS} groups")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        groups = tuple(
            (f"stage{i + 1}", partial(BlockGroup, depth, self.width * 2**i, 1 if i == 0 else 2, **dtypes))
            for i, depth in enumerate(self.depths)
        )
        return (
            ("stem", partial(Stem, self.width, **dtypes)),
            *groups,
            ("pool", partial(Pool, **dtypes)),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )
