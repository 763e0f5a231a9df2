"""A table in memory: numbers, and categories as the places of their texts in a list of levels."""

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxdl.data.content import content_hash
from jaxdl.data.preprocessing.columns import ColumnsPreprocessing
from jaxdl.data.source import PER_EXAMPLE, Arrays, Joined, Source, levels_of, pick
from jaxdl.data.table_roles import listed
from jaxdl.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table(Arrays):
    """Rows of a table, ``x`` float32[n, columns]; attributes as in `Arrays`.

    A category is the place of its text among the column's levels, -1 for a text that is not among them. A missing
    value is NaN.

    Attributes:
      preprocessing: how categories and missing values are brought to a network; None for a table without either.
      declared: columns that are features because that was said.
      target: names of the columns that the labels come from.
      notes: what was decided or left out when the file was read, in words.
      folds: the fold that tests each row, as a column says; None without one.
    """

    preprocessing: ColumnsPreprocessing | None = None
    declared: frozenset[str] = frozenset()
    target: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    folds: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> "Table":
        return dataclasses.replace(super().take(indices), folds=pick(self.folds, indices))

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Of each column the texts that occur; empty for a column of numbers."""
        return levels_of(self)

    @cached_property
    def _hashes(self) -> np.ndarray:
        if not any(self.levels):
            return np.array([content_hash(row) for row in self.x], np.uint64)
        held = self.x.astype(np.float64)
        for place, levels in enumerate(self.levels):  # by their texts: another file has other levels
            if levels:
                named = [float(content_hash(text.encode(errors="surrogatepass"))) for text in levels]
                codes = np.nan_to_num(held[:, place], nan=-2).astype(np.int64)
                held[:, place] = np.array([*named, math.nan, -1.0])[codes]
        return np.array([content_hash(row) for row in held], np.uint64)

    def with_columns(self, columns: tuple[str, ...]) -> "Table":
        places = [self.columns.index(name) for name in columns]
        own = self.preprocessing
        if own is not None:
            levels, gaps = (tuple(values[place] for place in places) for values in (own.levels, own.gaps))
            own = ColumnsPreprocessing(columns, levels, gaps)
        return dataclasses.replace(self, x=self.x[:, places], columns=columns, preprocessing=own)

    def with_levels(self, levels: Sequence[Sequence[str]]) -> "Table":
        """The same rows with categories as places in other levels.

        Raises:
          InputError: for a column that holds texts where numbers are expected.
        """
        levels = tuple(map(tuple, levels))
        if levels == self.levels:
            return self
        x, notes = self.x.copy(), list(self.notes)
        for place, (name, had, wanted) in enumerate(zip(self.columns, self.levels, levels, strict=True)):
            if had == wanted:
                continue
            if not wanted:
                raise InputError(
                    f"the column '{name}' of {self.name} holds texts ({listed(had, 3)}); the network was trained on "
                    "numbers there"
                )
            x[:, place] = _codes(x[:, place], had, wanted)
            if unseen := int((x[:, place] == -1).sum()):
                new = [text for text in had if text not in wanted]
                notes.append(
                    f"{unseen} row{'s hold' if unseen > 1 else ' holds'} a text in '{name}' that the network does not "
                    f"know{f' ({listed(new, 3)})' if new else ''}: none of its inputs for '{name}' is set there"
                )
        gaps = (False,) * len(levels) if self.preprocessing is None else self.preprocessing.gaps
        own = ColumnsPreprocessing(self.columns, levels, gaps)
        return dataclasses.replace(self, x=x, preprocessing=own, notes=tuple(notes))

    def join(self, other: Source, targets: Any) -> Source:
        both = Joined(self, other, targets)
        if not isinstance(other, Table) or other.levels != self.levels or other.columns != self.columns:
            return both
        kept = {name: getattr(both, name) for name in (*PER_EXAMPLE, "notes")}
        return dataclasses.replace(self, x=np.concatenate([self.x, other.x]), labels=targets, folds=None, **kept)


def _codes(held: np.ndarray, had: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Places in `wanted` of a column that has the levels `had`, or plain numbers; -1 for others, NaN for missing."""
    missing = np.isnan(held)
    if had:
        places = np.array([*(wanted.index(text) if text in wanted else -1 for text in had), -1])
        found = places[np.where(missing, -1, held).astype(np.int64)]
    else:
        numbers: dict[float, int] = {}
        for place, text in enumerate(wanted):
            try:
                numbers.setdefault(float(np.float32(text)), place)
            except ValueError:
                continue  # a word: no number is called so
        found = np.array([numbers.get(float(value), -1) for value in held])
    return np.where(missing, np.nan, found).astype(np.float32)
