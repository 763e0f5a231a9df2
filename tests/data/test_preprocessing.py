"""From what is stored to what a network is fed, against Pillow and numpy."""

import dataclasses
import importlib
import importlib.util

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing, TablePreprocessing, choose_preprocessing, normalise
from jaxdl.data.preprocessing.image import resize_and_crop
from jaxdl.data.source import Arrays
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize(("interpolation", "method"), [("bilinear", 2), ("bicubic", 3)])
@pytest.mark.parametrize(
    ("shape", "fraction", "scaled", "corner"),  # scaled and corner are (width, height) and (left, top)
    [
        ((15, 15), 1.0, (25, 15), (5, 0)),
        ((60, 60), 1.0, (100, 60), (20, 0)),
        ((28, 28), 0.875, (53, 32), (12, 2)),  # shorter side 32, of which 28 are kept
        ((20, 50), 1.0, (50, 30), (0, 5)),
        ((30, 50), 0.5, (100, 60), (25, 15)),  # the size is right, but half of it is asked for
        ((10, 40), 1.0, (40, 24), (0, 7)),
    ],
)
def test_resize_and_crop_as_pillow(interpolation, method, shape, fraction, scaled, corner):
    preprocessing = ImagePreprocessing((*shape, 3), interpolation=interpolation, crop_fraction=fraction)
    (left, top), (height, width) = corner, shape
    resized = Image.fromarray(PHOTO).resize(scaled, method)
    expected = np.asarray(resized.crop((left, top, left + width, top + height)))
    np.testing.assert_array_equal(resize_and_crop(PHOTO, preprocessing), expected)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 40)] * 4, st.sampled_from([1, 3, 4]), st.floats(0.3, 1))
def test_any_size_becomes_the_networks(height, width, tall, wide, channels, fraction):
    image = np.full((height, width, channels), 77, np.uint8)
    out = resize_and_crop(image, ImagePreprocessing((tall, wide, channels), crop_fraction=fraction))
    assert out.shape == (tall, wide, channels)
    assert out.dtype == np.uint8
    assert (out == 77).all()  # nothing is made up at the border


def test_an_image_of_the_right_size_is_not_touched():
    assert resize_and_crop(PHOTO, ImagePreprocessing((30, 50, 3))) is PHOTO


def test_the_crop_is_in_the_centre():
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 32, axis=0)  # each pixel says its column
    out = resize_and_crop(ramp, ImagePreprocessing((32, 32, 1)))
    np.testing.assert_array_equal(out[0, :, 0], np.arange(16, 48))


def test_grey_to_colour_and_back():
    grey = PHOTO[..., :1]
    coloured = resize_and_crop(grey, ImagePreprocessing((30, 50, 3)))
    np.testing.assert_array_equal(coloured, np.repeat(grey, 3, axis=-1))
    greyed = resize_and_crop(PHOTO, ImagePreprocessing((30, 50, 1)))
    luma = PHOTO @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(greyed[..., 0], luma, atol=1)
    back = resize_and_crop(coloured, ImagePreprocessing((30, 50, 1)))
    np.testing.assert_allclose(back.astype(int), grey, atol=1)
    small = resize_and_crop(grey, ImagePreprocessing((15, 15, 3)))
    expected = np.asarray(Image.fromarray(PHOTO[..., 0]).resize((25, 15), 2))[:, 5:20]
    np.testing.assert_array_equal(small, np.repeat(expected[..., None], 3, axis=-1))


def test_other_bands_are_resized_each_on_its_own():
    bands = RNG.integers(0, 256, (12, 16, 5), dtype=np.uint8)
    out = resize_and_crop(bands, ImagePreprocessing((6, 6, 5)))
    for band in range(5):
        expected = np.asarray(Image.fromarray(bands[..., band]).resize((8, 6), 2))[:, 1:7]
        np.testing.assert_array_equal(out[..., band], expected)


