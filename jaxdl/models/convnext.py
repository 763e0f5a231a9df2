"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s" (arXiv:2201.03545)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxdl.errors import InputError
from jaxdl.models.layers import Head, add_or_skip, check_stochastic_depth, conv
from jaxdl.models.staged import Mode, Stage, Staged

initial = nn.initializers.normal(0.02)  # of all kernels, as in the paper's appendix A.1


def layer_norm(**options: Any) -> nn.LayerNorm:
    """Over the channels of each pixel."""
    # of the two ways to the variance the one that stays exact where the mean is large
    return nn.LayerNorm(1e-6, use_fast_variance=False, **options)


class Block(nn.Module):
    """A 7×7 convolution of each channel, normalisation, and a perceptron of each pixel, scaled and added to the input.

    Attributes:
      layer_scale: what the scale of each channel starts from (Touvron et al., arXiv:2103.17239).
      stochastic_depth: in training, the probability that an example skips the block.
    """

    layer_scale: float
    stochastic_depth: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        width = x.shape[-1]
        y = conv(width, 7, bias=True, feature_group_count=width, kernel_init=initial, name="conv", **dtypes)(x)
        y = layer_norm(name="norm", **dtypes)(y)
        y = nn.gelu(nn.Dense(4 * width, kernel_init=initial, name="mlp1", **dtypes)(y), approximate=False)
        y = nn.Dense(width, kernel_init=initial, name="mlp2", **dtypes)(y)
        start = nn.initializers.constant(self.layer_scale)
        y = y * self.param("layer_scale", start, (width,), self.param_dtype).astype(y.dtype)
        return add_or_skip(x, y, self.stochastic_depth, mode)


def reduce_patches(x: jax.Array, width: int, size: int, **options: Any) -> jax.Array:
    """Every patch of ``size × size`` becomes one pixel of `width` channels; called inside a module."""
    if min(x.shape[1:3]) < size:
        raise InputError(
            f"{x.shape[1]}×{x.shape[2]} pixels come to where a convnext turns {size}×{size} into one; the image is too "
            "small: a network of four stages needs at least 32×32 pixels"
        )
    return conv(width, size, size, bias=True, padded=False, kernel_init=initial, **options)(x)


class Stem(nn.Module):
    """Patches of 4×4 pixels and normalisation."""

    width: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4:
            raise InputError(f"a convnext needs [batch, height, width, channels], got {x.shape}")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return layer_norm(name="norm", **dtypes)(reduce_patches(x, self.width, 4, name="conv", **dtypes))


class BlockGroup(nn.Module):
    """One stage: all but the first begin by halving height and width; then a block for each of `stochastic_depths`."""

    width: int
    halve: bool
    layer_scale: float
    stochastic_depths: tuple[float, ...]
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        if self.halve:
            x = layer_norm(name="downsample_norm", **dtypes)(x)
            x = reduce_patches(x, self.width, 2, name="downsample_conv", **dtypes)
        for i, probability in enumerate(self.stochastic_depths):
            x = Block(self.layer_scale, probability, name=f"block{i + 1}", **dtypes)(x, mode)
        return x


class Pool(nn.Module):
    """The mean over all pixels, normalised: ``[batch, channels]``."""

    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        return layer_norm(dtype=self.dtype, param_dtype=self.param_dtype, name="norm")(x.mean((1, 2)))


class ConvNeXt(Staged):
    """Stages ``stem, stage1, stage2, …, pool, head``.

    Attributes:
      depths: blocks in each stage; every stage but the first halves height and width.
      widths: channels of each stage.
      layer_scale: what the scales of the blocks' channels start from.
      stochastic_depth: in training, the probability that an example skips the last block; it grows linearly from 0 for
        the first. The default is torchvision's for ``convnext_tiny``; the names give each its own.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    layer_scale: float = 1e-6
    stochastic_depth: float = 0.1

    def stages(self) -> tuple[Stage, ...]:
        if len(self.depths) != len(self.widths) or not self.depths:
            raise InputError(f"depths {self.depths} and widths {self.widths} of a convnext; expected one each a stage")
        check_stochastic_depth(self.stochastic_depth)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        last = max(sum(self.depths) - 1, 1)
        probabilities = iter([self.stochastic_depth * i / last for i in range(sum(self.depths))])
        groups = tuple(
            (
                f"stage{i + 1}",
                partial(
                    BlockGroup,
                    width,
                    i > 0,
                    self.layer_scale,
                    tuple(next(probabilities) for _ in range(depth)),
                    **dtypes,
                ),
            )
            for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True))
        )
        return (
            ("stem", partial(Stem, self.widths[0], **dtypes)),
            *groups,
            ("pool", partial(Pool, **dtypes)),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )
