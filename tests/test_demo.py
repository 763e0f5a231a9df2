"""The tour, with plans short enough for a test."""

import contextlib
import hashlib
import importlib
import io
import json

import numpy as np
import pytest

import jaxdl
from jaxdl import cli
from jaxdl.commands import demo as command
from jaxdl.data.builtin import digits
from jaxdl.errors import InputError
from jaxdl.training.plan import Plan
from jaxdl.validation.result import load_result

demo_module = importlib.import_module("jaxdl.demo")
demo = demo_module.demo
METHODS = ("from scratch", "frozen features", "partial fine-tuning", "full fine-tuning")
SHORT = {
    "from scratch": Plan(epochs=2, learning_rate=1e-2),
    "frozen features": Plan(epochs=2, learning_rate=1e-2, freeze_through="body"),
    "partial fine-tuning": Plan(epochs=2, learning_rate=1e-2, freeze_through="layer1"),
    "full fine-tuning": Plan(epochs=2, learning_rate=1e-2, stage_lr={"head": 3.0}),
}


@contextlib.contextmanager
def short(plans):
    """The demo with these plans, a small network and three folds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "PRETRAIN", Plan(epochs=2))
        patch.setattr(demo_module, "PLANS", plans)
        patch.setattr(demo_module, "create", lambda name, num_outputs: jaxdl.create("mlp", num_outputs, hidden=(16,)))
        patch.setattr(demo_module, "FOLDS", 3)
        patch.setattr(command, "FOLDS", 3)
        yield patch


def seen(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The folder that ``jaxdl demo`` made, what it found, and what it printed."""
    out, found, said = tmp_path_factory.mktemp("home") / "my demo", [], io.StringIO()
    with short(SHORT) as patch, contextlib.redirect_stdout(said):
        patch.setattr(command, "demo", lambda *given, **named: found.append(demo(*given, **named)) or found[0])
        cli.main(["demo", "--out", str(out)])
    return out, found[0], said.getvalue()


def test_the_real_plans_fit_the_real_network():
    assert tuple(demo_module.PLANS) == METHODS
    network = jaxdl.create("cnn", 5)
    frozen = [network.stage_names[: plan.boundary(network)] for plan in demo_module.PLANS.values()]
    assert frozen[0] == frozen[3] == ()
    assert frozen[1] == network.stage_names[:-1]
    assert () < frozen[2] < frozen[1]
    assert (demo_module.SHOTS, demo_module.FOLDS) == (30, 5)


def test_files(tour):
    out, found, _ = tour
    assert {p.name for p in out.iterdir()} == {"summary.json", "report.html", "runs", "pretrained", "best"}
    assert {p.name for p in (out / "runs").iterdir()} == {name.replace(" ", "-") for name in METHODS}
    for name in METHODS:
        held = load_result(out / "runs" / name.replace(" ", "-"))
        assert held.as_dict() == json.loads(json.dumps(found.results[name].as_dict()))
    assert jaxdl.restore(out / "pretrained").card.class_names == tuple("01234")
    assert jaxdl.restore(out / "best").card.class_names == tuple("56789")


def test_the_summary_is_what_was_found(tour):
    out, found, _ = tour
    summary = json.loads((out / "summary.json").read_text())
    assert summary["finished"] is True
    assert (summary["labelled"], summary["unseen"]) == (150, 746)
    assert list(summary["methods"]) == list(METHODS)
    for name, row in summary["methods"].items():
        result = found.results[name]
        assert row["mean"] == result.mean == np.mean([fold["accuracy"] for fold in result.folds])
        assert (row["std"], row["seconds"], row["truth"]) == (result.std, result.seconds, found.truth[name])
        assert row["fold_strategy"] == result.fold_strategy
        assert result.plan == SHORT[name].as_dict()
    assert summary["best"] == found.best
    assert summary["methods"][found.best]["mean"] == max(row["mean"] for row in summary["methods"].values())
    assert summary["seconds"] == dict(found.seconds)
    assert summary["environment"]["packages"]["jax"]


def test_each_method_starts_where_it_says(tour):
    out, found, _ = tour
    assert found.results["from scratch"].init["kind"] == "scratch"
    for name in METHODS[1:]:
        assert found.results[name].init == {"kind": "checkpoint", "model": "mlp", "path": str(out / "pretrained")}
    assert [found.results[name].cached for name in METHODS] == [False, True, True, False]
    assert len({found.results[name].split["sha256"] for name in METHODS}) == 1  # all on the same folds


