"""The textbook convolutional network: convolution, activation, pooling, flatten, fully connected."""

from functools import partial

import flax.linen as nn
import jax

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import ACTIVATIONS, NORMS, POOLS, Head, Norm, activation, conv, pool
from jaxdl.models.mlp import DenseLayer
from jaxdl.models.staged import Mode, Stage, Staged


class ConvLayer(nn.Module):
    """Convolution 3×3, normalisation, activation, pooling 2×2."""

    features: int
    activation: str
    pool: str
    norm: str
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4 or min(x.shape[1:3]) < 2:
            raise InputError(
                f"{mode.stage} of a cnn needs [batch, height, width, channels] of at least 2×2 pixels, got "
                f"{x.shape}; use larger images, fewer `features`, or the model 'mlp'"
            )
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        # normalisation subtracts the mean, so a bias before it would do nothing
        x = conv(self.features, 3, bias=self.norm == "none", name="conv", **dtypes)(x)
        x = Norm(self.norm, name="norm", **dtypes)(x, mode)
        return pool(activation(self.activation)(x), self.pool)


class CNN(Staged):
    """Stages ``conv1, conv2, …, dense1, …, head``; the first dense stage flattens.

    Attributes:
      features: channels of each convolution; each halves height and width.
      hidden: width of each fully connected layer before the head.
      activation: one of `layers.ACTIVATIONS`.
      pool: ``"max"`` or ``"average"``.
      norm: ``"batch"``, ``"group"`` or ``"none"``.
      dropout: share of fully connected units dropped in training.
    """

    features: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    pool: str = "max"
    norm: str = "batch"
    dropout: float = 0.0

    def stages(self) -> tuple[Stage, ...]:
        if not self.hidden:
            raise InputError("a cnn needs at least one fully connected layer: hidden=(64,), say")
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("pool", self.pool, POOLS)
        check_choice("norm", self.norm, NORMS)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        convolutions = tuple(
            (f"conv{i}", partial(ConvLayer, channels, self.activation, self.pool, self.norm, **dtypes))
            for i, channels in enumerate(self.features, 1)
        )
        dense = tuple(
            (f"dense{i}", partial(DenseLayer, width, self.activation, self.dropout, **dtypes))
            for i, width in enumerate(self.hidden, 1)
        )
        return *convolutions, *dense, ("head", partial(Head, self.num_outputs, **dtypes))
