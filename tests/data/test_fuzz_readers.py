"""Readers meet arbitrary bytes: they read, or they raise InputError; nothing else, in bounded time, and nothing runs.

``JAXDL_FUZZ_CASES=10000 pytest tests/data/test_fuzz_readers.py -n 0 -s`` runs that many cases in all and prints what
became of them.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import shutil
import signal
import threading
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.data.table import TASKS
from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.weights.checkpoint import from_model, restore, save

CASES = int(os.environ.get("JAXDL_FUZZ_CASES", "400"))
SECONDS = 20  # for one case; the slowest take a few tenths
OUTCOMES: dict[str, Counter] = {}


def examples(share):
    """Settings for `share` of all cases."""
    return settings(
        max_examples=max(1, round(CASES * share)),
        deadline=None,
        database=None,
        derandomize=CASES <= 400,
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """No reader may catch it."""


def _hang(*_):
    raise Hang(f"a reader took more than {SECONDS} s")


@contextlib.contextmanager
def bounded():
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def survives(reader, read):
    """Calls `read`, which may raise InputError and nothing else; gives its result, or None where it refused."""
    made, said = None, "read"
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = read()
        except InputError as error:
            said = str(error)
    assert 0 < len(said) < 20_000
    OUTCOMES.setdefault(reader, Counter())["refused" if made is None else "read"] += 1
    return made


@pytest.fixture(scope="module", autouse=True)
def outcomes():
    yield
    print()
    for reader, counts in OUTCOMES.items():
        print(f"{reader}: {counts.total()} cases, {counts['read']} read, {counts['refused']} refused")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


class Bomb:
    """Pickled, it makes the folder `path` when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Damage: bytes overwritten, put in, taken out, and the end cut off

DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "flip", "insert", "delete", "cut", "repeat"]),
        st.floats(0, 1),
        st.binary(max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content, damage):
    content = bytearray(content)
    for kind, where, new in damage:
        at = min(int(where * len(content)), max(0, len(content) - 1))
        if kind == "set":
            content[at : at + len(new)] = new
        elif kind == "flip" and content:
            content[at] ^= 1 << (len(new) % 8)
        elif kind == "insert":
            content[at:at] = new
        elif kind == "delete":
            del content[at : at + len(new)]
        elif kind == "cut":
            del content[at:]
        elif kind == "repeat":
            content[at:at] = content[at : at + 64] * (1 + len(new))
    return bytes(content)


# .npz

RNG = np.random.default_rng(0)


def _npz(save=np.savez, **held):
    buffer = io.BytesIO()
    save(buffer, **held)
    return buffer.getvalue()


def _whole_archives(trace):
    x, y = RNG.normal(size=(6, 3)).astype(np.float32), np.arange(6) % 2
    bombs = np.array([Bomb(trace)] * 6, object)
    return [
        _npz(x=x, y=y, groups=y, times=np.arange(6.0)),
        _npz(np.savez_compressed, x=x, y=np.array(list("abcabc")), class_names=["a", "b", "c"]),
        _npz(x=RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8), y=x[:, 0]),
        _npz(x=bombs, y=y),
        _npz(x=x, y=bombs, groups=bombs),
    ]


@examples(0.25)
@given(which=st.integers(0, 4), damage=DAMAGE)
def test_npz_with_damaged_bytes(place, which, damage):
    trace = place / "it ran"
    (place / "d.npz").write_bytes(damaged(_whole_archives(trace)[which], damage))
    survives("npz, damaged bytes", lambda: data.npz(place / "d.npz"))
    assert not trace.exists()


