"""The page is checked as a reader's program sees it: parsed, not compared with a stored copy."""

import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from parsed_page import read_page
from rich.console import Console

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.page import write_page
from jaxdl.report.predictions import most_wrong
from jaxdl.report.table import as_text, how_made, print_table, results_table
from jaxdl.tasks import Classification
from jaxdl.training.execution import Execution
from jaxdl.validation.result import OutOfFold


@pytest.fixture(scope="module")
def source():
    digits = data.digits(range(3))
    return data.subset(digits, np.concatenate([np.flatnonzero(digits.targets() == c)[:12] for c in range(3)]))


@pytest.fixture(scope="module")
def results(source):
    made = jaxdl.create("mlp", 3, hidden=(8,))
    one, two = (jaxdl.Plan(epochs=epochs, batch_size=16, learning_rate=3e-3) for epochs in (2, 4))
    how = Execution(fold_strategy="loop")
    run = lambda plan: jaxdl.cross_validate(made, source, plan, folds=3, execution=how)  # noqa: E731
    return {"short": run(one), "long": run(two)}


def synthetic(result, classes=3, examples=60, folds=3, right=0.7, names=None, epochs=3):
    """Like `result`, but with drawn predictions of other numbers of classes, examples and folds."""
    random = np.random.default_rng(0)
    label = random.integers(0, classes, examples)
    logits = random.normal(size=(examples, classes)).astype(np.float32)
    sure = random.random(examples) < right
    logits[np.flatnonzero(sure), label[sure]] += 20
    fold = np.sort(np.arange(examples) % folds)
    found = OutOfFold(np.arange(examples), fold, label, logits)
    hits = logits.argmax(-1) == label
    rows = [
        {"fold": f, "train": int((fold != f).sum()), "test": int((fold == f).sum()), "seconds": 0.5}
        | {"accuracy": float(hits[fold == f].mean()), "loss": 0.25}
        for f in range(folds)
    ]
    measured = {"train_loss": 0.5, "train_accuracy": 0.8, "test_loss": 0.6, "test_accuracy": 0.7}
    scores = [row["accuracy"] for row in rows]
    names = [f"class {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(classes)] if names is None else names
    return dataclasses.replace(
        result,
        mean=float(np.mean(scores)),
        std=float(np.std(scores, ddof=1)) if folds > 1 else None,
        folds=rows,
        out_of_fold=found,
        data={"name": "drawn", "examples": examples, "class_names": names},
        question={"name": "classification", "names": names},
        own=None,
        split={**result.split, "k": folds},
        curves=[{"fold": f, "epoch": e + 1, **measured} for f in range(folds) for e in range(epochs)],
    )


@pytest.fixture
def show(tmp_path):
    def write(results, title="A title", **options):
        path = write_page(tmp_path / "report.html", title, results, **options)
        return read_page(path)

    return write


def labelled(page, start):
    return [svg for svg in page.all("svg") if svg["aria-label"].startswith(start)]


def test_page_shows_the_numbers_of_the_results(show, results, source):
    page = show(results, source=source, truth={"long": 0.875})
    header, *lines, below = page.cells()
    assert header == ["method", "accuracy", "unseen", "log loss", "seconds", "fold strategy"]
    told = next(iter(results.values())).baselines[0]
    baseline = 100 * np.mean(told["folds"]["accuracy"])
    assert (below[0], below[2]) == (told["name"], "–")
    assert float(below[1].split()[0]) == pytest.approx(baseline, abs=0.051)
    for line, (method, result) in zip(lines, results.items(), strict=True):
        assert line[0].split()[0] == method
        mean, std = map(float, line[1].removesuffix(" %").split(" ± "))
        assert mean == pytest.approx(100 * result.mean, abs=0.051)
        assert std == pytest.approx(100 * result.std, abs=0.051)
        assert float(line[3]) == pytest.approx(np.mean([fold["loss"] for fold in result.folds]), abs=0.00051)
        assert float(line[4]) == pytest.approx(result.seconds, abs=0.51)
        assert line[5] == "loop"
    assert [line[2] for line in lines] == ["–", "87.5 %"]
    assert sum("best" in line[0] for line in lines) == 1
    assert "no standard error" in page.text()
    assert next(iter(results.values())).split["sha256"] in page.text()


def test_results_of_different_metrics_are_refused_and_the_advice_works(show, results):
    mixed = {"short": results["short"].scored_by("auc"), "long": results["long"].scored_by("kappa")}
    with pytest.raises(InputError, match="'short' is scored by auc, 'long' by kappa") as caught:
        show(mixed)
    assert "result.scored_by('auc')" in str(caught.value)
    header, *lines, below = show(mixed | {"long": mixed["long"].scored_by("auc")}).cells()
    assert below[1].startswith("50.0")  # who says the same of all ranks nothing
    assert header[1] == "auc"
    wanted = [100 * results[name].scored_by("auc").mean for name in mixed]
    assert [float(line[1].split()[0]) for line in lines] == pytest.approx(wanted, abs=0.051)


def test_page_shows_each_fold(show, results):
    _, *lines = show(results).cells(1)
    for fold, line in enumerate(lines):
        expected = [100 * result.folds[fold]["accuracy"] for result in results.values()]
        assert [float(cell.removesuffix(" %")) for cell in line[1:]] == pytest.approx(expected, abs=0.051)


def test_counts_in_the_confusion_matrix_sum_to_the_held_out_examples(show, results):
    named = {**results["long"].question, "names": ["zero", "one", "two"]}
    page = show({"long": dataclasses.replace(results["long"], question=named, own=None)})
    (confusion,) = labelled(page, "long: confusion matrix")
    assert sum(map(int, re.findall(r"\b\d+\b", confusion["text"]))) == len(results["long"].out_of_fold.index) == 36
    assert {"zero", "one", "two"} <= set(confusion["text"].split())


def test_wrong_examples_are_shown_with_their_pictures(show, results, source):
    best = next(row["method"] for row in results_table(results) if row["best"])
    expected = most_wrong(results[best].out_of_fold, results[best].asked, 12)
    page = show(results, source=source)
    captions = [element["text"] for element in page.all("figcaption")]
    assert len(captions) == len(page.all("img")) == len(expected) > 0
    for caption, row in zip(captions, expected, strict=True):
        assert f"true {row['label']}, predicted {row['predicted']} (p" in caption
        assert caption.endswith(f"index {row['index']}")
    probabilities = [row["probability"] for row in expected]
    assert probabilities == sorted(probabilities, reverse=True)


def test_most_wrong_names_an_example_once():
    found = OutOfFold(
        np.array([4, 7, 4, 1]),
        np.array([0, 0, 1, 1]),
        np.array([0, 0, 0, 1]),
        np.float32([[0, 3], [0, 1], [0, 5], [0, 9]]),
    )
    rows = most_wrong(found, Classification(("no", "yes")), 9)
    assert [(row["index"], row["fold"]) for row in rows] == [(4, 1), (7, 0)]


@pytest.mark.parametrize("kind", ["none", "numbers", "colour", "files"])
def test_page_takes_any_source(show, results, tmp_path, kind):
    result = synthetic(results["long"], examples=30)
    labels = result.out_of_fold.target
    random = np.random.default_rng(1)
    given = None
    if kind == "numbers":
        given = data.Arrays(random.random((30, 5), np.float32), labels.astype(np.int32), tuple(result.class_names))
    if kind == "colour":
        pixels = random.integers(0, 256, (30, 40, 30, 3), dtype=np.uint8)
        given = data.Arrays(pixels, labels.astype(np.int32), tuple(result.class_names))
    if kind == "files":
        given, result = of_files(tmp_path / "pictures", result, random)
    page = show({"long": result}, source=given)
    pictures = page.all("img")
    if kind in ("colour", "files"):
        assert len(pictures) == len(most_wrong(result.out_of_fold, result.asked, 12))
    else:
        assert not pictures
        assert len(page.cells(2)) == 1 + len(most_wrong(result.out_of_fold, result.asked, 12))
    if kind == "files":
        assert {picture["src"][:15] for picture in pictures} == {"data:image/jpeg", "data:image/png;"}
        assert "class aa/picture" in page.text()


def of_files(folder, result, random):
    """The examples of `result` as files of different sizes, and a result in the order of the files."""
    from PIL import Image

    for i, label in enumerate(result.out_of_fold.target):
        place = folder / result.class_names[label] / f"picture {i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        size = (10 + i, 20) if i % 2 else (300 + i, 200)
        Image.fromarray(random.integers(0, 256, size if i % 3 else (*size, 3), dtype=np.uint8)).save(place)
    held = result.out_of_fold
    order = np.argsort(held.target, kind="stable")
    moved = OutOfFold(np.arange(len(order)), held.fold, held.target[order], held.kept[order])
    return data.folder(folder), dataclasses.replace(result, out_of_fold=moved)


def test_names_are_text_whatever_they_hold(show, results):
    names = ['<b>&"$x$', "$\\frac{1}{0}$", "猫\x00\x1b" + "x" * 300]
    page = show(
        {'<u>&"m"$y$</u>': synthetic(results["long"], names=names), "[red]": results["short"]},
        title="</title><script>alert('$1$')</script>",
        intro="<img src=x onerror=y>\n\nsecond",
        truth={"[red]": 1.0},
        facts={"<i>": "a & b < c"},
    )
    assert not page.all("b", "u", "i", "img") or all(b.get("aria-hidden") for b in page.all("b", "u", "i", "img"))
    confusion = next(svg for svg in page.all("svg") if "confusion" in svg["aria-label"])
    if "[red]" not in confusion["aria-label"]:
        assert '<b>&"$x$' in confusion["text"]
        assert "$\\frac{1}{0}$" in confusion["text"]
    assert page.all("title")[0]["text"] == "</title><script>alert('$1$')</script>"
    assert "<img src=x onerror=y>" in page.text()
    assert "a & b < c" in page.text()
    assert "\x00" not in page.text()


def test_single_fold_has_no_spread(show, results):
    result = synthetic(results["long"], folds=1)
    page = show({"holdout": result})
    assert page.cells()[1][1] == f"{100 * result.mean:.1f} %"
    assert "single fold" in page.text()


@pytest.mark.parametrize("classes", [20, 30, 120])
def test_many_classes(show, results, classes):
    page = show({"many": synthetic(results["long"], classes=classes, examples=600)})
    (confusion,) = labelled(page, "many: confusion matrix")
    counts = re.findall(r"(?<!\w)\d+(?!\w)", confusion["text"])
    assert sum(map(int, counts)) == (600 if classes == 20 else 0)
    assert ("Most often confused" in page.text()) == (classes > 20)


def test_many_folds_become_a_band(show, results):
    few = show({"few": synthetic(results["long"], examples=100, folds=20)})
    page = show({"leave-one-out": synthetic(results["long"], examples=150, folds=150)})
    assert "The band" in page.text()
    assert "The band" not in few.text()
    assert "Each fold tests one example" in page.text()
    (scores,) = labelled(page, "accuracy of each fold")
    assert re.search(r"×\d\d", scores["text"])


def test_long_training_of_many_methods_stays_small(show, results):
    long = synthetic(results["long"], examples=100, folds=20, epochs=300)
    show({f"method {i}": long for i in range(4)})


def test_nothing_wrong(show, results):
    page = show({"perfect": synthetic(results["long"], right=1.0)})
    assert "No prediction was wrong" in page.text()
    assert not page.all("img")


def test_training_that_diverged_or_kept_no_curves(show, results):
    rows = [{**row, "train_loss": float("nan"), "test_loss": float("inf")} for row in results["long"].curves]
    held = results["long"].out_of_fold
    lost = dataclasses.replace(held, kept=np.full_like(held.kept, np.nan))
    show({"lost": dataclasses.replace(results["long"], curves=rows, out_of_fold=lost)})
    page = show({"none": dataclasses.replace(results["long"], curves=[])})
    assert "None were recorded" in page.text()


def test_same_results_give_the_same_bytes(results, source, tmp_path):
    import matplotlib

    one = write_page(tmp_path / "one.html", "Title", results, source=source, truth={"long": 0.5})
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):  # a user's own style
        two = write_page(tmp_path / "two.html", "Title", results, source=source, truth={"long": 0.5})
        assert matplotlib.rcParams["font.size"] == 30
    assert one.read_bytes() == two.read_bytes()


