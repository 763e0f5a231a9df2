"""Inception-v3: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).

As torchvision and timm have it, without the auxiliary classifier, which serves training from scratch alone.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.layers import BatchNorm, GlobalAveragePool, Head, conv
from jaxdl.models.pooling import max_pool
from jaxdl.models.staged import Mode, Stage, Staged

SMALLEST = 75  # pixels of a side; from fewer nothing is left for the last blocks
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution with batch normalisation and ReLU.

    Attributes:
      name: of its module.
      features: channels at the published width.
      size: of the kernel, one number or rows and columns.
      stride: of the convolution.
      padded: so that stride 1 keeps height and width; else windows stay inside the image.
    """

    name: str
    features: int
    size: int | tuple[int, int] = 1
    stride: int = 1
    padded: bool = True


# one after another; units in a tuple all see the same, and what comes out is concatenated, as that of the branches is
Step = Unit | tuple[Unit, ...] | Callable[[jax.Array], jax.Array]
Branch = tuple[Step, ...]


def average_pool(x: jax.Array) -> jax.Array:
    """Over 3×3 windows with stride 1, zeros around the image counted in."""
    return nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))


halving_pool = partial(max_pool, size=3, stride=2)


def _block_a(pool_features: int) -> tuple[Branch, ...]:
    """Figure 5."""
    return (
        (Unit("branch1x1", 64),),
        (Unit("branch5x5_1", 48), Unit("branch5x5_2", 64, 5)),
        (Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), Unit("branch3x3dbl_3", 96, 3)),
        (average_pool, Unit("branch_pool", pool_features)),
    )


def _block_b() -> tuple[Branch, ...]:
    """Figure 10: halves height and width."""
    last = Unit("branch3x3dbl_3", 96, 3, 2, padded=False)
    return (
        (Unit("branch3x3", 384, 3, 2, padded=False),),
        (Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), last),
        (halving_pool,),
    )


def _block_c(inner: int) -> tuple[Branch, ...]:
    """Figure 6: n × n convolutions made of n × 1 and 1 × n, n = 7."""
    row, column = (1, 7), (7, 1)
    return (
        (Unit("branch1x1", 192),),
        (Unit("branch7x7_1", inner), Unit("branch7x7_2", inner, row), Unit("branch7x7_3", 192, column)),
        (
            Unit("branch7x7dbl_1", inner),
            Unit("branch7x7dbl_2", inner, column),
            Unit("branch7x7dbl_3", inner, row),
            Unit("branch7x7dbl_4", inner, column),
            Unit("branch7x7dbl_5", 192, row),
        ),
        (average_pool, Unit("branch_pool", 192)),
    )


def _block_d() -> tuple[Branch, ...]:
    """Figure 10's other form: halves height and width."""
    return (
        (Unit("branch3x3_1", 192), Unit("branch3x3_2", 320, 3, 2, padded=False)),
        (
            Unit("branch7x7x3_1", 192),
            Unit("branch7x7x3_2", 192, (1, 7)),
            Unit("branch7x7x3_3", 192, (7, 1)),
            Unit("branch7x7x3_4", 192, 3, 2, padded=False),
        ),
        (halving_pool,),
    )


def _block_e() -> tuple[Branch, ...]:
    """Figure 7: for the coarsest grid."""
    double = (Unit("branch3x3dbl_3a", 384, (1, 3)), Unit("branch3x3dbl_3b", 384, (3, 1)))
    return (
        (Unit("branch1x1", 320),),
        (Unit("branch3x3_1", 384), (Unit("branch3x3_2a", 384, (1, 3)), Unit("branch3x3_2b", 384, (3, 1)))),
        (Unit("branch3x3dbl_1", 448), Unit("branch3x3dbl_2", 384, 3), double),
        (average_pool, Unit("branch_pool", 192)),
    )


