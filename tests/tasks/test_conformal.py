"""Which tasks state how strange an answer would be, and that the scores order classes as their formulas do."""

import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.tasks import TASKS, Classification, MultiLabel, Regression


def test_scores_of_classes():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * 3
    p = Classification(tuple("abcd")).probabilities(logits)
    found = Classification.CONFORMAL["probability"].candidates(logits)
    np.testing.assert_array_equal(np.argsort(found, axis=None), np.argsort(1 - p, axis=None))
    found = Classification.CONFORMAL["adaptive"].candidates(logits)
    for row, chances in zip(found, p, strict=True):
        expected = [chances[chances > own].sum() for own in chances]
        np.testing.assert_allclose(row, expected, atol=1e-12)
    np.testing.assert_array_equal(found[np.arange(50), p.argmax(1)], 0)  # whatever rounding does, it is in all sets


def test_probabilities_that_round_to_one_are_told_apart():
    found = Classification.CONFORMAL["probability"].candidates(np.float32([[0, 60], [0, 80]]))
    assert found[1, 1] < found[0, 1] < 0 < found[0, 0] < found[1, 0]


def test_numbers_have_a_centre():
    np.testing.assert_array_equal(Regression().conformal().centres(np.float32([[1], [3]])), [1, 3])


def test_tasks_without_a_score_say_why():
    with pytest.raises(InputError, match=r"multilabel.*FILE.csv:LABEL"):
        MultiLabel(("a", "b")).conformal()
    with pytest.raises(InputError, match=r"unknown score 'adaptve'.*'adaptive'"):
        Classification(("a", "b")).conformal("adaptve")
    assert all(kind.CONFORMAL or kind.NOT_CONFORMAL for kind in TASKS.values())


def test_a_task_that_predicts_otherwise_states_its_own_scores():
    class Scaled(Regression):
        def predict(self, outputs, constants):
            return {"number": outputs}

    class Stated(Scaled):
        CONFORMAL = Regression.CONFORMAL

    with pytest.raises(InputError, match="Scaled has a predict of its own"):
        Scaled().conformal()
    assert Stated().conformal() is Regression().conformal()
