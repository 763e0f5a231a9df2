"""The same example with two labels: said before anything else, and what is advised against it works."""

import json
import re

import numpy as np
import pytest
from command_line import call
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.leakage import check_validation, contradictions, drop_contradictions
from jaxdl.validation.leakage.duplicates import alike_contradictions, find_copies

RNG = np.random.default_rng(0)
MLP = jaxdl.create("mlp", 2, hidden=(2,))


def photos(root, split="", extra=()):
    for name in ("ants", "bees"):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(5):
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    for one, other in extra:
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_bytes((root / one).read_bytes())
    return root


def test_an_image_in_two_classes_is_found(tmp_path):
    source = data.folder(
        photos(
            tmp_path,
            extra=[("ants/1.png", "bees/same.png"), ("ants/1.png", "bees/9.png"), ("ants/2.png", "ants/x.png")],
        )
    )
    names = [source.names[i] for one in contradictions(source) for i in one]
    assert names == [str(tmp_path / name) for name in ("ants/1.png", "bees/9.png", "bees/same.png")]
    kept, dropped = drop_contradictions(source)
    assert [source.names[i] for i in dropped] == names
    assert (len(kept), contradictions(kept)) == (len(source) - 3, [])
    again, none = drop_contradictions(kept)
    assert again is kept
    assert len(none) == 0


def test_images_that_look_the_same_in_two_classes_are_told(tmp_path, monkeypatch):
    """Stored again at another size and brightness; refused between folds, a caution where both are on one side."""
    monkeypatch.chdir(tmp_path)
    for name in ("ants", "bees"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for i in range(12):
        picture = Image.fromarray(RNG.integers(0, 200, (6, 6, 3), np.uint8)).resize((36, 36), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "photos" / ("ants", "bees")[i % 2] / f"{i}.png")
        if i < 2:  # the first in the other class, too, the second twice in its own
            again = picture.resize((48, 48), Image.Resampling.BICUBIC).point(lambda value: value + 20)
            again.save(tmp_path / "photos" / "bees" / f"again {i}.png")
    said = "labels: 2 examples look the same as others but are labelled differently: "
    said += "photos/ants/0.png (ants) ~ photos/bees/again 0.png (bees)"
    line = "cross-validate --model mlp --data photos --epochs 1 --folds 2 --fold-strategy loop --image-size 8 --out run"
    code, _, err = call(f"{line} --splitter leave-one-out")
    assert code == 2
    assert err.index(said) < err.index("near-duplicates: 4 examples are tested that look the same")
    code, out, err = call(f"{line} --group-duplicates")
    assert code == 0, err
    assert f"Caution: {said}." in out
    assert "again 1" not in out
    assert said in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "photos" / "bees" / "again 0.png").unlink()
    source = data.folder("photos")
    assert alike_contradictions(source, find_copies(source)).shape == (0, 2)


def test_what_contradicts_and_what_does_not():
    x = RNG.normal(size=(6, 9)).astype(np.float32)
    x = np.concatenate([x, x[:2]])
    assert [one.tolist() for one in contradictions(data.arrays(x, [0, 1, 0, 1, 0, 1, 1, 1]))] == [[0, 6]]
    assert contradictions(data.arrays(x, np.arange(8.0))) == []  # two measurements of one thing
    labels = np.array([[1, 0]] * 7 + [[1, 1]])
    assert [one.tolist() for one in contradictions(data.arrays(x, labels))] == [[1, 7]]
    common = np.zeros((40, 2), np.float32)  # rows that are equal by coincidence
    assert contradictions(data.arrays(common, np.arange(40) % 2)) == []


def test_classes_of_the_validation_part_are_compared_by_name():
    """Class 0 of the one is not class 0 of the other."""
    x = RNG.integers(0, 256, (6, 8, 8, 1), np.uint8)
    train = data.arrays(x, ["a", "a", "b", "b", "b", "b"], name="train")
    same = data.arrays(x[2:4], ["b", "b"], name="val")
    other = data.arrays(x[:1], ["b"], name="val")
    (found,) = check_validation(MLP, train, same, allow=["duplicates"])
    assert found.name == "duplicates"
    with pytest.raises(InputError, match=r"labels: .*train\[0\] \(a\) = val\[0\] \(b\)"):
        check_validation(MLP, train, other)
    assert [leak.name for leak in check_validation(MLP, train, other, allow=["labels", "duplicates"])] == [
        "labels",
        "duplicates",
    ]


def test_the_command_says_it_first_and_its_advice_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", extra=[("ants/1.png", "bees/same.png")])
    line = "cross-validate --model mlp --data photos --epochs 1 --folds 2 --fold-strategy loop --out run"
    code, _, said = call(line)
    assert code == 2
    kinds = re.findall(r"^\s*(labels|duplicates): ", said, re.MULTILINE)
    assert kinds[0] == "labels"
    assert "photos/ants/1.png (ants) = photos/bees/same.png (bees)" in said
    (advised,) = set(re.findall(r"--drop-[a-z]+", said))
    line = "pretrain --model mlp --data photos --epochs 1 --out run"
    code, out, _ = call(f"{line}-as-it-is")
    assert code == 0  # where nothing is measured it is a caution
    assert "photos/ants/1.png (ants) = photos/bees/same.png (bees)" in out
    code, _, err = call(f"{line} {advised}")
    assert code == 0, err
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [name for name, _ in told["broken"]] == ["photos/ants/1.png", "photos/bees/same.png"]
    assert len(jaxdl.restore("run").card.seen) == 9
    (tmp_path / "photos/bees/same.png").unlink()  # the other advice
    assert contradictions(data.folder("photos")) == []


def test_between_train_and_val(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", "train")
    photos(tmp_path / "photos", "val", extra=[("train/ants/1.png", "val/bees/same.png")])
    line = "pretrain --model mlp --data photos --epochs 1 --out run"
    code, _, said = call(line)
    assert code == 2
    assert "photos/train/ants/1.png (ants) = photos/val/bees/same.png (bees)" in said
    code, _, err = call(f"{line} --drop-contradicting")
    assert code == 0, err
    assert "photos/val/bees/same.png" in err
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["settings"]["held_out"] == 10
    assert len(told["broken"]) == 2
