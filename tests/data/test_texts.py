"""Texts as tokens: the tokenizer, the source, and what is refused."""

import dataclasses
import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from libraries import library, real_minilm
from source_contract import check_contract
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TablePreprocessing, TextPreprocessing, choose_preprocessing
from jaxdl.data.preprocessing.tokenizer import encode, read_tokenizer, vocabulary_of
from jaxdl.errors import InputError

TEXTS = ["A good day", "bad days", "", "a dias , xyz", "\u200fgood\x00 day"]
ENDS = {"[": 2, "]": 3}


def _ids(words):
    """Numbers of word pieces; ``[`` and ``]`` stand for the marks of beginning and end."""
    return [ENDS.get(word, PIECES.index(word) if word in PIECES else 1) for word in words.split()]


@pytest.fixture
def content(tmp_path):
    return word_pieces(tmp_path)


def test_word_pieces_are_those_of_the_vocabulary(content):
    found = encode(content, TEXTS, 8)
    expected = ["[ a good day ]", "[ bad day ##s ]", "[ ]", "[ a d ##ias , [UNK] ]", "[ good day ]"]
    for row, words in enumerate(expected):
        ids = _ids(words)
        assert found.tokens[row].tolist() == ids + [0] * (8 - len(ids))
        assert found.mask[row].tolist() == [True] * len(ids) + [False] * (8 - len(ids))
    assert not found.types.any()
    assert not found.cut.any()
    assert (found.tokens.dtype, found.mask.dtype, found.types.dtype) == (np.int32, bool, np.int32)
    assert vocabulary_of(content) == len(PIECES)


def test_what_is_longer_is_cut_and_said(content):
    found = encode(content, ["a good day", "a good day a good day"], 5)
    assert found.tokens[1].tolist() == _ids("[ a good day ]")
    assert found.cut.tolist() == [False, True]


def test_a_length_without_room_for_the_marks_is_refused(content):
    assert encode(content, ["a"], 2).tokens[0].tolist() == _ids("[ ]")
    for texts, length in ((["a"], 1), ([("a", "good")], 2)):
        with pytest.raises(InputError, match=f"the length is {length}, and the marks .* take {length + 1} tokens"):
            encode(content, texts, length)


