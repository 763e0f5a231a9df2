"""Texts with their labels, in memory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxdl.data.listed import Listed
from jaxdl.data.preprocessing.text import BETWEEN, PAIR, TextPreprocessing, preprocessing_by
from jaxdl.data.preprocessing.tokenizer import Text, check_text
from jaxdl.data.source import PER_EXAMPLE, Joined, Source, check_weights, pick
from jaxdl.data.table import groups_and_times, to_labels
from jaxdl.data.tagged import Tagged
from jaxdl.errors import InputError

LENGTH = 128  # tokens, where nothing says how many


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Texts(Listed):
    """Texts, or pairs of them; attributes as in `Source`.

    ``x`` of an example is the text, of a pair ``{"first": …, "second": …}``.
    """

    held: Sequence[Text]
    labels: Any = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    names: Sequence[str] | None = None
    weights: np.ndarray | None = None
    preprocessing: Any = None
    name: str = "texts"
    columns: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    folds: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    COLUMNS_BY_NAME = False

    @property
    def texts(self) -> Sequence[str]:  # among which copies are looked for
        return [one if isinstance(one, str) else BETWEEN.join(one) for one in self.held]

    @property
    def declared(self) -> frozenset[str]:
        """All of them: nobody asks whether a text is an identity."""
        return frozenset(self.columns or ())

    def describe_x(self) -> str:
        return "texts" if not self.held or isinstance(self.held[0], str) else "pairs of texts"

    def __getitem__(self, index: int) -> dict[str, Any]:
        text = self.held[index]
        x: Any = np.str_(text) if isinstance(text, str) else dict(zip(PAIR, map(np.str_, text), strict=True))
        return {"x": x} if self.labels is None else {"x": x, "y": jax.tree.map(lambda array: array[index], self.labels)}

    def take(self, indices: np.ndarray) -> Self:
        return dataclasses.replace(super().take(indices), folds=pick(self.folds, indices))

    def join(self, other: Source, targets: Any) -> Source:
        both = Joined(self, other, targets)
        if not isinstance(other, Texts):
            return both
        kept = {name: getattr(both, name) for name in (*PER_EXAMPLE, "notes") if name != "texts"}
        return dataclasses.replace(self, held=[*self.held, *other.held], labels=targets, folds=None, **kept)


def texts(
    held: Sequence[Text],
    y: Any = None,
    class_names: Sequence[str] | None = None,
    *,
    groups: Any = None,
    times: Any = None,
    weights: Any = None,
    tokenizer: str | Path | None = None,
    length: int = LENGTH,
) -> Texts:
    """A source of texts in memory.

    Args:
      held: a text for each example, or two as a tuple.
      y: classes (whole numbers or strings), numbers, or a matrix of labels, as `arrays` takes them; None if unknown.
      class_names: as of `arrays`.
      groups: which belong together, such as the document that a text is from.
      times: when each was written.
      weights: how much each counts in training.
      tokenizer: for a model that has none (a checkpoint brings its own): a ``tokenizer.json``, a ``.model`` of
        sentencepiece, or a folder that holds either; ``"train"`` to make one of the texts that a network is trained
        on, also ``"train:8000"`` and ``"train:8000:bpe"``, see `train_tokenizer`.
      length: number of tokens for that tokenizer.

    Raises:
      InputError: for what is no text, naming its place; for lengths that differ.
    """
    if isinstance(held, str):
        raise InputError("the texts are one string; expected a list of them")
    held = [check_text(one, index) for index, one in enumerate(held)]
    if not held:
        raise InputError("there are no texts; expected one or more")
    kinds = {isinstance(one, str) for one in held}
    if len(kinds) > 1:
        raise InputError("some examples are one text and some are two; expected the same for all")
    labels, names = to_labels(y, class_names, "auto", "texts")
    extra = groups_and_times(groups, times, labels, len(held), f"there are {len(held)} texts")
    weights = None if weights is None else check_weights(weights, len(held), "texts")
    preprocessing = None if tokenizer is None else preprocessing_by(tokenizer, length)
    return Texts(held, labels, names, weights=weights, preprocessing=preprocessing, **extra)


def with_tokenizer(source: Source, tokenizer: str | Path, length: int = LENGTH) -> "Texts | Tagged":
    """Texts, or sentences of words, for a model without weights: with a tokenizer that cuts them at `length` tokens.

    Raises:
      InputError: for what are no texts, and as `texts`.
    """
    if not isinstance(source, Texts | Tagged):
        held = source.describe_x() or "nothing"
        raise InputError(f"{source.name} holds {held}: a tokenizer is for texts; leave it out, or name --text-column")
    return dataclasses.replace(source, preprocessing=preprocessing_by(tokenizer, length).for_targets(source))


def holds_texts(like: Any) -> bool:
    """Whether a source holds texts, or the network of a card reads them; None does not."""
    return isinstance(like, Texts) or isinstance(getattr(like, "preprocessing", None), TextPreprocessing)
