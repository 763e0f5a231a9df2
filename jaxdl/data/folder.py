"""Folders of class folders of images."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError, check_choice

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("train", "val")
ORIENTATION = 0x0112  # the EXIF entry
LYING = range(5, 9)  # its values for an image on its side


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A Pillow image, upright; whatever goes wrong with it names the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the image '{path}' cannot be read ({error}); replace or remove it") from error


def image_shape(path: str | Path) -> tuple[int, int, int]:
    """``(height, width, 1 or 3)`` of what `read_image` gives, without decoding it. Raises InputError likewise."""
    with _opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in LYING
        width, height = image.size[::-1] if turned else image.size
        return height, width, 1 if _is_grey(image) else 3


def read_image(path: str | Path) -> np.ndarray:
    """``uint8[height, width, 1 or 3]``, turned upright as its EXIF entry says; 16-bit grey is brought to 8 bits.

    Raises:
      InputError: naming the file, if it cannot be decoded.
    """
    from PIL import ImageOps

    with _opened(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
        grey = _is_grey(image)
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _is_grey(image: Any) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """A source of image files, decoded when asked for; attributes as in `data.Source`."""

    paths: tuple[Path, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    name: str
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    @property
    def names(self) -> Sequence[str]:
        return [str(path) for path in self.paths]

    def shapes(self) -> set[tuple[int, int, int]]:
        """Every ``(height, width, channels)`` that occurs, from the files' headers alone."""
        return {image_shape(path) for path in self.paths}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {"x": read_image(self.paths[index])}
        if self.labels is not None:
            example["y"] = self.labels[index]
        return example


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def splits_of(path: str | Path) -> tuple[str, ...]:
    """Which of ``train`` and ``val`` lie below a folder; none if it is a folder of classes itself."""
    return tuple(s for s in SPLITS if (Path(path) / s).is_dir() and _subfolders(Path(path) / s))


def folder(path: str | Path, split: str | None = None, *, labelled: bool = True) -> ImageFiles:
    """A source from ``path/CLASS/image.jpg``, or from ``path/train/CLASS/…`` and ``path/val/CLASS/…``.

    Args:
      path: the folder.
      split: ``"train"``, ``"val"`` or ``"all"`` (both) where the folder has splits; all of it by default.
      labelled: if False, images that lie directly in the folder are taken without labels when there are no classes.

    Raises:
      InputError: if there is no such folder or split, or no class folders with images.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"there is no folder '{path}'")
    here = splits_of(path)
    if split is not None:
        check_choice(f"split of '{path}'", split, (*here, "all"))
    roots = [path / s for s in here if split in (None, "all", s)] or [path]
    class_names = sorted({p.name for root in roots for p in _subfolders(root)})
    name = f"{path}:{split}" if split else str(path)
    if not class_names:
        loose = _images(path)
        if loose and not labelled:
            return ImageFiles(tuple(loose), None, (), name)
        advice = "it holds no images" if any(path.iterdir()) else "it is empty"
        if loose:
            advice = f"it holds {len(loose)} images directly: sort them into a folder per class"
        raise InputError(f"'{path}' has no class folders; expected {path}/CLASS/IMAGE.jpg, but {advice}")
    files = [
        (f, i) for root in roots for i, c in enumerate(class_names) if (root / c).is_dir() for f in _images(root / c)
    ]
    counts = np.bincount([i for _, i in files], minlength=len(class_names))
    if (counts == 0).any():
        empty = ", ".join(c for c, n in zip(class_names, counts, strict=True) if n == 0)
        raise InputError(
            f"the class folders {empty} of '{path}' hold no images ({', '.join(SUFFIXES)}); fill or remove them"
        )
    labels = np.array([i for _, i in files], np.int32)
    return ImageFiles(tuple(f for f, _ in files), labels, tuple(class_names), name)