STEM: Branch = (
    Unit("conv1a", 32, 3, 2, padded=False),
    Unit("conv2a", 32, 3, padded=False),
    Unit("conv2b", 64, 3),
    halving_pool,
    Unit("conv3b", 80),
    Unit("conv4a", 192, 3, padded=False),
    halving_pool,
)
MIXED: dict[str, tuple[Branch, ...]] = {
    "mixed_5b": _block_a(32),
    "mixed_5c": _block_a(64),
    "mixed_5d": _block_a(64),
    "mixed_6a": _block_b(),
    "mixed_6b": _block_c(128),
    "mixed_6c": _block_c(160),
    "mixed_6d": _block_c(160),
    "mixed_6e": _block_c(192),
    "mixed_7a": _block_d(),
    "mixed_7b": _block_e(),
    "mixed_7c": _block_e(),
}


def units(branches: tuple[Branch, ...]) -> Iterator[Unit]:
    """All units of a block."""
    for branch in branches:
        for step in branch:
            yield from step if isinstance(step, tuple) else (step,) if isinstance(step, Unit) else ()


class ConvNorm(nn.Module):
    """What a `Unit` describes."""

    unit: Unit
    width: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        unit, dtypes = self.unit, dict(dtype=self.dtype, param_dtype=self.param_dtype)
        features = max(1, round(unit.features * self.width))
        x = conv(features, unit.size, unit.stride, padded=unit.padded, name="conv", **dtypes)(x)
        return nn.relu(BatchNorm(epsilon=1e-3, name="norm", **dtypes)(x, mode))


class Mixed(nn.Module):
    """Branches that all see the same; their channels are concatenated.

    Attributes:
      branches: see `Step`.
      width: factor on the channels of every unit.
      before: done first, for all of them.
    """

    branches: tuple[Branch, ...]
    width: float
    dtype: str
    param_dtype: str
    before: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        def run(step: Step, x: jax.Array) -> jax.Array:
            if isinstance(step, tuple):
                return jnp.concatenate([run(unit, x) for unit in step], -1)
            if isinstance(step, Unit):
                return ConvNorm(step, self.width, self.dtype, self.param_dtype, name=step.name)(x, mode)
            return step(x)

        if self.before is not None:
            x = self.before(x)
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = run(step, y)
            outputs.append(y)
        return jnp.concatenate(outputs, -1)


class Stem(Mixed):
    """The first convolutions: a single branch behind a check of the image.

    Attributes:
      family: for messages.
      smallest: side in pixels that the whole network needs.
      transform_input: see `InceptionV3`.
    """

    family: str = ""
    smallest: int = 1
    transform_input: bool = False

    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4 or min(x.shape[1:3]) < self.smallest:
            raise InputError(
                f"{self.family} needs [batch, height, width, channels] of at least {self.smallest}×{self.smallest} "
                f"pixels, got {x.shape}"
            )
        if self.transform_input:
            if x.shape[-1] != 3:
                raise InputError(f"transform_input is for images of 3 channels, got {x.shape}; set it to False")
            mean, std = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
            x = (x * (std / 0.5) + (mean - 0.5) / 0.5).astype(x.dtype)
        return super().__call__(x, mode)


def check_width(family: str, width: float) -> None:
    """Raises InputError unless `width` is a factor that leaves channels."""
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width of {family} is {width}; expected a factor above 0, 1 as published")


class InceptionV3(Staged):
    """Stages ``stem, mixed_5b, 5c, 5d, 6a, …, 6e, 7a, 7b, 7c, pool, head``.

    Attributes:
      width: factor on the channels of every layer.
      dropout: of the features, in training.
      transform_input: images are normalised with ImageNet's mean and standard deviation, and turned at the entrance
        into what the published weights were trained on: mean and standard deviation 0.5 (torchvision's option).
    """

    width: float = 1.0
    dropout: float = 0.5
    transform_input: bool = False

    def stages(self) -> tuple[Stage, ...]:
        check_width("inception_v3", self.width)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        options = dict(family="inception_v3", smallest=SMALLEST, transform_input=self.transform_input)
        return (
            ("stem", partial(Stem, (STEM,), self.width, **options, **dtypes)),
            *((name, partial(Mixed, branches, self.width, **dtypes)) for name, branches in MIXED.items()),
            ("pool", GlobalAveragePool),
            ("head", partial(Head, self.num_outputs, self.dropout, **dtypes)),
        )
