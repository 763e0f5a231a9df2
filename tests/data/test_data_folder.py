"""Folders of images: every kind of file that a photographer or a scanner leaves behind."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.data.folder import ImageFiles, image_shape, read_image
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
PALETTE = RNG.integers(0, 256, (16, 3), dtype=np.uint8)
INDEX = RNG.integers(0, 16, (5, 7), dtype=np.uint8)


def _palette():
    image = Image.new("P", (7, 5))
    image.putdata(INDEX.ravel().tolist())
    image.putpalette(PALETTE.ravel().tolist())
    return image


FILES = {  # name: image, options for saving, the pixels that must come out
    "grey.png": (Image.fromarray(GREY), {}, GREY[..., None]),
    "colour.png": (Image.fromarray(COLOUR), {}, COLOUR),
    "palette.png": (_palette(), {}, PALETTE[INDEX]),
    "palette_clear.png": (_palette(), {"transparency": 3}, PALETTE[INDEX]),
    "alpha.png": (Image.fromarray(np.dstack([COLOUR, ALPHA])), {}, COLOUR),
    "grey_alpha.png": (Image.fromarray(np.dstack([GREY, ALPHA])), {}, GREY[..., None]),
    "sixteen_bit.png": (Image.fromarray(DEEP), {}, (DEEP >> 8).astype(np.uint8)[..., None]),
    "two_levels.png": (Image.fromarray(GREY > 99), {}, ((GREY > 99) * 255).astype(np.uint8)[..., None]),
    "lossless.webp": (Image.fromarray(COLOUR), {"lossless": True}, COLOUR),
    "UPPER.PNG": (Image.fromarray(COLOUR), {}, COLOUR),
}


@pytest.mark.parametrize("name", FILES)
def test_lossless_files_give_their_pixels(tmp_path, name):
    image, options, expected = FILES[name]
    image.save(tmp_path / name, **options)
    pixels = read_image(tmp_path / name)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)
    assert image_shape(tmp_path / name) == pixels.shape


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("CMYK", 3)])
@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpeg(tmp_path, mode, channels, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(COLOUR).convert(mode).save(path, quality=95)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(5, 7, channels)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_shape(path) == (5, 7, channels)


UPRIGHT = {  # EXIF's orientations, as what brings the stored pixels upright
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
    0: lambda x: x,  # no orientation at all
    9: lambda x: x,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_exif_turns_an_image_upright(tmp_path, orientation, suffix):
    path, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), UPRIGHT[orientation](stored))
    assert image_shape(path) == read_image(path).shape


def test_exif_turns_a_deep_image_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP).save(tmp_path / "deep.png", exif=exif)
    expected = np.rot90(DEEP >> 8, -1)[..., None]
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), expected)
    assert image_shape(tmp_path / "deep.png") == expected.shape


def _damaged(tmp_path):
    """Files that are no images, by what is wrong with them."""
    large = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.jpg", "cut.png", "cut.webp"):
        large.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("these are words")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    return ("cut.jpg", "cut.png", "cut.webp", "text.jpg", "empty.png", "folder.png", "missing.jpg")


def test_a_damaged_file_is_named(tmp_path):
    for name in _damaged(tmp_path):
        with pytest.raises(InputError, match=rf"the image '.*{name}' cannot be read \(.+\); replace or remove it"):
            read_image(tmp_path / name)
    for name in ("text.jpg", "empty.png", "folder.png", "missing.jpg"):
        with pytest.raises(InputError, match=name):
            image_shape(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_damage_anywhere_is_an_input_error(tmp_path):
    """Bytes flipped at random: an InputError or an image of the announced shape, and never another exception."""
    rng, image, exif = np.random.default_rng(1), Image.fromarray(COLOUR), Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / f"image.{suffix}"
        image.save(path, exif=exif)
        whole = path.read_bytes()
        refused = 0
        for _ in range(150):
            content = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                assert read_image(path).shape == image_shape(path)
            except InputError:
                refused += 1
        assert refused > 15


def _fill(folder, *, number, start=0):
    folder.mkdir(parents=True)
    for i in range(number):
        Image.new("RGB", (4, 3), (start + i, 0, 0)).save(folder / f"{i}.png")


def _reds(source):
    return [int(source[i]["x"][0, 0, 0]) for i in range(len(source))]


def test_folders_are_classes(tmp_path):
    _fill(tmp_path / "wasp", number=2, start=10)
    _fill(tmp_path / "ant", number=3)
    source = data.folder(tmp_path)
    assert isinstance(source, ImageFiles)
    assert isinstance(source, data.Source)
    assert source.class_names == ("ant", "wasp")
    np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 1])
    assert _reds(source) == [0, 1, 2, 10, 11]
    assert [source[i]["y"] for i in range(5)] == [0, 0, 0, 1, 1]
    assert source.names == [str(tmp_path / "ant" / f"{i}.png") for i in range(3)] + [
        str(tmp_path / "wasp" / f"{i}.png") for i in range(2)
    ]
    assert source.name == str(tmp_path)
    assert source.shapes() == {(3, 4, 3)}


def test_splits(tmp_path):
    _fill(tmp_path / "train" / "ant", number=2)
    _fill(tmp_path / "train" / "bee", number=1, start=20)
    _fill(tmp_path / "val" / "bee", number=2, start=30)
    assert data.splits_of(tmp_path) == ("train", "val")
    assert data.splits_of(tmp_path / "train") == ()
    train, val, every, default = (data.folder(tmp_path, s) for s in ("train", "val", "all", None))
    assert (_reds(train), train.class_names) == ([0, 1, 20], ("ant", "bee"))
    assert (_reds(val), val.class_names) == ([30, 31], ("bee",))
    assert _reds(every) == _reds(default) == [0, 1, 20, 30, 31]
    np.testing.assert_array_equal(every.labels, [0, 0, 1, 1, 1])
    assert (train.name, default.name) == (f"{tmp_path}:train", str(tmp_path))
    with pytest.raises(InputError, match=r"unknown split of '.*' 'vall'; .* train, val, all\. Did you mean 'val'\?"):
        data.folder(tmp_path, "vall")


def test_one_split_is_enough(tmp_path):
    _fill(tmp_path / "val" / "ant", number=1)
    assert data.splits_of(tmp_path) == ("val",)
    assert len(data.folder(tmp_path)) == 1
    with pytest.raises(InputError, match=r"unknown split of '.*' 'train'; expected one of: val, all"):
        data.folder(tmp_path, "train")


def test_a_class_may_be_called_train(tmp_path):
    _fill(tmp_path / "train", number=2)
    _fill(tmp_path / "tram", number=1, start=9)
    assert data.splits_of(tmp_path) == ()
    source = data.folder(tmp_path)
    assert source.class_names == ("train", "tram")
    assert _reds(source) == [0, 1, 9]


def test_names_of_any_script(tmp_path):
    names = sorted(["hot dog", "наука", "日本語", "ß & co", "a.b"])
    for i, name in enumerate(names):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / name / f"{name} 1.png")
    source = data.folder(tmp_path)
    assert source.class_names == tuple(names)
    assert _reds(source) == [0, 1, 2, 3, 4]


def test_what_is_no_image_is_left_out(tmp_path):
    _fill(tmp_path / "ant", number=2)
    (tmp_path / ".cache").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / ".cache" / "0.png")
    for name in (".DS_Store", "._0.png", "notes.txt", "image.png.bak"):
        (tmp_path / "ant" / name).write_text("no image")
    Image.new("L", (2, 2)).save(tmp_path / "loose.png")
    source = data.folder(tmp_path)
    assert source.class_names == ("ant",)
    assert len(source) == 2


def test_a_class_without_images_is_named(tmp_path):
    _fill(tmp_path / "ant", number=1)
    for name in ("bee", "wasp"):
        (tmp_path / name).mkdir()
    (tmp_path / "wasp" / "w.gif").touch()
    with pytest.raises(InputError, match=r"the class folders bee, wasp of '.*' hold no images \(\.jpg, .*\); fill"):
        data.folder(tmp_path)


def test_no_classes(tmp_path):
    with pytest.raises(InputError, match=r"has no class folders; expected .*/CLASS/IMAGE\.jpg, but it is empty"):
        data.folder(tmp_path)
    for i in range(2):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="but it holds 2 images directly: sort them into a folder per class"):
        data.folder(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder '.*nowhere'"):
        data.folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is no folder '.*0\.png'"):
        data.folder(tmp_path / "0.png")


def test_loose_images_have_no_labels(tmp_path):
    for i in range(3):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / f"{i}.png")
    for source in (data.folder(tmp_path, labelled=False), data.load(tmp_path, labelled=False)):
        assert source.labels is None
        assert source.class_names == ()
        assert _reds(source) == [0, 1, 2]
        assert set(source[0]) == {"x"}
    (tmp_path / "deeper").mkdir()
    with pytest.raises(InputError, match="it is empty"):
        data.folder(tmp_path / "deeper", labelled=False)


def test_hymenoptera(real_data, tmp_path):
    """397 photographs of ants and bees, as the PyTorch tutorial divides them."""
    with zipfile.ZipFile(real_data / "hymenoptera_s160.zip") as archive:
        archive.extractall(tmp_path)
    (root,) = [p.parent for p in tmp_path.rglob("train") if p.is_dir()]
    train, val = data.folder(root, "train"), data.folder(root, "val")
    assert train.class_names == val.class_names == ("ants", "bees")
    assert np.bincount(train.labels).tolist() == [123, 121]
    assert np.bincount(val.labels).tolist() == [70, 83]
    assert all(min(shape[:2]) == 160 for shape in train.shapes() | val.shapes())
    for i in range(0, len(val), 25):
        assert image_shape(val.paths[i]) == val[i]["x"].shape
