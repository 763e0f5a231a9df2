"""Which images, or texts, lie in a folder: splits, classes, folders inside them, and what is left out."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from jaxdl.data.image_file import SUFFIXES, begins_as_image, printable
from jaxdl.errors import InputError
from jaxdl.shown import counted, few

# The parts of a data set, and how people call their folders, in any case.
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
SPLIT_NAMES = {name: split for split, names in SPLITS.items() for name in names}
PHOTOS_OF_PHONES = (".heic", ".heif")
IGNORED = ("thumbs.db", "desktop.ini")
SHOWN = 5  # that a message lists
LOOKED_AT = 1000  # files that say what a folder is of


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the files of a folder are.

    Attributes:
      one: what one is called.
      suffixes: by which they are known.
      example: how one may be called.
      begins: whether a file without a suffix is one.
    """

    one: str
    suffixes: tuple[str, ...]
    example: str
    begins: Callable[[Path], bool] = lambda path: False

    @property
    def many(self) -> str:
        """What several are called."""
        return f"{self.one}s"


IMAGES = Kind("image", SUFFIXES, "IMAGE.jpg", begins_as_image)
TEXTS = Kind("text", (".txt",), "TEXT.txt")


@dataclasses.dataclass
class Found:
    """The files of a kind below a folder, and what else is there.

    Attributes:
      files: in the order of their paths.
      nested: how many of them lie in folders inside it.
      inside: these folders.
      left: how many files of each other kind there are.
      kind: of the files.
    """

    files: list[Path] = dataclasses.field(default_factory=list)
    nested: int = 0
    inside: list[Path] = dataclasses.field(default_factory=list)
    left: Counter[str] = dataclasses.field(default_factory=Counter)
    kind: Kind = IMAGES

    def add(self, path: Path, entry: os.DirEntry[str]) -> None:
        """Takes a file of the kind, or notes what it is instead."""
        other = _other(path, entry, self.kind)
        if other is None:
            self.files.append(path)
        elif path.name.lower() not in IGNORED:
            self.left[other] += 1

    def said(self) -> str:
        """What is of another kind, with counts."""
        return few([counted(count, kind) for kind, count in self.left.most_common()], SHOWN)


def _other(path: Path, entry: os.DirEntry[str], kind: Kind) -> str | None:
    """What a file is if it is not of the kind to be read; None if it is."""
    suffix = path.suffix.lower()
    if not entry.is_file():
        if not entry.is_symlink() or path.exists():
            return "pipe, socket or device"
        # a link that leads nowhere stays: reading it says so, where leaving it out would lose an example
        return None if suffix in kind.suffixes else "link that leads nowhere"
    if suffix in kind.suffixes:
        return None
    if not suffix[1:] or suffix[1:].isdecimal():  # 0031, or scan_0.5: there is no suffix
        return None if kind.begins(path) else "file without a suffix"
    return f"{suffix} file"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, without what is hidden. Raises InputError if it cannot be listed."""
    try:
        with os.scandir(folder) as found:  # which knows what is a file without asking the disk for each
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"the folder '{printable(folder)}' cannot be listed ({error.strerror})") from error


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder. Raises InputError for a link that leads nowhere."""
    found = _entries(folder)
    for entry in found:
        p = folder / entry.name
        if entry.is_symlink() and not p.exists() and p.suffix.lower() not in SUFFIXES:  # it may have been a whole class
            raise InputError(f"'{printable(p)}' is a link that leads nowhere; repair or remove it")
    return [folder / entry.name for entry in found if entry.is_dir()]


def kind_of(folder: Path) -> Kind:
    """What a folder is of: of texts where its first files are mostly ``.txt``, else of images."""
    suffixes = [os.path.splitext(entry.name)[1].lower() for entry in islice(walk(folder), LOOKED_AT)]
    texts, images = (sum(one in kind.suffixes for one in suffixes) for kind in (TEXTS, IMAGES))
    return TEXTS if texts > images else IMAGES


def find_files(folder: Path, kind: Kind = IMAGES, *, deep: bool = True) -> Found:
    """The files of a kind in a folder, and if `deep` those of folders inside it, through links, too."""
    found = Found(kind=kind)
    for entry in walk(folder, deep=deep):
        path, had = Path(entry.path), len(found.files)
        found.add(path, entry)
        if len(found.files) > had and path.parent != folder:
            found.nested += 1
            found.inside += [path.parent] if path.parent not in found.inside[-1:] else []
    return found


def walk(folder: Path, *, deep: bool = True, above: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    """Files below a folder, those in it first, then folder by folder; a link to a folder above is not followed.

    Raises:
      InputError: for a folder that cannot be listed.
    """
    above = (*above, os.path.realpath(folder))
    here = _entries(folder)
    yield from (entry for entry in here if not entry.is_dir())
    for entry in here if deep else ():
        if entry.is_dir() and not _is_above(os.path.realpath(entry), above):
            yield from walk(folder / entry.name, above=above)


def _is_above(real: str, above: tuple[str, ...]) -> bool:
    return any(one == real or one.startswith(real + os.sep) for one in above)


def split_folders(path: Path) -> dict[str, Path]:
    """The folders of a data set's parts by split, those without images, too.

    Raises:
      InputError: if two folders are of one split, such as ``val`` and ``valid``.
    """
    found: dict[str, Path] = {}
    for p in subfolders(path) if path.is_dir() else ():
        split = SPLIT_NAMES.get(p.name.lower())
        if split in found:
            raise InputError(
                f"'{printable(path)}' holds {found[split].name}/ and {p.name}/, which are two names of one split; "
                "rename or move one of them"
            )
        if split is not None:
            found[split] = p
    return {split: found[split] for split in SPLITS if split in found}


def listed(paths: Iterable[Path]) -> str:
    """A few names of folders."""
    return few([f"{printable(p.name)}/" for p in paths], SHOWN)
