"""Which devices are used for what, as far as no device is needed; with eight: `eight/test_layouts.py`."""

import json

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command

import jaxdl
from jaxdl import Layout, data
from jaxdl.errors import InputError
from jaxdl.parallel.layout import parse_mesh
from jaxdl.training.resume import DRAWS
from jaxdl.training.transfer import describe_run

EIGHT = tuple(range(8))


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr("jax.local_devices", lambda: list(EIGHT))


def shape(executor):
    return executor.fold, executor.data, executor.model, executor.pmap


@pytest.mark.parametrize(
    ("layout", "one", "four"),
    [
        (Layout(), (1, 8, 1, False), (4, 2, 1, False)),
        (Layout(devices=4), (1, 4, 1, False), (4, 1, 1, False)),
        (Layout(parallel="pmap"), (1, 8, 1, True), None),
        (Layout(devices=2, parallel="folds"), (1, 2, 1, False), (2, 1, 1, False)),
        (Layout(mesh={"fold": 2, "data": 2}), (1, 4, 1, False), (2, 2, 1, False)),
    ],
)
def test_devices_and_mesh_give_the_executors(layout, one, four, eight):
    assert shape(layout.executor()) == one
    if four:
        assert shape(layout.executor_of_runs(4)) == four


def test_runs_come_in_multiples_of_what_they_are_laid_over(eight):
    assert Layout().parts(3) == 3
    assert Layout().parts(20) == 8
    assert Layout(mesh={"fold": 4, "data": 2}).parts(3) == 4


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"devices": 0}, "devices is 0"),
        ({"devices": "auto"}, "devices is 'auto'"),
        ({"parallel": "mapp"}, "Did you mean 'pmap'"),
        ({"mesh": {"folds": 2}}, "Did you mean 'fold'"),
        ({"mesh": {"fold": 0}}, "fold=0"),
        ({"devices": 8, "mesh": {"fold": 3, "data": 2}}, "fold=3,data=2 has 6 devices, but devices is 8"),
        ({"parallel": "pmap", "mesh": {"fold": 4, "data": 2}}, "pmap.*fold=4,data=2.*leave fold out"),
        ({"parallel": "pmap", "mesh": {"data": 4, "model": 2}}, "pmap.*leave model out"),
        ({"parallel": "data", "mesh": {"fold": 8}}, "data.*leave fold out"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(options, named):
    with pytest.raises(InputError, match=named):
        Layout(**options)


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        (Layout(devices=9), "devices is 9, but this process has 8"),
        (Layout(mesh={"fold": 3, "data": 4}), "fold=3,data=4 needs 12 devices, but this process has 8"),
    ],
)
def test_more_devices_than_there_are_are_refused(layout, named, eight):
    for ask in (layout.executor, lambda: layout.executor_of_runs(3)):
        with pytest.raises(InputError, match=named):
            ask()


@pytest.mark.parametrize("given", ["fold=4;data=2", "fold", "fold=two", "fold=2,fold=2", ""])
def test_a_mesh_that_cannot_be_read(given):
    with pytest.raises(InputError, match="fold=4,data=2"):
        parse_mesh(given)
    assert parse_mesh("fold=4,data=2") == {"fold": 4, "data": 2}


def test_several_trainings_at_once_or_in_turn_as_is_asked_for():
    source, plan = data.subset(data.digits(range(3)), np.arange(60)), jaxdl.Plan(epochs=1)
    model = jaxdl.create("mlp", 3, hidden=(4,))

    def strategy(name="auto", **layout):
        execution = jaxdl.Execution(layout=Layout(**layout), fold_strategy=name)
        return jaxdl.cross_validate(model, source, plan, folds=2, execution=execution).fold_strategy

    for layout in ({"parallel": "data"}, {"parallel": "pmap"}, {"mesh": {"data": 1}}):
        assert strategy(**layout)["name"] == "loop"
        with pytest.raises(InputError, match=r"one fold at a time.*'shard'"):
            strategy("shard", **layout)
    told = strategy(parallel="folds")
    assert told["name"] == "shard"
    assert "folds" in told["reason"]
    with pytest.raises(InputError, match=r"folds.*fold_strategy='vmap'"):
        strategy("vmap", parallel="folds")


def test_only_what_pmap_draws_is_of_the_numbers(monkeypatch):
    """A run begun with dropout under pmap is another run on other devices; one without is not."""
    source, task = data.digits(range(3)), jaxdl.Classification(("0", "1", "2"))

    def told(layout, dropout=0.0, **plan):
        model = jaxdl.create("mlp", 3, hidden=(4,), dropout=dropout)
        return describe_run(model, source, jaxdl.Plan(**plan), task, jaxdl.Execution(layout=layout)).get(DRAWS)

    pmap, count = Layout(parallel="pmap"), jax.local_device_count()
    assert told(Layout(), dropout=0.5) is told(pmap) is None
    assert told(pmap, dropout=0.5) == told(pmap, augment="crop") == f"by each of {count} devices"


def test_a_run_of_an_earlier_release_goes_on(tmp_path):
    """Its plan said how a batch is divided; that is not asked any more, except where every device drew for itself."""
    command = f"pretrain --model mlp --data digits --epochs 1 --out {tmp_path / 'run'}"
    jaxdl_command(command)
    file = tmp_path / "run" / "run.json"
    known = json.loads(file.read_text())
    assert "parallel" not in known["settings"]["plan"]
    known["settings"]["plan"]["parallel"] = "jit"
    file.write_text(json.dumps(known))
    assert "is finished" in jaxdl_command(command)
    known["settings"]["plan"]["parallel"] = "pmap"
    file.write_text(json.dumps(known))
    assert "draws: by each device then, None now" in call(command)[2]


def test_options_reach_the_executor(tmp_path, monkeypatch):
    asked = []
    executor = Layout.executor
    monkeypatch.setattr(Layout, "executor", lambda self, *given: asked.append(self) or executor(self, *given))
    out = tmp_path / "made"
    jaxdl_command(f"pretrain --model mlp --data digits --epochs 1 --devices 1 --parallel pmap --out {out}")
    assert asked[0] == Layout(1, "pmap")
    asked.clear()
    jaxdl_command(f"predict --checkpoint {out} --data digits --mesh data=1 --out {tmp_path / 'said.csv'}")
    assert asked == [Layout(mesh={"data": 1})]


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("pretrain --model mlp --data digits --devices 64 --out new", "devices is 64, but this process has"),
        ("pretrain --model mlp --data digits --devices few --out new", "--devices is 'few'"),
        ("pretrain --model mlp --data digits --parallel folds --out new", "pretrain is one"),
        ("predict --checkpoint made --data digits --parallel pmap --out new.csv", "give --devices alone"),
    ],
)
def test_options_that_cannot_be_are_refused(command, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = call(command)
    assert code == 2
    assert named in " ".join(said.split())
    assert not (tmp_path / "new").exists()
