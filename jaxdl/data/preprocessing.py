"""From what is stored to what a network is fed."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.folder import ImageFiles
from jaxdl.data.resize import resize_on_device
from jaxdl.data.source import Arrays, Joined, Source, Subset
from jaxdl.data.tfds import TfdsSource
from jaxdl.errors import InputError, check_choice


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How examples are brought to a network's input. It is part of a checkpoint's card.

    Attributes:
      input_shape: ``(height, width, channels)`` of an image, or ``(features,)``.
      kind: ``"uint8"`` (images, divided by 255) or ``"float32"`` (numbers, taken as they are).
      mean: per channel (or feature), subtracted; in units after the division by 255.
      std: per channel (or feature), divided by. `mean` and `std` are None until they are fitted to training data.
      interpolation: ``"bilinear"`` or ``"bicubic"``, with antialiasing, when an image has another size.
      crop_fraction: share of the shorter side that the centre crop keeps.
      crop_mode: ``"center"`` scales an image until it covers, whatever its shape, and crops the centre; ``"squash"``
        first gives it the shape of the input, as Hugging Face's ViT was trained.

    Raises:
      InputError: for values that cannot be.
    """

    input_shape: tuple[int, ...]
    kind: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        check_choice("kind of example", self.kind, ("uint8", "float32"))
        check_choice("interpolation", self.interpolation, ("bilinear", "bicubic"))
        check_choice("crop_mode", self.crop_mode, ("center", "squash"))
        if not self.input_shape or not all(isinstance(n, int) and n > 0 for n in self.input_shape):
            raise InputError(f"input_shape is {self.input_shape}; expected positive whole numbers")
        if not 0 < self.crop_fraction <= 1:
            raise InputError(f"crop_fraction is {self.crop_fraction}; expected a share above 0, up to 1")
        if (self.mean is None) != (self.std is None):
            raise InputError(f"mean is {self.mean} and std {self.std}; expected both or neither")
        for what, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and not (len(values) == self.input_shape[-1] and np.isfinite(values).all()):
                raise InputError(f"{what} is {values}; expected {self.input_shape[-1]} numbers, one per channel")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"std is {self.std}; expected numbers above 0")

    @property
    def fitted(self) -> bool:
        return self.mean is not None

    def normalise(self, x: np.ndarray) -> jax.Array:
        """What the network is fed, float32, of examples ``x[n, *input_shape]`` as stored.

        Raises:
          InputError: if mean and std are not fitted yet.
        """
        if not self.fitted:
            raise InputError("mean and std of this preprocessing are not fitted: train first")
        return normalise(jnp.asarray(x), np.float32(self.mean), np.float32(self.std))


