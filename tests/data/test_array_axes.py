"""How the axes of arrays are read, and what a user may give to be predicted."""

import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_images_with_channels_first_are_turned_and_said(bands):
    first = RNG.integers(0, 256, (5, bands, 6, 8), np.uint8)
    source = data.arrays(first, np.arange(5) % 2)
    np.testing.assert_array_equal(source.x, first.transpose(0, 2, 3, 1))
    assert "'last'" in source.notes[0]
    np.testing.assert_array_equal(data.arrays(first, channels="last").x, first)
    assert data.subset(source, [1]).notes == source.notes


@pytest.mark.parametrize("shape", [(5, 6, 8, 3), (5, 3, 8, 3), (5, 3, 3, 3), (5, 6, 8, 7), (5, 6, 8)])
def test_images_with_channels_last_are_left_as_they_are(shape):
    x = RNG.integers(0, 256, shape, np.uint8)
    source = data.arrays(x)
    np.testing.assert_array_equal(source.x, x.reshape(source.x.shape))
    assert source.notes == ()


def test_masks_belong_to_the_turned_image():
    x = RNG.integers(0, 256, (4, 3, 6, 8), np.uint8)
    y = RNG.integers(0, 2, (4, 6, 8), np.uint8)
    assert data.arrays(x, y).spec()["y"].shape == (6, 8)


def test_floats_are_left_as_they_are_and_said():
    x = RNG.normal(size=(5, 3, 6, 8)).astype(np.float32)
    source = data.arrays(x)
    np.testing.assert_array_equal(source.x, x)
    assert "'first'" in source.notes[0]
    np.testing.assert_array_equal(data.arrays(x, channels="first").x, x.transpose(0, 2, 3, 1))
    assert "uint16" in data.arrays(RNG.integers(0, 4096, (5, 6, 8, 1)).astype(np.uint16)).notes[0]


def test_what_is_said_in_a_file_is_obeyed(tmp_path):
    x = RNG.integers(0, 256, (5, 3, 6, 8), np.uint8)
    np.savez(tmp_path / "last.npz", x=x, channels="last")
    assert data.npz(tmp_path / "last.npz").x.shape == x.shape
    np.savez(tmp_path / "auto.npz", x=x)
    assert data.npz(tmp_path / "auto.npz").x.shape == (5, 6, 8, 3)
    with pytest.raises(InputError, match=r"'frist'.*first"):
        data.arrays(x, channels="frist")
    with pytest.raises(InputError, match="leave it out"):
        data.arrays(x[:, 0, 0], channels="first")


def test_a_single_image_is_asked_about():
    one = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"x\[None\]"):
        data.arrays(one)
    assert data.arrays(one[None]).x.shape == (1, 6, 8, 3)
    assert data.arrays(one[..., None]).x.shape == (6, 8, 3, 1)


@pytest.fixture(scope="module")
def network():
    preprocessing = ImagePreprocessing((6, 8, 3), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    return jaxdl.from_model(jaxdl.create("mlp", 2, hidden=(3,)), preprocessing, ("a", "b"))


def test_arrays_and_paths_are_predicted(network, tmp_path):
    x = RNG.integers(0, 256, (4, 6, 8, 3), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, pixels in zip(paths, x, strict=True):
        Image.fromarray(pixels).save(path)
    expected = jaxdl.predict(network, data.arrays(x)).logits
    for given in (x, x.transpose(0, 3, 1, 2), list(x), paths, [str(path) for path in paths], tmp_path, str(tmp_path)):
        np.testing.assert_allclose(jaxdl.predict(network, given).logits, expected, atol=1e-6)
    named = jaxdl.predict(network, paths[1:2])
    assert named.names == (str(paths[1]),)
    np.testing.assert_allclose(jaxdl.predict(network, paths[1]).logits, expected[1:2], atol=1e-6)
    np.testing.assert_allclose(jaxdl.ensemble([network, network]).predict(x).predicted, expected.argmax(-1))


@pytest.mark.parametrize("given", [None, 3, [], {"x": np.zeros((2, 6, 8, 3), np.uint8)}])
def test_what_is_no_source_is_refused(network, given):
    with pytest.raises(InputError, match=r"expected"):
        jaxdl.predict(network, given)
