"""Smaller training parts of given folds, each a fair part of the next larger one."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.validation.splits import Split

AUTO_SIZES, AUTO_LEAST, AUTO_PER_CLASS = 5, 10, 2


def resolve_sizes(sizes: Sequence[Any] | str, strata: np.ndarray | None, split: Split) -> dict[str, list[int]]:
    """The number of training examples of each fold, by the text that asked for it; rising, each once.

    Args:
      sizes: see `learning_curve`.
      strata: of every example, such as its class; None for none.
      split: at full size.

    Raises:
      InputError: for a size that cannot be read, that the training parts are too small for, or that lacks a class.
    """
    full = np.array([len(part) for part in split.train])
    classes = 1 if strata is None else len(np.unique(strata))
    least = max(2, classes)
    if isinstance(sizes, str):
        if sizes != "auto":
            sizes = [sizes]
        else:
            low = max(AUTO_LEAST, AUTO_PER_CLASS * classes)
            shares = [2.0**-k for k in range(AUTO_SIZES - 1, -1, -1)]
            sizes = [share for share in shares if share == 1 or share * full.min() >= low]
    if not isinstance(sizes, Sequence) or not sizes:
        raise InputError(f"sizes is {sizes!r}; expected numbers of examples, shares such as '50%', or 'auto'")
    found: dict[str, list[int]] = {}
    for given in sizes:
        share, count = _parse_size(given)
        if share is None and count > full.min():
            raise InputError(
                f"size {count} is more than the {full.min()} training examples of the smallest fold; expected at most "
                f"that, or '100%'"
            )
        counts = [max(1, round(share * n)) if count is None else count for n in full.tolist()]
        if min(counts) < least:
            why = "a spread of numbers" if strata is None else f"the {classes} classes"
            raise InputError(f"size {given} is {min(counts)} training examples, too few for {why}: at least {least}")
        if counts not in found.values():
            found[str(count) if share is None else f"{100 * share:.6g}%"] = counts
    return dict(sorted(found.items(), key=lambda pair: sum(pair[1])))


def _parse_size(given: Any) -> tuple[float | None, int | None]:
    """A share, or a count; the other is None."""
    value: Any = given
    if isinstance(given, str):
        text = given.strip()
        try:
            value = float(text[:-1]) / 100 if text.endswith("%") else int(text) if text.isdigit() else float(text)
        except ValueError:
            value = None
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= 1:
        return None, int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and 0 < value <= 1:
        return float(value), None
    raise InputError(f"size is {given!r}; expected a number of training examples from 1, or a share up to 1 or '100%'")


def nested_parts(
    source: Source, strata: np.ndarray | None, split: Split, counts: Sequence[Sequence[int]], seed: int
) -> list[list[np.ndarray]]:
    """Training parts ``[sizes][folds]``, each a subset of the next.

    Args:
      source: labelled.
      strata: of every example, such as its class; None for none.
      split: of `source`, at full size.
      counts: of examples, ``[sizes][folds]``.
      seed: of the draw; that of fold k comes from (seed, k).
    """
    parts: list[list[np.ndarray]] = [[] for _ in counts]
    for fold, train in enumerate(split.train):
        order = _drawing_order(source, strata, split, train, np.random.default_rng((seed, fold, 0x512E5)))
        for place, sizes in enumerate(counts):
            count = sizes[fold]
            parts[place].append(train if count == len(train) else np.sort(order[:count]))
    return parts


def _drawing_order(
    source: Source, strata: np.ndarray | None, split: Split, train: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """`train` in an order of which every beginning is a fair smaller training part."""
    train = random.permutation(train)
    if split.forward:  # the latest examples are taken
        times = source.times if split.times is None else split.times
        return np.sort(train)[::-1] if times is None else train[np.argsort(times[train], kind="stable")[::-1]]
    if source.groups is not None:
        _, group = np.unique(np.asarray(source.groups)[train], return_inverse=True)
        return train[np.argsort(random.permutation(group.max() + 1)[group], kind="stable")]
    if strata is None:
        return train
    # each stratum is spread evenly over the order, and begins it with one example
    labels = strata[train]
    place = np.empty(len(train))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        place[mine[0]] = 0
    return train[np.argsort(place, kind="stable")]
