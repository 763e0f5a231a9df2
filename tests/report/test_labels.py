"""The section of labels that are each there or not, against scikit-learn."""

import dataclasses

import numpy as np
import pytest
from parsed_page import page_of_kind, read_page
from sklearn.metrics import f1_score, roc_auc_score

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.report.labels import label_scores, show_labels
from jaxdl.report.page import write_page
from jaxdl.tasks.multilabel import of_label
from jaxdl.training.execution import Execution
from jaxdl.validation.result import OutOfFold
from jaxdl.validation.statistics.intervals import interval

NAMES = ("sun", "<rain>", "snow", "never")
PLAN = jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 5)).astype(np.float32)
    y = (x[:, :4] + random.normal(0, 0.7, (90, 4)) > [0, 0.5, 1.5, 9]).astype(np.uint8)  # nothing has the last label
    return data.arrays(x, y, class_names=NAMES)


@pytest.fixture(scope="module")
def result(source):
    model = jaxdl.create("mlp", len(NAMES), hidden=(8,))
    how = Execution(fold_strategy="vmap", keep_models=True)
    return jaxdl.cross_validate(model, source, PLAN, folds=3, execution=how)


def table_of(page):
    """Rows of the table of labels, by label."""
    tables = map(page.cells, range(len(page.all("table"))))
    (found,) = [rows for rows in tables if rows[0][0] == "label"]
    return {row[0]: row[1:] for row in found[1:]}


def test_scores_of_labels_are_those_of_scikit_learn(result):
    held, record = result.out_of_fold, result.record
    rows = label_scores(result)
    assert [row.name for row in rows] == list(NAMES)
    for label, row in enumerate(rows[:3]):
        target, predicted = held.target[:, label], result.predicted[:, label]
        assert row.count == target.sum()
        assert row.f1 == pytest.approx(f1_score(target, predicted))
        folds = [held.fold == fold for fold in range(3)]
        areas = [roc_auc_score(target[mine], record["scores"][mine, label]) for mine in folds]
        assert row.auc == pytest.approx(np.mean(areas))
        f1, area = of_label(label, row.name)
        assert row.f1_interval == interval(result, metric=f1)
        assert row.auc_interval == interval(result, metric=area)
        assert row.f1_interval.low < row.f1 < row.f1_interval.high
    assert np.isnan(rows[3].auc)
    assert rows[3].auc_interval is None


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_the_section_is_on_both_kinds_of_pages(result, source, tmp_path, kind):
    page = page_of_kind(kind, result, source, tmp_path)
    titles = [h["text"] for h in page.all("h2")]
    assert "Label by label" in titles
    assert not {"Which classes are confused", "Predicted and true", "Where it looked"} & set(titles)
    rows = table_of(page)
    assert list(rows) == list(NAMES)
    for row in label_scores(result)[:3]:
        shown = rows[row.name]
        assert shown[0] == str(row.count)
        assert shown[1] == f"{100 * row.f1:.1f} %"
        assert shown[2] == f"{100 * row.f1_interval.low:.1f} % to {100 * row.f1_interval.high:.1f} %"
        assert shown[3] == f"{100 * row.auc:.1f} %"
    assert rows["never"][3:] == ["–", "–"]
    (picture,) = [svg for svg in page.all("svg") if svg["aria-label"].startswith("F1 of each label")]
    assert "<rain>" in picture["text"]


def test_the_answer_shows_what_the_task_shows(result, tmp_path):
    page = read_page(write_page(tmp_path / "page.html", "Title", {"mlp": result}))
    header, line, baseline = page.cells()
    assert baseline[0] == result.asked.BASELINE
    assert header == ["method", "macro_f1", "label_accuracy", "log loss", "seconds", "fold strategy"]
    assert line[1] == f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %"
    assert line[2] == f"{100 * np.mean([fold['label_accuracy'] for fold in result.folds]):.1f} %"
    assert page.cells(1)[0] == ["fold", "macro_f1", "label_accuracy"]
    assert "4 labels: sun, <rain>, snow, never" in page.text()
    curves = [svg["aria-label"] for svg in page.all("svg") if "by epoch" in svg["aria-label"]]
    assert [label.split(" by epoch")[0] for label in curves] == [
        "mlp: log loss",
        "mlp: macro_f1",
        "mlp: label_accuracy",
    ]


def of_many_labels(result, labels, examples=200):
    random = np.random.default_rng(1)
    target = (random.random((examples, labels)) < np.linspace(0.05, 0.6, labels)).astype(np.uint8)
    kept = (random.normal(size=target.shape) + 2.0 * target - 1).astype(np.float32)
    held = OutOfFold(np.arange(examples), np.arange(examples) % 3, target, kept)
    folds = [{**row, "train": examples // 3 * 2, "test": int((held.fold == row["fold"]).sum())} for row in result.folds]
    names = [f"label {i}" for i in range(labels)]
    question = {"name": "multilabel", "names": names}
    return dataclasses.replace(result, out_of_fold=held, folds=folds, question=question, own=None)


def test_of_many_labels_the_worst_are_shown_and_the_unsure_named(result):
    many = of_many_labels(result, 40)
    body = show_labels(many).body
    rows = label_scores(many)
    assert body.index("lowest F1") < body.index("<details>")
    worst = min(rows, key=lambda row: row.f1)
    assert f'<th scope="row">{worst.name}</th>' in body[: body.index("<details>")]
    unsure = max(rows, key=lambda row: row.f1_interval.high - row.f1_interval.low)
    assert f"F1 of {unsure.name} (" in body


def test_predictions_of_another_kind_are_refused(result):
    held = result.out_of_fold
    classes = dataclasses.replace(
        result,
        out_of_fold=dataclasses.replace(held, target=held.target[:, 0].astype(int)),
        question={"name": "classification", "names": list(NAMES)},
        own=None,
    )
    with pytest.raises(InputError, match="classification"):
        label_scores(classes)
