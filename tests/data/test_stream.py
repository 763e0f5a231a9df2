"""Streamed batches against those of memory training."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.data import memory, workers
from jaxdl.data.batches import Batches
from jaxdl.data.memory import in_memory_bytes, must_stream
from jaxdl.data.preprocessing import ImagePreprocessing, RawPreprocessing, TablePreprocessing
from jaxdl.data.stream import EvaluationOrder, TrainingOrder, measure, stream
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import Process

SMALL = ImagePreprocessing((12, 10, 3), crop_fraction=0.9)
PROCESSES = [0, pytest.param(2, marks=pytest.mark.slow)]


def save_images(folder: Path, count: int = 23) -> Path:
    """JPEGs and PNGs, grey and coloured, of mixed sizes, one of them lying on its side."""
    rng = np.random.default_rng(0)
    for i in range(count):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        shape = (8 + i, 30 - i) if i % 5 == 0 else (8 + i, 30 - i, 3)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        turned = Image.Exif()
        turned[0x0112] = 6 if i == 3 else 1
        image.save(place / f"{i:02}.{'jpg' if i % 3 else 'png'}", exif=turned)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return data.folder(save_images(tmp_path_factory.mktemp("images")))


class Rows(data.Source):
    """A source of one's own, which gives its rows one by one and counts how often."""

    class_names = ("a", "b")
    name = "rows"

    def __init__(self, x):
        self.x, self.labels, self.asked = x, np.arange(len(x)) % 2, []

    def targets(self):
        return self.labels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.asked.append(index)
        return {"x": self.x[index], "y": self.labels[index]}


NUMBERS = np.random.default_rng(1).normal(size=(23, 4)).astype(np.float32)


class Dicts(data.Source):
    """x and y are dicts; the larger array is of a size that goes through shared memory between processes."""

    name = "dicts"

    def __len__(self):
        return 23

    def __getitem__(self, index):
        x = {"ids": np.arange(4, dtype=np.int32) * index, "wide": np.full(workers.SMALL, index, np.float32)}
        return {"x": x, "y": {"masks": np.full((2, 3), index % 2, bool), "count": np.int64(index)}}


SOURCES = {
    "images": lambda images: (images, SMALL),
    "part of images": lambda images: (data.subset(images, [*range(22, -1, -1)]), SMALL),
    "two folders": lambda images: (images.join(images, np.tile(images.labels, 2)), SMALL),
    "digits": lambda _: (data.subset(data.digits(), np.arange(40)), ImagePreprocessing((8, 8, 1))),
    "numbers": lambda _: (data.arrays(NUMBERS, np.arange(23) % 2), TablePreprocessing((4,))),
    "rows": lambda _: (Rows(NUMBERS), TablePreprocessing((4,))),
    "dicts": lambda _: (Dicts(), RawPreprocessing.of(Dicts())),
}


def check_equal(streamed, source, preprocessing, order, epochs, first=0):
    """Every batch holds what memory training gathers, in its order; all of them are there."""
    whole, targets = preprocessing.load(source), source.targets()
    expected = [(epoch, step) for epoch in epochs for step in range(len(order(epoch).indices))][first:]
    assert [(batch["epoch"], batch["step"]) for batch in streamed] == expected
    for batch in streamed:
        batches = order(batch["epoch"])
        indices, weights = batches.indices[batch["step"]], batches.weights[batch["step"]]
        real = weights > 0
        np.testing.assert_array_equal(batch["weights"], weights)
        for found, held in ((batch["x"], whole), (batch["y"], targets)):
            assert jax.tree.structure(found) == jax.tree.structure(held)
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(held), strict=True):
                np.testing.assert_array_equal(one[real], other[indices[real]])
                assert not one[~real].any()
                assert one.dtype == other.dtype
                assert type(one) is np.ndarray


@pytest.mark.parametrize("kind", SOURCES)
def test_equals_memory(kind, images):
    source, preprocessing = SOURCES[kind](images)
    parts = (np.arange(0, 21), np.arange(3, 23))  # of different lengths: rows of weight 0
    for fold in range(2):
        order = TrainingOrder(parts, 4, 7, fold)
        check_equal(list(stream(source, preprocessing, order, range(3))), source, preprocessing, order, range(3))
    order = EvaluationOrder(parts, 8, 1)
    check_equal(list(stream(source, preprocessing, order, range(2))), source, preprocessing, order, range(2))


