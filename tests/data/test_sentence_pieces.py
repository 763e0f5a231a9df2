"""Models of sentencepiece as tokenizers: the numbers that the package itself gives, and what is refused."""

import functools
import gzip
import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from jaxdl.data.preprocessing import sentence_pieces
from jaxdl.data.preprocessing.tokenizer import encode, load_tokenizer, read_tokenizer
from jaxdl.errors import InputError

FOX = re.split(" ", "The quick brown fox jumps over the lazy dog, and 10 good dogs bark; ﬁne café, Straße für 25 €.")
LINES = [" ".join(FOX[(i * step) % len(FOX)] for step in range(1, 9)) for i in range(200)]
KINDS = {
    "unigram": {},
    "bpe": {"model_type": "bpe"},
    "identity": {"normalization_rule_name": "identity"},
    "bpe, bytes, lower case": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "nmt_nfkc_cf",
        "vocab_size": 400,
    },
    "no prefix": {"add_dummy_prefix": False},
    "spaces kept": {"remove_extra_whitespaces": False},
    "defined": {"user_defined_symbols": ["good", "a.b", "[X]"]},
}
ALL = pytest.mark.parametrize("kind", KINDS)


def trained(lines, **options):
    """The bytes of a model."""
    written = io.BytesIO()
    options = {"vocab_size": 120, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1} | options
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=written, **options)
    return written.getvalue()


@functools.cache
def both(kind):
    """The package's own and ours, of a small model."""
    held = trained(LINES, **KINDS[kind])
    with TemporaryDirectory() as folder:
        ours = load_tokenizer(read_tokenizer(_written(folder, held)))
    return sentencepiece.SentencePieceProcessor(model_proto=held), ours


def _written(folder, held, name="spiece.model"):
    (Path(folder) / name).write_bytes(held)
    return Path(folder) / name


def agree(theirs, ours, text):
    expected, found = theirs.encode(text), ours.encode(text).ids
    # of the same pieces in another order both are as probable
    assert found == expected or ("unigram" in str(ours.model).lower() and sorted(found) == sorted(expected))


LETTERS = st.text("ab ▁<s>/unk.\n\tgood[X]0x4Fﬁé\u3000\u00a0\u200b", max_size=25)
ANY = st.text(st.characters(exclude_categories=("Cs", "Mn", "Mc", "Me")), max_size=20)


@ALL
@settings(max_examples=60, deadline=None)
@given(st.one_of(LETTERS, ANY))
def test_odd_strings_are_numbered_as_by_the_package_itself(kind, text):
    if kind == "spaces kept" and all(unicodedata.category(one) in ("Cc", "Cf") for one in text):
        return  # see `sentence_pieces`
    agree(*both(kind), text)


@ALL
def test_every_line_and_the_names_of_marks_are_numbered_so_too(kind):
    theirs, ours = both(kind)
    for text in [*LINES, "<s>the </s> <unk><pad>dog", "", " ", "  a  b ", "▁a", "<0x41>A", "good.good a.ba.b"]:
        agree(theirs, ours, text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_thousand_lines_of_real_text(kind, real_data, tmp_path):
    with gzip.open(real_data / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.split("\t")[0] for line in file]
    with gzip.open(real_data / "multi30k_train.de.gz", "rt", encoding="utf-8") as file:
        german = [line.strip() for _, line in zip(range(3000), file, strict=False)]
    with gzip.open(real_data / "tinyshakespeare.txt.gz", "rt", encoding="utf-8") as file:
        plays = [line for line in file.read().split("\n\n") if line][:500]
    held = trained(lines[:3000] + german[:2500], vocab_size=3000, model_type=kind)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=held)
    content = read_tokenizer(_written(tmp_path, held).parent)
    new = lines[3000:3500] + german[2500:] + plays
    found = encode(content, new, 300)
    for row, text in enumerate(new):
        assert found.tokens[row][found.mask[row]].tolist() == theirs.encode(text)[:300]


@pytest.mark.parametrize(
    ("settings", "single", "pair"),
    [
        (None, "$A", "$A $B"),
        ({"tokenizer_class": "T5TokenizerFast"}, "$A </s>", "$A </s> $B </s>"),
        ({"add_bos_token": True, "add_eos_token": True}, "<s> $A </s>", "<s> $A </s> $B </s>"),
        ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, "<s> $A", "<s> $A $B"),
    ],
)
def test_marks_are_those_of_the_settings_beside_it(settings, single, pair, tmp_path):
    theirs, _ = both("unigram")
    held = trained(LINES)
    _written(tmp_path, held)
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    texts = {"$A": theirs.encode("the dog"), "$B": theirs.encode("a fox")}
    marks = {"<s>": [theirs.bos_id()], "</s>": [theirs.eos_id()]}
    found = encode(read_tokenizer(tmp_path), ["the dog", ("the dog", "a fox")], 40)
    for row, template in enumerate((single, pair)):
        expected = [number for word in template.split() for number in (texts | marks)[word]]
        assert found.tokens[row][found.mask[row]].tolist() == expected
    assert set(np.unique(found.types[1])) == {0, 1}


def _changed(**fields):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained(LINES))
    for name, value in fields.items():
        place, field = name.split("__")
        setattr(getattr(model, place), field, value)
    return model


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (lambda: trained(LINES, model_type="char"), "is of type char"),
        (lambda: trained(LINES, model_type="word"), "is of type word"),
        (lambda: trained(LINES, treat_whitespace_as_suffix=True), "has treat_whitespace_as_suffix"),
        (lambda: trained(LINES, byte_fallback=True, vocab_size=400), "with byte_fallback"),
        (lambda: trained(LINES, model_type="bpe", user_defined_symbols=["good"]), "user_defined_symbols"),
        (
            lambda: _changed(normalizer_spec__escape_whitespaces=False).SerializeToString(),
            "does not escape white space",
        ),
        (lambda: b"", "holds no pieces"),
        (lambda: b"no model", "is damaged, or no model of sentencepiece"),
        (lambda: trained(LINES)[:-100], "is damaged, or no model of sentencepiece"),
    ],
)
def test_what_cannot_be_said_otherwise_is_refused_by_name(held, message, tmp_path):
    with pytest.raises(InputError, match=f"'.*spiece.model' .*{message}"):
        read_tokenizer(_written(tmp_path, held()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"tokenizer_class": "XLMRobertaTokenizer"}', "says XLMRobertaTokenizer, whose numbers .*save_pretrained"),
        ('{"tokenizer_class": "AlbertTokenizer"}', r"asks for the mark \[CLS\], which '.*spiece.model' does not have"),
        ("[1]", "is no JSON object"),
        ("{", "is no JSON object"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(settings, message, tmp_path):
    path = _written(tmp_path, trained(LINES))
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(InputError, match=f"'{re.escape(str(tmp_path))}/tokenizer_config.json' {message}"):
        read_tokenizer(path)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    held = bytearray(_damaged_from())
    for _ in range(data.draw(st.integers(1, 4))):
        held[data.draw(st.integers(0, len(held) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        try:
            content = read_tokenizer(_written(folder, bytes(held)))
        except InputError:
            return
    encode(content, ["the dog"], 40)


@functools.cache
def _damaged_from():
    return trained(LINES)


def test_a_missing_package_is_named_with_what_to_do(tmp_path, monkeypatch):
    path = _written(tmp_path, trained(LINES))
    sentence_pieces.sentencepiece_package.cache_clear()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match="pip install sentencepiece"):
        read_tokenizer(path)
