"""Data sets prepared by TensorFlow Datasets, against what they were prepared from."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import cloudpickle
import numpy as np
import pytest
from sklearn.datasets import load_digits
from source_contract import check_contract

from jaxdl import data
from jaxdl.data.prepared import Spec
from jaxdl.data.preprocessing import ImagePreprocessing, TablePreprocessing, choose_preprocessing
from jaxdl.data.stream import EvaluationOrder, stream
from jaxdl.errors import InputError


def is_installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


pytestmark = [
    pytest.mark.slow,  # TensorFlow takes its time to start
    pytest.mark.skipif(
        not is_installed("tensorflow", "tensorflow_datasets", "array_record", "importlib_resources"),
        reason="preparing a data set takes TensorFlow: pip install tensorflow-cpu",
    ),
]

PREPARE = """
    import io, sys
    import numpy as np
    import tensorflow_datasets as tfds
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = sys.argv[1]
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    names = [f"digit {i}" for i in range(10)]
    features = tfds.features


    def prepare(
        name, features_of, keys, splits, examples, *, to="array_record", where="whole", configs=(), version="1.0.0"
    ):
        def info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=features.FeaturesDict(features_of), supervised_keys=keys
            )

        def generate(self, rows):
            return ((i, examples(i)) for i in rows)

        members = {
            "VERSION": tfds.core.Version(version),
            "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=c) for c in configs],
            "_info": info,
            "_split_generators": lambda self, _: {split: self._generate_examples(r) for split, r in splits.items()},
            "_generate_examples": generate,
        }
        made = type(name, (tfds.core.GeneratorBasedBuilder,), members)
        for config in configs or [None]:
            made(data_dir=f"{folder}/{where}", config=config, file_format=to).download_and_prepare()


    def photo(i):
        # of mixed sizes; number 1 is grey, though colour is declared
        rng = np.random.default_rng(i)
        shape = (10 + i, 20) if i == 1 else (10 + i, 20, 3)
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file, "PNG")
        file.seek(0)
        return {"image": file, "label": ["cat", "dog"][i % 2], "seen": {"again": images[i], "often": i}}


    image, label = features.Image(shape=(8, 8, 1)), features.ClassLabel(names=names)
    supervised = ("image", "label")
    digit = lambda i: {"image": images[i], "label": int(digits.target[i]), "extra": i}
    kinds = {"image": image, "label": label, "extra": np.int64}
    split = {"train": range(1500), "test": range(1500, 1797)}
    some = {"train": range(60)}
    prepare("DigitsSmall", kinds, supervised, split, digit)
    with tfds.core.registered.skip_registration():  # the name is taken
        prepare("DigitsSmall", kinds, supervised, split, digit, version="1.10.0")
    prepare("DigitsRecord", kinds, supervised, some, digit, to="tfrecord")
    prepare("DigitsApart", kinds, None, some, digit)
    prepare("Damaged", kinds, supervised, some, digit, where="damaged")
    prepare("Lone", kinds, supervised, some, digit, configs=["only"])
    prepare("Several", kinds, supervised, some, digit, configs=["one", "two"])
    prepare("Hidden", kinds, supervised, some, lambda i: {**digit(i), "label": -1})
    mixed = {"image": features.Image(), "label": features.Text(), "seen": {"again": image, "often": np.int32}}
    prepare("Photos", mixed, supervised, {"train": range(8)}, photo)
    vector = features.Tensor(shape=(64,), dtype=np.float64)
    for name, kind, value in (
        ("Floats", np.float32, lambda i: digits.target[i] / 8),
        ("Amounts", np.int64, lambda i: 3 * i),
        ("Counts", np.int64, lambda i: int(digits.target[i]) + 5),
    ):
        prepare(
            name, {"x": vector, "y": kind}, ("x", "y"), some,
            lambda i, value=value: {"x": digits.data[i], "y": value(i)},
        )
    one = {"x": np.float32, "y": label}
    prepare("Scalar", one, ("x", "y"), some, lambda i: {"x": digits.data[i].mean(), "y": int(digits.target[i])})
    text = {"x": features.Text(), "y": label}
    prepare("Texts", text, ("x", "y"), some, lambda i: {"x": f"wörter {i}", "y": int(digits.target[i])})
    two = {"one": features.Text(), "two": features.Text(), "alike": np.int64, "image": image}
    prepare(
        "Pairs", two, None, {"train": range(8)},
        lambda i: {"one": f"a {i}", "two": f"b {i}", "alike": i % 2, "image": images[i]},
    )
    boxes = {"image": image, "box": features.BBoxFeature()}
    corner = features.BBox(0.0, 0.0, 0.5, 0.5)
    prepare("Boxes", boxes, ("image", "box"), some, lambda i: {"image": images[i], "box": corner})
