"""Residual networks: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385).

`ResNet` is the ImageNet network as torchvision and timm have it ("v1.5": the stride of a bottleneck is in its 3×3
convolution). `CifarResNet` is the paper's section 4.2, for 32×32 images.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import BatchNorm, GlobalAveragePool, Head, conv
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
    """1×1 down, 3×3 with the stride, 1×1 up to four times `features`, beside a projection shortcut."""

    features: int
    stride: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        y = conv(self.features, 1, name="conv1", **dtypes)(x)
        y = nn.relu(BatchNorm(name="norm1", **dtypes)(y, mode))
        y = conv(self.features, 3, self.stride, name="conv2", **dtypes)(y)
        y = nn.relu(BatchNorm(name="norm2", **dtypes)(y, mode))
        y = conv(4 * self.features, 1, name="conv3", **dtypes)(y)
        y = BatchNorm(name="norm3", **dtypes)(y, mode)
        return nn.relu(project(x, 4 * self.features, self.stride, mode, dtypes) + y)


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

    block: str
    depth: int
    features: int
    stride: int
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i in range(self.depth):
            stride = self.stride if i == 0 else 1
            x = BLOCKS[self.block](self.features, stride, self.dtype, self.param_dtype, name=f"block{i + 1}")(x, mode)
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
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return x


class ResNet(Staged):
    """Stages ``stem, stage1, stage2, …, pool, head``.

    Attributes:
      depths: blocks in each stage; every stage but the first halves height and width and doubles the channels.
      block: ``"basic"`` (ResNet-18, -34), ``"bottleneck"`` (-50, -101, -152) or ``"basic_identity"`` (CIFAR).
      width: channels of the stem.
      stem: ``"imagenet"`` or ``"small"`` (for images of about 32 to 96 pixels).
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    block: str = "basic"
    width: int = 64
    stem: str = "imagenet"

    def stages(self) -> tuple[Stage, ...]:
        check_choice("block", self.block, BLOCKS)
        check_choice("stem", self.stem, ("imagenet", "small"))
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        groups = tuple(
            (
                f"stage{i + 1}",
                partial(BlockGroup, self.block, depth, self.width * 2**i, 1 if i == 0 else 2, **dtypes),
            )
            for i, depth in enumerate(self.depths)
        )
        return (
            ("stem", partial(Stem, self.stem, self.width, **dtypes)),
            *groups,
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )


class CifarResNet(ResNet):
    """The network of section 4.2: three stages of 16, 32 and 64 channels, identity shortcuts."""

    depths: tuple[int, ...] = (3, 3, 3)
    block: str = "basic_identity"
    width: int = 16
    stem: str = "small"
