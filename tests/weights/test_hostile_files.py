"""Checkpoints and weights that somebody made to harm: each is refused in words, and nothing hangs or is allocated."""

import hashlib
import json
import os
import shutil
import zipfile

import jax
import numpy as np
import pytest
from checkpoints import edit_card, made, put, put_in

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.validation.splits import load_split, split_source
from jaxdl.weights import hub
from jaxdl.weights.read import read_weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return jaxdl.save(made(), tmp_path_factory.mktemp("whole") / "c")


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.parametrize(
    ("statistics", "named"),
    [({"std": [1e-300]}, "std"), ({"std": [1e-40]}, "std"), ({"mean": [1e300]}, "mean"), ({"mean": [-1e39]}, "mean")],
)
def test_statistics_are_checked_in_the_precision_of_their_use(copied, statistics, named):
    edit_card(copied, put_in("preprocessing", **statistics))
    with pytest.raises(InputError, match=rf"card\.json'.*{named}.*float32"):
        jaxdl.restore(copied)


def test_a_scaling_too_large_for_float32(copied):
    scaled = {"scaling": [0.0, 1e300]}
    edit_card(copied, put(task={"name": "regression"}, class_names=[], num_outputs=1, targets=scaled))
    with pytest.raises(InputError, match=r"card\.json'.*scaling"):
        jaxdl.restore(copied)


def test_labels_that_mean_two_classes_of_one_name(copied):
    """As ImageNet's cranes: they are predicted, each by a name of its own, and labels have to say which."""
    edit_card(copied, put_in("task", names=["a", "b", "a"]))
    restored = jaxdl.restore(copied)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(InputError, match=r"'a' .*'a \(0\)' or 'a \(2\)'"):
        jaxdl.predict(restored, jaxdl.data.arrays(images, np.array([0, 1, 0, 1]), class_names=["a", "b"]))
    said = jaxdl.data.arrays(images, np.array([0, 1, 0, 1]), class_names=["a (2)", "b"])
    np.testing.assert_array_equal(jaxdl.predict(restored, said).targets, [2, 1, 2, 1])


@pytest.mark.parametrize("told", ["x", [1], 3, True, {"examples": "x", "sha256": "y"}])
def test_a_damaged_list_of_examples(copied, told):
    edit_card(copied, put(trained_on=told))
    with pytest.raises(InputError, match=r"card\.json|trained_on\.u64"):
        jaxdl.restore(copied)


def test_a_list_of_examples_whose_bytes_are_no_hashes(copied):
    (copied / "trained_on.u64").write_bytes(b"abc")
    edit_card(copied, put(trained_on={"examples": 0, "sha256": hashlib.sha256(b"abc").hexdigest()}))
    with pytest.raises(InputError, match=r"trained_on\.u64"):
        jaxdl.restore(copied)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_that_are_not_finite(tmp_path, value):
    checkpoint = made()
    leaves = {name: np.array(leaf) for name, leaf in walk_shapes(checkpoint.variables)}
    name = "params/layer1/dense/kernel"
    leaves[name][:2, 0] = value
    bad = jax.tree.unflatten(jax.tree.structure(checkpoint.variables), leaves.values())
    path = jaxdl.save(jaxdl.Checkpoint(checkpoint.model, bad, checkpoint.card), tmp_path / "c")
    with pytest.raises(InputError, match=rf"{name} \(2 of {leaves[name].size}\)"):
        jaxdl.restore(path)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("cnn", {"features": (10**9,)}), ("cnn", {"features": (2 * 10**9, 10**9)}), ("mlp", {"hidden": (10**11,)})],
)
def test_more_parameters_than_memory(name, arguments):
    """Refused before anything is allocated or compiled; XLA would end the process for some."""
    source = jaxdl.data.arrays(np.zeros((6, 8, 8, 3), np.uint8), np.array([0, 1] * 3))
    model = jaxdl.create(name, 2, **arguments)
    for call in (
        lambda: jaxdl.pretrain(model, source, jaxdl.Plan(epochs=1)),
        lambda: jaxdl.from_model(model, jaxdl.data.ImagePreprocessing((8, 8, 3))),
    ):
        with pytest.raises(InputError, match=r"parameters.*memory"):
            call()


@pytest.mark.parametrize("source", ["hf:../..", "hf:a/..", "hf:./x", "hf:a/b@../x", "hf:-a/b", "hf:a/b--c"])
def test_names_on_the_hub_that_lead_elsewhere(source):
    with pytest.raises(InputError, match="hf:OWNER/NAME"):
        hub.parse(source)


HEADERS = [
    "{'descr':'<f4','fortran_order':False,'shape':(True,True)}",
    "{'descr':'<f4','fortran_order':False,'shape':(-1,)}",
    "{'descr':'<f4','fortran_order':False,'shape':(1000000000000,)}",
    "{'descr':'|O','fortran_order':False,'shape':(1,)}",
    "{'descr':'<U4','fortran_order':False,'shape':(1,)}",
    "{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}",
    "{'descr':'<c8','fortran_order':False,'shape':(1,)}",
    "{'descr':'<f4','fortran_order':False,'shape':()}",
    "{'descr':'<f4'}",
    "{",
    "(" * 3000,
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_arrays_that_nobody_would_write(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        content = header.encode() + b"\n"
        size = len(content).to_bytes(2, "little")
        archive.writestr("conv1.weight.npy", b"\x93NUMPY\x01\x00" + size + content + b"\0" * 64)
    with pytest.raises(InputError, match=r"w\.npz|conv1\.weight"):
        jaxdl.convert(tmp_path / "w.npz", "resnet20_cifar", arguments={"depths": (1,), "width": 2})


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F4"])
def test_numbers_of_few_bits_are_named(tmp_path, kind):
    header = json.dumps({"conv1.weight": {"dtype": kind, "shape": [8], "data_offsets": [0, 4 if kind == "F4" else 8]}})
    content = header.encode().ljust(-len(header) % 8 + len(header))
    size = len(content).to_bytes(8, "little")
    (tmp_path / "w.safetensors").write_bytes(size + content + b"\0" * (4 if kind == "F4" else 8))
    with pytest.raises(InputError, match=kind):
        jaxdl.convert(tmp_path / "w.safetensors", "resnet20_cifar")


@pytest.mark.parametrize("file", ["card.json", "metrics.jsonl", "trained_on.u64", "variables/manifest.ocdbt"])
def test_pipes_are_not_opened(copied, file):
    """Opening one that nobody writes to waits forever."""
    (copied / file).unlink(missing_ok=True)
    os.mkfifo(copied / file)
    with pytest.raises(InputError, match=f"{file}' is a pipe"):
        jaxdl.restore(copied)


def test_a_pipe_for_weights(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth' is a pipe"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("count", [10**13, -1, "12", True, 1.5, None])
def test_a_split_that_speaks_of_impossibly_many_examples(tmp_path, count):
    source = jaxdl.data.arrays(np.arange(12.0)[:, None], np.array([0, 1] * 6))
    path = split_source(source, "kfold", 3, 0).save(tmp_path / "s.npz", source)
    with np.load(path) as held:
        arrays = dict(held)
    manifest = json.loads(str(arrays["manifest"])) | {"examples": count}
    np.savez(tmp_path / "bad.npz", **arrays | {"manifest": np.array(json.dumps(manifest))})
    assert len(load_split(path).test) == 3
    with pytest.raises(InputError, match=r"bad\.npz'"):
        load_split(tmp_path / "bad.npz")
