"""Models of the package sentencepiece, as tokenizers: Kudo and Richardson (arXiv:1808.06226).

The package finds pieces in a text (by probability, or by merging pairs) after it has normalised it. A tokenizer.json
says all of that in other words; the package itself is needed only while it is made. On real text both give the same
numbers. They differ in three odd places: tokenizers leaves out an accent behind a character that is itself replaced
(``ﬁ`` and U+0301), a text of control characters alone may keep the mark of a word, and of divisions into the same
pieces in another order (``2 00 0``, ``2 0 00``) either may be taken.
"""

import io
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jaxdl.errors import InputError

FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")  # as folders of published ones have
WORD = "▁"  # begins a word
EVERY = "".join(map(chr, range(1, 0xD800)))  # characters that a damaged table may not know what to do with
SETTINGS = "tokenizer_config.json"
NORMAL, UNKNOWN, CONTROL, DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces, numbered as in their files
UNIGRAM, BPE = 1, 2
# Classes of transformers whose numbers are those of the file, and the pieces that they put around a text, or two.
MARKS = {
    "T5": ("$A </s>", "$A </s> $B:1 </s>:1"),
    "Albert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
}


@cache
def sentencepiece_package() -> Any:
    """The package. Raises InputError with what to do if it is missing."""
    try:
        import sentencepiece
    except ImportError as error:
        raise InputError(
            "models of sentencepiece, and tokenizers of kind unigram, need the package sentencepiece, which is "
            "missing: pip install sentencepiece"
        ) from error
    return sentencepiece


def normaliser_of_words(lower_case: bool) -> Any:
    """Compatible characters become one, white space of any length a space."""
    from tokenizers import Regex, normalizers

    lowered = [normalizers.Lowercase()] if lower_case else []
    return normalizers.Sequence(
        [normalizers.NFKC(), *lowered, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )


def train_pieces(lines: Sequence[str], vocabulary: int, marks: Sequence[str]) -> list[tuple[str, float]]:
    """Pieces and the logarithms of their probabilities, the most probable first, after the `marks`.

    Args:
      lines: texts, normalised.
      vocabulary: the largest number of pieces.
      marks: pieces that no text holds: for padding, what is unknown, beginning, end, and others.

    Raises:
      InputError: with the reason that the package gives.
    """
    package, written = sentencepiece_package(), io.BytesIO()
    padding, unknown, first, last, *others = marks
    try:
        package.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,  # few texts give fewer
            normalization_rule_name="identity",
            max_sentence_length=2**30,  # longer ones would be left out
            num_threads=1,
            minloglevel=2,
            **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "control_symbols": list(others)},
            **{"pad_piece": padding, "unk_piece": unknown, "bos_piece": first, "eos_piece": last},
        )
    except Exception as error:  # of C++, of several kinds
        if too_few := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
            raise InputError(
                f"a vocabulary of {vocabulary} is too small for a tokenizer of kind unigram: give {too_few[1]} or more"
            ) from error
        raise InputError(f"no pieces can be made of these texts ({error}); give more of them") from error
    return [(one.piece, one.score) for one in _parsed(written.getvalue(), "the trained model").pieces]


def read_sentencepiece(path: Path) -> str:
    """The content of a ``tokenizer.json`` that gives the numbers of tokens that sentencepiece gives by this file.

    ``tokenizer_config.json`` beside it may say which marks stand around a text (T5, ALBERT, ``add_bos_token``,
    ``add_eos_token``); without it there are none. Text that holds the name of a mark, such as ``</s>``, is no mark.

    Args:
      path: a ``.model``.

    Raises:
      InputError: for a damaged file, and naming what a ``tokenizer.json`` cannot say of it.
    """
    try:
        held = path.read_bytes()
    except OSError as error:
        raise InputError(f"the model '{path}' cannot be read ({error.strerror})") from error
    model = _parsed(held, f"'{path}'")
    if refused := _refused(model):
        raise InputError(f"'{path}' {refused}; train one without, or give its tokenizer.json where it has one")
    try:
        made = _tokenizer(model)
        made.normalizer.normalize_str(EVERY)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # of Rust, whose panics are no exceptions of Python's
        raise InputError(f"'{path}' is damaged ({error}); fetch it again") from error
    single, pair = _marks(path, model)
    if single != "$A":
        from tokenizers import processors

        numbers = {one.piece: number for number, one in enumerate(model.pieces)}
        marks = sorted({word.partition(":")[0] for word in f"{single} {pair}".split() if not word.startswith("$")})
        made.post_processor = processors.TemplateProcessing(single, pair, [(mark, numbers[mark]) for mark in marks])
    return made.to_str()


