"""What the pixels of masks mean: numbers, palettes, colours, void; and what is refused by its name."""

import struct
import zlib

import numpy as np
import pytest
from mask_folders import image, numbers, palette, plain, refused, save
from PIL import Image

from jaxdl import data

COLOURS = {"sky": (10, 20, 30), "road": (200, 0, 0), "car": (0, 0, 255)}
TABLE = np.array(list(COLOURS.values()), np.uint8)
INDEX = numbers(0)
LINES = [f"{name} {r} {g} {b}" for name, (r, g, b) in COLOURS.items()]


def grey(mask, bits):
    """A PNG of grey levels in 1, 2 or 4 bits, which Pillow does not write."""
    rows = np.zeros((len(mask), -(-mask.shape[1] * bits // 8) * 8 // bits), np.uint8)
    rows[:, : mask.shape[1]] = mask
    packed = np.packbits(np.unpackbits(rows[..., None], axis=-1)[..., 8 - bits :].reshape(len(mask), -1), axis=1)
    lines = zlib.compress(np.pad(packed, ((0, 0), (1, 0))).tobytes())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", mask.shape[1], len(mask), bits, 0, 0, 0, 0)), (b"IDAT", lines)]
    chunks.append((b"IEND", b""))
    parts = [struct.pack(">I", len(held)) + k + held + struct.pack(">I", zlib.crc32(k + held)) for k, held in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (INDEX, {}),
        (palette(INDEX, TABLE), {}),
        (palette(INDEX, TABLE), {"classes": list(COLOURS)}),
        (palette(INDEX, TABLE), {"classes": COLOURS}),
        (palette(INDEX, [(0, 0, 0), (1, 1, 1), (2, 2, 2)]), {"classes": COLOURS}),
        (palette(INDEX, TABLE[::-1]), {"classes": dict(reversed(COLOURS.items()))}),
        (INDEX.astype(np.uint16), {}),
        (np.repeat(INDEX[..., None], 3, axis=-1), {}),
        (np.dstack([INDEX, INDEX, INDEX, np.full_like(INDEX, 255)]), {}),
        (np.dstack([INDEX, np.full_like(INDEX, 255)]), {}),
        (TABLE[INDEX], {"classes": COLOURS}),
        (TABLE[INDEX], {"classes": LINES}),
        (np.dstack([TABLE[INDEX], np.full_like(INDEX, 255)]), {"classes": COLOURS}),
        (INDEX, {"classes": COLOURS}),
        (INDEX, {"classes": {"sky": 0, "road": 1, "car": 2}}),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_each_way_to_store_a_mask(tmp_path, made, options):
    source = data.masks(plain(tmp_path, [made] * 2), **options)
    for i in range(2):
        assert source[i]["y"].dtype == np.uint8
        np.testing.assert_array_equal(source[i]["y"], INDEX)
        np.testing.assert_array_equal(source[i]["x"], image(i))
    names = list(COLOURS) if "classes" in options else ["0", "1", "2"]
    assert sorted(source.class_names) == sorted(names)
    assert source.notes == ()


def test_a_palette_of_another_order_is_read_by_its_colours(tmp_path):
    order = [2, 0, 1]
    made = palette(np.argsort(order).astype(np.uint8)[INDEX], TABLE[order])
    source = data.masks(plain(tmp_path, [made]), classes=COLOURS)
    np.testing.assert_array_equal(source[0]["y"], INDEX)
    unnamed = data.masks(plain(tmp_path, [made]))  # without colours to compare, the index is the class
    np.testing.assert_array_equal(unnamed[0]["y"], np.argsort(order)[INDEX])
    odd = palette(np.where(INDEX == 0, 3, INDEX).astype(np.uint8), [*TABLE[[0, 2, 1]], (9, 9, 9)])
    refused(lambda: data.masks(plain(tmp_path, [odd]), classes=COLOURS), "a.png", "index 1", "(9, 9, 9)")


@pytest.mark.parametrize("bits", [2, 4])
def test_numbers_of_few_bits_are_not_spread(tmp_path, bits):
    root = plain(tmp_path, [INDEX])
    (root / "masks" / "a.png").write_bytes(grey(INDEX, bits))
    assert np.asarray(Image.open(root / "masks" / "a.png")).max() > 2  # Pillow spreads them
    np.testing.assert_array_equal(data.masks(root)[0]["y"], INDEX)


def test_void_of_any_number_becomes_255(tmp_path):
    mask = numbers(1, (0, 1, 2, 11))
    root = plain(tmp_path, [mask, INDEX])
    source = data.masks(root, void=11)
    np.testing.assert_array_equal(source[0]["y"], np.where(mask == 11, 255, mask))
    assert source.class_names == ("0", "1", "2")
    first = data.masks(root, void=0, classes=["nothing", "a", "b", *"cdefghij", "k"])
    np.testing.assert_array_equal(first[0]["y"], np.where(mask == 0, 255, mask.astype(int) - 1))
    assert first.class_names == ("a", "b", *"cdefghij", "k")
    named = data.masks(root, void="d", classes={"b": 1, "a": 0, "c": 2, "d": 11})
    np.testing.assert_array_equal(named[0]["y"], np.array([1, 0, 2, *[255] * 9])[mask])
    assert named.class_names == ("b", "a", "c")
    refused(lambda: data.masks(root, void=None), "11", f"{(mask == 11).sum()} pixels")  # numbers 3 to 10 do not occur
    everything = data.masks(root, void=None, classes=list("abcdefghijkl"))
    np.testing.assert_array_equal(everything[0]["y"], mask)


def test_void_255_and_none(tmp_path):
    mask = numbers(1, (0, 1, 255))
    root = plain(tmp_path, [mask])
    source = data.masks(root)
    assert source.class_names == ("0", "1")
    np.testing.assert_array_equal(source[0]["y"], mask)
    refused(lambda: data.masks(root, void=None), "255")
    three = data.masks(root, void=None, classes={"a": 0, "b": 1, "c": 255})
    np.testing.assert_array_equal(three[0]["y"], np.minimum(mask, 2))
    np.testing.assert_array_equal(data.masks(root, classes={"a": 0, "b": 1, "c": 255})[0]["y"], np.minimum(mask, 2))


def test_void_of_a_colour(tmp_path):
    table = np.array([*TABLE, (224, 224, 192)], np.uint8)
    mask = numbers(1, (0, 1, 2, 3))
    root = plain(tmp_path, [table[mask]])
    expected = np.where(mask == 3, 255, mask)
    for void, classes in (((224, 224, 192), COLOURS), ("border", COLOURS | {"border": (224, 224, 192)})):
        source = data.masks(root, classes=classes, void=void)
        np.testing.assert_array_equal(source[0]["y"], expected)
        assert source.class_names == tuple(COLOURS)
    refused(lambda: data.masks(root, classes=COLOURS), "a.png", "(224, 224, 192)", f"{(mask == 3).sum()} pixels")
    refused(lambda: data.masks(root, classes=COLOURS, void=(200, 0, 0)), "(200, 0, 0)", "road")


def test_0_and_255_alone_are_two_classes(tmp_path):
    mask = numbers(1, (0, 255))
    root = plain(tmp_path, [mask, np.zeros_like(mask), np.full_like(mask, 255)])
    source = data.masks(root)
    np.testing.assert_array_equal(source.targets(), np.stack([mask // 255, mask * 0, mask * 0 + 1]))
    assert source.class_names == ("background", "foreground")
    assert "0 and 255" in source.notes[0]
    assert data.masks(root, classes=["no", "yes"]).class_names == ("no", "yes")
    for classes in ({"no": (0, 0, 0), "yes": (255, 255, 255)}, {"no": 0, "yes": 255}):
        np.testing.assert_array_equal(data.masks(root, classes=classes).targets(), source.targets())
    asked = data.masks(root, void=255)
    np.testing.assert_array_equal(asked[0]["y"], mask)
    assert asked.class_names == ("0",)
    assert "1 of 3 masks" in asked.notes[0]
    assert data.masks(root, classes=["a", "b", "c"]).class_names == ("a", "b", "c")  # where 255 is void, as always
    np.testing.assert_array_equal(data.masks(root, classes=["a", "b", "c"])[0]["y"], mask)


def test_every_split_has_the_same_classes(tmp_path):
    for split, values in (("train", (0, 255)), ("val", (0, 3, 255))):
        plain(tmp_path / split, [numbers(1, values)])
    for split in ("train", "val"):
        source = data.masks(tmp_path, split)
        assert source.class_names == ("0", "1", "2", "3")
        assert (source[0]["y"] == 255).any()


def test_one_bit_beside_255(tmp_path):
    root = plain(tmp_path, [Image.fromarray(INDEX > 0), Image.fromarray(INDEX > 1)])
    np.testing.assert_array_equal(data.masks(root).targets(), [INDEX > 0, INDEX > 1])
    plain(root, [INDEX, numbers(0, (0, 255))][1:])
    refused(lambda: data.masks(root), "a.png", "b.png", "255")


EDGES = np.array(Image.fromarray(numbers(1, (0, 255), 8, 8)).resize((16, 16), Image.Resampling.BILINEAR))
BETWEEN = ((EDGES > 0) & (EDGES < 255)).sum()


@pytest.mark.parametrize(
    ("mask", "options", "named"),
    [
        (EDGES, {}, [f"{BETWEEN} pixels", "threshold"]),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), {}, ["254 pixels", "threshold"]),
        (np.arange(256, dtype=np.uint8).reshape(16, 16) // 4 * 4, {}, ["252 pixels", "threshold"]),
        (EDGES, {"classes": ["a", "b"]}, ["pixels", "threshold"]),
        (EDGES, {"classes": {"a": 0, "b": 255}}, [f"{BETWEEN} pixels", "threshold"]),
        (EDGES, {"classes": {"a": (0, 0, 0), "b": (255, 255, 255)}}, [f"{BETWEEN} pixels"]),
        (numbers(1, (0, 128)), {}, ["128", "classes"]),
        (numbers(1, (0, 3, 7)), {"classes": list("abcd")}, ["7 (", "a, b, c, d"]),
        (np.full((16, 16), 255, np.uint8), {"void": 255}, ["void", "255"]),
        (np.full((16, 16), 7, np.uint8), {"void": 7}, ["void", "7"]),
        (numbers(1, (0, 1)).astype(np.uint16) * 300, {}, ["a.png", "16 bits", "300"]),
        (np.dstack([INDEX, INDEX * 100]), {}, ["a.png", "alpha"]),
        (np.dstack([TABLE[INDEX], INDEX]), {"classes": COLOURS}, ["a.png", "alpha", "256"]),
        (TABLE[INDEX], {}, ["a.png", "(200, 0, 0)", "classes.txt"]),
        (TABLE[INDEX] + 1, {"classes": COLOURS}, ["a.png", "256 pixels", "(201, 1, 1)"]),
        (INDEX, {"void": 256}, ["256"]),
        (INDEX, {"void": "car"}, ["car"]),
        (INDEX, {"classes": ["a", "b", "a"]}, ["'a'"]),
        (INDEX, {"classes": {"a": 0, "b": 1, "c": 1}}, ["1"]),
        (INDEX, {"classes": {"a": 0, "b": 300}}, ["'b'", "300"]),
        (INDEX, {"classes": {"a": (0, 0, 0), "b": 7}}, ["'b'", "7"]),
        (INDEX, {"classes": ["a 0 0 0", "b"]}, ["'b'"]),
        (INDEX, {"classes": ["a 0 0 0", "b 0 0 256"]}, ["'b'", "256"]),
        (INDEX, {"classes": []}, ["0 classes"]),
        (INDEX, {"classes": 7}, ["7"]),
        (INDEX, {"classes": "nowhere.txt"}, ["nowhere.txt"]),
    ],
)
def test_what_is_no_class_is_refused(tmp_path, mask, options, named):
    refused(lambda: data.masks(plain(tmp_path, [mask]), **options), *named)


def test_a_file_of_classes(tmp_path):
    root = plain(tmp_path, [TABLE[INDEX], INDEX])
    (root / "classes.txt").write_text("\ufeff# of a street\n" + "\n\n".join(LINES), encoding="utf-8")
    for said in (None, root / "classes.txt", str(root / "classes.txt")):
        source = data.masks(root, classes=said)
        assert source.class_names == tuple(COLOURS)
        np.testing.assert_array_equal(source.targets(), [INDEX, INDEX])
    (root / "classes.txt").write_text("traffic light\nroad sign\ncar\n")
    for part in ("images", "masks"):
        (root / part / "a.png").unlink()
    assert data.masks(root).class_names == ("traffic light", "road sign", "car")
    (root / "classes.txt").write_bytes(b"a\xff\n")
    refused(lambda: data.masks(root), "classes.txt")


def test_files_that_are_no_masks(tmp_path):
    root = plain(tmp_path, [INDEX, INDEX])
    broken = root / "masks" / "b.png"
    whole = broken.read_bytes()
    for content in (b"", whole[:20], whole[: len(whole) // 2], b"no image"):
        broken.write_bytes(content)
        refused(lambda: data.masks(root), "b.png")
    Image.fromarray(INDEX).save(broken, "JPEG")
    refused(lambda: data.masks(root), "b.png", "JPEG")
    broken.unlink()
    save(INDEX, root / "masks" / "b.jpg")
    refused(lambda: data.masks(root), "b.jpg", "JPEG")
    (root / "masks" / "b.jpg").unlink()
    save(np.repeat(INDEX[..., None], 3, -1), root / "masks" / "b.webp", lossless=True)
    refused(lambda: data.masks(root), "b.webp", "WEBP")
    (root / "masks" / "b.webp").unlink()
    save(INDEX[:, :-1], broken)
    refused(lambda: data.masks(root), "b.png", "16 high and 15 wide", "16 high and 16 wide")
