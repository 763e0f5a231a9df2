"""A plain Flax module as a model: taken apart before its head, it computes what it computes whole."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_models import GROUPS, SPEC, MyNet, Net, wrapped

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_head, init_variables
from jaxdl.models.variables import walk_shapes
from jaxdl.report.activity import stage_activity
from jaxdl.report.inspect import time_stages

X = np.random.default_rng(0).normal(size=(5, *SPEC)).astype(np.float32)
KEY = jax.random.key(0)


def started(model):
    model = model.check(SPEC)
    return model, init_variables(model, KEY, SPEC)


def near(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


@pytest.mark.parametrize("groups", [None, GROUPS, {"late": ("Conv_1", "Dense_0"), "early": ("Conv_0",)}])
def test_it_computes_what_the_module_computes(groups):
    model, variables = started(wrapped(groups, dropout=0.3))
    assert model.num_outputs == 10
    assert model.stage_names == (*(groups or {}), "body", "head")
    own, module = model.to_own(variables), model.module.module
    near(model.to_stages(own), variables, 0)
    assert jax.tree.structure(own) == jax.tree.structure(
        jax.eval_shape(module.init, KEY, X), is_leaf=lambda leaf: leaf == {}
    )
    near(model.apply(variables, X), module.apply(own, X))
    features = model.apply(variables, X, stop="head")
    assert features.shape == (5, 8)
    near(model.apply(variables, features, start="head"), module.apply(own, X))
    inner = model.apply(variables, rngs={"dropout": KEY}, method=lambda m: m.make_rng("dropout"))
    out, changed = model.apply(variables, X, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
    wanted, stats = module.apply(own, X, train=True, rngs={"dropout": inner}, mutable=["batch_stats"])
    near(out, wanted)
    near(model.to_own(changed), stats)


def test_groups_run_as_they_are_told():
    model, variables = started(wrapped(dropout=0.5))
    rest = ("middle", "body", "head")

    def run(evaluated, seed=0, still=()):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(
            variables, X, train=True, evaluated=evaluated, still=still, rngs=rngs, mutable=["batch_stats"]
        )

    _, changed = run(("early",))
    before = variables["batch_stats"]
    near(changed["batch_stats"]["early"], before["early"], 0)
    assert not np.array_equal(
        changed["batch_stats"]["middle"]["BatchNorm_1"]["mean"], before["middle"]["BatchNorm_1"]["mean"]
    )
    near(run((), still={("middle", "BatchNorm_1")})[1]["batch_stats"]["middle"], before["middle"], 0)
    assert not np.array_equal(run((), 0)[0], run((), 1)[0])
    # the dropout is in no group: off where the rest of the body is
    near(run(("body",), 0)[0], run(("body",), 1)[0], 0)
    near(run(("early", *rest))[0], model.apply(variables, X))
    # by its name it goes with its group
    named, variables = started(wrapped({"early": ("Conv_0", "Dropout_0")}, dropout=0.5))
    first, second = (
        named.apply(variables, X, train=True, evaluated=("early",), rngs={"dropout": key}, mutable=["batch_stats"])[0]
        for key in jax.random.split(KEY)
    )
    near(first, second, 0)


def test_a_head_of_another_width():
    model, variables = started(wrapped())
    wider = model.clone(num_outputs=4)
    body = {c: {s: t for s, t in tree.items() if s != "head"} for c, tree in variables.items()}
    head = init_head(wider, jax.random.key(1), body, X)
    assert {name: leaf.shape for name, leaf in walk_shapes(head["params"])} == {
        "head/Dense_1/kernel": (8, 4),
        "head/Dense_1/bias": (4,),
    }
    assert 0 < np.abs(head["params"]["head"]["Dense_1"]["kernel"]).max() < 2 * model.HEAD_SCALE
    whole = {c: {**tree, **head[c]} for c, tree in body.items()}
    features = model.apply(variables, X, stop="head")
    near(wider.apply(whole, X), features @ head["params"]["head"]["Dense_1"]["kernel"])
    assert init_variables(wider, KEY, SPEC)["params"]["head"]["Dense_1"]["kernel"].shape == (8, 4)


def test_it_is_cut_before_its_head_alone():
    model, variables = started(wrapped())
    assert model.cuts == ("early", "head")
    assert model.outlets == ("body", "head")
    near(model.apply(variables, X, start="early"), model.apply(variables, X), 0)
    with pytest.raises(InputError, match=r"'middle'.*early, head"):
        model.apply(variables, X, stop="middle")
    with pytest.raises(InputError, match=r"stage of Wrapped 'mdle'.*'middle'"):
        model.apply(variables, X, stop="mdle")
    _, taps = model.apply(variables, X, taps=("body",))
    near(taps["body"], model.apply(variables, X, stop="head"), 0)
    assert MyNet(3).cuts == MyNet(3).outlets == MyNet(3).stage_names == ("layer0", "head")


class Switched(nn.Module):
    """Adds one in training, however it is told."""

    how: str
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x):
        x = x if self.deterministic else x + 1
        return nn.Dense(3, name="top")(x.reshape(len(x), -1))


def by_argument(name, sign):
    source = f"def __call__(self, x, {name}):\n    return self.run(x, {name} is {sign})"
    names = {}
    exec(source, names)

    class ByArgument(nn.Module):
        def setup(self):
            self.top = nn.Dense(3)

        def run(self, x, trained):
            return self.top((x + 1 if trained else x).reshape(len(x), -1))

        __call__ = names["__call__"]

    return ByArgument()


SWITCHED = [
    by_argument(name, name not in ("deterministic", "use_running_average"))
    for name in ("train", "training", "is_training", "deterministic", "use_running_average")
]


@pytest.mark.parametrize("module", [*SWITCHED, Switched("field")])
def test_training_is_told_by_argument_or_field(module):
    model, variables = started(jaxdl.wrap(module, "top"))
    near(model.apply(variables, X, train=True, stop="head", mutable=["batch_stats"])[0], X.reshape(5, -1) + 1)
    near(model.apply(variables, X, stop="head"), X.reshape(5, -1))


class Told(nn.Module):
    """Asks for training whatever it is told: a module without a switch."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Dropout(0.5, deterministic=False)(x)
        return nn.Dense(3)(x)


