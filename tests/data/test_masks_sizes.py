"""Sizes and tiles: what an example is, that each pixel counts once, and that nothing is decoded twice."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
from mask_folders import image, numbers, plain, refused, save
from PIL import Image

from jaxdl import data
from jaxdl.data import masks_source
from jaxdl.data.masks import MaskFiles
from jaxdl.data.masks_source import tile_places
from jaxdl.data.source import Source
from jaxdl.errors import InputError

SIZES = [(16, 20), (33, 16), (7, 40), (16, 16), (5, 3)]


def mixed(root):
    """Images of several sizes, one of them grey."""
    for i, (height, width) in enumerate(SIZES):
        save(image(i, height, width, 1 if i == 3 else 3), root / "images" / f"{i}.png")
        save(numbers(i, (0, 1, 2, 255), height, width), root / "masks" / f"{i}.png")
    return root


def test_several_sizes_ask_for_size_or_tile(tmp_path):
    refused(lambda: data.masks(mixed(tmp_path)), "5 sizes", "16×20", "size=", "tile=")
    alone = data.masks(tmp_path / "images", labelled=False)  # to be predicted, each in its size
    assert len({alone[i]["x"].shape for i in range(len(alone))}) == 5
    refused(lambda: data.masks(tmp_path, size=16, tile=16), "size", "tile")
    for bad in (0, -1, 2.5, (1,), (1, 2, 3), "16", (8, True + 0.5), 10**6):
        refused(lambda bad=bad: data.masks(tmp_path, size=bad), "size")
        refused(lambda bad=bad: data.masks(tmp_path, tile=bad), "tile")


def nearest(place, new, old):
    """The pixels of `old` whose centres are nearest to that of pixel `place` of `new`; two if it lies between them."""
    distance = np.abs((place + 0.5) * old / new - np.arange(old) - 0.5)
    return np.flatnonzero(distance <= distance.min() + 1e-9)


@pytest.mark.parametrize("size", [12, (9, 30)])
def test_images_are_scaled_between_pixels_and_masks_are_not(tmp_path, size):
    source = data.masks(mixed(tmp_path), size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert source.targets().shape == (5, height, width)
    for i in range(5):
        opened = Image.open(tmp_path / "images" / f"{i}.png")
        expected = np.asarray(opened.resize((width, height), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(source[i]["x"], expected.reshape(height, width, -1))
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{i}.png"))
        for (row, column), value in np.ndenumerate(source[i]["y"]):
            rows, columns = nearest(row, height, mask.shape[0]), nearest(column, width, mask.shape[1])
            assert value in mask[np.ix_(rows, columns)]
    assert source.shapes() == {(height, width, 3), (height, width, 1)}


@pytest.mark.parametrize("tile", [8, (16, 5), (40, 40)])
def test_each_pixel_counts_once(tmp_path, tile):
    source = data.masks(mixed(tmp_path), tile=tile)
    shape = (tile, tile) if isinstance(tile, int) else tile
    held, examples = source.names, [source[i] for i in range(len(source))]
    assert {example["y"].shape for example in examples} == {shape}
    for i, (height, width) in enumerate(SIZES):
        x = np.asarray(Image.open(tmp_path / "images" / f"{i}.png")).reshape(height, width, -1)
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{i}.png"))
        seen, counted = np.zeros((height, width), int), np.zeros((height, width), int)
        for name, example in zip(held, examples, strict=True):
            if f"/{i}.png[" not in name:
                continue
            rows, columns = (np.arange(*map(int, part.split(":"))) for part in name.split("[")[1][:-1].split(", "))
            assert (len(rows), len(columns)) == shape
            inside = np.ix_(rows < height, columns < width)
            place = np.ix_(rows[rows < height], columns[columns < width])
            np.testing.assert_array_equal(example["x"][inside], x[place])
            known = example["y"] < 255
            assert not known[rows >= height].any()
            assert not known[:, columns >= width].any()
            np.testing.assert_array_equal(example["y"][inside][known[inside]], mask[place][known[inside]])
            counted[place] += known[inside]
            seen[place] += 1
        assert (seen > 0).all()
        np.testing.assert_array_equal(counted, mask < 255)


def test_small_images_are_mirrored(tmp_path):
    save(image(0, 3, 2), tmp_path / "images" / "a.png")
    save(numbers(0, (0, 1), 3, 2), tmp_path / "masks" / "a.png")
    source = data.masks(tmp_path, tile=8)
    x = image(0, 3, 2)
    rows, columns = [0, 1, 2, 2, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1, 1, 0]
    np.testing.assert_array_equal(source[0]["x"], x[np.ix_(rows, columns)])
    assert (source[0]["y"] < 255).sum() == 6


def test_places_of_tiles():
    assert tile_places((10, 4), (4, 4)) == [(0, 0), (4, 0), (6, 0)]
    assert tile_places((3, 9), (4, 4)) == [(0, 0), (0, 4), (0, 5)]


def test_tiles_of_an_image_are_one_group(tmp_path):
    source = data.masks(mixed(tmp_path), tile=8)
    assert [group.rsplit("/")[-1] for group in source.groups] == [n.split("/")[-1].split(".")[0] for n in source.names]
    by_name = data.masks(tmp_path, tile=8, group=r"[0-2]|[34]")
    assert len(set(by_name.groups)) == 5
    pairs = data.masks(tmp_path, tile=8, group="frames:2")
    assert len(set(pairs.groups)) == 3


def test_an_image_is_decoded_once_for_its_tiles(tmp_path, monkeypatch):
    read, decode = [], masks_source.read_image
    monkeypatch.setattr(masks_source, "read_image", lambda path, bits: [read.append(path.name), decode(path)][1])
    masks_source._kept_image.cache_clear()
    source = data.masks(mixed(tmp_path), tile=8)
    assert read == []
    first = source[0]["x"]
    for i in range(len(source)):
        source[i]["x"][:] = 0  # what a caller does to an example does not reach others
    assert read == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    np.testing.assert_array_equal(source[0]["x"], first)
    (tmp_path / "images" / "0.png").unlink()
    refused(lambda: source[0], "0.png")


def test_size_and_place_tell_examples_apart(tmp_path):
    root = plain(tmp_path, [numbers(0, (0, 1), 32, 32)] * 2)
    whole = data.masks(root)
    alone = data.folder(root / "images", labelled=False)  # of the same files: known as the same
    np.testing.assert_array_equal(whole.hashes(), alone.hashes())
    hashes = [source.hashes().tolist() for source in (whole, data.masks(root, size=8), data.masks(root, size=16))]
    hashes += [source.hashes().tolist() for source in (data.masks(root, tile=8), data.masks(root, tile=16))]
    everything = [value for part in hashes for value in part]
    assert len(set(everything)) == len(everything) == 2 + 2 + 2 + 32 + 8


def test_a_fingerprint_needs_no_image(tmp_path, monkeypatch):
    source = data.masks(plain(tmp_path, [numbers(0)] * 3), tile=8)
    monkeypatch.setattr(masks_source, "read_image", None)
    assert len(source.fingerprint()) == 64
    assert source.shapes() == {(8, 8, 3)}
    part = source.take(np.array([3, 1]))
    assert isinstance(part, MaskFiles)
    assert part.fingerprint() == source.take(np.array([0, 3, 1])).take(np.array([1, 2])).fingerprint()


def test_thumbnails_show_the_example(tmp_path):
    for options in ({"size": 24}, {"tile": 24}, {}):
        save(image(0, 48, 48), tmp_path / "images" / "a.png")
        save(numbers(0, (0, 1), 48, 48), tmp_path / "masks" / "a.png")
        source = data.masks(tmp_path, **options)
        assert min(source.thumbnail(0, 16).shape[:2]) >= 16
        if "tile" in options:
            np.testing.assert_array_equal(source.thumbnail(3, 16), source[3]["x"])


def test_masks_go_through_load_and_joins(tmp_path):
    root = mixed(tmp_path)
    source = data.load(root, task="segmentation", masks=data.MaskOptions(size=8, classes=["a", "b", "c"]))
    assert source.class_names == ("a", "b", "c")
    both = source.join(source, np.concatenate([source.targets()] * 2))
    assert isinstance(both, Source)
    np.testing.assert_array_equal(both[7]["y"], source[2]["y"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.MaskOptions().size = 3


def test_options_of_masks_come_back(tmp_path):
    options = data.MaskOptions(tmp_path / "classes.txt", None, (8, 16), group="(.+)_")
    plain = json.loads(json.dumps(options.plain()))
    assert data.MaskOptions.parse(plain) == dataclasses.replace(options, classes=str(tmp_path / "classes.txt"))
    assert data.MaskOptions().plain() == {}
    with pytest.raises(InputError, match="sizes"):
        data.MaskOptions.parse({"sizes": 8})


def test_camvid(real_data, tmp_path):
    with zipfile.ZipFile(real_data / "camvid_160x120.zip") as file:
        file.extractall(tmp_path)
    sizes = {}
    for split in ("train", "val", "test"):
        source = data.load(f"{tmp_path}:{split}", task="segmentation", masks=data.MaskOptions(void=11))
        sizes[split] = len(source)
        assert source.targets().shape == (len(source), 120, 160)
        assert source.class_names == tuple(map(str, range(11)))
        assert set(np.unique(source.targets())) <= {*range(11), 255}
    assert sizes == {"train": 367, "val": 101, "test": 233}
    named = [*map(str, range(12))]  # so that the other splits are not read
    tiles, whole = (data.masks(tmp_path, "val", void=11, classes=named, tile=tile) for tile in (64, None))
    np.testing.assert_array_equal(
        np.bincount(tiles.targets().ravel(), minlength=256)[:255],
        np.bincount(whole.targets().ravel(), minlength=256)[:255],
    )
    assert len(tiles) == 101 * 6
    assert len(set(tiles.groups)) == 101
