"""Tokenizers made of a user's own texts: the same each time, of training texts alone, and what is refused."""

import gzip
import json
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import choose_preprocessing
from jaxdl.data.preprocessing.text import preprocessing_by
from jaxdl.data.preprocessing.tokenizer import encode, load_tokenizer, read_tokenizer, vocabulary_of
from jaxdl.data.preprocessing.train_tokenizer import KINDS, MARKS
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.training.transfer import describe_run
from jaxdl.validation.leakage import check_leaks, check_validation
from jaxdl.validation.splits import split_source

WORDS = ("low", "lower", "lowest", "new", "newer", "newest", "wide", "wider", "widest", "Straße", "été")
TEXTS = [
    f"The {WORDS[i % 11]} {WORDS[i * i % 11]}, {WORDS[i * 3 % 11]} {WORDS[(i * i + 5) % 11]} road: no. {i % 7}."
    for i in range(120)
]
ALL = pytest.mark.parametrize("kind", KINDS)


def made(kind, texts=TEXTS, vocabulary=300, **options):
    return data.train_tokenizer(texts, vocabulary, kind, **options)


@ALL
def test_the_same_texts_give_the_same_tokenizer_and_other_texts_another(kind):
    content = made(kind)
    assert len({made(kind) for _ in range(4)} | {content}) == 1
    assert made(kind, TEXTS[:60]) != content


@ALL
def test_texts_are_read_whole_with_their_marks(kind):
    content = made(kind)
    assert len(MARKS) < vocabulary_of(content) <= 300
    tokenizer = load_tokenizer(content)
    assert [tokenizer.token_to_id(mark) for mark in MARKS] == list(range(5))
    found = encode(content, ["The lowest road", ("the", "road")], 30)
    assert (found.tokens[:, 0] == 2).all()
    for row in range(2):
        assert found.tokens[row][found.mask[row]][-1] == 3
        assert not (found.tokens[row] == 1).any(), "nothing in them is unknown"
    assert (found.tokens[1] == 3).sum() == 2
    assert found.types[1][found.mask[1]].tolist() == sorted(found.types[1][found.mask[1]])
    assert tokenizer.decode(found.tokens[0][found.mask[0]].tolist()).strip() == "the lowest road"
    cased = encode(made(kind, lower_case=False), ["The", "the"], 30).tokens
    assert (cased[0] != cased[1]).any()


def test_words_are_the_most_frequent_and_pieces_what_is_merged_first():
    texts = ["b b b b", "aa aa aa", "c c", "d"]
    tokenizer = load_tokenizer(made("words", texts, 10))
    assert [tokenizer.id_to_token(number) for number in range(5, 8)] == ["b", "aa", "c"]
    assert tokenizer.token_to_id("d") is None, "it stands there once"
    # u and g stand side by side 20 times, u and n 16 times, h and ug 15 times
    often = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    texts = [word for word, times in often.items() for _ in range(times)]
    merges = json.loads(made("bpe", texts, 5 + 256 + 3))["model"]["merges"]
    assert merges == [["u", "g"], ["u", "n"], ["h", "ug"]]


def test_word_pieces_are_no_marks_in_a_text():
    """Those that continue a word are not looked for in the text as marks are."""
    content = made("wordpiece", ["a##b ab ab", "##b ##b"])
    assert {one["content"] for one in json.loads(content)["added_tokens"]} == set(MARKS)
    assert load_tokenizer(content).encode("a##b").tokens == ["[CLS]", "a", "#", "#", "b", "[SEP]"]


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_bytes_know_every_character(text):
    tokenizer = load_tokenizer(made("bpe", lower_case=False))
    ids = tokenizer.encode(text).ids
    assert 1 not in ids
    assert tokenizer.decode(ids[1:-1], skip_special_tokens=False) == unicodedata.normalize("NFC", text)


@ALL
@pytest.mark.parametrize(
    ("texts", "vocabulary", "message"),
    [
        ([], 300, "no text holds anything"),
        (["", " "], 300, "no text holds anything"),
        (TEXTS, 9, "the vocabulary is 9; expected a number of tokens of at least 10"),
        (TEXTS, 8000.0, "the vocabulary is 8000.0"),
        (["a", None], 300, "the text at index 1 is None"),
        (["a", "\ud800"], 300, "the text at index 1 .*half of a character"),
    ],
)
def test_what_no_tokenizer_can_be_made_of_is_refused(kind, texts, vocabulary, message):
    with pytest.raises(InputError, match=message):
        made(kind, texts, vocabulary)


def test_a_vocabulary_too_small_is_refused_with_one_that_will_do():
    for kind in ("bpe", "unigram"):
        with pytest.raises(InputError, match="too small") as caught:
            made(kind, vocabulary=12)
        enough = int(re.search(r"give (\d+) or more", str(caught.value))[1])
        assert vocabulary_of(made(kind, vocabulary=enough)) <= enough


def test_a_kind_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="kind of tokenizer"):
        data.train_tokenizer(TEXTS, kind="sound")
    for asked, message in (("train:sound", "kind of tokenizer"), ("train:100:200", "says its vocabulary twice")):
        with pytest.raises(InputError, match=message):
            data.texts(TEXTS, tokenizer=asked)