def test_page_is_replaced_whole_or_not_at_all(results, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    with monkeypatch.context() as patch:  # a disk that is full
        patch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            write_page(path, "Title", results)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    assert write_page(path, "Title", results) == path
    assert list(tmp_path.iterdir()) == [path]


def test_mistakes_are_named(results, source, tmp_path):
    path = tmp_path / "report.html"
    for where, named in ((tmp_path / "nowhere" / "report.html", "nowhere"), (tmp_path, tmp_path.name)):
        with pytest.raises(InputError, match=named):
            write_page(where, "Title", results)
    for given in ({}, results["long"]):
        with pytest.raises(InputError, match="results is"):
            write_page(path, "Title", given)
    with pytest.raises(InputError, match="'long'"):
        write_page(path, "Title", results, truth={"lnog": 0.5})
    for others in (range(20), range(35, -1, -1)):
        with pytest.raises(InputError, match="'short'"):
            write_page(path, "Title", results, source=data.subset(source, others))
    assert not path.exists()


def test_a_source_with_other_names_is_not_that_of_the_result(results, source, tmp_path):
    other = dataclasses.replace(source, class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="'short'"):
        write_page(tmp_path / "report.html", "Title", results, source=other)


def test_a_method_without_a_loss_has_a_dash_beside_those_with_one(results):
    bare = [{key: value for key, value in fold.items() if key != "loss"} for fold in results["short"].folds]
    rows = results_table({"bare": dataclasses.replace(results["short"], folds=bare), "long": results["long"]})
    headers, (first, second) = as_text(rows)
    assert first[headers.index("log loss")] == "–"
    assert float(second[headers.index("log loss")]) > 0


def test_best_is_the_largest_mean_then_the_smallest_loss(results):
    base = synthetic(results["long"])
    sharper = dataclasses.replace(base, folds=[{**fold, "loss": 0.1} for fold in base.folds])
    rows = results_table({"a": base, "b": sharper, "c": dataclasses.replace(base, mean=0.1)})
    assert [row["best"] for row in rows] == [False, True, False]


@pytest.mark.parametrize("truth", [None, {"twenty-four letters long": 0.5}])
def test_terminal_table_fits_80_columns(results, truth):
    slow = dataclasses.replace(results["long"], seconds=12345.6)
    rows = results_table({"twenty-four letters long": slow, "[bold]x[/bold]": results["short"]}, truth)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_table(console, rows)
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for part in ("twenty-four letters long", "[bold]x[/bold]", "12346", "no standard error"):
        assert part in text
    lines = [line for line in text.splitlines() if "loop" in line]
    assert [line.startswith("* ") for line in lines] == [row["best"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} %" in line


def test_terminal_table_breaks_what_is_too_long(results):
    console = Console(width=50, file=io.StringIO(), color_system=None)
    name = "a name of a method that goes on and on"
    print_table(console, results_table({name: results["long"], "b": results["short"]}))
    text = console.file.getvalue()
    assert "…" not in text
    assert all(word in text for word in ("accuracy", "log loss", "seconds"))


def test_how_made_says_what_differs(results):
    made = how_made(results)
    assert "batch_size 16" in made["plan"].splitlines()[0]
    assert made["plan"].splitlines()[1:] == ["short: epochs 2", "long: epochs 4"]
    assert made["start"] == "random weights"
    assert results["long"].split["sha256"] in made["folds"]


def test_matplotlib_is_imported_when_drawing():
    code = "import sys, jaxdl.report.page; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
