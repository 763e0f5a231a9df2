"""Heads of transformers' BERT with the names of their classes: from its folders, and back."""

import json

import numpy as np
import pytest
from libraries import library
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import Classification, MultiLabel, Regression, TokenClassification
from jaxdl.weights.convert import convert

TAGS = ("O", "B-LOC", "I-LOC")
SENTENCES = [["a", "days", "good"], ["dias,a"], ["bad", "dio", "a", "a", "good", "days", "days"]]
TEXTS = ["a good day", "", "bad days, dias"]
HEADS = {
    "tags": ("BertForTokenClassification", {"id2label": dict(enumerate(TAGS))}, TokenClassification(TAGS)),
    "classes": (
        "BertForSequenceClassification",
        {"id2label": {0: "no", 1: "maybe", 2: "yes"}},
        Classification(("no", "maybe", "yes")),
    ),
    "labels": (
        "BertForSequenceClassification",
        {"id2label": {0: "sad", 1: "long"}, "problem_type": "multi_label_classification"},
        MultiLabel(("sad", "long")),
    ),
    "number": ("BertForSequenceClassification", {"num_labels": 1}, Regression()),
}


def published(folder, kind, **config):
    """A folder with one of transformers' networks, of drawn weights, and its tokenizer; and the network."""
    torch, transformers = library("torch"), library("transformers")
    torch.manual_seed(0)
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    made = transformers.BertConfig(vocab_size=len(PIECES), max_position_embeddings=12, **small, **config)
    network = getattr(transformers, kind)(made)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    network.eval().save_pretrained(folder)
    word_pieces(folder)
    return network


def tokens_of(folder, given, **options):
    tokenizer = library("transformers").BertTokenizerFast.from_pretrained(folder)
    return tokenizer(given, padding="max_length", truncation=True, max_length=12, return_tensors="pt", **options)


def logits_of(network, tokens):
    with library("torch").no_grad():
        return network(**tokens).logits.numpy()


@pytest.mark.parametrize(
    "head", ["tags", *(pytest.param(head, marks=pytest.mark.slow) for head in HEADS if head != "tags")]
)
def test_a_head_keeps_its_task_and_names_and_gives_the_same_there_and_back(tmp_path, head):
    kind, config, task = HEADS[head]
    network = published(tmp_path / "theirs", kind, **config)
    checkpoint = convert(tmp_path / "theirs").checkpoint
    assert checkpoint.task == checkpoint.card.task == task
    given = SENTENCES if head == "tags" else TEXTS
    source = data.tagged(given) if head == "tags" else data.texts(given)
    tokens = tokens_of(tmp_path / "theirs", given, is_split_into_words=head == "tags")
    expected = logits_of(network, tokens)
    found = jaxdl.predict(checkpoint, source)
    if head == "tags":
        places = [[tokens.word_ids(i).index(word) for word in range(len(words))] for i, words in enumerate(given)]
        assert list(found.predicted) == [[TAGS[k] for k in expected[i, p].argmax(-1)] for i, p in enumerate(places)]
        raw = checkpoint.model.apply(checkpoint.variables, checkpoint.card.preprocessing.load(source))
        real = tokens["attention_mask"].numpy() > 0
        np.testing.assert_allclose(np.asarray(raw["outputs"])[real], expected[real], atol=1e-4)
    else:
        np.testing.assert_allclose(found.outputs, expected, atol=1e-4)
    assert expected.std(0).min() > 0.02
    place = jaxdl.export(checkpoint, tmp_path / "ours").parent
    auto = kind.replace("BertFor", "AutoModelFor")
    again = getattr(library("transformers"), auto).from_pretrained(place).eval()
    np.testing.assert_allclose(logits_of(again, tokens), expected, atol=1e-6)
    usual = {"tags": None, "classes": "single_label_classification", "number": "regression"}
    assert again.config.problem_type == config.get("problem_type", usual.get(head))
    if task.names:
        assert again.config.id2label == dict(enumerate(task.names))
        assert again.config.label2id == {name: i for i, name in enumerate(task.names)}
    back = convert(place).checkpoint
    assert (back.model, back.card.task, back.card.targets) == (checkpoint.model, task, checkpoint.card.targets)
    assert back.card.preprocessing == checkpoint.card.preprocessing


@pytest.mark.slow
def test_a_network_that_learned_scaled_numbers_gives_them_elsewhere_as_they_are(tmp_path):
    word_pieces(tmp_path)
    texts = ["a good day", "bad", "days", "a bad dias"] * 4
    source = data.texts(texts, np.float32([100, 900, 500, 700] * 4), tokenizer=tmp_path, length=8)
    model = jaxdl.create("bert_tiny", 1, vocabulary=len(PIECES), width=8, longest=12, pool="pooler")
    trained = jaxdl.pretrain(model, source, jaxdl.Plan(epochs=2, batch_size=8))
    assert trained.card.targets["scaling"][1] > 100
    place = jaxdl.export(trained, tmp_path / "out").parent
    theirs = library("transformers").AutoModelForSequenceClassification.from_pretrained(place).eval()
    word_pieces(place)
    expected = jaxdl.predict(trained, data.texts(texts[:4])).outputs
    np.testing.assert_allclose(logits_of(theirs, tokens_of(place, texts[:4])), expected, rtol=1e-4)


def test_words_are_given_to_a_converted_network_as_lists(tmp_path):
    published(tmp_path, "BertForTokenClassification", id2label=dict(enumerate(TAGS)))
    converted = convert(tmp_path).checkpoint
    checkpoint = jaxdl.restore(jaxdl.save(converted, tmp_path / "checkpoint"))
    assert checkpoint.card == converted.card
    assert isinstance(checkpoint.task, TokenClassification)
    assert checkpoint.card.preprocessing.describe() == "up to 13 words of 12 tokens together"
    found = jaxdl.predict(checkpoint, SENTENCES)
    assert [len(tags) for tags in found.predicted] == [3, 1, 7]
    again = jaxdl.predict(checkpoint, [" ".join(words) for words in SENTENCES])
    assert list(again.predicted) == list(found.predicted)


@pytest.mark.slow
def test_tags_without_names_are_no_task(tmp_path):
    published(tmp_path, "BertForTokenClassification", num_labels=3)
    converted = convert(tmp_path).checkpoint
    assert converted.card.task is None
    with pytest.raises(
        InputError, match=r"have no names: convert it with these \(--class-names FILE, in Python names="
    ):
        jaxdl.predict(converted, TEXTS)
    assert convert(tmp_path, names=TAGS).checkpoint.task == TokenClassification(TAGS)
    held = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(held | {"id2label": {"0": "O", "1": "B-LOC", "2": "I-LOC"}}))
    assert convert(tmp_path).checkpoint.task == TokenClassification(TAGS)