def _arrays(size):
    """Members of an archive, mostly of `size` examples."""
    any_array = st.one_of(
        st.builds(
            lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
            st.lists(st.integers(0, 4), max_size=4).map(lambda rest: (size, *rest)) | st.just(()),
            st.sampled_from(["u1", "i8", "f2", "f8", "c8", "?", "U3", "S3", "M8[s]", "m8[D]", "i4,f4", "V5", ">f4"]),
            st.sampled_from([0, 1, 3]),
        ),
        st.lists(st.floats(width=32), min_size=size, max_size=size).map(np.array),
        st.lists(st.text(max_size=3), min_size=size, max_size=size + 1).map(lambda texts: np.array(texts, dtype="U3")),
    )
    x = st.sampled_from([np.zeros((size, 2)), np.ones((size, 3, 3, 1), np.uint8)]) | any_array
    names = st.sampled_from(["y", "groups", "times", "class_names", "z", "a/b"])
    return st.builds(lambda x, more: {"x": x, **more}, x, st.dictionaries(names, any_array, max_size=2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@examples(0.1)
@given(held=st.integers(0, 4).flatmap(_arrays), task=st.sampled_from(TASKS))
def test_npz_of_any_arrays(place, held, task):
    buffer = io.BytesIO()
    np.savez(buffer, **held)
    (place / "d.npz").write_bytes(buffer.getvalue())
    source = survives("npz, any arrays", lambda: data.npz(place / "d.npz", task=task))
    if source is not None and len(source):
        assert source[0]["x"].dtype in (np.float32, np.uint8)
        assert np.isfinite(source.x).all()


def test_the_pickles_would_have_run(place):
    trace = place / "it would run"
    (place / "d.npz").write_bytes(_whole_archives(trace)[3])
    with np.load(place / "d.npz", allow_pickle=True) as file, contextlib.suppress(FileExistsError):  # by the second
        assert len(file["x"]) == 6
    assert trace.is_dir()


# Tables

TABLE = "\ufeffa;b;target;group;time\n" + "".join(
    f'{i};{i / 3};"{"uvw"[i % 3]}";g{i};2024-01-0{i + 1}\n' for i in range(9)
)
BIT = st.sampled_from(["0", "1", "true", "False", "1.0"])
NUMBER = st.integers(-3, 99).map(str) | st.floats(-9, 9).map(str)
CELL = st.one_of(
    NUMBER,
    st.floats().map(str),
    st.sampled_from(["", "nan", "1e999", "-inf", "1_0", "9" * 400, "2024-05-31", "2024-05-31T10:00+02:00", "9" * 5000]),
    st.text(max_size=6),
    st.sampled_from(["0.png", "1.png", "../0.png", "/0.png", "a\0.png", "no.png"]),
)
NAME = st.sampled_from(["a", "b", "y", "target", "label", "group", "time", "file", "image", "", " a ", "Y", "1"])


def _read_table(place, content, **options):
    (place / "t.csv").write_bytes(content)

    def read():
        source = data.csv(place / "t.csv", labelled=False, **options)
        for i in range(min(3, len(source))):
            assert set(source[i]) <= {"x", "y"}
        return source

    source = survives("csv", read)
    if isinstance(source, data.Arrays):
        assert np.isfinite(source.x).all()
        assert source.x.dtype == np.float32
    if source is not None and source.labels is not None:
        assert np.isfinite(source.labels).all()
        assert len(source.labels) == len(source)
        if source.labels.ndim == 2:
            assert source.labels.shape[1] == len(source.class_names)
            assert set(np.unique(source.labels)) <= {0, 1}
        else:
            assert not source.class_names or source.labels.max() < len(source.class_names)


@examples(0.15)
@given(damage=DAMAGE)
def test_tables_with_damaged_bytes(place, damage):
    _read_table(place, damaged(TABLE.encode(), damage))


@examples(0.1)
@given(
    names=st.lists(NAME, min_size=1, max_size=5) | st.lists(NAME, min_size=2, max_size=4, unique=True),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=5)
    | st.lists(st.lists(NUMBER, min_size=4, max_size=4), min_size=1)
    | st.lists(st.lists(BIT, min_size=4, max_size=4), min_size=1),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    fill=st.booleans(),
    options=st.fixed_dictionaries(
        {"task": st.sampled_from(TASKS)}, optional={"target": st.sampled_from(["a", "y", ["a", "b"], "a,y"])}
    ),
)
def test_tables_of_any_fields(place, names, rows, delimiter, fill, options):
    for i in range(2):
        Image.new("L", (2, 2)).save(place / f"{i}.png")
    rows = [(row * 5)[: len(names)] for row in rows] if fill else rows
    content = "\n".join(delimiter.join(row) for row in [names, *rows])
    _read_table(place, content.encode("utf-8", "surrogatepass"), **options)


@examples(0.02)
@given(content=st.binary(max_size=300))
def test_tables_of_any_bytes(place, content):
    _read_table(place, content)


# Texts

LINES = "".join(
    json.dumps({"text": f"a \u05e9 {i}\n", "label": "uvw"[i % 3], "n": i / 2, "of": None if i % 2 else f"d{i}"}) + "\n"
    for i in range(9)
)
WORDS = "text;label;n\n" + "".join(f'"a ""{i}"" \u05e9\n";{"uvw"[i % 3]};{i}\n' for i in range(9))
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud83d"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def _read_texts(place, name, content, **options):
    (place / name).write_bytes(content)

    def read():
        source = data.csv(place / name, labelled=False, **{"text_column": "text"} | options)
        for i in range(len(source)):
            assert source[i]["x"] == source.texts[i] == str(source.texts[i].encode(), "utf-8")
        assert len(source.fingerprint()) == 64
        return source

    survives("texts", read)


@examples(0.1)
@given(which=st.booleans(), packed=st.booleans(), damage=DAMAGE)
def test_texts_with_damaged_bytes(place, which, packed, damage):
    content, name = ((WORDS, "t.csv"), (LINES, "t.jsonl"))[which]
    if packed:
        _read_texts(place, f"{name}.gz", damaged(gzip.compress(content.encode(), mtime=0), damage))
    else:
        _read_texts(place, name, damaged(content.encode(), damage))


@examples(0.05)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["text", "label", "n", "", "a,b"]), JSON_VALUE), max_size=4),
    target=st.sampled_from([None, "label", "n", "a,b"]),
)
def test_json_lines_of_any_values(place, rows, target):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    _read_texts(place, "t.jsonl", content, target=target)
    survives("json lines, features", lambda: data.csv(place / "t.jsonl", target))


