"""Every modality's preprocessing keeps one contract."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from source_contract import Own, assert_trees_equal, row
from word_pieces import word_pieces

from jaxdl import data
from jaxdl.data.preprocessing import (
    PREPROCESSINGS,
    ColumnsPreprocessing,
    ImagePreprocessing,
    RawPreprocessing,
    TablePreprocessing,
    TextPreprocessing,
    WordsPreprocessing,
    choose_preprocessing,
    nbytes,
    parse_preprocessing,
)
from jaxdl.data.stream import EvaluationOrder, measure, stream
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)
COUNT = 9
IMAGES = RNG.integers(0, 256, (COUNT, 6, 8, 3), dtype=np.uint8)
NUMBERS = RNG.normal(3, 2, (COUNT, 5))
Y = np.arange(COUNT, dtype=np.int32) % 2
TOKENS = {"ids": RNG.integers(0, 99, (COUNT, 7)), "about": {"mask": RNG.random((COUNT, 7)) > 0.5}}


WORDS = [" ".join(RNG.choice(["a", "good", "day", "bad", "días"], count)) for count in range(COUNT)]  # and an empty one


COLUMNS = ColumnsPreprocessing(tuple("abcde"), ((),) * 5, (False,) * 5)


def own(x, name="own"):
    return Own([{"x": row(x, i), "y": Y[i]} for i in range(COUNT)], name=name)


def files(folder):
    for i in range(COUNT):
        place = folder / "ab"[Y[i]]
        place.mkdir(parents=True, exist_ok=True)
        image = RNG.integers(0, 256, (5 + i, 12 - i) if i % 3 == 0 else (5 + i, 12 - i, 3), dtype=np.uint8)
        Image.fromarray(image).save(place / f"{i}.png")
    return data.folder(folder)


KINDS = {
    "images in memory": lambda _: (data.arrays(IMAGES, Y), ImagePreprocessing((6, 8, 3))),
    "images to be resized": lambda _: (
        data.arrays(IMAGES, Y),
        ImagePreprocessing((4, 4, 1), interpolation="bicubic", crop_fraction=0.875, crop_mode="squash"),
    ),
    "image files": lambda folder: (files(folder / "images"), ImagePreprocessing((6, 5, 3), crop_fraction=0.9)),
    "one's own images": lambda _: (own(IMAGES), ImagePreprocessing((6, 8, 3))),
    "numbers in memory": lambda _: (data.arrays(NUMBERS, Y), TablePreprocessing((5,))),
    "one's own numbers": lambda _: (own(NUMBERS), TablePreprocessing((5,))),
    "one's own whole numbers": lambda _: (own((NUMBERS * 9).astype(np.int64)), TablePreprocessing((5,))),
    "columns": lambda _: (data.arrays(NUMBERS, Y), COLUMNS),
    "maps of floats": lambda _: (data.arrays(IMAGES / 255, Y), TablePreprocessing((6, 8, 3))),
    "dicts in memory": lambda _: (data.Arrays(TOKENS, Y), RawPreprocessing.of(own(TOKENS))),
    "one's own dicts": lambda _: (own(TOKENS), RawPreprocessing.of(own(TOKENS))),
    "texts": lambda folder: (data.texts(WORDS, Y), TextPreprocessing(word_pieces(folder), 7)),
    "pairs of texts": lambda folder: (
        data.texts([(text, text[::-1]) for text in WORDS], Y),
        TextPreprocessing(word_pieces(folder), 9, types=True),
    ),
    "words": lambda folder: (
        data.Tagged([text.split() for text in WORDS], Y[:, None]),
        WordsPreprocessing(word_pieces(folder), 11),
    ),
    "a bare array": lambda _: (own(NUMBERS), RawPreprocessing((("", (5,), "float64"),))),
}
FITTING = [kind for kind in KINDS if not any(word in kind for word in ("dicts", "bare", "texts", "words"))]


@pytest.fixture(params=KINDS)
def case(request, tmp_path):
    return KINDS[request.param](tmp_path)


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (tuple(leaf.shape), np.dtype(leaf.dtype)), tree)


def fitted(preprocessing, stored, indices):
    return preprocessing.with_constants(preprocessing.fit(preprocessing.measure(stored), indices))


def test_stored_loaded_and_streamed_are_the_same(case):
    source, preprocessing = case
    preprocessing.check(source)
    loaded = preprocessing.load(source)
    for i in range(COUNT):
        stored = preprocessing.stored(source[i])
        assert sorted(stored) == ["x", "y"]
        assert stored["y"] == source[i]["y"]
        assert_trees_equal(stored["x"], row(loaded, i))
        assert shapes_of(stored["x"]) == shapes_of(preprocessing.stored_spec())
    order = np.array([8, 0, 3, 4, 1, 7])
    batches = list(stream(source, preprocessing, EvaluationOrder((order,), 3), range(1)))
    assert len(batches) == 2
    for step, batch in enumerate(batches):
        rows = order[3 * step : 3 * step + 3]
        assert_trees_equal(batch["x"], row(loaded, rows))
        np.testing.assert_array_equal(batch["y"], source.targets()[rows])
    assert_trees_equal(preprocessing.load(source.take(order)), row(loaded, order))
    assert nbytes(preprocessing) * COUNT == sum(leaf.nbytes for leaf in jax.tree.leaves(loaded))


def test_the_network_is_fed_what_spec_says(case):
    source, preprocessing = case
    loaded = preprocessing.load(source)
    ready = fitted(preprocessing, loaded, np.arange(COUNT))
    fed = ready.network_input(row(loaded, np.arange(4)))
    assert shapes_of(fed) == jax.tree.map(lambda one: ((4, *one.shape), np.dtype(one.dtype)), ready.spec())
    inside = jax.jit(ready.on_device)(row(loaded, np.arange(4)), ready.constants)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), fed, inside)
    for leaf in jax.tree.leaves(preprocessing.spec()):
        assert "×".join(map(str, leaf.shape)) in preprocessing.describe()


def test_a_card_gives_it_back(case):
    source, preprocessing = case
    for one in (preprocessing, fitted(preprocessing, preprocessing.load(source), np.array([1, 4]))):
        again = parse_preprocessing(json.loads(json.dumps(one.plain())))
        assert again == one
        assert type(again) is type(one) is PREPROCESSINGS[one.plain()["modality"]]
        assert hash(again) == hash(one)
        assert again.unfitted() == preprocessing


@pytest.mark.parametrize("kind", FITTING)
def test_what_is_fitted_comes_from_the_part_alone(tmp_path, kind):
    source, preprocessing = KINDS[kind](tmp_path)
    assert not preprocessing.fitted
    with pytest.raises(InputError, match="fitted"):
        preprocessing.network_input(preprocessing.load(source))
    x = preprocessing.load(source)
    part, rest = np.array([7, 2, 4]), np.array([0, 1, 3, 5, 6, 8])
    unit = 255 if x.dtype == np.uint8 else 1
    flat = x[part].astype(np.float64).reshape(-1, x.shape[-1]) / unit
    found = preprocessing.fit(preprocessing.measure(x), part)
    np.testing.assert_allclose(found["mean"], flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], flat.std(0), rtol=1e-4)
    poisoned = x.copy()
    poisoned[rest] = 255
    sums = preprocessing.measure(x)
    for name in sums:
        sums[name][rest] = np.nan
    for other in (
        preprocessing.fit(preprocessing.measure(poisoned), part),
        preprocessing.fit(preprocessing.measure(x[part]), np.arange(3)),
        preprocessing.fit(sums, part),
        preprocessing.fit(measure(source, preprocessing, part), part),
    ):
        assert_trees_equal(dict(other), dict(found))
    assert (preprocessing.fit(preprocessing.measure(poisoned), np.arange(COUNT))["mean"] != found["mean"]).all()
    ready = preprocessing.with_constants(found)
    assert ready.fitted
    assert_trees_equal(dict(ready.constants), dict(found))
    fed = np.asarray(ready.network_input(x[part])).reshape(-1, x.shape[-1])
    np.testing.assert_allclose(fed.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(fed.std(0), 1, rtol=1e-4)


def test_raw_arrays_fit_nothing_and_are_not_changed():
    source, preprocessing = KINDS["one's own dicts"](None)
    assert preprocessing.fitted
    assert measure(source, preprocessing) == preprocessing.measure(preprocessing.load(source)) == {}
    assert preprocessing.fit({}, np.arange(3)) == {}
    fed = preprocessing.network_input(preprocessing.load(source))
    np.testing.assert_array_equal(fed["ids"], TOKENS["ids"])
    np.testing.assert_array_equal(fed["about"]["mask"], TOKENS["about"]["mask"])


@pytest.mark.parametrize(("value", "dtype"), [(2**31, np.int64), (-(2**40), np.int64), (2**33, np.uint64)])
def test_whole_numbers_that_the_device_cannot_hold_are_refused(value, dtype):
    source = Own([{"x": {"ids": np.array([1, n], dtype)}} for n in (5, value)], name="mine")
    with pytest.raises(InputError, match=f"(?s)example 1 of mine.*{value}"):
        RawPreprocessing.of(source).load(source)


SOURCES = {"images": data.arrays(IMAGES), "numbers": data.arrays(NUMBERS), "dicts": data.Arrays(TOKENS)}


@pytest.mark.parametrize("kind", SOURCES)
def test_texts_and_others_are_told_apart(kind, tmp_path):
    reads = TextPreprocessing(word_pieces(tmp_path), 7)
    with pytest.raises(InputError, match=r"the network takes text of up to 7 tokens"):
        reads.load(SOURCES[kind])
    other = choose_preprocessing(SOURCES[kind], None, 224)
    with pytest.raises(InputError, match="texts"):
        other.load(data.texts(WORDS))


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("other", SOURCES)
def test_another_modality_is_refused_at_a_glance(kind, other):
    chosen = choose_preprocessing(SOURCES[kind], None, 224)
    chosen.check(SOURCES[kind])
    if kind == other:
        return
    for use in (chosen.check, chosen.load):
        with pytest.raises(InputError, match=SOURCES[other].name):
            use(SOURCES[other])


def test_a_source_may_bring_its_own():
    brought = ImagePreprocessing((4, 4, 3), crop_mode="squash")
    source = Own([{"x": image} for image in IMAGES], preprocessing=brought)
    assert choose_preprocessing(source, None, 224) is brought
    assert choose_preprocessing(source.take(np.arange(2)), 5, 224) == ImagePreprocessing((5, 5, 3), crop_mode="squash")


BEFORE = {"interpolation": "bicubic", "crop_fraction": 0.875, "crop_mode": "squash"}


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (
            {"input_shape": [8, 8, 3], "kind": "uint8", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.1, 0.3], **BEFORE},
            ImagePreprocessing((8, 8, 3), (0.5, 0.4, 0.3), (0.2, 0.1, 0.3), "bicubic", 0.875, "squash"),
        ),
        ({"input_shape": [8, 8, 1], "kind": "uint8", "mean": None, "std": None}, ImagePreprocessing((8, 8, 1))),
        (
            {"input_shape": [2], "kind": "float32", "mean": [0.5, -4.0], "std": [0.2, 1.0], **BEFORE},
            TablePreprocessing((2,), (0.5, -4.0), (0.2, 1.0)),
        ),
        ({"input_shape": [4, 4, 1], "kind": "float32", "mean": None, "std": None}, TablePreprocessing((4, 4, 1))),
    ],
)
def test_cards_of_before_are_read(card, expected):
    assert parse_preprocessing(card) == expected
    assert parse_preprocessing(expected.plain()) == expected


@pytest.mark.parametrize(
    "card",
    [
        {"input_shape": [8, 8, 3], "kind": "int8"},
        {"input_shape": [8, 8, 3], "modality": "sound"},
        {"input_shape": [8, 8, 3]},
        {"input_shape": [8], "kind": "uint8"},
    ],
)
def test_cards_that_cannot_be_are_refused(card):
    with pytest.raises(InputError, match=r"modality|input_shape"):
        parse_preprocessing(card)
