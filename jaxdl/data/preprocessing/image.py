"""Images: resized and cropped on the host, normalised in the step."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdl.data.augment import Augmentation, augment
from jaxdl.data.image_file import DEEP, DEPTHS
from jaxdl.data.preprocessing.interface import Augmented, Constants, kind_of
from jaxdl.data.preprocessing.moments import Standardised, to_unit
from jaxdl.data.preprocessing.resize import resize_on_device
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice


@dataclasses.dataclass(frozen=True)
class ImagePreprocessing(Standardised):
    """Images ``uint8[height, width, channels]``, divided by 255 and normalised.

    Attributes:
      input_shape: ``(height, width, channels)``.
      mean: per channel, subtracted; in units after the division by 255.
      std: per channel, divided by. `mean` and `std` are None until they are fitted to training data.
      interpolation: ``"bilinear"`` or ``"bicubic"``, with antialiasing, when an image has another size.
      crop_fraction: share of the shorter side that the centre crop keeps.
      crop_mode: ``"center"`` scales an image until it covers, whatever its shape, and crops the centre; ``"squash"``
        first gives it the shape of the input, as Hugging Face's ViT was trained; ``"tile"`` leaves it as it is: one of
        another size is cut into tiles, see `training.tiles`.
      bits: of images that are stored with 16 bits a value, how many are used; see `data.image_file.bits_used`.

    Raises:
      InputError: for values that cannot be.
    """

    input_shape: tuple[int, int, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0
    crop_mode: str = "center"
    bits: int = DEEP

    modality = "image"

    def __post_init__(self) -> None:
        check_choice("interpolation", self.interpolation, ("bilinear", "bicubic"))
        check_choice("crop_mode", self.crop_mode, ("center", "squash", "tile"))
        super().__post_init__()
        check_choice("bits", self.bits, DEPTHS)
        if len(self.input_shape) != 3:
            raise InputError(f"input_shape is {self.input_shape}; expected (height, width, channels) of an image")
        if not 0 < self.crop_fraction <= 1:
            raise InputError(f"crop_fraction is {self.crop_fraction}; expected a share above 0, up to 1")

    def stored_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.input_shape, np.uint8)

    def check(self, source: Source) -> None:
        spec = source.spec()["x"] if len(source) else self.stored_spec()
        if not isinstance(spec, jax.ShapeDtypeStruct) or spec.dtype != np.uint8 or len(spec.shape) != 3:
            raise InputError(
                f"{source.name} holds {kind_of(source)}; the network was made for uint8 images (0 to 255) of shape "
                f"{list(self.input_shape)}"
            )

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        return {**example, "x": resize_and_crop(np.asarray(example["x"]), self, what)}

    def instructions(self) -> dict[str, list[str]]:
        height, width, channels = self.input_shape
        colours = {1: "grey (Pillow's mode L)", 3: "red, green, blue"}.get(channels, f"{channels} bands as in training")
        decode = f"decode to uint8 [h, w, {channels}], upright, 0 to 255; channels: {colours}"
        if self.bits != DEEP:
            decode += f"; of a file with 16 bits a value take value >> {self.bits - 8}, at most 255"
        inside = ["divide by 255", "subtract mean and divide by std, one number each per channel"]
        if self.crop_mode == "tile":
            cut = f"cut it into tiles of {height} × {width} pixels where it has another size; nothing is scaled"
            return {"prepare": [decode, cut], "inside": inside}
        tall, wide = scaled_size((1, 1), dataclasses.replace(self, crop_mode="squash"))
        if self.crop_mode == "squash":
            size = f"({tall}, {wide})"
        else:  # as `scaled_size` has it
            size = f"({wide} * h // w, {wide}) if {tall} * w <= {wide} * h else ({tall}, {tall} * w // h)"
        same = f"if it is not {height} × {width} pixels already, " if self.crop_fraction == 1 else ""
        return {
            "prepare": [
                decode,
                f"{same}scale it to [tall, wide] with Pillow's Image.resize((wide, tall), "
                f"{self.interpolation.upper()}), which antialiases: (tall, wide) = {size}",
                f"cut out {height} rows and {width} columns from (row, column) = (round((tall - {height}) / 2), "
                f"round((wide - {width}) / 2)), where a half is rounded to the even number, as Python does",
            ],
            "inside": inside,
        }

    def load(self, source: Source) -> np.ndarray:
        self.check(source)
        held = source.stacked()
        if held is not None and held.shape[1:] == self.input_shape and self.crop_fraction == 1:
            return held
        if held is not None and jax.default_backend() != "cpu":  # on the CPU Pillow is as fast or faster
            return _resized_together(held, self)
        x = np.empty((len(source), *self.input_shape), np.uint8)
        for i in range(len(source)):
            x[i] = resize_and_crop(source[i]["x"], self, f"example {i} of {source.name}")
        return x

    def for_targets(self, source: Source) -> "ImagePreprocessing":
        """Where each pixel has a target, images keep the size that `source` gives them."""
        if source.bits not in (None, self.bits):
            return dataclasses.replace(self, bits=source.bits).for_targets(source)
        spec = source.spec() if len(source) else {}
        if not is_map(spec.get("y"), spec.get("x")):
            return self
        like = source.preprocessing
        mode = like.crop_mode if isinstance(like, ImagePreprocessing) else "tile"
        shape = (*spec["x"].shape[:2], self.input_shape[2])
        return dataclasses.replace(self, input_shape=shape, crop_fraction=1.0, crop_mode=mode)

    def align(self, source: Source) -> Source:
        return source.with_bits(self.bits)

    def plain(self) -> dict[str, Any]:
        held = super().plain()
        return held if self.bits != DEEP else {name: value for name, value in held.items() if name != "bits"}

    def augment(
        self, augmentation: Augmentation, x: Any, y: Any, key: jax.Array, weights: jax.Array, constants: Constants
    ) -> Augmented:
        maps = y if is_map(y, x, batched=True) else None
        changed = augment(augmentation, to_unit(x), key, weights, maps)
        y = y if maps is None else changed.maps
        return Augmented(self.on_device(changed.images, constants), y, changed.partner, changed.share)

    def check_augmentation(self, augmentation: Augmentation) -> None:
        """Every augmentation there is can be done to images."""

    def resized(self, image_size: int) -> "ImagePreprocessing":
        return dataclasses.replace(self, input_shape=(image_size, image_size, self.input_shape[2]))


def is_map(y: Any, x: Any, *, batched: bool = False) -> bool:
    """Whether targets ``[(batch,) height, width, …]`` belong to the pixels of images of the same height and width."""
    shapes = [getattr(one, "shape", ())[batched:] for one in (y, x)]
    return len(shapes[0]) >= 2 and len(shapes[1]) == 3 and shapes[0][:2] == shapes[1][:2]


def resize_and_crop(image: np.ndarray, preprocessing: ImagePreprocessing, what: str = "an example") -> np.ndarray:
    """``uint8[h, w, 1 or 3]`` to ``uint8[input_shape]``: scaled until it covers, centre cropped, grey or colour."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3:
        raise InputError(
            f"{what} is {image.dtype}{list(image.shape)}; the network takes uint8 images, resized to "
            f"{list(preprocessing.input_shape)}"
        )
    height, width, channels = preprocessing.input_shape
    image = in_channels(image, channels)
    if image.shape[:2] == (height, width) and preprocessing.crop_fraction == 1:
        return image
    if preprocessing.crop_mode == "tile":
        raise InputError(
            f"{what} has {image.shape[0]} × {image.shape[1]} pixels; the network was trained on {height} × {width}. "
            f"jaxdl.predict cuts it into tiles; for all else cut or resize it first: data.masks(…, tile=({height}, "
            f"{width})) or size=({height}, {width})"
        )
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


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colour or back where the network takes the other."""
    from PIL import Image

    if image.shape[-1] == channels:
        return image
    if {image.shape[-1], channels} != {1, 3}:
        raise InputError(f"an image has {image.shape[-1]} channels; the network takes {channels}")
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def scaled_size(size: tuple[int, int], preprocessing: ImagePreprocessing) -> tuple[int, int]:
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


TOGETHER = 64  # images that are resized at once on the device


def _resized_together(images: np.ndarray, preprocessing: ImagePreprocessing) -> np.ndarray:
    """As `resize_and_crop` of each of ``uint8[n, h, w, channels]``; see `resize_on_device` for how nearly."""
    height, width, channels = preprocessing.input_shape
    if images.shape[-1] != channels:  # grey or colour is Pillow's to make
        images = np.stack([in_channels(image, channels) for image in images])
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
