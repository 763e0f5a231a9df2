"""The table of models: made by name, described again, and refused with advice."""

import json
import re

import jax
import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.initialise import batch_of, init_variables
from jaxdl.models.sequence import token_spec
from jaxdl.models.variables import walk_shapes

TINY = {
    "mlp": {"hidden": (32, 32)},
    "cnn": {"features": (8, 16), "hidden": (32,)},
    "vit": {"width": 16, "depth": 1, "num_heads": 2},
    "resnet20_cifar": {"depths": (1, 1), "width": 8},
    "resnet50": {"depths": (1,), "width": 8, "stem": "small"},
}


def _abstract(model, shape):
    return jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))


def _drawn(model, shape):
    """Variables of a usual size, drawn by numpy, which need not compile anything."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        return rng.normal(size=leaf.shape).astype(np.float32) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(draw, _abstract(model, shape))


FIRST = {entry.family: name for name, entry in reversed(MODELS.items())}.values()  # the first name of each family


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in MODELS]
)
def test_every_row_is_made_and_described_again(name):
    model = create(name, 5)
    assert describe(model) == (name, {})
    assert model.num_outputs == 5
    assert model.stage_names[-1] == "head"
    assert len(set(model.stage_names)) == len(model.stage_names)
    entry = MODELS[name]
    side = entry.image_size
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), batch_of(entry.example()))
    assert logits.shape == ((1, side, side, 5) if model.ANSWERS == "segmentation" else (1, 5))
    assert set(variables["params"]) | {"pool"} == set(model.stage_names) | {"pool"}  # pooling may normalise


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cnn", {"activation": "tanh", "features": (4, 4, 4)}),
        ("mlp", {"dropout": 0.5, "dtype": "bfloat16"}),
        ("vit", {"pool": "mean", "depth": 2}),
        ("resnet32_cifar", {"width": 8}),
        ("resnet50", {"stem": "small", "depths": (1, 1)}),
    ],
)
def test_a_description_survives_json(name, arguments):
    model = create(name, 4, **arguments)
    described, found = json.loads(json.dumps(describe(model)))
    again = create(described, 4, **found)
    assert type(again) is type(model)
    assert again == model


def test_a_description_is_the_shortest():
    assert describe(create("resnet18", 3, depths=(3, 4, 6, 3))) == ("resnet34", {})
    assert describe(create("resnet20_cifar", 3, depths=[9, 9, 9], width=8)) == ("resnet56_cifar", {"width": 8})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet5", {}, "'resnet5'.*mlp, cnn, .*'resnet50'?"),
        ("cnn", {"actvation": "relu"}, "'actvation'.*'activation'?"),
        ("mlp", {"parent": None}, "no argument 'parent'"),
        ("cnn", {"activation": "rellu"}, "activation 'rellu'.*'relu'?"),
        ("mlp", {"activation": "Tanh"}, "activation 'Tanh'.*'tanh'?"),
        ("cnn", {"pool": "averge"}, "pool 'averge'.*'average'?"),
        ("cnn", {"norm": "bach"}, "norm 'bach'.*'batch'?"),
        ("vit", {"pool": "tokn"}, "pool 'tokn'.*'token'?"),
        ("resnet18", {"block": "botleneck"}, "block 'botleneck'.*'bottleneck'?"),
        ("resnet18", {"stem": "smal"}, "stem 'smal'.*'small'?"),
        ("mlp", {"dtype": "bfloat"}, "dtype 'bfloat'.*'bfloat16'?"),
        ("mlp", {"param_dtype": "float64"}, "param_dtype 'float64'"),
        ("mlp", {"hidden": 8}, "'hidden' of model 'mlp' is 8"),
        ("mlp", {"hidden": (8, -1)}, "'hidden' of model 'mlp' is (8, -1)"),
        ("mlp", {"hidden": ("8",)}, "argument 'hidden'"),
        ("vit", {"depth": 2.0}, "'depth' of model 'vit' is 2.0"),
        ("vit", {"depth": True}, "argument 'depth'"),
        ("vit", {"depth": -1}, "argument 'depth'"),
        ("vit", {"width": 10, "num_heads": 4}, "width 10 .*4 attention heads"),
        ("vit", {"num_heads": 0}, "0 attention heads"),
        ("mlp", {"dropout": "0.1"}, "argument 'dropout'"),
        ("mlp", {"dropout": 1.0}, "dropout of model 'mlp' is 1.0"),
        ("mlp", {"dropout": -0.1}, "dropout of model 'mlp' is -0.1"),
        ("cnn", {"hidden": ()}, "at least one fully connected layer"),
        ("bert_tiny", {"pool": "mena"}, "pool 'mena'.*'mean'?"),
        ("bert_tiny", {"num_heads": 3}, "width 128 .*3 attention heads"),
        ("bert_tiny", {"vocabulary": 0}, "a bert needs a vocabulary"),
        ("bert_tiny", {"epsilon": 0.0}, "epsilon of a bert is 0.0"),
        ("lstm", {"kind": "lsmt"}, "kind 'lsmt'.*'lstm'?"),
        ("gru", {"pool": "lats"}, "pool 'lats'.*'last'?"),
        ("gru", {"depth": 0}, "depth of at least 1, not 30522, 128, 128 and 0"),
        ("textcnn", {"widths": ()}, "at least one of widths"),
        ("textcnn", {"widths": (3, 3)}, "expected different ones"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(name, arguments, message):
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(InputError, match=pattern):
        create(name, 3, **arguments)


TOKENS, SHORTER = jax.ShapeDtypeStruct((4,), "int32"), jax.ShapeDtypeStruct((3,), "bool")


@pytest.mark.parametrize("number", [0, -1, 2.0, "3"])
def test_the_number_of_outputs_is_a_positive_whole_one(number):
    with pytest.raises(InputError, match="num_outputs is"):
        create("mlp", number)


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "message"),
    [
        ("cnn", {"features": (4, 4, 4)}, (4, 4, 1), r"conv3 of a cnn needs .* at least 2×2 pixels, got \(1, 1, 1, 4\)"),
        ("cnn", {}, (5,), r"conv1 of a cnn needs \[batch, height, width, channels\]"),
        ("vit", {"patch_size": 4}, (30, 32, 3), r"patch_size=4 .*got \(1, 30, 32, 3\)"),
        ("vit", {}, (16,), r"patch_size=4 .*got \(1, 16\)"),
        ("resnet18", {}, (5,), r"a resnet needs \[batch, height, width, channels\], got \(1, 5\)"),
        ("resnet20_cifar", {}, (5, 5), r"a resnet needs .*got \(1, 5, 5\)"),
        ("resnet18", {}, (8, 8, 0), r"ResNet cannot take inputs of shape \(8, 8, 0\)"),
        ("mlp", {}, (0,), r"MLP cannot take inputs of shape \(0,\)"),
        ("lstm", {}, (5,), r"a lstm reads a dict of tokens int32\[batch, length\] and mask .*, got float32\[1, 5\]"),
        ("bert_tiny", {}, token_spec(513), r"the input has 513 positions, and the network knows 512"),
        ("textcnn", {}, {"tokens": TOKENS}, r"a textcnn reads .* mask .*, got tokens int32\[1, 4\]"),
        ("bert_tiny", {}, token_spec(4) | {"mask": SHORTER}, r"got mask bool\[1, 3\], tokens int32\[1, 4\]"),
        ("bert_tiny", {}, token_spec(4) | {"tokens": SHORTER}, r"a bert reads"),
    ],
)
def test_inputs_of_another_shape_are_refused(name, arguments, shape, message):
    with pytest.raises(InputError, match=message):
        _abstract(create(name, 3, **arguments), shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_bfloat16_computes_in_bfloat16_with_float32_variables(name):
    exact = create(name, 5, **TINY[name])
    model = create(name, 5, dtype="bfloat16", **TINY[name])
    rng = np.random.default_rng(1)  # images of different colours: that their logits differ
    x = np.float32(rng.normal(size=(6, 8, 8, 3)) + 3 * rng.normal(size=(6, 1, 1, 3)))
    assert {leaf.dtype.name for _, leaf in walk_shapes(_abstract(model, x.shape[1:]))} == {"float32"}
    variables = _drawn(model, x.shape[1:])
    logits, taps = jax.jit(lambda v, x: model.apply(v, x, taps=model.stage_names))(variables, x)
    assert {tap.dtype.name for tap in taps.values()} == {"bfloat16"}

    operands = re.findall(
        r"stablehlo\.(?:convolution|dot_general).* : \(tensor<([^>]*)>, tensor<([^>]*)>\)",
        jax.jit(model.apply).lower(variables, x).as_text(),
    )
    assert len(operands) >= len(model.stage_names) - 2  # pooling has none
    for pair in operands:
        assert all(operand.endswith("xbf16") for operand in pair), f"a product of {pair}"

    wanted = np.asarray(jax.jit(exact.apply)(variables, x))
    spread = (wanted - wanted.mean(0)).std()
    error = np.abs(np.asarray(logits, np.float32) - wanted).max()
    assert 0 < error < 0.1 * spread

    train = lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])  # noqa: E731
    _, changed = jax.eval_shape(train, variables, x)
    assert {leaf.dtype.name for _, leaf in walk_shapes(changed)} <= {"float32"}
