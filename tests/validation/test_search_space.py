"""The space of a search, and the rules by which a configuration is chosen."""

import dataclasses

import numpy as np
import pytest

import jaxdl
from jaxdl import Choice, LogUniform, Uniform, data
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.validation.search.configurations import configure, group
from jaxdl.validation.search.selection import Standing, halving_rungs, select
from jaxdl.validation.search.space import make_space, parse_space, propose

MODEL = jaxdl.create("mlp", 3, hidden=(8, 8))
SOURCE = data.subset(data.digits(range(3)), np.arange(40))
PLAN = jaxdl.Plan(epochs=2)
TASK = choose_task(SOURCE, purpose="a test")


def test_the_command_line_is_read():
    words = "learning_rate=log:1e-4:1e-1 weight_decay=0,1e-4,1e-2 freeze_through=none,layer1 label_smoothing=0:0.2:3"
    space = parse_space([*words.split(), "stage_lr.head=1,3", 'augment=[[],["flip"]]'])
    assert space == {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "weight_decay": Choice((0, 1e-4, 1e-2)),
        "freeze_through": Choice((None, "layer1")),
        "label_smoothing": Uniform(0, 0.2, 3),
        "stage_lr.head": Choice((1, 3)),
        "augment": Choice(([], ["flip"])),
    }


def test_what_is_trained_is_a_choice():
    words = ["train=all,biases", "adapter=none,lora:2,lora:4", 'freeze_through=["layer1"]']
    space = make_space(parse_space(words), MODEL)
    assert space["adapter"] == Choice((None, "lora:2", "lora:4"))
    assert parse_space(['adapter=["lora:2:layer1,layer2"]']) == {"adapter": Choice(("lora:2:layer1,layer2",))}
    made = configure(propose(space, "grid", None, 0), MODEL, PLAN, SOURCE, TASK)
    assert {(one.plan.train, one.plan.adapter) for one in made} == {
        (train, adapter) for train in ("all", "biases") for adapter in (None, "lora:2", "lora:4")
    }
    # with or without an adapter, all or biases; ranks are numbers of one program, made for the largest
    groups = group(made)
    assert sorted(len(g.configurations) for g in groups) == [1, 1, 2, 2]
    assert {g.first.plan.adapter for g in groups} == {None, "lora:4"}


def test_a_file_is_read(tmp_path):
    (tmp_path / "space.json").write_text('{"learning_rate": "log:1e-3:1e-1:3", "weight_decay": [0, 0.1]}')
    found = parse_space([str(tmp_path / "space.json")])
    assert found == {"learning_rate": LogUniform(1e-3, 1e-1, 3), "weight_decay": Choice((0, 0.1))}
    (tmp_path / "space.json").write_text("[1]")
    with pytest.raises(InputError, match="no JSON object"):
        parse_space([str(tmp_path / "space.json")])
    with pytest.raises(InputError, match="neither NAME=VALUES nor a JSON file"):
        parse_space(["nothing.json"])


def test_grids_and_draws():
    space = make_space({"learning_rate": LogUniform(1e-4, 1e-2, 3), "epochs": "2:6:3", "weight_decay": [0, 0]}, MODEL)
    grid = propose(space, "grid", None, 0)
    assert [g["learning_rate"] for g in grid[::3]] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert [g["epochs"] for g in grid[:3]] == [2, 4, 6]
    assert len(grid) == 9
    drawn = propose(space, "random", 400, 0)
    assert drawn == propose(space, "random", 400, 0) != propose(space, "random", 400, 1)
    logs = np.log10([d["learning_rate"] for d in drawn])
    assert np.histogram(logs, 4, (-4, -2))[0].min() > 70  # spread evenly
    assert {d["epochs"] for d in drawn} == {2, 3, 4, 5, 6}
    few = make_space({"optimizer": ["sgd", "adam"], "weight_decay": [0, 1]}, MODEL)
    assert len(propose(few, "random", 3, 0)) == 3
    assert len(propose(few, "random", 99, 0)) == 4


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rat": [1]}, "Did you mean 'learning_rate'"),
        ({"dropout": [0.1]}, "Did you mean 'model.dropout'"),
        ({"stage_lr.haed": [1]}, "Did you mean 'stage_lr.head'"),
        ({"model.droput": [1]}, "Did you mean 'model.dropout'"),
        ({"seed": [1, 2]}, "seeds=3"),
        ({"weight_decay": []}, "no values"),
        ({"weight_decay": ""}, "no values"),
        ({"weight_decay": 3}, "expected a list"),
        ({}, "the space is empty"),
        ({"learning_rate": "log:1e-1:1e-4"}, "no range"),
        ({"learning_rate": "log:0:1"}, "above 0"),
        ({"learning_rate": "log:a:b"}, "no range"),
        ({"label_smoothing": "0.3:0.1"}, "no range"),
        ({"label_smoothing": "0:0.1:1"}, "at least 2"),
        ({"model": ["mlp"], "init": ["x"]}, "one of the two"),
    ],
)
def test_mistakes_in_the_space_are_named(space, said):
    with pytest.raises(InputError, match=said):
        make_space(space, MODEL)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected more than 0"),
        ({"learning_rate": "fast"}, "learning_rate=fast"),
        ({"optimizer": "sgdd"}, "Did you mean 'sgd'"),
        ({"train": "bias"}, "Did you mean 'biases'"),
        ({"adapter": "lora:none"}, "adapter=lora:none"),
        ({"freeze_through": "layer3"}, "Did you mean 'layer"),
        ({"freeze_through": "layer1", "stage_lr.layer1": 3.0}, "frozen"),
        ({"model.dropout": 1.5}, "dropout"),
        ({"model": "mpl"}, "Did you mean 'mlp'"),
    ],
)
def test_configurations_that_cannot_be_are_named(values, said):
    with pytest.raises(InputError, match=said):
        configure([values], MODEL, PLAN, SOURCE, TASK)


