"""Every kind of source keeps one contract, and is known by what it holds."""

import csv as standard
import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from source_contract import Own, check_contract

from jaxdl import data
from jaxdl.data.folder import ImageFiles
from jaxdl.data.preprocessing import choose_preprocessing
from jaxdl.data.source import Arrays, Joined, Subset, check_source
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
X[4] = X[1]  # a copy
Y = np.array([0, 1, 1, 0, 1, 0], np.int32)
GROUPS, TIMES = np.array([1, 1, 2, 2, 3, 3]), np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])


def as_arrays(_, x=X, y=Y, names=("ant", "bee"), groups=GROUPS, times=TIMES):
    return Arrays(x, y, names, groups, times)


def as_own(_, x=X, y=Y, names=("ant", "bee"), groups=GROUPS, times=TIMES):
    examples = [{"x": one, "y": label} for one, label in zip(x, y, strict=True)]
    return Own(examples, class_names=names, groups=groups, times=times)


def as_dicts(_, x=X, y=Y, names=("ant", "bee"), groups=GROUPS, times=TIMES):
    examples = [
        {"x": {"ids": one[..., 0], "deeper": {"mask": one[0] > 9}}, "y": label} for one, label in zip(x, y, strict=True)
    ]
    return Own(examples, class_names=names, groups=groups, times=times)


