"""Images of 10, 12 or 14 bits, stored with 16: their levels are kept, alike for all images and at prediction."""

import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing, parse_preprocessing
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)


def fill(root, largest, *, suffix=".png", count=3, dark=False):
    """Images of two classes; with `dark` all but one are much darker than the largest value."""
    held = []
    for name in "ab":
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            pixels = RNG.integers(0, largest // 50 if dark else largest + 1, (6, 8)).astype(np.uint16)
            held.append(pixels)
    held[-1][0, 0] = largest
    for i, pixels in enumerate(held):
        Image.fromarray(pixels).save(root / "ab"[i // count] / f"{i}{suffix}")
    return np.stack(held)


@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (1000, 10), (3971, 12), (4095, 12), (4096, 14), (65535, 16)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_levels_that_are_used_are_kept(tmp_path, largest, bits, suffix):
    held = fill(tmp_path, largest, suffix=suffix)
    source = data.folder(tmp_path)
    assert source.bits == bits
    made = np.stack([source[i]["x"][..., 0] for i in range(len(source))])
    np.testing.assert_array_equal(made, held >> (bits - 8))
    assert any(f"{largest:,}" in note for note in source.notes)
    np.testing.assert_array_equal(source.thumbnail(0, 4)[..., 0], made[0])
    assert data.subset(source, [0]).bits == bits


def test_one_bright_image_decides_for_all(tmp_path):
    fill(tmp_path, 4000, dark=True)
    assert data.folder(tmp_path).bits == 12


def test_images_of_8_bits_are_not_looked_into(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(RNG.integers(0, 256, (6, 8), np.uint8)).save(tmp_path / "a" / "0.png")
    source = data.folder(tmp_path)
    assert (source.bits, source.notes) == (None, ())


def test_what_has_32_bits_is_refused(tmp_path):
    Image.fromarray(np.full((6, 8), 70_000, np.int32)).save(tmp_path / "0.tif")
    with pytest.raises(InputError, match="70000"):
        data.images([tmp_path / "0.tif"])[0]


def test_new_images_are_read_as_those_of_the_training(tmp_path):
    """A dark image alone would be taken for one of fewer bits, and made bright."""
    fill(tmp_path / "train", 4000)
    (tmp_path / "new").mkdir()
    dark = RNG.integers(0, 900, (6, 8)).astype(np.uint16)
    Image.fromarray(dark).save(tmp_path / "new" / "0.png")
    source = data.folder(tmp_path / "train")
    trained = jaxdl.pretrain(jaxdl.create("mlp", 2, hidden=(3,)), source, jaxdl.Plan(epochs=1))
    assert trained.card.preprocessing.bits == 12
    jaxdl.save(trained, tmp_path / "run")
    restored = jaxdl.restore(tmp_path / "run")
    assert restored.card.preprocessing == trained.card.preprocessing
    new = data.load(tmp_path / "new", labelled=False)
    assert new.bits == 10
    expected = jaxdl.predict(restored, data.arrays((dark >> 4).astype(np.uint8)[None, ..., None])).logits
    np.testing.assert_allclose(jaxdl.predict(restored, new).logits, expected, atol=1e-6)


def test_cards_of_before_and_without_such_images_do_not_speak_of_it():
    plain = ImagePreprocessing((6, 8, 1)).plain()
    assert "bits" not in plain
    assert parse_preprocessing(plain).bits == 16
    deep = ImagePreprocessing((6, 8, 1), bits=12)
    assert parse_preprocessing(deep.plain()) == deep
    assert ">> 4" in deep.instructions()["prepare"][0]
    with pytest.raises(InputError, match="'11'"):
        ImagePreprocessing((6, 8, 1), bits=11)
