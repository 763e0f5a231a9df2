"""Tokenizers made of a user's own texts: no labels are read, and the same texts give the same tokenizer."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from jaxdl.data.preprocessing.sentence_pieces import WORD, normaliser_of_words, train_pieces
from jaxdl.data.preprocessing.tokenizer import Text, check_text, tokenizers_package
from jaxdl.errors import InputError, check_choice

PADDING, UNKNOWN, FIRST, LAST, MASKED = MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # numbers 0 to 4
VOCABULARY = 8000
SEEN = 2  # times that a piece must stand in the texts: of what stands there once a network learns nothing
CHARACTERS = 1000  # most that word pieces begin with; the others become [UNK]


def train_tokenizer(
    texts: Sequence[Text], vocabulary: int = VOCABULARY, kind: str = "wordpiece", lower_case: bool = True
) -> str:
    """A tokenizer of the user's own texts, as the content of a ``tokenizer.json``: `data.texts` takes it.

    A text becomes ``[CLS]``, its pieces, ``[SEP]``; two become one with ``[SEP]`` between them. Padding is number 0.

    Args:
      texts: texts, or pairs of them. Those on which a network is tested do not belong here.
      vocabulary: the largest number of tokens, the five marks included. Few texts give fewer.
      kind: ``"wordpiece"``, pieces of words as BERT has them (Wu et al., arXiv:1609.08144); ``"bpe"``, pieces of bytes
        as GPT-2 has them, which know every character (Sennrich et al., arXiv:1508.07909); ``"unigram"``, pieces by
        their probability, by the package sentencepiece (Kudo, arXiv:1804.10959); ``"words"``, whole words and
        punctuation, of which the rarer ones are unknown.
      lower_case: whether texts are read in lower case, by ``"wordpiece"`` and ``"words"`` without accents, too.

    Raises:
      InputError: for texts in which nothing stands, and a vocabulary that is too small for their characters.
    """
    check_choice("kind of tokenizer", kind, KINDS)
    if type(vocabulary) is not int or vocabulary < 2 * len(MARKS):
        raise InputError(f"the vocabulary is {vocabulary!r}; expected a number of tokens of at least {2 * len(MARKS)}")
    checked = [check_text(one, index) for index, one in enumerate(texts)]
    lines = [line for text in checked for line in ([text] if isinstance(text, str) else text)]
    if not any(line.strip() for line in lines):
        raise InputError("no text holds anything to make a tokenizer of")
    made = KINDS[kind](lines, vocabulary, lower_case)
    if (count := made.get_vocab_size()) > vocabulary:
        raise InputError(
            f"a vocabulary of {vocabulary} is too small for a tokenizer of kind {kind}: give {count} or more"
        )
    if count == len(MARKS):
        raise InputError(f"no piece stands {SEEN} times in the texts: give more of them")
    tokenizers = tokenizers_package()
    made.add_special_tokens(list(MARKS))
    made.post_processor = tokenizers.processors.TemplateProcessing(
        f"{FIRST} $A {LAST}", f"{FIRST} $A {LAST} $B:1 {LAST}:1", [(mark, MARKS.index(mark)) for mark in (FIRST, LAST)]
    )
    return made.to_str()


def _wordpiece(lines: Sequence[str], vocabulary: int, lower_case: bool) -> Any:
    tokenizers = tokenizers_package()
    made = _by_words(tokenizers.models.WordPiece(unk_token=UNKNOWN), lower_case)
    seen = Counter(character for line in lines for character in made.normalizer.normalize_str(line))
    known = sorted((one for one in seen if not one.isspace()), key=lambda one: (-seen[one], one))
    known = sorted(known[: min(CHARACTERS, vocabulary // 4)])
    # The package numbers what continues a word as it meets it, in another order each time, and breaks ties by these
    # numbers: here they are fixed before.
    fixed = [*MARKS, *(f"##{one}" for one in known)]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=SEEN,
        special_tokens=fixed,
        initial_alphabet=known,
        limit_alphabet=len(known),
        show_progress=False,
    )
    made.train_from_iterator(lines, trainer)
    again = _by_words(tokenizers.models.WordPiece(made.get_vocab(), unk_token=UNKNOWN), lower_case)  # nothing special
    again.decoder = tokenizers.decoders.WordPiece()
    return again


def _words(lines: Sequence[str], vocabulary: int, lower_case: bool) -> Any:
    tokenizers = tokenizers_package()
    made = _by_words(tokenizers.models.WordLevel(unk_token=UNKNOWN), lower_case)
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=vocabulary, min_frequency=SEEN, special_tokens=list(MARKS), show_progress=False
    )
    made.train_from_iterator(lines, trainer)
    return made


def _by_words(model: Any, lower_case: bool) -> Any:
    """Text cleaned and divided into words and punctuation as BERT does it."""
    tokenizers = tokenizers_package()
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower_case)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return made


def _bpe(lines: Sequence[str], vocabulary: int, lower_case: bool) -> Any:
    tokenizers = tokenizers_package()
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    steps = [tokenizers.normalizers.NFC(), *([tokenizers.normalizers.Lowercase()] if lower_case else [])]
    made.normalizer = tokenizers.normalizers.Sequence(steps)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=SEEN,
        special_tokens=list(MARKS),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(lines, trainer)
    return made


def _unigram(lines: Sequence[str], vocabulary: int, lower_case: bool) -> Any:
    """By sentencepiece: the trainer of tokenizers gives other pieces each time."""
    tokenizers = tokenizers_package()
    normaliser = normaliser_of_words(lower_case)
    pieces = train_pieces([normaliser.normalize_str(line) for line in lines], vocabulary, MARKS)
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, MARKS.index(UNKNOWN)))
    made.normalizer = normaliser
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(WORD)
    made.decoder = tokenizers.decoders.Metaspace(WORD)
    return made


KINDS: dict[str, Callable[[Sequence[str], int, bool], Any]] = {
    "wordpiece": _wordpiece,
    "bpe": _bpe,
    "unigram": _unigram,
    "words": _words,
}
