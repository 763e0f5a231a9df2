"""The picture is read back with Pillow and its text from the SVG."""

import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jaxdl.errors import InputError
from jaxdl.report.show import mixture, write_show


def blocks(number, height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, height, width, channels)).astype(np.float32) / 255


def texts(path):
    """All texts of an SVG, by their place from above."""
    found = []
    for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text"):
        place = re.search(r"(?:translate\(([\d.]+) ([\d.]+)\)|)", element.get("transform", ""))
        x, y = element.get("x") or place.group(1), element.get("y") or place.group(2)
        found.append((float(y), float(x), "".join(element.itertext())))
    return [text for *_, text in sorted(found)]


def contains(picture, image):
    """Whether `image` is in `picture` with each of its pixels enlarged to a square of one colour."""
    side = max(1, round(150 / max(image.shape[:2])))
    large = np.round(np.kron(image, np.ones((side, side, 1))) * 255).astype(int)
    pixels = picture.astype(int)
    first = np.argwhere((np.abs(pixels - large[0, 0]) <= 1).all(-1))
    for y, x in first:
        part = pixels[y : y + len(large), x : x + large.shape[1]]
        if part.shape == large.shape and np.abs(part - large).max() <= 1:
            return True
    return False


def test_mixtures_read_well():
    assert mixture("cat", "dog", 0.7) == "cat (0.70) + dog (0.30)"
    assert mixture("cat", "cat", 1.0) == mixture("cat", "dog", 0.9999) == "cat"


@pytest.mark.parametrize(("shape", "number"), [((8, 8, 1), 5), ((20, 32, 3), 2)])
def test_all_images_are_in_the_picture_pixel_by_pixel(tmp_path, shape, number):
    before, after = blocks(number, *shape), blocks(number, *shape, seed=1)
    path = write_show(tmp_path / "a b.png", before, after, ["x"] * number, ["y (0.5) + z (0.5)"] * number, title="T")
    picture = np.asarray(Image.open(path).convert("RGB"))
    for image in (*before, *after):
        assert contains(picture, np.broadcast_to(image, (*shape[:2], 3)))
    assert not contains(picture, blocks(1, *shape[:2], 3, seed=2)[0])
    assert [p.name for p in tmp_path.iterdir()] == ["a b.png"]


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_shown_as_told(tmp_path, channels):
    images = blocks(1, 10, 10, channels)
    path = write_show(tmp_path / "a.png", images, images, [""], [""], title="")
    seen = images[0, ..., :3] if channels == 4 else np.repeat(images[0].mean(-1, keepdims=True), 3, -1)
    assert contains(np.asarray(Image.open(path).convert("RGB")), seen)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (600, 300), (3, 200), (500, 2)])
def test_images_of_all_sizes_make_pictures_of_bearable_size(tmp_path, height, width):
    images = blocks(9, height, width, 3)
    path = write_show(tmp_path / "a.png", images, images, ["a"] * 9, ["a"] * 9, title="T")
    wide, tall = Image.open(path).size
    assert 400 < wide < 2500
    assert 150 < tall < 2500


def test_labels_are_shown_once_and_in_their_order(tmp_path):
    images = blocks(3, 8, 8, 1)
    old, new = ["cat", "dog", "bird"], ["cat (0.70) + dog (0.30)", "dog", "bird (0.50) + cat (0.50)"]
    said = texts(write_show(tmp_path / "a.svg", images, images, old, new, title="T & U", subtitle="below"))
    assert said[:2] == ["T & U", "below"]
    expected = ["cat (0.70)", "bird (0.50)", "cat", "+ dog (0.30)", "dog", "bird", "+ cat (0.50)"]
    assert [text for text in said[2:] if text != "→"] == expected
    assert said.count("→") == 3


NAMES = ["кошки", "猫", "قطط", "🐈", "$x$", "a\nb", "<b>&amp;", "\udcff\x00", "", "n" * 300, "猫" * 100]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_names_of_every_script_are_drawn_without_a_word(tmp_path, ending, caplog):
    images = blocks(len(NAMES), 8, 8, 3)
    mixed = [mixture(name, other, 0.5) for name, other in zip(NAMES, reversed(NAMES), strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_show(tmp_path / f"a.{ending}", images, images, NAMES, mixed, title="猫 $", subtitle="кот")
    assert not caplog.records
    if ending == "svg":
        said = texts(path)
        assert {"кошки", "猫", "$x$", "a b", "<b>&amp;", "猫 $", "кот"} <= set(said)
        assert max(map(len, said)) < 40
        assert any(text.startswith("nnn") and text.endswith("nnn") and "…" in text for text in said)
        assert any(text.startswith("+ nnn") and text.endswith("(0.50)") for text in said)
    else:
        assert Image.open(path).size[0] < 2500


def test_what_cannot_be_drawn_is_refused(tmp_path):
    images = blocks(2, 8, 8, 1)
    draw = lambda path="a.png", after=images, labels=("a", "b"): write_show(  # noqa: E731
        tmp_path / path, images, after, labels, labels, title="T"
    )
    for options, said in [
        ({"path": "a.jpg"}, "'a.jpg' does not end in .png or .svg"),
        ({"path": "no/a.png"}, "there is no folder"),
        ({"after": images[:1]}, "expected one shape"),
        ({"labels": ("a",)}, "2 images, 1 and 1 label"),
    ]:
        with pytest.raises(InputError, match=said):
            draw(**options)
    assert not list(tmp_path.iterdir())
