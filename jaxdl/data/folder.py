"""Folders of class folders of images."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxdl.data.content import content_hash
from jaxdl.data.source import Source, pick
from jaxdl.errors import InputError, check_choice

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# What a file may hold, whatever its suffix. Pillow knows dozens more, and runs another program for some of them.
FORMATS = ("JPEG", "PNG", "WEBP")
SPLITS = ("train", "val")
ORIENTATION = 0x0112  # the EXIF entry
LYING = range(5, 9)  # its values for an image on its side


def printable(path: str | Path) -> str:
    """A path as text that can be written anywhere: bytes of a file's name that are no UTF-8 become ``\\x..``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """A Pillow image whose pixels are not decoded yet; whatever goes wrong with it names the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.width * image.height, path)
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # Pillow itself refuses twice the limit, and says how many there are
        _check_size(int(re.search(r"\d+", str(error))[0]), path)
    except Exception as error:  # decoders meet arbitrary bytes: there is no list of what they raise
        reason = "it is no JPEG, PNG or WebP image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"the image '{printable(path)}' cannot be read ({reason})", "replace or remove it") from error


def _check_size(pixels: int, path: str | Path) -> None:
    """Refuses, before it is decoded, an image that would fill the memory: a small file can unpack to gigabytes."""
    from PIL import Image

    if (limit := Image.MAX_IMAGE_PIXELS) is not None and pixels > limit:
        raise InputError(
            f"the image '{printable(path)}' has {pixels:,} pixels, more than the limit of {limit:,}; it was not "
            "decoded",
            "shrink it (from Python, PIL.Image.MAX_IMAGE_PIXELS is the limit)",
        )


def image_shape(path: str | Path) -> tuple[int, int, int]:
    """``(height, width, 1 or 3)`` of what `read_image` gives, without keeping it. Raises InputError as it does."""
    with opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in LYING
        width, height = image.size[::-1] if turned else image.size
        return height, width, _channels(image)


def read_image(path: str | Path) -> np.ndarray:
    """``uint8[height, width, 1 or 3]``, turned upright as its EXIF entry says.

    Grey stays one channel; palettes and CMYK become RGB; transparency is dropped; of 16 bits the upper 8 are kept; of
    an animation the first picture. The file's bytes decide what it is, not its suffix: JPEG, PNG or WebP.

    Raises:
      InputError: naming the file, if it cannot be decoded or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``
        (89,478,485 unless set otherwise).
    """
    with opened(path) as stored:
        image = _upright(stored)
        return to_pixels(image, _channels(image))


def read_small(path: str | Path, side: int) -> np.ndarray:
    """As `read_image`, but colours in any case, and a JPEG scaled down while it is decoded, to `side` or more pixels.

    Decoding takes a fraction of the time; for what is to become a thumbnail.
    """
    with opened(path) as stored:
        if min(stored.size) > 2 * side:
            stored.draft("RGB", (2 * side, 2 * side))
        return to_pixels(_upright(stored), 3)


def to_pixels(image: Any, channels: int) -> np.ndarray:
    """``uint8[height, width, channels]`` of a Pillow image: grey for 1, colours for 3; of 16 bits the upper 8."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
        return np.repeat(grey, channels, axis=-1)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def _upright(image: Any) -> Any:
    """As ``ImageOps.exif_transpose``, which also writes the EXIF block again and fails where that is odd."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _channels(image: Any) -> int:
    return 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else 3


class Files(Source):
    """What sources of image files have in common; a base of dataclasses with the fields ``paths``, one file for each
    example, and ``labels``, its ``y`` or None.

    Attributes:
      PER_EXAMPLE: names of the other fields that hold a value for each example, or None.
    """

    PER_EXAMPLE = ("labels", "groups")

    def _shape(self, path: Path) -> tuple[int, int, int]:
        """``(height, width, channels)`` of an example of this file, from its header alone."""
        return image_shape(path)

    def targets(self) -> np.ndarray | None:
        return self.labels

    def spec(self) -> dict[str, Any]:
        """From the header of the first file."""
        x = jax.ShapeDtypeStruct(self._shape(self.paths[0]), np.uint8)
        if self.labels is None:
            return {"x": x}
        return {"x": x, "y": jax.ShapeDtypeStruct(self.labels.shape[1:], self.labels.dtype)}

    def shapes(self) -> set[tuple[int, int, int]]:
        """Every ``(height, width, channels)`` that occurs, from the files' headers alone."""
        return {self._shape(path) for path in dict.fromkeys(self.paths)}

    def take(self, indices: np.ndarray) -> Self:
        chosen = {name: pick(getattr(self, name), indices) for name in self.PER_EXAMPLE}
        taken = dataclasses.replace(self, paths=tuple(self.paths[i] for i in indices), **chosen)
        return self._known_to(taken, indices)

    def with_groups(self, groups: np.ndarray) -> Self:
        return self._known_to(dataclasses.replace(self, groups=groups), slice(None))

    def _known_to(self, other: Self, places: Any) -> Self:
        """`other`, of the files at `places`, with their hashes if these are known: files are read once."""
        if "_hashes" in vars(self):
            vars(other)["_hashes"] = self._hashes[places]
        return other

    def __len__(self) -> int:
        return len(self.paths)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(Files):
    """A source of image files, decoded when asked for; attributes as in `Source`.

    Examples are compared by the bytes of their files, without decoding: the same picture in another file
    format counts as another example.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    name: str
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    PER_EXAMPLE = ("labels", "groups", "times")

    @property
    def names(self) -> Sequence[str]:
        return [printable(path) for path in self.paths]

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        return read_small(self.paths[index], side)

    @cached_property
    def _hashes(self) -> np.ndarray:
        return np.array([content_hash(bytes_of(path)) for path in self.paths], np.uint64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {"x": read_image(self.paths[index])}
        if self.labels is not None:
            example["y"] = self.labels[index]
        return example


def bytes_of(path: Path) -> bytes:
    """What an image file holds. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the image '{printable(path)}' cannot be read ({error.strerror})") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder '{printable(folder)}' cannot be listed ({error.strerror})") from error


