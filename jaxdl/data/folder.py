"""Folders of class folders of images."""

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxdl.data.content import content_hash
from jaxdl.data.folder_layout import (
    PHOTOS_OF_PHONES,
    SPLIT_NAMES,
    SPLITS,
    Found,
    find_images,
    listed,
    split_folders,
    subfolders,
)
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
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import counted, few

__all__ = ["SUFFIXES", "Files", "ImageFiles", "folder", "image_shape", "images", "printable", "read_image", "splits_of"]

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


def splits_of(path: str | Path) -> tuple[str, ...]:
    """Which of ``train``, ``val`` and ``test`` lie below a folder; none if it is a folder of classes itself.

    Their folders may also be called ``training``, ``valid``, ``validation``, ``dev`` or ``testing``, in any case.

    Raises:
      InputError: if two folders are of one split.
    """
    return _parts(split_folders(Path(path)), labelled=True)


def parts_to_predict(path: str | Path) -> tuple[str, ...]:
    """As `splits_of`, with those that hold images without class folders beside others that have some."""
    return _parts(split_folders(Path(path)), labelled=False)


def _parts(folders: Mapping[str, Path], *, labelled: bool) -> tuple[str, ...]:
    with_classes = [split for split, root in folders.items() if subfolders(root)]
    loose = [] if labelled else [s for s, root in folders.items() if find_images(root, deep=False).images]
    return tuple(split for split in SPLITS if split in with_classes or (with_classes and split in loose))


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
    path = Path(path)
    shown = printable(path)
    if not os.path.isdir(path):
        raise InputError(f"there is no folder '{shown}'")
    folders, named = split_folders(path), SPLIT_NAMES.get(split, split)
    with_classes = _parts(folders, labelled=True)
    here = with_classes if labelled else _parts(folders, labelled=False)
    if named in folders and named not in here:
        return _without_classes(folders[named], printable(folders[named]), shown, labelled=labelled)
    if named is not None:
        check_choice(f"split of '{shown}'", named, (*here, "all"))
    split = named or (default if default in here else None)
    name = f"{shown}:{split}" if split else shown
    if split in here and split not in with_classes:
        return _without_classes(folders[split], printable(folders[split]), name, labelled=labelled)
    chosen = {s: folders[s] for s in with_classes if split in (None, "all", s)}
    roots = list(chosen.values()) or [path]
    classes = {root: {p.name for p in subfolders(root)} for root in roots}
    if labelled:
        if not here:
            _check_no_split_as_class(path, classes[path])
        _check_same_classes(shown, {root.name: classes[root] for root in roots}, "train" in chosen)
        if named is None and len(here) == 1:
            _check_beside(path, folders, *here)
    class_names = sorted(set().union(*classes.values()))
    if not class_names:
        return _without_classes(path, shown, name, labelled=labelled)
    found = {(root, c): find_images(root / c) for root in roots for c in class_names if (root / c).is_dir()}
    _check_filled(shown, class_names, found)
    label = {c: i for i, c in enumerate(class_names)}
    files = [(file, label[c]) for (_, c), one in found.items() for file in one.images]
    shown_names = tuple(printable(c) for c in class_names)
    if len(set(shown_names)) < len(shown_names):
        twice = [n for n, count in Counter(shown_names).items() if count > 1]
        raise InputError(f"two class folders of '{shown}' are both written {', '.join(twice)}; rename one of them")
    labels = np.array([i for _, i in files], np.int32)
    said = _said_of_splits(shown, folders, with_classes, chosen, files, named)
    notes = (*said, *_said_of_files(path, folders, roots, list(found.values()), named))
    return ImageFiles.of([f for f, _ in files], labels, shown_names, name, notes=notes)


def images(paths: Sequence[str | Path], name: str | None = None) -> ImageFiles:
    """A source of image files without labels. Raises InputError for none, or one that is no file."""
    if not paths:
        raise InputError("there are no paths of images; expected at least one")
    files = tuple(Path(p) for p in paths)
    for file in files:
        check_file(file)
    shown = printable(files[0]) if len(files) == 1 else f"{printable(files[0])} and {len(files) - 1} more"
    return ImageFiles.of(files, None, (), name or shown)


def _without_classes(path: Path, shown: str, name: str, *, labelled: bool) -> ImageFiles:
    """The images that lie directly in a folder, without labels."""
    found = find_images(path, deep=False)
    if found.images and not labelled:
        left = (f"left out: {found.said()}",) if found.left else ()
        return ImageFiles.of(found.images, None, (), name, notes=left)
    if not labelled:
        held = f"no images{_why(found)}" if found.left else "nothing"
        raise InputError(
            f"the folder '{shown}' holds {held}; expected images in it, or a folder for each class of them"
        )
    advice = "it is empty"
    if found.images:
        advice = f"it holds {len(found.images)} images directly: sort them into a folder per class"
    elif found.left:
        advice = f"it holds no images{_why(found)}"
    raise InputError(f"'{shown}' has no class folders; expected {shown}/CLASS/IMAGE.jpg, but {advice}")


def _why(found: Found) -> str:
    """What is there instead of images."""
    if not found.left:
        return ""
    phones = any(f"{suffix} file" in found.left for suffix in PHOTOS_OF_PHONES)
    return f", but {found.said()}" + (" (store photos of a phone as JPEG, or convert them)" if phones else "")


