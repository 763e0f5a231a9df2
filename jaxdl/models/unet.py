"""U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015,
arXiv:1505.04597), with a contracting path of its own or with that of another family, whose weights may be trained.

What flows is ``{"x": …, "skips": (…)}``: the activations, and those that stages before made at larger sizes.
Convolutions are padded, so that logits come for every pixel of an image of any size; the paper's are not, and its maps
are smaller than its images.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl.errors import InputError, check_choice
from jaxdl.identity import remembered
from jaxdl.models.initialise import stage_shapes
from jaxdl.models.layers import Norm, conv, pool
from jaxdl.models.staged import Mode, Stage, Staged

UPSAMPLES = ("transposed", "nearest")
LOOKED_AT = 256  # side of the image by which it is found out where an encoder halves
HALVES = 1.5  # a stage that makes the side smaller by at least this goes one level down


class DoubleConv(nn.Module):
    """Twice: a 3×3 convolution, normalisation, ReLU; dropout between the two."""

    features: int
    norm: str
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        for i in (1, 2):
            x = conv(self.features, 3, bias=self.norm == "none", name=f"conv{i}", **dtypes)(x)
            x = nn.relu(Norm(self.norm, name=f"norm{i}", **dtypes)(x, mode))
            if i == 1:
                x = nn.Dropout(self.dropout, deterministic=not mode.train)(x)
        return x


class Down(nn.Module):
    """A level of the contracting path: the larger of 2×2 values but at the first level, then `DoubleConv`."""

    features: int
    pooled: bool
    norm: str
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if x.ndim != 4:
            raise InputError(f"a unet needs [batch, height, width, channels], got {x.shape}")
        if self.pooled and min(x.shape[1:3]) < 2:
            raise InputError(f"an image of {x.shape[1]} × {x.shape[2]} cannot be halved: take a smaller depth")
        x = pool(x, "max") if self.pooled else x
        return DoubleConv(self.features, self.norm, self.dropout, self.dtype, self.param_dtype, name="convs")(x, mode)


class Up(nn.Module):
    """A level of the expanding path: enlarged to the size of the last skip, joined with it, then `DoubleConv`.

    Attributes:
      features: channels out.
      factor: by which height and width grow.
      upsample: ``"transposed"``, the paper's 2×2 up-convolution, which halves the channels, or ``"nearest"``.
    """

    features: int
    factor: int
    upsample: str
    norm: str
    dropout: float
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, flowing: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x, (*skips, skip) = flowing["x"], flowing["skips"]
        if self.upsample == "transposed":
            # windows that do not overlap: a linear map to all values of each, no convolution
            x = nn.Dense(self.features * self.factor**2, name="up", **dtypes)(x)
            x = spread(x, self.factor)
        else:
            x = x.repeat(self.factor, axis=1).repeat(self.factor, axis=2)
        x = jnp.concatenate([fitted(x, *skip.shape[1:3]), skip.astype(x.dtype)], -1)
        x = DoubleConv(self.features, self.norm, self.dropout, name="convs", **dtypes)(x, mode)
        return {"x": x, "skips": tuple(skips)}


def spread(x: jax.Array, factor: int) -> jax.Array:
    """``[batch, height, width, factor² · channels]`` to ``[batch, factor · height, factor · width, channels]``."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, factor, factor, channels // factor**2)
    return x.swapaxes(2, 3).reshape(batch, factor * height, factor * width, -1)


def fitted(x: jax.Array, height: int, width: int) -> jax.Array:
    """Cut to `height` and `width`, or its last row and column repeated: halving an odd side drops one."""
    x = x[:, :height, :width]
    return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)), mode="edge")


class PixelHead(nn.Module):
    """The last stage: a linear map of each pixel's features to logits ``[batch, height, width, num_outputs]``."""

    num_outputs: int
    relu: bool
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, flowing: Mapping[str, Any], mode: Mode) -> jax.Array:
        x = nn.Dense(self.num_outputs, dtype=self.dtype, param_dtype=self.param_dtype, name="dense")(flowing["x"])
        return nn.relu(x) if self.relu else x


