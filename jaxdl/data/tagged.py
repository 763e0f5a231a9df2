"""Sentences as lists of words, each word with a tag, in memory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from jaxdl.data.listed import Listed
from jaxdl.data.preprocessing.text import preprocessing_by
from jaxdl.data.source import Source, check_weights
from jaxdl.data.table import groups_and_times
from jaxdl.errors import InputError, check_choice

if TYPE_CHECKING:
    import pandas as pd

NO_WORD = -1  # in targets, beyond the end of a sentence


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tagged(Listed):
    """Sentences with a tag for each word; attributes as in `Source`.

    ``x`` of an example are its words, an array of strings ``[words]``; ``y`` the numbers of their tags, ``int32[longest
    sentence]``, `NO_WORD` beyond its end.
    """

    held: Sequence[Sequence[str]]
    labels: Int[np.ndarray, "n words"] | None = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    names: Sequence[str] | None = None
    weights: np.ndarray | None = None
    preprocessing: Any = None
    name: str = "sentences"
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> Sequence[str]:  # among which copies are looked for
        return [" ".join(words) for words in self.held]

    def describe_x(self) -> str:
        lengths = [len(words) for words in self.held]
        return f"sentences of {min(lengths)} to {max(lengths)} words, {sum(lengths):,} in all" if lengths else ""

    def to_frame(self) -> "pd.DataFrame":
        """A row for each sentence: its words in ``text``, its tags in ``target``, divided by spaces; as in `Source`."""
        frame = Source.to_frame(dataclasses.replace(self, labels=None))
        if self.labels is not None:
            frame.insert(0, "target", tag_words(self.labels, self.class_names))
        return frame

    def __getitem__(self, index: int) -> dict[str, Any]:
        x = np.array(self.held[index], str)
        return {"x": x} if self.labels is None else {"x": x, "y": self.labels[index]}


def tagged(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None = None,
    class_names: Sequence[str] | None = None,
    *,
    groups: Any = None,
    times: Any = None,
    weights: Any = None,
    tokenizer: str | Path | None = None,
    length: int = 128,
) -> Tagged:
    """A source of sentences whose words have tags, such as named entities or parts of speech.

    Args:
      sentences: a list of words for each.
      tags: a tag for each word, such as ``["B-PER", "O", "O"]``; None if unknown.
      class_names: of all tags, in order; by default those that occur, sorted.
      groups: which sentences belong together, such as the document that they are from.
      times: when each was written.
      weights: how much each counts in training.
      tokenizer: a ``tokenizer.json``, or a folder that holds it, for a model that has none: a checkpoint brings its
        own. Or ``"train"``, see `texts`.
      length: number of tokens for that tokenizer.

    Raises:
      InputError: naming the sentence: for what is no list of words, or has another number of tags than words; for a
        sentence without words that is given tags, and lengths that differ.
    """
    if isinstance(sentences, str) or any(isinstance(one, str) for one in sentences):
        raise InputError(
            "a sentence is one string; expected a list of words for each, such as text.split() gives. (Texts with one "
            "label each: data.texts)"
        )
    extra = groups_and_times(groups, times, tags, len(sentences), f"there are {len(sentences)} sentences")
    places = [f"the sentence at index {i}" for i in range(len(sentences))]
    source = make_tagged(sentences, tags, places, class_names)
    weights = None if weights is None else check_weights(weights, len(source), source.name)
    preprocessing = None if tokenizer is None else preprocessing_by(tokenizer, length).for_targets(source)
    return dataclasses.replace(source, weights=weights, preprocessing=preprocessing, **extra)


def make_tagged(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None,
    places: Sequence[str],
    class_names: Sequence[str] | None = None,
) -> Tagged:
    """Sentences and their tags, where each stands in words: for messages. Raises InputError as `tagged`."""
    if not len(sentences):
        raise InputError("there are no sentences; expected one or more")
    held = [_strings(words, place, "words") for words, place in zip(sentences, places, strict=True)]
    names = () if class_names is None else tuple(map(str, class_names))
    if len(set(names)) < len(names):
        raise InputError(f"class_names holds a name twice: {', '.join(names)}")
    if tags is None:
        return Tagged(held, class_names=names)
    given = [_strings(row, place, "tags") for row, place in zip(tags, places, strict=True)]
    for words, row, place in zip(held, given, places, strict=True):
        if len(words) != len(row):
            raise InputError(f"{place} has {len(words)} words and {len(row)} tags; expected one for each word")
        if not words:
            raise InputError(f"{place} has no words; leave it out: there is nothing to learn from it")
    names = names or tuple(sorted({tag for row in given for tag in row}))
    number = {tag: i for i, tag in enumerate(names)}
    labels = np.full((len(held), max(map(len, held))), NO_WORD, np.int32)
    for i, (row, place) in enumerate(zip(given, places, strict=True)):
        for tag in row:
            if tag not in number:
                check_choice(f"tag in {place}", tag, names)
        labels[i, : len(row)] = [number[tag] for tag in row]
    return Tagged(held, labels, names)


def _strings(given: Any, place: str, what: str) -> list[str]:
    """Raises InputError for what is no list of strings."""
    if isinstance(given, (list, tuple, np.ndarray)) and all(isinstance(one, str) for one in given):
        return list(map(str, given))
    other = next((one for one in given if not isinstance(one, str)), given) if isinstance(given, list) else given
    raise InputError(f"{place}: its {what} are {other!r:.50}; expected a list of strings")


def tag_words(labels: Int[np.ndarray, "n words"], names: Sequence[str]) -> list[str]:
    """The tags of each sentence, divided by spaces; ``?`` for those that have no name here."""
    return [
        " ".join(names[i] if 0 <= i < len(names) else "?" for i in row if i != NO_WORD) for row in np.asarray(labels)
    ]