@examples(0.02)
@given(content=st.binary(max_size=100) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_lines_and_files_of_any_bytes(place, content):
    (place / "l.txt").write_bytes(content)
    survives("a text in each line", lambda: data.text_lines(place / "l.txt"))
    (place / "texts").mkdir(exist_ok=True)
    (place / "texts" / "1.txt").write_bytes(content)
    survives("folder of texts", lambda: data.text_folder(place / "texts", labelled=False))
    _read_texts(place, "t.jsonl.gz", content)


# Sentences in columns

COLUMNS = "\ufeff-DOCSTART- -X- O O\n\n" + "".join(
    f"w{i} NN B-NP {'OB'[i % 2]}{'-PER' * (i % 2)}\n" + "\n" * (i % 3 == 2) for i in range(9)
)
PARTS = "# newdoc\n# text = a b\n" + "".join(f"{i}\ta b\t_\tNOUN\t_\t_\t0\t_\t_\t_\n" for i in range(1, 4))


def _read_columns(place, name, content):
    (place / name).write_bytes(content)

    def read():
        source = data.load(place / name, labelled=False)
        for i in range(len(source)):
            example = source[i]
            assert len(example["x"]) > 0
            assert "y" not in example or (example["y"] >= 0).sum() == len(example["x"])
        assert len(source.fingerprint()) == 64
        return source

    survives("columns", read)


@examples(0.1)
@given(which=st.booleans(), damage=DAMAGE)
def test_sentences_with_damaged_bytes(place, which, damage):
    _read_columns(
        place,
        *(("t.conllu", damaged(PARTS.encode(), damage)) if which else ("t.conll", damaged(COLUMNS.encode(), damage))),
    )


LINES = "".join(json.dumps({"tokens": ["a", f"w{i}"], "tags": ["O", "B-X"], "n": i}) + "\n" for i in range(6))


@examples(0.1)
@given(damage=DAMAGE)
def test_lines_of_words_with_damaged_bytes(place, damage):
    _read_columns(place, "t.jsonl", damaged(LINES.encode(), damage))


@examples(0.02)
@given(content=st.binary(max_size=300) | st.text("ab -#\t\n\r\0\xa0\u2028", max_size=60).map(str.encode))
def test_sentences_of_any_bytes(place, content):
    _read_columns(place, "t.conll", content)


def _read_questions(place, content):
    """What is read is asked everything that a training asks."""
    file = place / "q.json"
    file.write_bytes(content)

    def read():
        source = data.squad(file)
        for i in range(len(source)):
            example = source[i]
            text, y = str(example["x"]["second"]), example["y"]
            assert text[y["start"] : y["end"]].strip() == json.loads(str(y["answers"]))[0].strip()
        assert len(source.fingerprint()) == 64
        return source

    survives("questions", read)


ASKED = {
    "data": [
        {
            "title": f"t{i}",
            "paragraphs": [
                {
                    "context": f"It is w{i}.",
                    "qas": [{"id": f"q{i}", "question": "Who?", "answers": [{"text": f"w{i}", "answer_start": 6}]}],
                }
            ],
        }
        for i in range(3)
    ]
}


@examples(0.1)
@given(damage=DAMAGE)
def test_questions_with_damaged_bytes(place, damage):
    _read_questions(place, damaged(json.dumps(ASKED).encode(), damage))


OF_A_QUESTION = [("data", 1), ("data", 1, "title")]
OF_A_QUESTION += [("data", 1, "paragraphs", 0, *rest) for rest in ((), ("context",), ("qas",), ("qas", 0))]
OF_A_QUESTION += [("data", 1, "paragraphs", 0, "qas", 0, key) for key in ("id", "question", "answers", "is_impossible")]
OF_A_QUESTION += [
    ("data", 1, "paragraphs", 0, "qas", 0, "answers", 0, *rest) for rest in ((), ("text",), ("answer_start",))
]


@examples(0.05)
@given(path=st.sampled_from(OF_A_QUESTION), value=st.data())
def test_questions_of_any_values(place, path, value):
    asked = json.loads(json.dumps(ASKED))
    at = asked
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value.draw(VALUES)
    _read_questions(place, json.dumps(asked).encode())


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"data":' * 100_000, b"9" * 10_000, b"\x00" * 1000])
def test_deep_and_long_questions(place, content):
    _read_questions(place, content)


# Images


def _whole_images():
    colour = Image.fromarray(RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photograph"
    for suffix, image, options in (
        ("jpg", colour, {"exif": exif}),
        ("jpg", colour.convert("CMYK"), {}),
        ("jpg", colour, {"progressive": True, "icc_profile": b"x" * 200}),
        ("png", colour, {"exif": exif}),
        ("png", colour.convert("P"), {"transparency": 2}),
        ("png", Image.fromarray(RNG.integers(0, 65536, (5, 6), dtype=np.uint16)), {}),
        ("png", colour.convert("1"), {}),
        ("webp", colour, {"exif": exif}),
        ("webp", colour.convert("RGBA"), {"lossless": True}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
        yield suffix, buffer.getvalue()


IMAGES = list(_whole_images())
SHAPE = ImagePreprocessing((6, 6, 3))


@examples(0.25)
@given(which=st.integers(0, len(IMAGES) - 1), damage=DAMAGE, other_suffix=st.booleans())
def test_folders_with_damaged_images(place, which, damage, other_suffix):
    root = place / "images"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(IMAGES[3][1])
    suffix, content = IMAGES[which]
    (root / "b" / f"1.{'jpeg' if other_suffix else suffix}").write_bytes(damaged(content, damage))

    def read():
        source = data.folder(root)
        shapes = source.shapes()
        assert {example.shape for example in (source[i]["x"] for i in range(3))} <= shapes
        assert SHAPE.load(source).shape == (3, 6, 6, 3)
        assert len(source.fingerprint()) == 64
        return source

    survives("image folder", read)
    kept, broken = survives("image folder, skip_broken", lambda: data.skip_broken(data.folder(root)))
    assert len(kept) + len(broken) == 3
    assert len(broken) <= 1


@examples(0.03)
@given(
    content=st.binary(max_size=100),
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"%!PS"]),
)
def test_files_of_any_bytes(place, content, start):
    folder = place / "one"
    folder.mkdir(exist_ok=True)
    (folder / "0.jpg").write_bytes(start + content)
    survives("image of any bytes", lambda: data.folder(folder, labelled=False)[0])


# Masks


def _whole_masks():
    numbers = RNG.integers(0, 3, (9, 7), dtype=np.uint8)
    palette = Image.frombytes("P", (7, 9), numbers.tobytes())
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 255])
    table = np.array([(10, 20, 30), (200, 0, 0), (0, 0, 255)], np.uint8)
    made = (numbers, palette, table[numbers], numbers.astype(np.uint16), numbers > 0)
    for image in (*made, np.dstack([table[numbers], np.full_like(numbers, 255)])):
        buffer = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG")
        yield buffer.getvalue()