def test_a_module_without_a_switch_is_in_use_where_it_is_not_trained():
    model, variables = started(jaxdl.wrap(Told(), "Dense_1"))
    one, all_of_them = model.apply(variables, X[:1]), model.apply(variables, X)
    near(one, all_of_them[:1])


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="top")(nn.tanh(nn.Dense(4, name="in")(x["a"].reshape(len(x["a"]), -1)))) + 0.0


class Outer(nn.Module):
    def setup(self):
        self.decoder = Nested()
        self.scale = self.param("scale", nn.initializers.ones, (4,))

    def __call__(self, x):
        return self.decoder({"a": x["a"] * self.scale})


def test_paths_own_parameters_and_inputs_that_are_trees():
    spec = {"a": jax.ShapeDtypeStruct((4,), "float32")}
    model = jaxdl.wrap(Outer(), "decoder/top", {"first": ("scale",), "second": ("decoder/in",)}).check(spec)
    variables = init_variables(model, KEY, spec)
    assert {name for name, _ in walk_shapes(variables["params"])} == {
        "first/scale",
        "second/decoder/in/kernel",
        "second/decoder/in/bias",
        "head/top/kernel",
        "head/top/bias",
    }
    x = {"a": np.ones((2, 4), np.float32)}
    near(model.apply(variables, x), Outer().apply(model.to_own(variables), x))


class Plain(nn.Module):
    """One of several mistakes around the head ``top``."""

    kind: str

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        if self.kind == "scan":
            cell = nn.scan(Step, {"params": False}, split_rngs={"params": False})
            return cell(name="cell")(x, jnp.zeros((2, 1)))[1][-1]
        if self.kind == "remat":
            return nn.remat(nn.Dense)(3, name="top")(x)
        if self.kind == "vmap":
            return nn.vmap(nn.Dense, {"params": None}, split_rngs={"params": False})(3, name="top")(x)
        if self.kind == "no features":
            return Bare(name="top")(x)
        if self.kind == "not outputs":
            return Hidden(6, name="top")(x)
        top = nn.Dense(3, name="top")
        if self.kind == "twice":
            top(x)
        y = top(x)
        if self.kind == "softmax":
            return nn.softmax(y)
        if self.kind == "clipped":
            return jnp.clip(y, -50, 50)
        if self.kind == "skip":
            return y + x[:, :3]
        if self.kind == "tuple":
            return y, x
        if self.kind == "aside":
            return nn.Dense(3, name="aside")(x)
        if self.kind == "aside in training":
            return nn.relu(y) if train else y
        if self.kind == "rows":
            return y + 0 * nn.BatchNorm(use_running_average=not train)(x.reshape(-1, 2)).sum()
        return y


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.Dense(4, name="top")(x)
        return y, y