@pytest.mark.parametrize(
    ("image", "shape", "message"),
    [
        (PHOTO[..., :2], (8, 8, 3), "2 channels.* 3"),
        (PHOTO, (8, 8, 4), "3 channels.* 4"),
        (PHOTO.astype(np.float32), (30, 50, 3), r"an example is float32\[30, 50, 3\]"),
        (PHOTO[..., 0], (30, 50, 1), r"an example is uint8\[30, 50\]"),
    ],
)
def test_what_is_no_image_for_the_network_is_refused(image, shape, message):
    with pytest.raises(InputError, match=message):
        resize_and_crop(image, ImagePreprocessing(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "bicubik"}, "interpolation 'bicubik'.*'bicubic'"),
        ({"crop_mode": "centre"}, "crop_mode 'centre'.*'center'"),
        ({"input_shape": (8, 3)}, r"input_shape is \(8, 3\)"),
        ({"input_shape": ()}, r"input_shape is \(\)"),
        ({"input_shape": (8, 0, 3)}, r"input_shape is \(8, 0, 3\)"),
        ({"input_shape": (8, 8.5, 3)}, "input_shape is"),
        ({"crop_fraction": 0.0}, r"crop_fraction is 0\.0"),
        ({"crop_fraction": 1.5}, r"crop_fraction is 1\.5"),
        ({"std": None}, "std None"),
        ({"mean": (0.5,)}, r"mean is \(0\.5,\).* 3 numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean is"),
        ({"std": (0.5, 0.0, 0.5)}, r"std is \(0\.5, 0\.0, 0\.5\)"),
    ],
)
def test_preprocessing_that_cannot_be(change, message):
    fine = ImagePreprocessing((8, 8, 3), (0.5,) * 3, (0.2,) * 3)
    assert fine.fitted
    assert not ImagePreprocessing((8, 8, 3)).fitted
    with pytest.raises(InputError, match=message):
        dataclasses.replace(fine, **change)


class Lazy(data.Source):
    """A source of one's own, which gives its examples one by one."""

    name = "lazy"

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return {"x": self.examples[index]}


