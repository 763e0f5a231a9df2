"""The sections on sets and intervals: their tables against the sets themselves, and what they warn of."""

import dataclasses

import numpy as np
import pytest
from parsed_page import Page

import jaxdl
from jaxdl import data
from jaxdl.report.coverage import show_intervals, show_sets
from jaxdl.tasks import Classification, Regression
from jaxdl.validation.result import OutOfFold

NAMES = ("<ant>", "bee", "rare")
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained():
    """A result whose held-out rows the tests exchange: what the sections show follows from these alone."""
    source = data.digits(range(2)).take(np.arange(24))
    model = jaxdl.create("mlp", 2, hidden=(2,))
    return jaxdl.cross_validate(model, source, jaxdl.Plan(epochs=1), folds=3)


def with_rows(trained, task, target, kept, group=None):
    fold = (np.arange(len(target)) if group is None else group) % 3
    rows = OutOfFold(np.arange(len(target)), fold, target, kept.astype(np.float32), group)
    return dataclasses.replace(trained, out_of_fold=rows, own=task, task=task.name, question=None, leaks=())


@pytest.fixture(scope="module")
def of_classes(trained):
    """The rare class is mostly taken for another; groups of 30, of which the last is predicted at random."""
    target = RANDOM.choice(3, 600, p=[0.5, 0.4, 0.1])
    kept = 3 * np.eye(3)[np.where(target == 2, 1, target)] + RANDOM.normal(size=(600, 3))
    kept[570:] = RANDOM.normal(size=(30, 3))
    return with_rows(trained, Classification(NAMES), target, kept, np.arange(600) // 30)


def page_of(section):
    return Page(f"<body>{section.body}</body>")


def rows_by_name(page, header):
    tables = map(page.cells, range(len(page.all("table"))))
    (found,) = [rows for rows in tables if rows[0][0] == header]
    return {row[0]: row[1:] for row in found[1:]}


def shown_share(cell):
    return float(cell.split(" %")[0]) / 100


def test_tables_of_sets_are_those_of_the_sets(of_classes):
    page = page_of(show_sets(of_classes, None))
    found, target = of_classes.sets(0.9), of_classes.out_of_fold.target
    assert found.basis.by == "group"
    by_class = rows_by_name(page, "class")
    assert set(by_class) == set(NAMES)
    for place, name in enumerate(NAMES):
        mine = target == place
        assert int(by_class[name][0]) == mine.sum()
        assert shown_share(by_class[name][1]) == pytest.approx(found.covered[mine].mean(), abs=6e-4)
        assert float(by_class[name][2]) == pytest.approx(found.size[mine].mean(), abs=6e-3)
    by_group = rows_by_name(page, "group")
    assert len(by_group) == 20
    shares = [found.covered[of_classes.out_of_fold.group == int(name)].mean() for name in by_group]
    assert shares == sorted(shares)
    by_coverage = rows_by_name(page, "coverage asked")
    for asked in ("80", "90"):
        made = of_classes.sets(int(asked) / 100)
        row = by_coverage[f"{asked} %"]
        assert float(row[0]) == pytest.approx(made.size.mean(), abs=6e-3)
        assert [shown_share(cell) for cell in row[1:3]] == pytest.approx(
            [(made.size == 0).mean(), (made.size == 1).mean()], abs=6e-4
        )
        assert shown_share(row[5]) == pytest.approx(made.covered.mean(), abs=6e-4)
    assert "needs at least 99 calibration groups" in by_coverage["99 %"][-1]


def test_what_is_covered_less_is_named(of_classes):
    cautions = [p["text"] for p in page_of(show_sets(of_classes, None)).all("p") if "Caution" in p["text"]]
    assert [" rare." in said for said in cautions] == [True]
    assert "<ant>" not in cautions[0]


def listed_examples(section):
    page = page_of(section)
    (listed,) = [rows[1:] for rows in map(page.cells, range(len(page.all("table")))) if rows[0][0] == "index"]
    return listed


def test_examples_with_empty_sets_are_listed(trained):
    """All are predicted right, so that sets are shown at 90 %; a tenth is unlike the others, between the classes."""
    target = RANDOM.choice(3, 600)
    kept = 6 * np.eye(3)[target] + RANDOM.normal(size=(600, 3))
    kept[:60] = RANDOM.uniform(0.01, 0.1, (60, 1)) * np.eye(3)[target[:60]]
    result = with_rows(trained, Classification(NAMES), target, kept)
    assert (result.predicted == target).all()
    found = result.sets(0.9)
    assert 40 < (found.size == 0).sum() <= 60
    listed = listed_examples(show_sets(result, None))
    assert listed
    for index, true, words, size in listed:
        assert (words, int(size)) == ("empty", found.size[int(index)])
        assert true == NAMES[target[int(index)]]


def test_examples_with_the_largest_sets_are_listed(of_classes):
    found = of_classes.sets(0.9)
    assert np.mean(of_classes.predicted == of_classes.out_of_fold.target) < 0.9  # so that sets are shown at 90 %
    listed = listed_examples(show_sets(of_classes, None))
    assert [int(row[-1]) for row in listed] == sorted(found.size, reverse=True)[: len(listed)]
    for index, _, words, _ in listed:
        assert words.split(", ") == found.classes[int(index)]


def test_intervals_that_grow_too_little_are_named(trained):
    """Errors grow with the number: the largest are held less often."""
    predicted = RANDOM.uniform(0, 100, 600)
    target = (predicted + predicted / 10 * RANDOM.normal(size=600)).astype(np.float32)
    result = with_rows(trained, Regression(), target, predicted[:, None])
    page = page_of(show_intervals(result, None))
    found = result.intervals(0.9)
    shown = rows_by_name(page, "predicted number")
    thirds = np.digitize(predicted, np.quantile(predicted, (1 / 3, 2 / 3)))
    for place, row in enumerate(shown.values()):  # in rising order
        assert shown_share(row[1]) == pytest.approx(found.covered[thirds == place].mean(), abs=6e-4)
    (caution,) = [p["text"] for p in page.all("p") if "Caution" in p["text"]]
    assert list(shown)[2] in caution
    assert next(iter(shown)) not in caution
    widths = rows_by_name(page, "coverage asked")
    assert float(widths["90 %"][0]) == pytest.approx(found.width.mean(), rel=1e-3)


def test_folds_that_chose_the_configuration_are_cautioned(of_classes):
    chosen = dataclasses.replace(of_classes, selected={"configurations": 9, "nested": False})
    assert [p["text"] for p in page_of(show_sets(chosen, None)).all("p") if "chose the configuration" in p["text"]]
