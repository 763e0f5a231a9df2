"""A user's own model goes through all that one of ours goes through."""

import dataclasses
import pickle
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from command_line import jaxdl_command, refused
from interruptions import run_to_the_end
from own_models import SOURCE, MyNet, preprocessing, wrapped
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.models.layers import Head
from jaxdl.models.variables import walk_shapes
from jaxdl.sklearn import TransferClassifier
from jaxdl.tasks import choose_task
from jaxdl.validation.search.configurations import configure, group
from jaxdl.validation.search.space import make_space, propose

PLAN = jaxdl.Plan(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.05)
MODELS = {"Net": wrapped(), "MyNet": MyNet(3)}
OTHERS = data.digits(range(3, 6))
OTHERS = data.subset(OTHERS, np.arange(45))


# A wrapped module compiles longest; where both do the same, a plain run has one of them.
QUICK = pytest.mark.parametrize("name", [pytest.param("Net", marks=pytest.mark.slow), "MyNet"])


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def parents():
    made = {}
    for name, model in MODELS.items():
        made[name] = jaxdl.pretrain(model, SOURCE, PLAN)
    return made


def same(one, other, atol=0.0):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


@pytest.mark.parametrize("freeze", [pytest.param(None, marks=pytest.mark.slow), "first", "body"])
def test_folds_give_the_same_in_turn_and_side_by_side(parents, name, freeze):
    parent = parents[name]
    stage = parent.model.stage_names[0] if freeze == "first" else freeze
    plan = dataclasses.replace(PLAN, freeze_through=stage)

    def run(strategy):
        execution = jaxdl.Execution(fold_strategy=strategy, keep_models=True)
        return jaxdl.cross_validate(parent, OTHERS, plan, folds=3, execution=execution)

    loop, vmap = run("loop"), run("vmap")
    # a wrapped module is only cut before its head
    assert loop.cached == (freeze == "body" or (freeze == "first" and name == "MyNet"))
    assert loop.model["name"] == name
    same(loop.out_of_fold.kept, vmap.out_of_fold.kept, 1e-5)
    for one, other in zip(loop.models, vmap.models, strict=True):
        same(one.variables, other.variables, 1e-5)
    averaged = jaxdl.ensemble(loop).predict(OTHERS)
    assert np.isfinite(averaged.outputs).all()


@pytest.mark.slow
def test_a_search_a_probe_and_features(parents, name):
    parent = parents[name]
    first = parent.model.stage_names[0]
    space = {"learning_rate": jaxdl.Choice((0.01, 0.1)), f"stage_lr.{first}": jaxdl.Choice((0.1, 1.0))}
    found = jaxdl.search(parent, OTHERS, PLAN, space, folds=2)
    assert np.isfinite(found.result.mean)
    assert len(found.configurations) == 4
    probed = jaxdl.probe_checkpoint(parent, OTHERS, folds=3)
    assert probed.settings["stage"] == parent.model.stage_names[-2]
    features = jaxdl.extract_features(parent, OTHERS)
    x = parent.card.preprocessing.network_input(OTHERS.x)
    np.testing.assert_allclose(features, parent.model.apply(parent.variables, x, stop="head"), atol=1e-6)
    put = jaxdl.with_head(parent, OTHERS, head="ridge", penalty=1.0)
    assert jaxdl.predict(put, OTHERS).accuracy > 0.6
    if name == "Net":
        with pytest.raises(InputError, match=r"'early'.*body"):
            jaxdl.extract_features(parent, OTHERS, stage="early")


@pytest.mark.slow
def test_arguments_of_a_users_model_are_searched():
    found = jaxdl.search(MyNet(3), SOURCE, PLAN, {"model.widths": jaxdl.Choice(((4,), (6, 6)))}, folds=2)
    assert {tuple(one["values"]["model.widths"]) for one in found.configurations} == {(4,), (6, 6)}
    with pytest.raises(InputError, match=r"model.width'.*model.widths"):
        jaxdl.search(MyNet(3), SOURCE, PLAN, {"model.width": jaxdl.Choice((4, 8))}, folds=2)


