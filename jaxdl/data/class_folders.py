"""Folders with a folder for each class: of which split, class and file the examples are, and what is left out."""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdl.data.folder_layout import (
    PHOTOS_OF_PHONES,
    SPLIT_NAMES,
    SPLITS,
    Found,
    Kind,
    find_files,
    kind_of,
    listed,
    split_folders,
    subfolders,
)
from jaxdl.data.image_file import printable
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import counted, few


@dataclasses.dataclass(frozen=True)
class Classes:
    """The files of a folder, and what it says of them.

    Attributes:
      files: of the examples.
      labels: the class of each, ``int32[n]``; None without classes.
      class_names: of the labels.
      name: of the folder, with its split.
      notes: what was read and what was left out.
    """

    files: list[Path]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    name: str
    notes: tuple[str, ...]


def splits_of(path: str | Path) -> tuple[str, ...]:
    """Which of ``train``, ``val`` and ``test`` lie below a folder; none if it is a folder of classes itself.

    Their folders may also be called ``training``, ``valid``, ``validation``, ``dev`` or ``testing``, in any case.

    Raises:
      InputError: if two folders are of one split.
    """
    return _parts(split_folders(Path(path)), None, labelled=True)


def parts_to_predict(path: str | Path) -> tuple[str, ...]:
    """As `splits_of`, with those that hold files without class folders beside others that have some."""
    folders = split_folders(Path(path))
    return _parts(folders, kind_of(Path(path)) if folders else None, labelled=False)


def _parts(folders: Mapping[str, Path], kind: Kind | None, *, labelled: bool) -> tuple[str, ...]:
    with_classes = [split for split, root in folders.items() if subfolders(root)]
    loose = [] if labelled else [s for s, root in folders.items() if find_files(root, kind, deep=False).files]
    return tuple(split for split in SPLITS if split in with_classes or (with_classes and split in loose))


def read_folder(path: str | Path, kind: Kind, split: str | None, default: str | None, *, labelled: bool) -> Classes:
    """The files of a kind in ``path/CLASS/…``, or in ``path/train/CLASS/…`` and ``path/val/CLASS/…``; see `folder`.

    Raises:
      InputError: as `folder` does.
    """
    path = Path(path)
    shown = printable(path)
    if not os.path.isdir(path):
        raise InputError(f"there is no folder '{shown}'")
    folders, named = split_folders(path), SPLIT_NAMES.get(split, split)
    with_classes = _parts(folders, kind, labelled=True)
    here = with_classes if labelled else _parts(folders, kind, labelled=False)
    if named in folders and named not in here:
        return _without_classes(folders[named], kind, shown, labelled=labelled)
    if named is not None:
        check_choice(f"split of '{shown}'", named, (*here, "all"))
    split = named or (default if default in here else None)
    name = f"{shown}:{split}" if split else shown
    if split in here and split not in with_classes:
        return _without_classes(folders[split], kind, name, labelled=labelled)
    chosen = {s: folders[s] for s in with_classes if split in (None, "all", s)}
    roots = list(chosen.values()) or [path]
    classes = {root: {p.name for p in subfolders(root)} for root in roots}
    if labelled:
        if not here:
            _check_no_split_as_class(path, classes[path], kind)
        _check_same_classes(shown, {root.name: classes[root] for root in roots}, "train" in chosen)
        if named is None and len(here) == 1:
            _check_beside(path, folders, *here, kind)
    class_names = sorted(set().union(*classes.values()))
    if not class_names:
        return _without_classes(path, kind, name, labelled=labelled)
    found = {(root, c): find_files(root / c, kind) for root in roots for c in class_names if (root / c).is_dir()}
    _check_filled(shown, class_names, found, kind)
    label = {c: i for i, c in enumerate(class_names)}
    files = [(file, label[c]) for (_, c), one in found.items() for file in one.files]
    shown_names = tuple(printable(c) for c in class_names)
    if len(set(shown_names)) < len(shown_names):
        twice = [n for n, count in Counter(shown_names).items() if count > 1]
        raise InputError(f"two class folders of '{shown}' are both written {', '.join(twice)}; rename one of them")
    labels = np.array([i for _, i in files], np.int32)
    files_of = {s: sum(file.is_relative_to(root) for file, _ in files) for s, root in chosen.items()}
    said = _said_of_splits(shown, folders, with_classes, files_of, named, kind)
    notes = (*said, *_said_of_files(path, folders, roots, list(found.values()), named))
    return Classes([f for f, _ in files], labels, shown_names, name, notes)


def _without_classes(path: Path, kind: Kind, name: str, *, labelled: bool) -> Classes:
    """The files that lie directly in a folder, without labels."""
    found, shown = find_files(path, kind, deep=False), printable(path)
    if found.files and not labelled:
        left = (f"left out: {found.said()}",) if found.left else ()
        return Classes(found.files, None, (), name, left)
    if not labelled:
        held = f"no {kind.many}{_why(found)}" if found.left else "nothing"
        raise InputError(
            f"the folder '{shown}' holds {held}; expected {kind.many} in it, or a folder for each class of them"
        )
    advice = "it is empty"
    if found.files:
        advice = f"it holds {counted(len(found.files), kind.one)} directly: sort them into a folder per class"
    elif found.left:
        advice = f"it holds no {kind.many}{_why(found)}"
    raise InputError(f"'{shown}' has no class folders; expected {shown}/CLASS/{kind.example}, but {advice}")


