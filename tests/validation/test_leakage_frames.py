"""Frames of a film on both sides: refused where pictures say so, a caution at the ends of blocks, silent otherwise."""

import dataclasses
import zipfile

import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.features import DataStore
from jaxdl.validation.leakage import check_leaks, check_validation, checks
from jaxdl.validation.leakage.frames import Frames, measure_frames

MLP = jaxdl.create("mlp", 2, hidden=(4,))
RNG = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Divided:
    train: tuple
    test: tuple
    purged: bool = False


def divided(side):
    return Divided((np.flatnonzero(side == 0),), (np.flatnonzero(side == 1),))


def smooth(patch):
    return np.asarray(Image.fromarray(patch).resize((24, 24), Image.Resampling.BICUBIC))


def film(count, *, step=0.3):
    """A camera that glides over a coarse random landscape, ``uint8[count, 24, 24, 3]``."""
    wide = RNG.integers(0, 256, (7, 8 + int(count * step), 3), np.uint8)
    whole = np.asarray(Image.fromarray(wide).resize((wide.shape[1] * 5, 35), Image.Resampling.BICUBIC))
    return np.stack([whole[5:29, int(i * step * 5) : int(i * step * 5) + 24] for i in range(count)])


def photographs(count):
    return np.stack([smooth(RNG.integers(0, 256, (6, 6, 3), np.uint8)) for _ in range(count)])


def held(x, names, y=None):
    y = np.arange(len(x)) % 2 if y is None else y
    return data.Arrays(x, np.asarray(y, np.int32), ("a", "b"), names=names)


def test_frames_on_both_sides_are_refused_by_name():
    source = held(film(60), [f"drive_{30 * i:06d}.jpg" for i in range(60)])
    scattered = divided(np.arange(60) % 3 == 0)
    with pytest.raises(InputError) as caught:
        check_leaks(MLP, source, scattered)
    said = str(caught.value)
    assert "frames: 20 examples" in said
    assert "drive_000000.jpg and drive_000030.jpg" in said
    assert "'frames:20'" in said
    assert "--allow frames" in said
    (leak,) = check_leaks(MLP, source, scattered, allow=["frames"])
    assert (leak.name, leak.examples) == ("frames", 20)


def test_what_was_measured_is_kept_for_other_splits(monkeypatch):
    source, store, measured = held(film(60), [f"drive_{i:03d}.jpg" for i in range(60)]), DataStore(8), []
    monkeypatch.setattr(checks, "measure_frames", lambda source: measured.append(1) or measure_frames(source))
    for part in (2, 3):
        with pytest.raises(InputError, match="frames"):
            check_leaks(MLP, source, divided(np.arange(60) % part == 0), store=store)
    assert measured == [1]


def test_the_ends_of_blocks_are_a_caution():
    source = held(film(60), [f"drive_{i}" for i in range(60)])
    (leak,) = check_leaks(MLP, source, divided((np.arange(60) // 20 == 1).astype(int)))
    assert (leak.name, leak.examples, leak.caution) == ("frames", 2, True)
    assert "drive_20 and drive_19" in leak.said
    apart = np.where(np.arange(60) < 29, 0, np.where(np.arange(60) > 31, 1, 2))
    assert check_leaks(MLP, source, divided(apart)) == []


def test_two_sources_are_looked_at_together():
    x = film(60)
    names = np.array([f"{side}/drive_{i}" for i, side in enumerate(["train", "val", "val"] * 20)])
    sides = [held(x[part], names[part].tolist()) for part in (np.arange(60) % 3 == 0, np.arange(60) % 3 > 0)]
    with pytest.raises(InputError, match="frames: 39 examples"):
        check_validation(MLP, *sides)


@pytest.mark.parametrize("seed", range(5))
def test_photographs_that_are_merely_numbered_are_none(seed):
    rng = np.random.default_rng(seed)
    source = held(photographs(60)[rng.permutation(60)], [f"img_{i:03d}.jpg" for i in range(60)])
    assert not measure_frames(source).noticed
    assert check_leaks(MLP, source, divided(rng.integers(0, 2, 60))) == []


def test_numbers_that_go_class_by_class_are_none():
    """Pictures of a class are much more alike than others; the order within it says nothing."""
    kinds = photographs(2)[np.arange(60) // 30].astype(float)
    x = (0.6 * kinds + 0.4 * photographs(60)).astype(np.uint8)
    source = held(x, [f"img_{i}" for i in range(60)], np.arange(60) // 30)
    assert not measure_frames(source).noticed
    without = dataclasses.replace(source, labels=None)
    assert measure_frames(without).likeness > measure_frames(source).likeness + 0.1
    sides = [data.subset(source, np.flatnonzero(np.arange(60) % 2 == k)) for k in range(2)]
    assert check_validation(MLP, *sides) == []


def test_what_has_no_sequence_is_not_compared():
    few = held(film(9), [f"f{i}" for i in range(9)])
    unnamed = dataclasses.replace(held(film(20), None))
    numbers = data.Arrays(np.zeros((20, 3), np.float32), names=[f"f{i}" for i in range(20)])
    for source in (few, unnamed, numbers):
        assert measure_frames(source) == Frames(None, 0)


def test_few_pairs_are_not_sure():
    assert Frames(0.85, 200).alike
    assert not Frames(0.85, 9).noticed
    assert Frames(0.65, 200).noticed
    assert not Frames(0.65, 200).alike
    assert not Frames(0.54, 10**6).noticed


@pytest.fixture(scope="module")
def camvid(real_data, tmp_path_factory):
    place = tmp_path_factory.mktemp("camvid")
    with zipfile.ZipFile(real_data / "camvid_160x120.zip") as file:
        file.extractall(place)
    return place


def test_camvid(camvid):
    options = {"void": 11, "size": 32, "classes": [*map(str, range(12))]}
    train, val, test = (data.masks(camvid, split, **options) for split in ("train", "val", "test"))
    allow = ["near-duplicates"]  # not looked for: they take most of the time

    def found(leaks):
        return [(leak.examples, leak.caution) for leak in leaks if leak.name == "frames"]

    assert found(check_validation(MLP, train, val, allow=allow)) == [(2, True)]
    assert found(check_validation(MLP, train, test, allow=allow)) == [(1, True)]
    with pytest.raises(InputError, match=r"frames: \d+ examples"):
        check_leaks(MLP, train, divided(RNG.permutation(len(train)) % 5 == 0), allow=allow)
    blocks = data.masks(camvid, "train", group="frames:20", **options)
    names, number = np.unique(blocks.groups, return_inverse=True)
    assert len(names) == sum(-(-count // 20) for count in (62, 101, 204))
    ((_, caution),) = found(check_leaks(MLP, blocks, divided((number % 5 == 0).astype(int)), allow=allow))
    assert caution


def test_photographs_in_the_order_of_their_names(real_data):
    with zipfile.ZipFile(real_data / "hymenoptera_s160.zip") as file:
        names = sorted(name for name in file.namelist() if "/train/" in f"/{name}" and name.endswith(".jpg"))
        x = np.stack([np.asarray(Image.open(file.open(n)).convert("RGB").resize((32, 32))) for n in names])
    numbered = held(x, [f"img_{i:04d}" for i in range(len(x))], ["bees" in name for name in names])
    assert measure_frames(numbered).pairs > 150
    assert not measure_frames(numbered).noticed
