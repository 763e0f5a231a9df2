"""Trainings share their programs where, and only where, these are the same."""

import dataclasses
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.parallel.executor import on_one_device
from jaxdl.tasks import Classification
from jaxdl.tasks.metric import Mean
from jaxdl.training import runners
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.traced_hyperparameters import traced_hyperparameters
from jaxdl.training.transfer import of_run

SOURCE = data.subset(data.digits(range(3)), np.arange(40))
PART = np.arange(len(SOURCE))
TASK = Classification(SOURCE.class_names)
MODEL = jaxdl.create("mlp", 3, hidden=(8,), dropout=0.1)
PLAN = jaxdl.Plan(epochs=4, batch_size=16, freeze_through="layer1", unfreeze_every=2)
# another value of every field
OTHERS = {
    "freeze_through": None,
    "train": "biases",
    "adapter": "lora:2",
    "unfreeze_every": 3,
    "stage_lr": {"head": 2.0},
    "cache_features": False,
    "epochs": 5,
    "batch_size": 8,
    "optimizer": "sgd",
    "learning_rate": 3e-3,
    "schedule": "constant",
    "warmup_epochs": 1.0,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "precision": "bfloat16",
    "accumulate": 2,
    "augment": ("crop",),
    "ema": 0.9,
    "class_weights": "balanced",
    "early_stopping": 2,
    "inner_fraction": 0.3,
    "eval_every": 2,
    "seed": 1,
}
NEVER = {"learning_rate", "weight_decay", "clip_norm", "seed", "eval_every", "inner_fraction"}


def setup_of(plan, model=MODEL, task=TASK):
    setup = prepare(model, SOURCE, plan, [PART], task)
    return dataclasses.replace(setup, numbers={0: traced_hyperparameters(plan, plan.stage_lr)})


def written(setup):
    """The program of a step and of a prediction as JAX writes it down."""
    made = training_batches([PART], 16, 0, [0], 0)[0]
    arguments = (of_run(setup.states([0]), 0), Batch(made.indices[0], made.weights[0]), setup.shared)
    programs = [str(jax.make_jaxpr(one)(*arguments)) for one in (setup.make_step(), setup.make_predict())]
    return [re.sub(r"0x[0-9a-f]+", "", program) for program in programs]


def test_every_field_has_another_value_here():
    elsewhere = {"loss_function", "group_by_length"}  # of masks, and of sequences
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(jaxdl.Plan)} - elsewhere


FEW = ("learning_rate", "stage_lr", "epochs", "adapter", "ema", "augment")


@pytest.mark.parametrize("field", [pytest.param(f, marks=[] if f in FEW else pytest.mark.slow) for f in OTHERS])
def test_an_equal_recipe_is_an_equal_program(field):
    changed = {field: OTHERS[field]} | ({"unfreeze_every": None} if field == "freeze_through" else {})
    one, other = setup_of(PLAN), setup_of(dataclasses.replace(PLAN, **changed))
    if one.recipe() == other.recipe():
        assert hash(one.recipe()) == hash(other.recipe())
        # what the state holds is an argument: another structure of it is another program of the same function
        if jax.tree.structure(one.states([0])) == jax.tree.structure(other.states([0])):
            assert written(one) == written(other)
    else:
        assert field not in NEVER


@pytest.mark.slow
def test_the_next_training_of_a_grid_compiles_nothing_and_gives_what_it_gives_alone():
    def train(rate, decay):
        plan = dataclasses.replace(PLAN, learning_rate=rate, weight_decay=decay)
        return jaxdl.finetune(MODEL, SOURCE, plan)

    runners.make_runner.cache_clear()
    alone = train(0.02, 0.1)
    runners.make_runner.cache_clear()
    train(1e-3, 0.0)
    misses = runners.make_runner.cache_info().misses
    next_one = train(0.02, 0.1)
    assert runners.make_runner.cache_info().misses == misses
    jax.tree.map(np.testing.assert_array_equal, next_one.variables, alone.variables)
    assert next_one.history == alone.history


def test_metrics_of_one_name_that_read_other_things_do_not_share():
    """A task is equal to one with other metrics of the user's."""
    made = []
    for key in ("brier", "confidence"):
        metric = Mean("mine", value=key, reads=(key,))
        found = jaxdl.cross_validate(MODEL, SOURCE, jaxdl.Plan(epochs=1), metrics=metric, folds=2)
        made.append(found.mean)
    assert made[0] != made[1]


def test_a_model_that_cannot_be_compared_gets_programs_of_its_own():
    one = setup_of(PLAN).recipe()
    assert runners.make_runner(on_one_device(), one, False) is runners.make_runner(on_one_device(), one, False)
    for model in (MODEL.clone(hidden=[8]), jaxdl.wrap(Listed([8]), "Dense_1")):
        loose = dataclasses.replace(one, model=model)
        with pytest.raises(TypeError):
            hash(loose)
        first, second = (runners.make_runner(on_one_device(), loose, False) for _ in range(2))
        assert first is not second


class Listed(nn.Module):
    widths: list

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for width in self.widths:
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(3)(x)
