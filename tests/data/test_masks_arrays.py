"""Masks in arrays and .npz files."""

import numpy as np
import pytest
from mask_folders import refused

from jaxdl import data

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
Y = RNG.integers(0, 3, (4, 6, 5), dtype=np.uint8)
Y[:, 0, :3] = [0, 1, 2]


@pytest.mark.parametrize("x", [X, np.repeat(X[..., None], 3, axis=-1), X.astype(np.float32) / 255])
@pytest.mark.parametrize("y", [Y, Y.astype(np.int64), Y[..., None], Y.tolist()])
def test_masks_beside_images(x, y):
    source = data.arrays(x, y, task="segmentation")
    assert source.x.shape == (4, 6, 5, x.shape[3] if x.ndim == 4 else 1)
    assert source.targets().dtype == np.uint8
    np.testing.assert_array_equal(source.targets(), Y)
    assert source.class_names == ("0", "1", "2")
    named = data.arrays(x, y, task="segmentation", class_names=["a", "b", "c", "d"])
    assert named.class_names == ("a", "b", "c", "d")


def test_masks_are_seen_by_their_shape():
    assert data.arrays(X, Y).class_names == ("0", "1", "2")
    assert data.arrays(X, Y > 0).class_names == ("0", "1")
    assert data.arrays(X, task="segmentation", class_names=["a"]).class_names == ("a",)
    assert data.arrays(X, task="segmentation").targets() is None
    for other in ("classification", "multilabel", "regression"):
        refused(lambda other=other: data.arrays(X, Y, task=other), "[4, 6, 5]")


def test_void_and_two_values():
    void = np.where(Y == 2, 255, Y)
    source = data.arrays(X, void, task="segmentation")
    np.testing.assert_array_equal(source.targets(), void)
    assert source.class_names == ("0", "1")
    two = data.arrays(X, np.where(Y == 2, 255, 0), task="segmentation")
    np.testing.assert_array_equal(two.targets(), Y == 2)
    assert two.class_names == ("background", "foreground")


def changed(value):
    y = Y.astype(np.int64)
    y[2, 3, 1] = value
    return y


@pytest.mark.parametrize(
    ("y", "class_names", "named"),
    [
        (changed(-1), None, ["-1", "[2, 3, 1]"]),
        (changed(256), None, ["256", "[2, 3, 1]"]),
        (changed(200), None, ["from 0, in 1 pixel,", "200", "example 2"]),
        (changed(3), ["a", "b", "c"], ["3 (1 pixel)", "example 2", "a, b, c"]),
        (Y.astype(float), None, ["float64"]),
        (Y[:3], None, ["[3, 6, 5]", "[4, 6, 5"]),
        (Y[:, :5], None, ["[4, 5, 5]"]),
        (Y[:, 0, 0], None, ["[4]"]),
        (np.full_like(Y, 255), ["a"], ["void"]),
        ([[1], [2, 3]], None, ["masks"]),
    ],
)
def test_what_is_no_mask_is_refused(y, class_names, named):
    refused(lambda: data.arrays(X, y, task="segmentation", class_names=class_names, name="mine"), "mine", *named)
    if class_names is None:
        refused(lambda: data.arrays(np.zeros((4, 3)), y, task="segmentation", name="mine"), "mine")


def test_tables_hold_no_masks(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    refused(lambda: data.load(tmp_path / "t.csv", task="segmentation"), "segmentation", "classification")


@pytest.mark.parametrize("key", ["y", "mask", "masks", "labels"])
def test_npz(tmp_path, key):
    file = tmp_path / "t.npz"
    np.savez(file, x=X, **{key: Y}, class_names=["a", "b", "c"], groups=[1, 1, 2, 2])
    for source in (data.npz(file, task="segmentation"), data.load(file, task="segmentation")):
        np.testing.assert_array_equal(source.targets(), Y)
        assert source.class_names == ("a", "b", "c")
        assert source.groups.tolist() == [1, 1, 2, 2]
        assert source.name == str(file)
    void = data.load(file, task="segmentation", masks=data.MaskOptions(void=1))
    np.testing.assert_array_equal(void.targets(), np.array([0, 255, 1])[Y])
    assert void.class_names == ("a", "c")
    named = data.load(file, task="segmentation", masks=data.MaskOptions(classes={"z": 2, "y": 1, "x": 0}))
    np.testing.assert_array_equal(named.targets(), 2 - Y)
    for options in ({"size": 3}, {"tile": 3}, {"group": "x"}):
        read = lambda options=options: data.load(file, task="segmentation", masks=data.MaskOptions(**options))  # noqa: E731
        refused(read, *options, file)


def test_npz_that_is_refused(tmp_path):
    file = tmp_path / "t.npz"
    np.savez(file, x=X, mask=Y, labels=Y)
    refused(lambda: data.npz(file, task="segmentation"), "mask, labels")
    np.savez(file, x=X, mask=np.array([object()] * 4))
    refused(lambda: data.npz(file, task="segmentation"), "'mask'", "Python objects")
    assert data.npz(file).targets() is None  # where no masks are asked for, none are read
    np.savez(file, x=X, mask=Y)
    refused(lambda: data.npz(file, task="segmentations"), "segmentation")


def test_cell_membranes(real_data):
    source = data.load(real_data / "isbi_membrane_train_256.npz", task="segmentation")
    with np.load(real_data / "isbi_membrane_train_256.npz") as file:
        np.testing.assert_array_equal(source.targets(), file["mask"])
        np.testing.assert_array_equal(source.x[..., 0], file["x"])
    assert source.class_names == ("0", "1")
    assert source[0]["y"].dtype == np.uint8