def _saved(folder, sizes):
    for i, (height, width) in enumerate(sizes):
        place = folder / "ab"[i % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return data.folder(folder)


def test_all_in_memory(tmp_path):
    source = _saved(tmp_path, [(6, 6), (4, 9), (8, 5)])
    made = ImagePreprocessing((4, 4, 1)).load(source)
    assert made.shape == (3, 4, 4, 1)
    for i in range(3):
        np.testing.assert_array_equal(made[i], resize_and_crop(source[i]["x"], ImagePreprocessing((4, 4, 1))))
    part = ImagePreprocessing((4, 4, 1)).load(data.subset(source, [2, 0]))
    np.testing.assert_array_equal(part, made[[2, 0]])


def test_arrays_that_fit_are_taken_as_they_are():
    digits = data.digits()
    assert ImagePreprocessing((8, 8, 1)).load(digits) is digits.x
    assert ImagePreprocessing((16, 16, 3)).load(digits).shape == (1797, 16, 16, 3)
    zoomed = ImagePreprocessing((8, 8, 1), crop_fraction=0.5).load(digits)
    assert zoomed.shape == digits.x.shape
    assert (zoomed != digits.x).any()
    numbers = data.arrays(np.zeros((4, 3)))
    assert TablePreprocessing((3,)).load(numbers) is numbers.x


def test_numbers_that_come_one_by_one():
    rows = RNG.normal(size=(5, 3))
    source = Lazy(list(rows))
    assert choose_preprocessing(source, None, 224) == TablePreprocessing((3,))
    made = TablePreprocessing((3,)).load(source)
    np.testing.assert_array_equal(made, rows.astype(np.float32))
    part = TablePreprocessing((3,)).load(data.subset(source, [4, 1]))
    np.testing.assert_array_equal(part, rows[[4, 1]].astype(np.float32))


@pytest.mark.parametrize(
    ("source", "preprocessing", "message"),
    [
        (data.arrays(np.zeros((4, 3))), TablePreprocessing((5,)), r"\[3\]; .* \[5\]"),
        (data.arrays(np.zeros((4, 3))), ImagePreprocessing((8, 8, 1)), r"float32\[3\]; .* uint8 images"),
        (data.digits(), TablePreprocessing((64,)), r"uint8\[8, 8, 1\]; .* numbers of shape \[64\]"),
        (data.digits(), ImagePreprocessing((8, 8, 2)), "1 channel;.* 2"),
        (Lazy([PHOTO]), TablePreprocessing((30, 50, 3)), r"lazy holds uint8\[30, 50, 3\]"),
        (Lazy([np.zeros(3)]), ImagePreprocessing((3, 1, 1)), r"lazy holds float64\[3\]; .* uint8 images"),
        (Lazy([np.zeros(3), np.zeros(4)]), TablePreprocessing((3,)), r"example 1 of lazy .*\[4\]; .* \[3\]"),
        (Lazy([np.zeros(4)]), TablePreprocessing((3,)), r"lazy has .*\[4\]; .* \[3\]"),
        (Lazy([PHOTO, np.zeros((30, 50, 3))]), ImagePreprocessing((30, 50, 3)), r"example 1 of lazy is float64"),
        (Lazy([np.array(["red"])]), TablePreprocessing((1,)), "lazy holds text; .* float32 numbers"),
        (Lazy([np.zeros(1), np.array(["red"])]), TablePreprocessing((1,)), "example 1 of lazy"),
    ],
)
def test_data_of_another_kind_are_refused(source, preprocessing, message):
    with pytest.raises(InputError, match=message):
        preprocessing.load(source)


def test_images_are_not_mistaken_for_numbers(tmp_path):
    source = _saved(tmp_path, [(4, 4), (4, 4)])
    with pytest.raises(InputError, match="made for float32 numbers"):
        TablePreprocessing((4, 4, 3)).load(source)


def test_preprocessing_that_fits_the_data(tmp_path):
    assert choose_preprocessing(data.digits(), None, 224) == ImagePreprocessing((8, 8, 1))
    assert choose_preprocessing(data.digits(), 12, 224) == ImagePreprocessing((12, 12, 1))
    assert choose_preprocessing(data.arrays(np.zeros((2, 5))), None, 224) == TablePreprocessing((5,))
    assert choose_preprocessing(data.arrays(np.zeros((2, 5, 5, 2))), None, 224) == TablePreprocessing((5, 5, 2))
    with pytest.raises(InputError, match="image size"):
        choose_preprocessing(data.arrays(np.zeros((2, 5))), 8, 224)
    for name, sizes, expected in (("same", [(6, 7), (6, 7)], (6, 7, 3)), ("different", [(6, 7), (7, 6)], (24, 24, 3))):
        (tmp_path / name).mkdir()
        source = _saved(tmp_path / name, sizes)
        assert choose_preprocessing(source, None, 24).input_shape == expected
        assert choose_preprocessing(data.subset(source, [1, 0]), None, 24).input_shape == expected
    (tmp_path / "grey" / "a").mkdir(parents=True)
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "grey" / "a" / "0.png")
    assert choose_preprocessing(data.folder(tmp_path / "grey"), None, 24).input_shape == (30, 50, 1)
    Image.fromarray(PHOTO).save(tmp_path / "grey" / "a" / "1.png")
    mixed = data.folder(tmp_path / "grey")
    assert choose_preprocessing(mixed, None, 24).input_shape == (30, 50, 3)  # grey only if all are


