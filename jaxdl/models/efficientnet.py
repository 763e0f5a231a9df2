"""EfficientNet: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(arXiv:1905.11946), and EfficientNet-Lite, the same without what small devices are slow at."""

from functools import partial

import flax.linen as nn

from jaxdl.models.layers import GlobalAveragePool, Head, check_stochastic_depth
from jaxdl.models.mobilenet import LAST, STEM, ConvNorm, Group, Style, block_groups, check_sizes, round_channels
from jaxdl.models.staged import Stage, Staged

# table 1 of the paper; blocks by `EfficientNet.depths`
GROUPS = (
    Group(1, 16, 1),
    Group(6, 24, 2),
    Group(6, 40, 2, 5),
    Group(6, 80, 2),
    Group(6, 112, 1, 5),
    Group(6, 192, 2, 5),
    Group(6, 320, 1),
)


class EfficientNet(Staged):
    """Stages ``stem, stage1, …, stage7, last, pool, head``; the stem, stages 2, 3, 4 and 6 halve height and width.

    Attributes:
      width: factor on the channels of every layer.
      depths: blocks in each stage; fewer than seven leave out the last ones.
      padding: see `mobilenet.Style`. Weights trained in PyTorch (torchvision's and most of timm's) take
        ``"symmetric"``, those trained in TensorFlow (timm's ``tf_…``, EfficientNet-PyTorch's) ``"same"``; their shapes
        are equal, but with the other one they lose accuracy.
      epsilon: of batch normalisation: 1e-5 for the former, 1e-3 for the latter.
      dropout: of the features, in training.
      stochastic_depth: in training, the probability that an example skips a block grows from 0 for the first block, by
        the same step for each, towards this one.
    """

    width: float = 1.0
    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    padding: str = "symmetric"
    epsilon: float = 1e-5
    dropout: float = 0.2
    stochastic_depth: float = 0.2

    LITE = False

    def stages(self) -> tuple[Stage, ...]:
        check_sizes("efficientnet", self.width, self.depths, GROUPS, self.padding)
        check_stochastic_depth(self.stochastic_depth)
        activation = nn.relu6 if self.LITE else nn.silu
        style = Style(activation, self.padding, self.epsilon, not self.LITE, self.dtype, self.param_dtype)
        widths = tuple(round_channels(self.width * group.features) for group in GROUPS)
        ends = 1.0 if self.LITE else self.width
        return (
            ("stem", partial(ConvNorm, round_channels(ends * STEM), 3, 2, style, "efficientnet")),
            *block_groups(GROUPS, self.depths, widths, style, self.stochastic_depth),
            ("last", partial(ConvNorm, round_channels(ends * LAST), 1, 1, style)),
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, self.dropout, **style.dtypes)),
        )


class EfficientNetLite(EfficientNet):
    """With ReLU6 instead of SiLU and without squeeze and excitation; `width` leaves the first and last convolution."""

    padding: str = "same"
    epsilon: float = 1e-3

    LITE = True