def _why(found: Found) -> str:
    """What is there instead."""
    if not found.left:
        return ""
    phones = any(f"{suffix} file" in found.left for suffix in PHOTOS_OF_PHONES)
    return f", but {found.said()}" + (" (store photos of a phone as JPEG, or convert them)" if phones else "")


def _check_filled(shown: str, class_names: Sequence[str], found: Mapping[tuple[Path, str], Found], kind: Kind) -> None:
    """Raises InputError for classes without a file, saying what their folders hold instead."""
    empty, phones = [], False
    for c in class_names:
        of_class = [one for (_, name), one in found.items() if name == c]
        if not any(one.files for one in of_class):
            left = sum((one.left for one in of_class), Counter())
            empty.append(f"{printable(c)} ({Found(left=left).said() or 'empty'})")
            phones |= any(f"{suffix} file" in left for suffix in PHOTOS_OF_PHONES)
    if empty:
        raise InputError(
            f"the class folders {', '.join(empty)} of '{shown}' hold no {kind.many} that can be read; fill or remove "
            "them" + (". Photos of a phone (.heic) can be converted to JPEG" if phones else "")
        )


def _check_no_split_as_class(path: Path, classes: set[str], kind: Kind) -> None:
    """Refuses ``train/*.jpg`` beside ``test/*.jpg``: they would become the classes train and test."""
    if not classes or any(c.lower() not in SPLIT_NAMES for c in classes):
        return
    held = [f"{printable(c)}/ ({_count(path / c, kind)})" for c in sorted(classes)]
    shown, first = printable(path), sorted(classes)[0]
    raise InputError(
        f"'{shown}' holds {' and '.join(held)} without class folders: these are names of splits, not of classes. Sort "
        f"the {kind.many} into a folder per class, such as {shown}/{printable(first)}/CLASS/{kind.example}; or list "
        "file and label in a table .csv; to predict without "
        f"labels, name {shown}/{printable(first)}. If they are classes, give them other names"
    )


def _count(folder: Path, kind: Kind) -> str:
    return counted(len(find_files(folder, kind).files), kind.one)


def _check_beside(path: Path, folders: Mapping[str, Path], split: str, kind: Kind) -> None:
    """Refuses ``train/CLASS/`` alone beside other folders of files: train may be a class among them."""
    beside = [p for p in subfolders(path) if p not in folders.values() and find_files(p, kind).files]
    if beside:
        shown, root = printable(path), folders[split].name
        raise InputError(
            f"'{shown}' holds {root}/ with folders in it, and beside it {listed(beside)} with {kind.many}: whether "
            f"{root} is a split or a class cannot be told. Name {shown}:{split} for the {kind.many} of {root}/ alone; "
            f"if it is a class, move its {kind.many} out of its folders"
        )


def _said_of_splits(
    shown: str,
    folders: Mapping[str, Path],
    with_classes: Sequence[str],
    read: Mapping[str, int],
    named: str | None,
    kind: Kind,
) -> list[str]:
    """Which splits were read, with the number of files; which others there are, where none was named."""
    if not read or (len(read) == 1 and named):
        return []
    said = "read from " + " and ".join(f"{folders[s].name}/ ({counted(n, kind.one)})" for s, n in read.items())
    others = {s: len(find_files(root, kind).files) for s, root in folders.items() if s not in read}
    if left := {s: n for s, n in others.items() if s in with_classes}:
        unread = " and ".join(f"{folders[s].name}/ ({counted(n, kind.one)})" for s, n in left.items())
        said += f", not from {unread}; {' or '.join(f'{shown}:{s}' for s in (*left, 'all'))} names them"
    for s, n in others.items():
        if n and s not in with_classes:
            said += f"; {folders[s].name}/ ({counted(n, kind.one)}) has no class folders and was left out"
    return [said]


def _said_of_files(
    path: Path, folders: Mapping[str, Path], roots: Sequence[Path], found: Sequence[Found], named: str | None
) -> list[str]:
    """What lies in folders inside classes, and what was left out, with counts."""
    notes, kind = [], found[0].kind
    nested = sum(one.nested for one in found)
    if nested:
        inside = [folder for one in found for folder in one.inside]
        where, names = counted(len(inside), "folder"), few([printable(p.relative_to(path)) for p in inside], 3)
        notes.append(f"{counted(nested, kind.one)} in {where} inside class folders ({names}) belong to these classes")
    outer = [path] if named is None and path not in roots else []
    tops = {root: find_files(root, kind, deep=False) for root in (*outer, *roots)}
    left = sum((one.left for one in (*found, *tops.values())), Counter())
    said = [Found(left=left).said()] if left else []
    said += [
        f"{counted(len(one.files), kind.one)} directly in {printable(p)}/, without a class"
        for p, one in tops.items()
        if one.files
    ]
    if outer:
        beside = {p: len(find_files(p, kind).files) for p in subfolders(path) if p not in folders.values()}
        if count := sum(beside.values()):
            folders_beside = listed(p for p, n in beside.items() if n)
            said.append(f"{counted(count, kind.one)} in folders beside the splits ({folders_beside})")
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
