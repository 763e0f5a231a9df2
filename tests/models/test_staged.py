"""A model is an ordered list of named stages: slices of it compose."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.models.initialise import batch_of, init_head, init_variables
from jaxdl.models.staged import Staged
from jaxdl.models.variables import join_variables, split_variables, walk_shapes

SMALL = {
    "mlp": ("mlp", {"hidden": (8, 6), "dropout": 0.3}, (4, 4, 1)),
    "cnn": ("cnn", {"features": (4, 6), "hidden": (8,), "dropout": 0.3}, (8, 8, 3)),
    "cnn_group": ("cnn", {"features": (4,), "hidden": (8,), "norm": "group", "pool": "average"}, (8, 8, 3)),
    "vit": ("vit", {"width": 8, "depth": 2, "num_heads": 2, "dropout": 0.2}, (8, 8, 3)),
    "resnet_cifar": ("resnet20_cifar", {"depths": (1, 1), "width": 4}, (8, 8, 3)),
    "resnet_basic": ("resnet18", {"depths": (1, 1), "width": 4}, (16, 16, 3)),
    "resnet_bottleneck": ("resnet50", {"depths": (1, 1), "width": 4, "stem": "small"}, (8, 8, 3)),
}
NAMES = {
    "mlp": ("layer1", "layer2", "head"),
    "cnn": ("conv1", "conv2", "dense1", "head"),
    "vit": ("embed", "block1", "block2", "pool", "head"),
    "resnet_cifar": ("stem", "stage1", "stage2", "pool", "head"),
}
KEY = jax.random.key(3)


@pytest.fixture(scope="module", params=SMALL)
def case(request):
    return _make(request.param)


@functools.cache
def _make(kind):
    """A model, variables none of which stands at a trivial value such as zero, and four examples."""
    name, arguments, shape = SMALL[kind]
    model = create(name, 3, **arguments)
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        return 0.5 + noise**2 if path[-1].key in ("var", "scale") else 0.3 * noise

    shapes = jax.eval_shape(lambda key: init_variables(model, key, shape), KEY)
    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    return model, variables, rng.normal(size=(4, *shape)).astype(np.float32)


def _train(model, variables, x, **options):
    return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}, **options)


def _equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_prefix_then_suffix_is_the_whole(case):
    model, variables, x = case
    whole = model.apply(variables, x)
    assert np.abs(whole - whole[0]).max() > 1e-2, "all images get the same answer: nothing would be shown"
    for i, name in enumerate(model.stage_names):
        before, after = split_variables(variables, model.stage_names[:i])
        between = model.apply(before, x, stop=name)
        _equal(model.apply(after, between, start=name), whole)


@pytest.mark.slow
def test_prefix_then_suffix_is_the_whole_in_training(case):
    model, variables, x = case
    whole, changed = _train(model, variables, x)
    if getattr(model, "dropout", 0) or variables["batch_stats"]:
        assert np.abs(whole - model.apply(variables, x)).max() > 1e-3, "training should differ from use"
    for i, name in enumerate(model.stage_names):
        before, after = split_variables(variables, model.stage_names[:i])
        between, changed_before = _train(model, before, x, stop=name)
        out, changed_after = _train(model, after, between, start=name)
        _equal(out, whole)
        _equal(join_variables(changed_before, changed_after), changed)


def test_taps_are_what_stop_gives(case):
    model, variables, x = case
    names = model.stage_names
    out, taps = model.apply(variables, x, taps=names)
    assert set(taps) == set(names)
    for name, following in zip(names, (*names[1:], None), strict=True):
        _equal(taps[name], model.apply(variables, x, stop=following))
    _equal(out, taps["head"])


@pytest.mark.slow
def test_frozen_stages_run_as_in_use(case):
    model, variables, x = case
    names = model.stage_names
    in_use = model.apply(variables, x, taps=names)[1]
    for n in range(len(names) + 1):
        (_, taps), changed = _train(model, variables, x, evaluated=names[:n], taps=names)
        for name in names[:n]:
            _equal(taps[name], in_use[name])  # batch norm takes its running statistics, dropout is off
        stats = changed.get("batch_stats", {})
        for i, name in enumerate(names):
            for path, leaf in walk_shapes(variables["batch_stats"].get(name, {})):
                same = np.array_equal(leaf, dict(walk_shapes(stats[name]))[path])
                assert same == (i < n), f"{name}/{path} with {n} frozen stages"


@pytest.mark.parametrize("kind", ["mlp", "cnn", "vit"])
def test_dropout_draws_from_the_key_unless_frozen(kind):
    model, variables, x = _make(kind)

    def run(seed, frozen):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(
            variables, x, train=True, evaluated=model.stage_names[:frozen], mutable=["batch_stats"], rngs=rngs
        )[0]

    assert np.array_equal(run(0, 0), run(0, 0))
    assert not np.array_equal(run(0, 0), run(1, 0))
    everything = len(model.stage_names)
    assert np.array_equal(run(0, everything), run(1, everything))


def test_frozen_stages_are_those_of_the_whole_model():
    model, variables, x = _make("resnet_basic")
    names = model.stage_names[:2]
    between = model.apply(variables, x, stop="stage2")
    whole, _ = _train(model, variables, x, evaluated=names)
    suffix, _ = _train(model, variables, between, start="stage2", evaluated=names)
    _equal(suffix, whole)


def test_masked_examples_do_not_count():
    model, variables, x = _make("cnn")
    model = model.clone(dropout=0.0)
    padded = np.concatenate([x, np.full_like(x[:2], 50)])
    mask = np.arange(6) < 4
    whole, changed = _train(model, variables, x)
    out, changed_padded = _train(model, variables, padded, mask=mask)
    np.testing.assert_allclose(out[:4], whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), changed_padded, changed)


@pytest.mark.parametrize("kind", NAMES)
def test_order_is_that_of_the_names_not_of_the_keys(kind):
    model, variables, x = _make(kind)
    assert model.stage_names == NAMES[kind]
    held = list(jax.tree.map(lambda leaf: leaf, variables)["params"])
    assert held == sorted(held), "pytrees sort their keys: their order means nothing"
    turned = {c: dict(reversed(tree.items())) for c, tree in variables.items()}
    _equal(model.apply(turned, x), model.apply(variables, x))
    assert [model.stage_index(name) for name in NAMES[kind]] == list(range(len(NAMES[kind])))


def test_split_and_join_undo_each_other(case):
    model, variables, _ = case
    for i in range(len(model.stage_names) + 1):
        before, after = split_variables(variables, model.stage_names[:i])
        assert set(before) == set(after) == {"params", "batch_stats"}
        assert set(before["params"]) <= set(model.stage_names[:i])
        assert not set(after["params"]) & set(model.stage_names[:i])
        _equal(join_variables(before, after), variables)
        _equal(join_variables(after, before), variables)
    with pytest.raises(ValueError, match="params/"):
        join_variables({"params": variables["params"]}, variables)


def test_fresh_head_from_the_shapes_of_the_body(case):
    model, variables, x = case
    _, body = split_variables(variables, ("head",))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), body)
    wider = model.clone(num_outputs=7)
    head = init_head(wider, jax.random.key(1), shapes, x)
    assert set(head["params"]) == {"head"}
    assert wider.apply(join_variables(body, head), x).shape == (4, 7)
    own = wider.lazy_init(
        {"params": jax.random.key(1)}, jax.eval_shape(lambda: wider.apply(body, x, stop="head")), start="head"
    )
    for leaf, whole in zip(jax.tree.leaves(head["params"]), jax.tree.leaves(own["params"]), strict=True):
        np.testing.assert_allclose(leaf, wider.HEAD_SCALE * whole, rtol=1e-6)  # biases are zero
    other = init_head(wider, jax.random.key(2), shapes, x)
    assert not np.array_equal(head["params"]["head"]["dense"]["kernel"], other["params"]["head"]["dense"]["kernel"])


def test_fresh_variables_follow_the_key():
    model = create("mlp", 3, hidden=(4,))
    one, same, other = (init_variables(model, jax.random.key(seed), (4,)) for seed in (0, 0, 1))
    _equal(one, same)
    for stage in model.stage_names:
        assert not np.array_equal(one["params"][stage]["dense"]["kernel"], other["params"][stage]["dense"]["kernel"])


class Embed(nn.Module):
    """Tokens ``int32[batch, positions]`` to vectors; what is not in the mask is left out of all that follows."""

    @nn.compact
    def __call__(self, x, mode):
        assert jnp.issubdtype(x["tokens"].dtype, jnp.integer), "initialised with what it is fed with"
        return {"x": nn.Embed(11, 6, name="table")(x["tokens"]), "mask": x["mask"]}


class Mean(nn.Module):
    @nn.compact
    def __call__(self, x, mode):
        there = x["mask"][..., None].astype(jnp.float32)
        return (x["x"] * there).sum(1) / there.sum(1)


class Head(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.Dense(self.outputs, name="dense")(x)


class Text(Staged):
    """A network whose input is a dict of arrays."""

    def stages(self):
        return ("embed", Embed), ("mean", Mean), ("head", lambda name: Head(self.num_outputs, name=name))


TEXT = {"tokens": jax.ShapeDtypeStruct((5,), "int32"), "mask": jax.ShapeDtypeStruct((5,), "bool")}


def test_variables_for_an_input_that_is_a_tree():
    model = Text(3)
    variables = init_variables(model, KEY, TEXT)
    shapes = {name: leaf.shape for name, leaf in walk_shapes(variables)}
    assert shapes == {
        "params/embed/table/embedding": (11, 6),
        "params/head/dense/kernel": (6, 3),
        "params/head/dense/bias": (3,),
    }
    assert variables.keys() == {"params", "batch_stats"}
    _equal(variables, init_variables(model, KEY, TEXT))
    assert jax.eval_shape(lambda key: init_variables(model, key, TEXT), KEY) == jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables
    )
    rng = np.random.default_rng(0)
    x = {"tokens": rng.integers(0, 11, (4, 5), dtype=np.int32), "mask": np.arange(5) < [[5], [3], [1], [5]]}
    logits = model.apply(variables, x)
    assert logits.shape == (4, 3)
    table = variables["params"]["embed"]["table"]["embedding"]
    means = np.stack([table[x["tokens"][i, :n]].mean(0) for i, n in enumerate((5, 3, 1, 5))])
    np.testing.assert_allclose(logits, means @ variables["params"]["head"]["dense"]["kernel"], atol=1e-6)
    before, after = split_variables(variables, ("embed",))
    _equal(model.apply(after, model.apply(before, x, stop="mean"), start="mean"), logits)
    head = init_head(model.clone(num_outputs=7), KEY, split_variables(variables, ("head",))[1], batch_of(TEXT))
    assert {name: leaf.shape for name, leaf in walk_shapes(head["params"])} == {
        "head/dense/kernel": (6, 7),
        "head/dense/bias": (7,),
    }


def test_a_batch_of_one_has_the_types_of_the_spec():
    one = batch_of({"a": jax.ShapeDtypeStruct((), "int32"), "b": [jax.ShapeDtypeStruct((2, 3), "bool")]})
    assert one == {"a": jax.ShapeDtypeStruct((1,), "int32"), "b": [jax.ShapeDtypeStruct((1, 2, 3), "bool")]}
    for spec in ((4, 5), [4, 5], jax.ShapeDtypeStruct((4, 5), "float32")):
        assert batch_of(spec) == jax.ShapeDtypeStruct((1, 4, 5), "float32")


@pytest.mark.parametrize(
    ("model", "spec", "named"),
    [
        (Text(3), (5,), r"Text .*\(5,\)"),
        (Text(3), {"tokens": TEXT["tokens"]}, "Text .*mask"),
        (Text(3), {**TEXT, "mask": jax.ShapeDtypeStruct((0,), "bool")}, r"Text .*\(0,\)"),
        (Text(3), {}, "Text"),
        *((create(name, 3), TEXT, type(create(name, 3)).__name__) for name in ("mlp", "cnn", "vit", "resnet18")),
    ],
)
def test_an_input_that_the_model_cannot_take_is_refused(model, spec, named):
    with pytest.raises(InputError, match=named):
        init_variables(model, KEY, spec)


@pytest.mark.parametrize("option", ["start", "stop"])
def test_unknown_stage_names_the_nearest(option):
    model, variables, x = _make("resnet_cifar")
    with pytest.raises(InputError, match=r"'stage_1'.*stem, stage1.*'stage1'\?"):
        model.apply(variables, x, **{option: "stage_1"})


@pytest.mark.parametrize(
    ("tap", "stop", "nearest"),
    [
        ("block1/atention", None, "block1/attention"),
        ("blok2", None, "block2"),
        ("block2/attention", "block2", "block1/attention"),  # exists, but the slice does not reach it
    ],
)
def test_unknown_tap_names_the_nearest(tap, stop, nearest):
    model, variables, x = _make("vit")
    with pytest.raises(InputError, match=rf"tap '{tap}'.*'{nearest}'\?"):
        model.apply(variables, x, taps=("embed", tap), stop=stop)


def test_a_slice_that_runs_backwards_is_refused():
    model = create("mlp", 3)
    variables = init_variables(model, jax.random.key(0), (5,))
    with pytest.raises(InputError, match=r"start='head'.*stop='layer2'"):
        model.apply(variables, np.ones((1, 128), np.float32), start="head", stop="layer2")


class Widths(Staged):
    """A user's own model, whose list cannot be hashed."""

    widths: list = dataclasses.field(default_factory=lambda: [4])

    def stages(self):
        body = [(f"layer{i}", functools.partial(Wide, width)) for i, width in enumerate(self.widths)]
        return *body, ("head", functools.partial(Head, self.num_outputs))


class Wide(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.Dense(self.width, name="dense")(x)


def test_a_model_with_a_list_among_its_fields_is_initialised():
    one, other = (init_variables(Widths(3, widths=widths), KEY, (5,)) for widths in ([4], [4, 6]))
    assert one["params"]["layer0"]["dense"]["kernel"].shape == (5, 4)
    assert other["params"]["layer1"]["dense"]["kernel"].shape == (4, 6)
    assert init_head(Widths(7, widths=[4]), KEY, one, batch_of((5,)))["params"]["head"]["dense"]["kernel"].shape == (
        4,
        7,
    )


class Counts(nn.Module):
    @nn.compact
    def __call__(self, x, mode):
        self.variable("cache", "calls", jnp.zeros, ())
        return x


class Counting(Staged):
    def stages(self):
        return ("counts", Counts), ("head", functools.partial(Head, self.num_outputs))


def test_a_collection_that_is_not_kept_is_refused():
    with pytest.raises(InputError, match=r"Counting .*cache.*params and batch_stats"):
        init_variables(Counting(3), KEY, (5,))
