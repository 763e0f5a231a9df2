"""The digits that come along, parts of sources, and what a SPEC of the command line names."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing, choose_preprocessing
from jaxdl.data.source import Arrays, Joined, Subset
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task


def test_digits_are_those_of_scikit_learn():
    source, theirs = data.digits(), load_digits()
    assert source.x.shape == (1797, 8, 8, 1)
    assert source.x.dtype == np.uint8
    assert source.class_names == tuple("0123456789")
    np.testing.assert_array_equal(source.labels, theirs.target)
    np.testing.assert_allclose(source.x[..., 0] / 255, theirs.images / 16, atol=0.5 / 255)
    assert (source.x.min(), source.x.max()) == (0, 255)


def test_some_digits():
    source, theirs = data.digits([7, 1]), load_digits()
    assert source.class_names == ("1", "7")
    np.testing.assert_array_equal(source.labels, theirs.target[np.isin(theirs.target, [1, 7])] == 7)
    np.testing.assert_array_equal(source.x, data.digits().x[np.isin(theirs.target, [1, 7])])


@pytest.mark.parametrize("classes", [[], [1, 1], [10], [-1], ["1"], [1, "a"]])
def test_no_such_digits(classes):
    with pytest.raises(InputError, match="digits of the classes"):
        data.digits(classes)


SOURCE = data.arrays(np.arange(10).reshape(5, 2), list("abcab"), groups=[5, 6, 7, 8, 9], times=[4, 3, 2, 1, 0])


class Lazy(data.Source):
    """A source of one's own, which gives its examples one by one."""

    def __init__(self, source):
        self.name, self.class_names = "lazy", source.class_names
        self.groups, self.times, self.names = source.groups, source.times, [f"n{i}" for i in range(len(source))]
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


@pytest.mark.parametrize("source", [SOURCE, Lazy(SOURCE)])
def test_a_subset_keeps_everything_in_step(source):
    part = data.subset(source, [4, 0, 4])
    assert isinstance(part, data.Source)
    assert isinstance(part, Arrays if source is SOURCE else Subset)
    assert len(part) == 3
    assert part.class_names == source.class_names
    np.testing.assert_array_equal(part.targets(), [1, 0, 1])
    np.testing.assert_array_equal(part.groups, [9, 5, 9])
    np.testing.assert_array_equal(part.times, [0, 4, 0])
    assert part.names == (None if source is SOURCE else ["n4", "n0", "n4"])
    for i, j in enumerate([4, 0, 4]):
        np.testing.assert_array_equal(part[i]["x"], source[j]["x"])
        assert part[i]["y"] == source[j]["y"]
    again = data.subset(part, [1])
    np.testing.assert_array_equal(again[0]["x"], source[0]["x"])
    assert list(again.groups) == [5]
    assert len(data.subset(source, [])) == 0


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 5], "0 to 5 .* 5 examples"),
        ([-1], "reach outside"),
        ([True, False, True, False, False], "bool"),  # not examples 1 and 0
        ([0.5], "float64"),
    ],
)
def test_a_subset_of_what_is_not_there(indices, message):
    with pytest.raises(InputError, match=message):
        data.subset(SOURCE, indices)


def test_two_sources_as_one():
    other = data.arrays(-np.arange(4).reshape(2, 2), ["b", "a"], name="other")
    labels = np.array([0, 1, 2, 0, 1, 1, 0])
    for pair in ((SOURCE, other), (Lazy(SOURCE), Lazy(other))):
        both = pair[0].join(pair[1], labels)
        assert isinstance(both, Arrays if pair[0] is SOURCE else Joined)
        assert isinstance(both, data.Source)
        assert (len(both), both.name, both.class_names) == (7, pair[0].name, ("a", "b", "c"))
        np.testing.assert_array_equal([both[i]["x"] for i in range(7)], np.concatenate([SOURCE.x, other.x]))
        np.testing.assert_array_equal([both[i]["y"] for i in range(7)], labels)
        np.testing.assert_array_equal(both.targets(), labels)
        assert both.groups is both.times is None
        numbered = [f"{one.name}[{i}]" for one in pair for i in range(len(one))]
        assert both.names == (numbered if pair[0] is SOURCE else [*pair[0].names, *pair[1].names])
    small, large = (data.arrays(np.full((1, n, n), n, np.uint8)) for n in (4, 8))  # images may differ in size
    made = ImagePreprocessing((6, 6, 1)).load(small.join(large, labels[:2]))
    np.testing.assert_array_equal(made, np.stack([np.full((6, 6, 1), n) for n in (4, 8)]))