"""

# As if TensorFlow were not installed: it is found nowhere.
READ = """
    import sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, *arguments):
            return None if name.partition(".")[0] == "tensorflow" else self.finder.find_spec(name, *arguments)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    if sys.argv[1] == "without":
        sys.meta_path[:] = map(Without, sys.meta_path)
        try:
            import tensorflow
        except ModuleNotFoundError:
            pass
        else:
            raise SystemExit("tensorflow is there")
    import numpy, jaxdl.data
    assert not {"tensorflow_datasets", "grain", "tensorflow"} & set(sys.modules)
    found = {}
    for split in "train", "test":
        source = jaxdl.data.load(f"tfds:digits_small:{split}")
        found[f"{split} x"] = numpy.stack([source[i]["x"] for i in range(len(source))])
        found[f"{split} y"] = source.labels
    assert "tensorflow_datasets" in sys.modules
    assert "tensorflow" not in sys.modules
    numpy.savez(sys.argv[2], **found)
"""


def run(code: str, *arguments: object, **environment: object) -> None:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    run(PREPARE, folder, TF_CPP_MIN_LOG_LEVEL="3")
    return folder


@pytest.fixture(autouse=True)
def data_dir(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / "whole"))
    return prepared / "whole"


DIGITS = load_digits()
IMAGES = np.round(DIGITS.images * (255 / 16)).astype(np.uint8)[..., None]


def in_any_order(x, y):
    """Examples of a prepared data set are shuffled."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


@pytest.mark.parametrize("tensorflow", ["with", "without"])
def test_every_image_and_label(tmp_path, prepared, tensorflow):
    run(READ, tensorflow, tmp_path / "read.npz", TFDS_DATA_DIR=prepared / "whole")
    with np.load(tmp_path / "read.npz") as read:
        for split, rows in (("train", slice(0, 1500)), ("test", slice(1500, 1797))):
            assert (read[f"{split} x"].dtype, read[f"{split} y"].dtype) == (np.uint8, np.int32)
            expected = in_any_order(IMAGES[rows], DIGITS.target[rows])
            assert in_any_order(read[f"{split} x"], read[f"{split} y"]) == expected


def test_a_source_like_the_others():
    source = data.load("tfds:digits_small:test")
    assert isinstance(source, data.Source)
    assert source.name == "tfds:digits_small:1.10.0:test"  # the latest version, by number
    assert source.class_names == tuple(f"digit {i}" for i in range(10))
    assert source.names[:3] == ["0", "1", "2"]
    assert (len(source), len(source.names)) == (297, 297)
    assert (source.groups, source.times) == (None, None)
    assert source[5]["y"] == source.labels[5]
    assert choose_preprocessing(source, None, 224) == ImagePreprocessing((8, 8, 1))
    again = data.load(source.name)
    np.testing.assert_array_equal(again.labels, source.labels)
    sent = cloudpickle.loads(cloudpickle.dumps(source))
    np.testing.assert_array_equal(sent[7]["x"], source[7]["x"])
    part = data.subset(source, [3, 1])
    np.testing.assert_array_equal(part[1]["x"], source[1]["x"])


@pytest.mark.parametrize(
    "spec", ["tfds:photos", "tfds:digits_small:train[:9]", "tfds:hidden:train[:5]", "tfds:floats:train[:5]"]
)
def test_it_keeps_the_contract_of_sources(spec):
    source = data.load(spec)
    check_contract(source)
    assert data.load(source.name).fingerprint() == source.fingerprint()
    if spec != "tfds:photos":  # whose sizes differ
        x = np.stack([source[i]["x"] for i in range(len(source))])
        assert data.Arrays(x, source.targets(), source.class_names).fingerprint() == source.fingerprint()


def test_splits_as_tfds_writes_them():
    train = data.load("tfds:digits_small:1.0.0:train")
    parts = [data.load(f"tfds:digits_small:1.0.0:train[{s}]") for s in (":80%", "80%:")]
    assert [len(part) for part in parts] == [1200, 300]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), train.labels)
    assert len(data.load("tfds:digits_small:train+test")) == len(data.load("tfds:digits_small:all")) == 1797
    assert data.load("tfds:digits_small", "train").name == "tfds:digits_small:1.10.0:train"
    assert data.load("tfds:digits_small:test", "train").name.endswith(":test")  # what the spec says comes first
    assert len(data.load("tfds:lone")) == len(data.load("tfds:lone/only:1.0.0", "val")) == 60  # one config, one split


