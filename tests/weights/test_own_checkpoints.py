"""Checkpoints of a user's own models: the reader says what the names on them mean."""

import functools
import json
import re

import flax.linen as nn
import jax
import numpy as np
import pytest
from command_line import refused
from own_models import GROUPS, SOURCE, SPEC, Body, MyNet, Net, Top, preprocessing, wrapped

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models import MODELS

X = np.random.default_rng(0).normal(size=(5, *SPEC)).astype(np.float32)
OWN = {
    "staged": MyNet(3, widths=(6, 5)),
    "wrapped": jaxdl.wrap(Net(), "Dense_1", num_outputs=3),
    "in groups": wrapped(width=5).clone(num_outputs=3),
}


@pytest.fixture
def table():
    """The table of models, which is afterwards as it was."""
    before = dict(MODELS)
    yield MODELS
    MODELS.clear()
    MODELS.update(before)


@functools.cache
def fresh(kind):
    return jaxdl.from_model(OWN[kind], preprocessing(), SOURCE.class_names)


def saved(kind, path):
    jaxdl.save(fresh(kind), path)
    return fresh(kind)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.slow
def test_the_advice_works(kind, tmp_path):
    """What the message says to pass is passed, word by word."""
    made = saved(kind, tmp_path / "own")
    with pytest.raises(InputError) as refusal:
        jaxdl.restore(tmp_path / "own")
    advice = re.search(r"(models=\{.*\}); or", str(refusal.value))[1]
    known = {"jaxdl": jaxdl, "path": tmp_path / "own", "Net": Net, "MyNet": MyNet}
    again = eval(f"jaxdl.restore(path, {advice})", known)
    assert again.model == made.model
    np.testing.assert_array_equal(again.model.apply(again.variables, X), made.model.apply(made.variables, X))
    said = refused(f"inspect {tmp_path / 'own'}")
    assert type(made.model).__name__ in said or "Net" in said


def test_an_instance_takes_outputs_and_dtype_from_the_card(tmp_path):
    model = OWN["in groups"].clone(dtype="bfloat16")
    jaxdl.save(jaxdl.from_model(model, preprocessing(), SOURCE.class_names), tmp_path / "own")
    again = jaxdl.restore(tmp_path / "own", models={"Net": wrapped(width=5)}).model
    assert (again.num_outputs, again.dtype) == (3, "bfloat16")
    card = json.loads((tmp_path / "own" / "card.json").read_text())
    assert (card["model"], card["arguments"]["module"]["width"]) == ("Net", 5)


class Narrow(jaxdl.Staged):
    def stages(self):
        return ("layer0", lambda name: Body(4, name=name)), ("head", lambda name: Top(self.num_outputs, name=name))


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("staged", Narrow, "'widths'.*Narrow"),
        ("staged", MyNet(3, widths=(4,)), "widths"),
        ("staged", Net, "Net"),
        ("wrapped", MyNet, "wrapped module"),
        ("wrapped", jaxdl.wrap(Net(width=5), "Dense_1"), "width"),
        ("in groups", jaxdl.wrap(Net(width=5), "Dense_1"), "groups"),
    ],
)
def test_another_model_is_refused(kind, given, said, tmp_path):
    made = saved(kind, tmp_path / "own")
    name = "MyNet" if isinstance(made.model, MyNet) else "Net"
    with pytest.raises(InputError, match=said):
        jaxdl.restore(tmp_path / "own", models={name: given})


class Acting(jaxdl.Staged):
    """Has an argument that no card can hold."""

    act: object = nn.relu

    def stages(self):
        return ("layer0", lambda name: Body(4, name=name)), ("head", lambda name: Top(self.num_outputs, name=name))


def test_what_a_card_cannot_hold_is_asked_for(tmp_path):
    jaxdl.save(jaxdl.from_model(Acting(3, act=nn.tanh), preprocessing(), SOURCE.class_names), tmp_path / "own")
    with pytest.raises(InputError, match=r"'act'.*tanh.*Acting"):
        jaxdl.restore(tmp_path / "own", models={"Acting": Acting})
    with pytest.raises(InputError, match="act is"):
        jaxdl.restore(tmp_path / "own", models={"Acting": Acting(3)})
    assert jaxdl.restore(tmp_path / "own", models={"Acting": Acting(1, act=nn.tanh)}).model == Acting(3, act=nn.tanh)


