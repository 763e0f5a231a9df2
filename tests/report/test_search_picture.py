"""Pictures of a search: what differs between configurations has an axis, and good ones lie high."""

import dataclasses
import re

import numpy as np
import pytest
from parsed_page import Page

from jaxdl.report.search_picture import Setting, draw_parallel, draw_settings, settings_of
from jaxdl.validation.result import OutOfFold, Result
from jaxdl.validation.search.result import SearchResult

VALUES = [
    {"learning_rate": 1e-4, "clip_norm": None, "optimizer": "sgd", "epochs": 3},
    {"learning_rate": 1e-3, "clip_norm": 1.0, "optimizer": "adam<b>", "epochs": 3},
    {"learning_rate": 1e-2, "clip_norm": None, "optimizer": "sgd", "epochs": 3},
]
LOSSES = [0.9, 0.2, None]  # the last one is not finite


@pytest.fixture(scope="module")
def found():
    empty = np.zeros(0)
    data = {"name": "x", "examples": 3, "class_names": ["a", "b"]}
    result = Result(
        "classification", "accuracy", 0.5, None, [], {}, {}, {}, {}, {}, data, False,
        {}, 0.0, OutOfFold(empty, empty, empty, empty), [],
    )  # fmt: skip
    rows = [
        {"division": "all", "configuration": i, "mean": 1 - (loss or 1), "loss": loss, "epochs": 3, "rank": rank}
        for i, (loss, rank) in enumerate(zip(LOSSES, (2, 1, 3), strict=True))
    ]
    configurations = [{"number": i, "values": values} for i, values in enumerate(VALUES)]
    told = {"strategy": "grid", "rule": "best", "criterion": "loss", "seeds": 1}
    return SearchResult(False, result, configurations, rows, [], 1, told, [0.5], [], {}, 0.0)


def test_values_have_places_by_their_kind():
    powers = Setting("rate", [1e-4, 1e-2, 1e-3])
    np.testing.assert_allclose(powers.places, [-4, -2, -3])
    assert [text for _, text in powers.ticks] == ["0.0001", "0.001", "0.01"]
    np.testing.assert_allclose(Setting("layers", [1, 3, 2]).places, [1, 3, 2])
    np.testing.assert_allclose(Setting("dropout", [0.01, 0.5], "Uniform").places, [0.01, 0.5])
    words = Setting("clip", [None, 1.0, None])
    assert (words.places.tolist(), [text for _, text in words.ticks]) == ([1, 0, 1], ["1", "none"])


def test_what_does_not_differ_has_no_picture(found):
    assert [setting.name for setting in settings_of(found, [1, 0])] == ["learning_rate", "clip_norm", "optimizer"]
    pictures = [Page(picture) for picture in draw_settings(found)]
    assert len(pictures) == 3
    assert not any(page.wrong or page.all("b") for page in pictures)
    assert all("final configuration" in page.all("svg")[0]["aria-label"] for page in pictures)
    assert "0.001" in pictures[0].all("svg")[0]["aria-label"]


def lines_of(svg):
    """Of each drawn line of several points its heights on the page at both ends."""
    paths = re.findall(r'd="(M [^"z]+)"', svg)
    points = [[tuple(map(float, pair.split())) for pair in re.split(r"[ML] ", path)[1:]] for path in paths]
    return [(line[0][1], line[-1][1]) for line in points if len(line) == 4]


def test_the_better_a_configuration_the_higher_its_line_ends(found):
    svg = draw_parallel(found)
    assert not Page(svg).wrong
    worst, *best = lines_of(svg)  # the best is drawn last, and once more as the final one
    assert len(best) == 2
    assert all(end < worst[1] for _, end in best)  # pages count from above: the smaller loss lies higher
    one = [{"number": i, "values": {"learning_rate": v["learning_rate"]}} for i, v in enumerate(VALUES)]
    assert draw_parallel(dataclasses.replace(found, configurations=one)) is None
    assert (
        draw_settings(dataclasses.replace(found, configurations=[{"number": i, "values": {}} for i in range(3)])) == []
    )
