"""Images of a sequence, known by their names: frames of a film are called by a prefix and a number."""

import re
from collections.abc import Sequence

import numpy as np

SIDES = ("train", "val", "valid", "validation", "test", "images")  # folders that divide one sequence
PLACE = re.compile(r"\[\d+:\d+, \d+:\d+\]$")  # of a tile in its image
SUFFIX = re.compile(r"\.[A-Za-z]\w{0,4}$")
DIGITS = 18  # that an int64 holds


def frame_numbers(names: Sequence[str]) -> list[tuple[str, int] | None]:
    """``(prefix, number)`` of each name; None of a name that does not end in a number.

    The prefix is what stands before the number, without the characters ``_ - .`` and space at its end, behind the
    folders of the name. Folders that only divide a sequence (`SIDES`) do not count: ``train/drive_0030.jpg`` and
    ``test/drive_0060.jpg`` are numbers 30 and 60 of ``drive``.
    """
    return [_frame(name) for name in names]


def _frame(name: str) -> tuple[str, int] | None:
    *folders, last = re.split(r"[/\\]", PLACE.sub("", str(name)))
    match = re.fullmatch(r"(.*?)([0-9]+)", SUFFIX.sub("", last), re.DOTALL)
    if match is None or len(match[2]) > DIGITS:
        return None
    return "/".join([*(f for f in folders if f.lower() not in SIDES), match[1].rstrip("_-. ")]), int(match[2])


def sequences(names: Sequence[str], least: int = 1) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By prefix ``(indices, numbers)``, both ``int64[m]`` and sorted by number, of at least `least` different numbers.

    Several examples may have one number, such as the tiles of an image.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for index, frame in enumerate(frame_numbers(names)):
        if frame is not None:
            found.setdefault(frame[0], []).append((frame[1], index))
    ordered = {prefix: np.array(sorted(held), np.int64) for prefix, held in found.items()}
    return {prefix: (held[:, 1], held[:, 0]) for prefix, held in ordered.items() if len(np.unique(held[:, 0])) >= least}


def consecutive(
    names: Sequence[str], train: np.ndarray, test: np.ndarray, within: int = 0, least: int = 1
) -> np.ndarray:
    """The test examples that have a neighbour in the training part, ``int64[m, 2]``: each with one such neighbour.

    Neighbours are examples of one prefix whose numbers are equal, follow each other among the numbers of that prefix,
    or differ by at most `within`. Numbers on neither side count too: a gap between the two sides parts them.

    Args:
      names: of all examples.
      train: indices of the training part.
      test: indices of the test part.
      within: difference of numbers.
      least: prefixes of fewer different numbers are left out.
    """
    train, test = np.asarray(train, np.int64), np.asarray(test, np.int64)
    found = [np.zeros((0, 2), np.int64)]
    for indices, numbers in sequences(names, least).values():
        trained, tested = (np.flatnonzero(np.isin(indices, side)) for side in (train, test))
        if not len(trained) or not len(tested):
            continue
        rank = np.unique(numbers, return_inverse=True)[1]
        above = np.searchsorted(numbers[trained], numbers[tested]).clip(max=len(trained) - 1)
        for place in (above, (above - 1).clip(min=0)):  # the nearest training numbers on both sides
            near = trained[place]
            hit = (np.abs(rank[tested] - rank[near]) <= 1) | (np.abs(numbers[tested] - numbers[near]) <= within)
            found.append(np.stack([indices[tested[hit]], indices[near[hit]]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.unique(pairs[:, 0], return_index=True)[1]]


def frame_blocks(names: Sequence[str], length: int) -> list[str | None]:
    """The block of each frame: `length` consecutive frames of one prefix; None of a name without a number."""
    blocks: list[str | None] = [None] * len(names)
    for prefix, (indices, numbers) in sequences(names).items():
        values, rank = np.unique(numbers, return_inverse=True)
        for index, block in zip(indices, rank // length, strict=True):
            last = values[min((block + 1) * length, len(values)) - 1]
            blocks[index] = f"{prefix} {values[block * length]}-{last}"
    return blocks