@pytest.mark.parametrize(("family", "arguments"), [(MyNet, {"widths": (4, 4)}), (wrapped(width=3), {})])
def test_a_registered_model_is_known_by_name(family, arguments, tmp_path, table):
    jaxdl.register_model("mine", family, arguments, image_size=16)
    jaxdl.register_model("mine", family, arguments, image_size=16)  # the same again, as a notebook's cell does
    model = jaxdl.create("mine", 3)
    assert jaxdl.models.describe(model)[0] == "mine"
    assert jaxdl.models.image_size_of(model) == 16
    made = jaxdl.from_model(model, preprocessing(), SOURCE.class_names)
    jaxdl.save(made, tmp_path / "own")
    again = jaxdl.restore(tmp_path / "own")
    assert again.model == model
    # without the row, its class is enough
    del MODELS["mine"]
    assert jaxdl.restore(tmp_path / "own", models={"mine": family}).model == model


@pytest.mark.parametrize(
    ("name", "family", "arguments", "said"),
    [
        ("cnn", MyNet, {}, "'cnn' already"),
        ("mine", Net, {}, "Net"),
        ("mine", "MyNet", {}, "'MyNet'"),
        ("mine", jaxdl.Staged, {}, "Staged has no stages"),
        ("mine", MyNet, {"width": 3}, "MyNet has no argument width"),
    ],
)
def test_register_model_refuses(name, family, arguments, said, table):
    with pytest.raises(InputError, match=said):
        jaxdl.register_model(name, family, arguments)
    assert name == "cnn" or name not in MODELS


def test_a_class_with_the_name_of_ours_is_refused(tmp_path):
    own = type("cnn", (MyNet,), {})
    with pytest.raises(InputError, match="cnn has the name"):
        jaxdl.save(jaxdl.from_model(own(3), preprocessing(), SOURCE.class_names), tmp_path / "own")


def test_from_a_users_own_variables():
    own = Net().init(jax.random.key(5), X)
    made = jaxdl.from_model(wrapped(), preprocessing(), variables=own)
    assert made.model.num_outputs == 10
    np.testing.assert_allclose(made.model.apply(made.variables, X), Net().apply(own, X), atol=1e-6)
    assert set(made.variables["params"]) == {*GROUPS, "body", "head"}
    staged = jaxdl.from_model(MyNet(3), preprocessing(), seed=4)
    again = jaxdl.from_model(MyNet(3), preprocessing(), variables=staged.variables)
    jax.tree.map(np.testing.assert_array_equal, again.variables, staged.variables)
    doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), own)
    assert (
        jaxdl.from_model(wrapped(), preprocessing(), variables=doubles)
        .variables["params"]["head"]["Dense_1"]["kernel"]
        .dtype
        == np.float32
    )


@pytest.mark.slow
def test_every_leaf_of_own_variables_is_accounted_for():
    own = Net().init(jax.random.key(5), X)
    params = {**own["params"], "Dense_7": own["params"]["Dense_0"]}
    params["Conv_0"] = {**params["Conv_0"], "bias": np.zeros(9)}
    del params["BatchNorm_1"]
    with pytest.raises(InputError) as refusal:
        jaxdl.from_model(wrapped(), preprocessing(), variables={**own, "params": params})
    for named in ("early/Conv_0/bias", "Dense_7/kernel", "middle/BatchNorm_1/scale"):
        assert named in str(refusal.value)
    whole = {"params": jax.tree.map(lambda leaf: np.ones(leaf.shape, int), own["params"])}
    for variables, said in (
        (own["params"], "BatchNorm_0"),
        ({**own, "cache": {}}, "cache"),
        ({"params": own["params"]}, "batch_stats/early"),
        ({**own, **whole}, "int64"),
        ([], "list"),
    ):
        with pytest.raises(InputError, match=said):
            jaxdl.from_model(wrapped(), preprocessing(), variables=variables)


def test_export_and_channels_are_refused_by_name(tmp_path):
    made = saved("wrapped", tmp_path / "own")
    with pytest.raises(InputError, match="'Net'"):
        jaxdl.export(made, tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arguments", []),
        ("arguments", {"module": {}}),
        ("arguments", {"module": [], "head": 3, "groups": [1]}),
        ("num_outputs", 0),
        ("num_outputs", "3"),
        ("model", "Nat"),
    ],
)
def test_a_damaged_card_is_refused(key, value, tmp_path):
    saved("in groups", tmp_path / "own")
    card = json.loads((tmp_path / "own" / "card.json").read_text())
    (tmp_path / "own" / "card.json").write_text(json.dumps({**card, key: value}))
    for models in (None, {"Net": wrapped(width=5)}, {"Net": MyNet}):
        with pytest.raises(InputError, match="card"):
            jaxdl.restore(tmp_path / "own", models=models)
