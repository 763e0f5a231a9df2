"""A card says what its network was asked, in this form and in that of before; a damaged one is refused by its name."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from checkpoints import CARD, PREPROCESSING, edit_card, made, put, put_in, without

import jaxdl
from jaxdl.data.preprocessing import ColumnsPreprocessing, ImagePreprocessing, RawPreprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.tasks import (
    TASKS,
    Classification,
    MultiLabel,
    MultiTarget,
    Ordinal,
    Regression,
    Segmentation,
    Task,
    register_task,
)
from jaxdl.tasks.regression import METRICS
from jaxdl.weights.card import Card, read_card
from jaxdl.weights.checkpoint import restore, save

NAMES = ("ant", "bee", "été")
# of each task one that has all that a card can hold, and what it fitted to its targets
ASKED = {
    "classification": (Classification(NAMES), {}),
    "multilabel": (MultiLabel(NAMES), {}),
    "regression": (Regression(), {"scaling": (-2.5, 1 / 3)}),
    "multitarget": (MultiTarget(NAMES), {"center": (-2.5, 0.0, 7.0), "spread": (1 / 3, 1.0, 2.0)}),
    "ordinal": (Ordinal(NAMES), {}),
    "segmentation": (Segmentation(NAMES), {}),
}
X = np.random.default_rng(5).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class Several(Task):
    """Numbers of one kind, each with a unit of its own: a task that nobody but this file knows."""

    units: tuple[float, ...] = (1.0,)
    floor: float | None = None

    name = "several numbers"
    METRICS = METRICS
    LOSS = "mse"
    SHOWN = ("mse",)
    KEPT = ("scaling",)

    @property
    def num_outputs(self):
        return len(self.units)

    def predict(self, outputs, constants):
        return outputs * np.float32(self.units) + constants["scaling"]


SEVERAL = Several(units=(1.0, 0.25, 1e9), floor=-1.0)


@pytest.fixture
def several():
    """`Several` among the known tasks, for as long as a test takes."""
    yield register_task(Several)
    del TASKS[Several.name]


@pytest.fixture
def saved(tmp_path):
    return save(made(), tmp_path / "checkpoint")


def _asked(task, targets, **changes):
    """A checkpoint of a task."""
    whole = dataclasses.replace(PREPROCESSING, crop_fraction=1.0)
    card = dataclasses.replace(CARD, preprocessing=whole, task=task, targets=targets, **changes)
    return made("unet" if task.name == "segmentation" else "mlp", card, outputs=task.num_outputs)


def _answers(checkpoint):
    return jaxdl.predict(checkpoint, jaxdl.data.arrays(X))


def _expected(checkpoint):
    """What the task makes of the network's outputs, with nothing of `predict` in between."""
    card = checkpoint.card
    outputs = checkpoint.model.apply(checkpoint.variables, (X / np.float32(255) - 0.1) * 3)
    constants = {name: np.float32(values) for name, values in card.targets.items()}
    return card.task.predict(outputs, constants)


def test_a_task_whose_targets_nobody_saw_predicts_nothing():
    with pytest.raises(InputError, match=r"regression.*scaling"):
        _answers(_asked(Regression(), {}))


