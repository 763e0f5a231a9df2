"""The page of a run, made of runs of tiny networks and read back as a reader's program sees it."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from parsed_page import read_page

import jaxdl
from jaxdl import data
from jaxdl.data.builtin import digits
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_variables
from jaxdl.report.diagnosis import judge_gradients
from jaxdl.report.inspect import inspect, time_stages
from jaxdl.report.run_page import write_run_report
from jaxdl.training.execution import Execution
from jaxdl.weights.checkpoint import restore, save

PLAN = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=3e-3)
KEEPING = Execution(fold_strategy="loop", keep_models=True)
EVERYTHING = (
    "The answer",
    "How sure is the number?",
    "Each fold",
    "Learning curves",
    "Which classes are confused",
    "Class by class",
    "Can the probabilities be believed?",
    "Sets that hold the true class",
    "Most confidently wrong",
    "Least certain",
    "Where it looked",
    "Stages",
    "Activations",
    "Gradients",
    "How this was made",
)


def few(classes, each=14):
    source = digits(classes)
    places = [np.flatnonzero(source.targets() == c)[:each] for c in range(len(classes))]
    return data.subset(source, np.concatenate(places))


def written(result, folder, **told):
    """A folder as ``cross-validate`` leaves it."""
    folder.mkdir()
    result.write_to(folder)
    for fold, network in zip(result.folds, result.models or (), strict=False):
        save(network, folder / "folds" / str(fold["fold"]))
    (folder / "run.json").write_text(json.dumps({"kind": "cross-validate", "finished": True, **told}))
    return folder


@pytest.fixture(scope="module")
def source():
    return few(range(5, 8))


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    model = jaxdl.create("cnn", 3, features=(3, 4), hidden=(8,))
    made = jaxdl.pretrain(model, few(range(3)), PLAN, validation=few(range(3), 20))
    return restore(save(made, tmp_path_factory.mktemp("parent") / "parent"))


@pytest.fixture(scope="module")
def made(parent, source):
    plan = dataclasses.replace(PLAN, freeze_through="conv1")
    return jaxdl.cross_validate(parent, source, plan, folds=3, execution=KEEPING)


@pytest.fixture(scope="module")
def from_scratch(source):
    def run(name, source=source, plan=PLAN, **arguments):
        model = jaxdl.create(name, max(1, len(source.class_names)), **arguments)
        splitter = "stratified" if source.class_names else "kfold"
        return jaxdl.cross_validate(model, source, plan, splitter=splitter, folds=2, execution=KEEPING)

    return run


def sections(page):
    return {s["id"]: s["text"] for s in page.all("section")}


def table_with(page, *headers):
    """Rows of the one table whose headers are these."""
    count = len(page.all("table"))
    (found,) = [rows for rows in map(page.cells, range(count)) if rows and tuple(rows[0]) == headers]
    return found[1:]


@pytest.fixture(scope="module")
def page(made, source, parent, tmp_path_factory):
    command = ["jaxdl", "cross-validate", "--out", "a folder; rm $x", "--data", "digits"]
    run = written(made, tmp_path_factory.mktemp("runs") / "run", command=command, init=parent.path)
    path = write_run_report(run, source)
    assert path == run / "report.html"
    return read_page(path)


def test_every_section_is_there(page):
    assert tuple(h["text"] for h in page.all("h2")) == EVERYTHING
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert links == list(sections(page))
    for part in sections(page).values():
        assert "not kept" not in part
        assert "cannot be" not in part


def test_the_command_can_be_pasted_into_a_shell(page):
    (shown,) = page.all("code")
    words = subprocess.run(
        ["sh", "-c", f"for word in {shown['text']}; do printf '%s\\n' \"$word\"; done"], capture_output=True, text=True
    ).stdout.splitlines()
    assert words == ["jaxdl", "cross-validate", "--out", "a folder; rm $x", "--data", "digits"]


def test_scores_of_classes_and_the_answer(page, made):
    rows = table_with(page, "class", "precision", "recall", "F1", "support")
    counts = made.confusion_matrix()
    for place, row in enumerate(rows[:-1]):
        assert row[0] == made.class_names[place]
        assert int(row[4]) == counts[place].sum()
        assert float(row[2]) == pytest.approx(counts[place, place] / counts[place].sum(), abs=6e-4)
    assert rows[-1][0] == "mean over classes"
    answer, below = table_with(page, "method", "accuracy", "log loss", "seconds", "fold strategy")
    assert below[0] == "most frequent class"
    assert answer[1] == f"{100 * made.mean:.1f} ± {100 * made.std:.1f} %"


def test_stages_with_their_movement(page, made, parent):
    (heads,) = [page.cells(i)[0] for i in range(len(page.all("table"))) if page.cells(i)[0][0] == "stage"][:1]
    assert heads[:4] == ["stage", "output", "parameters", "MFLOPs"]
    assert heads[-1] == "moved"
    rows = table_with(page, *heads)
    for row, expected in zip(rows[:-1], inspect(made.models[0]), strict=True):
        assert row[0] == expected.name
        assert int(row[2].replace(",", "")) == expected.parameters
        assert float(row[3]) == pytest.approx(expected.flops / 1e6, rel=0.01)
        assert float(row[4]) > 0
    moved = {row[0]: row[-1] for row in rows}
    assert (moved["conv1"], moved["head"]) == ("frozen", "fresh")
    for stage in ("conv2", "dense1"):
        distances = []
        for network in made.models:
            pairs = zip(*(_leaves(n.variables["params"][stage]) for n in (parent, network)), strict=True)
            old, new = (np.concatenate([leaf.ravel() for leaf in part]) for part in zip(*pairs, strict=True))
            distances.append(np.linalg.norm(new - old) / np.linalg.norm(old))
        assert float(moved[stage]) == pytest.approx(np.mean(distances), rel=0.06)


def _leaves(tree):
    if not isinstance(tree, dict):
        return [np.asarray(tree)]
    return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]


def test_examples_are_explained_by_the_fold_that_held_them_out(page, made):
    captions = [f["text"] for f in page.all("figcaption") if ", fold " in f["text"]]
    held = made.out_of_fold
    is_right = made.predicted == held.target
    wrong = int((~is_right).sum())
    assert len(captions) == min(4, wrong) + min(4, len(held.index) - wrong)
    for caption in captions:
        index, fold = map(int, re.search(r"index (\d+), fold (\d+)", caption).groups())
        (place,) = np.flatnonzero(held.index == index)
        assert held.fold[place] == fold
        assert ("which is right" in caption) == is_right[place]
        assert made.class_names[made.predicted[place]] in caption
    maps = [image["alt"] for image in page.all("img") if image["alt"].startswith("Map of")]
    assert len(maps) == sum(1 if "which is right" in caption else 2 for caption in captions)
    assert all(re.search(r"strongest at the|the same everywhere", alt) for alt in maps)


def test_gradients_and_activations(page, made):
    rows = {row[0]: row[1:] for row in table_with(page, "stage", "first epoch", "largest", "last epoch")}
    assert list(rows) == ["conv2", "dense1", "head"]
    for stage, (first, _, last) in rows.items():
        for epoch, shown in ((1, first), (2, last)):
            norms = [row["stage_grad_norms"][stage] for row in made.curves if row["epoch"] == epoch]
            assert float(shown) == pytest.approx(np.mean(norms), rel=0.01)
    assert [row[0] for row in table_with(page, "stage", "units", "dead")] == ["conv1", "conv2", "dense1", "head"]
    assert "Frozen stages, and those without parameters, have none: conv1" in page.text()


@pytest.mark.slow
def test_vit_is_rolled_out_and_tanh_may_saturate(from_scratch, source, tmp_path):
    vit = from_scratch("vit", width=8, depth=1, num_heads=2)
    page = read_page(write_run_report(written(vit, tmp_path / "vit", data="digits:5-7"), source))
    assert "Attention roll-out" in sections(page)["where-it-looked"]
    assert any(image["alt"].startswith("Map of") for image in page.all("img"))
    assert "Training started from random weights" in sections(page)["stages"]
    mlp = from_scratch("mlp", hidden=(8,), activation="tanh")
    page = read_page(write_run_report(written(mlp, tmp_path / "mlp"), source))
    rows = table_with(page, "stage", "units", "dead", "saturated", "near a bound")
    assert [row[0] for row in rows] == ["layer1", "head"]
    assert rows[0][3].endswith(" %")
    assert rows[1][3:] == ["n/a", "n/a"]
    assert "mlp has neither feature maps nor attention" in sections(page)["where-it-looked"]


def test_what_is_missing_is_told(made, tmp_path):
    run = written(dataclasses.replace(made, models=None), tmp_path / "run")
    (run / "run.json").unlink()
    bare = [{k: v for k, v in row.items() if k != "stage_grad_norms"} for row in made.curves]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    page = read_page(write_run_report(run))
    parts = sections(page)
    (together,) = [part for part in parts if "stages" in part]  # what they have in common is said once
    assert together == "where-it-looked-stages-activations"
    assert "networks of the folds were not kept" in parts[together]
    assert page.text().count("networks of the folds were not kept") == 1
    assert "not recorded" in parts["gradients"]
    assert "no command line of its own" in page.text()
    assert not page.all("img")
    titles = ", ".join(h["text"] for h in page.all("h2")).split(", ")
    assert titles == list(EVERYTHING)


def test_data_and_parent_that_have_gone(made, tmp_path):
    run = written(made, tmp_path / "run", data=str(tmp_path / "gone"), init=str(tmp_path / "lost"))
    parts = sections(read_page(write_run_report(run)))
    assert "cannot be read: there is no checkpoint" in parts["stages"]
    (examples,) = [part for part in parts if "where-it-looked" in part and "activations" in part]
    assert "jaxdl report --data SPEC" in parts[examples]
    assert "there is no '" in parts[examples]
    assert ".." not in parts[examples]
    (run / "folds" / "0" / "card.json").write_text("{")
    assert "Gradients" in read_page(write_run_report(run)).text()


def test_data_is_found_again_less_what_was_broken(made, source, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    for i, label in enumerate(source.targets()):
        place = folder / source.class_names[label] / f"{i:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.x[i, ..., 0]).save(place)
    extra = folder / "5" / "000 broken.png"
    extra.write_bytes(b"\x89PNG")
    broken = [[str(extra), "it breaks off <here>"]]
    result = dataclasses.replace(made, data={**made.data, "name": str(folder)})
    run = written(result, tmp_path / "run", data=str(folder), broken=broken)
    page = read_page(write_run_report(run))
    assert "Map of example" in " ".join(image["alt"] for image in page.all("img"))
    facts = sections(page)["how-this-was-made"]
    assert "1 that cannot be read" in facts
    assert "it breaks off <here>" in facts
    (run / "run.json").write_text(json.dumps({"kind": "cross-validate", "data": str(folder)}))
    parts = sections(read_page(write_run_report(run)))
    assert "was made on" in next(said for part, said in parts.items() if "activations" in part)  # one example too many


def test_regression_is_shown_as_numbers(from_scratch, tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 4)).astype(np.float32)
    target = (x @ np.float32([1, -2, 0, 3]) + 5).astype(np.float32)
    source = data.Arrays(x, target, (), name="numbers")
    result = from_scratch("mlp", source, dataclasses.replace(PLAN, epochs=5), hidden=(8,))
    page = read_page(write_run_report(written(result, tmp_path / "run"), source))
    titles = [h["text"] for h in page.all("h2")]
    assert {"Predicted and true", "Intervals that hold the true number"} <= set(titles)
    assert not {"Class by class", "Which classes are confused", "Most confidently wrong"} & set(titles)
    error = result.out_of_fold.kept[:, 0] - result.out_of_fold.target
    shown = sections(page)["predicted-and-true"]
    assert f"Mean absolute error {np.abs(error).mean():.4g}" in shown
    rows = table_with(page, "index", "true", "predicted", "error")
    assert float(rows[0][3]) == pytest.approx(error[np.abs(error).argmax()], rel=1e-3)
    assert [s["aria-label"][:9] for s in page.all("svg")].count("Residuals") == 1


def test_report_on_a_checkpoint(parent, source, tmp_path):
    made = jaxdl.finetune(parent, source, PLAN, validation=few(range(5, 8), 20))
    run = save(made, tmp_path / "tuned")
    told = {"kind": "finetune", "data": "digits:5-7", "init": parent.path, "command": ["jaxdl", "finetune"]}
    (run / "run.json").write_text(json.dumps(told | {"settings": {"head": "auto", "held_out": 60}}))
    page = read_page(write_run_report(run))
    parts = sections(page)
    assert list(parts) == [
        "the-answer",
        "learning-curves",
        "where-it-looked",
        "stages",
        "activations",
        "gradients",
        "how-this-was-made",
    ]
    last = made.history[-1]
    rows = {row[0]: row[1:] for row in table_with(page, "", "loss", "accuracy")}
    assert rows["held-out part"][1] == f"{100 * last['test_accuracy']:.1f} %"
    assert float(rows["training part"][0]) == pytest.approx(last["train_loss"], rel=0.01)
    assert "fresh" in parts["stages"]
    assert "Map of" in page.all("img")[1]["alt"]
    assert "may have been trained" not in parts["where-it-looked"]
    (run / "run.json").unlink()
    page = read_page(write_run_report(run))
    assert page.all("h1")[0]["text"].startswith("Fine-tuning on")
    assert "does not say where its data is" in page.text()


def test_page_is_written_where_asked_and_never_over_something_else(made, source, tmp_path):
    run = written(made, tmp_path / "run")
    out = tmp_path / "page.html"
    assert write_run_report(run, source, out) == out
    first = out.read_bytes()
    write_run_report(run, source, out)
    assert read_page(out)
    out.write_text("my own notes")
    with pytest.raises(InputError, match="is no report"):
        write_run_report(run, source, out)
    assert out.read_text() == "my own notes"
    assert first.startswith(b"<!DOCTYPE html>")
    assert not (run / "report.html").exists()


def test_mistakes_are_named(made, source, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        write_run_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a run of cross-validate"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text('{"kind": "cross-validate", "finished": false}')
    with pytest.raises(InputError, match="is not finished"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(InputError, match="is damaged"):
        write_run_report(tmp_path)
    run = written(made, tmp_path / "run")
    with pytest.raises(InputError, match="give the one that it was made on"):
        write_run_report(run, few(range(3)))
    (run / "out_of_fold.npz").write_bytes(b"")
    with pytest.raises(InputError, match="damaged"):
        write_run_report(run)


def test_gradients_are_judged():
    fine = {"stem": np.array([1.0, 0.5]), "head": np.array([2.0, 1.0])}
    assert judge_gradients(fine).startswith("No stage's gradient vanishes")
    faint = {"stem": np.array([1e-5, 1e-5]), "head": np.array([1.0, 1.0])}
    assert "Vanishing" in judge_gradients(faint)
    assert "of stem is" in judge_gradients(faint)
    grown = {"stem": np.array([1.0, 500.0]), "head": np.array([1.0, 1.0])}
    assert "Exploding: the gradient of stem" in judge_gradients(grown)
    late = {"stem": np.array([np.nan, 1.0]), "head": np.array([1.0, 1.0])}
    assert judge_gradients(late).startswith("No stage's")
    assert judge_gradients({"stem": np.array([np.nan])}) == "No gradient was finite."


def test_advice_on_vanishing_gradients_depends_on_whether_units_are_dead():
    faint = {"stem": np.array([1e-5, 1e-5]), "head": np.array([1.0, 1.0])}
    dead, alive, unknown = (judge_gradients(faint, known) for known in ({"stem": 0.53}, {"stem": 0.1}, None))
    assert "larger stage_lr" in alive
    for said in (dead, unknown):
        assert "larger stage_lr" not in said
    assert "stem (53 %)" in dead


def test_time_of_stages(parent):
    spec = parent.card.preprocessing.spec()
    seconds = time_stages(parent.model, parent.variables, spec, batch_size=4, repeats=3)
    assert tuple(seconds) == parent.model.stage_names
    assert all(0 < value < 5 for value in seconds.values())
    model = jaxdl.create("mlp", 2, hidden=(2000, 8))
    variables = init_variables(model, jax.random.key(0), (2000,))
    seconds = time_stages(model, variables, (2000,), batch_size=64, repeats=5)
    assert seconds["layer1"] > 5 * seconds["head"]  # 8 million multiplications against 16


def test_no_page_is_wider_than_a_telephone(made, source, tmp_path):
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("Chromium is not installed; it measures whether the page fits a narrow screen")
    path = write_run_report(written(made, tmp_path / "run", command=["jaxdl", "x" * 300]), source)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="page" style="width:390px;height:4000px;border:0" srcdoc="{html.escape(path.read_text())}">'
        "</iframe><p id=out></p><script>onload = () => { const page = document.getElementById('page').contentDocument;"
        "document.getElementById('out').textContent = 'width ' + page.documentElement.scrollWidth + ' of ' + "
        "page.documentElement.clientWidth }</script>"
    )
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    shown = subprocess.run(
        [browser, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert re.search(r"width (\d+) of (\d+)", shown), shown[:500]
    wide, seen = map(int, re.search(r"width (\d+) of (\d+)", shown).groups())
    assert wide <= seen <= 390