def resize_and_crop(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """``uint8[h, w, 1 or 3]`` to ``uint8[input_shape]``: scaled until it covers, centre cropped, grey or colour."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or len(preprocessing.input_shape) != 3:
        raise InputError(
            f"an example is {image.dtype}{list(image.shape)}; the network takes {preprocessing.kind} of shape "
            f"{list(preprocessing.input_shape)}"
        )
    height, width, channels = preprocessing.input_shape
    image = _in_channels(image, channels)
    if image.shape[:2] == (height, width) and preprocessing.crop_fraction == 1:
        return image
    method = Image.Resampling[preprocessing.interpolation.upper()]
    tall, wide = scaled_size(image.shape[:2], preprocessing)
    if Image.MAX_IMAGE_PIXELS is not None and tall * wide > Image.MAX_IMAGE_PIXELS:
        raise InputError(
            f"an image of {image.shape[0]} × {image.shape[1]} pixels would be scaled to {tall} × {wide} to cover "
            f"{height} × {width}, more than {Image.MAX_IMAGE_PIXELS:,} pixels; crop it to a less elongated one"
        )
    top, left = round((tall - height) / 2), round((wide - width) / 2)

    def resized(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize((wide, tall), method))

    if channels in (1, 3):
        scaled = resized(image[..., 0])[..., None] if channels == 1 else resized(image)
    else:  # Pillow knows no other images; each band is one of its own
        scaled = np.stack([resized(image[..., band]) for band in range(channels)], axis=-1)
    return scaled[top : top + height, left : left + width]


def _in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colour or back where the network takes the other."""
    from PIL import Image

    if image.shape[-1] == channels:
        return image
    if {image.shape[-1], channels} != {1, 3}:
        raise InputError(f"an image has {image.shape[-1]} channels; the network takes {channels}")
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def scaled_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width to which an image of `size` is scaled before the centre is cropped.

    Rounded as torchvision and timm do it: the side that decides is the whole part of input ÷ crop fraction, the other
    side the whole part of what keeps the image's shape.
    """
    target = [math.floor(side / preprocessing.crop_fraction + 1e-6) for side in preprocessing.input_shape[:2]]
    if preprocessing.crop_mode == "squash":
        return target[0], target[1]
    height, width = size
    if target[0] * width <= target[1] * height:  # the width has to grow (or shrink) to its target; the height covers
        return target[1] * height // width, target[1]
    return target[0], target[0] * width // height


def unfitted(source: Source, image_size: int | None, default_size: int) -> Preprocessing:
    """Preprocessing for `source` where no checkpoint gives one; its mean and std wait for the training part.

    Images keep their size if all have the same; else they are brought to `image_size`, or to `default_size`. They
    are grey only if all are.
    """
    if isinstance(source, Arrays):
        shape, kind = source.x.shape[1:], "uint8" if _holds_images(source) else "float32"
    elif not _holds_images(source):
        shape, kind = source[0]["x"].shape, "float32"
    else:
        shapes = _shapes(source)
        sizes = {s[:2] for s in shapes}
        size = sizes.pop() if len(sizes) == 1 else (default_size, default_size)
        shape, kind = (*size, max(s[2] for s in shapes)), "uint8"
    if image_size is not None:
        if kind != "uint8":
            raise InputError(f"{source.name} holds numbers, not images; an image size cannot be set")
        shape = (image_size, image_size, shape[2])
    return Preprocessing(tuple(shape), kind)


def _shapes(source: Source) -> set[tuple[int, ...]]:
    """Every shape of an example that occurs; files are not decoded for it."""
    if isinstance(source, Arrays):
        return {source.x.shape[1:]}
    if isinstance(source, ImageFiles | TfdsSource):
        return source.shapes()
    if isinstance(source, Subset):
        return _shapes(source.source)
    if isinstance(source, Joined):
        return _shapes(source.one) | _shapes(source.two)
    return {source[i]["x"].shape for i in range(len(source))}


def _holds_images(source: Source) -> bool:
    """Whether the examples are ``uint8[height, width, channels]``, rather than numbers."""
    if isinstance(source, ImageFiles) or len(source) == 0:
        return True  # without decoding one
    if isinstance(source, Subset):
        return _holds_images(source.source)
    example = source[0]["x"]
    return example.dtype == np.uint8 and example.ndim == 3


def _stacked(source: Source) -> Arrays:
    """Numbers that a source gives one by one, in memory."""
    rows = [np.asarray(source[i]["x"], np.float32) for i in range(len(source))]
    if len(shapes := {row.shape for row in rows}) > 1:
        raise InputError(f"{source.name} holds numbers of different shapes: {', '.join(map(str, sorted(shapes)))}")
    return _with_x(source, np.stack(rows))


def _with_x(source: Source, x: np.ndarray) -> Arrays:
    return Arrays(
        x,
        source.labels,
        source.class_names,
        groups=source.groups,
        times=source.times,
        names=source.names,
        name=source.name,
    )


def to_memory(source: Source, preprocessing: Preprocessing) -> Arrays:
    """All of `source`, resized and cropped as `preprocessing` says but not yet normalised.

    Raises:
      InputError: if its examples are of another kind or shape than the network takes.
    """
    images = _holds_images(source)
    if images != (preprocessing.kind == "uint8"):
        held = f"{source.x.dtype}{list(source.x.shape[1:])}" if isinstance(source, Arrays) else "other examples"
        raise InputError(
            f"{source.name} holds {held}; the network was made for "
            f"{'uint8 images (0 to 255)' if preprocessing.kind == 'uint8' else 'float32 numbers'} of shape "
            f"{list(preprocessing.input_shape)}"
        )
    if not images and not isinstance(source, Arrays):
        source = _stacked(source)
    if isinstance(source, Arrays):
        if source.x.shape[1:] == preprocessing.input_shape and preprocessing.crop_fraction == 1:
            return source
        if not images:
            raise InputError(
                f"{source.name} has examples of shape {list(source.x.shape[1:])}; the network takes "
                f"{list(preprocessing.input_shape)}"
            )
    if isinstance(source, Arrays) and jax.default_backend() != "cpu":  # on the CPU Pillow is as fast or faster
        x = _resized_together(source.x, preprocessing)
    else:
        x = np.empty((len(source), *preprocessing.input_shape), np.uint8)
        for i in range(len(source)):
            x[i] = resize_and_crop(source[i]["x"], preprocessing)
    return _with_x(source, x)


TOGETHER = 64  # images that are resized at once on the device


def _resized_together(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """As `resize_and_crop` of each of ``uint8[n, h, w, channels]``; see `resize_on_device` for how nearly."""
    height, width, channels = preprocessing.input_shape
    if images.shape[-1] != channels:  # grey or colour is Pillow's to make
        images = np.stack([_in_channels(image, channels) for image in images])
    size = scaled_size(images.shape[1:3], preprocessing)
    corner = round((size[0] - height) / 2), round((size[1] - width) / 2)
    parts = [
        resize_on_device(
            images[i : i + TOGETHER],
            size=size,
            corner=corner,
            crop=(height, width),
            method=preprocessing.interpolation,
        )
        for i in range(0, len(images), TOGETHER)
    ]
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums per example and channel, from which the statistics of any part of the data follow at once."""

    total: np.ndarray
    square: np.ndarray
    positions: int

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Of all examples ``x[n, …, channels]``, uint8 ones divided by 255."""
        flat = x.reshape(len(x), -1, x.shape[-1])
        unit = 255.0 if x.dtype == np.uint8 else 1.0
        total, square = np.empty((2, len(x), x.shape[-1]))
        for i, example in enumerate(flat):
            example = example.astype(np.float64) / unit
            total[i], square[i] = example.sum(0), np.square(example).sum(0)
        return cls(total, square, flat.shape[1])

    def fit(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``float32[channels]`` over the examples `indices` alone."""
        count = len(indices) * self.positions
        mean = self.total[indices].sum(0) / count
        var = self.square[indices].sum(0) / count - np.square(mean)
        # a channel that never varies carries nothing: dividing by rounding noise would make it loud
        std = np.where(var > 1e-12 * np.square(mean), np.sqrt(np.maximum(var, 0)), 1.0)
        return mean.astype(np.float32), std.astype(np.float32)


def to_unit(x: jax.Array) -> jax.Array:
    """Stored examples as float32, uint8 images from 0 to 1."""
    return x.astype(jnp.float32) / (255.0 if x.dtype == jnp.uint8 else 1.0)


def normalise(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Stored examples ``[batch, …, channels]`` to float32 ones with `mean` taken away and divided by `std`."""
    return (to_unit(x) - mean) / std
