"""Pages of learning curves, variances, heads and searches, read back as a reader's program sees them."""

import dataclasses
import json

import numpy as np
import pytest
from parsed_page import read_page

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.run_page import write_run_report
from jaxdl.report.table import how_made
from jaxdl.training.execution import Execution
from jaxdl.validation.search.search import Searching
from jaxdl.validation.splitters import Splitting
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.statistics.summary import summarised

DIGITS = data.digits(range(3))
SOURCE = data.subset(DIGITS, np.random.default_rng(0).permutation(len(DIGITS))[:60])
PLAN = jaxdl.Plan(epochs=2, batch_size=64, learning_rate=1e-2)
VMAP = Execution(fold_strategy="vmap")
MLP = jaxdl.create("mlp", 3, hidden=(4,))


def page_of(run, **told):
    (run / "run.json").write_text(json.dumps({"finished": True, "command": ["jaxdl", *told.values()], **told}))
    return read_page(write_run_report(run))


def titles(page):
    return [h["text"] for h in page.all("h2")]


def rows(page, header):
    tables = [page.cells(i) for i in range(len(page.all("table")))]
    return next(cells[1:] for cells in tables if cells[0][0] == header)


@pytest.mark.slow
def test_a_learning_curve_has_a_page(tmp_path):
    curve = jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[10, 20, 1.0], folds=3, execution=VMAP)
    page = page_of(curve.save(tmp_path / "run"), kind="learning-curve")
    assert page.all("h1")[0]["text"] == f"Learning curve on {SOURCE.name}"
    assert titles(page)[:2] == ["The curve", "What more examples would bring"]
    shown = rows(page, "examples")
    assert [row[0] for row in shown] == ["10", "20", "40"]
    for row, point in zip(shown, curve.points, strict=True):
        assert row[2].startswith(f"{100 * point['mean']:.1f}")
        assert row[3] == f"{100 * point['interval']['low']:.1f} to {100 * point['interval']['high']:.1f}"
    assert "10 examples" in page.text()
    assert len(page.all("svg")) == 2


def test_a_variance_has_a_page(tmp_path):
    found = jaxdl.variance(MLP, SOURCE, PLAN, splits=3, seeds=2, configurations=[{}], execution=VMAP)
    page = page_of(found.save(tmp_path / "run"), kind="variance")
    assert titles(page) == ["What the score varies with", "What to repeat", "How this was made"]
    assert [row[0] for row in rows(page, "varies with")] == [one.name for one in found.components]
    assert "1 configurations × 3 splits × 2 seeds" in page.text()


def heads(tmp_path):
    """A run as ``jaxdl probe`` leaves it, of heads whose results are those of a small network."""
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=3, execution=VMAP)
    results = {
        "ridge": summarised(dataclasses.replace(result, outputs="decision values", plan={"head": "ridge"})),
        "logistic": dataclasses.replace(result, mean=result.mean + 0.01, plan={"head": "logistic"}),
    }
    found = {"grid": [1.0, 0.1], "scores": [[0.5, 0.6, 0.7], [0.4, None, 0.8]], "chosen": 0.1, "nested": True}
    found |= {"seconds": 0.5, "notes": []}
    told = {"metric": "accuracy", "data": SOURCE.name, "heads": dict.fromkeys(results, found)}
    run = tmp_path / "run"
    run.mkdir()
    (run / "probe.json").write_text(json.dumps(told))
    for name, one in results.items():
        one.save(run / name)
    return run, results


def test_heads_have_a_page_and_each_one_its_own(tmp_path):
    run, results = heads(tmp_path)
    page = page_of(run, kind="probe")
    assert titles(page)[:2] == ["The heads", "Along the grid"]
    shown = rows(page, "head")
    assert shown[-1][0] == "most frequent class"
    for row in shown[: len(results)]:
        head = results[row[0].split()[0]]
        assert row[1] == f"{100 * head.mean:.1f} ± {100 * head.std:.1f} %"
        assert row[4] == "inner folds"
    assert len(page.all("svg")) == 3
    assert "mathdefault" not in page.text()
    own = read_page(write_run_report(run / "ridge")).text()
    assert "decision values" in own
    assert "95 % interval" in own


@pytest.mark.slow
def test_a_search_is_called_one_and_says_that_its_score_is_too_good(tmp_path):
    found = jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3, 1e-2]}, Searching(nested=False), folds=2)
    page = page_of(found.save(tmp_path / "run"), kind="search")
    assert page.all("h1")[0]["text"].startswith("Search on ")
    sure = next(s["text"] for s in page.all("section") if s["id"] == "how-sure-is-the-number")
    assert "too good" in sure
    assert found.result.interval == dataclasses.asdict(interval(found.result))


def test_an_ensemble_says_where_its_page_is(tmp_path):
    (tmp_path / "ensemble.json").write_text("{}")
    with pytest.raises(InputError, match="run of cross-validate that its members come from"):
        write_run_report(tmp_path)


def test_damaged_heads_are_told(tmp_path):
    (tmp_path / "probe.json").write_text('{"heads": {"ridge": {}}')
    with pytest.raises(InputError, match="damaged"):
        write_run_report(tmp_path)


def test_options_of_a_splitter_are_shown():
    source = data.subset(SOURCE, np.arange(60))
    source = dataclasses.replace(source, times=np.arange(60.0))
    splitter = Splitting("purged", horizon=3, embargo=2)
    result = jaxdl.cross_validate(MLP, source, PLAN, splitter=splitter, folds=2, execution=VMAP)
    assert ", horizon 3, embargo 2, " in how_made({"": result})["folds"]
