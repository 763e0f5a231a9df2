"""The inner folds: divisions of each outer training part, by which it chooses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.validation.search.evaluate import INNER, Part
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.splitters import SPLITTERS, Splitting

# what an outer training part is divided by where the outer splitter itself cannot be used again, or is of no use
AGAIN = {
    "leave-one-out": "auto",
    "holdout": "auto",
    "leave-groups-out": "group",
    "repeated-stratified": "stratified",
    "repeated-kfold": "kfold",
    "combinatorial-purged": "purged",
}


def inner_splits(
    source: Source,
    outer: Split,
    splitter: Any,
    splitting: Splitting | None,
    inner_splitter: Any | None,
    folds: int,
    seed: int,
) -> list[Split]:
    """A division of each outer training part, in indices of `source`.

    Args:
      source: labelled.
      outer: the outer folds.
      splitter: that made them.
      splitting: its options.
      inner_splitter: by name, or an object with scikit-learn's ``split``; None for the outer one, or the nearest.
      folds: for a name.
      seed: for a name.

    Raises:
      InputError: if a training part cannot be divided so.
    """
    chosen = _like_outer(splitter) if inner_splitter is None else inner_splitter
    options = _options(chosen, splitter, splitting)
    made = []
    for fold, train in enumerate(outer.train):
        try:
            one = split_source(subset(source, train), chosen, folds, seed, options)
        except InputError as error:
            raise InputError(f"the training part of outer fold {fold} cannot be divided once more: {error}") from error
        made.append(Split(one.kind, one.seed, [train[p] for p in one.train], [train[p] for p in one.test]))
    return made


def _like_outer(splitter: Any) -> Any:
    if isinstance(splitter, str) and splitter in SPLITTERS:
        return AGAIN.get(splitter, splitter)
    if callable(getattr(splitter, "split", None)) and not isinstance(splitter, Split):
        return splitter
    return "auto"  # a split that was saved: indices, not a rule


def _options(chosen: Any, splitter: Any, splitting: Splitting | None) -> Splitting | None:
    """Those of the outer splitter that the inner one has, too."""
    if splitting is None or not isinstance(chosen, str):
        return None
    if chosen == splitter:
        return splitting
    return Splitting(horizon=splitting.horizon, embargo=splitting.embargo) if chosen == "purged" else None


def number_parts(by_fold: Sequence[Split]) -> dict[int, list[Part]]:
    """For each outer fold the parts of its inner folds, numbered through."""
    ends = np.cumsum([len(split) for split in by_fold])
    return {
        fold: [(INNER, number) for number in range(end - len(split), end)]
        for fold, (split, end) in enumerate(zip(by_fold, ends.tolist(), strict=True))
    }


def as_one(by_fold: Sequence[Split]) -> Split:
    """All inner folds as those of one division, so that one program trains them."""
    return Split(
        by_fold[0].kind,
        by_fold[0].seed,
        [part for split in by_fold for part in split.train],
        [part for split in by_fold for part in split.test],
    )