def as_files(folder, x=X, y=Y, names=("ant", "bee"), groups=GROUPS, times=TIMES):
    """A table of images."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    with (folder / "t.csv").open("w", newline="") as file:
        writer = standard.writer(file)
        writer.writerow(["file", "label", "group", "time"])
        for i, image in enumerate(x):
            Image.fromarray(image).save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", names[y[i]], groups[i], times[i]])
    return data.csv(folder / "t.csv")


def as_folder(folder, x=X, y=Y):
    for i, image in enumerate(x):
        place = Path(folder) / ("ant", "bee")[y[i]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[: 3 + i % 3]).save(place / f"{i}.png")
    return data.folder(folder)


def as_table(folder):
    Path(folder).mkdir(parents=True)
    rows = ["a,b,label,group,time,text", *(f"{i},{i / 3},{'uv'[i % 2]},g{i // 2},{-i},says {i}" for i in range(6))]
    (Path(folder) / "t.csv").write_text("\n".join(rows))
    return data.csv(Path(folder) / "t.csv", time="time")


def as_mixed_table(folder):
    Path(folder).mkdir(parents=True)
    rows = ["a,size,label", *(f"{i / 3 if i % 4 else ''},{'SML'[i % 3]},{'uv'[i % 2]}" for i in range(6))]
    (Path(folder) / "t.csv").write_text("\n".join(rows))
    return data.csv(Path(folder) / "t.csv")


def as_masks(folder, **options):
    for i, pixels in enumerate(X):
        for place, array in (("images", pixels), ("masks", pixels[..., 0] % 3)):
            (Path(folder) / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(Path(folder) / place / f"f_{i}.png")
    return data.masks(folder, **options)


MAKE = {
    "images with masks": as_masks,
    "images with masks, scaled": lambda folder: as_masks(folder, size=(3, 7)),
    "tiles of images with masks": lambda folder: as_masks(folder, tile=3),
    "tiles that are larger than images": lambda folder: as_masks(folder, tile=(9, 2), group="frames:2"),
    "images without masks": lambda folder: data.masks(as_masks(folder).paths[0].parent, labelled=False, size=4),
    "masks in memory": lambda _: data.arrays(X, X[..., 0] % 3, task="segmentation"),
    "arrays": as_arrays,
    "arrays without labels": lambda _: Arrays(X),
    "arrays in a dict": lambda _: Arrays({"ids": X[:, 0], "mask": X > 9}, {"count": Y, "masks": X[..., 0] > 99}),
    "labels of several columns": lambda _: data.arrays(X, np.eye(6, 3, dtype=int)),
    "a folder": as_folder,
    "images by table": as_files,
    "a table": as_table,
    "a table with categories and gaps": as_mixed_table,
    "a part": lambda folder: Subset(as_own(folder), np.array([5, 1, 1, 3])),
    "a part whose first shape is another one": lambda _: Own([{"x": np.zeros(i)} for i in range(1, 6)]).take(
        np.array([3, 1, 2])
    ),
    "two in a row": lambda folder: as_own(folder).join(as_own(folder, x=255 - X), np.tile(Y, 2)),
    "two in a row, labels of another kind": lambda folder: Joined(
        as_own(folder), as_folder(folder), np.linspace(0, 1, 12, dtype=np.float32)
    ),
    "two arrays in a row": lambda folder: as_arrays(folder).join(as_arrays(folder), np.tile(Y, 2)),
    "regrouped": lambda folder: as_own(folder).with_groups(np.array(list("abcabc"))),
    "regrouped files": lambda folder: as_files(folder).with_groups(np.array(list("abcabc"))),
    "one's own": as_own,
    "one's own, of dicts": as_dicts,
    "one's own, without labels": lambda _: Own([{"x": x} for x in X]),
    "one's own, y a dict": lambda _: Own([{"x": x, "y": {"box": x[0, 0] / 255, "class": np.int32(7)}} for x in X]),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_source_agrees_with_itself(tmp_path, kind):
    check_contract(MAKE[kind](tmp_path / "made"), exact_shapes=not kind.startswith("a part whose"))


def test_indices_count_from_the_end_as_in_a_list(tmp_path):
    joined = as_own(tmp_path).join(as_own(tmp_path, x=255 - X), np.arange(12))
    assert joined[-1]["y"] == 11
    np.testing.assert_array_equal(joined[-1]["x"], 255 - X[5])
    for source in (joined, joined.take(np.arange(12)), as_arrays(tmp_path)):
        assert len(list(source)) == len(source)  # an index past the end ends a loop
        with pytest.raises(IndexError):
            source[len(source)]


# What it is known by


def _changed(values, index, value):
    values = values.copy()
    values[index] = value
    return values


ORDER = [1, 0, 2, 3, 4, 5]
CHANGES = {
    "one pixel": {"x": _changed(X, (3, 2, 1, 0), X[3, 2, 1, 0] ^ 1)},
    "one label": {"y": _changed(Y, 0, 1)},
    "the order": {"x": X[ORDER], "y": Y[ORDER], "groups": GROUPS[ORDER], "times": TIMES[ORDER]},
    "the order of x alone": {"x": X[ORDER]},
    "groups": {"groups": _changed(GROUPS, 5, 1)},
    "times": {"times": _changed(TIMES, 5, 1.5)},
    "class names": {"names": ("ant", "wasp")},
}


@pytest.mark.parametrize("make", [as_arrays, as_own, as_dicts, as_files])
@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_changes_with(tmp_path, make, what):
    before = make(tmp_path / "before")
    assert before.fingerprint() == make(tmp_path / "same").fingerprint()
    after = make(tmp_path / "after", **CHANGES[what])
    assert after.fingerprint() != before.fingerprint()
    ends = np.array([0, 1, 5, 3])
    parts = [source.take(ends).fingerprint() for source in (before, after)]
    assert parts[0] != parts[1]


def test_the_fingerprint_tells_apart_what_has_the_same_bytes():
    sources = [
        Arrays(X, Y),
        Arrays(X),
        Arrays(X, Y.astype(np.int64)),
        Arrays(X.reshape(6, 4, 5, 3), Y),
        Arrays(X.view(np.int8), Y),
        Arrays(X[:-1], Y[:-1]),
        Arrays({"a": X}, Y),
        Arrays({"b": X}, Y),
        Arrays(X, {"b": Y}),
        Arrays(X, Y, groups=TIMES),
        Arrays(X, Y, times=TIMES),
        Arrays(X, Y, groups=np.array(["1", "12", "3"] * 2)),
        Arrays(X, Y, groups=np.array(["11", "2", "3"] * 2)),
        Arrays(X, Y, class_names=("a", "b")),
        Arrays(X, Y, class_names=("a, b",)),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)


def test_sources_of_ones_own_are_told_apart_by_x_alone(tmp_path):
    one, two = as_own(tmp_path), as_own(tmp_path, x=255 - X)
    assert len(one) == len(two)
    np.testing.assert_array_equal(one.targets(), two.targets())
    assert one.fingerprint() != two.fingerprint()
    assert not set(one.hashes().tolist()) & set(two.hashes().tolist())


def test_the_same_content_is_the_same_from_anywhere(tmp_path):
    own, held = as_own(tmp_path), as_arrays(tmp_path)
    joined = held.take(np.arange(2)).join(held.take(np.arange(2, 6)), Y)
    split = Joined(own.take(np.arange(2)), own.take(np.arange(2, 6)), Y)
    assert {s.fingerprint() for s in (own, held, joined, split)} == {held.fingerprint()}
    wide = held.with_groups(np.array(["a", "a", "a", "a", "a", "long"]))
    narrow = held.with_groups(np.array(["a"] * 6))
    part = np.arange(5)  # numpy's strings are as wide as the longest one, which is left out
    assert wide.take(part).fingerprint() == narrow.take(part).fingerprint()


def _npz(folder):
    Path(folder).mkdir(parents=True)
    np.savez(Path(folder) / "t.npz", x=X, y=Y)
    return data.npz(Path(folder) / "t.npz")


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (as_folder, data.folder),
        (as_files, lambda folder: data.csv(Path(folder) / "t.csv")),
        (as_table, lambda folder: data.csv(Path(folder) / "t.csv", time="time")),
        (lambda folder: as_masks(folder, tile=3), lambda folder: data.masks(folder, tile=3)),
        (_npz, lambda folder: data.npz(Path(folder) / "t.npz")),
    ],
    ids=["folder", "images_by_table", "table", "tiles", "npz"],
)
def test_the_fingerprint_does_not_depend_on_the_place(tmp_path, monkeypatch, make, read):
    place = tmp_path / "here" / "data"
    expected = make(place).fingerprint()
    (tmp_path / "link").symlink_to(place, target_is_directory=True)
    shutil.copytree(place, tmp_path / "elsewhere" / "copied")
    for path in (place, tmp_path / "link", f"{place}/../data/", tmp_path / "elsewhere" / "copied"):
        assert read(path).fingerprint() == expected
    for current, path in ((tmp_path, "here/data"), (tmp_path / "here", "data"), (place, "."), (place, "../../link")):
        monkeypatch.chdir(current)
        assert read(path).fingerprint() == expected
        assert read(place).fingerprint() == expected
    for path in place.rglob("*"):
        os.utime(path, (1, 1))
    assert read(place).fingerprint() == expected


def test_hashes_of_files_are_those_of_their_bytes(tmp_path):
    source = as_folder(tmp_path / "data")
    for path, found in zip(source.paths, source.hashes(), strict=True):
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).digest()
        assert int(found) == int.from_bytes(digest, "little")
    source.paths[1].unlink()
    with pytest.raises(InputError, match=source.paths[1].name):
        dataclasses.replace(source).hashes()  # which has read nothing yet


def test_hashes_of_arrays_are_those_of_type_shape_and_bytes():
    for source in (Arrays(X), Own([{"x": x} for x in X])):
        for x, found in zip(X, source.hashes(), strict=True):
            digest = hashlib.blake2b(b"|u1 (5, 4, 3)" + x.tobytes(), digest_size=8).digest()
            assert int(found) == int.from_bytes(digest, "little")
    assert source.hashes()[4] == source.hashes()[1]


# How often it is read


@pytest.mark.parametrize("make", [as_own, as_dicts])
def test_examples_are_read_once(tmp_path, make):
    source = make(tmp_path)
    source.fingerprint(), source.hashes(), source.targets()
    part = source.take(np.array([2, 0]))
    part.fingerprint(), part.hashes(), part.targets()
    part.take(np.array([1])).fingerprint()
    data.with_groups(source, GROUPS[::-1]).fingerprint()
    source.join(source, np.tile(Y, 2)).fingerprint()
    assert sorted(source.asked) == list(range(6))


def test_files_are_read_once_and_not_decoded(tmp_path):
    read = []

    class Noted(type(Path())):
        def read_bytes(self):
            read.append(self.name)
            return super().read_bytes()

    found = as_folder(tmp_path / "data")
    source = dataclasses.replace(found, paths=tuple(Noted(path) for path in found.paths))
    for path in source.paths:
        path.write_bytes(b"no image: " + path.name.encode())  # to decode it would fail
    assert source.fingerprint() != found.take(np.arange(5)).fingerprint()
    part = source.take(np.array([2, 0]))
    assert isinstance(part, ImageFiles)
    part.fingerprint(), part.hashes(), part.take(np.array([1])).fingerprint(), source.hashes()
    source.with_groups(GROUPS).fingerprint()
    assert sorted(read) == sorted(path.name for path in found.paths)


# What is refused


class NoSource:
    """Has all that a source once had to have."""

    name, class_names, groups, times, names, labels = "mine", ("a", "b"), None, None, None, Y

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"x": X[index], "y": Y[index]}


@pytest.mark.parametrize("use", [check_source, lambda source: data.subset(source, [0])])
@pytest.mark.parametrize("source", [NoSource(), X, 7])
def test_what_is_no_source_is_refused_by_its_type(use, source):
    with pytest.raises(InputError, match=type(source).__name__):
        use(source)


def test_x_in_a_list_is_refused():
    for x in ([X[0], X[1]], {"ids": (X[0], X[1])}):
        source = Own([{"x": x}] * 3, name="mine")
        assert len(source.fingerprint()) == 64
        with pytest.raises(InputError, match="x of mine"):
            choose_preprocessing(source, None, 224)


@pytest.mark.parametrize("key", ["a/b", "", 3])
def test_keys_that_a_card_cannot_name_are_refused(key):
    with pytest.raises(InputError, match=f"mine has the key {key!r}"):
        choose_preprocessing(Own([{"x": {key: X[0]}}], name="mine"), None, 224)


@pytest.mark.parametrize(
    "other",
    [{"ids": np.zeros(4)}, {"ids": np.zeros((3, 1))}, {"other": np.zeros(3)}, np.zeros(3), {"ids": {"a": np.zeros(3)}}],
    ids=["longer", "deeper", "another_key", "bare", "nested"],
)
def test_x_of_another_shape_is_refused_where_it_is(other):
    source = Own([{"x": {"ids": np.zeros(3)}}, {"x": other}], name="mine")
    with pytest.raises(InputError, match="example 1 of mine"):
        choose_preprocessing(source, None, 224).load(source)


@pytest.mark.parametrize("other", [np.zeros(3), {"a": 1}, None], ids=["shape", "structure", "none"])
def test_y_of_another_shape_is_refused(other):
    examples = [{"x": x, "y": np.zeros(2)} for x in X]
    examples[4] = {"x": X[4], "y": other} if other is not None else {"x": X[4]}
    source = Own(examples, name="mine")
    for read in (source.targets, source.fingerprint, lambda: choose_task(source, purpose="training")):
        with pytest.raises(InputError, match="of mine"):
            read()


def test_groups_of_another_number_are_refused():
    with pytest.raises(InputError, match=r"6 examples.* 5"):
        data.with_groups(Arrays(X), np.arange(5))


def test_columns_that_cannot_be_moved_are_refused():
    source = Own([{"x": np.zeros(2)}], name="mine", columns=("a", "b"))
    with pytest.raises(InputError, match=r"(?s)mine .*Own.*with_columns"):
        source.with_columns(("b", "a"))


def test_columns_are_arranged_through_parts_and_rows(tmp_path):
    table = as_table(tmp_path / "t")
    for source in (table, Subset(table, np.array([3, 1, 0])), Joined(table, table, np.zeros(12))):
        moved = source.with_columns(("b", "a"))
        assert moved.columns == ("b", "a")
        assert len(moved) == len(source)
        for i in range(len(source)):
            np.testing.assert_array_equal(moved[i]["x"], source[i]["x"][::-1])


def test_examples_in_memory_are_known_as_such(tmp_path):
    held, own = as_arrays(tmp_path), as_own(tmp_path)
    assert held.in_memory
    assert held.join(own, np.tile(Y, 2)).in_memory
    assert held.take(np.arange(2)).in_memory
    assert not own.in_memory
    assert own.stacked() is None
    assert not own.take(np.arange(2)).in_memory
    np.testing.assert_array_equal(Subset(held, np.array([4, 0])).stacked(), X[[4, 0]])
    assert jax.tree.leaves(own.take(np.arange(2)).stacked()) == []
