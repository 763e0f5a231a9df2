"""Sentences that are words already, as tokens that know which word they begin."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing.interface import Preprocessing, kind_of
from jaxdl.data.preprocessing.text import TextPreprocessing, text_of
from jaxdl.data.preprocessing.tokenizer import made_tokenizer
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models.sequence import CARRIED
from jaxdl.shown import counted


@dataclasses.dataclass(frozen=True)
class WordsPreprocessing(TextPreprocessing):
    """Words, ``[words]`` of strings, as ``{"tokens", "mask"}`` of `length`; what is longer is cut.

    With them flows ``{"carried": {"words": int32[length + 1]}}`` (see `models.sequence`): of each word the place, from
    1, of its first token, whose answer is that for the word (Devlin et al. 2018, arXiv:1810.04805, section 5.3); 0 for
    a word that has none, and behind the last one. A text is divided into words at spaces.
    """

    modality = "words"
    CARRIES = ("words",)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        spec = super().spec()
        # one more than there can be: what has the form of the mask is cut with it, see `training.lengths`
        return spec | {CARRIED: {"words": jax.ShapeDtypeStruct((self.length + 1,), "int32")}}

    def describe(self) -> str:
        return f"up to {self.length + 1} words of {self.length} tokens together"

    def check(self, source: Source) -> None:
        if len(source) and words_of(source[0]["x"]) is None:
            raise InputError(f"{source.name} holds {kind_of(source)}; the network takes {self.describe()}")

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        """As of every preprocessing. Warns of words that are cut, in words that Python shows once."""
        made, lost = self._tokens([_checked(example["x"], what)])
        if lost[0]:
            warnings.warn(f"sentences longer than {self.length} tokens are cut. {LOST} {self._longer}", stacklevel=2)
        return {**example, "x": jax.tree.map(lambda rows: rows[0], made)}

    def load(self, source: Source) -> dict[str, Any]:
        """Every sentence of `source`, ``[n, length]`` each. Warns of words that are cut, with their number."""
        self.check(source)
        held = [_checked(source[i]["x"], f"example {i} of {source.name}") for i in range(len(source))]
        made, lost = self._tokens(held)
        if lost.any():
            words = counted(sum(map(len, held)), "word")
            warnings.warn(
                f"{source.name}: {lost.sum():,} of {words} have no token: {np.count_nonzero(lost):,} of "
                f"{counted(len(held), 'sentence')} are longer than {self.length} tokens and cut, or hold words of "
                f"nothing but control characters. {LOST} {self._longer}",
                stacklevel=2,
            )
        return made

    def _tokens(self, sentences: Sequence[list[str]]) -> tuple[dict[str, Any], np.ndarray]:
        """Arrays ``[n, length]`` by name, and how many words of each sentence have no token, ``int[n]``."""
        tokenizer = made_tokenizer(self.tokenizer, self.length)
        self._check_marks(tokenizer.num_special_tokens_to_add(False))
        made = jax.tree.map(lambda leaf: np.zeros((len(sentences), *leaf.shape), leaf.dtype), self.spec())
        begins = made[CARRIED]["words"]
        lost = np.zeros(len(sentences), int)
        for row, one in enumerate(tokenizer.encode_batch(list(sentences), is_pretokenized=True)):
            made["tokens"][row, : len(one)], made["mask"][row, : len(one)] = one.ids, True
            numbers = [-1 if word is None else word for word in one.word_ids]
            word, first = np.unique(np.array(numbers, np.int32), return_index=True)
            known = (word >= 0) & (word < begins.shape[1])  # many without a token may stand before one that has some
            begins[row, word[known]] = first[known] + 1
            lost[row] = len(sentences[row]) - np.count_nonzero(known)
        return made, lost

    def _check_marks(self, marks: int) -> None:
        if self.length <= marks:
            raise InputError(
                f"the length is {self.length}, and the marks of beginning and end take {marks} tokens: give more"
            )

    def for_targets(self, source: Source) -> Preprocessing:
        """For texts with one answer each the plain one."""
        if len(source) and text_of(source[0]["x"]) is not None:
            return TextPreprocessing(self.tokenizer, self.length, self.types).for_targets(source)
        return self

    def instructions(self) -> dict[str, list[str]]:
        told = super().instructions()
        words = (
            f"words, carried, [examples, {self.length + 1}]: of each word the place (from 1) of its first token, 0 for "
            "one that has none and behind the last"
        )
        return {**told, "prepare": ["divide the text into words at spaces", *told["prepare"], words]}


LOST = "They get no tag, and where their tag is known they count as missed."


def words_of(x: Any) -> list[str] | None:
    """The words of an ``x``, of a text those between spaces; None if it is neither."""
    if isinstance(text := text_of(x), str):
        return text.split()
    array = x if isinstance(x, np.ndarray) else np.asarray(x) if isinstance(x, (list, tuple)) else None
    if array is None or array.ndim != 1 or (array.dtype.kind != "U" and array.size):
        return None
    return array.tolist()


def _checked(x: Any, what: str) -> list[str]:
    if (words := words_of(x)) is None:
        raise InputError(f"{what} is a {type(x).__name__}; expected words, an array of strings, or a text")
    return words