def test_mistakes_in_the_search_are_named():
    space = {"learning_rate": [1e-3, 1e-2]}
    for options, said in (
        (dict(strategy="gird"), "grid"),
        (dict(selection="bset"), "Did you mean 'best'"),
        (dict(strategy="random"), "needs trials"),
        (dict(trials=3), "all combinations"),
        (dict(seeds=0), "seeds is 0"),
        (dict(inner_folds=30), "outer fold 0 cannot be divided"),
        (dict(strategy="halving", eta=1), "eta is 1"),
    ):
        with pytest.raises(InputError, match=said):
            jaxdl.search(MODEL, SOURCE, PLAN, space, jaxdl.Searching(**options), folds=2)
    with pytest.raises(InputError, match="memory is 0"):
        jaxdl.Execution(memory=0)
    with pytest.raises(InputError, match="halving goes over epochs"):
        jaxdl.search(MODEL, SOURCE, PLAN, {"epochs": [1, 2]}, jaxdl.Searching(strategy="halving"))
    with pytest.raises(InputError, match="leave early_stopping out"):
        jaxdl.search(MODEL, SOURCE, jaxdl.Plan(early_stopping=2), space, jaxdl.Searching(strategy="halving"))


def test_numbers_share_a_program_and_shapes_do_not():
    drawn = [
        {"learning_rate": rate, "freeze_through": stage, "model.dropout": dropout, "stage_lr.head": 2.0}
        for rate in (1e-3, 1e-2)
        for stage in (None, "layer1")
        for dropout in (0.0, 0.5)
    ]
    groups = group(configure(drawn, MODEL, PLAN, SOURCE, TASK))
    assert [[one.number for one in g.configurations] for g in groups] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    rates = [float(groups[0].traced(one).dropout) for one in groups[0].configurations]
    assert rates == [0.0, 0.5, 0.0, 0.5]
    assert groups[0].traced(groups[0].first).stage_lr == {"head": np.float32(2.0)}


def standing(values):
    values = np.array(values, float)
    return Standing(list(range(len(values))), values, -values.mean(1))


def test_the_rule_of_one_standard_error_by_hand():
    """Means 0.9 ± 0.1/√… of the best: 0.8 is within, 0.7 is not; of those within, the stronger decay is simpler."""
    drawn = [{"weight_decay": decay} for decay in (0.0, 0.1, 1.0, 10.0)]
    configurations = configure(drawn, MODEL, PLAN, SOURCE, TASK)
    found = standing([[0.7, 0.9, 1.1], [0.8, 0.8, 0.8], [0.79, 0.79, 0.79], [0.6, 0.6, 0.6]])
    assert found.errors[0] == pytest.approx(0.2 / np.sqrt(3))  # so that the limit is 0.7845
    assert select(found, configurations, "best") == 0
    assert select(found, configurations, "one-se") == 2
    certain = standing([[0.9, 0.9, 0.9], [0.8, 0.8, 0.8], [0.79, 0.79, 0.79], [0.6, 0.6, 0.6]])
    assert select(certain, configurations, "one-se") == 0


def test_what_is_simpler():
    base = {"learning_rate": 1e-2, "freeze_through": None, "weight_decay": 0.0, "label_smoothing": 0.0}
    equal = standing([[0.5, 0.5]] * 2)
    for simpler in (
        {"freeze_through": "layer1"},
        {"weight_decay": 0.1},
        {"learning_rate": 1e-3},
        {"label_smoothing": 0.1},
        {"model.dropout": 0.5},
        {"epochs": 1},
        {"stage_lr.head": 0.5},
    ):
        dull = {"model.dropout": 0.0, "epochs": 2, **base}
        if "stage_lr.head" in simpler:
            dull["stage_lr.head"] = 2.0
        configurations = configure([dull, {**dull, **simpler}], MODEL, PLAN, SOURCE, TASK)
        assert select(equal, configurations, "one-se") == 1, simpler
    configurations = configure(
        [{"model": "mlp", "freeze_through": "layer1"}, {"model": "mlp"}], MODEL, PLAN, SOURCE, TASK
    )
    assert configurations[0].trained < configurations[1].trained == configurations[1].parameters


def test_equal_means_are_told_apart_by_the_loss():
    configurations = configure([{"weight_decay": d} for d in (0.0, 0.1)], MODEL, PLAN, SOURCE, TASK)
    found = dataclasses.replace(standing([[0.5, 0.5]] * 2), losses=np.array([0.7, 0.6]))
    assert select(found, configurations, "best") == 1
    diverged = dataclasses.replace(standing([[np.nan, 1.0], [0.1, 0.1]]), losses=np.array([np.nan, 3.0]))
    assert select(diverged, configurations, "best") == 1


def test_rungs():
    assert halving_rungs(9, 9, 3) == [(1, 3), (3, 1), (9, 1)]
    assert halving_rungs(27, 20, 3) == [(2, 9), (7, 3), (20, 1)]
    assert halving_rungs(1, 20, 3) == [(20, 1)]
    assert halving_rungs(8, 1, 2) == [(1, 4)]
