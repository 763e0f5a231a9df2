"""A ``result.json`` in which a value became a text: it is refused by its name, or everything that reads it goes on."""

import json
import shutil

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.uncertainty import show_uncertainty


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    source = data.subset(data.digits([0, 1]), np.arange(0, 120, 2))
    plan = jaxdl.Plan(epochs=1, batch_size=16)
    how = jaxdl.Execution(fold_strategy="loop")
    found = jaxdl.cross_validate(jaxdl.create("mlp", 2, hidden=(4,)), source, plan, folds=2, execution=how)
    return found.save(tmp_path_factory.mktemp("result") / "run")


def places(value, path=()):
    """Paths of all values within, the lists' first two entries alone."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inside in entries:
        yield from places(inside, (*path, key))


def changed(held, path, value):
    made = json.loads(json.dumps(held))
    within = made
    for key in path[:-1]:
        within = within[key]
    was, within[path[-1]] = within[path[-1]], value
    return made, was


def read(folder):
    """What people do with a result that they read."""
    result = jaxdl.load_result(folder)
    str(result), repr(result), result.to_frame(), result.predicted, result.confusion_matrix()
    result.scored_by("balanced_accuracy")
    show_uncertainty(result)


@pytest.mark.parametrize("value", ["x", pytest.param(3, marks=pytest.mark.slow)])
def test_no_field_of_another_type_ends_in_anything_but_a_message(saved, tmp_path, value):
    shutil.copytree(saved, tmp_path / "run")
    held = json.loads((saved / "result.json").read_text())
    read(saved)
    refused = []
    for path in places(held):
        damaged, was = changed(held, path, value)
        (tmp_path / "run" / "result.json").write_text(json.dumps(damaged))
        try:
            read(tmp_path / "run")
        except InputError:
            refused.append((path, was))
        except Exception as error:
            raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
    assert len(refused) > 100
    wanted = (int, float) if value == "x" else (str,)
    others = [path for path in places(held) if type(changed(held, path, value)[1]) in wanted]
    free = ("model", "arguments")  # those of a user's model may be of any type
    assert [path for path in others if path not in dict(refused) and path[:2] != free] == []
