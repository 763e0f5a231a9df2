"""Examples that occur twice: the same bytes, the same picture, or the same text."""

import hashlib
from typing import NamedTuple

import numpy as np

from jaxdl.data.source import Source, every_x, subset, with_groups
from jaxdl.validation.leakage.near_duplicate_images import find_near_duplicate_images, holds_pictures, thumbnails
from jaxdl.validation.leakage.near_duplicate_texts import find_near_duplicate_texts, long_enough

LARGEST = 20_000  # images up to which near-duplicates are looked for: all pairs are compared
CHANCE = 1e-4  # expected number of rows that equal one by chance, from which on equal rows say nothing


class Copies(NamedTuple):
    """Which examples of a source are the same.

    Attributes:
      hashes: ``uint64[n]`` of what each example holds.
      telling: ``bool[n]``; False where it is no wonder to meet the same again: a plain image, a row of few values.
      content: ``int[n]``; the same number for examples of the same bytes, or the same text (if these are telling).
      alike: pairs of such numbers, ``int[m, 2]``, whose images show the same picture, or whose texts say the same; None
        if it was not looked for.
    """

    hashes: np.ndarray
    telling: np.ndarray
    content: np.ndarray
    alike: np.ndarray | None


def find_copies(source: Source, *, near: bool = True) -> Copies:
    """Looks for equal examples, and if `near` for alike ones among texts and images (up to `LARGEST` different ones).

    Where there are texts, they alone decide. Everything is read once, and once more at reduced size for alike images;
    only hashes and thumbnails are kept.
    """
    hashes, texts = source.hashes(), source.texts
    same = hashes if texts is None else np.array([_hash(text) for text in texts], np.uint64)
    values, first, content, count = np.unique(same, return_index=True, return_inverse=True, return_counts=True)
    telling = np.ones(len(values), bool)
    repeated = np.flatnonzero(count > 1)
    telling[repeated] = are_telling(source, first[repeated])
    alone = np.flatnonzero(~telling[content])
    content = content.copy()
    content[alone] = len(values) + np.arange(len(alone))
    alike = None
    if near and texts is not None:
        alike = find_near_duplicate_texts([texts[i] for i in first])
    elif near and len(values) <= LARGEST and holds_pictures(source):
        alike = find_near_duplicate_images(thumbnails(source, first)) if len(values) > 1 else np.zeros((0, 2), np.int64)
    return Copies(hashes, np.isin(np.arange(len(source)), alone, invert=True), content, alike)


def are_telling(source: Source, indices: np.ndarray) -> np.ndarray:
    """``bool[len(indices)]``: whether it would be a wonder to meet the example of this index again by chance.

    It would not for an image of one colour, a text of a few words, nor for a row of a table whose values are so common
    that `CHANCE` or more rows like it are to be expected if the features were independent of one another.
    """
    if not len(indices):
        return np.zeros(0, bool)
    if (texts := source.texts) is not None:  # once: some sources make the list each time
        return np.array([long_enough(texts[i]) for i in indices])
    if holds_pictures(source):
        return np.array([_has_contrast(source[int(i)]["x"]) for i in indices])
    if len(getattr(source.spec()["x"], "shape", ())) != 1:
        return np.ones(len(indices), bool)
    x = every_x(source)
    expected = np.full(len(indices), float(len(x)))
    for column in x.T:
        values, counts = np.unique(column, return_counts=True)
        expected *= counts[np.searchsorted(values, column[indices])] / len(x)
        if (expected < CHANCE).all():
            break
    return expected < CHANCE


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _has_contrast(image: np.ndarray) -> bool:
    return bool((image.max((0, 1)) > image.min((0, 1))).any())


def duplicate_groups(source: Source, *, near: bool = True) -> Source:
    """`source` with groups such that copies of one example are in one group; its own groups are kept together, too.

    With a splitter that keeps groups whole (``stratified-group``, ``group``), no copy is trained on where another is
    tested.

    Args:
      source: of the examples.
      near: whether images that look the same, and texts that say the same, count as copies, too.

    Raises:
      InputError: if the source cannot hold groups.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    copies = find_copies(source, near=near)
    n = int(copies.content.max()) + 1
    edges = [np.zeros((0, 2), np.int64) if copies.alike is None else copies.alike]
    if source.groups is not None:
        first: dict[object, int] = {}
        own = [
            (first.setdefault(g, int(c)), int(c)) for g, c in zip(source.groups.tolist(), copies.content, strict=True)
        ]
        edges.append(np.array(own))
    one, two = np.concatenate(edges).T
    labels = connected_components(coo_array((np.ones(len(one), bool), (one, two)), (n, n)), directed=False)[1]
    return with_groups(source, np.unique(labels[copies.content], return_inverse=True)[1])


def contradictions(source: Source, copies: Copies | None = None) -> list[np.ndarray]:
    """Equal examples whose labels differ, such as one image in two classes: ``int64[m]`` indices of each set of them.

    Labels are classes, sets of labels or maps; numbers to regress on may differ between equal examples.

    Args:
      source: of the examples.
      copies: of the source, if they are known already.
    """
    targets = source.targets()
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iub":
        return []
    content = (find_copies(source, near=False) if copies is None else copies).content
    order = np.argsort(content, kind="stable")
    sets = np.split(order, np.flatnonzero(np.diff(content[order])) + 1)
    return [one for one in sets if len(one) > 1 and (targets[one] != targets[one[0]]).any()]


def alike_contradictions(source: Source, copies: Copies) -> np.ndarray:
    """Examples that are alike but labelled differently, ``int64[m, 2]``: a pair for each of `copies.alike`.

    Labels are classes or sets of labels: maps of two pictures that look the same are never quite the same.
    """
    targets = source.targets()
    labels = isinstance(targets, np.ndarray) and targets.dtype.kind in "iub" and targets.ndim <= 2
    if copies.alike is None or not labels:
        return np.zeros((0, 2), np.int64)
    order = np.argsort(copies.content, kind="stable")
    ends = [np.searchsorted(copies.content[order], copies.alike, side=side) for side in ("left", "right")]
    found = []
    for (first, begin), (last, end) in zip(*ends, strict=True):
        if first < last and begin < end:  # what says nothing when it is met again has numbers of its own
            one, others = order[first], order[begin:end]
            differ = others[(targets[others] != targets[one]).reshape(len(others), -1).any(1)]
            found += [(one, differ[0])] if len(differ) else []
    return np.array(found, np.int64).reshape(-1, 2)


def drop_contradictions(source: Source) -> tuple[Source, np.ndarray]:
    """`source` without examples that are equal but labelled differently, and their indices; see `contradictions`.

    Nobody knows which of their labels is right: all of them are left out.
    """
    found = contradictions(source)
    if not found:
        return source, np.zeros(0, np.int64)
    dropped = np.sort(np.concatenate(found))
    return subset(source, np.setdiff1d(np.arange(len(source)), dropped)), dropped