MASKS = list(_whole_masks())
CLASSES = b"a 10 20 30\nb 200 0 0\nc 0 0 255\n"
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "void": st.sampled_from([None, 0, 1, 255, "a", (0, 0, 255), (9, 9, 9), -1, 1.5]),
        "size": st.sampled_from([4, (3, 20)]),
        "tile": st.sampled_from([4, (3, 20)]),
        "group": st.sampled_from(["frames:2", "(.)", "x", "["]),
    },
)


def _read_masks(root, options):
    def read():
        source = data.masks(root, **options)
        count = len(source.class_names)
        for i in range(len(source)):
            assert source[i]["y"].shape == source[i]["x"].shape[:2] == source.targets().shape[1:]
        assert ((source.targets() < count) | (source.targets() == 255)).all()
        assert (source.targets() < 255).any()
        assert len(source.fingerprint()) == 64
        return source

    survives("masks", read)


@examples(0.1)
@given(
    which=st.integers(0, len(MASKS) - 1),
    damage=DAMAGE,
    where=st.sampled_from(["images/f_1.png", "masks/f_1.png", "masks/f_1.png", "classes.txt"]),
    named=st.booleans(),
    options=OPTIONS,
)
def test_masks_with_damaged_bytes(place, which, damage, where, named, options):
    root = place / "segmented"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        for i in range(2):
            (root / name / f"f_{i}.png").write_bytes(MASKS[which])
    if named or where == "classes.txt":
        (root / "classes.txt").write_bytes(CLASSES)
    (root / where).write_bytes(damaged((root / where).read_bytes(), damage))
    _read_masks(root, options)