def _images(folder: Path) -> list[Path]:
    # a link that leads nowhere stays: reading it says so, where leaving it out would lose an example without a word
    return [p for p in _entries(folder) if p.suffix.lower() in SUFFIXES and not p.is_dir()]


def _subfolders(folder: Path) -> list[Path]:
    entries = _entries(folder)
    for p in entries:
        if p.is_symlink() and not p.exists() and p.suffix.lower() not in SUFFIXES:  # it may have been a whole class
            raise InputError(f"'{printable(p)}' is a link that leads nowhere; repair or remove it")
    return [p for p in entries if p.is_dir()]


def splits_of(path: str | Path) -> tuple[str, ...]:
    """Which of ``train`` and ``val`` lie below a folder; none if it is a folder of classes itself."""
    return tuple(s for s in SPLITS if (Path(path) / s).is_dir() and _subfolders(Path(path) / s))


def folder(path: str | Path, split: str | None = None, *, labelled: bool = True) -> ImageFiles:
    """A source from ``path/CLASS/image.jpg``, or from ``path/train/CLASS/…`` and ``path/val/CLASS/…``.

    A class that only ``train/`` has is taken as it is: nothing of it was set aside. One that only ``val/`` has could
    never be learnt, and is mostly a name written in two ways: it is refused where both are taken together.

    Args:
      path: the folder.
      split: ``"train"``, ``"val"`` or ``"all"`` (both) where the folder has splits; all of it by default.
      labelled: if False, images that lie directly in the folder are taken without labels when there are no classes,
        and ``val/`` may have classes of its own.

    Raises:
      InputError: if there is no such folder or split, no class folders with images, an empty class folder, or classes
        that only ``val/`` has.
    """
    path = Path(path)
    shown = printable(path)
    if not os.path.isdir(path):
        raise InputError(f"there is no folder '{shown}'")
    here = splits_of(path)
    if split is not None:
        check_choice(f"split of '{shown}'", split, (*here, "all"))
    roots = [path / s for s in here if split in (None, "all", s)] or [path]
    classes = [{p.name for p in _subfolders(root)} for root in roots]
    if labelled and len(roots) == 2:
        _check_same_classes(shown, *classes)
    class_names = sorted(set().union(*classes))
    name = f"{shown}:{split}" if split else shown
    if not class_names:
        loose = _images(path)
        if loose and not labelled:
            return ImageFiles(tuple(loose), None, (), name)
        advice = "it holds no images" if any(path.iterdir()) else "it is empty"
        if loose:
            advice = f"it holds {len(loose)} images directly: sort them into a folder per class"
        raise InputError(f"'{shown}' has no class folders; expected {shown}/CLASS/IMAGE.jpg, but {advice}")
    files = [
        (f, i) for root in roots for i, c in enumerate(class_names) if (root / c).is_dir() for f in _images(root / c)
    ]
    counts = np.bincount([i for _, i in files], minlength=len(class_names))
    if (counts == 0).any():
        empty = ", ".join(printable(c) for c, n in zip(class_names, counts, strict=True) if n == 0)
        raise InputError(
            f"the class folders {empty} of '{shown}' hold no images ({', '.join(SUFFIXES)}); fill or remove them"
        )
    labels = np.array([i for _, i in files], np.int32)
    return ImageFiles(tuple(f for f, _ in files), labels, tuple(printable(c) for c in class_names), name)


def _check_same_classes(shown: str, train: set[str], val: set[str]) -> None:
    if val - train:
        sides = [("train", train - val), ("val", val - train)]
        listed = "; ".join(f"{s}/ alone has {', '.join(map(printable, sorted(c)))}" for s, c in sides if c)
        raise InputError(
            f"the class folders of train/ and val/ in '{shown}' differ: {listed}. Give a class the same name on both "
            f"sides, or name {shown}:train or {shown}:val alone"
        )
