"""Layers that the families share."""

import math
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.models.convolution import convolve
from jaxdl.models.flax_layers import batch_statistics, check_several
from jaxdl.models.sequence import SequenceDropout
from jaxdl.models.staged import Mode

# He et al. 2015 (arXiv:1502.01852): the variance that keeps signals alive through ReLUs, on the way back.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": nn.sigmoid,  # 1 / (1 + exp(-x)): saturates on both sides, its slope is at most 1/4
    "tanh": nn.tanh,  # a sigmoid around zero, slope at most 1
    "relu": nn.relu,  # max(x, 0): slope 0 or 1, may die
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.01),  # Maas et al. 2013: never quite dead
    "elu": nn.elu,  # Clevert et al. 2016: smooth, mean nearer to zero
    "gelu": partial(nn.gelu, approximate=False),  # Hendrycks & Gimpel 2016: x · Φ(x)
    "silu": nn.silu,  # x · sigmoid(x)
}
NORMS = ("batch", "group", "none")
POOLS = ("max", "average")


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation function `name`, one of ACTIVATIONS. Raises InputError."""
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over the real examples of the whole batch.

    Sums and counts are added up first, over the mask and over devices, and divided once: exact when devices hold
    unequal numbers of examples, or none. The running variance is the unbiased one, as PyTorch keeps it. Statistics
    are computed in float32 or wider, and kept in float32, whatever the compute dtype.

    Attributes:
      momentum: share of the running statistics that a step keeps.
      epsilon: added to the variance.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        """``[batch, …, channels]`` to the same shape."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if mode.train and self.path not in mode.still:
            mean, var, count = batch_statistics(x, mode.mask, mode.axis_name)
            if not self.is_initializing():
                check_several(len(x), math.prod(x.shape[1:-1]), mode.axis_name, self.path)
                # a batch without a single example leaves the running statistics as they are
                keep = jnp.where(count > 0, self.momentum, 1.0)
                unbiased = var * (count / jnp.maximum(count - 1, 1))
                running_mean.value = (keep * running_mean.value + (1 - keep) * mean).astype(jnp.float32)
                running_var.value = (keep * running_var.value + (1 - keep) * unbiased).astype(jnp.float32)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        y = (x - mean) * factor + bias
        return y.astype(self.dtype)


class Norm(nn.Module):
    """Batch, group or no normalisation by name; group normalisation (Wu & He 2018) has up to 8 groups."""

    kind: str = "batch"
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        check_choice("norm", self.kind, NORMS)
        if self.kind == "batch":
            return BatchNorm(dtype=self.dtype, param_dtype=self.param_dtype, name="batch")(x, mode)
        if self.kind == "group":
            groups = next(g for g in (8, 4, 2, 1) if x.shape[-1] % g == 0)
            return nn.GroupNorm(groups, dtype=self.dtype, param_dtype=self.param_dtype, name="group")(x)
        return x


def conv(
    features: int,
    size: int | tuple[int, int],
    stride: int = 1,
    *,
    bias: bool = False,
    padded: bool = True,
    same: bool = False,
    **options: Any,
) -> nn.Conv:
    """A convolution padded as PyTorch pads it: ``size // 2`` on every side, whatever the stride, or not at all.

    With `same` as TensorFlow pads it: as much as makes height and width those of the image, divided by the stride and
    rounded up, half of it on either side and an odd one below or on the right.
    """
    sizes = (size, size) if isinstance(size, int) else size
    padding = "SAME" if same else tuple((side // 2, side // 2) if padded else (0, 0) for side in sizes)
    options.setdefault("kernel_init", he_normal)
    options.setdefault("conv_general_dilated", convolve)
    return nn.Conv(features, sizes, (stride, stride), padding, use_bias=bias, **options)


def pool(x: jax.Array, kind: str, size: int = 2) -> jax.Array:
    """Max or average over windows of ``size × size`` that do not overlap; rows and columns left over are dropped.

    By reshape: on the CPU the gradient of a windowed maximum is slow. The maximum goes pair by pair, because the
    gradient of a reduction divides by the number of values found equal to the maximum, and a compiler that computes
    these twice, rounded differently, finds none: NaN. (Seen on the CPU with XLA's optimisations off.)
    """
    check_choice("pool", kind, POOLS)
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    windows = x[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, channels)
    if kind == "average":
        return windows.mean((2, 4))
    tallest = reduce(jnp.maximum, (windows[:, :, i] for i in range(size)))
    return reduce(jnp.maximum, (tallest[:, :, :, i] for i in range(size)))


class GlobalAveragePool(nn.Module):
    """``[batch, height, width, channels]`` to ``[batch, channels]``."""

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        return x.mean((1, 2))


def check_stochastic_depth(probability: float) -> None:
    """Raises InputError for what is no probability that an example skips a block, see `add_or_skip`."""
    if not 0 <= probability < 1:
        raise InputError(f"stochastic_depth is {probability}; expected at least 0 and less than 1")


def add_or_skip(x: jax.Array, y: jax.Array, probability: float, mode: Mode) -> jax.Array:
    """``x + y`` of a block; in training an example skips `y` with this probability (Huang et al., arXiv:1603.09382).

    One draw for each example; those that stay are scaled up by 1 ÷ (1 − probability). Called inside a module.
    """
    return x + nn.Dropout(probability, broadcast_dims=(1, 2, 3), deterministic=not mode.train)(y)


class Head(nn.Module):
    """The last stage: dropout and a linear map from features ``[batch, width]`` to logits; nothing for no outputs.

    Of features that come as ``{"features": …}`` with more beside them it gives ``{"outputs": …}`` with the same beside.
    """

    num_outputs: int
    dropout: float = 0.0
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Any, mode: Mode) -> Any:
        beside = {name: one for name, one in x.items() if name != "features"} if isinstance(x, Mapping) else None
        if not self.num_outputs:  # the features are the answer
            return x
        features = x if beside is None else x["features"]
        if features.ndim > 2:
            features = SequenceDropout(self.dropout)(features, mode)
        else:
            features = nn.Dropout(self.dropout, deterministic=not mode.train)(features)
        dense = nn.Dense(self.num_outputs, dtype=self.dtype, param_dtype=self.param_dtype, name="dense")
        return dense(features) if beside is None else {"outputs": dense(features), **beside}
