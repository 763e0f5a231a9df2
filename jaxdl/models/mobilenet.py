"""MobileNetV2: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
(arXiv:1801.04381), and the block that EfficientNet shares with it."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial

import flax.linen as nn
import jax

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import BatchNorm, GlobalAveragePool, Head, add_or_skip, conv
from jaxdl.models.staged import Mode, Stage, Staged

# a kernel for each channel sees size × size numbers; the fan-out of all channels would make it vanish
depthwise_initial = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
PADDINGS = ("symmetric", "same")
STEM, LAST = 32, 1280  # channels of the first and the last convolution


@dataclasses.dataclass(frozen=True)
class Group:
    """Blocks of the same kind, a row of the papers' tables.

    Attributes:
      expansion: as many times more channels are inside a block than flow into it.
      features: channels out, at width 1.
      stride: of the first block.
      size: of the depthwise kernels.
    """

    expansion: int
    features: int
    stride: int
    size: int = 3


@dataclasses.dataclass(frozen=True)
class Style:
    """What all layers of a network have in common.

    Attributes:
      activation: between the convolutions.
      padding: ``"symmetric"``, as PyTorch pads, or ``"same"``, as TensorFlow does: with stride 2 an image of even side
        gets more below and on the right.
      epsilon: of batch normalisation.
      squeeze: whether blocks scale their channels, see `squeeze_and_excite`.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    activation: Callable[[jax.Array], jax.Array]
    padding: str = "symmetric"
    epsilon: float = 1e-5
    squeeze: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"

    @property
    def dtypes(self) -> dict[str, str]:
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    def conv(self, x: jax.Array, features: int, size: int, stride: int = 1, **options: object) -> jax.Array:
        """A convolution; called inside a module."""
        return conv(features, size, stride, same=self.padding == "same", **options, **self.dtypes)(x)

    def norm(self, x: jax.Array, mode: Mode, name: str) -> jax.Array:
        """Batch normalisation; called inside a module."""
        return BatchNorm(epsilon=self.epsilon, name=name, **self.dtypes)(x, mode)


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and at least 0.9 of `channels`, as in the papers' own code."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNorm(nn.Module):
    """A convolution with batch normalisation and activation: the first one, behind a check of the image, and the last.

    Attributes:
      family: for the message about an image that cannot be one; empty for no check.
    """

    features: int
    size: int
    stride: int
    style: Style
    family: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if self.family and x.ndim != 4:
            raise InputError(f"a {self.family} needs [batch, height, width, channels], got {x.shape}")
        x = self.style.conv(x, self.features, self.size, self.stride, name="conv")
        return self.style.activation(self.style.norm(x, mode, "norm"))


class InvertedResidual(nn.Module):
    """1×1 up to more channels, a kernel for each of them, 1×1 down again without activation, beside a shortcut.

    Attributes:
      group: what the block is one of; with expansion 1 there is no way up.
      features: channels out.
      stride: of the depthwise convolution. There is a shortcut where it is 1 and as many channels come out as in.
      stochastic_depth: in training, the probability that an example takes the shortcut alone.
    """

    group: Group
    features: int
    stride: int
    style: Style
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        style, inside = self.style, x.shape[-1]
        y, inner = x, inside * self.group.expansion
        if self.group.expansion != 1:
            y = style.activation(style.norm(style.conv(y, inner, 1, name="expand"), mode, "expand_norm"))
        options = dict(feature_group_count=inner, kernel_init=depthwise_initial, name="depthwise")
        y = style.conv(y, inner, self.group.size, self.stride, **options)
        y = style.activation(style.norm(y, mode, "depthwise_norm"))
        if style.squeeze:
            y = squeeze_and_excite(y, max(1, inside // 4), style)
        y = style.norm(style.conv(y, self.features, 1, name="project"), mode, "project_norm")
        if self.stride != 1 or self.features != inside:
            return y
        return add_or_skip(x, y, self.stochastic_depth, mode)


def squeeze_and_excite(x: jax.Array, width: int, style: Style) -> jax.Array:
    """Every channel times a factor from 0 to 1, which a perceptron makes of all channels' means (Hu et al.,
    arXiv:1709.01507); called inside a module."""
    means = x.mean((1, 2), keepdims=True)
    hidden = style.activation(nn.Dense(width, name="squeeze", **style.dtypes)(means))
    return x * nn.sigmoid(nn.Dense(x.shape[-1], name="excite", **style.dtypes)(hidden))


class BlockGroup(nn.Module):
    """One stage: a block for each of `stochastic_depths`, the first with the group's stride."""

    group: Group
    features: int
    style: Style
    stochastic_depths: tuple[float, ...]

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i, probability in enumerate(self.stochastic_depths):
            stride = self.group.stride if i == 0 else 1
            x = InvertedResidual(self.group, self.features, stride, self.style, probability, name=f"block{i + 1}")(
                x, mode
            )
        return x


def block_groups(
    groups: tuple[Group, ...], depths: tuple[int, ...], widths: tuple[int, ...], style: Style, stochastic_depth: float
) -> Iterator[Stage]:
    """The stages of `groups`, as many as there are `depths`. From 0 for the first block the probability grows by the
    same step from block to block; one more block than there are would have `stochastic_depth`."""
    probabilities = iter([stochastic_depth * i / sum(depths) for i in range(sum(depths))])
    for i, (group, depth, width) in enumerate(zip(groups, depths, widths, strict=False)):
        own = tuple(next(probabilities) for _ in range(depth))
        yield f"stage{i + 1}", partial(BlockGroup, group, width, style, own)


def check_sizes(family: str, width: float, depths: tuple[int, ...], groups: tuple[Group, ...], padding: str) -> None:
    """Raises InputError for a width that leaves no channels, or depths that do not fit the groups."""
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width of {family} is {width}; expected a factor above 0, 1 as published")
    if not 1 <= len(depths) <= len(groups):
        raise InputError(
            f"depths of {family} is {depths}; expected the number of blocks for each of its {len(groups)} groups, or "
            "for the first of them"
        )
    check_choice("padding", padding, PADDINGS)


# table 2 of the paper; blocks by `MobileNetV2.depths`
GROUPS = (
    Group(1, 16, 1),
    Group(6, 24, 2),
    Group(6, 32, 2),
    Group(6, 64, 2),
    Group(6, 96, 1),
    Group(6, 160, 2),
    Group(6, 320, 1),
)


class MobileNetV2(Staged):
    """Stages ``stem, stage1, …, stage7, last, pool, head``; the stem, stages 2, 3, 4 and 6 halve height and width.

    Attributes:
      width: factor on the channels of every layer, except that the last convolution never has less than 1280.
      depths: blocks in each stage; fewer than seven leave out the last ones.
      dropout: of the features, in training.
    """

    width: float = 1.0
    depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    dropout: float = 0.2

    def stages(self) -> tuple[Stage, ...]:
        check_sizes("mobilenet_v2", self.width, self.depths, GROUPS, "symmetric")
        style = Style(nn.relu6, dtype=self.dtype, param_dtype=self.param_dtype)
        widths = tuple(round_channels(self.width * group.features) for group in GROUPS)
        return (
            ("stem", partial(ConvNorm, round_channels(self.width * STEM), 3, 2, style, "mobilenet")),
            *block_groups(GROUPS, self.depths, widths, style, 0.0),
            ("last", partial(ConvNorm, round_channels(LAST * max(1.0, self.width)), 1, 1, style)),
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, self.dropout, **style.dtypes)),
        )