def test_texts_that_are_cut_are_counted(tmp_path, content):
    held = ["a good day a good day", "bad", "a bad day a"]
    short = data.texts(held, tokenizer=tmp_path, length=5)
    with pytest.warns(UserWarning, match=r"^texts: longer than 5 tokens, and so cut: 2 of 3 texts\. .*length=…\)"):
        made = short.preprocessing.load(short)
    assert made["tokens"][0].tolist() == _ids("[ a good day ]")
    assert made.keys() == {"tokens", "mask"}
    with pytest.warns(UserWarning, match="^texts longer than 5 tokens are cut") as caught:
        _ = [short.preprocessing.stored(short[index]) for index in range(3)]
    assert len(caught) == 2
    assert {str(one.message) for one in caught} == {str(caught[0].message)}
    longer = data.texts(held, tokenizer=tmp_path, length=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        longer.preprocessing.load(longer)


def test_pairs_are_told_apart_and_the_longer_is_cut_first(content):
    found = encode(content, [("a good", "bad day"), ("a good day a good day", "bad")], 7)
    assert found.tokens[0].tolist() == _ids("[ a good ] bad day ]")
    assert found.types[0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert found.tokens[1].tolist() == _ids("[ a good day ] bad ]")
    assert found.cut.tolist() == [False, True]


def test_a_tokenizer_json_is_read_as_it_is(content, tmp_path):
    """Whatever it says of length and padding."""
    held = json.loads(content) | {
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 20},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 4,
            "pad_type_id": 0,
            "pad_token": "[MASK]",
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(held))
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        np.testing.assert_array_equal(encode(read_tokenizer(place), TEXTS, 8).tokens, encode(content, TEXTS, 8).tokens)


def test_settings_beside_a_vocabulary_are_followed(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert encode(word_pieces(tmp_path), ["A a"], 4).tokens[0].tolist() == _ids("[ [UNK] a ]")


@pytest.mark.parametrize(
    ("name", "held", "message"),
    [
        ("tokenizer.json", "{", "'.*tokenizer.json' is damaged, or no tokenizer.json"),
        ("tokenizer.json", '{"model": {"type": "Sound"}}', "'.*tokenizer.json' is damaged"),
        ("tokenizer.json", b"\xff\xfe", "cannot be read"),
        ("vocab.txt", "only\nwords\n", "is no vocabulary of a BERT"),
        ("other.txt", "a", "holds no tokenizer: neither tokenizer.json nor vocab.txt"),
    ],
)
def test_damaged_tokenizers_are_refused(tmp_path, name, held, message):
    (tmp_path / name).write_bytes(held if isinstance(held, bytes) else held.encode())
    with pytest.raises(InputError, match=message):
        read_tokenizer(tmp_path)


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no tokenizer '.*none'"):
        read_tokenizer(tmp_path / "none")
    with pytest.raises(InputError, match="the tokenizer' is damaged"):
        TextPreprocessing("{}")


def test_a_checkpoint_lends_its_tokenizer(tmp_path, content):
    model = jaxdl.create("textcnn", 2, vocabulary=14, width=4, features=2)
    jaxdl.save(jaxdl.from_model(model, TextPreprocessing(content, 8), ["a", "b"]), tmp_path / "net")
    assert read_tokenizer(tmp_path / "net") == content
    table = jaxdl.from_model(jaxdl.create("mlp", 2), TablePreprocessing((3,)), ["a", "b"])
    jaxdl.save(table, tmp_path / "table")
    with pytest.raises(InputError, match="table' holds no tokenizer"):
        read_tokenizer(tmp_path / "table")
    for held in ("{", "[]", "{}"):
        (tmp_path / "net" / "card.json").write_text(held)
        with pytest.raises(InputError, match=r"card\.json' cannot be read"):
            read_tokenizer(tmp_path / "net")


@pytest.mark.parametrize("length", [0, 2.0, True])
def test_a_length_that_cannot_be_is_refused(content, length):
    with pytest.raises(InputError, match="expected a number of tokens, such as 128"):
        TextPreprocessing(content, length)


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_keep_the_contract_of_sources(pairs):
    held = [(text, "a") for text in TEXTS] if pairs else TEXTS
    check_contract(data.texts(held, ["x", "y", "x", "y", "x"]))
    check_contract(data.texts(held, [0.5, 1.0, 2.0, 3.0, 4.0], weights=[1, 2, 3, 4, 5]))
    check_contract(data.texts(held))


def test_what_a_source_of_texts_says():
    source = data.texts(TEXTS[:3], ["x", "y", "x"], groups=["d", "d", "e"])
    assert "3" in repr(source)
    assert "texts" in repr(source)
    assert source.to_frame()["text"].tolist() == TEXTS[:3]
    assert list(source.take(np.array([2, 0])).groups) == ["e", "d"]
    assert data.texts([("a", "b")]).texts == ["a ⏎ b"]


@pytest.mark.parametrize(
    ("held", "options", "message"),
    [
        ("a text", {}, "the texts are one string"),
        ([], {}, "there are no texts"),
        ([], {"y": []}, "there are no texts"),
        (["a", None], {}, "the text at index 1 is None"),
        (["a", ("b", 3)], {}, r"the text at index 1 is \('b', 3\)"),
        (["a", ("b", "c")], {}, "some examples are one text and some are two"),
        (["a", "b"], {"y": [1]}, "there are 2 texts but y has 1"),
        (["a", "b"], {"groups": ["g"]}, "there are 2 texts but groups has 1"),
        (["a", "b"], {"weights": [1, -1]}, "the weight at index 1 is -1"),
        (["a", "b"], {"tokenizer": "nowhere"}, "there is no tokenizer 'nowhere'"),
    ],
)
def test_what_are_no_texts_is_refused(held, options, message):
    with pytest.raises(InputError, match=message):
        data.texts(held, **options)


def test_text_without_a_tokenizer_says_what_to_do(tmp_path, content):
    with pytest.raises(InputError, match=r"holds text, .* data\.texts\(texts, labels, tokenizer='tokenizer\.json'\)"):
        choose_preprocessing(data.texts(TEXTS), None, 32)
    chosen = choose_preprocessing(data.texts(TEXTS, tokenizer=tmp_path, length=9), None, 32)
    assert chosen == TextPreprocessing(content, 9)


GOOD, BAD = ("good", "a good day", "days"), ("bad", "a bad day", "dias , bad")


def _sentences(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    fill = ["a", "day", ",", "days", "dias", "dio"]
    return [f"{' '.join(rng.choice(fill, 6))} {rng.choice((BAD, GOOD)[label])}" for label in labels], labels


@pytest.mark.slow
def test_a_network_learns_from_texts_and_its_checkpoint_brings_the_tokenizer(tmp_path, content):
    sentences, labels = _sentences(120)
    source = data.texts(sentences, np.array(["no", "yes"])[labels], tokenizer=tmp_path, length=14)
    model = jaxdl.create("textcnn", 2, vocabulary=len(PIECES), width=8, features=6)
    trained = jaxdl.pretrain(model, source, jaxdl.Plan(epochs=12, batch_size=16, learning_rate=0.02))
    new, truth = _sentences(40, seed=1)
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "checkpoint"))
    assert again.card.preprocessing == TextPreprocessing(content, 14)
    found = jaxdl.predict(again, data.texts(new, np.array(["no", "yes"])[truth]))
    assert found.accuracy > 0.9
    alone = jaxdl.predict(again, data.texts(new[:1])).outputs
    np.testing.assert_allclose(alone, found.outputs[:1], atol=1e-5)
    with pytest.raises(InputError, match="the network takes text of up to 14 tokens"):
        jaxdl.predict(again, data.digits())
    program = jaxdl.export(again, tmp_path / "program", file_format="stablehlo")
    told = json.loads((program.parent / "model.json").read_text())
    assert "tokenizer.json" in json.dumps(told)


@pytest.mark.slow
def test_a_thousand_lines_of_real_text_are_tokenised_as_transformers_does(real_data):
    place = real_minilm()
    with gzip.open(real_data / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.split("\t")[0] for _, line in zip(range(500), file, strict=False)]
    with gzip.open(real_data / "multi30k_train.de.gz", "rt", encoding="utf-8") as file:
        lines += [line.strip() for _, line in zip(range(300), file, strict=False)]
    with gzip.open(real_data / "xquad_en.json.gz", "rt", encoding="utf-8") as file:
        passages = [part["context"] for article in json.load(file)["data"] for part in article["paragraphs"]]
    lines += passages[:200]
    assert len(lines) == 1000
    theirs = library("transformers").AutoTokenizer.from_pretrained(place)
    expected = theirs(lines, padding="max_length", truncation=True, max_length=24, return_tensors="np")
    for content in (read_tokenizer(place), _of_vocabulary_alone(place)):
        found = encode(content, lines, 24)
        np.testing.assert_array_equal(found.tokens, expected["input_ids"])
        np.testing.assert_array_equal(found.mask, expected["attention_mask"])
    assert found.cut.any()
    assert not found.cut.all()
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    both = theirs(*map(list, zip(*pairs, strict=True)), padding="max_length", truncation=True, max_length=24)
    found = encode(read_tokenizer(place), pairs, 24)
    np.testing.assert_array_equal(found.tokens, both["input_ids"])
    np.testing.assert_array_equal(found.types, both["token_type_ids"])


def _of_vocabulary_alone(place):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        for name in ("vocab.txt", "tokenizer_config.json"):
            (Path(folder) / name).write_bytes((place / name).read_bytes())
        return read_tokenizer(folder)


@pytest.mark.slow
def test_a_real_sentence_encoder_brings_its_tokenizer_and_gives_embeddings():
    converted = jaxdl.convert(real_minilm())
    checkpoint = converted.checkpoint
    assert checkpoint.card.preprocessing.describe() == "text of up to 128 tokens"
    features = jaxdl.extract_features(
        checkpoint, data.texts(["A man is eating food.", "Someone eats a meal.", "The sky is blue."])
    )
    near = features / np.linalg.norm(features, axis=1, keepdims=True)
    alike = near @ near.T
    assert alike[0, 1] > 0.5 > alike[0, 2]
    other = dataclasses.replace(checkpoint.card.preprocessing, length=16)
    assert other.spec()["tokens"].shape == (16,)