@pytest.mark.parametrize(
    "x",
    [
        RNG.integers(0, 256, (9, 4, 5, 3), dtype=np.uint8),
        RNG.normal(3, 2, (9, 6)).astype(np.float32),
        RNG.normal(0, 1e-7, (9, 6)).astype(np.float32),  # in units far too large
        RNG.normal(1e4, 1, (9, 6)).astype(np.float32),
        RNG.normal(size=(9, 4, 5, 2)).astype(np.float32),
    ],
    ids=["images", "numbers", "tiny", "far_from_zero", "maps"],
)
def test_moments_of_a_part(x):
    chosen = np.array([7, 1, 2, 5])
    shape = x.shape[1:]
    preprocessing = ImagePreprocessing(shape) if x.dtype == np.uint8 else TablePreprocessing(shape)
    fitted = preprocessing.fit(preprocessing.measure(x), chosen)
    mean, std = fitted["mean"], fitted["std"]
    part = x[chosen].reshape(-1, x.shape[-1]).astype(np.float64) / (255 if x.dtype == np.uint8 else 1)
    np.testing.assert_allclose(mean, part.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, part.std(0), rtol=1e-4)
    assert mean.dtype == std.dtype == np.float32
    poisoned = x.copy()
    poisoned[[0, 3, 4, 6, 8]] = 255
    other = preprocessing.fit(preprocessing.measure(poisoned), chosen)
    for name in ("mean", "std"):
        np.testing.assert_array_equal(fitted[name], other[name])  # the others are not looked at

    out = np.asarray(normalise(jax.numpy.asarray(x[chosen]), mean, std)).reshape(-1, x.shape[-1])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(out.std(0), 1, rtol=2e-3)


@pytest.mark.parametrize("value", [0, 77, 255, 0.1, 1e6, -3e-5])
def test_a_constant_channel_is_not_made_loud(value):
    dtype = np.uint8 if isinstance(value, int) else np.float32
    x = RNG.integers(0, 256, (200, 5, 5, 3)).astype(dtype)
    x[..., 1] = value
    preprocessing = (ImagePreprocessing if dtype == np.uint8 else TablePreprocessing)((5, 5, 3))
    fitted = preprocessing.fit(preprocessing.measure(x), np.arange(200))
    mean, std = fitted["mean"], fitted["std"]
    assert std[1] == 1
    assert (std[[0, 2]] != 1).all()
    np.testing.assert_allclose(normalise(jax.numpy.asarray(x[:2]), mean, std)[..., 1], 0, atol=0.1)


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("interpolation", "number"), [("bilinear", 2), ("bicubic", 3)])
def test_images_are_prepared_as_torchvision_prepares_them(mode, interpolation, number):
    if importlib.util.find_spec("torchvision_cpu"):
        importlib.import_module("torchvision_cpu")
    transforms = pytest.importorskip("torchvision.transforms", reason="the reference is torchvision")
    side, fraction = 56, 0.875
    preprocessing = ImagePreprocessing(
        (side, side, 3), interpolation=interpolation, crop_fraction=fraction, crop_mode=mode
    )
    method = {2: transforms.InterpolationMode.BILINEAR, 3: transforms.InterpolationMode.BICUBIC}[number]
    theirs = transforms.Compose(
        [transforms.Resize(64 if mode == "center" else (64, 64), method), transforms.CenterCrop(side)]
    )
    for shape in ((75, 100), (333, 250), (57, 57), (30, 41), (64, 64)):
        image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
        np.testing.assert_array_equal(resize_and_crop(image, preprocessing), theirs(Image.fromarray(image)))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(75, 100, 3), (20, 20, 1), (24, 90, 4)])
def test_on_the_device_images_become_what_pillow_makes_of_them(monkeypatch, shape, interpolation, mode):
    channels = {3: 3, 1: 3, 4: 4}[shape[-1]]
    preprocessing = ImagePreprocessing(
        (28, 28, channels), interpolation=interpolation, crop_fraction=0.875, crop_mode=mode
    )
    x = RNG.integers(0, 256, (70, *shape), dtype=np.uint8)
    x[::2] = (x[::2] > 127) * 255  # black and white overshoot most
    source = Arrays(x, np.zeros(len(x), np.int32), ("a",))
    by_pillow = preprocessing.load(source)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_device = preprocessing.load(source)
    off = np.abs(on_device.astype(int) - by_pillow)
    assert off.max() <= 2
    assert (off > 0).mean() < 1e-2