class UNet(Staged):
    """Logits for every pixel. Stages ``down1, …, bottom, upN, …, up1, head``, or those of `encoder` for the first ones.

    Attributes:
      encoder: a model of `jaxdl.create` whose stages up to the last feature map are the contracting path, with their
        names; so its trained weights fit. None for one of its own.
      depth: how often a contracting path of its own halves height and width.
      width: channels at the size of the image; they double from level to level.
      upsample: see `Up`.
      norm: after each 3×3 convolution, ``"batch"``, ``"group"`` or ``"none"``.
      dropout: share dropped between the two convolutions of a level.
      head_relu: whether negative logits are cut to 0, as some published networks do.
    """

    encoder: Staged | None = None
    depth: int = 4
    width: int = 64
    upsample: str = "transposed"
    norm: str = "batch"
    dropout: float = 0.0
    head_relu: bool = False

    PARTS = ("encoder",)
    ANSWERS = "segmentation"

    def stages(self) -> tuple[Stage, ...]:
        check_choice("upsample", self.upsample, UPSAMPLES)
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        convs = dict(norm=self.norm, dropout=self.dropout, **dtypes)
        if self.encoder is None:
            if self.depth < 1 or self.width < 1:
                raise InputError(f"a unet has depth={self.depth}, width={self.width}; expected at least 1 of each")
            names = [f"down{i + 1}" for i in range(self.depth)] + ["bottom"]
            down = [(n, partial(Down, self.width * 2**i, i > 0, **convs)) for i, n in enumerate(names)]
            factors = dict.fromkeys(names[1:], 2)
        else:
            encoder = self.encoder.clone(parent=None, name=None, **dtypes)
            factors, down = feature_maps(encoder)
        up = [
            (f"up{level}", partial(Up, self.width * 2 ** (level - 1), factor, self.upsample, **convs))
            for level, factor in enumerate(factors.values(), 1)
        ]
        return (
            *((name, partial(_carrying, make, name in factors)) for name, make in down),
            *reversed(up),
            ("head", partial(PixelHead, self.num_outputs, self.head_relu, **dtypes)),
        )


def without_skips(flowing: Any) -> Any:
    """What a stage of a U-Net made, without what it only hands on; of other networks all that flows."""
    return flowing["x"] if isinstance(flowing, Mapping) and flowing.keys() == {"x", "skips"} else flowing


def _carrying(make: Callable[..., nn.Module], goes_down: bool, name: str) -> Callable[[Any, Mode], dict[str, Any]]:
    """A stage of a contracting path, which also hands on what it makes smaller. Its variables are the stage's own."""
    stage = make(name=name)

    def run(flowing: Any, mode: Mode) -> dict[str, Any]:
        x, skips = without_skips(flowing), flowing["skips"] if isinstance(flowing, Mapping) else ()
        return {"x": stage(x, mode), "skips": (*skips, x) if goes_down else skips}

    return run


@remembered(64)
def feature_maps(encoder: Staged) -> tuple[dict[str, int], tuple[Stage, ...]]:
    """The stages of a model that make feature maps, and by how much each that makes them smaller does so.

    Raises:
      InputError: for a model that makes none, such as a vision transformer, whose patches all have one size.
    """
    taps = stage_shapes(encoder, (LOOKED_AT, LOOKED_AT, 3))
    factors, side, maps = {}, LOOKED_AT, []
    for name, make in encoder.stages():
        shape = getattr(taps.get(name), "shape", ())
        if len(shape) != 4:
            break
        maps.append((name, make))
        if side / shape[1] >= HALVES:
            factors[name] = round(side / shape[1])
            side = shape[1]
    if not factors:
        kind = type(encoder).__name__
        raise InputError(
            f"a {kind} has no stages that make feature maps smaller and smaller, as a U-Net needs them; take a "
            "convolutional network such as resnet18 or mobilenet_v2, or encoder=None"
        )
    return factors, tuple(maps)
