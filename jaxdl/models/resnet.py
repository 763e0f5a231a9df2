"""Residual networks: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385).

`ResNet` is the ImageNet network as torchvision, timm and transformers have it ("v1.5": the stride of a bottleneck is in
its 3×3 convolution), with the wider bottlenecks of Zagoruyko & Komodakis, "Wide Residual Networks" (arXiv:1605.07146),
and the grouped ones of Xie et al., "Aggregated Residual Transformations" (ResNeXt, arXiv:1611.05431). `CifarResNet` is
the first paper's section 4.2, for 32×32 images.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import BatchNorm, GlobalAveragePool, Head, conv
from jaxdl.models.pooling import max_pool
from jaxdl.models.staged import Mode, Stage, Staged


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut.

    Attributes:
      features: channels out.
      stride: of the first convolution.
      shortcut: where the shape changes, ``"projection"`` (a strided 1×1 convolution, the paper's option B) or
        ``"identity"`` (every stride-th pixel, new channels zero: option A, no parameters).
    """

    features: int
    stride: int
    dtype: str
    param_dtype: str
    shortcut: str = "projection"

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = conv(self.features, 3, self.stride, name="conv1", **dtypes)(x)
        y = nn.relu(BatchNorm(name="norm1", **dtypes)(y, mode))
        y = conv(self.features, 3, name="conv2", **dtypes)(y)
        y = BatchNorm(name="norm2", **dtypes)(y, mode)
        if self.shortcut == "identity":
            x = pad_identity(x, self.features, self.stride)
        else:
            x = project(x, self.features, self.stride, mode, dtypes)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1×1 down, 3×3 with the stride, 1×1 up to four times `features`, beside a projection shortcut.

    Attributes:
      features: a quarter of the channels out.
      stride: of the 3×3 convolution.
      groups: into which the 3×3 convolution divides its channels.
      width_per_group: the 3×3 convolution has ``groups · width_per_group`` channels where `features` is 64, and in
        proportion elsewhere.
    """

    features: int
    stride: int
    dtype: str
    param_dtype: str
    groups: int = 1
    width_per_group: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        inner = inner_width(self.features, self.groups, self.width_per_group)
        y = conv(inner, 1, name="conv1", **dtypes)(x)
        y = nn.relu(BatchNorm(name="norm1", **dtypes)(y, mode))
        y = conv(inner, 3, self.stride, feature_group_count=self.groups, name="conv2", **dtypes)(y)
        y = nn.relu(BatchNorm(name="norm2", **dtypes)(y, mode))
        y = conv(4 * self.features, 1, name="conv3", **dtypes)(y)
        y = BatchNorm(name="norm3", **dtypes)(y, mode)
        return nn.relu(project(x, 4 * self.features, self.stride, mode, dtypes) + y)


def inner_width(features: int, groups: int, width_per_group: int) -> int:
    """Channels of a bottleneck's 3×3 convolution."""
    return features * width_per_group // 64 * groups


def pad_identity(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Shortcut A: subsample, and put half of the new, zero channels on either side."""
    new = features - x.shape[-1]
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


def project(x: jax.Array, features: int, stride: int, mode: Mode, dtypes: dict) -> jax.Array:
    """Shortcut B, called inside a block: a 1×1 convolution where the shape changes, `x` itself where not."""
    if x.shape[-1] == features and stride == 1:
        return x
    x = conv(features, 1, stride, name="shortcut_conv", **dtypes)(x)
    return BatchNorm(name="shortcut_norm", **dtypes)(x, mode)


BLOCKS = {
    "basic": BasicBlock,
    "basic_identity": partial(BasicBlock, shortcut="identity"),
    "bottleneck": Bottleneck,
}


class BlockGroup(nn.Module):
    """One stage: `depth` blocks, the first with the stride."""

    block: Callable[..., nn.Module]
    depth: int
    features: int
    stride: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i in range(self.depth):
            stride = self.stride if i == 0 else 1
            x = self.block(self.features, stride, self.dtype, self.param_dtype, name=f"block{i + 1}")(x, mode)
        return x


class Stem(nn.Module):
    """``"imagenet"``: 7×7 with stride 2 and a 3×3 maximum with stride 2; ``"small"``: 3×3 with stride 1 alone."""

    kind: str
    features: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4:
            raise InputError(f"a resnet needs [batch, height, width, channels], got {x.shape}")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        x = conv(self.features, size, stride, name="conv", **dtypes)(x)
        x = nn.relu(BatchNorm(name="norm", **dtypes)(x, mode))
        if self.kind == "imagenet":
            x = max_pool(x, 3, 2, ((1, 1), (1, 1)))
        return x


class ResNet(Staged):
    """Stages ``stem, stage1, stage2, …, pool, head``.

    Attributes:
      depths: blocks in each stage; every stage but the first halves height and width and doubles the channels.
      block: ``"basic"`` (ResNet-18, -34), ``"bottleneck"`` (-50, -101, -152) or ``"basic_identity"`` (CIFAR).
      width: channels of the stem.
      stem: ``"imagenet"`` or ``"small"`` (for images of about 32 to 96 pixels).
      groups: of a bottleneck's 3×3 convolution; 32 or 64 in a ResNeXt.
      width_per_group: of a bottleneck, see `Bottleneck`; 128 in a wide ResNet-50.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    block: str = "basic"
    width: int = 64
    stem: str = "imagenet"
    groups: int = 1
    width_per_group: int = 64

    def stages(self) -> tuple[Stage, ...]:
        check_choice("stem", self.stem, ("imagenet", "small"))
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        block = self._block()
        groups = tuple(
            (
                f"stage{i + 1}",
                partial(BlockGroup, block, depth, self.width * 2**i, 1 if i == 0 else 2, **dtypes),
            )
            for i, depth in enumerate(self.depths)
        )
        return (
            ("stem", partial(Stem, self.stem, self.width, **dtypes)),
            *groups,
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )

    def _block(self) -> Callable[..., nn.Module]:
        check_choice("block", self.block, BLOCKS)
        grouping = dict(groups=self.groups, width_per_group=self.width_per_group)
        if self.block == "bottleneck":
            if inner_width(self.width, **grouping) < 1:
                raise InputError(
                    f"a resnet of width {self.width} with groups={self.groups} and "
                    f"width_per_group={self.width_per_group} has no channels in its 3×3 convolutions; expected groups "
                    f"of at least 1 and width × width_per_group of at least 64"
                )
            return partial(Bottleneck, **grouping)
        if (self.groups, self.width_per_group) != (1, 64):
            raise InputError(
                f"groups={self.groups}, width_per_group={self.width_per_group} with block='{self.block}'; only "
                f"block='bottleneck' takes other values than 1 and 64"
            )
        return BLOCKS[self.block]


class CifarResNet(ResNet):
    """The network of section 4.2: three stages of 16, 32 and 64 channels, identity shortcuts."""

    depths: tuple[int, ...] = (3, 3, 3)
    block: str = "basic_identity"
    width: int = 16
    stem: str = "small"
