"""Mask files as numbers: PNG files of numbers, of a palette or of colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.image_file import opened, printable
from jaxdl.data.masks_classes import SHOWN, VOID, ClassList, Colour, in_pixels
from jaxdl.errors import InputError

# Pillow spreads grey levels of 2 and 4 bits over 0 to 255, and says so in its name of how the pixels are stored.
SPREAD = {"L;2": 85, "L;4": 17}


class ColourTable(NamedTuple):
    """What colours mean: ``int64[m]``, sorted, as 0xRRGGBB, and ``uint8[m]``, the number of each."""

    colours: np.ndarray
    numbers: np.ndarray


def colour_table(classes: ClassList | None, void: Any) -> ColourTable | None:
    """The colours of classes, and that of `void` if it is one; None where no class has a colour.

    Raises:
      InputError: if void has the colour of a class.
    """
    if classes is None or classes.colours is None:
        return None
    meant = dict(zip(map(_packed, classes.colours), classes.numbers, strict=True))
    if isinstance(void, Sequence) and not isinstance(void, str):
        if _packed(void) in meant:
            name = classes.names[classes.numbers.index(meant[_packed(void)])]
            raise InputError(
                f"void is the colour {_shown(_packed(void))}, which '{name}' has too; void='{name}' means it"
            )
        meant[_packed(void)] = VOID
    colours = np.array(sorted(meant), np.int64)
    return ColourTable(colours, np.array([meant[c] for c in colours.tolist()], np.uint8))


def _packed(colour: Colour) -> int:
    red, green, blue = (int(v) for v in colour)
    return red << 16 | green << 8 | blue


def _shown(packed: int) -> str:
    return f"({packed >> 16}, {packed >> 8 & 255}, {packed & 255})"


def read_numbers(path: Path, shape: tuple[int, int], table: ColourTable | None) -> tuple[np.ndarray, bool]:
    """The numbers of a mask, ``uint8[h, w]``, and whether it has a single bit a pixel.

    Args:
      path: a PNG file: grey levels are numbers as they are, of a palette the indices. Colours become numbers by the
        table; so do a palette whose colours are all in it, and grey levels if it holds nothing but these.
      shape: of its image.
      table: see `colour_table`.

    Raises:
      InputError: naming the file, if it is none of that, has another size than its image, or colours without meaning.
    """
    with opened(path) as image:
        if image.format != "PNG":
            why = "stores other pixels than it was given" if image.format == "JPEG" else "may do so"
            raise InputError(
                f"the mask '{printable(path)}' is a {image.format} file, which {why}",
                "store masks as PNG, made again from what they were drawn with",
            )
        numbers = _numbers(image, path, table)
        single = image.mode == "1"
    if numbers.shape != tuple(shape):
        raise InputError(
            f"the mask '{printable(path)}' is {_size(numbers.shape)} pixels, its image {_size(shape)}",
            "both must have one size",
        )
    return numbers, single


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} high and {shape[1]} wide"


def _numbers(image: Any, path: Path, table: ColourTable | None) -> np.ndarray:
    stored = _stored_as(image)
    if "transparency" in image.info:
        raise InputError(
            f"the mask '{printable(path)}' has a transparent colour: whether it is void or a class cannot be told",
            "store it without transparency",
        )
    if image.mode in ("RGBA", "LA"):
        image = _opaque(image, path)
    if image.mode.startswith("I"):
        return _bytes(np.asarray(image), path)
    if image.mode == "P":
        return _of_palette(image, path, table)
    if image.mode in ("1", "L"):
        numbers = np.asarray(image).astype(np.uint8) // SPREAD.get(stored, 1)
        grey = table is not None and all(len({c >> 16, c >> 8 & 255, c & 255}) == 1 for c in table.colours.tolist())
        return _by_colour(numbers.astype(np.int64) * 0x010101, table, path) if grey else numbers
    if stored.startswith("RGB") and "16" in stored:
        raise InputError(f"the mask '{printable(path)}' has colours of 16 bits", "store it with 8 bits a colour")
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    if table is None:
        if (red == green).all() and (red == blue).all():
            return red.copy()
        packed = red.astype(np.int64) << 16 | green.astype(np.int64) << 8 | blue
        raise InputError(
            f"the mask '{printable(path)}' has colours ({_most_frequent(packed)}), and nothing says what they mean",
            "say it by classes={name: (R, G, B)} or by lines name R G B in a file classes.txt in the data's folder",
        )
    return _by_colour(red.astype(np.int64) << 16 | green.astype(np.int64) << 8 | blue, table, path)


def _stored_as(image: Any) -> str:
    """How the file stores pixels, in Pillow's names: ``L;4`` is grey of 4 bits."""
    arguments = image.tile[0][3] if image.tile else image.mode
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _opaque(image: Any, path: Path) -> Any:
    clear = int((np.asarray(image.getchannel("A")) < 255).sum())
    if clear:
        raise InputError(
            f"the mask '{printable(path)}' has an alpha channel with {in_pixels(clear)} not opaque: whether "
            "they are void or a class cannot be told",
            "store it without an alpha channel",
        )
    return image.convert(image.mode.removesuffix("A"))


def _bytes(numbers: np.ndarray, path: Path) -> np.ndarray:
    if numbers.size and (numbers.max() > 255 or numbers.min() < 0):
        raise InputError(
            f"the mask '{printable(path)}' has 16 bits and holds the number {numbers.max()}",
            "numbers of classes are 0 to 255",
        )
    return numbers.astype(np.uint8)


def _of_palette(image: Any, path: Path, table: ColourTable | None) -> np.ndarray:
    """The indices; by their colours if these say something else, and all are in the table."""
    indices = np.asarray(image)
    if table is None:
        return indices.copy()
    palette = np.frombuffer(bytes(image.getpalette("RGB")), np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    used = used[used < len(palette)]
    packed = np.array([_packed(palette[i]) for i in used], np.int64)
    known = np.isin(packed, table.colours)
    means = table.numbers[np.searchsorted(table.colours, packed).clip(max=len(table.colours) - 1)]
    plain = packed == used.astype(np.int64) * 0x010101  # a palette of grey levels says no more than the indices
    if known.all():
        lookup = np.arange(256, dtype=np.uint8)
        lookup[used] = means
        return lookup[indices]
    if (~known | (means == used) | plain).all():
        return indices.copy()
    wrong = int(used[known & (means != used) & ~plain][0])
    raise InputError(
        f"the mask '{printable(path)}' has a palette with colours of classes in another order (index {wrong} has the "
        f"colour of class {means[used == wrong][0]}), and colours that no class has "
        f"({', '.join(map(_shown, packed[~known][:SHOWN].tolist()))})",
        "give every colour a class, or void=(R, G, B)",
    )


def _by_colour(packed: np.ndarray, table: ColourTable, path: Path) -> np.ndarray:
    place = np.searchsorted(table.colours, packed).clip(max=len(table.colours) - 1)
    unknown = table.colours[place] != packed
    if unknown.any():
        raise InputError(
            f"the mask '{printable(path)}' has {in_pixels(unknown.sum())} of colours that no class has: "
            f"{_most_frequent(packed[unknown])}",
            "give them a class or void=(R, G, B); colours at edges come from smoothing or scaling, and such masks have "
            "to be made again (scaled by the nearest pixel)",
        )
    return table.numbers[place]


def _most_frequent(packed: np.ndarray) -> str:
    colours, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    shown = ", ".join(f"{_shown(int(colours[i]))} in {in_pixels(counts[i])}" for i in order)
    return shown + (", …" if len(colours) > SHOWN else "")