@pytest.mark.parametrize("positions", ["learned", "rotary", "relative", "sinusoidal"])
def test_a_text_is_as_long_as_a_network_has_places(positions):
    own = choose_preprocessing(data.texts(TEXTS, tokenizer=made("words"), length=30), None, 32)
    model = jaxdl.create("transformer", 2, vocabulary=300, longest=20, positions=positions)
    if positions == "learned":
        with pytest.raises(InputError, match="up to 30 tokens, and the network knows 20 positions"):
            own.check_model(model)
    else:
        own.check_model(model)
    with pytest.raises(InputError, match=f"knows {own.vocabulary} tokens, and the network has vectors for 7"):
        own.check_model(model.clone(vocabulary=7))


def test_a_source_says_how_its_tokenizer_is_made():
    source = data.texts(TEXTS, tokenizer="train:60:words", length=12)
    chosen = choose_preprocessing(source, None, 32)
    assert chosen.tokenizer == made("words", vocabulary=60)
    assert chosen.length == 12
    assert preprocessing_by("train", 9).chosen_for(source).tokenizer == made("wordpiece", vocabulary=8000)
    part = choose_preprocessing(source.take(np.arange(40)), None, 32)
    assert part.tokenizer == made("words", TEXTS[:40], 60)
    given_whole = choose_preprocessing(data.texts(TEXTS, tokenizer=made("bpe"), length=12), None, 32)
    assert given_whole.tokenizer == read_tokenizer(made("bpe")) == made("bpe")


def _labelled(count=40):
    return [f"{text} {('good', 'bad')[i % 2]} number {i}" for i, text in enumerate(TEXTS[:count])], [
        ("yes", "no")[i % 2] for i in range(count)
    ]


MODEL = jaxdl.create("textcnn", 2, vocabulary=200, width=4, features=3)


def test_that_folds_share_a_tokenizer_is_said():
    texts, labels = _labelled()
    for tokenizer, expected in ((made("wordpiece", vocabulary=200), 0), ("train:200", 1)):
        source = data.texts(texts, labels, tokenizer=tokenizer, length=24)
        found = check_leaks(MODEL, source, split_source(source, "auto", 2, 0), allow=("near-duplicates",))
        said = [leak for leak in found if leak.name == "tokenizer"]
        assert len(said) == expected
        for leak in said:
            assert leak.caution
            assert "all texts, those that a fold tests included, without their labels" in leak.said
    new = data.texts(["quite other words here"], ["yes"])
    assert "tokenizer" not in {leak.name for leak in check_validation(MODEL, source, new)}


def test_a_run_that_is_resumed_has_the_same_tokenizer():
    texts, labels = _labelled()

    def settings(tokenizer):
        source = data.texts(texts, labels, tokenizer=tokenizer, length=24)
        return describe_run(
            MODEL, source, jaxdl.Plan(epochs=1), choose_task(source, purpose="training"), jaxdl.Execution()
        )

    one, again, other = (settings(f"train:{vocabulary}") for vocabulary in (200, 200, 60))
    assert one == again
    assert [key for key in one if one[key] != other[key]] == ["preprocessing"]


@pytest.mark.slow
def test_folds_share_the_tokenizer_of_all_texts_and_the_result_says_so():
    texts, labels = _labelled()
    source = data.texts(texts, labels, tokenizer="train:200", length=24)
    execution = jaxdl.Execution(keep_models=True, allow=("near-duplicates",))
    result = jaxdl.cross_validate(MODEL, source, jaxdl.Plan(epochs=1, batch_size=8), folds=2, execution=execution)
    assert "tokenizer" in {leak["name"] for leak in result.leaks}
    assert {one.card.preprocessing.tokenizer for one in result.models} == {made("wordpiece", texts, 200)}


@pytest.mark.slow
def test_a_training_makes_its_tokenizer_of_its_training_part_alone(tmp_path):
    texts, labels = _labelled()
    source = data.texts(texts, labels, tokenizer="train:200", length=24)
    trained = jaxdl.finetune(
        MODEL,
        source.take(np.arange(30)),
        jaxdl.Plan(epochs=1, batch_size=8),
        validation=source.take(np.arange(30, 40)),
        execution=jaxdl.Execution(allow=("near-duplicates",)),
    )
    content = trained.card.preprocessing.tokenizer
    assert content == made("wordpiece", texts[:30], 200)
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "checkpoint"))
    assert again.card.preprocessing.tokenizer == content


@pytest.mark.slow
@ALL
def test_of_real_text_each_kind_makes_a_vocabulary_that_it_reads_by(kind, real_data):
    with gzip.open(real_data / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.split("\t")[0] for line in file]
    content = made(kind, lines[:6000], 4000)
    assert content == made(kind, lines[:6000], 4000)
    assert 3000 < vocabulary_of(content) <= 4000
    found = encode(content, lines[6000:], 80)
    unknown = (found.tokens == 1).sum() / found.mask.sum()
    assert unknown < (0.2 if kind == "words" else 0.002)
    assert found.mask.sum(1).mean() < 30