@QUICK
def test_an_interrupted_run_goes_on(name, tmp_path):
    def call(execution):
        return jaxdl.cross_validate(MODELS[name], SOURCE, PLAN, folds=2, execution=execution)

    how = jaxdl.Execution(keep_models=True, fold_strategy="loop")
    whole = call(how)
    again, stops = run_to_the_end(call, tmp_path / "run", 3, how)
    assert stops > 0
    same(whole.out_of_fold.kept, again.out_of_fold.kept)
    for one, other in zip(whole.models, again.models, strict=True):
        same(one.variables, other.variables)
        assert one.model == other.model


@QUICK
def test_a_run_in_a_folder_is_reported_and_averaged(parents, name, tmp_path):
    given = {name: parents[name].model}
    jaxdl.save(parents[name], tmp_path / "parent")
    parent = jaxdl.restore(tmp_path / "parent", models=given)
    result = jaxdl.cross_validate(parent, OTHERS, PLAN, folds=2, execution=jaxdl.Execution(keep_models=True))
    run = result.save(tmp_path / "run")
    for fold, network in enumerate(result.models):
        jaxdl.save(network, run / "folds" / str(fold))
    page = jaxdl.write_run_report(run, OTHERS, models=given).read_text()
    for section in ("Stages", "Activations", "Gradients"):
        assert f"<h2>{section}" in page or f">{section}<" in page
    assert "cannot be read" not in page
    assert name in page
    averaged = jaxdl.ensemble(run, models=given)
    jaxdl.save_ensemble(averaged, tmp_path / "all")
    read = jaxdl.load_ensemble(tmp_path / "all", models=given)
    same(read.predict(OTHERS).outputs, averaged.predict(OTHERS).outputs)
    for call in (lambda: jaxdl.load_ensemble(tmp_path / "all"), lambda: jaxdl.ensemble(run)):
        with pytest.raises(InputError, match=rf'models={{"{name}"'):
            call()
    said = refused(f"predict --checkpoint {tmp_path / 'parent'} --data digits:0-2 --out {tmp_path / 'out.csv'}")
    assert name in said
    assert "jaxdl.register_model" in said


def test_stages_of_a_wrapped_module_and_where_it_looked(parents):
    parent = parents["Net"]
    rows = {row.name: row for row in jaxdl.inspect(parent)}
    assert list(rows) == list(parent.model.stage_names)
    assert rows["early"].parameters == 3 * 3 * 4 + 4 + 8
    assert rows["early"].output == ()
    assert rows["body"].output == ((8,),)
    assert sum(row.parameters for row in rows.values()) == sum(
        leaf.size for leaf in jax.tree.leaves(parent.variables["params"])
    )
    from_shape = jaxdl.inspect(wrapped(), (8, 8, 1))
    assert from_shape[-1].output == ((10,),)


@pytest.mark.parametrize("given", [pytest.param("model", marks=pytest.mark.slow), "checkpoint"])
def test_the_estimator(parents, name, given):
    init = MODELS[name] if given == "model" else parents[name]
    estimator = TransferClassifier(init, epochs=3, batch_size=16, learning_rate=0.01)
    labels = np.array(["three", "four", "five"])[OTHERS.targets()]
    fitted = clone(estimator).fit(OTHERS.x, labels)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(OTHERS.x), fitted.predict_proba(OTHERS.x))
    assert set(fitted.predict(OTHERS.x)) <= {"three", "four", "five"}
    if given == "model":
        grid = GridSearchCV(estimator, {"learning_rate": [0.01, 0.1]}, cv=2).fit(OTHERS.x, labels)
        assert np.isfinite(grid.best_score_)


def test_the_last_good_state_is_kept(name, tmp_path):
    plan = dataclasses.replace(PLAN, learning_rate=1e30, epochs=4)
    work = jaxdl.RunFolder(tmp_path / "run", save_every=0)
    with pytest.raises(InputError, match=r"last-good|Nothing is kept"):
        jaxdl.finetune(MODELS[name], SOURCE, plan, execution=jaxdl.Execution(work=work))


