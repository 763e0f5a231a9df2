"""Which mask belongs to which image: folders, splits and names of files."""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxdl.data.folder_layout import SPLIT_NAMES, SPLITS, find_files, walk
from jaxdl.data.frames import frame_blocks
from jaxdl.data.image_file import SUFFIXES, printable
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import few

MASK_SUFFIXES = SUFFIXES  # those that masks cannot have are refused by name
ENDINGS = ("_mask", "_label", "_labels", "_gt", "_seg", "_L")  # that a mask's name may have behind its image's
SHOWN = 5  # files that a message lists
LAYOUTS = "{0}/images with {0}/masks, the same below {0}/train, {0}/val and {0}/test, or {0}/train with {0}/trainannot"

Roots = dict[str, tuple[Path, Path | None]]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes:
      images: files.
      masks: a file for each image; None if there are none.
      keys: of each image the path below its folder, without the suffix.
      splits: which split each is of; ``""`` where there are none.
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None
    keys: tuple[str, ...]
    splits: tuple[str, ...]


def mask_roots(path: Path, *, labelled: bool = True) -> Roots:
    """``{split: (folder of images, folder of masks)}``; of a folder without splits these are called ``""``.

    Empty if the folder holds no such thing. Not `labelled`, folders of images alone are taken, too.

    Raises:
      InputError: if both the folder and its splits hold images and masks.
    """
    found: Roots = {}
    for split, names in SPLITS.items():
        choices = [
            pair
            for name in names
            for pair in (
                (path / name / "images", path / name / "masks"),
                (path / name, path / f"{name}annot"),
                (path / "images" / name, path / "masks" / name),
            )
        ]
        both = [pair for pair in choices if pair[0].is_dir() and pair[1].is_dir()]
        if len(both) > 1 and len({pair[0] for pair in both}) > 1:
            raise InputError(
                f"'{printable(both[0][0])}' and '{printable(both[1][0])}' are both images of {split}; move one of them"
            )
        alone = [(pair[0], None) for pair in choices if pair[0].is_dir() and not labelled]
        if both or alone:
            found[split] = [*both, *alone][0]
    images, masks = path / "images", path / "masks"
    if not images.is_dir() or not (masks.is_dir() or not labelled):
        return found
    whole = {"": (images, masks if masks.is_dir() else None)}
    within = [split for split, (one, _) in found.items() if one.parent == images]
    if not found or (
        within == list(found) and any(key.split("/")[0].lower() not in SPLIT_NAMES for key in _files(images, SUFFIXES))
    ):
        return whole  # folders such as images/train beside others are parts of one set
    if within != list(found):
        raise InputError(
            f"'{printable(path)}' holds images/ and also {', '.join(s for s in found if s not in within)}; move one of "
            "them elsewhere, so that it is clear which images are meant"
        )
    return found


def find_pairs(
    path: Path | tuple[Path, Path], split: str | None, *, labelled: bool
) -> tuple[Pairs, Pairs | None, list[str]]:
    """The images of a split with their masks, those of the other splits, and what was left out, in words.

    Raises:
      InputError: if there are none, if some lack a mask, or masks an image.
    """
    if isinstance(path, tuple):
        for folder in path:
            _check_folder(folder)
        check_choice(f"split of '{printable(path[0])}'", split or "all", ("all",))
        return _joined({"": path}, labelled), None, []
    _check_folder(path)
    shown, roots, split = printable(path), mask_roots(path), SPLIT_NAMES.get(split, split)
    if not labelled:
        roots = mask_roots(path, labelled=False) or {"": (path, None)}
    if not roots:
        raise InputError(
            f"'{shown}' holds no images with masks; expected {LAYOUTS.format(shown)}, or from Python "
            "data.masks((images, masks)) with two folders"
        )
    check_choice(f"split of '{shown}'", split or "all", (*(s for s in roots if s), "all"))
    chosen = {s: pair for s, pair in roots.items() if split in (None, "all", s)}
    others = {s: pair for s, pair in roots.items() if s not in chosen and pair[1]}
    lacking = [n for n, s in SPLIT_NAMES.items() if s not in roots and "" not in roots]
    folders = {n: (path / n, path / "images" / n) for n in lacking}
    unread = [s for s, places in folders.items() if any(place.is_dir() for place in places)]
    left = [f"{s}/ has no masks and was left out" for s in unread if split in (None, "all")]
    for images, _ in chosen.values():
        if (found := find_files(images)).left:
            left.append(f"left out of {printable(images)}/: {found.said()}")
    pairs = _joined(chosen, labelled)
    if pairs.masks is None and any(masks for _, masks in chosen.values()):
        left.append("its masks are not read: some images have none")
    return pairs, _joined(others, labelled) if others and pairs.masks else None, left


