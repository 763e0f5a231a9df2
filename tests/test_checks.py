"""Options of another type than they are annotated with, and other things in the place of options."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

import jaxdl
from jaxdl.checks import check_type
from jaxdl.data import TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.search.search import Searching
from jaxdl.validation.splitters import Splitting

OPTIONS = (Execution, Plan, Probing, Searching, Splitting)
FIELDS = [(kind, field.name) for kind in OPTIONS for field in dataclasses.fields(kind)]
SOURCE, MODEL, PLAN = jaxdl.data.digits([0, 1]), jaxdl.create("mlp", 2, hidden=(4,)), Plan(epochs=1)
CHECKPOINT = jaxdl.from_model(MODEL, TablePreprocessing((64,), mean=(0.0,) * 64, std=(1.0,) * 64), ("0", "1"))


class Nothing:
    """Of no type that an option may be."""


class Named(TypedDict):
    name: str
    sizes: list[int]


@pytest.mark.parametrize(("kind", "name"), [pair for pair in FIELDS if pair[1] != "inner_splitter"])
def test_an_option_of_another_type_is_named(kind, name):
    with pytest.raises(InputError, match=rf"^{name} is a Nothing; expected "):
        kind(**{name: Nothing()})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Execution, "workers", "x"),
        (Execution, "workers", True),
        (Execution, "workers", 1.5),
        (Execution, "streaming", "yes"),
        (Execution, "allow", {"groups": True}),
        (Plan, "learning_rate", "fast"),
        (Plan, "learning_rate", None),
        (Plan, "warmup_epochs", "1"),
        (Plan, "stage_lr", ["head"]),
        (Plan, "stage_lr", {"head": "fast"}),
        (Plan, "class_weights", {1: 2.0}),
        (Plan, "augment", [3]),
        (Plan, "seed", 0.5),
        (Splitting, "repeats", "2"),
        (Searching, "trials", 2.5),
        (Probing, "penalties", 1.0),
        (Probing, "penalties", np.float64(1.0) * np.ones(())),
        (Probing, "heads", "ridge"),
        (Probing, "neighbours", [1, "3"]),
    ],
)
def test_likely_mistakes(kind, name, value):
    with pytest.raises(InputError, match=f"^{name} is .*; expected "):
        kind(**{name: value})


def test_what_passes():
    Execution(workers=np.int64(1), streaming=np.True_, allow=(name for name in ["groups"]), progress=print)
    Plan(learning_rate=1, epochs=np.int32(2), augment="none", stage_lr={"head": np.float32(2)})
    Probing(penalties=np.ones(3), heads=["ridge"], neighbours=range(1, 3))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: jaxdl.cross_validate(MODEL, SOURCE, {"epochs": 1}), "plan"),
        (lambda: jaxdl.cross_validate(MODEL, SOURCE, PLAN, execution={"workers": 1}), "execution"),
        (lambda: jaxdl.cross_validate("mlp", SOURCE, PLAN), "init"),
        (lambda: jaxdl.cross_validate(MODEL, SOURCE, PLAN, splitter={"splitter": "kfold"}), "splitter"),
        (lambda: jaxdl.search(MODEL, SOURCE, PLAN, {"epochs": [1]}, {"trials": 1}), "searching"),
        (lambda: jaxdl.search(MODEL, SOURCE, plan=None, space={"epochs": [1]}), "plan"),
        (lambda: jaxdl.learning_curve(MODEL, SOURCE, Plan), "plan"),
        (lambda: jaxdl.variance(MODEL, SOURCE, PLAN, execution=None), "execution"),
        (lambda: jaxdl.train(MODEL, SOURCE, {}), "plan"),
        (lambda: jaxdl.finetune(MODEL, SOURCE, PLAN, execution={}), "execution"),
        (lambda: jaxdl.pretrain(CHECKPOINT, SOURCE, PLAN), "model"),
        (lambda: jaxdl.find_learning_rate(MODEL, SOURCE, 0.1), "plan"),
        (lambda: jaxdl.predict("checkpoint", SOURCE), "checkpoint"),
        (lambda: jaxdl.extract_features(MODEL, SOURCE), "checkpoint"),
        (lambda: jaxdl.probe(np.ones((4, 2)), np.arange(4) % 2, "auto", {"heads": ["ridge"]}), "probing"),
        (lambda: jaxdl.probe_checkpoint(CHECKPOINT, SOURCE, probing=PLAN), "probing"),
        (lambda: jaxdl.with_head(MODEL, SOURCE, head="ridge", penalty=1.0), "checkpoint"),
        (lambda: jaxdl.save(MODEL, "nowhere"), "checkpoint"),
    ],
)
def test_another_thing_in_the_place_of_an_object_is_named(call, name):
    with pytest.raises(InputError, match=f"^{name} is "):
        call()


@pytest.mark.parametrize(
    ("value", "expected", "fits"),
    [
        (1, int, True),
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (False, float, False),
        (np.float32(1), float, True),
        (None, int | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ([1, 2], tuple[int, ...], True),
        ([1, "2"], Sequence[int], False),
        ("ab", Sequence[str], False),
        (np.arange(3), Sequence[int], True),
        (iter("ab"), Iterable[str], True),
        ({"a": 1}, Mapping[str, float], True),
        ({"a": "b"}, Mapping[str, float], False),
        ([], Mapping[str, Any], False),
        (print, Callable[[str], None], True),
        (3, Callable[[str], None], False),
        ({"name": "a", "sizes": [1], "more": 2}, Named, True),
        ({"name": "a"}, Named, False),
        ({"name": "a", "sizes": ["1"]}, Named, False),
        ([], Named, False),
        (SOURCE, np.ndarray, False),
        (object(), Any, True),
    ],
)
def test_types(value, expected, fits):
    if fits:
        check_type("it", value, expected)
    else:
        with pytest.raises(InputError, match="it"):
            check_type("it", value, expected)


def test_features_are_asked_of_a_source():
    for given in (["a text"], np.zeros((4, 2))):
        with pytest.raises(InputError, match=f"the examples are a {type(given).__name__}; expected a data.Source"):
            jaxdl.extract_features(CHECKPOINT, given)
