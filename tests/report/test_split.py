"""What a division looks like for targets of every kind, against counting."""

import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.report.split import as_csv, as_text, fold_rows, say_split
from jaxdl.report.split_picture import write_split_picture
from jaxdl.tasks import choose_task
from jaxdl.validation.splits import split_source

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3)).astype(np.float32)
LABELS = (RANDOM.random((40, 3)) < [0.5, 0.3, 0.1]).astype(np.uint8)


def divided(targets, names=None, groups=None):
    source = data.arrays(X, targets, class_names=names, groups=groups)
    task = choose_task(source, purpose="a split")
    split = split_source(source, "auto", 4, 0, task)
    return split, source, task


def test_classes_are_counted():
    targets = np.arange(40) % 5
    split, source, task = divided(targets, tuple("abcde"))
    rows = fold_rows(split, source, task)
    for row, test in zip(rows, split.test, strict=True):
        np.testing.assert_array_equal(row["test_classes"], np.bincount(targets[test], minlength=5))
    assert as_text(rows, source)[0] == ["fold", "train", "test", "largest shift of a class"]
    assert as_csv(rows, source)[0]["test:a"] == (targets[split.test[0]] == 0).sum()


def test_labels_are_counted_by_name():
    split, source, task = divided(LABELS, ("sun", "rain", "snow"))
    rows = fold_rows(split, source, task)
    headers, lines = as_text(rows, source)
    assert headers == ["fold", "train", "test", "labels in train, %", "labels in test, %"]
    for row, line, test in zip(rows, lines, split.test, strict=True):
        np.testing.assert_array_equal(row["test_labels"], LABELS[test].sum(0))
        assert line[-1] == " : ".join(f"{100 * share:.0f}" for share in LABELS[test].mean(0))
    assert as_csv(rows, source)[0]["train:rain"] == LABELS[split.train[0], 1].sum()
    assert "sun : rain : snow" in " ".join(say_split(split, rows, source))


def test_numbers_have_mean_and_spread():
    split, source, task = divided(X[:, 0])
    rows = fold_rows(split, source, task)
    held = X[split.test[0], 0]
    assert rows[0]["test_target"] == pytest.approx((held.mean(), held.std()))
    assert as_text(rows, source)[0][3:] == ["target in train", "target in test"]


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers", "groups"])
def test_every_kind_has_a_picture(tmp_path, kind):
    targets = {"labels": LABELS, "numbers": X[:, 0]}.get(kind, np.arange(40) % 2)
    groups = np.arange(40) // 4 if kind == "groups" else None
    path = write_split_picture(tmp_path / "folds.png", *divided(targets, groups=groups))
    assert np.ptp(np.asarray(Image.open(path).convert("RGB")), axis=(0, 1)).min() > 100
