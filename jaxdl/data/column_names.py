"""What the name of a table's column says: that it may be an identity, of which an example is known."""

import re
from collections.abc import Sequence

# Words that end the name of an identity, and what may stand behind them: subject#, patient_id, site no 2.
_WORDS = """subject patient participant person individual user customer client account animal donor family household
author speaker writer rater document doc article thread site hospital center centre clinic school batch plate slide
scanner device sensor machine station session group id ids uid uuid identifier identity"""
IDENTITIES = frozenset(_WORDS.split())
BEHIND = frozenset(("id", "no", "nr", "num", "number", "code", "key", "name", "label"))


def words_of(name: str) -> Sequence[str]:
    """The words of a column's name: ``SubjectID``, ``subject_id`` and ``subject#`` begin with the same one."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def named(name: str, words: frozenset[str]) -> bool:
    """Whether a name ends with one of these words, or with one and what may stand behind an identity."""
    held = [word[:-1] if word.endswith("s") and word[:-1] in words else word for word in words_of(name)]
    while len(held) > 1 and held[-1] in BEHIND and held[-1] not in words:
        held = held[:-1]
    return bool(held) and held[-1] in words