@pytest.mark.parametrize(
    ("kind", "count"), [("dicts", 2), *(pytest.param("images", count, marks=pytest.mark.slow) for count in (1, 3))]
)
def test_equals_memory_with_worker_processes(images, kind, count):
    source, preprocessing = SOURCES[kind](images)
    order = TrainingOrder((np.arange(23),), 4, 3)
    streamed = list(stream(source, preprocessing, order, range(2), workers=count))
    check_equal(streamed, source, preprocessing, order, range(2))


@pytest.mark.slow
def test_large_batches_cross_shared_memory_and_pipes(images, monkeypatch):
    large = ImagePreprocessing((80, 90, 3))
    order = TrainingOrder((np.arange(23),), 12, 3)
    assert order(0).indices.size * 80 * 90 * 3 > 2 * workers.SMALL
    for room in (True, False):
        monkeypatch.setattr(workers, "_shared_memory_holds", lambda nbytes, room=room: room)
        streamed = list(stream(images, large, order, range(2), workers=1))
        check_equal(streamed, images, large, order, range(2))


def test_epochs_differ_and_are_repeatable(images):
    order = TrainingOrder((np.arange(23),), 23, 3)
    one, two = stream(images, SMALL, order, range(4, 6))
    assert (one["y"] != two["y"]).any()
    (again,) = stream(images, SMALL, order, range(5, 6))
    np.testing.assert_array_equal(two["x"], again["x"])


@pytest.mark.parametrize("count", PROCESSES)
def test_resumes_at_any_step(images, count):
    order = TrainingOrder((np.arange(23),), 6, 1)
    steps = len(order(0).indices)
    for epoch, step in [(1, 2)] if count else np.ndindex(3, steps + 1):
        streamed = list(stream(images, SMALL, order, range(epoch, 3), start_step=step, workers=count))
        check_equal(streamed, images, SMALL, order, range(epoch, 3), first=step)


def test_what_is_skipped_is_not_read():
    source = Rows(NUMBERS)
    order = TrainingOrder((np.arange(20),), 5, 0)
    asked = order(6)
    source.asked.clear()
    list(stream(source, TablePreprocessing((4,)), order, range(6, 7), start_step=2))
    # the first example is looked at once, to see of what kind they are
    assert source.asked == [0, *asked.indices[2:].ravel()]


@pytest.mark.parametrize(("count", "devices"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 4), (7, 1)])
@pytest.mark.parametrize("kind", ["images", "numbers"])
def test_hosts_share_each_batch(kind, count, devices, images):
    source, preprocessing = SOURCES[kind](images)
    order = TrainingOrder((np.arange(23),), 5, 3)
    whole = list(stream(source, preprocessing, order, range(2)))
    shares = [
        list(stream(source, preprocessing, order, range(2), process=Process(i, count, devices))) for i in range(count)
    ]
    width = len(whole[0]["x"])
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        (rows,) = {len(part["x"]) for part in parts}
        assert rows % devices == 0
        assert rows * count - width < count * devices
        for part in parts:
            np.testing.assert_array_equal(part["weights"], batch["weights"])
        for key in ("x", "y"):
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined[:width], batch[key])
            assert not joined[width:].any()
        assert {(part["epoch"], part["step"]) for part in parts} == {(batch["epoch"], batch["step"])}


def test_without_labels():
    source = data.arrays(NUMBERS)
    batch = next(stream(source, TablePreprocessing((4,)), EvaluationOrder((np.arange(23),), 8), range(1)))
    assert sorted(batch) == ["epoch", "step", "weights", "x"]


def test_labels_may_be_numbers():
    source = data.Arrays(NUMBERS, NUMBERS[:, 0].copy())
    order = TrainingOrder((np.arange(23),), 8, 0)
    check_equal(
        list(stream(source, TablePreprocessing((4,)), order, range(1))),
        source,
        TablePreprocessing((4,)),
        order,
        range(1),
    )


@pytest.mark.parametrize("count", PROCESSES)
def test_a_broken_image_is_named_at_its_step(tmp_path, count):
    source = data.folder(save_images(tmp_path))
    order = TrainingOrder((np.arange(23),), 4, 3)
    batches = order(0)
    broken = source.paths[batches.indices[3][0]]
    broken.write_bytes(broken.read_bytes()[:-60])
    reader = stream(source, SMALL, order, range(1), workers=count)
    assert [next(reader)["step"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match=broken.name) as caught:
        next(reader)
    with pytest.raises(InputError) as alone:
        source[int(batches.indices[3][0])]
    assert str(caught.value) == str(alone.value)  # the same words as in memory
    with pytest.raises(InputError, match=broken.name):
        measure(source, SMALL)


class Unexpected(Rows):
    """What it raises cannot be pickled."""

    def __getitem__(self, index):
        if index == 20:
            error = KeyError("twenty")
            error.handle = open(os.devnull)  # noqa: SIM115
            raise error
        if index == 21:
            os._exit(3)
        if index == 22:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"x": self.x[index]}


