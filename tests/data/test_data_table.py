"""Arrays and .npz files: what is read, and what is refused by naming array, index and value."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task


def refused(read, *named):
    """Calls `read`, which has to raise an InputError that names these things."""
    with pytest.raises(InputError) as caught:
        read()
    assert [name for name in named if str(name) not in str(caught.value)] == [], str(caught.value)


X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (X.tolist(), (4, 3), np.float32),
        (X.astype(np.float64), (4, 3), np.float32),
        (X.astype(np.int64), (4, 3), np.float32),
        (X.astype(np.uint8), (4, 3), np.float32),  # numbers that happen to fit bytes are no images
        (X > 3, (4, 3), np.float32),
        (np.zeros((2, 5, 6), np.uint8), (2, 5, 6, 1), np.uint8),
        (np.zeros((2, 5, 6, 3), np.uint8), (2, 5, 6, 3), np.uint8),
        (np.zeros((2, 5, 6)), (2, 5, 6, 1), np.float32),
        (np.zeros((2, 5, 6, 4, 2), np.uint8), (2, 5, 6, 4, 2), np.float32),
        (np.zeros((0, 3)), (0, 3), np.float32),
    ],
)
def test_x_is_kept_as_images_or_numbers(x, shape, dtype):
    source = data.arrays(x)
    assert source.x.shape == shape
    assert source.x.dtype == dtype
    assert source.labels is None
    np.testing.assert_array_equal(source.x, np.asarray(x).reshape(shape))


@pytest.mark.parametrize(
    ("y", "class_names", "labels", "names"),
    [
        ([2, 0, 1, 2], None, [2, 0, 1, 2], ("0", "1", "2")),
        ([7, -1, 7, 30], None, [1, 0, 1, 2], ("-1", "7", "30")),
        ([False, True, True, False], None, [0, 1, 1, 0], ("False", "True")),
        (np.array([1, 0, 0, 1], np.uint64), None, [1, 0, 0, 1], ("0", "1")),
        ([2, 0, 1, 2], ["a", "b", "c"], [2, 0, 1, 2], ("a", "b", "c")),
        ([0, 0, 1, 1], ["a", "b", "never seen"], [0, 0, 1, 1], ("a", "b", "never seen")),
        (["bee", "ant", "bee", "ant"], None, [1, 0, 1, 0], ("ant", "bee")),
        (["bee", "ant", "bee", "ant"], ["bee", "cow", "ant"], [0, 2, 0, 2], ("bee", "cow", "ant")),
        (np.array(["é", "z", "日本", "é"]), None, [1, 0, 2, 1], ("z", "é", "日本")),
    ],
)
def test_labels_become_places_among_the_names(y, class_names, labels, names):
    source = data.arrays(X, y, class_names=class_names)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.labels.dtype == np.int32
    assert source.class_names == names


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_numbers_to_regress_on(tmp_path, dtype):
    y = np.array([1, 2.5, -3, 1], dtype)
    np.savez(tmp_path / "d.npz", x=X, y=y)
    for source in (data.arrays(X, y), data.npz(tmp_path / "d.npz")):
        assert source.labels.dtype == np.float32
        np.testing.assert_array_equal(source.labels, y.astype(np.float32))
        assert source.class_names == ()
        assert choose_task(source, purpose="training").name == "regression"
    assert choose_task(data.arrays(X, [0, 1, 0, 1]), purpose="training").name == "classification"


def test_an_example_is_a_dict():
    source = data.arrays(X, [0, 1, 0, 1], groups=["p", "q", "p", "q"], times=[3, 1, 2, 0], name="mine")
    assert isinstance(source, data.Source)
    assert (len(source), source.name) == (4, "mine")
    np.testing.assert_array_equal(source[2]["x"], X[2])
    assert source[1]["y"] == 1
    assert list(source.groups) == ["p", "q", "p", "q"]
    assert list(source.times) == [3, 1, 2, 0]
    assert set(data.arrays(X)[0]) == {"x"}


def _broken(value, *at):
    x = X.astype(np.float64)
    for i in at:
        x[i, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (_broken(np.nan, 2, 3), ["NaN", "2 of 4", "index 2"]),
        (_broken(-np.inf, 1), ["infinity", "1 of 4", "index 1"]),
        (_broken(1e300, 3), ["infinity", "1 of 4", "index 3"]),  # infinite once it is float32
        (X.astype(object), ["object"]),
        (X.astype(complex), ["complex128"]),
        (X.astype(str), ["<U"]),
        ([[1, 2], [3]], ["no array"]),
        (np.zeros(4), ["(4,)", "[n, features]"]),
        (np.zeros((4, 0)), ["(4, 0)"]),
        (np.float32(3), ["()"]),
    ],
)
def test_x_is_refused(x, named):
    refused(lambda: data.arrays(x, name="mine"), "mine: x ", *named)


@pytest.mark.parametrize(
    ("y", "options", "named"),
    [
        ([0, 1, 0], {}, ["4 examples", "y has 3"]),
        ([0, 1, 0, 1], {"groups": [1, 2]}, ["4 examples", "groups has 2"]),
        ([0, 1, 0, 1], {"groups": 3}, ["4 examples", "groups has 1"]),
        ([0, 1, 0, 1], {"times": range(5)}, ["4 examples", "times has 5"]),
        ([[1, 0], [0, 1], [1, 1]], {}, ["4 examples", "y has 3"]),
        ([0.0, 1.0, 0.5, 1.0], {"class_names": "ab"}, ["float64[4]"]),
        ([0.0, np.nan, np.inf, 1.0], {}, ["NaN", "2 of 4", "index 1"]),
        ([0.0, 1e300, 2.0, 1.0], {}, ["infinity", "1 of 4", "index 1"]),
        ([1j, 0, 0, 0], {}, ["complex128[4]"]),
        (np.array(["a", None, "b", 1], object), {}, ["object[4]"]),
        ([[1], [0, 1], [1], [0]], {}, ["no array"]),
        ([0, 1, 2, 0], {"class_names": ["a", "b"]}, ["from 0 to 2", "0 to 1"]),
        ([0, -1, 1, 0], {"class_names": ["a", "b"]}, ["from -1 to 1"]),
        (["a", "c", "d", "b"], {"class_names": ["a", "b"]}, ["'c'", "a, b"]),
        (["a", "zz", "a", "b"], {"class_names": ["b", "a"]}, ["'zz'", "b, a"]),
        (["a", "b", "a", "b"], {"class_names": "ab"}, ["'a'", "ab"]),
        ([0, 1, 0, 1], {"class_names": ["a", "b", "a"]}, ["twice", "a, b, a"]),
        # of another task
        ([0, 1, 0, 1], {"task": "regresion"}, ["'regresion'", "mean 'regression'?"]),
        ([0.0, 1.5, 2.0, np.nan], {"task": "classification"}, ["1.5", "index 1"]),
        ([0.0, 1.0, np.inf, 2.0], {"task": "classification"}, ["inf", "index 2"]),
        (["a", "b", "a", "b"], {"task": "regression"}, ["<U1[4]", "number"]),
        ([[1, 0]] * 4, {"task": "classification"}, ["int64[4, 2]", "multilabel"]),
        ([[1, 0]] * 4, {"task": "regression"}, ["int64[4, 2]", "multilabel"]),
        ([0, 1, 2, 1], {"task": "multilabel"}, ["2", "[2, 0]"]),
        (["a", "b", "a", "b"], {"task": "multilabel"}, ["<U1[4]"]),
        # matrices
        ([[0, 1], [1, 2], [0, 0], [1, 1]], {"class_names": ["sea", "sky"]}, ["2", "[1, 1]", "'sky'"]),
        ([[0, 1], [-1, 0], [0, 0], [1, 1]], {}, ["-1", "[1, 0]", "'0'"]),
        ([[0.5, 1.5], [1, 2], [0, 0], [1, 1]], {"task": "multilabel"}, ["0.5", "[0, 0]", "multitarget"]),
        ([[0.5, np.nan], [1, 2], [0, 0], [1, 1]], {}, ["NaN", "index 0"]),
        ([[0.5, 2], [1, 2], [0, 0], [1, 1]], {"class_names": list("abc")}, ["2 columns", "has 3"]),
        ([0.5, 1, 2, 3], {"task": "multitarget"}, ["float64[4]", "[n, numbers]"]),
        ([[0, np.nan]] * 4, {}, ["nan", "[0, 1]"]),
        ([["0", "1"]] * 4, {}, ["<U1[4, 2]"]),
        ([[0, 1]] * 4, {"class_names": ["a"]}, ["2 columns", "class_names has 1"]),
        ([[0, 1]] * 4, {"class_names": ["a", "a"]}, ["twice"]),
        ([[1], [0], [1], [0]], {}, ["int64[4, 1]"]),  # most likely classes, as a column
        (np.zeros((4, 0), int), {"task": "multilabel"}, ["int64[4, 0]"]),
        (np.zeros((4, 2, 2)), {}, ["float64[4, 2, 2]"]),
    ],
)
def test_labels_are_refused(y, options, named):
    name = {} if options.get("task") == "regresion" else {"name": "mine"}
    refused(lambda: data.arrays(X, y, **name, **options), *(["mine: "] if name else []), *named)


@pytest.mark.parametrize("task", ["auto", "multilabel"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64, np.float16, np.float64])
def test_a_matrix_of_0_and_1_is_multi_label(tmp_path, task, dtype):
    y = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
    np.savez(tmp_path / "d.npz", x=X, y=y.astype(dtype), class_names=["sea", "sky", "sun"])
    np.savez(tmp_path / "n.npz", x=X, y=y.astype(dtype))
    for source, names in (
        (data.arrays(X, y.astype(dtype), task=task), ("0", "1", "2")),
        (data.load(tmp_path / "n.npz", task=task), ("0", "1", "2")),
        (data.load(tmp_path / "d.npz", task=task), ("sea", "sky", "sun")),
    ):
        assert source.labels.dtype == np.uint8
        np.testing.assert_array_equal(source.labels, y)
        assert source.class_names == names
        np.testing.assert_array_equal(source[1]["y"], [1, 0, 1])
    np.testing.assert_array_equal(data.arrays(X, y[:, 0].astype(dtype), task="multilabel").labels, y[:, :1])


@pytest.mark.parametrize(
    ("y", "task", "class_names", "labels", "names"),
    [
        ([7.0, -1.0, 7.0, 30.0], "classification", None, [1, 0, 1, 2], ("-1", "7", "30")),
        ([-0.0, 0.0, 1.0, 1.0], "classification", None, [0, 0, 1, 1], ("0", "1")),
        ([2.0, 0.0, 1.0, 2.0], "classification", ["a", "b", "c"], [2, 0, 1, 2], ("a", "b", "c")),
        ([7, -1, 7, 30], "classification", None, [1, 0, 1, 2], ("-1", "7", "30")),
        (["10", "9", "9", "x"], "classification", None, [0, 1, 1, 2], ("10", "9", "x")),
        ([7, -1, 7, 30], "regression", None, [7, -1, 7, 30], ()),
        ([0, 1, 0, 1], "regression", ["a", "b"], [0, 1, 0, 1], ()),
        ([False, True, True, False], "regression", None, [0, 1, 1, 0], ()),
        ([0.5, 1, 2, 3], "regression", None, [0.5, 1, 2, 3], ()),
    ],
)
def test_the_task_is_obeyed(tmp_path, y, task, class_names, labels, names):
    held = {"x": X, "y": y} | ({} if class_names is None else {"class_names": class_names})
    np.savez(tmp_path / "d.npz", **held)
    for source in (
        data.arrays(X, y, class_names=class_names, task=task),
        data.npz(tmp_path / "d.npz", task=task),
        data.load(tmp_path / "d.npz", task=task),
    ):
        np.testing.assert_array_equal(source.labels, labels)
        assert source.labels.dtype == (np.float32 if task == "regression" else np.int32)
        assert source.class_names == names
        assert choose_task(source, purpose="training").name == task


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_round_trip(tmp_path, save):
    x = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    held = {"y": ["b", "a", "b", "c"], "groups": [0, 0, 1, 1], "times": [4, 3, 2, 1], "class_names": ["a", "b", "c"]}
    save(tmp_path / "d.npz", x=x, extra=np.zeros(3), **held)
    source = data.npz(tmp_path / "d.npz")
    np.testing.assert_array_equal(source.x, x)
    np.testing.assert_array_equal(source.labels, [1, 0, 1, 2])
    np.testing.assert_array_equal(source.groups, held["groups"])
    np.testing.assert_array_equal(source.times, held["times"])
    assert source.class_names == ("a", "b", "c")
    assert source.name == str(tmp_path / "d.npz")


def test_npz_with_x_alone(tmp_path):
    np.savez(tmp_path / "d.npz", x=X)
    source = data.npz(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(source.x, X)
    assert source.labels is None


def _bytes_of(save=np.savez, **held):
    buffer = io.BytesIO()
    save(buffer, **held)
    return buffer.getvalue()


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, X)
    return buffer.getvalue()


WHOLE = _bytes_of(x=np.random.default_rng(0).normal(size=(40, 3)), y=np.arange(40) % 2)
PACKED = bytearray(_bytes_of(np.savez_compressed, x=np.random.default_rng(0).normal(size=(40, 3))))
PACKED[len(PACKED) // 3] ^= 0xFF


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", ".npz archive"),
        (b"x,y\n1,2\n", ".npz archive"),
        (WHOLE[: len(WHOLE) // 2], ".npz archive"),
        (WHOLE[:-10], ".npz archive"),
        (bytes(PACKED), ".npz archive"),
        (_npy(), "numpy.savez"),
        (_bytes_of(y=np.arange(3), z=X), "no array 'x'"),
        (_bytes_of(x=X, y=np.arange(3)), "y has 3"),
    ],
    ids=["empty", "text", "half", "cut", "flipped", "npy", "no_x", "lengths"],
)
def test_a_damaged_npz_is_refused_by_name(tmp_path, content, named):
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    refused(lambda: data.npz(path), path, named)


def _announcing(shape):
    """An archive whose x says it has this shape, and has 100 bytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "shape", ["(10**15,)", f"({10**15}, 3)", f"({10**25},)", f"({2**62}, 4)", "(-5, 3)", "(9, 3)", "x"]
)
def test_an_array_that_announces_more_than_there_is(tmp_path, shape):
    (tmp_path / "d.npz").write_bytes(_announcing(shape))
    refused(lambda: data.npz(tmp_path / "d.npz"), tmp_path / "d.npz", ".npz archive")


