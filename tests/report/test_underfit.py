"""The sign of a training that ended too early."""

import dataclasses

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.report.underfit import underfit

DIGITS = data.subset(data.digits(range(4)), np.arange(160))
PLAN = jaxdl.Plan(epochs=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def brief():
    return jaxdl.cross_validate(jaxdl.create("mlp", 4, hidden=(64,)), DIGITS, PLAN, folds=2)


def test_a_brief_training_is_said_to_be_one(brief):
    assert "trained too little" in underfit(brief)
    assert "jaxdl probe" not in underfit(brief)  # nothing was frozen
    assert "jaxdl probe" in underfit(dataclasses.replace(brief, cached=True))


def test_a_longer_one_is_not_and_it_is_better(brief):
    longer = dataclasses.replace(PLAN, epochs=40, learning_rate=1e-2)
    result = jaxdl.cross_validate(jaxdl.create("mlp", 4, hidden=(64,)), DIGITS, longer, folds=2)
    assert underfit(result) is None
    assert result.mean > brief.mean


@pytest.mark.parametrize("option", [{"label_smoothing": 0.1}, {"augment": ["mixup"]}])
def test_what_flattens_probabilities_by_itself_is_no_sign(brief, option):
    assert underfit(dataclasses.replace(brief, plan={**brief.plan, **option})) is None
