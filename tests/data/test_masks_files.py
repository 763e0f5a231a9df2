"""Which mask belongs to which image, which splits there are, and which images belong together."""

import os

import numpy as np
import pytest
from mask_folders import LAYOUTS, image, numbers, plain, refused, save

from jaxdl import data
from jaxdl.data.frames import frame_numbers
from jaxdl.data.masks import mask_splits

MASK = numbers(0)


def stems(source):
    return [os.path.basename(name).rsplit(".", 1)[0] for name in source.names]


def divided(root, layout, counts=(("train", 3), ("val", 2), ("test", 1))):
    """Folders of splits; each image and mask differs from all others."""
    seed = 0
    for split, count in counts:
        images, masks = LAYOUTS[layout](split)
        for i in range(count):
            save(image(seed), root / images / f"{split}{i}.jpg", quality=95)
            save(numbers(seed), root / masks / f"{split}{i}.png")
            seed += 1
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits(tmp_path, layout):
    root = divided(tmp_path, layout)
    assert mask_splits(root) == ("train", "val", "test")
    expected = {"train": ["train0", "train1", "train2"], "val": ["val0", "val1"], "test": ["test0"]}
    for split, names in expected.items():
        source = data.masks(root, split)
        assert stems(source) == names
        assert source.name == f"{root}:{split}"
        assert stems(data.load(f"{root}:{split}", task="segmentation")) == names
        assert stems(data.load(root, split)) == names  # seen by its folders
    everything = [name for names in expected.values() for name in names]
    for source in (data.masks(root), data.masks(root, "all"), data.load(root, None), data.load(root, "validation")):
        assert stems(source) == everything
    np.testing.assert_array_equal(data.masks(root).targets(), [numbers(i) for i in range(6)])
    assert stems(data.load(f"{root}:dev", task="segmentation")) == expected["val"]
    refused(lambda: data.masks(root, "odd"), "'odd'", "train, val, test, all")
    refused(lambda: data.load(f"{root}:odd", task="segmentation"), ":odd")


def test_a_split_without_masks_is_left_out_and_said(tmp_path):
    root = divided(tmp_path, "annot", (("train", 2), ("val", 1)))
    save(image(9), root / "test" / "t.jpg")
    assert mask_splits(root) == ("train", "val")
    source = data.masks(root)
    assert stems(source) == ["train0", "train1", "val0"]
    assert any("test/" in note for note in source.notes)
    refused(lambda: data.masks(root, "test"), "'test'", "train, val, all")
    unlabelled = data.masks(root, "test", labelled=False)
    assert stems(unlabelled) == ["t"]
    assert unlabelled.targets() is None
    assert set(unlabelled[0]) == set(unlabelled.spec()) == {"x"}
    whole = data.masks(root, labelled=False)  # some with and some without
    assert (len(whole), whole.targets()) == (4, None)
    assert any("not read" in note for note in whole.notes)
    assert data.masks(root, "val", labelled=False).targets() is not None


def test_files_that_are_no_images_are_counted(tmp_path):
    root = divided(tmp_path, "folders", (("train", 2),))
    images, _ = LAYOUTS["folders"]("train")
    for name in ("a.heic", "b.heic", ".hidden"):
        (root / images / name).touch()
    os.mkfifo(root / images / "pipe")
    source = data.masks(root)
    assert len(source) == 2
    (note,) = [note for note in source.notes if "left out" in note]
    assert "2 .heic files" in note
    assert "1 pipe" in note
    os.mkfifo(root / images / "pipe.png")
    refused(lambda: data.masks(root), "pipe.png")


def test_folders_below_and_endings(tmp_path):
    for i, (one, other) in enumerate(
        [("a", "a"), ("b", "b_mask"), ("deep/a", "deep/a_gt"), ("deep/er/c", "deep/er/c"), ("d_mask", "d_mask")]
    ):
        save(image(i), tmp_path / "images" / f"{one}.png")
        save(numbers(i), tmp_path / "masks" / f"{other}.png")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "masks" / "notes.txt").write_text("x")
    source = data.masks(tmp_path)
    assert [os.path.relpath(name, tmp_path / "images") for name in source.names] == [
        "a.png",
        "b.png",
        "d_mask.png",
        "deep/a.png",
        "deep/er/c.png",
    ]
    np.testing.assert_array_equal(source.targets(), [numbers(i) for i in (0, 1, 4, 2, 3)])
    pair = data.masks((tmp_path / "images", tmp_path / "masks"))
    assert pair.fingerprint() == source.fingerprint()
    assert data.load(tmp_path, "train").fingerprint() == source.fingerprint()  # there are no splits


