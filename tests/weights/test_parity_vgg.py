"""VGG against torchvision's and timm's."""

from functools import partial

import jax
import numpy as np
import pytest
from family_checks import (
    all_models,
    assert_complete,
    assert_trains_alike,
    parameter_count,
    without_values,
)
from parity import assert_parity, calibrated, library

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.initialise import init_variables
from jaxdl.models.vgg import VGG, adaptive_average_pool
from jaxdl.weights.vgg import KEYS

pytestmark = pytest.mark.slow  # a plain run has this family in test_every_model.py
NAMES = [name for name, entry in MODELS.items() if entry.family is VGG]
SMALL = {"features": (8, 8, 16, 16, 32), "hidden": (64, 48)}
# widths by blocks, as both libraries write them
PLAN = [8, "M", 8, "M", 16, 16, "M", 16, 16, "M", 32, 32, "M"]


def _made(name, layout):
    if layout == "torchvision":
        return getattr(library("torchvision.models"), name)()
    return library("timm").create_model(name)


def _small(norm, plan=PLAN, **options):
    """torchvision's network with the widths of `plan` and `SMALL`."""
    nn, vgg = library("torch").nn, library("torchvision.models.vgg")
    convolutions = vgg.make_layers(plan, batch_norm=norm == "batch")
    network = without_values(vgg.VGG, convolutions, **options, init_weights=False)
    for place, shape in (("0", (plan[-2] * 49, 64)), ("3", (64, 48)), ("6", (48, 10))):
        network.classifier.set_submodule(place, nn.Linear(*shape))
    return network


def _lively(network):
    """`network` with kernels that keep a signal's size: as they start out it would fade in the classifier."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            library("torch").nn.init.kaiming_normal_(parameter)
    return network


def _stages(network, *more):
    pooling = library("torch").nn.MaxPool2d
    ends = [name for name, module in network.named_modules() if isinstance(module, pooling)]
    return {"block1": ends[0], "block3": ends[2], "block5": ends[4], **dict(more)}


# seven positions as they are, two spread over seven, eight in overlapping pairs
SIDES = [("none", 224), ("none", 75), ("batch", 224), ("batch", 75), ("batch", 270)]


@pytest.mark.parametrize(("norm", "side"), SIDES)
def test_it_is_torchvisions_at_other_sizes_too(norm, side):
    network = calibrated(_lively(_small(norm)), 224)
    stages = _stages(network, ("fc6", "classifier.1"), ("fc7", "classifier.4"))
    assert_parity("vgg11", network, KEYS, "torchvision", side=side, stages=stages, arguments={**SMALL, "norm": norm})


@pytest.mark.parametrize("side", [224, 75])
def test_it_is_timms(side):
    small = library("timm.models.vgg").VGG(PLAN, num_classes=10, mlp_ratio=1 / 64)
    network = calibrated(_lively(small), 224)
    arguments = {**SMALL, "hidden": (64, 4096)}
    assert_parity("vgg11", network, KEYS, "timm", side=side, stages=_stages(network), arguments=arguments)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_trains_as_torchvisions_does(norm):
    network = calibrated(_lively(_small(norm, [8, "M", 16, 16, "M"], dropout=0.0)), 36)
    arguments = {"depths": (1, 2), "features": (8, 16), "hidden": SMALL["hidden"], "norm": norm, "dropout": 0.0}
    wide = norm == "batch"  # the gradient of a bias before batch norm is rounding alone
    assert_trains_alike("vgg11", network, KEYS, "torchvision", side=36, arguments=arguments, wide=wide)


@pytest.mark.parametrize("shape", [(1, 14), (7, 5), (8, 20)])
def test_adaptive_average_pooling_is_pytorchs(shape):
    torch = library("torch")
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    wanted = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 7)
    np.testing.assert_allclose(adaptive_average_pool(x, 7), wanted.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", KEYS.layouts)
@pytest.mark.parametrize("name", NAMES)
def test_key_tables_are_complete(name, layout):
    assert_complete(name, without_values(_made, name, layout), KEYS, layout)


@pytest.mark.parametrize("name", NAMES)
def test_size_is_the_published(name):
    published = library("torchvision.models").get_model_weights(name).DEFAULT.meta["num_params"]
    assert parameter_count(name) == MODELS[name].parameters == published


@all_models
@pytest.mark.parametrize("layout", KEYS.layouts)
@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_theirs(name, layout, record_property):
    network = calibrated(_lively(_made(name, layout)), 224)
    for side in (224, 160):
        _, _, off = assert_parity(name, network, KEYS, layout, side=side, stages=_stages(network))
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


def test_slices_frozen_stages_and_bfloat16():
    model = create("vgg13_bn", 5, depths=(1, 2), features=(4, 8), hidden=(12, 6))
    assert model.stage_names == ("block1", "block2", "fc6", "fc7", "head")
    assert describe(model)[1] == {"depths": (1, 2), "features": (4, 8), "hidden": (12, 6)}
    x = np.random.default_rng(0).normal(size=(2, 16, 23, 3)).astype(np.float32)
    variables = init_variables(model, jax.random.key(0), x.shape[1:])
    assert variables["params"]["fc6"]["dense"]["kernel"].shape == (7 * 7 * 8, 12)
    assert jax.eval_shape(lambda v, x: model.apply(v, x, stop="head"), variables, x).shape == (2, 6)
    half = create("vgg11", 5, **SMALL, dtype="bfloat16")
    shapes = jax.eval_shape(lambda k: half.init_with_output(k, np.zeros((2, 32, 40, 3))), jax.random.key(0))
    assert shapes[0].dtype == "bfloat16"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes[1])} == {"float32"}

    @partial(jax.jit, static_argnums=0)
    def train(frozen, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(
            variables, x, train=True, evaluated=model.stage_names[:frozen], mutable=["batch_stats"], rngs=rngs
        )

    logits, changed = train(1, 0)
    same = jax.tree.map(np.array_equal, changed["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(same["block1"]))
    assert not any(jax.tree.leaves(same["block2"]))
    assert not np.array_equal(logits, train(1, 1)[0]), "fc6 and fc7 drop units in training"
    assert np.array_equal(train(4, 0)[0], train(4, 1)[0]), "frozen stages drop none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1)}, r"depths=\(1, 1\) names 2 blocks, features=.* the channels of 5; make them equally long"),
        ({"depths": (), "features": ()}, "depths=.* names 0 blocks"),
        ({"hidden": (8,)}, r"hidden of a vgg is \(8,\); expected the two widths of fc6 and fc7"),
        ({"norm": "bach"}, "unknown norm 'bach'.*Did you mean 'batch'"),
        ({"dropout": 1.0}, "dropout of model 'vgg11' is 1.0"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        create("vgg11", 3, **arguments)


@pytest.mark.parametrize("shape", [(31, 64, 3), (8, 8)])
def test_images_too_small_are_refused(shape):
    model = create("vgg11", 3)
    with pytest.raises(InputError, match=r"of a vgg needs \[batch, height, width, channels\] of at least 2×2 pixels"):
        jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))