@pytest.mark.slow
def test_faults_of_workers_are_told_and_do_not_hang():
    source, numbers = Unexpected(NUMBERS), TablePreprocessing((4,))
    with pytest.raises(RuntimeError, match="KeyError: 'twenty'"):
        list(stream(source, numbers, EvaluationOrder((np.array([1, 2, 20]),), 1), range(1), workers=1))
    for last, code in ((21, 3), (22, -9)):
        order = EvaluationOrder((np.array([1, 2, last]),), 1)
        with pytest.raises(InputError, match=f"worker process that reads rows ended too early.*exit code {code}"):
            list(stream(source, numbers, order, range(1), workers=1))


class Unsendable(Rows):
    def __reduce__(self):
        raise TypeError("it holds an open file")


def test_a_source_that_cannot_be_sent_says_so():
    order = EvaluationOrder((np.arange(9),), 4)
    with pytest.raises(InputError, match=r"rows cannot be sent to worker processes \(it holds an open file\)"):
        stream(Unsendable(NUMBERS), TablePreprocessing((4,)), order, range(1), workers=2)


def test_arrays_are_not_sent_to_processes(images):
    digits, files = data.digits(), data.subset(images, np.arange(9))
    joined = files.join(data.subset(digits, [0, 1]), np.zeros(11, np.int32))
    order = EvaluationOrder((np.arange(9),), 4)
    for source, started in ((digits, 0), (joined, 0), (data.subset(joined, np.arange(9)), 0), (files, 2)):
        reader = stream(source, SMALL, order, range(1), workers=2)
        next(reader)
        assert len(multiprocessing.active_children()) == started
        reader.close()
        assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": range(0, 6, 2)}, r"epochs are range\(0, 6, 2\)"),
        ({"start_step": 7}, "start_step is 7.* 6 steps"),
        ({"start_step": -1}, "start_step is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"source": data.arrays(NUMBERS)}, r"arrays holds float32\[4\]"),
        ({"source": data.arrays(NUMBERS[:0])}, "arrays holds no examples"),
        ({"preprocessing": TablePreprocessing((8, 8, 1))}, r"holds uint8\["),
    ],
)
def test_what_cannot_be_is_refused_at_once(images, change, message):
    arguments = {"source": images, "preprocessing": SMALL, "order": TrainingOrder((np.arange(23),), 4, 3)}
    with pytest.raises(InputError, match=message):
        stream(**({"epochs": range(1)} | arguments | change))


def test_rows_of_another_shape_and_epochs_of_another_length_are_refused_when_met():
    order = EvaluationOrder((np.arange(3),), 1)
    rows = Rows([np.zeros(4), np.zeros(4), np.zeros(5)])
    with pytest.raises(InputError, match=r"example 2 of rows has the shape \[5\]; the network takes \[4\]"):
        list(stream(rows, TablePreprocessing((4,)), order, range(1)))

    def growing(epoch):
        return Batches(np.zeros((2 + epoch, 1), np.int32), np.ones((2 + epoch, 1), np.float32))

    with pytest.raises(InputError, match=r"epoch 1 has batches \(3, 1\), the first has \(2, 1\)"):
        list(stream(rows, TablePreprocessing((4,)), growing, range(2)))


def test_no_epochs_no_batches(images):
    assert list(stream(images, SMALL, TrainingOrder((np.arange(23),), 4, 3), range(2, 2))) == []


@pytest.mark.parametrize(
    ("kind", "count"), [pytest.param("images", 0, marks=pytest.mark.slow), ("rows", 0), ("images", 2)]
)
def test_moments_are_those_of_memory(kind, count, images, monkeypatch):
    monkeypatch.setattr("jaxdl.data.stream.CHUNK", 5)  # several parts
    source, preprocessing = SOURCES[kind](images)
    expected = preprocessing.measure(preprocessing.load(source))
    found = measure(source, preprocessing, workers=count)
    assert sorted(found) == sorted(expected) == ["positions", "square", "total"]
    for name, sums in expected.items():
        np.testing.assert_array_equal(found[name], sums)
    if count == 0:
        part = np.array([7, 2, 11, 2])
        some = measure(source, preprocessing, part)
        one, other = preprocessing.fit(some, part), preprocessing.fit(expected, part)
        for name in ("mean", "std"):
            np.testing.assert_array_equal(one[name], other[name])
        assert np.isnan(some["total"][[0, 1, 3]]).all()


