"""Folders of images with masks: semantic segmentation."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.image_file import image_shape, printable
from jaxdl.data.masks_classes import VOID, Table, class_list, left_names, number_table, void_number
from jaxdl.data.masks_files import Pairs, find_pairs, groups_of, mask_roots
from jaxdl.data.masks_pixels import ColourTable, colour_table, read_numbers
from jaxdl.data.masks_source import MaskFiles, Size, cut_mask, scale_mask, tile_places
from jaxdl.data.options import Options
from jaxdl.errors import InputError
from jaxdl.shown import few

__all__ = ["VOID", "MaskFiles", "MaskOptions", "mask_splits", "masks", "masks_of"]

LARGEST = 16_384  # pixels on a side, of a size or a tile


@dataclasses.dataclass(frozen=True)
class MaskOptions(Options):
    """How masks are read, and what an example is; see `masks`."""

    classes: Any = None
    void: Any = "auto"
    size: int | Size | None = None
    tile: int | Size | None = None
    group: str | None = None


def masks(
    path: str | Path | tuple[str | Path, str | Path],
    split: str | None = None,
    *,
    labelled: bool = True,
    classes: Any = None,
    void: Any = "auto",
    size: int | Size | None = None,
    tile: int | Size | None = None,
    group: str | None = None,
) -> MaskFiles:
    """A source of images with masks, from ``path/images/a.jpg`` and ``path/masks/a.png``.

    Other layouts: the same below ``path/train``, ``path/val`` and ``path/test``; ``path/images/train`` with
    ``path/masks/train``; ``path/train`` with ``path/trainannot`` (as SegNet's CamVid). Folders may have folders below
    them, alike on both sides. A mask is called as its image, or has one of `masks_files.ENDINGS` behind that.

    Masks are PNG files. Grey levels and the indices of a palette are numbers of classes; colours are looked up among
    those of `classes`. Grey levels 0 and 255 and no others become two classes, background and foreground. All masks are
    read here, once, and kept in memory; images are decoded when asked for.

    Args:
      path: the folder; or a pair of folders, of images and of masks.
      split: ``"train"``, ``"val"``, ``"test"`` or ``"all"`` where the folder has them; all by default.
      labelled: if False, images may have no masks, of the folder or of one that holds nothing but images, and several
        sizes, in which case their masks are not read.
      classes: names in the order of their numbers, from 0; or lines ``name R G B``; or ``{name: number}`` or
        ``{name: (R, G, B)}``; or a text file with a line for each class. By default ``classes.txt`` in the folder; else
        every number up to the largest in any split is a class, called by it.
      void: the number, ``(R, G, B)`` or the name of the class where nobody knows; None if there is none. ``"auto"`` is
        255, unless 0 and 255 are all that occurs. It becomes `VOID`, and is not among the class names.
      size: side, or (height, width), to which each image is scaled (bilinear, antialiased) and its mask (nearest
        pixel); proportions may change.
      tile: side, or (height, width), of tiles into which each image is cut, every one an example. They do not overlap:
        the last ones are shifted back into the image, and what an earlier tile has is void there. Images smaller than a
        tile are mirrored; their mask is void there. Tiles of an image are one group.
      group: a regular expression; what its first group (or all of it) finds in the name of an image is its group. Or
        ``"frames:N"``: N consecutive frames of names such as ``drive_006690`` are a group.

    Raises:
      InputError: naming the file, for whatever does not fit: images without masks and masks without images, other
        sizes, numbers or colours that are no class, files that cannot be read or are not PNG, transparent pixels, a
        group that does not fit each name; for images of several sizes without `size` or `tile`.
    """
    return masks_of(path, split, labelled=labelled, options=MaskOptions(classes, void, size, tile, group))


def masks_of(path: Any, split: str | None, *, labelled: bool, options: MaskOptions) -> MaskFiles:
    """As `masks`, of its options together."""
    size, tile = _size("size", options.size), _size("tile", options.tile)
    if size and tile:
        raise InputError(
            f"images are to be scaled to {size} (size, --image-size) and cut into tiles of {tile} (tile, --tile); "
            "expected one of the two"
        )
    several = isinstance(path, tuple | list)
    if several and len(path) != 2:
        raise InputError(f"{len(path)} folders; expected two, of images and of masks")
    where = (Path(path[0]), Path(path[1])) if several else Path(path)
    folder = where[0] if several else where
    shown = printable(folder)
    pairs, others, notes = find_pairs(where, split, labelled=labelled)
    classes = class_list(options.classes, folder)
    empty = void_number(options.void, classes)
    groups = groups_of(pairs, options.group)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders let other threads run
        shapes = [shape[:2] for shape in pool.map(image_shape, pairs.images)]
        if not size and not tile:
            if not labelled and pairs.masks is not None and len(set(shapes)) > 1:
                notes.append(f"its masks are not read: its images have {len(set(shapes))} sizes, its masks, too")
                pairs = dataclasses.replace(pairs, masks=None)
            if labelled:
                _check_one_size(shown, shapes)
        colours = colour_table(classes, options.void)
        numbers, table = None, None
        if pairs.masks is not None:
            numbers, counts = _read(pool, pairs, shapes, colours, size)
            seen = [counts]
            if others and (classes is None or not set(np.flatnonzero(counts.any(0))) - {0, VOID}):
                # every split has the same classes
                seen.append(_read(pool, others, pool.map(_height_and_width, others.images), colours, (1, 1))[1])
            called = [printable(mask) for part in (pairs, others) if part for mask in part.masks or ()]
            table = number_table(np.concatenate(seen), classes, options.void, f"the masks of '{shown}'", called)
            notes += _decided(counts, table, asked=options.void != "auto")
    names = table.class_names if table else () if classes is None else left_names(classes, empty)
    source = MaskFiles.of(
        pairs.images, None, names, f"{shown}:{split}" if split else shown, groups, size, tile, notes=notes
    )
    labels = None if table is None else [table.lookup[one] for one in numbers]
    if tile:
        return _tiled(source, labels, shapes, [f"{s}/{k}" for s, k in zip(pairs.splits, pairs.keys, strict=True)])
    return dataclasses.replace(source, labels=None if labels is None else np.stack(labels))


def _size(what: str, value: Any) -> Size | None:
    if value is None:
        return None
    pair = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and 1 <= v <= LARGEST for v in pair):
        raise InputError(f"{what} is {value!r:.80}; expected pixels, or (height, width), from 1 to {LARGEST:,}")
    return int(pair[0]), int(pair[1])


def _height_and_width(path: Path) -> Size:
    return image_shape(path)[:2]


def _check_one_size(shown: str, shapes: Sequence[Size]) -> None:
    counts = Counter(shapes).most_common()
    if len(counts) > 1:
        listed = few([f"{h}×{w} ({n})" for (h, w), n in counts], 3)
        raise InputError(
            f"the images of '{shown}' have {len(counts)} sizes (height × width, number of images): {listed}; expected "
            "one. Scale them by --image-size SIDE (from Python size=SIDE or size=(height, width)), or cut them into "
            "tiles by --tile SIDE (tile=SIDE or tile=(height, width))"
        )


def _read(
    pool: ThreadPoolExecutor, pairs: Pairs, shapes: Any, colours: ColourTable | None, size: Size | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """The numbers of each mask, scaled, and ``int64[n, 256]``, how many pixels of each there were before."""

    def one(mask: Path, shape: Size) -> tuple[np.ndarray, np.ndarray, bool]:
        numbers, single = read_numbers(mask, shape, colours)
        count = np.bincount(numbers.ravel(), minlength=256)
        return scale_mask(numbers, size) if size else numbers, count, single

    numbers, counts, single = zip(*pool.map(one, pairs.masks, shapes), strict=True)
    bits, white = np.array(single), np.array(counts)[:, VOID] > 0
    if bits.any() and white.any():
        first, second = (printable(pairs.masks[int(np.flatnonzero(which)[0])]) for which in (bits, white))
        raise InputError(
            f"the mask '{first}' holds 0 and 1 (one bit a pixel), while '{second}' holds 255: whether 1 and 255 are "
            "one class cannot be told; store all of them in the same way"
        )
    return list(numbers), np.array(counts, np.int64)


def _decided(counts: np.ndarray, table: Table, *, asked: bool) -> list[str]:
    """What a reader of the source has to know of its masks."""
    notes = []
    if table.two:
        notes.append(f"masks hold 0 and 255 alone: read as {' and '.join(table.class_names)}; no pixel is void")
    void = table.lookup == VOID
    if not asked and not table.two and set(np.flatnonzero(counts.any(0))) <= {0, VOID} and counts[:, VOID].any():
        share = counts[:, VOID].sum() / counts.sum()
        notes.append(
            f"masks hold 0 and 255 alone: with {len(table.class_names)} classes 255 is read as void "
            f"({100 * share:.1f} % of the pixels)"
        )
    if alone := int((counts[:, ~void].sum(1) == 0).sum()):
        notes.append(f"{alone} of {len(counts)} masks are void altogether")
    return notes


def _tiled(
    source: MaskFiles, labels: Sequence[np.ndarray] | None, shapes: Sequence[Size], images: Sequence[str]
) -> MaskFiles:
    tile = source.tile
    cuts = [(i, *place) for i, shape in enumerate(shapes) for place in tile_places(shape, tile)]
    image = np.array([i for i, *_ in cuts], np.int64)
    groups = np.array([printable(name.lstrip("/")) for name in images]) if source.groups is None else source.groups
    return dataclasses.replace(
        source,
        paths=tuple(source.paths[i] for i in image),
        labels=None if labels is None else np.stack([cut_mask(labels[i], tile, *place) for i, *place in cuts]),
        groups=groups[image],
        places=np.array([place for _, *place in cuts], np.int64),
    )


def mask_splits(path: str | Path) -> tuple[str, ...] | None:
    """Which of train, val and test a folder of images with masks has; None if it is no such folder."""
    roots = mask_roots(Path(path))
    return tuple(split for split in roots if split) if roots else None