def test_images_of_any_size_in_memory_and_streamed():
    source = data.load("tfds:photos")
    assert source.class_names == ("cat", "dog")
    shapes = {source[i]["x"].shape for i in range(8)}
    assert shapes == source.shapes() == {(10 + i, 20, 3) for i in range(8)}
    for i in range(8):
        x, y = source[i]["x"], source[i]["y"]
        seed = len(x) - 10
        assert y == seed % 2
        written = np.random.default_rng(seed).integers(0, 256, (len(x), 20) if seed == 1 else x.shape, dtype=np.uint8)
        np.testing.assert_array_equal(x, written if seed != 1 else np.repeat(written[..., None], 3, axis=-1))
    small = choose_preprocessing(source, 9, 224)
    whole = small.load(source)
    for workers in (0, 1):
        for batch in stream(source, small, EvaluationOrder((np.arange(8),), 4), range(1), workers=workers):
            rows = slice(4 * batch["step"], 4 * batch["step"] + 4)
            np.testing.assert_array_equal(batch["x"], whole[rows])
            np.testing.assert_array_equal(batch["y"], source.labels[rows])


def test_texts():
    source = data.load("tfds:texts")
    check_contract(source)
    rows = {f"wörter {i}": int(DIGITS.target[i]) for i in range(60)}
    assert {text: int(label) for text, label in zip(source.texts, source.targets(), strict=True)} == rows
    assert source.class_names[3] == "digit 3"
    for named in (("one", "two"), ("one,two",)):
        pairs = data.load("tfds:pairs", table=data.TableOptions(text_column=named, target=("alike",)))
        assert sorted(pairs.held) == [(f"a {i}", f"b {i}") for i in range(8)]
        labels = [int(pairs.class_names[label]) for label in pairs.targets()]
        assert labels == [int(first[2:]) % 2 for first, _ in pairs.held]
    alone = data.from_tfds("tfds:pairs", text=["two"], target=["alike"])
    assert sorted(alone.texts) == [f"b {i}" for i in range(8)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"text": ["on"], "target": ["alike"]},
            r"has no feature 'on'; it has: alike, .*\. Did you mean 'one'",
        ),
        ({"text": ["one"], "target": ["alik"]}, "Did you mean 'alike'"),
        ({"text": ["alike"], "target": ["one"]}, "the feature 'alike' of 'pairs' holds .*, no texts"),
        ({"text": ["one", "two", "one"], "target": ["alike"]}, "expected one or two features of texts"),
        ({"text": ["one"]}, "does not say which .* by --text-column and --target"),
    ],
)
def test_features_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        data.from_tfds("tfds:pairs", **options)


def test_numbers():
    rows = {row.tobytes(): i for i, row in enumerate(DIGITS.data[:60].astype(np.float32))}
    for name, dtype, classes, value in (
        ("floats", np.float32, (), lambda i: DIGITS.target[i] / 8),
        ("amounts", np.float32, (), lambda i: 3 * i),  # too many values to be classes
        ("counts", np.int32, tuple(str(i) for i in range(5, 15)), lambda i: DIGITS.target[i]),
    ):
        source = data.load(f"tfds:{name}")
        assert (source.labels.dtype, source.class_names) == (dtype, classes)
        for i in range(60):
            assert source[i]["x"].dtype == np.float32
            assert source.labels[i] == np.float32(value(rows[source[i]["x"].tobytes()]))
        assert choose_preprocessing(source, None, 224) == TablePreprocessing((64,))
    assert data.load("tfds:scalar")[0]["x"].shape == (1,)