def test_moments_of_a_part_leave_the_rest_unread():
    source = Rows(NUMBERS)
    measure(source, TablePreprocessing((4,)), np.array([5, 3]))
    assert sorted(set(source.asked) - {0}) == [3, 5]


PROGRAM = """
    import sys
    from jaxdl import data
    from jaxdl.data.preprocessing import ImagePreprocessing
    from jaxdl.data.stream import EvaluationOrder, stream
    import multiprocessing, numpy, time

    if __name__ == "__main__":
        source = data.folder(sys.argv[1])
        order = EvaluationOrder((numpy.arange(len(source)),), 4)
        reader = stream(source, ImagePreprocessing((200, 200, 3)), order, range(10**6), workers=2)
        next(reader)
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        if sys.argv[2] == "drop":
            del reader
        elif sys.argv[2] == "wait":
            for batch in reader:
                time.sleep(0.01)
        assert len(multiprocessing.active_children()) == (2 if sys.argv[2] == "exit" else 0)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(
    "ending",
    [
        "drop",
        "exit",
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
    ],
)
def test_workers_end_with_their_reader(tmp_path, ending):
    save_images(tmp_path / "images")
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    mode = ending if isinstance(ending, str) else "wait"
    command = [sys.executable, str(script), str(tmp_path / "images"), mode]
    # a group of its own: the signals of this test go to it alone, as Ctrl-C goes to all that runs in a terminal
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started = [int(pid) for pid in program.stdout.readline().split()]
    assert len(started) == 2
    if mode == "wait":
        (os.kill if ending == signal.SIGKILL else os.killpg)(program.pid, ending)
    try:
        _, errors = program.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        raise
    until = time.monotonic() + 15
    while any(map(alive, started)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, started))
    if mode == "wait":
        assert program.returncode == -ending
    else:
        assert (program.returncode, errors) == (0, "")


@pytest.mark.slow
def test_a_reader_that_waits_is_served_after_sigterm(images):
    """A scheduler's signal reaches workers too; the run has to save first, and may need batches until then."""
    order = TrainingOrder((np.arange(23),), 4, 3)
    reader = stream(images, SMALL, order, range(2), workers=2)
    streamed = [next(reader), next(reader)]  # both are up
    for child in multiprocessing.active_children():
        child.terminate()
    streamed += list(reader)
    check_equal(streamed, images, SMALL, order, range(2))


def test_bytes_in_memory_are_those_of_memory(images):
    assert in_memory_bytes(images, SMALL) == SMALL.load(images).nbytes
    numbers = TablePreprocessing((4,))
    assert in_memory_bytes(Rows(NUMBERS), numbers) == NUMBERS.nbytes


class Device:
    device_kind = "Test 1"

    def __init__(self, stats):
        self.memory_stats = lambda: stats


def test_what_does_not_fit_is_streamed(images, monkeypatch):
    needed = in_memory_bytes(images, SMALL)
    assert must_stream(images, SMALL, needed) is None
    reason = must_stream(images, SMALL, needed - 1)
    assert reason == "23 examples of 12×10×3 uint8 take 8.28 kB, more than the limit set (8.28 kB)"

    def set_limits(host, device):
        monkeypatch.setattr(memory, "free_memory", lambda: host)
        monkeypatch.setattr("jax.local_devices", lambda: [Device(device)])

    for stats in (None, {}, {"bytes_limit": 2 * needed}):  # some devices do not tell
        set_limits(2 * needed, stats)
        assert must_stream(images, SMALL) is None
    set_limits(2 * needed - 2, None)
    assert "more than half of the 16.6 kB of free memory" in must_stream(images, SMALL)
    set_limits(None, {"bytes_limit": 2 * needed - 2})
    assert "more than half of the 16.6 kB of a Test 1 (8.28 kB)" in must_stream(images, SMALL)
    set_limits(None, None)
    assert must_stream(images, SMALL) is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads /proc/meminfo")
def test_free_memory():
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.free_memory() <= pages


def test_grain_is_imported_when_streaming_alone():
    program = "import sys, jaxdl.data, jaxdl.data.stream; print({'grain', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"
