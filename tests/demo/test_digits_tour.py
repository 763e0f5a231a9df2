"""The tour, with plans short enough for a test."""

import hashlib
import io
import json

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest, ttest_rel

import jaxdl
from jaxdl.data.builtin import digits
from jaxdl.demo import DigitsTour, tell, two_tasks
from jaxdl.demo.digits import PLANS, SHOTS
from jaxdl.demo.story import FOLDS, paired_gain
from jaxdl.errors import InputError
from jaxdl.report.table import print_table, results_table
from jaxdl.training.plan import Plan
from jaxdl.validation.result import load_result

METHODS = ("from scratch", "frozen features", "partial fine-tuning", "full fine-tuning")
SHORT = {
    "from scratch": Plan(epochs=2, learning_rate=1e-2),
    "frozen features": Plan(epochs=2, learning_rate=1e-2, freeze_through="body"),
    "partial fine-tuning": Plan(epochs=2, learning_rate=1e-2, freeze_through="layer1"),
    "full fine-tuning": Plan(epochs=2, learning_rate=1e-2, stage_lr={"head": 3.0}),
}


def short(*methods):
    """A tour with a small network, three folds and short plans."""
    plans = {method: SHORT[method] for method in methods or METHODS}
    return DigitsTour(jaxdl.create("mlp", 10, hidden=(16,)), Plan(epochs=2), plans, folds=3)


