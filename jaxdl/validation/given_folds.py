"""Folds that a user gives as indices: a list of ``(train, test)``, as scikit-learn's ``cv`` takes it."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError

GIVEN = "given"  # the kind of such a split
Pair = tuple[np.ndarray, np.ndarray]


def are_folds(splitter: Any) -> bool:
    """Whether a splitter is an iterable of folds, and no name, file or object that makes them."""
    named = isinstance(splitter, str | bytes | Path | Mapping)
    return isinstance(splitter, Iterable) and not named and not callable(getattr(splitter, "split", None))


def check_folds(source: Source, given: Iterable[Any]) -> list[Pair]:
    """The folds as arrays of indices.

    Warns where an example is in no test part: the score then says nothing of it.

    Raises:
      InputError: for what is no pair of indices, an index that is outside of `source` or there twice, an empty part,
        an example that is trained on and tested in one fold, or no folds at all.
    """
    pairs = [_pair(source, fold, one) for fold, one in enumerate(given)]
    if not pairs:
        raise InputError(
            "splitter holds no folds; expected [(train, test), …] with the indices of each (an iterator that was used "
            "once is empty: give a list)"
        )
    tested = np.zeros(len(source), bool)
    tested[np.concatenate([test for _, test in pairs])] = True
    if left := int((~tested).sum()):
        warnings.warn(
            f"{left} of the {len(source)} examples of {source.name} are in no test part: the score says nothing of "
            f"them (the first has the index {int(tested.argmin())})",
            stacklevel=2,
        )
    return pairs


def _pair(source: Source, fold: int, given: Any) -> Pair:
    try:
        train, test = given
    except (TypeError, ValueError):
        train = test = None
    if np.ndim(train) != 1 or np.ndim(test) != 1:
        raise InputError(
            f"entry {fold} of splitter is no pair (train, test) of lists of indices; expected [(train, test), …], of a "
            "single fold [(train, test)]"
        )
    train, test = (
        _indices(source, f"the {name} part of fold {fold}", part)
        for name, part in (("training", train), ("test", test))
    )
    if len(both := np.intersect1d(train, test)):
        raise InputError(
            f"fold {fold} of splitter trains on {len(both)} of its own test examples (the first has the index "
            f"{both[0]}); leave them out of one part"
        )
    return train, test


def _indices(source: Source, what: str, part: Any) -> np.ndarray:
    indices = np.asarray(part)
    if not indices.size:
        raise InputError(f"{what} is empty; expected the indices of one example or more")
    if indices.dtype.kind not in "ui":
        raise InputError(
            f"{what} holds {indices.dtype}; expected whole numbers, the indices of examples; numpy.flatnonzero makes "
            "them of a mask"
        )
    outside = indices[(indices < 0) | (indices >= len(source))]
    if outside.size:
        raise InputError(
            f"{what} has the index {outside[0]}, but {source.name} has {len(source)} examples; expected 0 to "
            f"{len(source) - 1}"
        )
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise InputError(f"{what} has the index {values[counts.argmax()]} {counts.max()} times; expected it once")
    return indices.astype(np.int64)
