"""A question and a text that holds its answer, as windows of tokens that know their places in the text."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing.interface import Preprocessing, kind_of
from jaxdl.data.preprocessing.text import TextPreprocessing, text_of
from jaxdl.data.preprocessing.tokenizer import load_tokenizer
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models.sequence import CARRIED

NONE = -1  # place of a token that is not of the text
SHORTEST = 16  # tokens of a window
OVERLAP = 64  # tokens that neighbouring windows share: the longest answer that is predicted, and words around it
QUESTION = 64  # tokens of a question: what is longer is cut


@dataclasses.dataclass(frozen=True)
class WindowsPreprocessing(TextPreprocessing):
    """Two texts, a question and what is asked about, as ``{"tokens", "mask"}`` of `windows` × `length`.

    Each window holds the question and the next part of the text, of which it shares `OVERLAP` tokens with the one
    before (a quarter of a window at most). With them flows ``{"carried": {"places": int32[windows, length, 2]}}`` (see
    `models.sequence`): where in the text a token begins and ends, in characters; `NONE` for one that is not of it.
    Windows that are not needed are padding alone.

    Attributes:
      tokenizer, types: as of `TextPreprocessing`.
      length: number of tokens in a window, marks and question included.
      windows: of each text at most; examples in memory that need more get more.
    """

    windows: int = 1

    modality = "windows"
    CARRIES = ("places",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < SHORTEST:
            raise InputError(f"the length is {self.length}; windows need {SHORTEST} tokens or more, such as 256")
        if type(self.windows) is not int or self.windows < 1:
            raise InputError(f"windows is {self.windows!r}; expected a number of 1 or more")

    def spec(self) -> dict[str, Any]:
        made = {
            name: jax.ShapeDtypeStruct((self.windows, *one.shape), one.dtype) for name, one in super().spec().items()
        }
        return made | {CARRIED: {"places": jax.ShapeDtypeStruct((self.windows, self.length, 2), "int32")}}

    def describe(self) -> str:
        return f"a question and a text, in windows of {self.length} tokens"

    def check(self, source: Source) -> None:
        if len(source) and not isinstance(text_of(source[0]["x"]), tuple):
            raise InputError(f"{source.name} holds {kind_of(source)}; the network takes {self.describe()}")

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        """As of every preprocessing. Warns of a text that needs more windows, in words that Python shows once."""
        (windows,) = self._encode([_checked(example["x"], what)])
        if len(windows) > self.windows:
            warnings.warn(f"texts longer than {self.windows} windows of {self.length} tokens are cut", stacklevel=2)
        return {**example, "x": jax.tree.map(lambda rows: rows[0], self._arrays([windows], self.windows))}

    def load(self, source: Source) -> dict[str, Any]:
        """Every example of `source`, in as many windows as the longest text needs, and `windows` at least."""
        self.check(source)
        held = self._encode([_checked(source[i]["x"], f"example {i} of {source.name}") for i in range(len(source))])
        return self._arrays(held, max(self.windows, max(map(len, held), default=1)))

    def for_targets(self, source: Source) -> Preprocessing:
        """With the windows that these examples need; for texts with one answer each the plain one."""
        return TextPreprocessing(self.tokenizer, self.length, self.types).for_targets(source)

    def instructions(self) -> dict[str, list[str]]:
        made = ", ".join(self.spec())
        return {
            "prepare": [
                f"tokenise question and text by the tokenizer.json of the checkpoint's card, into {self.windows} "
                f"windows of {self.length} tokens, each of the question and the next part of the text",
                f"fill up with zeros: {made}, each [examples, {self.windows}, {self.length}]",
                "places: of each token where it begins and ends in the text, in characters; -1 of the others: "
                f"[examples, {self.windows}, {self.length}, 2]",
            ],
            "inside": [],
        }

    def _encode(self, texts: Sequence[tuple[str, str]]) -> list[list[Any]]:
        """The windows of each example, as the package tokenizers gives them."""
        plain, paired = _tokenizers(self.tokenizer, self.length)
        most = min(QUESTION, self.length // 4)
        asked = plain.encode_batch([question for question, _ in texts], add_special_tokens=False)
        short = [
            (question[: one.offsets[most - 1][1]] if len(one) > most else question, text)
            for (question, text), one in zip(texts, asked, strict=True)
        ]
        if cut := sum(len(one) > most for one in asked):
            warnings.warn(f"questions longer than {most} tokens are cut: {cut:,} of {len(texts):,}", stacklevel=3)
        return [[one, *one.overflowing] for one in paired.encode_batch(short)]

    def _arrays(self, examples: Sequence[Sequence[Any]], windows: int) -> dict[str, Any]:
        """Arrays ``[n, windows, …]`` by name; further windows are cut."""
        spec = dataclasses.replace(self, windows=windows).spec()
        made = jax.tree.map(lambda leaf: np.zeros((len(examples), *leaf.shape), leaf.dtype), spec)
        places = made[CARRIED]["places"]
        places[:] = NONE
        for row, held in enumerate(examples):
            for i, one in enumerate(held[:windows]):
                at = row, i, slice(len(one))
                made["tokens"][at], made["mask"][at] = one.ids, True
                if self.types:
                    made["types"][at] = one.type_ids
                of_text = np.array(one.sequence_ids, object) == 1
                places[at] = np.where(of_text[:, None], one.offsets, NONE)
        return made


@lru_cache(maxsize=8)
def _tokenizers(content: str, length: int) -> tuple[Any, Any]:
    """One that cuts nothing, and one that makes windows of the second of two texts."""
    plain, paired = load_tokenizer(content), load_tokenizer(content)
    for each in (plain, paired):
        each.no_padding()
    plain.no_truncation()
    paired.enable_truncation(length, stride=min(OVERLAP, length // 4), strategy="only_second")
    return plain, paired


def windows_for(preprocessing: TextPreprocessing, source: Source) -> Preprocessing | None:
    """The same tokenizer for questions about texts, with the windows that these need; None for other examples."""
    if not asks(source):
        return None
    made = WindowsPreprocessing(preprocessing.tokenizer, preprocessing.length, preprocessing.types)
    needed = map(len, made._encode([text_of(source[i]["x"]) for i in range(len(source))]))
    return dataclasses.replace(made, windows=max(needed))


def asks(source: Source) -> bool:
    """Whether its targets are answers within a text."""
    target = source[0].get("y") if len(source) else None
    return isinstance(target, Mapping) and target.keys() >= {"start", "end"}


def _checked(x: Any, what: str) -> tuple[str, str]:
    if not isinstance(text := text_of(x), tuple):
        raise InputError(f"{what} is a {type(x).__name__}; expected two texts, a question and what is asked about")
    return text
