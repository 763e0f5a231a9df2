"""Pages of a task of somebody's own, whose sections are those that it names."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from parsed_page import page_of_kind, read_page

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.markup import Section
from jaxdl.report.page import write_page
from jaxdl.report.run import load_run
from jaxdl.report.run_page import write_run_report
from jaxdl.report.sections import SECTIONS, task_sections
from jaxdl.report.shown import Shown
from jaxdl.tasks import TASKS, Task, register_task
from jaxdl.tasks.metric import Mean
from jaxdl.training.execution import Execution
from jaxdl.weights.checkpoint import save

SHARE = dict(bounds=(0.0, 1.0), scale="share")
LOSS = dict(higher_is_better=False, best=0.0, scale="distance", bounds=(0.0, np.inf))


@dataclasses.dataclass(frozen=True)
class Counts(Task):
    """How often something happens: Poisson regression, whose output is the logarithm of the mean."""

    name = "counts"
    METRICS = {  # noqa: RUF012
        "within_one": Mean("within_one", value=lambda r: np.abs(r["predicted"] - r["target"]) <= 1, **SHARE),
        "mae": Mean("mae", value=lambda r: np.abs(r["predicted"] - r["target"]), **LOSS),
        "poisson": Mean("poisson", value="poisson", **LOSS),
    }
    LOSS = "poisson"
    SHOWN = ("within_one", "mae")
    SECTIONS = ("wrong", "confusion", "labels", "own", "nowhere")

    num_outputs = 1

    def check(self, targets, count, data, purpose):
        if targets.min() < 0:
            raise InputError(f"{data} has counts below 0")

    def loss(self, outputs, targets, constants):
        per_example = jnp.exp(outputs[:, 0]) - targets * outputs[:, 0]
        return per_example, jnp.ones_like(per_example)

    def predict(self, outputs, constants):
        return outputs.astype(jnp.float32)

    def baseline(self, targets, count):
        return np.full((count, 1), np.log(targets.mean()), np.float32)

    def record(self, kept, targets):
        xp = np if isinstance(kept, np.ndarray) else jnp
        mean = xp.exp(kept[:, 0])
        return {"target": targets, "predicted": mean, "poisson": mean - targets * kept[:, 0]}

    def predicted(self, kept):
        return np.exp(np.asarray(kept)[:, 0])

    def columns(self, kept):
        return {"predicted": [f"{mean:.3f}" for mean in self.predicted(kept)]}


@pytest.fixture(scope="module")
def task():
    yield register_task(Counts)()
    del TASKS["counts"]


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 4)).astype(np.float32)
    return data.Arrays(x, random.poisson(np.exp(x[:, 0])), name="visits")


@pytest.fixture(scope="module")
def result(task, source):
    how = Execution(fold_strategy="vmap")
    plan = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=1e-2)
    return jaxdl.cross_validate(jaxdl.create("mlp", 1, hidden=(8,)), source, plan, task=task, folds=3, execution=how)


@pytest.fixture
def own():
    def count(shown):
        return [Section("What was counted", f"<p>{int(shown.predictions.out_of_fold.target.sum())} visits</p>")]

    SECTIONS["own"] = count
    yield
    del SECTIONS["own"]


def test_the_data_of_a_run_of_such_a_task_is_found_again(result, source, tmp_path):
    np.savez(tmp_path / "visits.npz", x=source.x, y=source.targets())
    run = result.save(tmp_path / "run")
    (run / "run.json").write_text(json.dumps({"data": str(tmp_path / "visits.npz"), "task": "counts"}))
    found = load_run(run)
    assert "source" not in found.missing
    np.testing.assert_array_equal(found.source.targets(), source.targets())


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_has_the_sections_that_the_task_names(result, source, tmp_path, kind):
    page = page_of_kind(kind, result, source, tmp_path)
    parts = {s["id"]: s["text"] for s in page.all("section")}
    confused = next(name for name in parts if name.startswith("which-classes-are-confused"))
    order = ["largest-losses", confused, "label-by-label", "what-was-counted", "nowhere"]
    assert [name for name in parts if name in order] == order
    assert f"{source.targets().sum()} visits" in parts["what-was-counted"]
    assert "counts" in parts[confused]  # what cannot be drawn says why, once
    assert confused.endswith("-class-by-class") == (kind == "run")
    assert "task counts" in parts["label-by-label"]
    assert "'nowhere'" in parts["nowhere"]
    held = result.out_of_fold
    worst = int(result.record["poisson"].argmax())
    tables = map(page.cells, range(len(page.all("table"))))
    (rows,) = [rows for rows in tables if rows[0] == ["index", "true", "predicted", "loss"]]
    assert len(rows) == 13
    said = f"{result.predicted[worst]:.3f}"
    assert rows[1] == [str(held.index[worst]), str(held.target[worst]), said, f"{result.record['poisson'].max():.3g}"]


def test_scores_are_written_as_their_metrics_say(result, tmp_path):
    page = read_page(write_page(tmp_path / "page.html", "Title", {"mlp": result}))
    header, line, below = page.cells()
    assert header[1:4] == ["within_one", "mae", "loss"]
    assert line[1] == f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %"  # a share
    assert line[2] == f"{np.mean([fold['mae'] for fold in result.folds]):.3g}"
    assert below[1].split()[0] == f"{100 * np.mean(result.baselines[0]['folds']['within_one']):.1f}"
    assert "looks at no example has this score: within_one " in page.text()


def test_a_checkpoint_has_no_held_out_predictions(task, source, tmp_path):
    plan = jaxdl.Plan(epochs=1, batch_size=16)
    made = jaxdl.train(jaxdl.create("mlp", 1, hidden=(4,)), source, plan, task=task).checkpoint
    page = read_page(write_run_report(save(made, tmp_path / "run"), source))
    titles = [h["text"] for h in page.all("h2")]
    assert titles == ["The answer", "Learning curves", "Stages", "Activations", "Gradients", "How this was made"]
    with pytest.raises(InputError, match="held-out"):
        Shown(task, "mlp", None).predictions  # noqa: B018
    assert task_sections(Shown(task, "mlp", None)) == []


def test_examples_are_found_again_by_their_targets(result, source, tmp_path):
    other = dataclasses.replace(source, labels=source.labels[::-1])
    with pytest.raises(InputError, match="visits"):
        write_page(tmp_path / "page.html", "Title", {"mlp": result}, source=other)


def test_a_task_that_is_not_registered_is_named(result, tmp_path):
    saved = dataclasses.replace(result, question={"name": "unheard", "names": []}, own=None)
    with pytest.raises(InputError, match="unheard"):
        write_page(tmp_path / "page.html", "Title", {"mlp": saved})
