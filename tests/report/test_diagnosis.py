"""What went wrong in a training is read from what it recorded, before any advice is given."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.report.activity import stage_activity
from jaxdl.report.diagnosis import diagnose, evidence_of, judge_dead, judge_gradients, judge_rate, why_ended
from jaxdl.report.network import dead_in_first_fold, dead_units

DIGITS = data.subset(data.digits(range(4)), np.arange(160))
PLAN = jaxdl.Plan(epochs=3, learning_rate=1e-3)


@pytest.fixture(scope="module")
def brief():
    return jaxdl.cross_validate(jaxdl.create("mlp", 4, hidden=(64,)), DIGITS, PLAN, folds=2)


def test_a_brief_training_is_said_to_be_one(brief):
    assert "trained too little" in diagnose(brief)
    assert "jaxdl probe" not in diagnose(brief)  # nothing was frozen
    frozen = diagnose(dataclasses.replace(brief, cached=True))
    assert "jaxdl probe" in frozen
    assert "trained too little" not in frozen  # the body is as it was asked to be


def test_a_longer_one_is_not_and_it_is_better(brief):
    longer = dataclasses.replace(PLAN, epochs=40, learning_rate=1e-2)
    result = jaxdl.cross_validate(jaxdl.create("mlp", 4, hidden=(64,)), DIGITS, longer, folds=2)
    assert diagnose(result) is None
    assert result.mean > brief.mean


@pytest.mark.parametrize("option", [{"label_smoothing": 0.1}, {"augment": ["mixup"]}])
def test_what_flattens_probabilities_by_itself_is_no_sign(brief, option):
    assert diagnose(dataclasses.replace(brief, plan={**brief.plan, **option})) is None


# The cause is read before the advice is given


def with_curves(result, losses, norms=None):
    rows = [
        {
            "fold": fold,
            "epoch": i + 1,
            "train_loss": loss,
            "stage_grad_norms": {stage: values[i] for stage, values in (norms or {}).items()},
        }
        for fold in range(2)
        for i, loss in enumerate(losses)
    ]
    return dataclasses.replace(result, curves=rows, plan={**result.plan, "epochs": len(losses)})


def test_dead_units_come_before_everything_else(brief):
    said = diagnose(brief, {"layer1": 0.97, "layer2": 0.1})
    assert "layer1 (97 %)" in said
    assert "layer2" not in said
    assert "trained too little" not in said
    assert "a lower learning_rate" in said
    assert diagnose(brief, {"layer1": 0.2}) == diagnose(brief)


def test_a_network_that_is_dead_is_found_and_no_larger_rate_is_advised(brief):
    """Every ReLU of its layer is below zero for all examples, so that it says the same of all."""
    model = jaxdl.create("mlp", 4, hidden=(8,))
    made = jaxdl.from_model(model, ImagePreprocessing((8, 8, 1), (0.5,), (0.2,)), DIGITS.class_names)
    params = jax.tree.map(np.array, made.variables["params"])
    for leaves in params["layer1"].values():
        if "bias" in leaves:
            leaves["bias"] -= 1e3
    network = dataclasses.replace(made, variables={**made.variables, "params": params})
    images = made.card.preprocessing.network_input(made.card.preprocessing.load(data.subset(DIGITS, np.arange(9))))
    found = [stage_activity(network.model, network.variables, images)]
    dead = dead_units(found)
    assert dead == {"layer1": 1.0}
    norms = {"layer1": np.zeros(3), "head": np.ones(3)}
    for said in (judge_dead(dead), judge_gradients(norms, dead)):
        assert "layer1 (100 %)" in said
        assert "larger stage_lr" not in said
    kept = dataclasses.replace(brief, models=[network, network])
    assert dead_in_first_fold(kept, DIGITS) == {"layer1": 1.0}
    assert dead_in_first_fold(brief, DIGITS) is None
    assert "larger learning rate (" in diagnose(brief)  # what would have been advised
    assert "larger learning rate (" not in diagnose(kept, dead_in_first_fold(kept, DIGITS))
    assert dead_units([stage_activity(made.model, made.variables, images)])["layer1"] < 0.9


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2.0, 1.0, 0.5, 0.9], "rose again, from 0.5 to 0.9"),
        ([1.0, 0.6, 0.9, 0.5, 0.8, 0.4, 0.55], "rose in 3 of 6 epochs"),
    ],
)
def test_a_rate_that_is_too_high_is_read_from_the_losses(brief, losses, said):
    found = diagnose(with_curves(brief, losses))
    assert said in found
    assert "larger learning rate" not in found
    assert judge_rate(evidence_of(with_curves(brief, losses).curves)) == found


def test_exploding_gradients_are_told_from_the_norms(brief):
    grown = with_curves(brief, [2.0, 1.9, 1.8], {"layer1": [1.0, 50.0, 200.0], "head": [1.0, 1.0, 1.0]})
    assert "Exploding: the gradient of layer1" in diagnose(grown)


def test_a_training_that_was_done_is_not_told_to_go_on(brief):
    """The same signs, but the second half brought nothing: more epochs are no remedy."""
    loss = float(np.mean([row["loss"] for row in brief.folds]))
    done = diagnose(with_curves(brief, [2 * loss, 1.01 * loss, loss, loss, loss, loss]))
    assert "More epochs alone will not help" in done
    assert "trained too little" not in done
    falling = diagnose(with_curves(brief, [2 * loss, 1.8 * loss, 1.6 * loss, 1.4 * loss, 1.2 * loss, loss]))
    assert "still falling" in falling


def test_curves_say_why_they_end(brief):
    plan = {"epochs": 6, "early_stopping": None}
    rows = with_curves(brief, [2.0, 1.5, 1.2, 1.0, 0.9, 0.8]).curves
    assert "after 6 epochs, as the plan says" in why_ended(rows, plan)
    assert "still falling" in why_ended(rows, plan)
    flat = with_curves(brief, [2.0, 1.0, 0.5, 0.5, 0.5, 0.5]).curves
    assert "hardly fell" in why_ended(flat, plan)
    stopped = [row for row in rows if row["epoch"] <= 4 + row["fold"]]
    said = why_ended(stopped, {"epochs": 6, "early_stopping": 2})
    assert "2 of 2 trainings ended before epoch 6 (after 4 to 5)" in said
    assert why_ended([], plan) == ""