def test_what_has_no_partner(tmp_path):
    root = plain(tmp_path, [MASK] * 8)
    for name in "abcdefg":
        (root / "masks" / f"{name}.png").rename(root / "masks" / f"other_{name}.png")
    said = refused(
        lambda: data.masks(root), "7 of 8 images", "a.png", "e.png", "7 masks", "other_e.png", root / "images"
    )
    assert "f.png" not in said
    assert data.masks(root, labelled=False).targets() is None
    alone = data.masks(root / "images", labelled=False)
    assert len(alone) == 8
    assert alone.targets() is None
    assert alone.class_names == ()
    assert data.masks(root / "images", labelled=False, classes=["a", "b"], void="b").class_names == ("a",)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("images/a.jpg", ["a.png", "a.jpg"]),
        ("masks/a.jpg", ["a.png", "a.jpg"]),
        ("masks/a_mask.png", ["a_mask.png", "no image"]),
        ("masks/z.tif", ["z.tif", "no image"]),
    ],
)
def test_what_could_be_two_things(tmp_path, place, named):
    root = plain(tmp_path, [MASK])
    save(MASK, root / place)
    refused(lambda: data.masks(root), *named)


def test_two_endings(tmp_path):
    root = plain(tmp_path, [MASK])
    (root / "masks" / "a.png").rename(root / "masks" / "a_gt.png")
    assert len(data.masks(root)) == 1
    save(MASK, root / "masks" / "a_label.png")
    refused(lambda: data.masks(root), "a.png", "a_gt.png", "a_label.png")


def test_folders_that_are_none(tmp_path):
    refused(lambda: data.masks(tmp_path / "no"), "no")
    refused(lambda: data.masks(tmp_path), "images", "masks", "trainannot")
    refused(lambda: data.load(tmp_path, task="segmentation"), "images", "masks")
    refused(lambda: data.masks((tmp_path, tmp_path / "no")), "no")
    refused(lambda: data.masks((tmp_path,)), "1 folder")
    refused(lambda: data.masks(tmp_path, labelled=False), "no images")
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    refused(lambda: data.masks(tmp_path), "no images")
    plain(tmp_path, [MASK])
    refused(lambda: data.masks(tmp_path, "train"), "'train'")
    refused(lambda: data.masks((tmp_path / "images", tmp_path / "masks"), "train"), "'train'")
    divided(tmp_path, "folders")
    refused(lambda: data.masks(tmp_path), "train", "images/")


def test_a_folder_of_classes_is_none_of_masks(tmp_path):
    for name in ("ant", "bee"):
        save(image(0), tmp_path / name / "0.png")
    assert mask_splits(tmp_path) is None
    assert data.load(tmp_path).class_names == ("ant", "bee")
    refused(lambda: data.load(tmp_path, task="segmentation"), "masks")


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    root = plain(tmp_path / "real", [MASK])
    (tmp_path / "linked").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "linked" / name).symlink_to(root / name)
        (root / name / "again").symlink_to(root / name)
    assert len(data.masks(tmp_path / "linked")) == 1


def test_groups_by_a_pattern(tmp_path):
    for i, name in enumerate(["p1_a", "p1_b", "p2_a", "deep/p2_b"]):
        save(image(i), tmp_path / "images" / f"{name}.png")
        save(numbers(i), tmp_path / "masks" / f"{name}.png")

    def groups(pattern):
        return dict(zip(stems(source := data.masks(tmp_path, group=pattern)), source.groups.tolist(), strict=True))

    assert groups("p(.)") == {"p1_a": "1", "p1_b": "1", "p2_a": "2", "p2_b": "2"}
    assert groups("^p.") == {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2", "p2_b": "p2"}
    assert data.masks(tmp_path).groups is None
    refused(lambda: groups("p1"), "2 of 4", "p2_a", "p2_b")
    refused(lambda: groups("p2|(p1)"), "2 of 4", "p2_a")
    refused(lambda: groups("("), "'('")
    refused(lambda: groups("frames:2"), "4 of 4", "p1_a")
    for bad in ("frames:", "frames:0", "frames:x", "frames:-1", "frames:²"):
        refused(lambda bad=bad: groups(bad), bad)


def test_groups_of_frames(tmp_path):
    names = [f"d1_{30 * i:04d}" for i in range(7)] + ["d2_0005", "d2_0001"]
    for i, name in enumerate(names):
        save(image(i), tmp_path / "images" / f"{name}.png")
        save(numbers(i), tmp_path / "masks" / f"{name}.png")
    source = data.masks(tmp_path, group="frames:3")
    frames = frame_numbers(source.names)
    for one, (prefix, number) in zip(source.groups, frames, strict=True):
        others = [n for g, (p, n) in zip(source.groups, frames, strict=True) if g == one]
        assert {p for g, (p, _) in zip(source.groups, frames, strict=True) if g == one} == {prefix}
        assert len(others) <= 3
        assert number in others
    assert len(set(source.groups)) == 4  # 3, 3, 1 and 2
    np.testing.assert_array_equal(source.groups[:6], np.repeat(source.groups[[0, 3]], 3))
