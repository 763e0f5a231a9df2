"""Predictions of examples that a network was trained on, and of new ones: scored apart, by command and in Python."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
from command_line import jaxdl_command, read_csv
from sklearn.metrics import accuracy_score, log_loss

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TablePreprocessing

NAMES = ("low", "high")
COUNT = 30


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(0)
    return random.normal(size=(COUNT, 3)).astype(np.float32), random.integers(0, 2, COUNT)


@pytest.fixture(scope="module")
def network(examples):
    """Of random weights; its card says nothing of what it was trained on."""
    spec = TablePreprocessing((3,), (0.0,) * 3, (1.0,) * 3)
    return jaxdl.from_model(jaxdl.create("mlp", 2, hidden=(4,)), spec, NAMES, 1)


def trained_on(network, source, rows, columns=None):
    card = dataclasses.replace(network.card, columns=columns).with_seen(source.hashes()[rows])
    return dataclasses.replace(network, card=card)


def scores_by_hand(network, examples, rows):
    x, y = examples
    logits = np.asarray(network.model.apply(network.variables, x[rows]), np.float64)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return {
        "accuracy": accuracy_score(y[rows], logits.argmax(1)),
        "loss": log_loss(y[rows], chances / chances.sum(1, keepdims=True), labels=[0, 1]),
    }


@pytest.mark.parametrize("count", [0, 10, COUNT])
def test_scores_are_of_what_the_network_was_not_trained_on(network, examples, count):
    source = data.arrays(*examples, class_names=NAMES)
    seen = np.arange(COUNT) < count
    predictions = jaxdl.predict(trained_on(network, source, seen), source)
    np.testing.assert_array_equal(predictions.seen, seen)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        scores, accuracy = predictions.scores, predictions.accuracy
    assert len(said) == (2 if count else 0)
    counted = ~seen if count < COUNT else seen
    expected = scores_by_hand(network, examples, counted)
    assert scores == pytest.approx(expected, rel=1e-5)
    assert accuracy == pytest.approx(expected["accuracy"])
    assert predictions.scores_of(seen | True) == pytest.approx(scores_by_hand(network, examples, seen | True), rel=1e-5)


def test_a_card_without_a_list_says_nothing(network, examples):
    assert jaxdl.predict(network, data.arrays(*examples, class_names=NAMES)).seen is None
    unlabelled = trained_on(network, data.arrays(*examples, class_names=NAMES), [0])
    assert jaxdl.predict(unlabelled, data.arrays(examples[0])).seen is None


def test_columns_in_another_order_are_the_same_examples(network, examples):
    x, y = examples
    stored = dataclasses.replace(data.arrays(x, y, class_names=NAMES), columns=("a", "b", "c"))
    turned = stored.with_columns(("c", "b", "a"))
    one, two = (trained_on(network, stored, rows, stored.columns) for rows in ([0, 1], [2]))
    np.testing.assert_array_equal(np.flatnonzero(jaxdl.predict(one, turned).seen), [0, 1])
    together = jaxdl.ensemble([one, two])
    np.testing.assert_array_equal(np.flatnonzero(together.seen(turned).any(0)), [0, 1, 2])


@pytest.mark.parametrize("count", [0, 10, COUNT, None])
def test_the_command_leads_with_the_new_examples(network, examples, tmp_path, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    np.savez("all.npz", x=examples[0], y=examples[1], class_names=NAMES)
    source = data.npz("all.npz")
    seen = np.arange(COUNT) < (count or 0)
    jaxdl.save(network if count is None else trained_on(network, source, seen), "net")
    said = jaxdl_command("predict --checkpoint net --data all.npz --out p.csv")
    lines = [line for line in said.splitlines() if "accuracy" in line]
    told = [float(number) for line in lines for number in re.findall(r"accuracy ([\d.]+)", line)]
    parts = [part for part in ((~seen, seen) if count else (~seen,)) if part.any()]
    assert told == pytest.approx([scores_by_hand(network, examples, part)["accuracy"] for part in parts], abs=1e-4)
    assert ("No example is new" in said) == (count == COUNT)
    assert ("does not list" in said) == (count is None)
    for part, line in zip(parts, lines, strict=True):
        assert not count or f"({part.sum()} examples" in line
    rows = read_csv("p.csv")
    assert [row.get("trained on") for row in rows] == [("yes" if s else "no") if count else None for s in seen]
