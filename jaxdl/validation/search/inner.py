"""The inner folds: divisions of each outer training part, by which it chooses."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.tasks import Task
from jaxdl.validation.given_folds import are_folds
from jaxdl.validation.splits import Split, split_by_name, split_source
from jaxdl.validation.splitters import OPTIONS, SPLITTERS, Splitting
from jaxdl.validation.time_splits import OverTime

OUTER, INNER = "outer", "inner"
Part = tuple[str, int]  # of which split, and which of its folds

# what an outer training part is divided by where the outer splitter itself cannot be used again, or is of no use
AGAIN = {
    "leave-one-out": "auto",
    "holdout": "auto",
    "leave-groups-out": "group",
    "repeated-stratified": "stratified",
    "repeated-kfold": "kfold",
    "combinatorial-purged": "purged",
}
# splitter objects that cannot divide a part of the examples as they divide all
NOT_AGAIN = ("LeaveOneOut", "LeaveOneGroupOut", "LeavePGroupsOut", "PredefinedSplit")


def inner_splits(
    source: Source, task: Task, outer: Split, inner_splitter: str | Splitting | Any | None, folds: int, seed: int
) -> list[Split]:
    """A division of each outer training part, in indices of `source`.

    Args:
      source: labelled.
      task: what is asked of it.
      outer: the outer folds.
      inner_splitter: see `split_source`; a name takes horizon and embargo of the outer folds, and all options where it
        is that of the outer folds. None for what the outer folds are, however they were given, or the nearest to it; a
        splitter object that made them is used again, with its own number of folds.
      folds: for a name.
      seed: for a name.

    Raises:
      InputError: if a training part cannot be divided so.
    """
    if are_folds(inner_splitter):
        raise InputError(
            "inner_splitter is a list of folds, but inner folds divide a training part of each outer fold, not all "
            "examples; give a name or a scikit-learn splitter"
        )
    chosen = _like_outer(outer) if inner_splitter is None else inner_splitter
    made = []
    for fold, train in enumerate(outer.train):
        try:
            one = _divide_part(source, task, outer, chosen, train, folds, seed)
        except InputError as error:
            raise InputError(f"the training part of outer fold {fold} cannot be divided once more: {error}") from error
        inner = [train[p] for p in one.train], [train[p] for p in one.test]
        made.append(Split(one.kind, one.seed, *inner, options=one.options, like=one.like))
    return made


def _like_outer(outer: Split) -> Any:
    """What divides a training part as the outer folds divide all examples: an object, or a name."""
    if outer.made_by is not None and not isinstance(outer.made_by, OverTime) and outer.kind not in NOT_AGAIN:
        return outer.made_by
    name = outer.name or "auto"
    if outer.timed and outer.ends is None and not {"gap", "horizon"} & outer.options.keys():
        raise InputError(
            f"the folds were made by {outer.kind}, but do not say with what gap or horizon, so that inner folds could "
            "leak; divide the examples again, or give the inner splitter"
        )
    return AGAIN.get(name, name)


def _divide_part(
    source: Source, task: Task, outer: Split, chosen: Any, train: np.ndarray, folds: int, seed: int
) -> Split:
    part = subset(source, train)
    if isinstance(chosen, OverTime) and len(chosen.times) == len(source):
        chosen = chosen.take(train)
    if chosen not in SPLITTERS or not isinstance(chosen, str):
        return split_source(part, chosen, folds, seed, task)
    same = chosen == outer.name
    options = {
        name: outer.options.get(name)
        for name, kinds in OPTIONS.items()
        if chosen in kinds and (same or name in ("horizon", "embargo"))
    }
    times = outer.times
    if times is None and part.times is None and outer.forward:
        times = np.arange(len(source))  # they went by the order of the examples
    times, ends = (None if values is None else values[train] for values in (times, outer.ends))
    return split_by_name(part, Splitting(chosen, **options), folds, seed, task, times=times, ends=ends)


def number_parts(by_fold: Sequence[Split]) -> dict[int, list[Part]]:
    """For each outer fold the parts of its inner folds, numbered through."""
    ends = np.cumsum([len(split) for split in by_fold])
    return {
        fold: [(INNER, number) for number in range(end - len(split), end)]
        for fold, (split, end) in enumerate(zip(by_fold, ends.tolist(), strict=True))
    }


def as_one(by_fold: Sequence[Split]) -> Split:
    """All inner folds as those of one division, so that one program trains them."""
    parts = ([part for split in by_fold for part in getattr(split, side)] for side in ("train", "test"))
    return dataclasses.replace(by_fold[0], **dict(zip(("train", "test"), parts, strict=True)))
