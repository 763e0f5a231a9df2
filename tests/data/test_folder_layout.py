"""Which files of a folder are read, and what is said of the others: nothing is left out in silence."""

import os
import re

import numpy as np
import pytest
from command_line import call, refused
from PIL import Image

from jaxdl import data
from jaxdl.data.image_file import SUFFIXES, formats_of, printable, read_image
from jaxdl.errors import InputError
from jaxdl.tasks.examples import describe_examples, load_examples

RNG = np.random.default_rng(0)


def fill(folder, number, suffix=".png", start=0):
    """Images whose red is their number, so that one can tell which were read."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + number):
        image = Image.new("RGB", (4, 3), (i, 0, 0))
        image.save(folder / f"{i}{suffix}", **({} if suffix else {"format": "PNG"}))


def reds(source):
    return sorted(int(source[i]["x"][0, 0, 0]) for i in range(len(source)))


def numbers_in(notes):
    return [int(number) for number in re.findall(r"\b\d+\b", " ".join(notes))]


SAVED_AS = {  # of a format without loss, or the same pixels back from a large flat image
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **{".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".avif": "AVIF", ".png": "PNG", ".ppm": "PPM", ".tga": "TGA"},
    **{".jp2": "JPEG2000", ".dib": "DIB", ".ico": "ICO", ".sgi": "SGI", ".pcx": "PCX", ".dds": "DDS"},
}


@pytest.mark.parametrize("suffix", SAVED_AS)
def test_every_usual_format_is_read(tmp_path, suffix):
    if SAVED_AS[suffix] not in formats_of(f"x{suffix}"):
        pytest.skip(f"this Pillow does not read {SAVED_AS[suffix]}")
    (tmp_path / "a").mkdir()
    pixels = np.full((32, 32, 3), (200, 100, 60), np.uint8)
    for name in (f"0{suffix}", f"1{suffix.upper()}"):
        Image.fromarray(pixels).save(tmp_path / "a" / name, SAVED_AS[suffix])
    source = data.folder(tmp_path)
    assert suffix in SUFFIXES
    assert len(source) == 2
    np.testing.assert_allclose(source[0]["x"].astype(int), pixels, atol=6)
    assert source.notes == ()


def test_files_without_a_suffix_are_read_by_their_content(tmp_path):
    fill(tmp_path / "a", 2, suffix="")
    Image.new("RGB", (4, 3), (7, 0, 0)).save(tmp_path / "a" / "scan_0.5", "BMP")
    (tmp_path / "a" / "README").write_text("words")
    source = data.folder(tmp_path)
    assert reds(source) == [0, 1, 7]
    assert numbers_in(source.notes) == [1]


def test_folders_inside_a_class_belong_to_it(tmp_path):
    fill(tmp_path / "a", 2)
    fill(tmp_path / "a" / "2019" / "may", 3, start=10)
    fill(tmp_path / "b" / "2020", 2, start=20)  # that holds nothing but a folder
    source = data.folder(tmp_path)
    assert source.class_names == ("a", "b")
    assert reds(source) == [0, 1, 10, 11, 12, 20, 21]
    assert source.labels.tolist() == [0] * 5 + [1] * 2
    (note,) = source.notes
    assert re.match(r"5 images in 2 folders .*a/2019/may, b/2020", note)
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)  # would go round for ever
    assert len(data.folder(tmp_path)) == 7


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("Training", "validation", "testing"),
        ("TRAIN", "dev", "Test"),
        ("train", "val", "test"),
    ],
)
def test_usual_names_of_splits(tmp_path, train, val, test):
    for i, split in enumerate((train, val, test)):
        for name in "ab":
            fill(tmp_path / split / name, i + 1, start=10 * i)
    assert data.splits_of(tmp_path) == ("train", "val", "test")
    counts = {split: len(data.folder(tmp_path, split)) for split in ("train", "val", "test", "all")}
    assert counts == {"train": 2, "val": 4, "test": 6, "all": 12}
    assert len(data.load(f"{tmp_path}:{val}")) == 4  # as the folder is called
    learned = load_examples(str(tmp_path))
    assert (learned.name, len(learned)) == (f"{tmp_path}:train", 2)
    assert {2, 4, 6} <= set(numbers_in(learned.notes))  # what was read, and what was not
    assert data.part_to_predict(tmp_path) == "val"


def test_two_folders_of_one_split(tmp_path):
    for split in ("train", "val", "valid"):
        fill(tmp_path / split / "a", 1)
    with pytest.raises(InputError, match="val/ and valid/"):
        data.folder(tmp_path)


def test_splits_without_classes_are_refused_with_advice_that_works(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path / split, 3)
    with pytest.raises(InputError, match=r"test/ \(3 images\) and train/ \(3 images\).*CLASS/IMAGE"):
        data.folder(tmp_path)
    assert len(data.load(tmp_path / "test", labelled=False)) == 3  # to predict, as it says
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir()
        for i in range(3):
            (tmp_path / split / f"{i}.png").rename(tmp_path / split / "a" / f"{i}.png")
    assert len(data.folder(tmp_path, "train")) == 3


def test_a_test_folder_without_classes_is_counted_and_predicted(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            fill(tmp_path / split / name, 2)
    fill(tmp_path / "test", 5, start=50)
    (note,) = load_examples(str(tmp_path)).notes
    assert "test/ (5 images)" in note
    assert reds(data.load(f"{tmp_path}:test", labelled=False)) == [50, 51, 52, 53, 54]
    with pytest.raises(InputError, match="5 images directly"):
        data.load(f"{tmp_path}:test")


def test_what_lies_beside_the_splits_is_counted(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split / "a", 2)
    fill(tmp_path / "bees", 3)
    fill(tmp_path, 4)
    notes = load_examples(str(tmp_path)).notes
    assert any("3 images in folders beside the splits (bees/)" in note for note in notes)
    assert any("4 images directly" in note for note in notes)


def test_a_single_split_beside_classes_is_asked_about(tmp_path):
    """``train/2019/…`` beside ``bus/…``: a split with the class 2019, or the class train?"""
    fill(tmp_path / "train" / "2019", 2)
    fill(tmp_path / "bus", 2, start=10)
    with pytest.raises(InputError, match=r"train/ .* bus/ .*:train"):
        load_examples(str(tmp_path))
    assert reds(data.load(f"{tmp_path}:train")) == [0, 1]  # the first advice, then the second
    for i in range(2):
        (tmp_path / "train" / "2019" / f"{i}.png").rename(tmp_path / "train" / f"{i}.png")
    (tmp_path / "train" / "2019").rmdir()
    assert data.folder(tmp_path).class_names == ("bus", "train")


def test_loose_images_and_other_files_are_counted(tmp_path):
    fill(tmp_path / "a", 2)
    fill(tmp_path, 3)
    for name in ("x.heic", "y.heic", "labels.csv"):
        (tmp_path / "a" / name).touch()
    for labelled in (True, False):
        (note,) = data.load(tmp_path, labelled=labelled).notes
        assert "2 .heic files" in note
        assert "1 .csv file" in note
        assert "3 images directly" in note


def test_classes_of_other_splits_are_compared_too(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/B"):
        fill(tmp_path / name, 1)
    with pytest.raises(InputError, match="test/ alone has B"):
        data.folder(tmp_path, "all")


# Only regular files are opened


def test_pipes_and_devices_are_left_out(tmp_path):
    fill(tmp_path / "a", 1)
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "null.png").symlink_to("/dev/null")
    source = data.folder(tmp_path)
    assert len(source) == 1
    assert "3 pipe" in source.notes[0]
    for name in ("pipe.jpg", "null.png"):
        with pytest.raises(InputError, match=f"{name}.*no regular file"):
            read_image(tmp_path / "a" / name)
        with pytest.raises(InputError, match=name):
            data.images([tmp_path / "a" / name])


def test_a_link_that_leads_nowhere_is_named_with_its_end(tmp_path):
    (tmp_path / "0.png").symlink_to("gone.png")
    with pytest.raises(InputError, match=r"0\.png.* link to 'gone\.png'"):
        read_image(tmp_path / "0.png")


# Names of files never steer the terminal


EVIL = "a\x1b[31m\x07\u202egnp.b\r"


def test_control_characters_are_written_out():
    assert printable(EVIL) == "a\\x1b[31m\\x07\\u202egnp.b\\x0d"
    assert printable("日本 наука ñ\u200d🙂") == "日本 наука ñ\u200d🙂"


def test_no_error_carries_what_steers_a_terminal():
    said = str(InputError(f"the class '{EVIL}' is odd\nas is", f"rename {EVIL}"))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", said)
    assert said.count("\\x1b[31m") == 2
    assert said.count("\n") == 1


def test_names_of_files_do_not_reach_the_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos" / "a", 3)
    fill(tmp_path / "photos" / f"b{EVIL}", 3, start=5)
    (tmp_path / "photos" / "a" / f"{EVIL}.png").write_text("no image")
    np.savez("named.npz", x=np.eye(6, dtype=np.float32), y=np.array([EVIL, "b"] * 3))
    for line in (
        "split --data photos --folds 2",
        "pretrain --model mlp --data photos --image-size 4 --out run",
        f"split --data 'photos/{EVIL}'",
        "split --data named.npz --folds 2",
    ):
        _, out, err = call(line)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", out + err), line
        assert "\\x1b[31m" in out + err


# Results do not lie among the data


@pytest.mark.parametrize(
    "line",
    [
        "pretrain --model mlp --data photos --out photos/run",
        "pretrain --model mlp --data photos:train --out photos/train/run",
        "cross-validate --model mlp --data . --out run",
        "split --data photos --out photos/deep/er",
        "show --data photos --out photos/a.png",
        "find-lr --model mlp --data photos --out photos/a.png",
        "pretrain --model mlp --data photos --out link/run",
    ],
)
def test_results_among_the_data_are_refused(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos" / "train" / "a", 1)
    (tmp_path / "link").symlink_to("photos")
    before = sorted(tmp_path.rglob("*"))
    assert "--out" in refused(line)
    assert sorted(tmp_path.rglob("*")) == before


# What was read


def test_what_was_read_is_one_line(tmp_path):
    fill(tmp_path / "a", 2)
    fill(tmp_path / "b", 3)
    Image.new("L", (6, 9)).save(tmp_path / "b" / "grey.png")
    assert describe_examples(data.folder(tmp_path)) == (
        "6 examples, 3 × 4 to 9 × 6 pixels, grey and colour; 2 classes (a 2, b 4)"
    )
    assert describe_examples(data.arrays(np.zeros((4, 5)), [1.0, 2.0, 3.0, 6.0])) == (
        "4 examples, 5 features; a number each, 1 to 6 (mean 3)"
    )
    labels = np.array([[1, 0], [1, 1]])
    assert describe_examples(data.arrays(np.zeros((2, 1)), labels, class_names=["x", "y"])) == (
        "2 examples, 1 feature; 2 labels (x 2, y 1)"
    )
    assert describe_examples(data.arrays(np.zeros((3, 8, 9), np.uint8))).endswith("8 × 9 pixels, grey; without labels")
    many = data.arrays(np.zeros((60, 2)), np.arange(60) % 20)
    assert "20 classes (3 examples each)" in describe_examples(many)
