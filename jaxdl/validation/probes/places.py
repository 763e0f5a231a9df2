"""Heads on the features of single places: what a linear map of a feature map says of the pixels in its middle."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.data.masks import VOID
from jaxdl.data.masks_source import scale_mask
from jaxdl.data.source import Arrays, Source
from jaxdl.errors import InputError
from jaxdl.models.initialise import stage_shapes
from jaxdl.models.staged import Staged
from jaxdl.models.unet import without_skips
from jaxdl.validation.given_folds import Pair
from jaxdl.validation.splits import Split

PLACES = 64  # of an image that are drawn, at most: neighbours say nearly the same


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Places of images as examples of their own.

    Attributes:
      source: their features and classes; places of an image, or of a group of images, are one group.
      image: of which image each is, ``int[n]``.
      images: the images.
    """

    source: Arrays
    image: np.ndarray
    images: Source

    @property
    def features(self) -> np.ndarray:
        """``float32[n, channels]``."""
        return self.source.x

    def of_images(self, split: Split) -> Split:
        """The same folds, of images."""
        sides = {side: [np.unique(self.image[rows]) for rows in getattr(split, side)] for side in ("train", "test")}
        return dataclasses.replace(split, examples=len(self.images), **sides)

    def of_places(self, folds: Sequence[Pair]) -> list[Pair]:
        """Folds of images as folds of their places."""
        return [tuple(np.flatnonzero(np.isin(self.image, part)) for part in pair) for pair in folds]


def last_map(model: Staged, spec: Any) -> str | None:
    """The last stage before the head that makes a feature map; None if there is none."""
    shapes = {name: without_skips(flowing) for name, flowing in stage_shapes(model, spec).items()}
    return next((name for name in reversed(model.outlets[:-1]) if len(getattr(shapes[name], "shape", ())) == 4), None)


def draw_places(maps: np.ndarray, source: Source, seed: int) -> Places:
    """At most `PLACES` places of each image, drawn from those whose pixel in the middle has a known class.

    Args:
      maps: features ``[n, rows, columns, channels]``.
      source: the images, with masks.
      seed: of the draw.

    Raises:
      InputError: if the features have no places.
    """
    if maps.ndim != 4:
        raise InputError(
            f"the features of {source.name} are {list(maps.shape[1:])} for an image; a class for each pixel needs "
            "feature maps: name a stage that makes some, with --stage, from Python stage=…"
        )
    size = maps.shape[1:3]
    random = np.random.default_rng(seed)
    chosen = []
    for image, mask in enumerate(source.targets()):
        classes = scale_mask(mask, size).ravel()
        known = np.flatnonzero(classes != VOID)
        some = np.sort(random.permutation(known)[:PLACES])
        chosen.append((np.full(len(some), image), some, classes[some]))
    image, place, classes = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    features = np.asarray(maps.reshape(len(maps), -1, maps.shape[-1])[image, place], np.float32)
    groups = image if source.groups is None else np.asarray(source.groups)[image]
    names = None if source.names is None else [f"{source.names[i]} at {p}" for i, p in zip(image, place, strict=True)]
    about = dict(groups=groups, names=names, name=f"places of {source.name}")
    rows = Arrays(features, classes.astype(np.int32), source.class_names, **about)
    return Places(rows, image, source)