def test_hidden_labels_are_none():
    source = data.load("tfds:hidden")
    assert (source.labels, source.class_names) == (None, ())
    assert sorted(source[0]) == ["x"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:digits_small", "train, test.* tfds:digits_small:train"),
        ("tfds:digits_small:trian", r"split 'trian' .*train \(1500 examples\), test \(297.*Did you mean 'train'\?"),
        ("tfds:digits_small:train[:200%]", r"'train\[:200%\]' of 'digits_small'"),
        ("tfds:digits_small:train[7:7]", r"'train\[7:7\]' of 'digits_small'"),
        ("tfds:digits_smal:train", "'digits_smal'.*'digits_small'"),
        ("tfds:cifar01", "'cifar01'.*'cifar10'"),
        (
            "tfds:mnist",
            r"'mnist' is not prepared: there is no '.*mnist/VERSION'.*\n  pip install .* tensorflow\n",
        ),
        ("tfds:mnist:3.0.1:train", r"tfds.builder\('mnist:3.0.1', data_dir='.*', file_format='array_record'\)"),
        ("tfds:digits_small:2.0.0:train", r"1\.0\.0, 1\.10\.0 .*2\.0\.0"),
        ("tfds:several", "one, two.* tfds:several/one"),
        ("tfds:several/tow", "one, two .*'tow'.*'two'"),
        ("tfds:several/one:9.9.9", r"'several/one' .*1\.0\.0 .*9\.9\.9"),
        ("tfds:digits_record", "prepared as tfrecord.* array_record"),
        (
            "tfds:digits_apart",
            r"\(supervised keys: None\). Its features: extra: Tensor.*; image: Image.*; label: ClassL",
        ),
        ("tfds:boxes", "the labels of 'boxes' are BBoxFeature.*"),
        ("tfds:", r"'tfds:' names no data set; expected tfds:NAME\[/CONFIG\]\[:VERSION\]\[:SPLIT\]"),
        ("tfds:a/b/c", "'tfds:a/b/c'"),
        ("tfds:../etc", r"'tfds:\.\./etc'"),
    ],
)
def test_what_cannot_be_read(spec, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        data.load(spec)


@pytest.mark.slow
def test_the_commands_of_the_message_are_right(prepared, monkeypatch):
    """What it advises for a data set in the wrong format makes it readable: here, with a builder of the test's own."""
    with pytest.raises(InputError) as caught:
        data.load("tfds:digits_record")
    advised = str(caught.value).rpartition('python -c "')[2].rstrip('"')
    assert advised == (
        "import tensorflow_datasets as tfds; tfds.builder('digits_record', data_dir="
        f"'{prepared / 'whole'}', file_format='array_record').download_and_prepare()"
    )
    define = textwrap.dedent(PREPARE).partition('prepare("DigitsSmall"')[0].replace(".download_and_prepare()", "")
    define += '\nprepare("DigitsRecord", kinds, supervised, some, digit)\n'
    run(
        define + advised.replace(str(prepared / "whole"), str(prepared / "anew")),
        prepared / "aside",
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / "anew"))
    assert len(data.load("tfds:digits_record")) == 60


def test_home_is_looked_in_without_the_variable(tmp_path, prepared, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"there is no '{tmp_path}/tensorflow_datasets/mnist/VERSION'"):
        data.load("tfds:mnist")
    (tmp_path / "tensorflow_datasets").symlink_to(prepared / "whole")
    assert len(data.load("tfds:digits_small:test")) == 297


def test_damaged_files(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared / "damaged"))
    folder = prepared / "damaged" / "damaged" / "1.0.0"
    assert len(data.load("tfds:damaged")) == 60
    (records,) = folder.glob("*.array_record*")
    whole = records.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:3000] + bytes(400) + whole[3400:], b""):
        records.write_bytes(broken)
        with pytest.raises(InputError, match=r"cannot be read .*; prepare it again"):
            data.load("tfds:damaged")
    records.unlink()
    with pytest.raises(InputError, match=r"cannot be read .*; prepare it again"):
        data.load("tfds:damaged")
    (folder / "dataset_info.json").write_text('{"name": ')
    with pytest.raises(InputError, match=r"what describes '.*1\.0\.0' cannot be read .*; prepare it again"):
        data.load("tfds:damaged")


def test_an_image_that_cannot_be_decoded():
    source = data.load("tfds:digits_small:test")

    class Broken:
        def __getitems__(self, indices):
            return [{"image": records[i]["image"][:-30]} for i in indices]

    records = source.records
    object.__setattr__(source, "records", Broken())
    with pytest.raises(
        InputError, match=r"example 4 of tfds:digits_small:1\.10\.0:test is no image that can be decoded"
    ):
        source[4]


@pytest.mark.parametrize("module", ["tensorflow_datasets", pytest.param("array_record", marks=pytest.mark.slow)])
def test_packages_that_are_missing_are_named(module, tmp_path):
    code = f"""
        import sys
        sys.modules["{module}"] = None
        from jaxdl import data
        try:
            data.load("tfds:digits_small:train")
        except data.tfds.InputError as error:
            assert "{module}" in str(error) and "pip install tensorflow-datasets" in str(error), error
        else:
            raise SystemExit("it was read")
    """
    run(code)


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("tfds:mnist", ("mnist", None, None)),
        ("tfds:mnist:train", ("mnist", None, "train")),
        ("tfds:mnist:3.0.1", ("mnist", "3.0.1", None)),
        ("tfds:glue/sst2:2.0.0:train[:80%]", ("glue/sst2", "2.0.0", "train[:80%]")),
        ("tfds:glue/sst2:train[10%:20%]+test", ("glue/sst2", None, "train[10%:20%]+test")),
        ("tfds:imagenet_v2/matched-frequency:test", ("imagenet_v2/matched-frequency", None, "test")),
    ],
)
def test_grammar(spec, parsed):
    assert Spec.parse(spec) == Spec(*parsed)


def test_nothing_is_imported_before_it_is_needed():
    run(
        """
        import sys, jaxdl.data, jaxdl.data.tfds, jaxdl.data.stream
        assert not {"tensorflow_datasets", "grain", "tensorflow", "array_record"} & set(sys.modules)
        """
    )
