"""Two texts that are read apart, by the same network: a query and a document that answers it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxdl.data.preprocessing.interface import Preprocessing, kind_of
from jaxdl.data.preprocessing.text import TextPreprocessing, text_of
from jaxdl.data.preprocessing.tokenizer import Encoded, Text, encode
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models.sequence import token_spec

DOCUMENT = "document"  # the target of a query: which document answers it


def are_queries(source: Source) -> bool:
    """Whether the examples are pairs of which the second text is what the first asks for; see `data.pairs`."""
    if not len(source) or not isinstance(text_of(source[0]["x"]), tuple):
        return False
    targets = source.targets()
    return isinstance(targets, Mapping) and DOCUMENT in targets


@dataclasses.dataclass(frozen=True)
class PairsPreprocessing(TextPreprocessing):
    """A dict of two texts (``first`` and ``second``) as ``{"tokens", "mask"}``, ``[2, length]`` each.

    A network makes a vector of each, as of a text by itself: see `models.sequence`. (For a `TextPreprocessing` the two
    are one sequence.)
    """

    modality = "pairs"
    apart = True

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return jax.tree.map(lambda one: jax.ShapeDtypeStruct((2, *one.shape), one.dtype), token_spec(self.length))

    def describe(self) -> str:
        return f"two texts of up to {self.length} tokens each"

    def check(self, source: Source) -> None:
        if len(source) and not isinstance(text_of(source[0]["x"]), tuple):
            raise InputError(f"{source.name} holds {kind_of(source)}; the network takes {self.describe()}")

    def _encode(self, texts: Sequence[Text]) -> Encoded:
        if single := [one for one in texts if isinstance(one, str)]:
            raise InputError(f"'{single[0]:.50}' is one text; the network takes {self.describe()}")
        made = encode(self.tokenizer, [part for pair in texts for part in pair], self.length)
        by_pair = {name: array.reshape(len(texts), 2, *array.shape[1:]) for name, array in vars(made).items()}
        return Encoded(**{**by_pair, "cut": by_pair["cut"].any(1)})

    def for_targets(self, source: Source) -> Preprocessing:
        """For single texts, and pairs that have a label, the plain one; or one of words."""
        if len(source) and isinstance(text_of(source[0]["x"]), tuple) and source.targets() is None:
            return self
        return TextPreprocessing(self.tokenizer, self.length, self.types).for_targets(source)

    def instructions(self) -> dict[str, list[str]]:
        told: dict[str, Any] = super().instructions()
        return {
            **told,
            "prepare": ["each of the two texts by itself, then both in a new first axis:", *told["prepare"]],
        }