def _parsed(held: bytes, name: str) -> Any:
    sentencepiece_package()
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(held)
    except Exception as error:  # of protobuf
        raise InputError(f"{name} is damaged, or no model of sentencepiece ({error}); fetch it again") from error
    if not model.pieces:
        raise InputError(f"{name} holds no pieces: it is damaged, or no model of sentencepiece; fetch it again")
    return model


def _refused(model: Any) -> str | None:
    """Why no tokenizer gives the same tokens; None if one does."""
    kind, spec, types = model.trainer_spec.model_type, model.trainer_spec, {one.type for one in model.pieces}
    names = {3: "word", 4: "char"}
    reasons = {
        f"is of type {names.get(kind, kind)}, and only unigram and bpe can be read": kind not in (UNIGRAM, BPE),
        "has treat_whitespace_as_suffix": spec.treat_whitespace_as_suffix,
        "does not escape white space (escape_whitespaces)": not model.normalizer_spec.escape_whitespaces,
        "is a unigram model with byte_fallback": kind == UNIGRAM and BYTE in types,
        "is a bpe model with unused pieces": kind == BPE and UNUSED in types,
        "is a bpe model with user_defined_symbols": kind == BPE and DEFINED in types,
        "has no unknown piece": UNKNOWN not in types,
    }
    return next((reason for reason, found in reasons.items() if found), None)


def _tokenizer(model: Any) -> Any:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    # A text has no space once spaces are escaped: behind one a name is found in no text.
    kept = (NORMAL, DEFINED, BYTE)
    pieces = [(one.piece if one.type in kept else f" {one.piece}", one.score) for one in model.pieces]
    unknown = next(number for number, one in enumerate(model.pieces) if one.type == UNKNOWN)
    if model.trainer_spec.model_type == UNIGRAM:
        made = tokenizers.Tokenizer(models.Unigram(pieces, unknown))
    else:
        vocabulary = {name: number for number, (name, _) in enumerate(pieces)}
        bytes_known = any(one.type == BYTE for one in model.pieces)
        made = tokenizers.Tokenizer(
            models.BPE(
                vocabulary, _merges(model), unk_token=pieces[unknown][0], fuse_unk=True, byte_fallback=bytes_known
            )
        )
    made.normalizer = _normaliser(model.normalizer_spec)
    defined = sorted((one.piece for one in model.pieces if one.type == DEFINED), key=len, reverse=True)
    if defined:  # each is a token, whatever stands around it
        made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("|".join(map(re.escape, defined))), "isolated")
    made.decoder = decoders.Metaspace(WORD)
    return made


def _merges(model: Any) -> list[tuple[str, str]]:
    """Pairs of pieces that become one, those of the highest score first."""
    numbers = {one.piece: number for number, one in enumerate(model.pieces) if one.type == NORMAL}
    found = []
    for piece, number in numbers.items():
        for place in range(1, len(piece)):
            if piece[:place] in numbers and piece[place:] in numbers:
                found.append((-model.pieces[number].score, number, place, (piece[:place], piece[place:])))
    return [pair for *_, pair in sorted(found)]


def _normaliser(spec: Any) -> Any:
    from tokenizers import Regex, normalizers

    steps = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:  # also to a text of which nothing is left, unless that is left out again
        steps.append(normalizers.Replace(Regex(r"\A(?=[\s\S])" if spec.remove_extra_whitespaces else r"\A"), " "))
    steps.append(normalizers.Replace(" ", WORD))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(f"{WORD}+\\z"), ""))
    return normalizers.Sequence(steps)


def _marks(path: Path, model: Any) -> tuple[str, str]:
    """What stands around one text and around two, as a template of tokenizers."""
    beside = path.parent / SETTINGS
    if not beside.is_file():
        return "$A", "$A $B:1"
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
        name = str(settings.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
        first, last = (bool(settings.get(f"add_{end}_token", False)) for end in ("bos", "eos"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"'{beside}' is no JSON object that can be read ({error}); fetch it again") from error
    spec = model.trainer_spec
    if name in MARKS:
        single, pair = MARKS[name]
    elif name in ("", "PreTrained", "Llama"):
        before, after = [f"{spec.bos_piece} "] * first, [f" {spec.eos_piece}"] * last
        single, pair = "$A".join(("".join(before), "".join(after))), "$A $B:1"
        pair = "".join([*before, "$A", *after, " $B:1", *(f"{one}:1" for one in after)])
    else:
        raise InputError(
            f"'{beside}' says {settings['tokenizer_class']}, whose numbers of tokens may differ from those of "
            f"{path.name}: make its tokenizer.json by transformers, "
            f"AutoTokenizer.from_pretrained('{path.parent}').save_pretrained('{path.parent}')"
        )
    known = {one.piece for one in model.pieces}
    for word in f"{single} {pair}".split():
        if not word.startswith("$") and (mark := word.partition(":")[0]) not in known:
            raise InputError(f"'{beside}' asks for the mark {mark}, which '{path}' does not have; correct either")
    return single, pair