class Bare(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", nn.initializers.ones, (4, 3))


class Hidden(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.Dense(self.features)(x))


@pytest.mark.parametrize(
    ("kind", "head", "said"),
    [
        ("softmax", "top", "after its head 'top'"),
        ("clipped", "top", "after its head 'top'"),
        ("skip", "top", "after its head 'top'"),
        ("tuple", "top", "gives a tuple"),
        ("aside", "top", "after its head 'top'"),
        ("aside in training", "top", "after its head 'top' in training"),
        ("twice", "top", "'top'.*2 times"),
        ("", "tip", "'tip'.*never called.*first, top.*'top'?"),
        ("scan", "cell/top", "'cell/top'.*scan"),
        ("remat", "top", "'top'.*remat"),
        ("vmap", "top", "'top'.*vmap"),
        ("no features", "top", "'top' of Plain, a Bare,.*features"),
        ("not outputs", "top", "'top', a Hidden, .*features=7"),
        ("rows", "top", "BatchNorm_0 gets an array"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(kind, head, said):
    model = jaxdl.wrap(Plain(kind), head)
    for _ in range(2):  # what was refused is not taken for checked
        with pytest.raises(InputError, match=said):
            model.check(SPEC)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(module=MyNet(3), head="head"), "MyNet has stages"),
        (dict(module="net", head="head"), "module"),
        (dict(module=Net(), head="a//b"), "'a//b'"),
        (dict(module=Net(), head="Dense_1", groups={"head": ("Conv_0",)}), "'head'"),
        (dict(module=Net(), head="Dense_1", groups={"body": ("Conv_0",)}), "'body'"),
        (dict(module=Net(), head="Dense_1", groups={"one": "Conv_0"}), "'one'.*'Conv_0'"),
        (dict(module=Net(), head="Dense_1", groups={"one": ("Conv_0",), "two": ("Conv_0/kernel",)}), "Conv_0/kernel"),
    ],
)
def test_wrap_refuses(arguments, said):
    with pytest.raises(InputError, match=said):
        jaxdl.wrap(**arguments)


def test_a_group_of_what_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"'early' names 'Conv_7'.*Did you mean 'Conv_"):
        wrapped({"early": ("Conv_7",)}).check(SPEC)


def test_an_input_that_the_module_cannot_take_is_refused():
    with pytest.raises(InputError, match=r"Net cannot be run.*\(4,\)"):
        wrapped().check((4,))


def test_the_head_alone_needs_a_module_that_ran():
    with pytest.raises(InputError, match=r"'Dense_1' of Net.*check"):
        wrapped().apply({"params": {}}, X, start="head")


def test_precision_is_the_modules_own():
    model, variables = started(wrapped().clone(dtype="bfloat16"))
    assert model.apply(variables, X).dtype == jnp.bfloat16
    assert variables["params"]["early"]["Conv_0"]["kernel"].dtype == jnp.float32
    with pytest.raises(InputError, match=r"Told.*bfloat16"):
        jaxdl.wrap(Told(), "Dense_1").clone(dtype="bfloat16").check(SPEC)


def test_a_module_with_a_list_among_its_fields():
    class Listed(nn.Module):
        widths: list

        @nn.compact
        def __call__(self, x):
            for width in self.widths:
                x = nn.Dense(width)(x.reshape(len(x), -1))
            return nn.Dense(3, name="top")(x)

    one, other = (jaxdl.wrap(Listed(widths), "top") for widths in ([4], [4, 6]))
    assert one == jaxdl.wrap(Listed([4]), "top") != other
    for held in (one, one.module):  # the list may change, so that no program may be kept for it
        with pytest.raises(TypeError, match="unhashable"):
            hash(held)
    hash(jaxdl.wrap(Listed((4,)), "top"))
    # what is compiled for a model follows the list
    variables = started(one)[1]
    assert time_stages(one, variables, SPEC, batch_size=2, repeats=1).keys() == {"body", "head"}
    before = stage_activity(one, variables, X)
    widths = one.module.module.widths
    widths[0] = 6
    assert init_variables(one, KEY, SPEC)["params"]["body"]["Dense_0"]["kernel"].shape == (64, 6)
    assert [row.units for row in stage_activity(one, init_variables(one, KEY, SPEC), X)] == [6, 3]
    assert [row.units for row in before] == [4, 3]


class Inside(nn.Module):
    """Flax makes the outer layer first: it is Dense_0."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return nn.Dense(3)(jnp.concatenate([nn.Dense(4)(x), nn.Dense(4)(x)], -1))


class Both(nn.Module):
    @nn.compact
    def __call__(self, x):
        features = nn.Dense(4)(x.reshape(len(x), -1))
        return nn.Dense(3)(features), features


def test_a_wrong_head_is_told_the_right_one():
    with pytest.raises(InputError, match="outputs are those of 'Dense_0'"):
        jaxdl.wrap(Inside(), head="Dense_2").check(SPEC)
    jaxdl.wrap(Inside(), head="Dense_0").check(SPEC)
    with pytest.raises(InputError, match="gives a tuple"):
        jaxdl.wrap(Both(), head="Dense_1").check(SPEC)
    with pytest.raises(InputError, match=r"Inside\(\)"):
        jaxdl.wrap(Inside, head="Dense_0")
