"""Text, or two texts that are compared, as tokens of one length with their mask."""

import dataclasses
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from jaxdl.data.preprocessing.interface import Preprocessing, kind_of
from jaxdl.data.preprocessing.tokenizer import (
    Encoded,
    Text,
    Word,
    encode,
    made_tokenizer,
    read_tokenizer,
    vocabulary_of,
    words_of,
)
from jaxdl.data.preprocessing.train_tokenizer import KINDS, VOCABULARY, train_tokenizer
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.models.sequence import CARRIED, token_spec
from jaxdl.shown import counted

TRAIN = "train:8000:wordpiece"
PAIR = ("first", "second")  # keys of an x that is two texts
BETWEEN = " ⏎ "  # two texts, where they are shown as one
LONGER = (
    "To read more of them, train with --length {} if the network has as many positions (from Python data.texts(…, "
    "tokenizer=…, length=…) or, of published weights, jaxdl.convert(…, preprocessing={{'length': …}}))"
)


@dataclasses.dataclass(frozen=True)
class TextPreprocessing(Preprocessing):
    """A text, or a dict of two (``first`` and ``second``), as ``{"tokens", "mask"}`` of `length`; longer ones are cut.

    Attributes:
      tokenizer: the content of a ``tokenizer.json``, see `tokenizer.read_tokenizer`; it is part of the card.
      length: number of tokens, those that mark beginning and end included.
      types: whether the network is also fed with ``types``, which tell two texts apart.
      CARRIES: what it says of each token besides, see `Task.CARRIES`.

    Raises:
      InputError: for a length below 1, or a tokenizer that is damaged.
    """

    tokenizer: str = dataclasses.field(repr=False)
    length: int = 128
    types: bool = False

    modality = "text"
    CARRIES: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if type(self.length) is not int or self.length < 1:
            raise InputError(f"the length is {self.length!r}; expected a number of tokens, such as 128")
        made_tokenizer(self.tokenizer, self.length)

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the tokenizer knows."""
        return vocabulary_of(self.tokenizer)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        spec = token_spec(self.length)
        return spec | {"types": spec["tokens"]} if self.types else spec

    def describe(self) -> str:
        return f"text of up to {self.length} tokens"

    def check(self, source: Source) -> None:
        if len(source) and text_of(source[0]["x"]) is None:
            raise InputError(f"{source.name} holds {kind_of(source)}; the network takes {self.describe()}")

    def check_model(self, model: Any) -> None:
        """Raises InputError where the tokenizer knows more tokens, or a text has more places, than the network."""
        known, longest = getattr(model, "vocabulary", self.vocabulary), getattr(model, "longest", self.length)
        limited = getattr(model, "positions", "learned") == "learned"  # of the other ways each place is computed
        if self.vocabulary > known:
            raise InputError(
                f"the tokenizer knows {self.vocabulary:,} tokens, and the network has vectors for {known:,}: it is "
                "another network's. Take both from one place; a new model is told by vocabulary="
                f"{self.vocabulary}"
            )
        if limited and self.length > longest:
            raise InputError(
                f"texts are of up to {self.length:,} tokens, and the network knows {longest:,} positions; give a "
                f"length of {longest} at most"
            )

    def check_training(self, source: Source) -> None:
        """Raises InputError for labelled texts of which some are empty."""
        if source.texts is None or source.targets() is None:
            return
        empty = [i for i, text in enumerate(source.texts) if not text.replace(BETWEEN, "").strip()]
        if empty:
            first = ", ".join(source.names[i] if source.names is not None else f"index {i}" for i in empty[:3])
            raise InputError(
                f"{counted(len(empty), 'text')} of {source.name} {'is' if len(empty) == 1 else 'are'} empty, the first "
                f"{first}: there is nothing to learn from; remove them"
            )

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        """As of every preprocessing. Warns of a text that is cut, in words that Python shows once."""
        made = self._encode([_checked(example["x"], what)])
        if made.cut[0]:
            warnings.warn(f"texts longer than {self.length} tokens are cut. {self._longer}", stacklevel=2)
        return {**example, "x": {name: getattr(made, name)[0] for name in self.spec()}}

    def load(self, source: Source) -> dict[str, np.ndarray]:
        """Every text of `source`, ``[n, length]`` each. Warns of those that are cut, with their number."""
        self.check(source)
        made = self._encode([_checked(source[i]["x"], f"example {i} of {source.name}") for i in range(len(source))])
        if count := int(made.cut.sum()):
            total = counted(len(source), "text")
            said = f"{source.name}: longer than {self.length} tokens, and so cut: {count:,} of {total}. {self._longer}"
            warnings.warn(said, stacklevel=2)
        return {name: getattr(made, name) for name in self.spec()}

    def words(self, text: Text) -> list[Word]:
        """The words of a text that the network reads, with the places of their tokens."""
        return words_of(self.tokenizer, text, self.length)

    @property
    def _longer(self) -> str:
        return LONGER.format(2 * self.length)

    def _encode(self, texts: list[Text]) -> Encoded:
        return encode(self.tokenizer, texts, self.length)

    def for_targets(self, source: Source) -> Preprocessing:
        """By the examples one that keeps track of words, reads queries and documents apart, or makes windows."""
        from jaxdl.data.preprocessing.pairs import PairsPreprocessing, are_queries  # which are made of this
        from jaxdl.data.preprocessing.windows import windows_for
        from jaxdl.data.preprocessing.words import WordsPreprocessing, words_of

        if are_queries(source):
            return PairsPreprocessing(self.tokenizer, self.length, self.types)
        if (made := windows_for(self, source)) is not None:
            return made
        if len(source) and text_of(x := source[0]["x"]) is None and words_of(x) is not None:
            return WordsPreprocessing(self.tokenizer, self.length, self.types)
        return self

    def instructions(self) -> dict[str, list[str]]:
        made = ", ".join(name for name in self.spec() if name != CARRIED)
        return {
            "prepare": [
                f"tokenise the text by the tokenizer.json of the checkpoint's card, into {self.length} tokens at most",
                f"fill up with zeros to {self.length}: {made}, each [examples, {self.length}]",
            ],
            "inside": [],
        }


@dataclasses.dataclass(frozen=True)
class TrainedOnTexts(Preprocessing):
    """A tokenizer that is made of the texts on which networks are trained, see `train_tokenizer`.

    Folds share one, of all their texts: `cross_validate` says so.
    """

    length: int = 128
    vocabulary: int = VOCABULARY
    kind: str = "wordpiece"

    modality = "text"
    reads_all = True

    def chosen_for(self, source: Source) -> TextPreprocessing:
        return _trained(self, source)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return token_spec(self.length)


@lru_cache(maxsize=2)
def _trained(asked: TrainedOnTexts, source: Source) -> TextPreprocessing:
    from jaxdl.data.preprocessing.words import words_of

    held = (source[i]["x"] for i in range(len(source)))
    texts = [
        _checked(x, f"example {i} of {source.name}") if (words := words_of(x)) is None else " ".join(words)
        for i, x in enumerate(held)
    ]
    return TextPreprocessing(train_tokenizer(texts, asked.vocabulary, asked.kind), asked.length)


def preprocessing_by(tokenizer: str | Path, length: int) -> Preprocessing:
    """Text into `length` tokens by a tokenizer; see `read_tokenizer`, or ``train:8000:wordpiece`` to make one.

    Raises:
      InputError: for a tokenizer that cannot be read, or what no tokenizer can be made by.
    """
    first, *options = str(tokenizer).split(":")
    if first != "train":
        return TextPreprocessing(read_tokenizer(tokenizer), length)
    asked: dict[str, Any] = {"length": length}
    for option in options:
        name, value = ("vocabulary", int(option)) if option.isdecimal() else ("kind", option)
        if name in asked:
            raise InputError(f"the tokenizer is {tokenizer}, which says its {name} twice; expected such as {TRAIN}")
        check_choice("kind of tokenizer", option, KINDS) if name == "kind" else None
        asked[name] = value
    return TrainedOnTexts(**asked)


def text_of(x: Any) -> Text | None:
    """The text of an ``x``, or the two; None if it is none."""
    if isinstance(x, str) or (isinstance(x, np.ndarray) and x.ndim == 0 and x.dtype.kind == "U"):
        return str(x)
    if isinstance(x, Mapping) and x.keys() == set(PAIR):
        both = tuple(text_of(x[name]) for name in PAIR)
        return both if all(isinstance(one, str) for one in both) else None
    return None


def _checked(x: Any, what: str) -> Text:
    if (text := text_of(x)) is None:
        raise InputError(f"{what} is a {type(x).__name__}; expected a text, or a dict of two: {' and '.join(PAIR)}")
    return text
