"""Which classes the numbers and colours of masks stand for."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.shown import counted, few

VOID = 255  # the class index of a pixel that nobody knows
CLASS_FILE = "classes.txt"  # in a folder of images with masks: a line for each class
MOST = 255  # classes: their indices and VOID are bytes
SHOWN = 5  # things that a message lists
TWO = ("background", "foreground")
COLOURED = re.compile(r"(.*?)[\s,:=]+(\d+)[\s,]+(\d+)[\s,]+(\d+)")
EDGES = (
    "Grey levels at edges come from smoothing or scaling: make masks of the numbers of classes again (scaled by the "
    "nearest pixel), or set a threshold. Other numbers are named by classes: a name for each, or {name: number}"
)

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ClassList:
    """The classes that a user named.

    Attributes:
      names: of class 0, 1, …
      numbers: by which masks of numbers mean each.
      colours: by which masks of colours mean each; None if there are none.
      numbered: whether the numbers were said; else they count from 0.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    colours: tuple[Colour, ...] | None = None
    numbered: bool = False


def class_list(said: Any, folder: Path | None = None) -> ClassList | None:
    """What `said` names, or ``classes.txt`` in `folder` where it says nothing; None if there is neither.

    Args:
      said: names in the order of their numbers, from 0; or lines ``name R G B``; or ``{name: number}`` or
        ``{name: (R, G, B)}``; or the path of a text file with a line for each class.
      folder: of the images.

    Raises:
      InputError: naming the line or name that is none, or occurs twice.
    """
    if said is None:
        file = None if folder is None else folder / CLASS_FILE
        return None if file is None or not file.is_file() else _of_lines(_lines(file), f"'{file}'")
    if isinstance(said, str | Path):
        return _of_lines(_lines(Path(said)), f"'{said}'")
    if isinstance(said, Mapping):
        return _of_mapping(said)
    if not isinstance(said, Sequence | np.ndarray) or np.ndim(said) != 1:
        raise InputError(f"classes are {said!r:.200}; expected names, {{name: number or colour}} or a text file")
    return _of_lines([str(one) for one in said], "classes")


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the classes in '{file}' cannot be read ({reason}); expected a text file, a class a line"
        ) from error
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def _of_lines(lines: Sequence[str], what: str) -> ClassList:
    matches = [COLOURED.fullmatch(line) for line in lines]
    if all(match is None for match in matches):
        return _checked(ClassList(tuple(lines), tuple(range(len(lines)))), what)
    for line, match in zip(lines, matches, strict=True):
        if match is None:
            raise InputError(f"{what}: the class '{line}' has no colour, and others have one; expected name R G B")
    colours = tuple(_colour(match.groups()[1:], f"{what}: the colour of '{match[1]}'") for match in matches)
    return _checked(ClassList(tuple(match[1] for match in matches), tuple(range(len(lines))), colours), what)


def _of_mapping(said: Mapping[Any, Any]) -> ClassList:
    names, values = tuple(map(str, said)), list(said.values())
    if all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in values):
        return _checked(ClassList(names, tuple(int(v) for v in values), numbered=True), "classes")
    colours = tuple(_colour(v, f"classes: the colour of '{name}'") for name, v in zip(names, values, strict=True))
    return _checked(ClassList(names, tuple(range(len(names))), colours), "classes")


def _colour(value: Any, what: str) -> Colour:
    try:
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is {value!r:.80}; expected R G B from 0 to 255, or for all classes a number"
        ) from error
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise InputError(f"{what} is {red} {green} {blue}; expected R G B from 0 to 255")
    return red, green, blue


def _checked(classes: ClassList, what: str) -> ClassList:
    if not 1 <= len(classes.names) <= MOST:
        raise InputError(f"{what}: {len(classes.names)} classes; expected 1 to {MOST}")
    for name, values in {"name": classes.names, "number": classes.numbers, "colour": classes.colours or ()}.items():
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise InputError(f"{what}: the {name} {twice!r} occurs twice; expected another one for each class")
    if bad := [n for n in classes.numbers if not 0 <= n <= 255]:
        raise InputError(
            f"{what}: the number of '{classes.names[classes.numbers.index(bad[0])]}' is {bad[0]}; expected 0 to 255"
        )
    return classes


def void_number(void: Any, classes: ClassList | None) -> int | None:
    """The number of void: 255 by default, and for a colour; None for none.

    Raises:
      InputError: if `void` is no number, colour, class or None.
    """
    if void is None:
        return None
    if isinstance(void, str):
        if void == "auto":
            return None if classes and classes.numbered and VOID in classes.numbers else VOID
        check_choice("class that is void", void, classes.names if classes else ("auto",))
        return classes.numbers[classes.names.index(void)]
    if isinstance(void, int | np.integer) and not isinstance(void, bool) and 0 <= void <= 255:
        return int(void)
    _colour(void, "void")
    return VOID


@dataclasses.dataclass(frozen=True)
class Table:
    """What the numbers of a source's masks mean.

    Attributes:
      lookup: ``uint8[256]``: the class index of each number; `VOID` for void.
      class_names: of class 0, 1, …
      two: whether 0 and 255 were taken for two classes.
    """

    lookup: np.ndarray
    class_names: tuple[str, ...]
    two: bool = False