def seen(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The folder that the demo made, and what it found."""
    out = tmp_path_factory.mktemp("home") / "my demo"
    return out, tell(out, short())


def test_the_real_plans_fit_the_real_network():
    assert tuple(PLANS) == METHODS
    network = DigitsTour().model
    frozen = [network.stage_names[: plan.boundary(network)] for plan in DigitsTour().methods.values()]
    assert frozen[0] == frozen[3] == ()
    assert frozen[1] == network.stage_names[:-1]
    assert () < frozen[2] < frozen[1]
    assert (SHOTS, FOLDS) == (DigitsTour().shots, DigitsTour().folds) == (30, 5)


def test_files(tour):
    out, found = tour
    assert {p.name for p in out.iterdir()} == {"summary.json", "report.html", "runs", "pretrained", "best"}
    assert {p.name for p in (out / "runs").iterdir()} == {name.replace(" ", "-") for name in METHODS}
    for name in METHODS:
        held = load_result(out / "runs" / name.replace(" ", "-"))
        assert held.as_dict() == json.loads(json.dumps(found.results[name].as_dict()))
    assert jaxdl.restore(out / "pretrained").card.class_names == tuple("0123456789")
    assert jaxdl.restore(out / "best").card.class_names == ("even", "odd")


def test_the_summary_is_what_was_found(tour):
    out, found = tour
    summary = json.loads((out / "summary.json").read_text())
    assert summary["finished"] is True
    assert (summary["labelled"], summary["unseen"]) == (60, 839)
    assert list(summary["methods"]) == list(METHODS)
    for name, row in summary["methods"].items():
        result = found.results[name]
        assert row["mean"] == result.mean == np.mean([fold["accuracy"] for fold in result.folds])
        assert (row["std"], row["seconds"], row["truth"]) == (result.std, result.seconds, found.truth[name])
        assert row["fold_strategy"] == result.fold_strategy
        assert result.plan == SHORT[name].as_dict()
        assert tuple(row["truth_interval"]) == found.reach[name]
    assert summary["best"] == found.best
    assert summary["methods"][found.best]["mean"] == max(row["mean"] for row in summary["methods"].values())
    assert summary["seconds"] == dict(found.seconds)
    assert summary["environment"]["packages"]["jax"]


def test_each_method_starts_where_it_says(tour):
    out, found = tour
    assert found.results["from scratch"].init["kind"] == "scratch"
    for name in METHODS[1:]:
        assert found.results[name].init == {"kind": "checkpoint", "model": "mlp", "path": str(out / "pretrained")}
    assert [found.results[name].cached for name in METHODS] == [False, True, True, False]
    assert len({found.results[name].split["sha256"] for name in METHODS}) == 1  # all on the same folds


def test_the_report_shows_every_method(tour):
    page = (tour[0] / "report.html").read_text()
    assert all(name in page for name in METHODS)
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained


def test_truth_is_measured_on_images_that_nothing_was_trained_on(tour):
    _, found = tour
    labelled, unseen, (known, others) = found.labelled, found.unseen, two_tasks()
    in_order = lambda x: sorted(image.tobytes() for image in x)  # noqa: E731
    assert in_order(np.concatenate([labelled.x, unseen.x, known.x])) == in_order(digits().x)
    assert len(known) + len(others) == len(digits())
    for one, two in ((labelled, unseen), (labelled, known), (unseen, known)):
        assert not set(in_order(one.x)) & set(in_order(two.x))
    np.testing.assert_array_equal(np.bincount(labelled.targets()), [30] * 2)
    for result in found.results.values():
        np.testing.assert_array_equal(np.sort(result.out_of_fold.index), np.arange(60))


def test_the_new_question_is_whether_the_digit_is_even(tour):
    every = digits()
    digit = {image.tobytes(): int(label) for image, label in zip(every.x, every.labels, strict=True)}
    for source in (tour[1].labelled, tour[1].unseen):
        names = [source.class_names[label] for label in source.targets()]
        assert names == [("even", "odd")[digit[image.tobytes()] % 2] for image in source.x]


def test_the_truth_has_an_interval_and_a_gain(tour):
    """Wilson's interval against SciPy's, the gain against the paired t-test's."""
    _, found = tour
    count = len(found.unseen)
    for name, truth in found.truth.items():
        expected = binomtest(round(truth * count), count).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(found.reach[name], expected, atol=2e-4)  # Student's quantile in place of a normal's
    assert set(found.gain) == set(METHODS[1:])
    for name, (gain, low, high) in found.gain.items():
        assert gain == pytest.approx(found.truth[name] - found.truth["from scratch"])
        assert low < gain < high
    random = np.random.default_rng(0)
    right, other = random.random(500) < 0.9, random.random(500) < 0.8
    expected = ttest_rel(right.astype(float), other.astype(float)).confidence_interval(0.95)
    np.testing.assert_allclose(paired_gain(right, other)[1:], expected, rtol=5e-3)


def test_truth_is_that_of_the_saved_network(tour):
    out, found = tour
    for checkpoint in (found.checkpoint, jaxdl.restore(out / "best")):
        predictions = jaxdl.predict(checkpoint, found.unseen)
        right = predictions.predicted == found.unseen.targets()
        assert right.mean() == found.truth[found.best] == predictions.accuracy
    assert "partial" not in found.truth
    assert set(found.truth) == set(METHODS)


def test_the_table_is_printed_with_the_truth(tour):
    _, found = tour
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_table(console, results_table(found.results, found.truth))
    said = console.file.getvalue()
    for name in METHODS:
        line = next(line for line in said.splitlines() if line.strip(" *").startswith(name))
        result = found.results[name]
        assert f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %" in line
        assert f"{100 * found.truth[name]:.1f} %" in line
        assert f" {result.seconds:.1f} " in line
        assert line.rstrip().endswith(result.fold_strategy["name"])
        assert line.startswith("* ") == (name == found.best)
    assert max(map(len, said.splitlines())) <= 80
    assert {"pretrain", "save and restore", "refit and score", "report"} < set(found.seconds)


@pytest.mark.slow
def test_a_second_run_replaces_the_first(tour, tmp_path):
    out, steps = tmp_path / "demo", []
    out.mkdir()  # an empty folder will do
    tell(out, short("from scratch", "full fine-tuning"), say=steps.append)
    first = seen(out)
    (out / "notes.txt").write_text("mine")
    found = tell(out, short("frozen features"))
    assert "pretrain a small CNN to name the ten digits" in steps
    assert max(map(len, steps)) <= 72  # fits a line of a terminal, with the time before it
    assert found.best == "frozen features"
    assert [p.name for p in (out / "runs").iterdir()] == ["frozen-features"]
    assert list(json.loads((out / "summary.json").read_text())["methods"]) == ["frozen features"]
    assert seen(out)[out / "report.html"] != first[out / "report.html"]
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_same_seed_finds_the_same(tour, tmp_path):
    again = tell(tmp_path / "demo", short("from scratch"))
    assert again.truth["from scratch"] == tour[1].truth["from scratch"]
    kept = [found.results["from scratch"].out_of_fold.kept for found in (again, tour[1])]
    np.testing.assert_allclose(*kept, atol=1e-4)


def test_an_interrupted_demo_can_be_made_again(tmp_path):
    def stop(text):
        if "folds of" in text:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tell(tmp_path / "demo", short(), say=stop)
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["finished"] is False


@pytest.mark.parametrize("content", ['{"kind": "something else"}', "[]", "no JSON"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("mine")
    (tmp_path / "summary.json").write_text(content)
    before = seen(tmp_path)
    with pytest.raises(InputError, match=tmp_path.name):
        tell(tmp_path, short())
    assert seen(tmp_path) == before
