"""A checkpoint comes back bit for bit, or not at all."""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoints import CARD, KINDS, PREPROCESSING, assert_same, edit_card, made, put_in, without

from jaxdl.data.preprocessing import ImagePreprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import Classification
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint, environment, fingerprint, from_model, replace_head, restore, save


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def saved(tmp_path):
    return save(made(), tmp_path / "checkpoint")


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tmp_path, kind):
    original = made(kind)
    path = save(original, tmp_path / "new" / "checkpoint")
    assert path == tmp_path / "new" / "checkpoint"
    assert path.stat().st_mode & 0o777 == 0o755
    restored = restore(str(path))
    assert restored.model == original.model
    assert restored.card == original.card
    assert restored.history == original.history
    assert restored.path == str(path)
    assert set(restored.variables) == {"params", "batch_stats"}
    assert jax.tree.structure(restored.variables) == jax.tree.structure(original.variables)
    assert_same(restored.variables, original.variables)
    assert bool(restored.variables["batch_stats"]) == (kind in ("cnn", "resnet"))


def test_a_bare_card_round_trips(tmp_path):
    original = made(card=Card(ImagePreprocessing((8, 8, 1))), history=())
    restored = restore(save(original, tmp_path / "c"))
    assert (restored.card, restored.history) == (original.card, ())
    assert not restored.card.preprocessing.fitted


def test_the_card_can_be_read_by_people(saved):
    card = json.loads((saved / "card.json").read_text())
    assert (card["format"], card["model"], card["arguments"], card["num_outputs"]) == (1, "mlp", {"hidden": [4, 4]}, 3)
    assert card["class_names"] == ["été", "b", "c"]
    assert card["environment"]["packages"].keys() >= {"jaxdl", "jax", "flax", "numpy"}