@examples(0.05)
@given(
    content=st.binary(max_size=80) | st.lists(st.text(max_size=9), max_size=4).map(lambda t: "\n".join(t).encode()),
    options=OPTIONS,
)
def test_classes_of_any_bytes(place, content, options):
    root = place / "named"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "f_0.png").write_bytes(MASKS[0])
    (root / "classes.txt").write_bytes(content)
    _read_masks(root, options)


# Checkpoints


NETWORKS = {
    "cnn": {"features": (2,), "hidden": (3,)},
    "vit": {"width": 4, "depth": 1, "num_heads": 1},
    "resnet20_cifar": {"depths": (1, 1), "width": 2},
}


@pytest.fixture(
    scope="module",
    params=[name if name == "cnn" else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def checkpoint(place, request):
    shape = ImagePreprocessing((4, 4, 1), (0.1,), (0.2,))
    model = create(request.param, 2, **NETWORKS[request.param])
    made = from_model(model, shape, ("a", "b"))
    path = place / request.param
    card = dataclasses.replace(made.card, plan={"epochs": 1}).with_seen(np.arange(5, dtype=np.uint64))
    save(dataclasses.replace(made, card=card, history=({"epoch": 1},)), path)
    return path, (path / "card.json").read_bytes()


def _restored(checkpoint, content, name="card.json"):
    path, whole = checkpoint[0], (checkpoint[0] / name).read_bytes()
    (path / name).write_bytes(content)
    try:
        made = survives(f"checkpoint's {name}", lambda: restore(path))
    finally:
        (path / name).write_bytes(whole)
    if made is not None:
        assert made.model.num_outputs == 2
        assert len(made.card.class_names) in (0, 2)


@examples(0.015)
@given(damage=DAMAGE)
def test_cards_with_damaged_bytes(checkpoint, damage):
    _restored(checkpoint, damaged(checkpoint[1], damage))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, -1, 10**9, 2**70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *((key,) for key in ("format", "model", "arguments", "num_outputs", "class_names", "parent", "plan", "split")),
    *((key,) for key in ("data", "source", "preprocessing", "environment", "fingerprint", "scaling")),
    *(
        ("arguments", key)
        for key in (
            "depth",
            "depths",
            "width",
            "num_heads",
            "patch_size",
            "features",
            "hidden",
            "dropout",
            "activation",
            "dtype",
            "param_dtype",
            "x",
        )
    ),
    *(
        ("preprocessing", key)
        for key in ("modality", "input_shape", "kind", "mean", "std", "interpolation", "crop_fraction", "crop_mode")
    ),
    *(("task", key) for key in ("name", "names", "x")),
    *((key,) for key in ("task", "targets", "columns", "trained_on")),
    ("trained_on", "sha256"),
    *(("preprocessing", "input_shape", i) for i in range(3)),
    ("arguments", "features", 0),
    ("class_names", 0),
]


@examples(0.015)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=2))
def test_cards_of_any_values(checkpoint, changes):
    card = json.loads(checkpoint[1])
    for path, value in changes:
        at = card
        with contextlib.suppress(KeyError, TypeError, IndexError):  # an earlier change took the place away
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
    _restored(checkpoint, json.dumps(card).encode())


@examples(0.0035)
@given(content=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
def test_histories_of_any_bytes(checkpoint, content):
    _restored(checkpoint, content, "metrics.jsonl")


@examples(0.0035)
@given(content=st.binary(max_size=60))
def test_lists_of_any_bytes(checkpoint, content):
    _restored(checkpoint, content, "trained_on.u64")


@pytest.mark.parametrize("name", ["card.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"\x00" * 1000])
def test_deep_and_long_json(checkpoint, name, content):
    _restored(checkpoint, content, name)