def test_commands_know_a_registered_model(tmp_path):
    models = jaxdl.MODELS
    jaxdl.register_model("own-net", MyNet, {"widths": (5,)})
    try:
        jaxdl_command(f"pretrain --model own-net --data digits:0-2 --epochs 1 --out {tmp_path / 'own'}")
        assert "layer0" in jaxdl_command(f"inspect {tmp_path / 'own'}")
        assert "own-net" in jaxdl_command("models")
        assert "layer0" in jaxdl_command("models own-net")
    finally:
        del models["own-net"]
    refused(f"inspect {tmp_path / 'own'}")


def test_a_fresh_checkpoint_is_refused_where_numbers_are_needed():
    made = jaxdl.from_model(wrapped(), preprocessing())
    assert made.model.num_outputs == 10
    assert jaxdl.predict(made, SOURCE).outputs.shape == (48, 10)
    assert jaxdl.replace_head(made, num_outputs=4).model.num_outputs == 4


class Scaled(nn.Module):
    act: Any

    @nn.compact
    def __call__(self, x, mode):
        return self.act(nn.Dense(8)(x.reshape(len(x), -1)))


class Free(jaxdl.Staged):
    """With fields that have no text, or no hash, of their own."""

    act: Any = nn.relu
    kept: Any = None

    def stages(self):
        head = ("head", lambda name: Head(self.num_outputs, name=name))
        return ("body", lambda name: Scaled(self.act, name=name)), head


class Bare(nn.Module):
    """A head without parameters."""

    num_outputs: int

    def __call__(self, x, mode):
        return x[:, : self.num_outputs]


class Headless(Free):
    def stages(self):
        return super().stages()[0], ("head", lambda name: Bare(self.num_outputs, name=name))


def test_a_head_without_parameters_takes_no_fitted_one():
    trained = jaxdl.pretrain(Headless(3), SOURCE, PLAN)
    with pytest.raises(InputError, match="the head of Headless"):
        jaxdl.with_head(trained, OTHERS, head="ridge", penalty=1.0)


def test_functions_are_told_apart_in_a_search():
    """Both are called ``<lambda>`` and have the same text."""
    live, dead = (lambda x: nn.relu(x)), (lambda x: 0.0 * x)
    for order in ([live, dead], [dead, live]):
        for space in ({"model.act": order}, {"init": [Free(3, act=act) for act in order]}):
            drawn = propose(make_space(space, Free(3)), "grid", None, 0)
            configurations = configure(drawn, Free(3), PLAN, SOURCE, choose_task(SOURCE, purpose="a test"))
            assert [one.model.act for one in configurations] == order
            assert len(group(configurations)) == 2


@pytest.mark.slow
def test_a_model_without_a_hash_is_trained_and_predicts():
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(int)
    alone = TransferClassifier(Free(2), epochs=1).fit(features, labels)
    for kept in ([8], {"a": 1}, np.ones(3)):
        fitted = TransferClassifier(Free(2, kept=kept), epochs=1).fit(features, labels)
        np.testing.assert_array_equal(fitted.predict_proba(features), alone.predict_proba(features))


@pytest.mark.slow
def test_an_adapter_of_a_wrapped_module_is_merged(parents):
    adapted = jaxdl.finetune(parents["Net"], OTHERS, dataclasses.replace(PLAN, adapter="lora:2"))
    outputs = [jaxdl.predict(one, OTHERS).outputs for one in (adapted, jaxdl.merge_adapter(adapted))]
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_variables_with_an_adapter_are_a_beginning(parents):
    adapted = jaxdl.finetune(parents["MyNet"], SOURCE, dataclasses.replace(PLAN, adapter="lora:2", epochs=1))
    again = jaxdl.from_model(adapted.model, adapted.card.preprocessing, variables=adapted.variables)
    same(again.variables, adapted.variables)
    assert any("lora_a" in name for name, _ in walk_shapes(again.variables))
