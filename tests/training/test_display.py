"""The bar of a call from Python: there where someone watches, with as many steps as are taken."""

import sys
import types

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.display import Display, NotebookBar, drawn
from jaxdl.validation.probes.probe import Probing

SOURCE = data.subset(data.digits(range(3)), np.random.default_rng(0).permutation(500)[:48])
MLP = jaxdl.create("mlp", 3, hidden=(4,))
PLAN = jaxdl.Plan(epochs=4, batch_size=16)
HEADS = Probing(("ridge", "knn"), (1.0,), nested=False)
FEATURES, LABELS = np.float32(SOURCE.stacked().reshape(48, -1)), SOURCE.targets()


@pytest.fixture
def watched(monkeypatch):
    """As in a terminal, outside of pytest."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("jaxdl.training.display.TESTED", "")


def halving(execution):
    jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3, 3e-3, 1e-2]}, HALVING, folds=2, execution=execution)


HALVING = jaxdl.Searching("halving", eta=2, inner_folds=2)
CALLS = {
    "train": lambda how: jaxdl.train(MLP, SOURCE, PLAN, execution=how),
    "folds": lambda how: jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=2, execution=how),
    "search": halving,
    "curve": lambda how: jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[8, 16], folds=2, execution=how),
    "variance": lambda how: jaxdl.variance(MLP, SOURCE, PLAN, splits=2, seeds=2, configurations=[{}], execution=how),
    "nested": lambda how: jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=4, interval=("nested", 1), execution=how),
}


@pytest.mark.parametrize(
    "call", [pytest.param(name, marks=[] if name in ("train", "folds") else pytest.mark.slow) for name in CALLS]
)
def test_as_many_steps_are_expected_as_are_taken(call):
    taken, expected = [], []
    how = jaxdl.Execution(fold_strategy="vmap", on_steps=taken.append, on_expected=expected.append)
    CALLS[call](how)
    assert sum(expected) == sum(taken) > 0


def test_a_call_shows_a_bar_where_someone_watches_and_is_told_to_leave_it(watched, capsys):
    CALLS["train"](jaxdl.Execution())
    shown = capsys.readouterr()
    assert "epoch 4: loss" in shown.err
    assert shown.out == ""
    CALLS["train"](jaxdl.Execution(progress=False))
    jaxdl.probe(FEATURES, LABELS, probing=HEADS, progress=False)
    assert capsys.readouterr().err == ""
    jaxdl.probe(FEATURES, LABELS, probing=HEADS)
    assert "fitting knn" in capsys.readouterr().err


def test_nothing_is_shown_in_tests_and_files_unless_it_is_asked_for(capsys, monkeypatch):
    CALLS["train"](jaxdl.Execution())
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, but of pytest
    CALLS["train"](jaxdl.Execution())
    assert capsys.readouterr().err == ""
    CALLS["train"](jaxdl.Execution(progress=True))
    assert "epoch 4" in capsys.readouterr().err


def test_a_function_hears_the_rows_and_no_bar_is_drawn(watched, capsys):
    rows, heads = [], []
    CALLS["train"](jaxdl.Execution(progress=rows.append))
    jaxdl.probe(FEATURES, LABELS, probing=HEADS, progress=heads.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert heads == ["ridge", "knn"]
    assert capsys.readouterr().err == ""


def test_what_is_no_execution_is_refused(watched):
    with pytest.raises(InputError, match="execution"):
        CALLS["train"]({"progress": False})


@pytest.fixture
def kernel(monkeypatch):
    """A notebook: what is shown in it, in order."""
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    module.display = types.ModuleType("IPython.display")
    module.display.HTML = str
    module.display.display = lambda html, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    monkeypatch.setattr("jaxdl.training.display.REDRAWN", 0)
    return shown


def test_a_notebook_shows_a_bar_without_ipywidgets_and_keeps_nothing_of_it(kernel, monkeypatch):
    monkeypatch.setattr("jaxdl.training.display.TESTED", "")
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with drawn(jaxdl.Execution()) as execution:
        execution.expect(20)
        execution.on_steps(5)
        execution.tell({"epoch": 1, "step": 5, "train_loss": 0.5, "test_<b>": 0.25, "test_loss": 1.0})
    assert 'value="5" max="20"' in kernel[-2]
    assert "held out &lt;b&gt; 0.250" in kernel[-2]
    assert kernel[-1] == ""


def test_a_notebook_s_bar_is_drawn_a_few_times_a_second(kernel, monkeypatch):
    monkeypatch.setattr("jaxdl.training.display.REDRAWN", 1000)
    with NotebookBar() as bar:
        display = Display(bar)
        for _ in range(100):
            display.steps(1)
    assert len(kernel) == 2  # the beginning and the end
