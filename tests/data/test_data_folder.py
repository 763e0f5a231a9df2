"""Folders of images: every kind of file that a photographer or a scanner leaves behind."""

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.data.folder import ImageFiles, image_shape, read_image
from jaxdl.data.preprocessing import ImagePreprocessing
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


def _png(path, width, height, depth, kind, rows):
    """A PNG written by hand, for what Pillow reads but does not write: `kind` is 0 grey, 2 colour, 4 grey and alpha."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content)
    return path


@pytest.mark.parametrize(("kind", "bands", "channels"), [(0, 1, 1), (2, 3, 3), (4, 2, 3), (6, 4, 3)])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, kind, bands, channels):
    deep = RNG.integers(0, 65536, (5, 7, bands), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    path = _png(tmp_path / "deep.png", 7, 5, 16, kind, rows)
    expected = (deep >> 8)[..., : 3 if bands >= 3 else 1]
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(expected, (5, 7, channels)))
    assert image_shape(path) == (5, 7, channels)


def test_cmyk_is_ink_on_white(tmp_path):
    for c, m, y, k in [(0, 0, 0, 0), (255, 0, 0, 0), (0, 200, 0, 0), (0, 0, 90, 0), (0, 0, 0, 128), (30, 60, 90, 50)]:
        Image.new("CMYK", (8, 8), (c, m, y, k)).save(tmp_path / "ink.jpg", quality=100)
        expected = [(255 - ink) * (255 - k) / 255 for ink in (c, m, y)]
        np.testing.assert_allclose(read_image(tmp_path / "ink.jpg").mean((0, 1)), expected, atol=2)


def test_one_pixel(tmp_path):
    for i, name in enumerate(["a/0.png", "b/0.jpg"]):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (1, 1), (i * 250, 9, 9)).save(tmp_path / name)
    source = data.folder(tmp_path)
    assert source.shapes() == {(1, 1, 3)}
    made = ImagePreprocessing((5, 5, 3)).load(source)
    assert (made[0] == [0, 9, 9]).all()
    assert abs(made[1].astype(int) - [250, 9, 9]).max() < 9


def test_a_line_of_pixels_is_not_blown_up(tmp_path):
    """It is small, but covering a square it would have billions of pixels before it is cropped."""
    _fill(tmp_path / "ant", number=1)
    Image.new("L", (60_000, 1)).save(tmp_path / "ant" / "line.png")
    source = data.folder(tmp_path)
    assert source[1]["x"].shape == (1, 60_000, 1)
    with pytest.raises(InputError, match=r"1 × 60000 pixels .*224 × 13440000"):
        ImagePreprocessing((224, 224, 3)).load(source)
    assert ImagePreprocessing((8, 8, 3)).load(source).shape == (2, 8, 8, 3)


def test_a_picture_that_would_fill_the_memory_is_not_decoded(tmp_path, monkeypatch):
    path = _png(tmp_path / "huge.png", 20_000, 20_000, 8, 2, b"")
    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: decoded.append(1))
    for read in (read_image, image_shape):
        with pytest.raises(InputError, match=r"'.*huge.png' has 400,000,000 pixels, more than the limit of 89,478,485"):
            read(path)
    path = _png(tmp_path / "large.png", 10_000, 10_000, 8, 0, b"")  # of which Pillow alone would only warn
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(
            InputError, match=r"large.png' has 100,000,000 pixels, more than the limit of 89,478,485; it was"
        ),
    ):
        read_image(path)
    assert not decoded
    monkeypatch.undo()
    Image.new("L", (30, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(InputError, match=r"has 600 pixels, .* of 599"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert read_image(path).shape == (20, 30, 1)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG", "PPM", "PCX", "DDS"])
def test_the_bytes_decide_what_a_file_is(tmp_path, kind):
    Image.fromarray(COLOUR).save(tmp_path / "image.jpg", kind)
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg"), COLOUR)
    assert image_shape(tmp_path / "image.jpg") == COLOUR.shape


def test_what_would_run_another_program_is_not_read(tmp_path):
    """Pillow hands an EPS file to Ghostscript, which runs what is in it."""
    Image.fromarray(COLOUR).save(tmp_path / "image.jpg", "EPS")
    with pytest.raises(InputError, match=r"'.*image.jpg' cannot be read \(it is no image of a format that is read\)"):
        read_image(tmp_path / "image.jpg")


def test_floats_are_not_guessed(tmp_path):
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="floats"):
        read_image(tmp_path / "float.tif")


def test_of_several_pictures_in_a_file_the_first_is_read(tmp_path):
    first, second = (Image.new("RGB", (6, 4), (red, 0, 0)) for red in (10, 200))
    for name, kind, options in (("p.jpg", "MPO", {}), ("m.webp", "WEBP", {"lossless": True}), ("a.png", "PNG", {})):
        first.save(tmp_path / name, kind, save_all=True, append_images=[second], **options)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 2
        assert abs(read_image(tmp_path / name)[..., 0].astype(int) - 10).max() <= 2


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


def test_a_class_that_only_val_has_is_a_name_written_in_two_ways(tmp_path):
    for name in ("train/ant", "train/bees", "train/wasp", "val/ant", "val/bee"):
        _fill(tmp_path / name, number=1)
    for split in ("all", None):
        with pytest.raises(
            InputError,
            match=r"bees, wasp; .* bee\.",
        ):
            data.folder(tmp_path, split)
    assert data.folder(tmp_path, "train").class_names == ("ant", "bees", "wasp")
    assert data.folder(tmp_path, "val").class_names == ("ant", "bee")
    assert len(data.folder(tmp_path, "all", labelled=False)) == 5


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
    (tmp_path / "wasp" / "w.heic").touch()
    with pytest.raises(InputError, match=r"bee \(empty\), wasp \(1 \.heic file\) of '.*' hold no images.*JPEG"):
        data.folder(tmp_path)


def test_bytes_that_are_no_text_in_names(tmp_path):
    root = os.fsencode(tmp_path)
    for name in (b"caf\xe9", b"th\xe9"):
        os.mkdir(os.path.join(root, name))
        Image.new("L", (2, 2), name[0]).save(Path(os.fsdecode(os.path.join(root, name, b"\xff 1.png"))))
    source = data.folder(tmp_path)
    assert source.class_names == ("caf\\xe9", "th\\xe9")
    assert [int(source[i]["x"][0, 0, 0]) for i in range(2)] == [ord("c"), ord("t")]
    assert source.names[0] == f"{tmp_path}/caf\\xe9/\\xff 1.png"
    for text in (*source.class_names, *source.names):
        text.encode()
    source.paths[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"caf\\xe9/\\xff 1\.png' cannot be read"):
        source[0]


def test_links(tmp_path):
    _fill(tmp_path / "data" / "ant", number=2)
    _fill(tmp_path / "elsewhere", number=1, start=30)
    (tmp_path / "data" / "bee").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "ant" / "2.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "data" / "ant" / "up").symlink_to(tmp_path / "data")  # would go round for ever
    assert _reds(data.folder(tmp_path / "data")) == [0, 1, 30, 30]
    (tmp_path / "data" / "ant" / "3.png").symlink_to(tmp_path / "gone.png")
    source = data.folder(tmp_path / "data")
    assert len(source) == 5  # not left out in silence
    with pytest.raises(InputError, match=r"the image '.*ant/3\.png' cannot be read \(.*gone\.png"):
        source[3]
    (tmp_path / "data" / "ant" / "3.png").unlink()
    for target in ("gone", "wasp"):  # nowhere, and in a circle
        (tmp_path / "data" / "wasp").symlink_to(tmp_path / "data" / target)
        with pytest.raises(InputError, match=r"'.*wasp' is a link that leads nowhere"):
            data.folder(tmp_path / "data")
        (tmp_path / "data" / "wasp").unlink()


def test_a_folder_called_like_an_image_is_none(tmp_path):
    _fill(tmp_path / "ant", number=2)
    (tmp_path / "ant" / "x.jpg").mkdir()
    assert len(data.folder(tmp_path)) == 2


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    _fill(tmp_path / "ant", number=2)

    def scandir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(InputError, match=r"the folder '.*' cannot be listed \(Permission denied\)"):
        data.folder(tmp_path)


def test_broken_files_are_left_out_and_listed(tmp_path):
    for name in ("ant", "bee"):
        _fill(tmp_path / name, number=4)
    large = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    large.save(tmp_path / "ant" / "1.jpg")
    content = (tmp_path / "ant" / "1.jpg").read_bytes()
    (tmp_path / "ant" / "1.jpg").write_bytes(content[: len(content) // 2])  # its header is whole
    (tmp_path / "bee" / "0.png").write_text("no image")
    whole = data.folder(tmp_path)
    assert image_shape(tmp_path / "ant" / "1.jpg") == (64, 64, 3)
    kept, broken = data.skip_broken(whole)
    assert isinstance(kept, ImageFiles)
    assert [name for name, _ in broken] == [str(tmp_path / "ant" / "1.jpg"), str(tmp_path / "bee" / "0.png")]
    assert "1.jpg' cannot be read (image file is truncated" in broken[0][1]
    assert "no image of a format" in broken[1][1]
    assert _reds(kept) == [0, 1, 2, 3, 1, 2, 3]
    assert kept.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (kept.class_names, kept.shapes()) == (("ant", "bee"), {(3, 4, 3)})
    again, none = data.skip_broken(kept)
    assert again is kept
    assert none == []
    part, broken = data.skip_broken(data.subset(whole, [7, 5, 2, 1]))  # the order stays
    assert _reds(part) == [2, 1]
    assert [Path(name).name for name, _ in broken] == ["0.png", "1.jpg"]


def test_a_class_that_is_broken_altogether(tmp_path):
    for name in ("ant", "bee"):
        _fill(tmp_path / name, number=2)
    for i in range(2):
        (tmp_path / "bee" / f"{i}.png").write_text("no image")
    with pytest.raises(InputError, match=r"no example of bee in '?.* can be read; the first: the image '.*bee/0\.png'"):
        data.skip_broken(data.folder(tmp_path))
    with pytest.raises(InputError, match=r"none of the 2 examples of .* can be read; the first: the image"):
        data.skip_broken(data.folder(tmp_path / "bee", labelled=False))
    numbers = data.arrays(np.zeros((3, 2)))
    assert data.skip_broken(numbers) == (numbers, [])


def test_no_classes(tmp_path):
    with pytest.raises(InputError, match=r"it is empty"):
        data.folder(tmp_path)
    for i in range(2):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="2 images directly"):
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
    with pytest.raises(InputError, match=r"'.*deeper' holds nothing; expected images in it"):
        data.folder(tmp_path / "deeper", labelled=False)
    (tmp_path / "deeper" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"'.*deeper' holds no images, but 1 \.txt file; expected images in it"):
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
