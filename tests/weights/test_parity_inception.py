"""Inception-v3 and GoogLeNet against torchvision's and timm's."""

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
from jaxdl.models.googlenet import ceil_max_pool
from jaxdl.models.initialise import init_variables
from jaxdl.weights import googlenet, inception

pytestmark = pytest.mark.slow  # a plain run has these families in test_every_model.py
KEYS = {"googlenet": googlenet.KEYS, "inception_v3": inception.KEYS}
LAYOUTS = [(name, layout) for name, keys in KEYS.items() for layout in keys.layouts]
STAGES = {
    "googlenet": {"stem": "maxpool2", "inception3b": "inception3b", "inception4e": "inception4e"},
    "inception_v3": {"mixed_5d": "Mixed_5d", "mixed_6e": "Mixed_6e", "mixed_7b": "Mixed_7b"},
}
SIDES = {"googlenet": (224, 75), "inception_v3": (299, 160)}
NARROW = 8  # as many times fewer channels


def _made(name, layout, **options):
    if layout == "timm":
        return library("timm").create_model(name, **options)
    return getattr(library("torchvision.models"), name)(init_weights=False, **options)


def _narrow(name, **options):
    """torchvision's network with an eighth of the channels."""
    module = library("torchvision.models." + name.removesuffix("_v3"))

    def unit(inside, outside, **sizes):
        return module.BasicConv2d(inside if inside == 3 else inside // NARROW, outside // NARROW, **sizes)

    options = dict(num_classes=10, aux_logits=False, init_weights=False, **options)
    if name == "googlenet":
        blocks = [unit, partial(module.Inception, conv_block=unit), None]
        network = module.GoogLeNet(blocks=blocks, **options)
    else:
        blocks = [partial(getattr(module, f"Inception{kind}"), conv_block=unit) for kind in "ABCDE"]
        network = module.Inception3(inception_blocks=[unit, *blocks, None], **options)
    network.fc = library("torch").nn.Linear(network.fc.in_features // NARROW, 10)
    return network


@pytest.mark.parametrize(("name", "side"), [(name, side) for name in KEYS for side in SIDES[name]])
def test_it_is_torchvisions(name, side):
    network = calibrated(_narrow(name, transform_input=True), SIDES[name][0])
    arguments = {"width": 1 / NARROW, "transform_input": True}
    stages = STAGES[name]
    assert_parity(name, network, KEYS[name], "torchvision", side=side, stages=stages, arguments=arguments)


@pytest.mark.parametrize(("name", "side"), [("googlenet", 64), ("inception_v3", 139)])
def test_it_trains_as_torchvisions_does(name, side):
    network = calibrated(_narrow(name, dropout=0.0), side)
    for module in network.modules():  # all images have nearly the same statistics: leave them something to learn
        if isinstance(module, library("torch").nn.BatchNorm2d):
            module.reset_running_stats()
    arguments = {"width": 1 / NARROW, "dropout": 0.0}
    off = assert_trains_alike(name, network, KEYS[name], "torchvision", side=side, arguments=arguments, wide=True)
    assert off <= 1e-6


@pytest.mark.parametrize(("length", "size"), [(2, 3), (8, 3), (9, 3), (1, 2), (6, 2), (7, 2)])
def test_what_pooling_leaves_over_is_pytorchs(length, size):
    torch = library("torch")
    x = np.random.default_rng(0).normal(size=(2, length, 11, 3)).astype(np.float32)
    wanted = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), size, 2, ceil_mode=True)
    np.testing.assert_array_equal(ceil_max_pool(x, size), wanted.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
@pytest.mark.parametrize("auxiliary", [True, False])
def test_key_tables_are_complete(name, layout, auxiliary):
    network = without_values(_made, name, layout, aux_logits=auxiliary)
    assert_complete(name, network, KEYS[name], layout)
    dropped = [tensor for tensor in network.state_dict() if tensor.startswith(("aux", "AuxLogits"))]
    assert bool(dropped) == auxiliary


@pytest.mark.parametrize("name", KEYS)
def test_size_is_that_of_torchvisions_without_auxiliary_classifiers(name):
    network = without_values(_made, name, "torchvision", aux_logits=False)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_count(name) == MODELS[name].parameters == count


@all_models
@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_network_is_theirs(name, layout, record_property):
    network = calibrated(_made(name, layout, aux_logits=False), SIDES[name][0])
    for side in SIDES[name]:
        _, _, off = assert_parity(name, network, KEYS[name], layout, side=side, stages=STAGES[name])
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


@pytest.mark.parametrize("name", KEYS)
def test_slices_frozen_stages_and_bfloat16(name):
    arguments = {"width": 0.125, "transform_input": True}
    model = create(name, 5, **arguments)
    assert describe(model) == (name, arguments)
    x = np.zeros((2, 80, 97, 3), np.float32)
    variables = jax.eval_shape(lambda key: init_variables(model, key, x.shape[1:]), jax.random.key(0))
    features = {"googlenet": 128, "inception_v3": 256}[name]
    assert jax.eval_shape(lambda v, x: model.apply(v, x, stop="head"), variables, x).shape == (2, features)
    half = create(name, 5, **arguments, dtype="bfloat16")
    logits, taps = jax.eval_shape(lambda v, x: half.apply(v, x, taps=half.stage_names), variables, x)
    assert {each.dtype.name for each in (logits, *taps.values())} == {"bfloat16"}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf")])
def test_widths_that_leave_nothing_are_refused(name, width):
    with pytest.raises(InputError, match=f"width of {name} is {width}; expected a factor above 0"):
        create(name, 3, width=width)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("googlenet", (14, 20, 3), "googlenet needs .* of at least 15×15 pixels"),
        ("inception_v3", (90, 74, 3), "inception_v3 needs .* of at least 75×75 pixels"),
        ("inception_v3", (90, 90, 1), "transform_input is for images of 3 channels, got .*; set it to False"),
    ],
)
def test_images_that_cannot_be_are_refused(name, shape, message):
    model = create(name, 3, transform_input=True)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))


@pytest.mark.parametrize(("name", "side"), [("googlenet", 15), ("inception_v3", 75)])
def test_the_smallest_images_leave_one_position(name, side):
    model = create(name, 3, width=0.05)
    last = jax.eval_shape(
        lambda key: model.init_with_output(key, np.zeros((1, side, side, 3)), stop="pool"), jax.random.key(0)
    )
    assert last[0].shape[:3] == (1, 1, 1)
