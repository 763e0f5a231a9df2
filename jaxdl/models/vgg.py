"""VGG: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (arXiv:1409.1556).

As torchvision has it: images of another size than 224×224 are averaged to the 7×7 positions that the first fully
connected layer sees.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import NORMS, Head, Norm, conv, pool
from jaxdl.models.mlp import DenseLayer
from jaxdl.models.staged import Mode, Stage, Staged

POSITIONS = 7  # rows and columns that the first fully connected layer sees


class Block(nn.Module):
    """`depth` convolutions 3×3, each with normalisation and ReLU, then the maximum over 2×2."""

    depth: int
    features: int
    norm: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4 or min(x.shape[1:3]) < 2:
            raise InputError(
                f"{mode.stage} of a vgg needs [batch, height, width, channels] of at least 2×2 pixels, got {x.shape}; "
                "each block halves the image: five take 32×32 pixels or more"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        for i in range(1, self.depth + 1):
            # the bias stays before batch norm too, where it does nothing: the published networks have it
            x = conv(self.features, 3, bias=True, name=f"conv{i}", **dtypes)(x)
            x = nn.relu(Norm(self.norm, name=f"norm{i}", **dtypes)(x, mode))
        return pool(x, "max")


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """``[batch, height, width, channels]`` to ``[batch, size, size, channels]``.

    Position i averages rows ``floor(i · height / size)`` up to ``ceil((i + 1) · height / size)``, and columns alike:
    windows overlap or repeat where `size` does not divide, as those of PyTorch's ``adaptive_avg_pool2d``.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        if length != size:
            bins = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
            x = jnp.stack([jax.lax.slice_in_dim(x, *ends, axis=axis).mean(axis) for ends in bins], axis)
    return x


class FirstDense(DenseLayer):
    """Average over 7×7 regions, then as `DenseLayer`: linear map of all positions, ReLU, dropout."""

    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        return super().__call__(adaptive_average_pool(x, POSITIONS), mode)


class VGG(Staged):
    """Stages ``block1, …, block5, fc6, fc7, head``: one block for each entry of `depths`.

    Attributes:
      depths: convolutions in each block.
      features: channels of each block.
      norm: after each convolution, ``"none"``, ``"batch"`` or ``"group"``.
      hidden: widths of ``fc6`` and ``fc7``.
      dropout: share of the units of ``fc6`` and of ``fc7`` dropped in training.
    """

    depths: tuple[int, ...] = (1, 1, 2, 2, 2)
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: str = "none"
    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def stages(self) -> tuple[Stage, ...]:
        check_choice("norm", self.norm, NORMS)
        if not self.depths or len(self.depths) != len(self.features):
            raise InputError(
                f"a vgg needs channels for each block: depths={self.depths} names {len(self.depths)} blocks, "
                f"features={self.features} the channels of {len(self.features)}; make them equally long"
            )
        if len(self.hidden) != 2:
            raise InputError(f"hidden of a vgg is {self.hidden}; expected the two widths of fc6 and fc7")
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        blocks = tuple(
            (f"block{i}", partial(Block, depth, features, self.norm, **dtypes))
            for i, (depth, features) in enumerate(zip(self.depths, self.features, strict=True), 1)
        )
        fc6, fc7 = self.hidden
        return (
            *blocks,
            ("fc6", partial(FirstDense, fc6, "relu", self.dropout, **dtypes)),
            ("fc7", partial(DenseLayer, fc7, "relu", self.dropout, **dtypes)),
            ("head", partial(Head, self.num_outputs, **dtypes)),
        )
