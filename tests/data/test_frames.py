"""Sequences by names: prefixes and numbers, neighbours on two sides, blocks."""

import zipfile

import numpy as np
import pytest

from jaxdl.data.frames import consecutive, frame_blocks, frame_numbers, sequences


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001TP_006690.jpg", ("0001TP", 6690)),
        ("train/0001TP_006690.jpg", ("0001TP", 6690)),
        ("a/test/images/0001TP_006690", ("a/0001TP", 6690)),
        ("cat/img-7.jpeg", ("cat/img", 7)),
        ("dog/img-7.jpeg", ("dog/img", 7)),
        ("Seq05VD_f00030.png[0:64, 64:128]", ("Seq05VD_f", 30)),
        ("0042.png", ("", 42)),
        ("v1.5 30", ("v1.5", 30)),
        ("x\\frame3.PNG", ("x/frame", 3)),
        ("a_b.jpg", None),
        ("12a.jpg", None),
        ("", None),
        ("²", None),  # a digit, but not one of a decimal number
        ("9" * 19, None),
    ],
)
def test_names_and_numbers(name, expected):
    assert frame_numbers([name]) == [expected]


def by_hand(names, train, test, within, least):
    """Each test example with a neighbour, by the definition."""
    frames, found = frame_numbers(names), set()
    for one in test:
        if frames[one] is None:
            continue
        prefix, number = frames[one]
        order = sorted({f[1] for f in frames if f is not None and f[0] == prefix})
        if len(order) < least:
            continue
        place = order.index(number)
        beside = set(order[max(0, place - 1) : place + 2])
        for other in train:
            if frames[other] is not None and frames[other][0] == prefix:
                theirs = frames[other][1]
                if theirs in beside or abs(theirs - number) <= within:
                    found.add(int(one))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_neighbours_are_those_of_a_comparison_one_by_one(seed):
    rng = np.random.default_rng(seed)
    names = [f"{'ab'[rng.integers(2)]}{rng.integers(0, 60)}" for _ in range(40)] + ["c1", "none"]
    side = rng.integers(0, 3 + seed % 3, len(names))  # some are on neither side
    train, test = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
    within, least = int(rng.integers(0, 6)), int(rng.integers(1, 25))
    pairs = consecutive(names, train, test, within, least)
    assert set(pairs[:, 0].tolist()) == by_hand(names, train, test, within, least)
    assert len(set(pairs[:, 0].tolist())) == len(pairs)
    for one, other in pairs:
        assert one in test
        assert by_hand(names, [other], [one], within, least) == {one}


def test_a_gap_parts_two_sides():
    names = [f"f{i}" for i in range(10)]
    assert consecutive(names, np.arange(5), np.arange(5, 10)).tolist() == [[5, 4]]
    assert len(consecutive(names, np.arange(5), np.arange(6, 10))) == 0
    assert consecutive(names, np.arange(5), np.arange(6, 10), within=2).tolist() == [[6, 4]]
    assert consecutive(names, np.array([], int), np.arange(5)).shape == (0, 2)


def test_blocks_hold_as_many_frames_as_asked():
    names = ["b_3", "a_30", "a_10", "x", "a_20", "a_40", "a_50", "b_3"]
    assert frame_blocks(names, 2) == ["b 3-3", "a 30-40", "a 10-20", None, "a 10-20", "a 30-40", "a 50-50", "b 3-3"]


def test_the_names_of_camvid(real_data):
    with zipfile.ZipFile(real_data / "camvid_160x120.zip") as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
    assert len(names) == 701
    found = sequences(names, least=10)
    assert {prefix: len(held[0]) for prefix, held in found.items()} == {
        "0001TP": 124,
        "0006R0_f": 101,
        "0016E5": 305,
        "Seq05VD_f": 171,
    }
    train, val, test = (
        np.array([i for i, name in enumerate(names) if name.startswith(f"{side}/")])
        for side in ("train", "val", "test")
    )
    # drives are shared, but divided into stretches: only their ends meet
    assert [names[i] for i in consecutive(names, train, val)[:, 0]] == ["val/0016E5_07959.jpg", "val/0016E5_08159.jpg"]
    assert [[names[i] for i in pair] for pair in consecutive(names, train, test)] == [
        ["test/0001TP_008550.jpg", "train/0001TP_008520.jpg"]
    ]
    assert len(consecutive(names, val, test)) == 0
    half = np.arange(0, len(names), 2)
    assert len(consecutive(names, half, half + 1 - 2 * (half == 700))) > 340
