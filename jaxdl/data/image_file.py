"""One image file: what it may be, and its pixels."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError, without_controls
from jaxdl.shown import counted

# What a file may hold, whatever its suffix. Pillow knows more: EPS, for which it runs Ghostscript, and formats that it
# recognises without being able to read them.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000"),
    *("PPM", "QOI", "ICO", "SGI", "PCX", "DDS", "PSD"),
)
UNMARKED = {".tga": "TGA", ".dib": "DIB"}  # files that begin with no mark of their format: only the suffix tells
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs", ".gif"),
    *(".bmp", ".tif", ".tiff", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm"),
    *(".qoi", ".ico", ".sgi", ".rgb", ".bw", ".pcx", ".dds", ".psd"),
    *UNMARKED,
)
BEGINS = (  # of the formats that people leave without a suffix
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)
DEEP = 16  # bits of a value of what is no image of 8
DEPTHS = (8, 10, 12, 14, DEEP)  # that cameras and scanners give, stored in 16
MAY_BE_DEEP = (".png", ".tif", ".tiff", ".jp2", ".j2k", ".pgm", ".pnm", ".ppm")
LOOKED_INTO = 100  # files of these whose headers say whether any is deep
ORIENTATION = 0x0112  # the EXIF entry
LYING = range(5, 9)  # its values for an image on its side


def printable(path: str | Path) -> str:
    """A path as text that can be written anywhere, on a terminal, too.

    Bytes of a file's name that are no UTF-8, and characters that control a terminal or turn the direction of the text,
    become ``\\x..`` or ``\\u....``.
    """
    return without_controls(os.fsencode(path).decode("utf-8", "backslashreplace"), kept="")


def check_file(path: str | Path) -> None:
    """Raises InputError unless a path leads to a regular file: reading a pipe or a device may never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = error.strerror
        if os.path.islink(path):
            reason = f"it is a link to '{printable(os.readlink(path))}', which leads nowhere"
        raise _unreadable(path, reason) from error
    if not stat.S_ISREG(mode):
        raise _unreadable(path, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")


def _unreadable(path: str | Path, reason: Any) -> InputError:
    remedy = "replace or remove it, or leave it out by --skip-broken"
    return InputError(f"the image '{printable(path)}' cannot be read ({reason})", remedy)


def bytes_of(path: Path) -> bytes:
    """What an image file holds. Raises InputError if it cannot be read."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror) from error


def begins_as_image(path: Path) -> bool:
    """Whether the first bytes of a regular file are those of an image."""
    try:
        check_file(path)
        with open(path, "rb") as file:
            first = file.read(12)
    except (OSError, InputError):
        return False
    boxed = (first[:4] == b"RIFF" and first[8:] == b"WEBP") or first[4:] in (b"ftypavif", b"ftypavis")
    return boxed or first.startswith(BEGINS)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """A Pillow image whose pixels are not decoded yet; whatever goes wrong with it names the file."""
    from PIL import Image, UnidentifiedImageError

    check_file(path)
    try:
        with Image.open(path, formats=formats_of(path)) as image:
            _check_size(image.width * image.height, path)
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # Pillow itself refuses twice the limit, and says how many there are
        _check_size(int(re.search(r"\d+", str(error))[0]), path)
    except Exception as error:  # decoders meet arbitrary bytes: there is no list of what they raise
        unknown = isinstance(error, UnidentifiedImageError)
        raise _unreadable(path, "it is no image of a format that is read" if unknown else error) from error


def formats_of(path: str | Path = "") -> list[str]:
    """The formats that this installation of Pillow reads, of those that a file of this name may have."""
    from PIL import Image

    Image.init()  # without it Pillow does not know of all
    unmarked = UNMARKED.get(os.path.splitext(path)[1].lower())
    return [name for name in (*FORMATS, unmarked) if name in Image.OPEN]


def _check_size(pixels: int, path: str | Path) -> None:
    """Refuses, before it is decoded, an image that would fill the memory: a small file can unpack to gigabytes."""
    from PIL import Image

    if (limit := Image.MAX_IMAGE_PIXELS) is not None and pixels > limit:
        raise InputError(
            f"the image '{printable(path)}' has {pixels:,} pixels, more than the limit of {limit:,}; it was not "
            "decoded",
            "shrink it (from Python, PIL.Image.MAX_IMAGE_PIXELS is the limit)",
        )


def image_shape(path: str | Path) -> tuple[int, int, int]:
    """``(height, width, 1 or 3)`` of what `read_image` gives, without keeping it. Raises InputError as it does."""
    with opened(path) as image:
        return shape_of(image)


def shape_of(image: Any) -> tuple[int, int, int]:
    """``(height, width, 1 or 3)`` of an opened Pillow image once it is upright."""
    turned = image.getexif().get(ORIENTATION, 1) in LYING
    width, height = image.size[::-1] if turned else image.size
    return height, width, _channels(image)


def read_image(path: str | Path, bits: int = DEEP) -> np.ndarray:
    """``uint8[height, width, 1 or 3]``, turned upright as its EXIF entry says.

    Grey stays one channel; palettes and CMYK become RGB; transparency is dropped; of several pictures in a
    file the first. The file's bytes decide what it is, not its suffix: one of `FORMATS`.

    Args:
      path: of the file.
      bits: of a grey image that is stored with 16 bits, how many are used: of these the upper 8 are kept.

    Raises:
      InputError: naming the file, if it cannot be decoded or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``
        (89,478,485 unless set otherwise).
    """
    with opened(path) as stored:
        image = _upright(stored)
        return to_pixels(image, _channels(image), bits)


def read_small(path: str | Path, side: int, bits: int = DEEP) -> np.ndarray:
    """As `read_image`, but colours in any case, and a JPEG scaled down while it is decoded, to `side` or more pixels.

    Decoding takes a fraction of the time; for what is to become a thumbnail.
    """
    with opened(path) as stored:
        if min(stored.size) > 2 * side:
            stored.draft("RGB", (2 * side, 2 * side))
        return to_pixels(_upright(stored), 3, bits)


def to_pixels(image: Any, channels: int, bits: int = DEEP) -> np.ndarray:
    """``uint8[height, width, channels]`` of a Pillow image: grey for 1, colours for 3; see `read_image`."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.size and (grey.min() < 0 or grey.max() >> DEEP):
            raise ValueError(f"it holds numbers from {grey.min()} to {grey.max()}: store it with 8 or 16 bits")
        grey = (grey >> (bits - 8)).clip(0, 255).astype(np.uint8)[..., None]
        return np.repeat(grey, channels, axis=-1)
    if image.mode == "F":
        raise ValueError("it holds floats, and nothing says which are black and white: store it with 8 or 16 bits")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def _upright(image: Any) -> Any:
    """As ``ImageOps.exif_transpose``, which also writes the EXIF block again and fails where that is odd."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _channels(image: Any) -> int:
    return 1 if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I") else 3


def bits_used(paths: Sequence[Path]) -> tuple[int | None, tuple[str, ...]]:
    """How many bits the values of grey images that are stored with 16 use, and that in words; None without such images.

    Cameras give 10, 12 or 14 bits. A single number is for all images: a dark one is not made brighter than others.
    """
    candidates = [path for path in paths if path.suffix.lower() in MAY_BE_DEEP]
    places = np.unique(np.linspace(0, len(candidates) - 1, min(len(candidates), LOOKED_INTO)).astype(int))
    if not any(_is_deep(candidates[i]) for i in places.tolist()):
        return None, ()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders let other threads run
        largest = [value for value in pool.map(_largest_value, candidates) if value is not None]
    if not largest:
        return None, ()
    bits = next(bits for bits in DEPTHS if max(largest) < 2**bits)
    read = "" if bits == DEEP else f"read as {bits} bits; "
    many = counted(len(largest), "image")
    return bits, (f"{many} stored with 16 bits, of values up to {max(largest):,}: {read}the upper 8 bits are kept",)


def _is_deep(path: Path) -> bool:
    with contextlib.suppress(InputError), opened(path) as image:
        return image.mode.startswith("I")
    return False


def _largest_value(path: Path) -> int | None:
    """Of a grey image stored with 16 bits; None for another, or one that cannot be read: who reads it says so."""
    with contextlib.suppress(InputError), opened(path) as image:
        return int(np.asarray(image).max(initial=0).clip(0, 2**DEEP - 1)) if image.mode.startswith("I") else None
    return None
