"""A picture of a batch before and after augmentation."""

import os
import tempfile
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdl.errors import InputError
from jaxdl.report.markup import check_place
from jaxdl.report.table import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
COLUMNS = 4  # pairs side by side
SIDE = 150  # pixels of the longer side of an image, about
LARGEST = 240  # pixels, above which an image is made smaller
MARGIN, BETWEEN, ARROW, LINE, HEADING = 24, 30, 28, 16, 58  # pixels: borders, between pairs, within one, of text
INK, FAINT = "#1f2328", "#656d76"
DPI = 100
LETTER = 6.6  # pixels that a letter takes, about
STYLE = {
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "font.size": 8.5,
    "svg.fonttype": "none",  # the reader's fonts draw the letters
    "svg.hashsalt": "jaxdl",
}


def mixture(own: str, other: str, share: float) -> str:
    """What an image shows of which a `share` is its own: ``cat (0.70) + dog (0.30)``, or the own label alone."""
    rounded = f"{share:.2f}"
    return own if rounded == "1.00" else f"{own} ({rounded}) + {other} ({1 - float(rounded):.2f})"


def write_show(
    path: str | Path,
    before: np.ndarray,
    after: np.ndarray,
    labels_before: Sequence[str],
    labels_after: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
) -> Path:
    """Writes pairs of images with what each shows above it.

    Args:
      path: of the file, ``.png`` or ``.svg``, whose folder must be there; a file of that name is replaced at once or
        not at all.
      before: ``float32[n, height, width, channels]`` in 0 to 1. Of 4 channels and more the first 3 are shown as red,
        green and blue; 2 are shown as their mean.
      after: likewise, of the same shape.
      labels_before: of each image; empty strings where nothing is known.
      labels_after: likewise. A label like the one before is not repeated; one with `` + `` in it gets two lines.
      title: of the picture.
      subtitle: a line below it.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written, has another ending, or the images and labels do not go together.
    """
    path = check_place(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"'{path.name}' does not end in {' or '.join(FORMATS)}; a picture is written as one of these")
    if before.ndim != 4 or before.shape != after.shape or not len(before):
        raise InputError(
            f"the images are {list(before.shape)} and {list(after.shape)}; expected one shape [n, h, w, c]"
        )
    if not len(before) == len(labels_before) == len(labels_after):
        raise InputError(f"{len(before)} images, {len(labels_before)} and {len(labels_after)} labels; expected as many")
    import matplotlib.style

    texts = [plain(text).replace("\n", " ") for text in (*labels_before, *labels_after, title, subtitle)]
    with matplotlib.style.context(["default", STYLE, {"font.family": _families("".join(texts))}]):
        figure = _draw(before, after, texts[: len(before)], texts[len(before) : -2], *texts[-2:])
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # of a script that no font here has; boxes stand for it
            work = Path(folder) / f"show{path.suffix.lower()}"
            metadata = {"Date": None} if work.suffix == ".svg" else {}
            figure.savefig(work, dpi=DPI, metadata=metadata)
            os.replace(work, path)
    return path


def _draw(
    before: np.ndarray, after: np.ndarray, old: Sequence[str], new: Sequence[str], title: str, subtitle: str
) -> "Figure":
    """All in pixels from the upper left corner, so that a pixel of a small image is a whole square of the picture."""
    from matplotlib.figure import Figure

    pixels = np.array(before.shape[1:3])
    longest = pixels.max()
    scale = max(1, round(SIDE / longest)) if longest <= LARGEST else LARGEST / longest
    tall, wide = np.maximum(1, np.round(pixels * scale)).astype(int)
    pair = max(2 * wide + ARROW, 110)
    shown = [_lines(a, "" if a == b else b, wide + ARROW // 2) for a, b in zip(old, new, strict=True)]
    lines = max(len(text) for texts in shown for text in texts)
    rows = -(-len(before) // COLUMNS)
    columns = -(-len(before) // rows)  # so that 5 are 3 and 2
    row = lines * LINE + 6 + tall
    width = max(2 * MARGIN + columns * pair + (columns - 1) * BETWEEN, 460)
    height = HEADING + MARGIN + rows * row + (rows - 1) * (BETWEEN - 8) + MARGIN
    figure = Figure((width / DPI, height / DPI), facecolor="white")

    def write(x: float, y: float, text: str, **style: object) -> None:
        figure.text(x / width, 1 - y / height, text, va="baseline", **style)

    def place(x: int, y: int, image: np.ndarray) -> None:
        axes = figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))
        axes.imshow(_shown(image), aspect="auto", interpolation=None if scale < 1 else "nearest")
        axes.set_axis_off()

    write(MARGIN, MARGIN + 14, _cut(title, int((width - 2 * MARGIN) / 9)), fontsize=14)
    write(MARGIN, MARGIN + 34, _cut(subtitle, int((width - 2 * MARGIN) / LETTER)), color=FAINT)
    for i in range(len(before)):
        x = MARGIN + (i % columns) * (pair + BETWEEN)
        y = HEADING + MARGIN + (i // columns) * (row + BETWEEN - 8)
        for left, texts in zip((x, x + wide + ARROW), shown[i], strict=True):
            for line, text in enumerate(reversed(texts)):
                write(left, y + (lines - line) * LINE - 4, text)
        y += lines * LINE + 6
        place(x, y, before[i])
        place(x + wide + ARROW, y, after[i])
        write(x + wide + ARROW / 2, y + tall / 2 + 5, "→", color=FAINT, fontsize=12, ha="center")
    return figure


def _shown(image: np.ndarray) -> np.ndarray:
    """Red, green and blue ``[height, width, 3]`` of any number of channels."""
    image = np.clip(image, 0, 1)
    return np.repeat(image.mean(-1, keepdims=True), 3, axis=-1) if image.shape[-1] < 3 else image[..., :3]


def _lines(old: str, new: str, width: float) -> tuple[list[str], list[str]]:
    """Both labels in lines that fit `width` pixels."""
    most = max(int(width / LETTER), 8)
    first, plus, second = new.partition(" + ")
    parts = [_keeping_end(first, most), "+ " + _keeping_end(second, most - 2)] if plus else [_cut(new, most)]
    return [_cut(old, most)], parts


def _keeping_end(text: str, most: int) -> str:
    """A name and its share, of which the name is cut."""
    name, space, share = text.rpartition(" ")
    return _cut(name, most - len(share) - 1) + space + share


def _cut(text: str, most: int) -> str:
    """`text` in the room of `most` letters. Names often differ at their ends, so that the middle goes."""
    if sum(map(_room, text)) <= most:
        return text
    begin, end = _as_fits(text, most // 2), _as_fits(text[::-1], most - most // 2 - 1)[::-1]
    return f"{begin}…{end}"


def _as_fits(text: str, most: int) -> str:
    return text[: int(np.searchsorted(np.cumsum([_room(letter) for letter in text]), most, side="right"))]


def _room(letter: str) -> int:
    """Letters of East Asian scripts are about twice as wide as others."""
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _families(text: str) -> list[str]:
    """DejaVu Sans, and of the fonts that are installed those that have the letters that it lacks."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    families, own = ["DejaVu Sans"], FT2Font(font_manager.findfont("DejaVu Sans"))
    missing = {ord(letter) for letter in text} - set(own.get_charmap())
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        try:
            has = missing & set(FT2Font(font.fname).get_charmap())
        except (OSError, RuntimeError):  # matplotlib's list of fonts may be older than the fonts
            continue
        if has and font.name not in families and not font.name.startswith("Last Resort"):  # which has boxes alone
            families.append(font.name)
            missing -= has
    return families
