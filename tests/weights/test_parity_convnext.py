"""ConvNeXts against torchvision's, timm's and transformers'."""

from functools import partial

import jax
import numpy as np
import pytest
from family_checks import all_models, assert_complete, assert_trains_alike, logits_alone, without_values
from parity import assert_parity, calibrated, library

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.initialise import init_variables
from jaxdl.weights.convnext import KEYS

pytestmark = pytest.mark.slow  # a plain run has this family in test_every_model.py
NAMES = [name for name, entry in MODELS.items() if entry.family is ConvNeXt]
STAGES = {
    "torchvision": {"stem": "features.0", "stage1": "features.1", "stage2": "features.3"},
    "timm": {"stem": "stem", "stage1": "stages.0", "stage2": "stages.1"},
    "huggingface": {
        "stem": "convnext.embeddings",
        "stage1": "convnext.encoder.stages.0",
        "stage2": "convnext.encoder.stages.1",
    },
}
SMALL = {"depths": (1, 2, 1, 1), "widths": (16, 24, 32, 40)}


def _made(name, layout):
    if layout == "torchvision":
        return getattr(library("torchvision.models"), name)()
    if layout == "timm":
        return library("timm").create_model(name)
    arguments = MODELS[name].arguments
    return _huggingface(arguments["depths"], arguments["widths"], 1000)


def _huggingface(depths, widths, outputs):
    transformers = library("transformers")
    sizes = dict(depths=list(depths), hidden_sizes=list(widths), num_stages=len(depths), num_labels=outputs)
    return logits_alone(transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**sizes)))


def _small(layout, outputs=10):
    """The layout's network, narrow and shallow."""
    depths, widths = SMALL["depths"], SMALL["widths"]
    if layout == "torchvision":
        convnext = library("torchvision.models.convnext")
        settings = zip(widths, [*widths[1:], None], depths, strict=True)
        return convnext.ConvNeXt([convnext.CNBlockConfig(*setting) for setting in settings], num_classes=outputs)
    if layout == "timm":
        return library("timm.models.convnext").ConvNeXt(depths=depths, dims=widths, num_classes=outputs)
    return _huggingface(depths, widths, outputs)


def _lively(network):
    """With kernels and layer scales of a size that lets every block matter; fresh ones change next to nothing."""
    torch = library("torch")
    network = calibrated(network, 32)
    for name, parameter in network.named_parameters():
        if name.endswith(("layer_scale", "gamma", "layer_scale_parameter")):
            torch.nn.init.uniform_(parameter, 0.2, 1)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


@pytest.mark.parametrize("layout", KEYS.layouts)
def test_answers_are_theirs(layout):
    network = _lively(_small(layout))
    assert_parity("convnext_tiny", network, KEYS, layout, side=75, stages=STAGES[layout], arguments=SMALL)


def test_it_trains_as_torchvisions_does():
    arguments = {**SMALL, "stochastic_depth": 0.0}
    assert_trains_alike(
        "convnext_tiny", _lively(_small("torchvision")), KEYS, "torchvision", side=64, arguments=arguments
    )


@pytest.mark.parametrize("name", NAMES)
def test_key_tables_are_complete(name):
    for layout in KEYS.layouts:
        network = without_values(_made, name, layout)
        assert_complete(name, network, KEYS, layout)
        assert MODELS[name].parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_depth_is_torchvisions(name):
    network = without_values(_made, name, "torchvision")
    theirs = [m.p for m in network.modules() if type(m).__name__ == "StochasticDepth"]
    model = create(name, 5)
    ours = [p for _, make in model.stages() for p in getattr(make(), "stochastic_depths", ())]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert theirs[-1] == MODELS[name].arguments["stochastic_depth"]


def test_stochastic_depth_skips_whole_examples_in_training_alone():
    """An example skips a block or gets its output scaled up: with two blocks, four kinds of examples."""
    model = create("convnext_tiny", 3, depths=(1, 1), widths=(8, 8), stochastic_depth=0.75, layer_scale=1.0)
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), 400, axis=0).astype(np.float32)
    variables = init_variables(model, jax.random.key(0), x.shape[1:])
    run = jax.jit(lambda v, key: model.apply(v, x, train=True, rngs={"dropout": key}, taps=("stage1", "stage2")))
    _, taps = run(variables, jax.random.key(1))
    in_use, _ = jax.jit(lambda v: model.apply(v, x, taps=("stage1",)))(variables)
    assert len(np.unique(in_use, axis=0)) == 1
    assert len(np.unique(taps["stage1"], axis=0)) == 1, "the first block is never skipped"
    kinds, counts = np.unique(taps["stage2"], axis=0, return_counts=True)
    assert len(kinds) == 2
    assert 0.68 < counts.max() / 400 < 0.82


@all_models
@pytest.mark.parametrize("layout", KEYS.layouts)
@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_theirs(name, layout, record_property):
    network = _lively(_made(name, layout))
    for side in (224, 160):
        _, _, off = assert_parity(name, network, KEYS, layout, side=side, stages=STAGES[layout])
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


def test_a_narrow_one_is_described_and_made_again():
    model = create("convnext_base", 5, **SMALL)
    name, arguments = describe(model)
    assert create(name, 5, **arguments) == model
    x = jax.ShapeDtypeStruct((2, 33, 47, 3), "float32")
    features, _ = jax.eval_shape(partial(model.init_with_output, stop="head"), jax.random.key(0), x)
    assert features.shape == (2, 40)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        (
            {"widths": (8, 8)},
            (32, 32, 3),
            r"depths \(3, 3, 9, 3\) and widths \(8, 8\) of a convnext; expected one each",
        ),
        ({"depths": (), "widths": ()}, (32, 32, 3), r"depths \(\) and widths \(\) of a convnext"),
        ({"stochastic_depth": 1.0}, (32, 32, 3), "stochastic_depth is 1.0; expected at least 0 and less than 1"),
        ({"stochastic_depth": -0.1}, (32, 32, 3), "stochastic_depth is -0.1"),
        ({}, (5,), r"a convnext needs \[batch, height, width, channels\], got \(1, 5\)"),
        ({}, (31, 64, 3), r"1×4 pixels come to where a convnext turns 2×2 into one; .* at least 32×32"),
        ({}, (3, 3, 3), "3×3 pixels come to where a convnext turns 4×4 into one"),
    ],
)
def test_what_cannot_be_is_refused(arguments, shape, message):
    x = jax.ShapeDtypeStruct((1, *shape), "float32")
    with pytest.raises(InputError, match=message):
        jax.eval_shape(create("convnext_tiny", 3, **arguments).init, jax.random.key(0), x)