@pytest.mark.parametrize("other", [data.arrays(np.zeros((2, 3))), data.digits()])
def test_numbers_and_something_else_are_not_one(other):
    for one, two in ((SOURCE, other), (other, SOURCE)):
        both = one.join(two, np.zeros(len(one) + len(two), int))
        preprocessing = choose_preprocessing(one, None, 224)
        assert len(preprocessing.load(one)) == len(one)
        with pytest.raises(InputError, match=f"example {len(one)} of {one.name} "):
            preprocessing.load(both)


def test_labels_are_asked_for_where_they_are_needed():
    assert choose_task(SOURCE, purpose="training").names == ("a", "b", "c")
    with pytest.raises(InputError, match="no examples; training"):
        choose_task(data.subset(SOURCE, []), purpose="training")
    with pytest.raises(InputError, match="no labels; training"):
        choose_task(data.arrays(np.zeros((3, 2))), purpose="training")
    with pytest.raises(InputError, match=r"a single class \('b'\)"):
        choose_task(data.subset(SOURCE, [1, 4]), purpose="training")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with splits, a folder without, an .npz file and a text, in the working directory."""
    rng = np.random.default_rng(0)
    for i, sub in enumerate(["insects/train/ant", "insects/train/bee", "insects/val/ant", "insects/val/bee", "flat/x"]):
        (tmp_path / sub).mkdir(parents=True)
        for j in range(i + 1):
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / sub / f"{j}.png")
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=[0, 1, 0])
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "odd:train").mkdir()
    (tmp_path / "odd:train" / "only").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "odd:train" / "only" / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "split", "name", "classes", "number"),
    [
        ("digits", None, "digits", "0123456789", 1797),
        ("digits:", None, "digits", "0123456789", 1797),
        ("digits:3-5", None, "digits:3,4,5", "345", 546),
        ("digits:8,2", None, "digits:2,8", "28", 351),
        ("digits:4", None, "digits:4", "4", 181),
        ("insects", None, "insects", ("ant", "bee"), 10),
        ("insects:train", None, "insects:train", ("ant", "bee"), 3),
        ("insects:val", "train", "insects:val", ("ant", "bee"), 7),  # the spec wins
        ("insects:all", None, "insects:all", ("ant", "bee"), 10),
        ("insects", "train", "insects:train", ("ant", "bee"), 3),
        ("flat", "train", "flat", ("x",), 5),  # has no splits: all of it
        ("flat:all", None, "flat:all", ("x",), 5),
        ("odd:train", None, "odd:train", ("only",), 1),  # a folder of that name comes first
        ("d.npz", None, "d.npz", ("0", "1"), 3),
    ],
)
def test_a_spec_names_a_source(place, spec, split, name, classes, number):
    source = data.load(spec, split)
    assert source.name == name
    assert source.class_names == tuple(classes)
    assert len(source) == number


def test_a_path_is_a_spec(place):
    assert len(data.load(place / "insects", "val")) == 7
    assert len(data.load(place / "d.npz")) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits:a", "'digits:a'"),
        ("digits:1-", "'digits:1-'"),
        ("digits:1;2", "'digits:1;2'"),
        ("digits:7-3", "digits of the classes \\[\\]"),
        ("digits:7-12", "digits of the classes"),
        ("digits:1,1", "digits of the classes \\[1, 1\\]"),
        ("digit", "'digit'.* 'digits'"),
        ("insects:test", "'insects' 'test'"),
        ("nowhere:train", "folder 'nowhere'"),
        ("flat:train", "'flat' 'train'.* all"),
        ("missing.npz", "'missing.npz'"),
        ("notes.txt", "'notes.txt'"),
    ],
)
def test_a_spec_of_nothing_is_refused(place, spec, message):
    with pytest.raises(InputError, match=message):
        data.load(spec)
