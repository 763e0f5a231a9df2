"""Entities in sequences of tags, such as ``B-PER I-PER O``: where each begins and ends, and of which kind it is.

A tag is a prefix and a kind, divided by a dash, or ``O`` outside of all entities. What the prefixes mean is a scheme:

- ``conll``: as the script conlleval of CoNLL-2000 and seqeval's default read tags B, I, E, S: an entity begins at a B
  or an S, after an E or an S, and wherever the kind changes. So an I without a B before it begins one, too, and tags in
  IOB1, IOB2 or BIOES are all read.
- ``IOB1``, ``IOB2``, ``BIOES``, ``BILOU``: as seqeval's strict mode: what breaks the scheme's rules is no entity.
- ``none``: there are no entities: every word is counted by itself, and its kind is its tag, such as a part of speech.
"""

import dataclasses
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError, check_choice

ANY, SAME, OTHER = (True, True), (False, True), (True, False)  # whether a pair counts of different kinds, of the same
Pattern = tuple[str, str, tuple[bool, bool]]  # prefixes of a tag, of the next one, and their kinds
EVERY = "BIOESLU"


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The pairs of neighbouring tags at which an entity begins, goes on, and may end before the second."""

    prefixes: str
    begins: tuple[Pattern, ...]
    goes_on: tuple[Pattern, ...]
    ends: tuple[Pattern, ...]


SCHEMES: dict[str, Scheme] = {
    "conll": Scheme(
        "BIES",
        ((EVERY, "BS", ANY), ("OES", "IE", ANY), ("BI", "IE", OTHER)),
        (("BI", "IE", SAME),),
        ((EVERY, EVERY, ANY),),
    ),
    "IOB1": Scheme(
        "BI",
        (("OB", "I", ANY), ("I", "I", OTHER), ("BI", "B", SAME)),
        (("BI", "I", SAME),),
        (("BI", "O", ANY), ("BI", "I", OTHER), ("I", "B", ANY), ("B", "B", SAME)),
    ),
    "IOB2": Scheme(
        "BI",
        ((EVERY, "B", ANY),),
        (("BI", "I", SAME),),
        (("BI", "OB", ANY), ("BI", "I", OTHER)),
    ),
    "BIOES": Scheme("BIES", ((EVERY, "BS", ANY),), (("BI", "IE", SAME),), (("SE", EVERY, ANY),)),
    "BILOU": Scheme("BILU", ((EVERY, "BU", ANY),), (("BI", "IL", SAME),), (("UL", EVERY, ANY),)),
    "none": Scheme("W", (("OW", "W", ANY),), (), (("W", "OW", ANY),)),
}
# in targets: no word; a tag that training has not seen, which begins or goes on
OUTSIDE, UNKNOWN, UNKNOWN_ON = -1, -2, -3
LAST = 3  # rows of the tables for these


def split_tag(tag: str) -> tuple[str, str]:
    """The prefix of a tag and the kind of its entity; ``O`` has none."""
    return ("O", "") if tag == "O" else (tag[:1], tag[1:].lstrip("-") or "_")


def scheme_of(tags: Sequence[str]) -> str:
    """The scheme in which tags of these names are read where none is asked for."""
    for name in ("conll", "BILOU"):
        if all(tag == "O" or re.fullmatch(f"[{SCHEMES[name].prefixes}]-.+", tag) for tag in tags) and set(tags) - {"O"}:
            return name
    return "none"


def check_scheme(scheme: str, tags: Sequence[str]) -> None:
    """Raises InputError for an unknown scheme, or one that a tag is not of."""
    check_choice("scheme", scheme, SCHEMES)
    known = SCHEMES[scheme].prefixes
    wrong = [tag for tag in tags if split_tag(tag)[0] not in (*known, "O")] if scheme != "none" else []
    if wrong:
        raise InputError(
            f"the tag '{wrong[0]}' is not of the scheme {scheme}, in which a tag is O, or one of {', '.join(known)} "
            f"and a kind, such as {known[0]}-PER; leave the scheme out, or name another one of {', '.join(SCHEMES)}"
        )


@dataclasses.dataclass(frozen=True)
class Entities:
    """How entities are read of tags with these names.

    Attributes:
      tags: the names, in order of their numbers.
      scheme: of `SCHEMES`.
    """

    tags: tuple[str, ...]
    scheme: str

    @cached_property
    def _read(self) -> list[tuple[str, str]]:
        """Prefix and kind of each tag; those of the tags that are counted without being known stand behind."""
        if self.scheme == "none":
            return [*(("W", tag) for tag in self.tags), ("O", ""), ("W", ""), ("W", "")]
        return [*map(split_tag, self.tags), ("O", ""), ("B", ""), ("I", "")]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Of the entities, sorted; of parts of speech in the order of the tags."""
        found = dict.fromkeys(kind for prefix, kind in self._read[:-LAST] if prefix != "O")
        return tuple(found) if self.scheme == "none" else tuple(sorted(found))

    @cached_property
    def _kind(self) -> np.ndarray:
        """The number of each row's kind, ``int32[tags + 3]``; of a tag that is not known one more than there are."""
        number = {kind: i for i, kind in enumerate(self.kinds)}
        return np.array([number.get(kind, len(number)) for _, kind in self._read], np.int32)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether an entity begins, goes on, or has ended, at a tag after another one: ``bool[before, tag]`` each."""
        scheme, read = SCHEMES[self.scheme], self._read

        def table(patterns: Sequence[Pattern]) -> np.ndarray:
            pairs = [
                any(p in before and q in after and kinds[int(a == b)] for before, after, kinds in patterns)
                for p, a in read
                for q, b in read
            ]
            return np.array(pairs, bool).reshape(len(read), len(read))

        return table(scheme.begins), table(scheme.goes_on), table(scheme.ends)

    def find(self, tags: Any) -> tuple[Any, Any, Any]:
        """Of each place whether an entity begins there, of which kind, and where it ends: ``[n, words]`` each.

        Args:
          tags: ``int[n, words]``, on the host or the device; below 0 as in targets.

        Returns:
          ``bool``, the place of its kind in `kinds`, and the first place behind it; what they say where none begins
          means nothing.
        """
        xp = np if isinstance(tags, np.ndarray) else jnp
        begins, goes_on, ends = map(xp.asarray, self._tables)
        rows = xp.where(tags < 0, len(self.tags) - 1 - tags, tags).astype(xp.int32)
        outside = xp.full((rows.shape[0], 1), len(self.tags), xp.int32)
        before, here = xp.concatenate([outside, rows], 1), xp.concatenate([rows, outside], 1)
        place = xp.arange(here.shape[1])
        inside = goes_on[before, here]
        start = begins[before, here]
        # an entity is open where one began since the tags last failed to go on
        since, broken = (_running(xp, xp.where(mask, place, -1)) for mask in (start, ~inside))
        is_open = (since >= broken) & (since >= 0)
        was_open = xp.concatenate([xp.zeros_like(is_open[:, :1]), is_open[:, :-1]], 1)
        start = start & ~(was_open & inside)
        stops = _next(xp, xp.where(inside, here.shape[1], place))[:, 1:]
        ended = xp.take_along_axis(ends[before, here], stops, 1)
        return start[:, :-1] & ended, xp.asarray(self._kind)[rows], stops

    def count(self, said: Any, targets: Any) -> Any:
        """Of each sentence entities that are found, that there are, and that are predicted: ``int32[n, 3, kinds + 1]``.

        One is found where place, length and kind are right. The last column is of kinds that are not among `kinds`.
        """
        xp = np if isinstance(targets, np.ndarray) else jnp
        true, kind, stop = self.find(targets)
        predicted, its_kind, its_stop = self.find(said)
        hit = true & predicted & (kind == its_kind) & (stop == its_stop)

        def by_kind(mask: Any, of: Any) -> Any:
            return (mask[..., None] & (of[..., None] == xp.arange(len(self.kinds) + 1))).sum(1)

        return xp.stack([by_kind(hit, kind), by_kind(true, kind), by_kind(predicted, its_kind)], 1).astype(xp.int32)


def _running(xp: Any, values: Any) -> Any:
    """The largest so far along the words."""
    return np.maximum.accumulate(values, 1) if xp is np else jax.lax.cummax(values, axis=1)


def _next(xp: Any, values: Any) -> Any:
    """The smallest from here on along the words."""
    if xp is np:
        return np.minimum.accumulate(values[:, ::-1], 1)[:, ::-1]
    return jax.lax.cummin(values, axis=1, reverse=True)
