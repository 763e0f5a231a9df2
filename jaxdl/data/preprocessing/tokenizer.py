"""From text to tokens, by Hugging Face's package tokenizers.

Its ``tokenizer.json``, BERT's ``vocab.txt``, or a model of sentencepiece.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxdl.data.preprocessing.sentence_pieces import FILES, SETTINGS, read_sentencepiece
from jaxdl.data.text_file import half_character
from jaxdl.errors import InputError

TOKENIZER, VOCABULARY = "tokenizer.json", "vocab.txt"
CARD = "card.json"  # of a checkpoint
Text = str | tuple[str, str]  # a text, or two that are compared


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Texts as tokens.

    Attributes:
      tokens: 0 where a text is shorter.
      mask: True for tokens of the text, those that mark its beginning and end included.
      types: of two texts 0 for the first, 1 for the second.
      cut: whether a text was longer.
    """

    tokens: Int[np.ndarray, "texts length"]
    mask: Bool[np.ndarray, "texts length"]
    types: Int[np.ndarray, "texts length"]
    cut: Bool[np.ndarray, " texts"]


def check_text(one: Any, index: int) -> Text:
    """A text, or a tuple of two. Raises InputError with its place for anything else."""
    both = (one,) if isinstance(one, str) else tuple(one) if isinstance(one, (tuple, list)) and len(one) == 2 else ()
    if not both or not all(isinstance(part, str) for part in both):
        raise InputError(f"the text at index {index} is {one!r:.50}; expected a string, or a tuple of two")
    if half := half_character("".join(both)):
        raise InputError(
            f"the text at index {index} holds half of a character, {half!r}: it was cut, or read in a wrong encoding"
        )
    return str(one) if isinstance(one, str) else (str(both[0]), str(both[1]))


class Word(NamedTuple):
    """A word of a text, as its tokenizer divides it.

    Attributes:
      which: 0 of the first text, 1 of the second.
      start, end: its characters there.
      tokens: places of its pieces among the tokens.
    """

    which: int
    start: int
    end: int
    tokens: tuple[int, ...]


def read_tokenizer(path: str | Path) -> str:
    """The content of a ``tokenizer.json``.

    Args:
      path: that file, a ``.model`` of sentencepiece, a folder that holds either or a BERT's ``vocab.txt``, a checkpoint
        of a network that reads text, or such a content itself, as `train_tokenizer` makes it.

    Raises:
      InputError: if there is none, or it cannot be read.
    """
    if isinstance(path, str) and path.lstrip().startswith("{"):
        load_tokenizer(path, "the content that was given")
        return path
    path = Path(path).expanduser()
    if path.is_dir():
        if (path / TOKENIZER).is_file():
            return read_tokenizer(path / TOKENIZER)
        if (path / VOCABULARY).is_file():
            return _of_vocabulary(path)
        if found := next((path / name for name in FILES if (path / name).is_file()), None):
            return read_sentencepiece(found)
        if (path / CARD).is_file():
            return _of_card(path / CARD)
        listed = ", ".join(FILES)
        raise InputError(f"the folder '{path}' holds no tokenizer: neither {TOKENIZER} nor {VOCABULARY}, nor {listed}")
    if not path.is_file():
        raise InputError(
            f"there is no tokenizer '{path}'; expected a {TOKENIZER}, a .model of sentencepiece, or a folder that "
            "holds one"
        )
    if path.suffix == ".model":
        return read_sentencepiece(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the tokenizer '{path}' cannot be read ({error}); fetch it again") from error
    load_tokenizer(content, str(path))
    return content


def _of_card(card: Path) -> str:
    """That of a checkpoint, which is on its card."""
    try:
        content = json.loads(card.read_text(encoding="utf-8"))["preprocessing"].get("tokenizer")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the card '{card}' cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(content, str):
        raise InputError(f"the checkpoint '{card.parent}' holds no tokenizer: its network reads no text")
    load_tokenizer(content, str(card))
    return content


def _of_vocabulary(folder: Path) -> str:
    """BERT's own way, from its list of word pieces; as lower case unless the settings beside it say otherwise."""
    tokenizers = tokenizers_package()
    settings: dict[str, Any] = {}
    try:
        if (folder / SETTINGS).is_file():
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        made = tokenizers.BertWordPieceTokenizer(
            str(folder / VOCABULARY),
            lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        )
    except Exception as error:  # of Rust, of many kinds
        raise InputError(f"'{folder / VOCABULARY}' is no vocabulary of a BERT ({error}); fetch it again") from error
    return made.to_str()


@cache
def tokenizers_package() -> Any:
    """The package. Raises InputError with what to do if it is missing."""
    try:
        import tokenizers
    except ImportError as error:
        raise InputError("text is read by the package tokenizers, which is missing: pip install tokenizers") from error
    return tokenizers


def load_tokenizer(content: str, name: str = "the tokenizer") -> Any:
    """The tokenizer of what `read_tokenizer` gave. Raises InputError with its `name` if it is damaged."""
    try:
        return tokenizers_package().Tokenizer.from_str(content)
    except InputError:
        raise
    except Exception as error:  # of Rust
        raise InputError(f"'{name}' is damaged, or no {TOKENIZER} ({error}); fetch it again") from error


@lru_cache(maxsize=8)
def made_tokenizer(content: str, length: int) -> Any:
    """The tokenizer that cuts at `length` tokens, kept: to read one takes as long as hundreds of texts."""
    tokenizer = load_tokenizer(content)
    tokenizer.enable_truncation(length)
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=8)
def vocabulary_of(content: str) -> int:
    """One more than the largest number of a token."""
    return 1 + max(load_tokenizer(content).get_vocab().values(), default=-1)


def encode(content: str, texts: Sequence[Text], length: int) -> Encoded:
    """Texts as tokens, each of `length` at most; of two texts the longer one is cut first.

    Args:
      content: of `read_tokenizer`.
      texts: texts, or pairs of them.
      length: number of tokens.

    Raises:
      InputError: for a length that the marks of beginning and end alone do not fit into.
    """
    tokenizer = made_tokenizer(content, length)
    marks = tokenizer.num_special_tokens_to_add(any(not isinstance(one, str) for one in texts))
    if length < marks:  # the package gives more tokens then, and says nothing
        raise InputError(f"the length is {length}, and the marks of beginning and end take {marks} tokens: give more")
    made = tokenizer.encode_batch(list(texts))
    shape = len(made), length
    tokens, types = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    mask = np.zeros(shape, bool)
    for row, one in enumerate(made):
        tokens[row, : len(one)], types[row, : len(one)], mask[row, : len(one)] = one.ids, one.type_ids, True
    return Encoded(tokens, mask, types, np.array([bool(one.overflowing) for one in made], bool))


def words_of(content: str, text: Text, length: int) -> list[Word]:
    """The words of which `encode` makes tokens, in their order; those that are cut are left out."""
    given = (text,) if isinstance(text, str) else text
    made = made_tokenizer(content, length).encode(*given)
    keys = zip(made.sequence_ids, made.word_ids, strict=True)
    pieces = [(key, place) for place, key in enumerate(keys) if None not in key]
    words = []
    for (which, _), same in groupby(pieces, key=lambda piece: piece[0]):
        places = tuple(place for _, place in same)
        spans = [made.offsets[place] for place in places]
        words.append(Word(which, min(start for start, _ in spans), max(end for _, end in spans), places))
    return words