def number_table(
    counts: np.ndarray, classes: ClassList | None, void: Any, where: str, called: Sequence[str] | None = None
) -> Table:
    """The meaning of the numbers that occur in all masks together.

    Args:
      counts: ``int[n, 256]``: pixels of each number in each mask.
      classes: that the user named; else every number up to the largest that occurs is a class, called by it.
      void: see `masks.masks`; with ``"auto"`` 255 is void, unless 0 and 255 are all that occurs.
      where: the masks, for messages.
      called: what each mask is called; by default its index.

    Raises:
      InputError: if nothing but void occurs, or numbers that are no class, with the number of their pixels.
    """
    present = set(np.flatnonzero(counts.any(0)).tolist())
    asked = not isinstance(void, str) or void != "auto"
    two = not asked and present == {0, VOID}
    two = two and (classes is None or (len(classes.names) == 2 and not classes.numbered))
    if two:
        return Table(_lookup((0, VOID)), classes.names if classes else TWO, two=True)
    empty = void_number(void, classes)
    if not present - {empty}:
        raise InputError(
            f"every pixel of {where} is void ({empty}); expected some of known class: name the number of void by "
            "void, or void=None if there is none"
        )
    if classes is None:
        numbers = [n for n in range(max(present - {empty}) + 1) if n != empty]
        names = tuple(map(str, numbers))
        if stray := _stray(present - {empty}):
            raise _no_class(stray, counts, called, f"{where} hold numbers that do not count classes from 0")
    else:
        numbers, names = [n for n in classes.numbers if n != empty], left_names(classes, empty)
        if stray := sorted(present - {empty, *numbers}):
            what = f"{where} hold numbers that are none of the {len(names)} classes ({few(names, SHOWN)})"
            raise _no_class(stray, counts, called, what)
    if len(numbers) > MOST:
        raise InputError(f"{where} have {len(numbers)} classes; expected at most {MOST}")
    return Table(_lookup(numbers), names)


def left_names(classes: ClassList, empty: int | None) -> tuple[str, ...]:
    """The names of classes, without that of void."""
    return tuple(name for name, number in zip(classes.names, classes.numbers, strict=True) if number != empty)


def _stray(numbers: set[int]) -> list[int]:
    """The numbers that make it unlikely that all count classes: those behind a gap, if most of the count is missing.

    From 128 on it is taken for a scale of grey levels in any case.
    """
    most = max(numbers)
    if most < 8 or (2 * len(numbers) > most + 1 and most < 128):
        return []
    first = min(numbers)
    end = next(n for n in range(first, 257) if n not in numbers)
    return [n for n in sorted(numbers) if n >= end] or [n for n in sorted(numbers) if n > first] or [most]


def _no_class(stray: Sequence[int], counts: np.ndarray, called: Sequence[str] | None, what: str) -> InputError:
    pixels = counts[:, stray].sum(0)
    shown = few([f"{n} ({in_pixels(k)})" for n, k in zip(stray, pixels, strict=True)], SHOWN)
    first = int(np.flatnonzero(counts[:, stray].any(1))[0])
    where = f"example {first}" if called is None else f"'{called[first]}'"
    return InputError(f"{what}, in {in_pixels(pixels.sum())}, first in {where}: {shown}. {EDGES}")


def in_pixels(count: int) -> str:
    return counted(count, "pixel")


def _lookup(numbers: Sequence[int]) -> np.ndarray:
    lookup = np.full(256, VOID, np.uint8)
    lookup[list(numbers)] = np.arange(len(numbers))
    return lookup


def array_masks(
    y: Any, images: tuple[int, ...], class_names: Any, void: Any, name: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Masks in memory as class indices ``uint8[n, h, w]``, and the names of the classes.

    Args:
      y: whole numbers ``[n, h, w]`` or ``[n, h, w, 1]``; None if unknown.
      images: the shape of ``x``, ``(n, h, w, …)``.
      class_names: see `class_list`.
      void: see `masks.masks`.
      name: of the source, for messages.

    Raises:
      InputError: for masks of another shape than the images, or numbers that are no class.
    """
    classes = class_list(class_names)
    empty = void_number(void, classes)
    if y is None:
        return None, () if classes is None else left_names(classes, empty)
    try:
        y = np.asarray(y)
    except ValueError as error:  # rows of different length
        raise InputError(f"{name}: the masks are no array ({error}); expected one shape for all") from error
    if y.dtype.kind not in "uib" or y.shape not in (images[:3], (*images[:3], 1)) or y.ndim < 3:
        raise InputError(
            f"{name}: the masks are {y.dtype}{list(y.shape)}, the images {list(images)}; expected whole numbers "
            "[n, height, width] of the same sizes: the class of each pixel"
        )
    y = y.reshape(images[:3])
    if y.size and (y.min() < 0 or y.max() > 255):
        place = np.argwhere((y < 0) | (y > 255))[0]
        raise InputError(
            f"{name}: the masks hold {y[tuple(place)]} at {place.tolist()}; expected classes 0 to 254, and {VOID} "
            "where nobody knows"
        )
    y = y.astype(np.uint8)
    counts = np.array([np.bincount(one.ravel(), minlength=256) for one in y], np.int64).reshape(-1, 256)
    table = number_table(counts, classes, void, f"the masks of {name}")
    return table.lookup[y], table.class_names