def test_the_report_shows_every_method(tour):
    page = (tour[0] / "report.html").read_text()
    assert all(name in page for name in METHODS)
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained


def test_truth_is_measured_on_images_that_no_fold_has_seen(tour):
    _, found, _ = tour
    labelled, unseen, target = found.labelled, found.unseen, digits(range(5, 10))
    in_order = lambda x: sorted(image.tobytes() for image in x)  # noqa: E731
    assert in_order(np.concatenate([labelled.x, unseen.x])) == in_order(target.x)
    assert not set(in_order(labelled.x)) & set(in_order(unseen.x))
    np.testing.assert_array_equal(np.bincount(labelled.labels), [30] * 5)
    for result in found.results.values():
        np.testing.assert_array_equal(np.sort(result.out_of_fold.index), np.arange(150))


def test_truth_is_that_of_the_saved_network(tour):
    out, found, _ = tour
    for checkpoint in (found.checkpoint, jaxdl.restore(out / "best")):
        predictions = jaxdl.predict(checkpoint, found.unseen)
        right = predictions.logits.argmax(-1) == found.unseen.labels
        assert right.mean() == found.truth[found.best] == predictions.accuracy
    assert "partial" not in found.truth
    assert set(found.truth) == set(METHODS)


def test_the_command_prints_the_table(tour):
    out, found, said = tour
    for name in METHODS:
        line = next(line for line in said.splitlines() if line.strip(" *").startswith(name))
        result = found.results[name]
        assert f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %" in line
        assert f"{100 * found.truth[name]:.1f} %" in line
        assert f" {result.seconds:.1f} " in line
        assert line.rstrip().endswith(result.fold_strategy["name"])
        assert line.startswith("* ") == (name == found.best)
    assert max(map(len, said.splitlines()[:-1])) <= 80
    assert f"Best: {found.best}." in said
    for part in ("pretrain", "save and restore", "refit and score", "report"):
        assert f"{part} {found.seconds[part]:.1f} s" in said.replace("\n", " ")
    assert f"Pictures: {out / 'report.html'}" in said


def test_a_second_run_replaces_the_first(tour, tmp_path):
    out, steps = tmp_path / "demo", []
    out.mkdir()  # an empty folder will do
    with short({"from scratch": SHORT["from scratch"], "full fine-tuning": SHORT["full fine-tuning"]}):
        demo(out, say=steps.append)
    first = seen(out)
    (out / "notes.txt").write_text("mine")
    with short({"frozen features": SHORT["frozen features"]}):
        found = demo(out)
    assert "pretrain a small CNN on the digits 0 to 4" in steps
    assert max(map(len, steps)) <= 72  # fits a line of a terminal, with the time before it
    assert found.best == "frozen features"
    assert [p.name for p in (out / "runs").iterdir()] == ["frozen-features"]
    assert list(json.loads((out / "summary.json").read_text())["methods"]) == ["frozen features"]
    assert seen(out)[out / "report.html"] != first[out / "report.html"]
    assert (out / "notes.txt").read_text() == "mine"


def test_the_same_seed_finds_the_same(tour, tmp_path):
    with short({"from scratch": SHORT["from scratch"]}):
        again = demo(tmp_path / "demo")
    assert again.truth["from scratch"] == tour[1].truth["from scratch"]
    logits = [found.results["from scratch"].out_of_fold.logits for found in (again, tour[1])]
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_an_interrupted_demo_can_be_made_anew(tmp_path, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    with short(SHORT):
        monkeypatch.setattr(demo_module, "cross_validate", stop)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                demo(tmp_path / "demo")
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["finished"] is False


@pytest.mark.parametrize("content", ['{"kind": "something else"}', "[]", "no JSON"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, content):
    monkeypatch.setattr(demo_module, "pretrain", lambda *arguments: pytest.fail("it went on"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("mine")
    (tmp_path / "summary.json").write_text(content)
    before = seen(tmp_path)
    with pytest.raises(InputError, match="is a folder that is not empty; it was left as it is"):
        demo(tmp_path)
    assert seen(tmp_path) == before
