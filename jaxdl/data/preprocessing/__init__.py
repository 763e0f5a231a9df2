"""From what a source holds to what a network is fed: one preprocessing per modality, behind one interface."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing.columns import ColumnsPreprocessing
from jaxdl.data.preprocessing.image import ImagePreprocessing
from jaxdl.data.preprocessing.interface import Augmented, Constants, Preprocessing, nbytes
from jaxdl.data.preprocessing.moments import normalise, to_unit
from jaxdl.data.preprocessing.pairs import PairsPreprocessing
from jaxdl.data.preprocessing.raw import RawPreprocessing
from jaxdl.data.preprocessing.table import TablePreprocessing
from jaxdl.data.preprocessing.text import TextPreprocessing, text_of
from jaxdl.data.preprocessing.windows import WindowsPreprocessing, asks
from jaxdl.data.preprocessing.words import WordsPreprocessing, words_of
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice

__all__ = [
    "PREPROCESSINGS",
    "Augmented",
    "ColumnsPreprocessing",
    "Constants",
    "ImagePreprocessing",
    "PairsPreprocessing",
    "Preprocessing",
    "RawPreprocessing",
    "TablePreprocessing",
    "TextPreprocessing",
    "WindowsPreprocessing",
    "WordsPreprocessing",
    "choose_preprocessing",
    "nbytes",
    "normalise",
    "parse_preprocessing",
    "to_unit",
]

PREPROCESSINGS: dict[str, type[Preprocessing]] = {
    kind.modality: kind
    for kind in (
        ImagePreprocessing,
        TablePreprocessing,
        ColumnsPreprocessing,
        TextPreprocessing,
        WordsPreprocessing,
        PairsPreprocessing,
        WindowsPreprocessing,
        RawPreprocessing,
    )
}


LARGEST_KEPT = 512  # pixels on a side of images that all have one size: larger ones are brought to the model's default


def choose_preprocessing(source: Source, image_size: int | None, default_size: int) -> Preprocessing:
    """Preprocessing for `source` where no checkpoint gives one; what it fits waits for the training part.

    Args:
      source: whose ``preprocessing`` is taken if it has one; else its first example decides.
      image_size: side to which images are brought.
      default_size: the same, where images differ in size or are larger than `LARGEST_KEPT`, and `image_size` is not
        given.

    Raises:
      InputError: for examples of a kind that is not known, or an image size for what is no image.
    """
    made = _chosen(source, default_size)
    return made if image_size is None else made.resized(image_size)


def _chosen(source: Source, default_size: int) -> Preprocessing:
    if source.preprocessing is not None:
        return source.preprocessing.chosen_for(source)
    if len(source) == 0:
        return ImagePreprocessing((default_size, default_size, 3))
    first = source[0]["x"]
    if (is_text := text_of(first) is not None) or words_of(first) is not None:
        made = "data.texts(texts, labels" if is_text else "data.tagged(sentences, tags"
        made = "data.squad(file" if asks(source) else made
        raise InputError(
            f"{source.name} holds text, and nothing here says how it becomes tokens: start from a checkpoint that has "
            f"a tokenizer, or give one: {made}, tokenizer='tokenizer.json')"
            + (", or tokenizer='train' to make one of these texts; or --tokenizer tokenizer.json" if is_text else "")
        )
    x = source.spec()["x"]
    if not isinstance(x, jax.ShapeDtypeStruct):
        return RawPreprocessing.of(source)
    if x.dtype == np.uint8 and len(x.shape) == 3:
        shapes = source.shapes()
        sizes = {shape[:2] for shape in shapes}
        kept = len(sizes) == 1 and max(*next(iter(sizes))) <= LARGEST_KEPT
        size = sizes.pop() if kept else (default_size, default_size)
        return ImagePreprocessing((*size, max(shape[2] for shape in shapes)))
    if x.shape and x.dtype.kind in "fuib":
        return TablePreprocessing(x.shape)
    raise InputError(
        f"the examples of {source.name} are {x.dtype}{list(x.shape)}; expected uint8 images [height, width, channels], "
        "numbers of one shape, or a dict of arrays"
    )


def parse_preprocessing(held: Mapping[str, Any]) -> Preprocessing:
    """From the plain values of a card; those of older cards name a ``kind`` instead of a modality."""
    held = {key: _as_tuple(value) for key, value in held.items()}
    kind = held.pop("kind", None)
    modality = held.pop("modality", {"uint8": "image", "float32": "table"}.get(kind, kind))
    check_choice("modality", modality, PREPROCESSINGS)
    if kind == "float32":
        for name in ("interpolation", "crop_fraction", "crop_mode"):
            held.pop(name, None)
    return PREPROCESSINGS[modality](**held)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
