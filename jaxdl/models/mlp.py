"""The multilayer perceptron."""

from functools import partial

import flax.linen as nn
import jax

from jaxdl.errors import InputError, check_choice
from jaxdl.models.layers import ACTIVATIONS, Head, activation
from jaxdl.models.staged import Mode, Stage, Staged


class DenseLayer(nn.Module):
    """Linear map, activation, dropout; an image is flattened first."""

    features: int
    activation: str
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(self.features, dtype=self.dtype, param_dtype=self.param_dtype, name="dense")(x)
        x = activation(self.activation)(x)
        return nn.Dropout(self.dropout, deterministic=not mode.train)(x)


class MLP(Staged):
    """Stages ``layer1, layer2, …, head``.

    Attributes:
      hidden: width of each hidden layer.
      activation: one of `layers.ACTIVATIONS`.
      dropout: share of hidden units dropped in training.
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    dropout: float = 0.0

    def stages(self) -> tuple[Stage, ...]:
        if not self.hidden:
            raise InputError("an mlp needs at least one hidden layer: hidden=(64,), say")
        check_choice("activation", self.activation, ACTIVATIONS)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        layers = tuple(
            (f"layer{i}", partial(DenseLayer, width, self.activation, self.dropout, **dtypes))
            for i, width in enumerate(self.hidden, 1)
        )
        return *layers, ("head", partial(Head, self.num_outputs, **dtypes))