@pytest.mark.slow
def test_another_process_needs_nothing_but_the_folder(tmp_path):
    original = made("cnn")
    path = save(original, tmp_path / "c")
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    program = """
import sys, jax, numpy as np
from jaxdl import restore
restored = restore(sys.argv[1])
np.savez(sys.argv[3], logits=restored.model.apply(restored.variables, np.load(sys.argv[2])),
         names=restored.card.class_names, *jax.tree.leaves(restored.variables))
"""
    arguments = [str(path), str(tmp_path / "x.npy"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, timeout=120)
    with np.load(tmp_path / "out.npz") as out:
        for i, leaf in enumerate(jax.tree.leaves(original.variables)):
            np.testing.assert_array_equal(out[f"arr_{i}"], leaf)
        np.testing.assert_allclose(out["logits"], original.model.apply(original.variables, x), atol=1e-6)
        assert tuple(out["names"]) == CARD.class_names


@pytest.mark.parametrize("name", ["run [1]", "r*n?"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    """Orbax alone takes brackets and stars for a pattern."""
    path = save(made(), tmp_path / name / "c")
    assert not any(p.is_symlink() for p in path.rglob("*"))
    assert_same(restore(path).variables, made().variables)
    assert [p.name for p in path.parent.iterdir()] == ["c"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_same(restore(save(made(), tmp_path / "empty")).variables, made().variables)


def test_what_is_there_is_left_as_it_is(tmp_path, saved):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("mine too")
    before = _files(tmp_path)
    for name, kind in (("file", "a file"), ("folder", "a folder that is not empty"), ("checkpoint", "a folder that")):
        with pytest.raises(InputError, match=f"{name}' is {kind}.*left as it is"):
            save(made(seed=1), tmp_path / name)
    with pytest.raises(InputError, match="file' is not a folder"):
        save(made(), tmp_path / "file" / "below")
    assert _files(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "file", "folder"]


def _fail(*_, **__):
    raise OSError("no space left on device")


def _interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [_fail, _interrupt])
@pytest.mark.parametrize("place", ["arrays", "card", "rename"])
def test_a_failing_save_leaves_nothing_behind(tmp_path, monkeypatch, failure, place):
    import orbax.checkpoint as ocp

    target = {"arrays": (ocp.StandardCheckpointer, "save"), "card": (Path, "write_text"), "rename": (Path, "rename")}
    with monkeypatch.context() as patch:
        patch.setattr(*target[place], failure)
        with pytest.raises((OSError, InputError, KeyboardInterrupt)):
            save(made(), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
    assert_same(restore(save(made(), tmp_path / "c")).variables, made().variables)  # now it can


def test_a_history_that_is_no_json_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        save(made(history=({"epoch": object()},)), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_card_of_other_classes_is_not_written(tmp_path):
    card = dataclasses.replace(CARD, task=Classification(("a", "b")))
    with pytest.raises(InputError, match=r"2 classes \(a, b\), has 2 outputs, the model 3"):
        save(made(card=card), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def _edited(checkpoint, **changes):
    """Its variables with leaves set by name; None takes one away."""
    flat = dict(walk_shapes(checkpoint.variables))
    for name, value in changes.items():
        flat[name] = value
    nested = {"params": {}, "batch_stats": {}}
    for name, value in flat.items():
        if value is not None:
            *path, leaf = name.split("/")
            tree = nested
            for part in path:
                tree = tree.setdefault(part, {})
            tree[leaf] = value
    return dataclasses.replace(checkpoint, variables=nested)


def test_every_mismatch_is_listed_at_once(tmp_path):
    broken = {
        "params/layer1/dense/bias": None,
        "batch_stats/conv1/norm/batch/mean": None,
        "params/layer9/dense/bias": np.zeros(7, np.float32),
        "params/head/dense/kernel": np.zeros((5, 3), np.float32),
        "params/dense1/dense/kernel": np.zeros((4, 64), np.float32),  # transposed: as many values, another shape
    }
    for kind, mismatches in (("mlp", 3), ("cnn", 4)):
        original = made(kind)
        names = dict(walk_shapes(original.variables))
        changes = {k: v for k, v in broken.items() if k in names or "layer9" in k}
        path = save(_edited(original, **changes), tmp_path / kind)
        with pytest.raises(InputError) as caught:
            restore(path)
        message = str(caught.value)
        assert f"({mismatches} mismatches)" in message
        for name, value in changes.items():
            assert name in message
            for shape in [value.shape] if value is not None else []:
                assert str(shape) in message
        assert "the checkpoint has it" in message
        assert "the model has it" in message
        untouched = names.keys() - changes.keys()
        assert not any(re.search(rf"^\s*{name}\b", message, re.MULTILINE) for name in untouched)


def test_another_models_checkpoint_is_refused(tmp_path, saved):
    with pytest.raises(InputError, match=r"\(3 mismatches\):\n.*layer3"):
        restore(saved, create("mlp", 3, hidden=(4, 4, 5)))
    with pytest.raises(InputError, match=r"params/head/dense/kernel: \(4, 3\) .*\(4, 5\)"):
        restore(saved, create("mlp", 5, hidden=(4, 4)))
    with pytest.raises(InputError, match="the model has it"):
        restore(saved, create("cnn", 3, features=(4,), hidden=(4,)))
    other = save(made("resnet"), tmp_path / "resnet")
    shutil.copy(other / "card.json", saved / "card.json")  # a card from another model
    with pytest.raises(InputError, match=r"(?s)does not fit.*head/dense/kernel: \(4, 3\)"):
        restore(saved)


def test_the_fingerprint_is_of_everything_in_the_arrays():
    variables = {
        "params": {"b": np.arange(4, dtype=np.float32).reshape(2, 2), "a": {"k": np.int32(7)}},
        "batch_stats": {"z": np.zeros((0, 3), np.float32)},
    }
    expected = hashlib.sha256(
        b"batch_stats/z float32 (0, 3)\n"
        + b"params/a/k int32 ()\n\x07\x00\x00\x00"
        + b"params/b float32 (2, 2)\n"
        + np.float32([0, 1, 2, 3]).tobytes()
    ).hexdigest()
    assert fingerprint(variables) == expected
    assert fingerprint(jax.tree.map(jax.numpy.asarray, variables)) == expected
    assert fingerprint(dict(reversed(variables.items()))) == expected
    array = variables["params"]["b"]
    transposed = np.asfortranarray(array)  # the same values, laid out otherwise in memory
    others = [array.T, array.reshape(4), array.view(np.int32), np.nextafter(array, 9), array[:1], -array]
    seen = {fingerprint({**variables, "params": {**variables["params"], "b": other}}) for other in (*others, array)}
    assert len(seen) == len(others) + 1
    assert fingerprint({**variables, "params": {**variables["params"], "b": transposed}}) == expected
    renamed = {"params": {"c": array, "a": variables["params"]["a"]}, "batch_stats": variables["batch_stats"]}
    assert fingerprint(renamed) != expected


@pytest.mark.parametrize("kind", ["mlp", "cnn", "bfloat16"])
def test_arrays_of_another_checkpoint_are_refused(tmp_path, kind):
    """Both are whole and fit the model: only the fingerprint tells."""
    one, two = (save(made(kind, seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert json.loads((one / "card.json").read_text())["fingerprint"] == fingerprint(made(kind).variables)
    shutil.rmtree(one / "variables")
    shutil.copytree(two / "variables", one / "variables")
    with pytest.raises(InputError, match=r"arrays of the checkpoint '.*0' are not those"):
        restore(one)
    with pytest.raises(InputError, match="are not those"):
        restore(one, create(KINDS[kind][0], 3, **KINDS[kind][1]))
    shutil.copy(two / "card.json", one / "card.json")
    assert_same(restore(one).variables, made(kind, seed=1).variables)


def test_a_card_from_before_there_were_fingerprints(saved):
    edit_card(saved, without("fingerprint"))
    assert_same(restore(saved).variables, made().variables)


def test_restoring_into_a_model_of_ones_own(saved):
    model = create("mlp", 3, hidden=(4, 4), activation="tanh", dropout=0.5)
    restored = restore(saved, model)
    assert restored.model is model
    assert_same(restored.variables, made().variables)


def test_drop_and_rename(saved):
    original = made().variables["params"]
    shorter = create("mlp", 3, hidden=(4,))
    edit_card(saved, put_in("preprocessing", input_shape=[2, 2, 1]))  # so that layer2, of width 4, could be the first
    restored = restore(saved, shorter, drop=["params/layer1"], rename={"params/layer2": "params/layer1"}).variables
    assert_same(restored["params"]["layer1"], original["layer2"])
    assert_same(restored["params"]["head"], original["head"])
    restored = restore(
        saved,
        shorter,
        drop=["params/layer1/dense/kernel", "params/layer2/dense/bias"],
        rename={"params/layer2/dense/kernel": "params/layer1/dense/kernel"},
    ).variables
    layer = restored["params"]["layer1"]["dense"]
    np.testing.assert_array_equal(layer["kernel"], original["layer2"]["dense"]["kernel"])
    np.testing.assert_array_equal(layer["bias"], original["layer1"]["dense"]["bias"])


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (
            {"drop": ["params/layer7"], "rename": {"params/tail": "params/head"}},
            ["'params/layer7'", "'params/tail'", "2 mismatches"],
        ),
        ({"drop": ["params/lay"]}, ["'params/lay'"]),  # whole names only
        ({"drop": ["params/head"]}, ["params/head/dense/kernel (4, 3): the model has it"]),
        (
            {"rename": {"params/layer1": "params/first"}},
            [
                "params/layer1/dense/kernel (64, 4): the checkpoint has it",
                "params/layer1/dense/kernel (64, 4): the model has it",
            ],
        ),
        (
            {"rename": {"params/layer1/dense/bias": "params/layer2/dense/bias"}},
            ["params/layer2/dense/bias and params/layer1/dense/bias would both"],
        ),
    ],
)
def test_drop_and_rename_that_do_not_fit(saved, options, messages):
    with pytest.raises(InputError) as caught:
        restore(saved, **options)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize("options", [{"drop": ["params/layer1"]}, {"rename": {"params/layer1": "params/first"}}])
def test_names_are_taken_whole(tmp_path, options):
    """``layer1`` is not the beginning of ``layer10``."""
    model = create("mlp", 3, hidden=(4,) * 10)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, PREPROCESSING.spec()), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    path = save(Checkpoint(model, variables, CARD), tmp_path / "c")
    with pytest.raises(InputError, match="params/layer1/dense/kernel") as caught:
        restore(path, **options)
    assert "layer10" not in str(caught.value)


def test_two_arrays_never_become_one(saved):
    """The model has room for one of them: the other would be lost."""
    shorter = create("mlp", 3, hidden=(4,))
    edit_card(saved, put_in("preprocessing", input_shape=[2, 2, 1]))
    rename = {"params/layer1/dense/kernel": "params/layer1/dense/kernel", "params/layer2": "params/layer1"}
    with pytest.raises(InputError, match="become params/layer1/dense/bias"):
        restore(saved, shorter, drop=["params/layer1/dense/kernel"], rename=rename)


def test_what_is_no_checkpoint_is_refused(tmp_path, saved):
    with pytest.raises(InputError, match=r"there is no checkpoint '.*missing'"):
        restore(tmp_path / "missing")
    for place in (tmp_path, saved / "card.json"):
        with pytest.raises(InputError, match=r"not a jaxdl checkpoint.*card\.json"):
            restore(place)
    for history in ('{"epoch": 1}\n{"epo', '{"epoch": 1}\n[2]\n', "[" * 100_000):
        (saved / "metrics.jsonl").write_text(history)
        with pytest.raises(InputError, match=r"metrics\.jsonl' is damaged"):
            restore(saved)
    (saved / "card.json").unlink()
    with pytest.raises(InputError, match=r"no card\.json .*interrupted"):
        restore(saved)


def test_missing_arrays_are_said_to_be_missing(saved):
    shutil.rmtree(saved / "variables")
    with pytest.raises(InputError, match=r"arrays of the checkpoint .* missing"):
        restore(saved)


@pytest.mark.filterwarnings("ignore")  # the storage library complains of what it finds
def test_truncated_arrays_are_refused_or_the_same(saved):
    """Each file of the store removed, emptied and cut: some are needed, and none changes a number unnoticed."""
    original, refusals = made(), {}
    for name, content in _files(saved / "variables").items():
        if name.startswith("array_metadatas"):
            continue  # refused like the others, but the storage library then complains for pages when Python ends
        file = saved / "variables" / name
        for kept in (None, 0, len(content) // 2, len(content) - 1):
            if kept is None:
                file.unlink()
            else:
                file.write_bytes(content[:kept])
            try:
                restored = restore(saved)
            except InputError as error:
                refusals[name, kept] = str(error)
            else:
                assert_same(restored.variables, original.variables)
        file.write_bytes(content)
    for message in refusals.values():
        assert re.match("the arrays of the checkpoint '.*' cannot be read", message)
    assert {kept for name, kept in refusals if name == "manifest.ocdbt"} >= {None, 0}
    assert len(refusals) >= 10
    assert_same(restore(saved).variables, original.variables)


@pytest.mark.parametrize("kind", ["mlp", "cnn", pytest.param("resnet", marks=pytest.mark.slow)])
def test_a_fresh_head_leaves_the_body_as_it_is(tmp_path, kind):
    original = restore(save(made(kind), tmp_path / "c"))
    renewed = replace_head(original, num_outputs=5, class_names="vwxyz")
    assert renewed.model == original.model.clone(num_outputs=5)
    for collection in ("params", "batch_stats"):
        body = {k: v for k, v in original.variables[collection].items() if k != "head"}
        assert_same({k: v for k, v in renewed.variables[collection].items() if k != "head"}, body)
    head = renewed.variables["params"]["head"]["dense"]
    width = original.variables["params"]["head"]["dense"]["kernel"].shape[0]
    assert (head["kernel"].shape, head["bias"].shape) == ((width, 5), (5,))
    assert renewed.card.class_names == tuple("vwxyz")
    assert (renewed.card.task, renewed.card.targets) == (Classification(tuple("vwxyz")), {})
    assert renewed.card.parent == original.path
    assert renewed.card.preprocessing == original.card.preprocessing
    again, other = (replace_head(original, num_outputs=5, seed=seed).variables["params"]["head"] for seed in (0, 1))
    assert_same(again["dense"], head)
    assert not np.array_equal(other["dense"]["kernel"], head["kernel"])
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    assert renewed.model.apply(renewed.variables, x).shape == (2, 5)
    assert_same(restore(save(renewed, tmp_path / "new")).variables, renewed.variables)


def test_a_head_for_other_classes_than_named():
    with pytest.raises(InputError, match="2 class names for num_outputs=3"):
        replace_head(made(), num_outputs=3, class_names=("a", "b"))


def test_fresh_checkpoints_follow_the_seed(tmp_path):
    model = create("mlp", 2, hidden=(3,))
    one, same, other = (from_model(model, TablePreprocessing((4,)), ("a", "b"), seed) for seed in (0, 0, 1))
    assert_same(one.variables, same.variables)
    assert not np.array_equal(*(c.variables["params"]["head"]["dense"]["kernel"] for c in (one, other)))
    assert_same(restore(save(one, tmp_path / "c")).variables, one.variables)
    assert environment()["packages"]["jax"] == jax.__version__
