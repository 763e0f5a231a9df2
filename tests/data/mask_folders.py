"""Small folders of images with masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl.errors import InputError

SIDE = 16
LAYOUTS = {  # split: folders of images and masks
    "folders": lambda s: (f"{s}/images", f"{s}/masks"),
    "annot": lambda s: (s, f"{s}annot"),
    "within": lambda s: (f"images/{s}", f"masks/{s}"),
}


def image(seed, height=SIDE, width=SIDE, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def numbers(seed, values=(0, 1, 2), height=SIDE, width=SIDE):
    """A mask in which each of `values` occurs."""
    values = np.array(values, np.uint8)
    mask = np.random.default_rng(seed).choice(values, (height, width))
    mask.flat[: len(values)] = values
    return mask


def save(pixels, path, mode=None, **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    made = Image.fromarray(pixels)
    (made if mode is None else made.convert(mode)).save(path, **options)
    return path


def palette(indices, colours):
    """A Pillow image of indices."""
    made = Image.fromarray(indices, "L").copy()
    made = Image.frombytes("P", made.size, made.tobytes())
    made.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return made


def plain(root, masks, *, images="images", targets="masks"):
    """Images ``a.png``, ``b.png``, … with these masks, arrays or Pillow images."""
    for i, mask in enumerate(masks):
        name = f"{chr(97 + i)}.png"
        made = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask))
        save(image(i, made.height, made.width), Path(root) / images / name)
        place = Path(root) / targets / name
        place.parent.mkdir(parents=True, exist_ok=True)
        made.save(place)
    return Path(root)


def refused(read, *named):
    """Calls `read`, which has to raise an InputError that names these things."""
    with pytest.raises(InputError) as caught:
        read()
    assert [name for name in named if str(name) not in str(caught.value)] == [], str(caught.value)
    return str(caught.value)
