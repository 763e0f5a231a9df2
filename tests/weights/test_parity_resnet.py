"""Residual networks against torchvision's, timm's and transformers'."""

from functools import partial

import jax
import pytest
from family_checks import (
    all_models,
    assert_complete,
    assert_trains_alike,
    logits_alone,
    parameter_count,
    slow_but,
    without_values,
)
from parity import assert_parity, calibrated, library

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.resnet import ResNet
from jaxdl.weights.resnet import KEYS

NAMES = [name for name, entry in MODELS.items() if entry.family is ResNet]
PLAIN = [name for name in NAMES if name[:6] == "resnet"]  # those that transformers has
STAGES = {
    "torchvision": {"stem": "maxpool", "stage1": "layer1", "stage3": "layer3"},
    "timm": {"stem": "maxpool", "stage1": "layer1", "stage3": "layer3"},
    "huggingface": {
        "stem": "resnet.embedder",
        "stage1": "resnet.encoder.stages.0",
        "stage3": "resnet.encoder.stages.2",
    },
}


def _made(name, layout):
    if layout == "torchvision":
        return getattr(library("torchvision.models"), name)()
    if layout == "timm":
        return library("timm").create_model(name)
    return _huggingface(name)


def _huggingface(name, **changes):
    transformers = library("transformers")
    arguments = {**MODELS[name].arguments, **changes}
    widths = [arguments.get("width", 64) * 2**i for i in range(len(arguments["depths"]))]
    bottleneck = arguments["block"] == "bottleneck"
    config = transformers.ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=[4 * width for width in widths] if bottleneck else widths,
        depths=list(arguments["depths"]),
        layer_type=arguments["block"],
        num_labels=changes.get("num_labels", 1000),
    )
    return logits_alone(transformers.ResNetForImageClassification(config))


def _shallow(stages=3, **arguments):
    """torchvision's bottleneck network with one block a stage, and fewer stages."""
    resnet, nn = library("torchvision.models").resnet, library("torch").nn
    network = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], **arguments)
    for i in range(stages, 4):
        setattr(network, f"layer{i + 1}", nn.Identity())
    network.fc = nn.Linear(256 * 2 ** (stages - 1), 10)
    return network


@pytest.mark.slow
def test_resnet18_is_torchvisions():
    network = calibrated(library("torchvision.models").resnet18(), 224)
    assert_parity("resnet18", network, KEYS, "torchvision", side=224, stages=STAGES["torchvision"])


@pytest.mark.parametrize(
    ("name", "grouping"),
    [
        pytest.param("wide_resnet50_2", {"width_per_group": 128}, marks=pytest.mark.slow),
        ("resnext50_32x4d", {"groups": 32, "width_per_group": 4}),
    ],
)
def test_wide_and_grouped_bottlenecks_are_torchvisions(name, grouping):
    network = calibrated(_shallow(**grouping), 75)
    arguments = {"depths": (1, 1, 1)}
    assert_parity(name, network, KEYS, "torchvision", side=75, stages=STAGES["torchvision"], arguments=arguments)


@pytest.mark.parametrize("name", slow_but(["resnet18"], ["resnet18", "resnet50"]))
def test_basic_and_bottleneck_layers_are_transformers(name):
    arguments = {"depths": (1, 2, 1), "width": 16}
    network = calibrated(_huggingface(name, num_labels=10, **arguments), 96)
    assert_parity(name, network, KEYS, "huggingface", side=96, stages=STAGES["huggingface"], arguments=arguments)


@pytest.mark.slow
def test_it_trains_as_torchvisions_does():
    network = calibrated(_shallow(stages=2, groups=32, width_per_group=4), 64)
    assert_trains_alike("resnext50_32x4d", network, KEYS, "torchvision", side=64, arguments={"depths": (1, 1)})


PUBLISHED = [(name, layout) for name in NAMES for layout in KEYS.layouts if layout != "huggingface" or name in PLAIN]
QUICK = [("resnet18", "torchvision"), ("resnet18", "timm"), ("resnet50", "huggingface")]


@pytest.mark.parametrize(("name", "layout"), slow_but(QUICK, PUBLISHED))
def test_key_tables_are_complete(name, layout):
    assert_complete(name, without_values(_made, name, layout), KEYS, layout)


@pytest.mark.parametrize("name", slow_but(["resnet18", "resnet50"], NAMES))
def test_size_is_the_published(name):
    models = library("torchvision.models")
    assert parameter_count(name) == models.get_model_weights(name).DEFAULT.meta["num_params"]


@all_models
@pytest.mark.parametrize(("name", "layout"), PUBLISHED)
def test_every_network_is_theirs(name, layout, record_property):
    network = calibrated(_made(name, layout), 224)
    for side in (224, 160):
        _, _, off = assert_parity(name, network, KEYS, layout, side=side, stages=STAGES[layout])
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


def test_a_narrow_one_is_described_and_made_again():
    model = create("resnext50_32x4d", 5, depths=(1, 1), width=32, groups=8, width_per_group=16)
    name, arguments = describe(model)
    assert create(name, 5, **arguments) == model
    assert describe(create("resnet50", 5, width_per_group=128)) == ("wide_resnet50_2", {})
    x = jax.ShapeDtypeStruct((2, 33, 47, 3), "float32")
    features, variables = jax.eval_shape(partial(model.init_with_output, stop="head"), jax.random.key(0), x)
    assert features.shape == (2, 256)
    assert variables["params"]["stage2"]["block1"]["conv2"]["kernel"].shape == (3, 3, 16, 128)  # 64 · 16/64 · 8


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet18", {"groups": 2}, "groups=2, width_per_group=64 with block='basic'; only block='bottleneck'"),
        ("resnet34", {"width_per_group": 128}, "groups=1, width_per_group=128 with block='basic'"),
        ("resnet50", {"groups": 0}, "groups=0 and width_per_group=64 has no channels .* expected groups of at least 1"),
        ("resnext50_32x4d", {"width": 8}, "width 8 with groups=32 and width_per_group=4 has no channels"),
    ],
)
def test_groups_that_cannot_be_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        create(name, 3, **arguments)