def _check_folder(path: Path) -> None:
    if not os.path.isdir(path):
        raise InputError(f"there is no folder '{printable(path)}'")


def _joined(roots: Roots, labelled: bool) -> Pairs:
    rows = [(split, *row) for split, pair in roots.items() for row in _matched(*pair, labelled=labelled)]
    splits, keys, images, masks = zip(*rows, strict=True)
    without = [image for image, mask in zip(images, masks, strict=True) if mask is None]
    if without and len(without) < len(images) and labelled:
        raise InputError(
            f"{len(without)} of {len(images)} images have no mask: {_listed(without)}; add the masks, or name the "
            "parts with and without masks one by one"
        )
    return Pairs(images, None if without else masks, keys, splits)


def _matched(images: Path, masks: Path | None, *, labelled: bool) -> Iterator[tuple[str, Path, Path | None]]:
    """``(key, image, mask)`` of each image of a folder; without masks where `labelled` does not ask for them."""
    found = _files(images, SUFFIXES)
    if not found:
        raise InputError(f"'{printable(images)}' holds no images ({', '.join(SUFFIXES)})")
    held = {} if masks is None else _files(masks, MASK_SUFFIXES)
    if not held and not labelled:
        return iter((key, image, None) for key, image in found.items())
    chosen = {key: held[key] for key in found if key in held}
    rest = {key: mask for key, mask in held.items() if key not in chosen}
    for key in [key for key in found if key not in chosen]:
        fitting = [key + ending for ending in ENDINGS if key + ending in rest]
        if len(fitting) > 1:
            raise InputError(
                f"the image '{printable(found[key])}' has several masks: {_listed([rest[one] for one in fitting])}; "
                "keep one"
            )
        if fitting:
            chosen[key] = rest[fitting[0]]
    taken = set(chosen.values())
    rest = {key: mask for key, mask in rest.items() if mask not in taken}
    missing = [found[key] for key in found if key not in chosen]
    if labelled or not missing:
        _check_matched(missing, list(rest.values()), len(found), masks)
    return iter((key, image, chosen.get(key)) for key, image in found.items())


def _check_matched(missing: Sequence[Path], rest: Sequence[Path], count: int, masks: Path) -> None:
    if not missing and not rest:
        return
    said = []
    if missing:
        said.append(f"{len(missing)} of {count} images have no mask in '{printable(masks)}': {_listed(missing)}")
    if rest:
        said.append(f"{len(rest)} masks have no image: {_listed(rest)}")
    endings = ", ".join(ENDINGS)
    advice = f"call a mask as its image, or that with one of {endings} behind it; images are {', '.join(SUFFIXES)}"
    if missing:
        advice += f". To predict without masks, name the images' folder alone: '{printable(missing[0].parent)}'"
    raise InputError("; ".join(said), advice)


def _files(root: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files below a folder by their path there without the suffix, sorted; hidden ones are left out."""
    found: dict[str, Path] = {}
    files = (Path(entry.path) for entry in walk(root))
    for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
        if file.suffix.lower() not in suffixes:
            continue
        key = file.relative_to(root).with_suffix("").as_posix()
        if key in found:
            raise InputError(
                f"'{printable(found[key])}' and '{printable(file)}' have one name; which of them is meant cannot be "
                "told: keep one"
            )
        found[key] = file
    return found


def _listed(files: Sequence[Path]) -> str:
    return few([f"'{printable(f)}'" for f in files], SHOWN)


def groups_of(pairs: Pairs, group: str | None) -> np.ndarray | None:
    """One text for each image, see `masks.masks`; None without `group`.

    Raises:
      InputError: for a pattern that is none, or images that it does not fit.
    """
    if group is None:
        return None
    if group.startswith("frames:"):
        length = group.removeprefix("frames:")
        if not length.isdecimal() or not int(length):
            raise InputError(f"group is '{group}'; expected frames:N with a number of frames, such as frames:30")
        found = frame_blocks(pairs.keys, int(length))
        what = "ends in no number"
    else:
        try:
            pattern = re.compile(group)
        except re.error as error:
            raise InputError(
                f"group '{group}' is no regular expression ({error}); expected for example '(.+)_'"
            ) from error
        matches = [pattern.search(key.rsplit("/", 1)[-1]) for key in pairs.keys]
        found = [None if match is None else match[min(1, pattern.groups)] for match in matches]
        what = f"holds nothing that '{group}' finds"
    if bad := [image for image, value in zip(pairs.images, found, strict=True) if value is None]:
        raise InputError(
            f"the name of {len(bad)} of {len(found)} images {what}: {_listed(bad)}; give a group that fits every name"
        )
    return np.array([printable(value) for value in found])