def _check_filled(shown: str, class_names: Sequence[str], found: Mapping[tuple[Path, str], Found]) -> None:
    """Raises InputError for classes without an image, saying what their folders hold instead."""
    empty = []
    for c in class_names:
        of_class = [one for (_, name), one in found.items() if name == c]
        if not any(one.images for one in of_class):
            left = sum((one.left for one in of_class), Counter())
            empty.append(f"{printable(c)} ({Found(left=left).said() or 'empty'})")
            phones = any(f"{suffix} file" in left for suffix in PHOTOS_OF_PHONES)
    if empty:
        raise InputError(
            f"the class folders {', '.join(empty)} of '{shown}' hold no images that can be read; fill or remove them"
            + (". Photos of a phone (.heic) can be converted to JPEG" if phones else "")
        )


def _check_no_split_as_class(path: Path, classes: set[str]) -> None:
    """Refuses ``train/*.jpg`` beside ``test/*.jpg``: they would become the classes train and test."""
    if not classes or any(c.lower() not in SPLIT_NAMES for c in classes):
        return
    held = [f"{printable(c)}/ ({counted(len(find_images(path / c).images), 'image')})" for c in sorted(classes)]
    shown, first = printable(path), sorted(classes)[0]
    raise InputError(
        f"'{shown}' holds {' and '.join(held)} without class folders: these are names of splits, not of classes. Sort "
        "the images into a folder per class, such as "
        f"{shown}/{printable(first)}/CLASS/IMAGE.jpg; or list file and label in a table .csv; to predict without "
        f"labels, name {shown}/{printable(first)}. If they are classes, give them other names"
    )


def _check_beside(path: Path, folders: Mapping[str, Path], split: str) -> None:
    """Refuses ``train/CLASS/`` alone beside other folders of images: train may be a class among them."""
    beside = [p for p in subfolders(path) if p not in folders.values() and find_images(p).images]
    if beside:
        shown, root = printable(path), folders[split].name
        raise InputError(
            f"'{shown}' holds {root}/ with folders in it, and beside it {listed(beside)} with images: whether {root} "
            f"is a split or a class cannot be told. Name {shown}:{split} for the images of {root}/ alone; if it is a "
            "class, move its images out of its folders"
        )


def _said_of_splits(
    shown: str,
    folders: Mapping[str, Path],
    with_classes: Sequence[str],
    chosen: Mapping[str, Path],
    files: Sequence[tuple[Path, int]],
    named: str | None,
) -> list[str]:
    """Which splits were read, with counts; which others there are, where none was named."""
    if not chosen or (len(chosen) == 1 and named):
        return []
    read = {s: sum(file.is_relative_to(root) for file, _ in files) for s, root in chosen.items()}
    said = "read from " + " and ".join(f"{folders[s].name}/ ({counted(n, 'image')})" for s, n in read.items())
    others = {s: len(find_images(root).images) for s, root in folders.items() if s not in chosen}
    if left := {s: n for s, n in others.items() if s in with_classes}:
        unread = " and ".join(f"{folders[s].name}/ ({counted(n, 'image')})" for s, n in left.items())
        said += f", not from {unread}; {' or '.join(f'{shown}:{s}' for s in (*left, 'all'))} names them"
    for s, n in others.items():
        if n and s not in with_classes:
            said += f"; {folders[s].name}/ ({counted(n, 'image')}) has no class folders and was left out"
    return [said]


def _said_of_files(
    path: Path, folders: Mapping[str, Path], roots: Sequence[Path], found: Sequence[Found], named: str | None
) -> list[str]:
    """What lies in folders inside classes, and what was left out, with counts."""
    notes = []
    nested = sum(one.nested for one in found)
    if nested:
        inside = [folder for one in found for folder in one.inside]
        where, names = counted(len(inside), "folder"), few([printable(p.relative_to(path)) for p in inside], 3)
        notes.append(f"{counted(nested, 'image')} in {where} inside class folders ({names}) belong to these classes")
    outer = [path] if named is None and path not in roots else []
    tops = {root: find_images(root, deep=False) for root in (*outer, *roots)}
    left = sum((one.left for one in (*found, *tops.values())), Counter())
    said = [Found(left=left).said()] if left else []
    said += [
        f"{counted(len(one.images), 'image')} directly in {printable(p)}/, without a class"
        for p, one in tops.items()
        if one.images
    ]
    if outer:
        beside = {p: len(find_images(p).images) for p in subfolders(path) if p not in folders.values()}
        if count := sum(beside.values()):
            folders_beside = listed(p for p, n in beside.items() if n)
            said.append(f"{counted(count, 'image')} in folders beside the splits ({folders_beside})")
    return [*notes, *([f"left out: {'; '.join(said)}"] if said else [])]


def _check_same_classes(shown: str, classes: Mapping[str, set[str]], has_train: bool) -> None:
    """`classes` by the name of the split's folder; the first is that of train if `has_train`."""
    if not has_train or len(classes) < 2:
        return
    (train, known), *others = classes.items()
    foreign = {name: held - known for name, held in others if held - known}
    if foreign:
        alone = {train: known - set().union(*(held for _, held in others)), **foreign}
        said = "; ".join(f"{s}/ alone has {', '.join(map(printable, sorted(c)))}" for s, c in alone.items() if c)
        raise InputError(
            f"the class folders of {', '.join(f'{s}/' for s in classes)} in '{shown}' differ: {said}. Give a class the "
            f"same name everywhere, or name one of {', '.join(f'{shown}:{SPLIT_NAMES[s.lower()]}' for s in classes)}"
        )