def test_a_missing_npz_is_named(tmp_path):
    refused(lambda: data.npz(tmp_path / "missing.npz"), "no file", tmp_path / "missing.npz")
    refused(lambda: data.npz(tmp_path), "no file", tmp_path)


def test_damage_anywhere_is_an_input_error(tmp_path):
    """Bytes flipped at random: an InputError or data, and never another exception."""
    path, rng = tmp_path / "d.npz", np.random.default_rng(0)
    refused = 0
    for save in (np.savez, np.savez_compressed):
        whole = _bytes_of(save, x=rng.normal(size=(6, 3)), y=np.arange(6) % 2)
        for _ in range(300):
            content = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                data.npz(path)
            except InputError:
                refused += 1
    assert refused > 300


class Bomb:
    """Pickled, it creates the file `path` when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("member", ["x", "y", "groups"])
def test_pickles_are_refused_and_not_run(tmp_path, member):
    trace = tmp_path / "it ran"
    held = {"x": X, "y": np.arange(4) % 2, member: np.array([Bomb(trace), 1, 2, 3], object)}
    np.savez(tmp_path / "d.npz", **held)
    refused(lambda: data.npz(tmp_path / "d.npz"), tmp_path / "d.npz", f"'{member}'", "can execute code")
    assert not trace.exists()
    with np.load(tmp_path / "d.npz", allow_pickle=True) as file:  # reading it would have run it
        file[member][0].close()
    assert trace.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    trace, path = tmp_path / "it ran", tmp_path / "d.npz"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    refused(lambda: data.npz(path), path, ".npz archive")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Bomb(trace)))
    refused(lambda: data.npz(path), path)
    assert not trace.exists()