# those of tokens and texts have tests of their own, with the networks that they need
@pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if not (kind.CARRIES or kind.UNIT)])
def test_every_task_comes_back(tmp_path, name):
    task, targets = ASKED[name]
    original = _asked(task, targets, columns=("one", "two"), target=("three",))
    restored = restore(save(original, tmp_path / "c"))
    assert restored.card == original.card
    assert type(restored.card.task) is TASKS[name]
    assert restored.card.asked(restored.model) == task
    assert restored.card.class_names == task.names
    assert restored.card.targets == targets
    for constant, values in restored.card.target_constants().items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.float32(targets[constant]))
    assert restored.card.target_constants().keys() == targets.keys()
    found = _answers(restored)
    expected, again, apart = _expected(original), _answers(original).outputs, []
    for one, two, three in zip(*map(jax.tree.leaves, (found.outputs, expected, again)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(one, three)
        apart.append(np.median(np.ptp(one, axis=0)))
    assert max(apart) > 1e-2, "examples are told apart"


def test_a_task_of_ones_own_comes_back(tmp_path, several):
    # of a regression no second number of a scaling could be below 0, and there could be no third
    original = _asked(SEVERAL, {"scaling": (1.0, -2.0, 1e10)})
    restored = restore(save(original, tmp_path / "c"))
    assert restored.card == original.card
    assert (restored.card.task.units, restored.card.task.floor) == (SEVERAL.units, SEVERAL.floor)
    np.testing.assert_allclose(_answers(restored).outputs, _expected(original), rtol=1e-5)


def test_a_task_that_is_not_registered_is_refused_by_its_name(tmp_path):
    path = save(_asked(SEVERAL, {"scaling": (1.0, 1.0, 1.0)}), tmp_path / "c")
    with pytest.raises(InputError, match=r"c/card\.json.*'several numbers'.*register_task"):
        restore(path)
    register_task(Several)
    try:
        assert restore(path).card.task == SEVERAL
    finally:
        del TASKS[Several.name]


def test_what_only_training_needs_is_not_on_the_card(tmp_path):
    task = Classification(NAMES, label_smoothing=0.1, class_weights="balanced").scored_by(["macro_f1", "kappa"])
    restored = restore(save(_asked(task, {}), tmp_path / "c"))
    assert restored.card.task == Classification(NAMES)
    assert restored.card.task.score.name == "accuracy"


def test_of_an_unknown_task_the_outputs_are_numbered_classes(tmp_path):
    restored = restore(save(made(card=dataclasses.replace(CARD, task=None)), tmp_path / "c"))
    assert restored.card.task is None
    assert restored.card.class_names == ()
    assert restored.card.asked(restored.model) == Classification(("0", "1", "2"))
    assert set(_answers(restored).predicted) <= {0, 1, 2}


@pytest.mark.parametrize(
    "preprocessing",
    [
        ImagePreprocessing((8, 8, 3)),
        ImagePreprocessing((8, 6, 1), (0.1,), (1 / 3,), "bicubic", 0.875, "squash"),
        TablePreprocessing((5,), (0.1, 2, -3, 1e-7, 1e7), (1 / 3, 1, 1e-9, 2, 1e9)),
        TablePreprocessing((8, 8, 2)),
        RawPreprocessing((("", (3, 4), "float32"),)),
        ColumnsPreprocessing(("a", "été"), ((), ("S", "M")), (True, False)),
        ColumnsPreprocessing(("a", "b"), ((), ("S", "M")), (True, False), (1 / 3, 1), (5, 0), (1e-7, 1), (1, 0)),
    ],
)
def test_every_preprocessing_comes_back(tmp_path, preprocessing):
    original = made(card=Card(preprocessing))
    restored = restore(save(original, tmp_path / "c"))
    assert restored.card == original.card
    assert type(restored.card.preprocessing) is type(preprocessing)
    assert restored.card.preprocessing.fitted == preprocessing.fitted


def test_lists_of_examples_come_back(tmp_path):
    hashes = np.array([2**64 - 1, 7, 2**63], np.uint64)
    card = CARD.with_seen(hashes).with_tested(hashes[:1])
    path = save(made(card=card), tmp_path / "c")
    found, _ = read_card(path)
    assert found == card
    np.testing.assert_array_equal(found.seen, np.sort(hashes))
    assert found.with_seen(np.uint64([1])).tested is None
    for file in ("trained_on.u64", "tested.u64"):
        shutil.copytree(path, tmp_path / file)
        (tmp_path / file / file).write_bytes(b"\0" * 8)
        with pytest.raises(InputError, match=file):
            read_card(tmp_path / file)


# Of before: kinds of examples instead of modalities, and no tasks.

BEFORE = {
    "format": 1,
    "model": "mlp",
    "arguments": {"hidden": [4, 4]},
    "preprocessing": {
        "input_shape": [8, 8, 1],
        "kind": "uint8",
        "mean": [0.1],
        "std": [1 / 3],
        "interpolation": "bicubic",
        "crop_fraction": 1.0,
        "crop_mode": "center",
    },
    "parent": None,
    "data": "digits",
    "split": "00ff",
    "plan": {"epochs": 3},
    "source": None,
    "environment": {},
}


def _of_before(folder, outputs, **changes):
    """The variables of `made`, with a card as it was written before there were tasks."""
    path = save(made(card=Card(PREPROCESSING), outputs=outputs), folder / "before")
    (path / "card.json").write_text(json.dumps({**BEFORE, "num_outputs": outputs, **changes}))
    return path


def test_class_names_of_before_mean_classification(tmp_path):
    restored = restore(_of_before(tmp_path, 3, class_names=list(NAMES), scaling=None, columns=None, trained_on=None))
    assert restored.card == Card(
        dataclasses.replace(PREPROCESSING, crop_fraction=1.0),
        Classification(NAMES),
        data="digits",
        split="00ff",
        plan={"epochs": 3},
    )
    found = _answers(restored)
    np.testing.assert_allclose(found.logits, _expected(restored), rtol=1e-5, atol=1e-5)
    assert found.class_names == NAMES
    again = restore(save(restored, tmp_path / "again"))  # now in the form of today
    assert again.card == restored.card


def test_a_scaling_of_before_means_regression(tmp_path):
    restored = restore(_of_before(tmp_path, 1, class_names=[], scaling=[100.0, 7.5]))
    assert restored.card.task == Regression()
    assert restored.card.targets == {"scaling": (100.0, 7.5)}
    outputs = restored.model.apply(restored.variables, (X / np.float32(255) - 0.1) * 3)
    np.testing.assert_allclose(_answers(restored).predicted, outputs[:, 0] * 7.5 + 100, rtol=1e-5)
    again = restore(save(restored, tmp_path / "again"))
    assert again.card == restored.card


def test_neither_names_nor_scaling_of_before_mean_nothing(tmp_path):
    """The oldest cards know of no scaling at all."""
    restored = restore(_of_before(tmp_path, 3, class_names=[]))
    assert (restored.card.task, restored.card.targets) == (None, {})


def test_numbers_of_before_are_a_table(tmp_path):
    table = {**BEFORE["preprocessing"], "kind": "float32", "input_shape": [64], "mean": [0.5] * 64, "std": [2.0] * 64}
    restored = restore(_of_before(tmp_path, 3, class_names=list(NAMES), preprocessing=table))
    assert restored.card.preprocessing == TablePreprocessing((64,), (0.5,) * 64, (2.0,) * 64)


@pytest.mark.parametrize(
    ("outputs", "changes", "named"),
    [
        (3, {"class_names": ["a", "b"]}, "2 outputs"),
        (1, {"class_names": [], "scaling": [1.0, 0.0]}, "scaling"),
        (1, {"class_names": [], "scaling": [1.0, float("nan")]}, "scaling"),
        (1, {"class_names": [], "scaling": [1.0]}, "unpack"),
        (1, {"class_names": [], "scaling": 1.0}, "scaling"),
        (3, {"class_names": [], "scaling": [1.0, 1.0]}, "1 outputs"),
        (3, {"class_names": [], "preprocessing": {**BEFORE["preprocessing"], "kind": "int8"}}, "modality.*int8"),
    ],
)
def test_damaged_cards_of_before(tmp_path, outputs, changes, named):
    path = _of_before(tmp_path, outputs, **changes)
    with pytest.raises(InputError, match=rf"'.*before/card\.json'.*{named}"):
        restore(path)


# What a card must not say: how it is changed, and what the message names besides the card.

CARDS = {
    **{
        f"no {key}": (without(key), f"'{key}'")
        for key in ("format", "model", "arguments", "num_outputs", "preprocessing", "class_names", "plan", "targets")
    },
    "no number": (lambda card: card.update(task=None) or without("num_outputs")(card), "'num_outputs'"),
    "argument": (put(arguments={"hiden": [4]}), "'hiden'"),
    "arguments": (put(arguments=[4, 4]), "cannot be made"),
    "model": (put(model="mpl"), "'mpl'.*'mlp'"),
    "num_outputs": (put(num_outputs="3"), "3 outputs"),
    "unnamed_outputs": (put(num_outputs=-3, task=None), "num_outputs is -3"),
    "no_list": (put(class_names=None), "class_names"),
    "names": (put(class_names=["a", 1, "c"]), "class_names"),
    "name": (put(class_names="abc"), "class_names"),
    "modality": (put_in("preprocessing", modality="sound"), "'sound'"),
    "shape": (put_in("preprocessing", input_shape=64), "damaged"),
    "shape0": (put_in("preprocessing", input_shape=[8, 0, 1]), r"input_shape is \(8, 0, 1\)"),
    "mean": (put_in("preprocessing", mean=["x"]), "damaged"),
    "std": (put_in("preprocessing", std=[0.1, 0.2]), "std is"),
    "infinite": (put_in("preprocessing", mean=[float("inf")]), "mean is"),
    "extra": (put_in("preprocessing", gamma=2), "gamma"),
    "list": (lambda card: [card], "damaged"),
    "no_fingerprint": (put(fingerprint=[1]), "fingerprint"),
    "plan": (put(plan="x"), "plan is x"),
    "parent": (put(parent=3), "parent is 3"),
    "columns": (put(columns=["a", 2]), "columns"),
}
TASK_ENTRIES = {
    "no name": (lambda card: card["task"].pop("name") and None, "'name'"),
    "unknown": (put_in("task", name="clasification"), "'clasification'"),
    "name is a list": (put_in("task", name=["classification"]), "damaged"),
    "text": (put(task="classification"), "task is classification"),
    "list": (put(task=[1]), "task is"),
    "names are a text": (put_in("task", names="abc"), "names"),
    "names are numbers": (put_in("task", names=[1, 2, 3]), "names"),
    "names are null": (put_in("task", names=None), "names"),
    "one name is none": (put_in("task", names=["a", None, "c"]), "names"),
    "fewer names": (put_in("task", names=["a", "b"]), "2 outputs"),
    "no names": (put_in("task", names=[]), "0 outputs"),
    "unknown key": (put_in("task", colour="red"), "colour"),
    "key of training alone": (put_in("task", label_smoothing=0.1), "label_smoothing"),
    "a score": (put_in("task", metric="r3"), "r3"),
    "of another number of outputs": (put(task={"name": "regression", "names": []}), "1 outputs"),
    "targets are a list": (put(targets=[1.0]), "targets"),
    "targets are a number": (put(targets=1), "targets"),
    "targets are null": (put(targets=None), "damaged"),
    "a target is a number": (put(targets={"scaling": 1.0}), "scaling"),
    "a target is a text": (put(targets={"scaling": "12"}), "scaling"),
    "a target is no number": (put(targets={"scaling": [1.0, "x"]}), "damaged"),
    "a target is infinite": (put(targets={"scaling": [float("inf"), 1.0]}), "scaling"),
}
SCALINGS = {
    "zero": [1.0, 0.0],
    "below": [1.0, -1.0],
    "nan": [0.0, float("nan")],
    "one": [1.0],
    "three": [1, 2, 3],
    "": [],
}


@pytest.mark.parametrize(
    ("change", "named"),
    [*CARDS.values(), *TASK_ENTRIES.values()],
    ids=[*CARDS, *(f"task: {damage}" for damage in TASK_ENTRIES)],
)
def test_a_damaged_card_is_refused_by_its_name(saved, change, named):
    edit_card(saved, change)
    with pytest.raises(InputError, match=rf"'.*checkpoint/card\.json'.*{named}"):
        restore(saved)


@pytest.mark.parametrize("damage", SCALINGS)
def test_a_damaged_scaling_is_refused_by_its_card(tmp_path, damage):
    path = save(_asked(*ASKED["regression"]), tmp_path / "c")
    edit_card(path, put(targets={"scaling": SCALINGS[damage]}))
    with pytest.raises(InputError, match=r"'.*c/card\.json' is damaged"):
        restore(path)


@pytest.mark.parametrize("written", [0, 2, "one", True, 1.0, None])
def test_a_card_of_another_format_is_refused(saved, written):
    edit_card(saved, put(format=written))
    with pytest.raises(InputError, match=rf"checkpoint/card\.json'.* format.* '?{written}'?"):
        restore(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put(fingerprint="00ff"), "checkpoint' are not those"),
        (put_in("preprocessing", input_shape=[2**70, 8, 1]), "checkpoint' does not fit the model"),
    ],
)
def test_a_card_that_does_not_go_with_its_arrays_is_refused(saved, change, named):
    edit_card(saved, change)
    with pytest.raises(InputError, match=named):
        restore(saved)


@pytest.mark.parametrize(
    ("kind", "arguments", "shape", "named"),
    [
        ("cnn", {}, [2**70, 8, 1], "OverflowError"),
        ("vit", {"depth": 10**9}, [8, 8, 1], "depth of model 'vit' is 1000000000"),
        ("resnet", {"depths": [1, 2**70]}, [8, 8, 1], "depths of model 'resnet20_cifar'"),
    ],
)
def test_a_card_that_asks_for_the_impossible_is_refused_at_once(tmp_path, kind, arguments, shape, named):
    path = save(made(kind), tmp_path / "c")
    edit_card(path, put_in("arguments", **arguments))
    edit_card(path, put_in("preprocessing", input_shape=shape))
    with pytest.raises(InputError, match=rf"'.*card\.json'.*{named}"):
        restore(path)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe", b'{"format": 1}', b"[" * 99_999])
def test_a_card_that_is_no_card_is_refused(saved, content):
    (saved / "card.json").write_bytes(content)
    with pytest.raises(InputError, match=r"'.*card\.json' is damaged"):
        restore(saved)
