"""Pairs of texts of which a fold trains on one half and tests it beside another."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxdl.data.preprocessing.text import text_of
from jaxdl.data.source import Source
from jaxdl.shown import counted
from jaxdl.validation.leakage.near_duplicate_texts import LEAST, letters


class Halves(NamedTuple):
    """Which examples have a text in common.

    Attributes:
      first: of each example the number of its first text, ``int[n]``; -1 for one that is too short to be telling.
      second: the same of the second one.
    """

    first: np.ndarray
    second: np.ndarray


def find_halves(source: Source) -> Halves | None:
    """The texts of both sides; None where the examples are no pairs of texts."""
    if not len(source) or not isinstance(text_of(source[0]["x"]), tuple):
        return None
    pairs = (map(letters, text_of(source[i]["x"])) for i in range(len(source)))
    return Halves(*map(_numbered, zip(*pairs, strict=True)))


def _numbered(texts: Sequence[str]) -> np.ndarray:
    # objects: strings of one array would all take as much memory as the longest
    numbers = np.unique(np.array(texts, object), return_inverse=True)[1]
    return np.where([len(text) >= LEAST for text in texts], numbers, -1)


def say_halves(halves: Halves | None, folds: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[tuple[int, str]]:
    """How many tested examples have a text that the same fold trains on beside another one, and what to do; by side."""
    found, folds = [], list(folds)
    for side, numbers in () if halves is None else halves._asdict().items():
        leaked = [test[(numbers[test] >= 0) & np.isin(numbers[test], numbers[train])] for train, test in folds]
        if count := len(np.unique(np.concatenate(leaked))):
            said = (
                f"{counted(count, 'pair')} tested with a {side} text that the same fold trains on, in another pair. If "
                f"new pairs bring new {side} texts, the score is too good for them: give these as groups, "
                f"groups=[{side} for first, second in pairs]"
            )
            found.append((count, said))
    return found
