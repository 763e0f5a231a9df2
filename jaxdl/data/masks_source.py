"""A source of images with masks, decoded when asked for."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.content import content_hash
from jaxdl.data.folder import Files
from jaxdl.data.image_file import DEEP, bytes_of, image_shape, printable, read_image, read_small
from jaxdl.data.masks_classes import VOID
from jaxdl.data.preprocessing.image import ImagePreprocessing

Size = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MaskFiles(Files):
    """Image files, each pixel of which has a class; attributes as in `Source`.

    An example is ``{"x": uint8[h, w, 1 or 3], "y": uint8[h, w]}``: classes from 0, and `VOID` where nobody knows. The
    masks are in memory. Examples are compared by the bytes of their files, without decoding, together with the size to
    which they are scaled, or the place of the tile.

    Attributes:
      paths: the image of each example.
      labels: ``uint8[n, h, w]``; None if unknown.
      size: to which each image is scaled; None to leave it as it is.
      tile: size of the tiles; None for whole images.
      places: ``int64[n, 2]``: top and left pixel of each tile.
      notes: what was decided or left out when the files were read, in words.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    name: str
    groups: np.ndarray | None = None
    size: Size | None = None
    tile: Size | None = None
    places: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    bits: int | None = None

    PER_EXAMPLE = ("labels", "groups", "places")

    @property
    def names(self) -> Sequence[str]:
        """The files; of a tile with its rows and columns in the image, ``file[0:64, 64:128]``."""
        if self.tile is None:
            return [printable(path) for path in self.paths]
        (height, width), places = self.tile, self.places.tolist()
        return [
            f"{printable(path)}[{top}:{top + height}, {left}:{left + width}]"
            for path, (top, left) in zip(self.paths, places, strict=True)
        ]

    @property
    def preprocessing(self) -> ImagePreprocessing | None:
        """What scales new images as these are; None where they are left as they are."""
        if self.size is None:
            return None
        return ImagePreprocessing(
            (*self.size, max((shape[2] for shape in self.shapes()), default=3)), crop_mode="squash"
        )

    def original_size(self, index: int) -> Size | None:
        return None if self.size is None else image_shape(self.paths[index])[:2]

    def _shape(self, path: Path) -> tuple[int, int, int]:
        height, width, channels = image_shape(path)
        return (*(self.tile or self.size or (height, width)), channels)

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        return read_small(self.paths[index], side, self.bits or DEEP) if self.tile is None else self[index]["x"]

    @cached_property
    def _hashes(self) -> np.ndarray:
        held = {path: content_hash(bytes_of(path)) for path in dict.fromkeys(self.paths)}
        found = [held[path] for path in self.paths]
        if self.size is not None:
            found = [content_hash(f"{one} as {list(self.size)}".encode()) for one in found]
        if self.tile is not None:
            places = self.places.tolist()
            found = [
                content_hash(f"{one} {list(self.tile)} at {at}".encode()) for one, at in zip(found, places, strict=True)
            ]
        return np.array(found, np.uint64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        if self.tile is not None:
            changed = path.stat().st_mtime_ns if path.exists() else -1
            x = cut_image(_kept_image(path, changed, self.bits or DEEP), self.tile, *self.places[index].tolist())
        else:
            x = read_image(path, self.bits or DEEP)
            x = x if self.size is None else scale_image(x, self.size)
        return {"x": x} if self.labels is None else {"x": x, "y": self.labels[index]}


@lru_cache(maxsize=1)
def _kept_image(path: Path, changed: int, bits: int) -> np.ndarray:
    """The last image that was cut, decoded once for all its tiles, unless its file `changed` since."""
    return read_image(path, bits)


def scale_image(x: np.ndarray, size: Size) -> np.ndarray:
    """``uint8[height, width, channels]`` to `size`: bilinear, over as many pixels as become one."""
    from PIL import Image

    image = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
    return np.array(image.resize(size[::-1], Image.Resampling.BILINEAR)).reshape(*size, x.shape[-1])


def scale_mask(numbers: np.ndarray, size: Size) -> np.ndarray:
    """``uint8[height, width]`` to `size` by the pixel that holds each centre: there is nothing between two classes."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(numbers.shape, size, strict=True))
    return numbers[np.ix_(rows, columns)]


def tile_places(shape: Size, tile: Size) -> list[tuple[int, int]]:
    """Top and left of the tiles that cover an image, row by row; the last ones are shifted back to lie inside."""
    tops, lefts = (
        [min(first, max(0, whole - part)) for first in range(0, whole, part)]
        for whole, part in zip(shape, tile, strict=True)
    )
    return [(top, left) for top in tops for left in lefts]


def cut_image(x: np.ndarray, tile: Size, top: int, left: int) -> np.ndarray:
    """A tile of an image; where this is smaller than a tile, mirrored at its lower and right edge."""
    part = x[top : top + tile[0], left : left + tile[1]]
    missing = [(0, size - had) for size, had in zip(tile, part.shape, strict=False)]
    return np.pad(part, [*missing, (0, 0)], mode="symmetric")


def cut_mask(y: np.ndarray, tile: Size, top: int, left: int) -> np.ndarray:
    """A tile of a mask, in which pixels outside the image, and those that an earlier tile has, are `VOID`."""
    part = np.full(tile, VOID, np.uint8)
    found = y[top : top + tile[0], left : left + tile[1]]
    part[: found.shape[0], : found.shape[1]] = found
    part[: -top % tile[0]] = VOID  # a tile that was not shifted back begins at a multiple of its size
    part[:, : -left % tile[1]] = VOID
    return part
