"""Examples as vectors: `jaxdl.embed`, and ``jaxdl embed``."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
from command_line import jaxdl_command, refused
from libraries import library, real_minilm
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.data.preprocessing.words import WordsPreprocessing
from jaxdl.errors import InputError
from jaxdl.weights.checkpoint import from_model

TEXTS = ["a good day", "bad days", "", "a good day", "a good day , a bad day , days and dias"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small BERT that takes the mean over tokens, with its tokenizer."""
    content = word_pieces(tmp_path_factory.mktemp("encoder"))
    model = jaxdl.create("bert_tiny", 2, vocabulary=len(PIECES), width=8, depth=1, num_heads=2, longest=16, pool="mean")
    return from_model(model, TextPreprocessing(content, 8))


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    """A network of images."""
    source = data.subset(data.digits(range(3)), np.arange(60))
    trained = jaxdl.pretrain(jaxdl.create("mlp", 3, hidden=(7,)), source, jaxdl.Plan(epochs=1))
    return jaxdl.restore(jaxdl.save(trained, tmp_path_factory.mktemp("seer") / "seer"))


def test_texts_become_the_features_of_the_network(encoder):
    with pytest.warns(UserWarning, match="longer than 8 tokens, and so cut: 1 of 5 texts"):
        vectors = jaxdl.embed(encoder, TEXTS, batch_size=2)
    assert (vectors.shape, vectors.dtype) == ((5, 8), np.float32)
    stored = encoder.card.preprocessing.load(data.texts(TEXTS))
    expected = encoder.model.apply(encoder.variables, stored, stop="head")
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    alone = jaxdl.embed(encoder, TEXTS[:1])
    np.testing.assert_allclose(alone[0], vectors[0], atol=1e-6)
    assert np.abs(vectors[2]).max() > 0.01  # of the empty text: its marks
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01
    pair = jaxdl.embed(encoder, [("a good", "day"), ("bad", "days")])
    assert pair.shape == (2, 8)


def test_unit_length_is_asked_for_or_as_published(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, unit = (jaxdl.embed(encoder, TEXTS, normalise=asked) for asked in (None, True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)
    assert np.abs(np.linalg.norm(plain, axis=1) - 1).min() > 0.01


def test_any_checkpoint_gives_vectors_and_any_source_is_taken(seer):
    source = data.subset(data.digits(range(3)), np.arange(10))
    features = jaxdl.extract_features(seer, source)
    np.testing.assert_array_equal(jaxdl.embed(seer, source), features)
    images = np.stack([source[i]["x"] for i in range(10)])
    np.testing.assert_array_equal(jaxdl.embed(seer, images), features)


def test_what_cannot_be_embedded_is_refused(encoder, seer):
    with pytest.raises(InputError, match="the text at index 1 is None"):
        jaxdl.embed(encoder, ["a", None])
    with pytest.raises(InputError, match="there are no texts"):
        jaxdl.embed(encoder, [])
    with pytest.raises(InputError, match="some examples are one text and some are two"):
        jaxdl.embed(encoder, ["a", ("a", "day")])
    with pytest.raises(InputError, match="the network takes text of up to 8 tokens"):
        jaxdl.embed(encoder, data.digits())
    with pytest.raises(InputError, match="texts holds text; the network was made for uint8 images"):
        jaxdl.embed(seer, data.texts(TEXTS))
    with pytest.raises(InputError, match="checkpoint"):
        jaxdl.embed(encoder.model, TEXTS)


def test_the_command_writes_a_file_that_other_commands_read(seer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = jaxdl_command(f"embed --checkpoint {seer.path} --data digits:0-2 --out vectors.npz")
    assert "537 vectors of 7 numbers in" in said
    read, source = data.load("vectors.npz"), data.digits(range(3))
    np.testing.assert_array_equal(read.x, jaxdl.embed(seer, source))
    np.testing.assert_array_equal(read.targets(), source.targets())
    assert read.class_names == source.class_names
    jaxdl_command(f"embed --checkpoint {seer.path} --data digits:0-2 --normalise yes --out unit.npz")
    np.testing.assert_allclose(np.linalg.norm(data.load("unit.npz").x, axis=1), 1, atol=1e-5)
    assert "it was left as it is" in refused(f"embed --checkpoint {seer.path} --data digits --out vectors.npz")
    assert "does not end in .npz" in refused(f"embed --checkpoint {seer.path} --data digits --out vectors.csv")
    assert "is the head itself" in refused(f"embed --checkpoint {seer.path} --data digits --stage head --out a.npz")


def test_a_stage_of_several_arrays_is_refused_and_those_of_one_are_named(tmp_path):
    content, arguments = word_pieces(tmp_path), {"vocabulary": 14, "width": 4, "features": 2}
    reader = from_model(jaxdl.create("lstm", 2, **arguments), TextPreprocessing(content, 8), ["a", "b"])
    with pytest.raises(InputError, match="'layer1'; expected one, as of pool: name") as refusal:
        jaxdl.embed(reader, ["good day"], stage="layer1")
    (named,) = re.findall(r"as of (\w+):", str(refusal.value))
    assert jaxdl.embed(reader, ["good day"], stage=named).shape == (1, 4)
    model = jaxdl.create("lstm", 2, pool="none", **arguments)
    tagger = from_model(model, WordsPreprocessing(content, 8), ["O", "B-X"])
    with pytest.raises(InputError, match="'pool'; expected one, which no stage here gives"):
        jaxdl.embed(tagger, [["good", "day"]])


@pytest.mark.slow
def test_real_embeddings_are_those_of_transformers(tmp_path, recwarn):
    place, torch, transformers = real_minilm(), library("torch"), library("transformers")
    checkpoint = jaxdl.convert(place).checkpoint
    texts = ["A man is eating food.", "Someone eats a meal.", "", "日本語 and ÜMLAUTS!", "word " * 300]
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        states = transformers.BertModel.from_pretrained(place).eval()(**encoded).last_hidden_state
    weights = encoded["attention_mask"][..., None]
    means = (states * weights).sum(1) / weights.sum(1)
    expected = torch.nn.functional.normalize(means, dim=1).numpy()
    np.testing.assert_allclose(jaxdl.embed(checkpoint, texts), expected, atol=1e-4)
    np.testing.assert_allclose(jaxdl.embed(checkpoint, texts, normalise=False), means.numpy(), atol=1e-4)
    assert "1 of 5 texts" in str(recwarn.list[0].message)
    back = jaxdl.convert(jaxdl.export(checkpoint, tmp_path / "out").parent).checkpoint
    assert back.card.normalise


@pytest.mark.slow
def test_modules_after_the_pooling_are_followed_or_refused(tmp_path):
    place = shutil.copytree(real_minilm(), tmp_path / "model")
    modules = json.loads((place / "modules.json").read_text())
    (place / "modules.json").write_text(json.dumps(modules[:2]))
    checkpoint = jaxdl.convert(place).checkpoint
    assert not checkpoint.card.normalise
    assert abs(np.linalg.norm(jaxdl.embed(checkpoint, ["A man is eating food."])) - 1) > 0.1
    dense = modules[0] | {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (place / "modules.json").write_text(json.dumps([*modules[:2], dense]))
    with pytest.raises(InputError, match="has the module Dense"):
        jaxdl.convert(place)
    (place / "modules.json").unlink()
    assert not jaxdl.convert(place).checkpoint.card.normalise
