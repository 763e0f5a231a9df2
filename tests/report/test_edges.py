"""Grids whose best value lies at their edge say so, with advice that can be followed."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import jaxdl
from jaxdl.commands.probe import parse_penalties
from jaxdl.report.edges import best_edge, head_edges, search_edges
from jaxdl.tasks import Classification, Regression

ACCURACY, LOSS = Classification.METRICS["accuracy"], Regression.METRICS["mse"]


@pytest.mark.parametrize(
    ("values", "scores", "accuracy", "loss"),
    [
        ([1, 10, 100], [0.9, 0.8, 0.7], "lowest", "highest"),
        ([100, 10, 1], [0.9, 0.8, 0.7], "highest", "lowest"),
        ([1, 10, 100], [0.7, 0.9, 0.8], "", "lowest"),
        ([1, 10, 100], [0.9, 0.9, 0.7], "", "highest"),  # the edge is no better than its neighbour
        ([1, 10], [0.9, 0.8], "", ""),
        ([1, 10, 100], [np.nan, 0.8, 0.9], "highest", ""),
        ([1, 10, 100], [np.nan] * 3, "", ""),
    ],
)
def test_where_the_best_of_a_grid_lies(values, scores, accuracy, loss):
    assert (best_edge(values, np.array(scores), ACCURACY), best_edge(values, np.array(scores), LOSS)) == (
        accuracy,
        loss,
    )


def test_a_probe_whose_best_penalty_is_the_strongest_says_so_and_the_advice_works():
    """Noise: the more a penalty shrinks, the smaller the error."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 30)).astype(np.float32), random.normal(size=60).astype(np.float32)
    asked = jaxdl.Probing(heads=("ridge",), penalties=(0.1, 1.0, 10.0), nested=False)
    found = jaxdl.probe(x, y, probing=asked, folds=3, metrics="mse")
    scores = found.heads["ridge"].scores.mean(1)
    assert found.heads["ridge"].grid[scores.argmin()] == 10
    (said,) = head_edges("mse", found.as_dict()["heads"])
    assert "ridge: the best value, 10, is the highest" in said
    wider = parse_penalties((re.search(r"--penalties (\S+?)\.$", said)[1],))
    assert min(wider) == pytest.approx(0.1)
    assert max(wider) > 10
    again = jaxdl.probe(
        x, y, probing=jaxdl.Probing(heads=("ridge",), penalties=wider, nested=False), folds=3, metrics="mse"
    )
    assert again.heads["ridge"].scores.mean(1).min() < scores.min()


def test_one_neighbour_is_no_edge():
    heads = {"knn": {"grid": [9, 5, 1], "scores": [[0.5], [0.6], [0.9]]}}
    assert head_edges("accuracy", heads) == []
    heads["knn"]["scores"].reverse()
    assert "--neighbours with more than 9" in head_edges("accuracy", heads)[0]


def searched(values, losses, epochs=None, strategy="grid"):
    configurations = [{"number": i, "values": one} for i, one in enumerate(values)]
    rows = [
        {"configuration": i, "loss": loss, "mean": None, "epochs": (epochs or [1] * len(losses))[i]}
        for i, loss in enumerate(losses)
    ]
    result = SimpleNamespace(asked=Classification(("a", "b")), metric="accuracy")
    return SimpleNamespace(
        configurations=configurations,
        ranking=rows,
        criterion="log_loss",
        result=result,
        selection={"strategy": strategy},
    )


def test_a_search_names_the_numbers_whose_best_value_is_the_last_that_was_tried():
    rates, drops = [1e-4, 1e-3, 1e-2], [0.0, 0.2, 0.4]
    values = [{"learning_rate": rate, "model.dropout": drop, "optimizer": "sgd"} for rate in rates for drop in drops]
    losses = [1 / (rate * 1e5) + drop for rate in rates for drop in drops]
    (said,) = search_edges(searched(values, losses))  # a dropout of 0 is no edge
    assert "learning_rate: the best value, 0.01, is the highest that was tried (0.0001 to 0.01)" in said
    diverged = [None if one["learning_rate"] == 1e-2 else loss for one, loss in zip(values, losses, strict=True)]
    assert search_edges(searched(values, diverged)) == []  # the highest was tried, and was too high


def test_halving_compares_only_what_was_trained_as_long():
    values = [{"learning_rate": rate} for rate in (1e-4, 1e-3, 1e-2, 1e-1)]
    losses, epochs = [0.1, 0.5, 0.4, 0.6], [1, 4, 4, 4]
    assert search_edges(searched(values, losses, epochs, "halving")) == []
    assert "lowest" in search_edges(searched(values, losses, epochs, "grid"))[0]
