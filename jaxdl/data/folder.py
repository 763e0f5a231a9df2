"""Folders of class folders of images."""

import contextlib
import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxdl.data.class_folders import read_folder
from jaxdl.data.content import content_hash
from jaxdl.data.folder_layout import IMAGES
from jaxdl.data.image_file import (
    DEEP,
    SUFFIXES,
    bits_used,
    bytes_of,
    check_file,
    image_shape,
    printable,
    read_image,
    read_small,
)
from jaxdl.data.source import Source, describe_sizes, pick
from jaxdl.errors import InputError

__all__ = ["SUFFIXES", "Files", "ImageFiles", "folder", "image_shape", "images", "printable", "read_image"]

LOOKED_AT = 2000  # files whose sizes are said


class Files(Source):
    """What sources of image files have in common; a base of dataclasses with the fields ``paths``, one file for each
    example, and ``labels``, its ``y`` or None.

    Attributes:
      PER_EXAMPLE: names of the other fields that hold a value for each example, or None.
    """

    PER_EXAMPLE = ("labels", "groups")

    @classmethod
    def of(cls, paths: Sequence[Path], *values: Any, notes: Sequence[str] = (), **more: Any) -> Self:
        """A source of these files, of which those with 16 bits are looked into: see `image_file.bits_used`."""
        bits, said = bits_used(paths)
        return cls(tuple(paths), *values, notes=(*notes, *said), bits=bits, **more)

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
        return self._shapes

    @cached_property
    def _shapes(self) -> set[tuple[int, int, int]]:
        return {self._shape(path) for path in dict.fromkeys(self.paths)}

    def describe_x(self) -> str:
        """From the headers of up to `LOOKED_AT` files; those that cannot be read are reported when they are."""
        places = np.unique(np.linspace(0, len(self) - 1, min(len(self), LOOKED_AT)).astype(int)).tolist()
        shapes = set()
        for path in dict.fromkeys(self.paths[i] for i in places):
            with contextlib.suppress(InputError):
                shapes.add(self._shape(path))
        return describe_sizes(shapes)

    def take(self, indices: np.ndarray) -> Self:
        chosen = {name: pick(getattr(self, name), indices) for name in self.PER_EXAMPLE}
        taken = dataclasses.replace(self, paths=tuple(self.paths[i] for i in indices), **chosen)
        return self._known_to(taken, indices)

    def with_groups(self, groups: np.ndarray) -> Self:
        return self._known_to(dataclasses.replace(self, groups=groups), slice(None))

    def with_bits(self, bits: int) -> Self:
        return self if self.bits in (None, bits) else self._known_to(dataclasses.replace(self, bits=bits), slice(None))

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
    notes: tuple[str, ...] = ()
    bits: int | None = None

    PER_EXAMPLE = ("labels", "groups", "times")

    @property
    def names(self) -> Sequence[str]:
        return [printable(path) for path in self.paths]

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        return read_small(self.paths[index], side, self.bits or DEEP)

    @cached_property
    def _hashes(self) -> np.ndarray:
        return np.array([content_hash(bytes_of(path)) for path in self.paths], np.uint64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {"x": read_image(self.paths[index], self.bits or DEEP)}
        if self.labels is not None:
            example["y"] = self.labels[index]
        return example


def folder(
    path: str | Path, split: str | None = None, *, labelled: bool = True, default: str | None = None
) -> ImageFiles:
    """A source from ``path/CLASS/image.jpg``, or from ``path/train/CLASS/…`` and ``path/val/CLASS/…``.

    Images in folders inside a class folder belong to the class. What was left out is in the source's `notes`, with
    counts. A class that only ``train/`` has is taken as it is: nothing of it was set aside. One that only another split
    has could never be learnt, and is mostly a name written in two ways: it is refused where both are taken together.

    Args:
      path: the folder.
      split: ``"train"``, ``"val"``, ``"test"`` or ``"all"`` where the folder has splits, see `splits_of`; all of it by
        default.
      labelled: if False, images that lie directly in the folder are taken without labels when there are no classes,
        and a split may have classes of its own.
      default: the split to take where `split` names none and the folder has it; the notes then tell of the others.

    Raises:
      InputError: if there is no such folder or split, no class folders with images, an empty class folder, images of a
        split without class folders, or classes that only ``val/`` or ``test/`` has.
    """
    found = read_folder(path, IMAGES, split, default, labelled=labelled)
    return ImageFiles.of(found.files, found.labels, found.class_names, found.name, notes=found.notes)


def images(paths: Sequence[str | Path], name: str | None = None) -> ImageFiles:
    """A source of image files without labels. Raises InputError for none, or one that is no file."""
    if not paths:
        raise InputError("there are no paths of images; expected at least one")
    files = tuple(Path(p) for p in paths)
    for file in files:
        check_file(file)
    shown = printable(files[0]) if len(files) == 1 else f"{printable(files[0])} and {len(files) - 1} more"
    return ImageFiles.of(files, None, (), name or shown)
