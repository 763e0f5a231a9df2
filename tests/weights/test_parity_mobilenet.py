"""MobileNetV2 and EfficientNet against torchvision's, timm's, and EfficientNet-PyTorch's definition."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from family_checks import (
    all_models,
    assert_complete,
    assert_trains_alike,
    parameter_count,
    slow_but,
    without_values,
)
from parity import assert_parity, calibrated, library

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.efficientnet import EfficientNet
from jaxdl.models.initialise import init_variables
from jaxdl.models.mobilenet import MobileNetV2, round_channels
from jaxdl.weights.efficientnet import PYTORCH, TENSORFLOW
from jaxdl.weights.families import KEYS as FAMILIES
from jaxdl.weights.hub_config import read_config, timm_of_model
from jaxdl.weights.published import published

NAMES = [name for name, entry in MODELS.items() if issubclass(entry.family, (MobileNetV2, EfficientNet))]
LAYOUTS = [(name, layout) for name in NAMES for layout in FAMILIES[MODELS[name].family].layouts]
FEW = {"mobilenet_v2": (1, 1, 1, 2, 1, 1, 1), "efficientnet": (1, 1, 1, 1, 1, 2, 1)}  # blocks of a small network
SIDE = 70  # 35, 18, 9, 5, 3: even and odd sides, which SAME pads otherwise


def original(name, width=None, depths=None, outputs=1000):
    """As the package EfficientNet-PyTorch defines and names it, with padding computed from the image."""
    torch = library("torch")
    nn, functional = torch.nn, torch.nn.functional
    lite, preset = name == "efficientnet_lite0", MODELS[name].preset
    width, depths = width or preset["width"], depths or preset["depths"]
    activation = functional.relu6 if lite else functional.silu
    kinds = [(1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 2, 3), (6, 112, 1, 5), (6, 192, 2, 5), (6, 320, 1, 3)]

    class Same(nn.Conv2d):
        def forward(self, x):
            around = []
            for side, size, step in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
                missing = max(0, (-(-side // step) - 1) * step + size - side)
                around += [missing // 2, missing - missing // 2]
            return functional.conv2d(functional.pad(x, around), self.weight, self.bias, self.stride, 0, 1, self.groups)

    norm = partial(nn.BatchNorm2d, eps=1e-3)

    class Block(nn.Module):
        def __init__(self, inside, out, expansion, stride, size):
            super().__init__()
            wide = inside * expansion
            self.expanded, self.shortcut = expansion != 1, stride == 1 and inside == out
            if self.expanded:
                self._expand_conv, self._bn0 = Same(inside, wide, 1, bias=False), norm(wide)
            self._depthwise_conv = Same(wide, wide, size, stride, groups=wide, bias=False)
            self._bn1 = norm(wide)
            if not lite:
                self._se_reduce, self._se_expand = Same(wide, inside // 4, 1), Same(inside // 4, wide, 1)
            self._project_conv, self._bn2 = Same(wide, out, 1, bias=False), norm(out)

        def forward(self, x):
            y = activation(self._bn0(self._expand_conv(x))) if self.expanded else x
            y = activation(self._bn1(self._depthwise_conv(y)))
            if not lite:
                y = y * torch.sigmoid(self._se_expand(activation(self._se_reduce(y.mean((2, 3), keepdim=True)))))
            y = self._bn2(self._project_conv(y))
            return x + y if self.shortcut else y

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            inside, last = (32, 1280) if lite else (round_channels(width * 32), round_channels(width * 1280))
            self._conv_stem, self._bn0 = Same(3, inside, 3, 2, bias=False), norm(inside)
            blocks = []
            for (expansion, features, stride, size), depth in zip(kinds, depths, strict=True):
                for place in range(depth):
                    out = round_channels(width * features)
                    blocks.append(Block(inside, out, expansion, 1 if place else stride, size))
                    inside = out
            self._blocks = nn.ModuleList(blocks)
            self._conv_head, self._bn1 = Same(inside, last, 1, bias=False), norm(last)
            self._fc = nn.Linear(last, outputs)

        def forward(self, x):
            x = activation(self._bn0(self._conv_stem(x)))
            for block in self._blocks:
                x = block(x)
            return self._fc(activation(self._bn1(self._conv_head(x))).mean((2, 3)))

    return Net()


def _made(name, layout, **options):
    if layout == "efficientnet_pytorch":
        return original(name)
    if layout == "timm":
        return library("timm").create_model(timm_of_model(create(name, 1)), **options)
    return getattr(library("torchvision.models"), name)(**options)


def _small(name, layout, **options):
    """A quarter of the width, and three tenths of the blocks."""
    width, family = 0.25, name[:12]
    if layout == "efficientnet_pytorch":
        return original(name, width, FEW[family], 10)
    options = {"num_classes": 10, **options}
    if layout == "timm":
        models = library("timm.models.efficientnet")
        make = {
            "mobilenet_v2": models._gen_mobilenet_v2,
            "efficientnet_lite0": models._gen_efficientnet_lite,
            "efficientnet_b0": models._gen_efficientnet,
        }[name]
        return make(timm_of_model(create(name, 1)), width, 0.3, **options)
    if name == "mobilenet_v2":
        kinds = [[1, 16, 1], [6, 24, 2], [6, 32, 2], [6, 64, 2], [6, 96, 1], [6, 160, 2], [6, 320, 1]]
        settings = [[t, c, n, s] for (t, c, s), n in zip(kinds, FEW[name], strict=True)]
        models = library("torchvision.models")
        return models.MobileNetV2(width_mult=width, inverted_residual_setting=settings, **options)
    models = library("torchvision.models.efficientnet")
    settings, last = models._efficientnet_conf(name, width_mult=width, depth_mult=0.3)
    return models.EfficientNet(settings, options.pop("dropout", 0.2), last_channel=last, **options)


def _stages(name, layout):
    """Stages to compare, by the modules there."""
    if layout == "timm":
        return {"stem": "bn1", "stage2": "blocks.1", "stage6": "blocks.5"}  # its bn1 includes the activation
    first = [sum(FEW[name[:12]][: stage + 1]) for stage in range(7)]  # number of the last block of each stage
    if layout == "efficientnet_pytorch":
        return {"stage2": f"_blocks.{first[1] - 1}", "stage6": f"_blocks.{first[5] - 1}"}
    if name == "mobilenet_v2":
        return {"stem": "features.0", "stage2": f"features.{first[1]}", "stage6": f"features.{first[5]}"}
    return {"stem": "features.0", "stage2": "features.2", "stage6": "features.6"}


def _arguments(name):
    return {"width": 0.25, "depths": FEW[name[:12]]}


SMALL = [(name, layout) for name, layout in LAYOUTS if name[:-1] != "efficientnet_b" or name[-1] == "0"]


@pytest.mark.parametrize(("name", "layout"), slow_but([("mobilenet_v2", "torchvision")], SMALL))
def test_answers_are_theirs(name, layout):
    arguments = _arguments(name) | (TENSORFLOW if layout == "efficientnet_pytorch" else {})
    options = {}
    if name == "efficientnet_lite0" and layout == "timm":  # made as its tf_ networks are
        options = {"pad_type": "same", "bn_eps": 1e-3}
    network = calibrated(_small(name, layout, **options), SIDE)
    keys, stages = FAMILIES[MODELS[name].family], _stages(name, layout)
    assert_parity(name, network, keys, layout, side=SIDE, stages=stages, arguments=arguments)


@pytest.mark.slow
def test_same_padding_is_timms():
    """An EfficientNet-B0 of TensorFlow's kind; with PyTorch's padding the same weights answer otherwise."""
    network = calibrated(_small("efficientnet_b0", "timm", pad_type="same", bn_eps=1e-3), SIDE)
    keys, stages = FAMILIES[EfficientNet], _stages("efficientnet_b0", "timm")
    arguments = _arguments("efficientnet_b0")
    check = partial(assert_parity, "efficientnet_b0", network, keys, "timm", side=SIDE, stages=stages)
    check(arguments=arguments | TENSORFLOW)
    with pytest.raises(AssertionError, match="of the spread between images"):
        check(arguments=arguments | TENSORFLOW | {"padding": "symmetric"})
    with pytest.raises(AssertionError, match="of the spread between images"):
        check(arguments=arguments | TENSORFLOW | {"epsilon": 1e-5})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_it_trains_as_torchvisions_does(name):
    options = {"dropout": 0.0} | ({"stochastic_depth_prob": 0.0} if name != "mobilenet_v2" else {})
    network = calibrated(_small(name, "torchvision", **options), SIDE)
    for module in network.modules():  # all images have nearly the same statistics: leave them something to learn
        if isinstance(module, library("torch").nn.BatchNorm2d):
            module.reset_running_stats()
    arguments = _arguments(name) | {"dropout": 0.0} | ({"stochastic_depth": 0.0} if name != "mobilenet_v2" else {})
    keys = FAMILIES[MODELS[name].family]
    off = assert_trains_alike(name, network, keys, "torchvision", side=SIDE, arguments=arguments, wide=True)
    assert off <= 1e-6


QUICK = [("mobilenet_v2", "timm"), ("efficientnet_b0", "torchvision")]


@pytest.mark.parametrize(("name", "layout"), slow_but(QUICK, LAYOUTS))
def test_key_tables_are_complete(name, layout):
    network = without_values(_made, name, layout)
    assert_complete(name, network, FAMILIES[MODELS[name].family], layout)
    assert parameter_count(name) == MODELS[name].parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[2:])
def test_stochastic_depth_and_dropout_are_torchvisions(name):
    network = without_values(_made, name, "torchvision")
    theirs = [m.p for m in network.modules() if type(m).__name__ == "StochasticDepth"]
    model = create(name, 5)
    ours = [p for _, make in model.stages() for p in getattr(make(), "stochastic_depths", ())]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert theirs[-1] > 0.1
    assert model.dropout == network.classifier[0].p


@pytest.mark.parametrize("name", [name for name in NAMES if name != "efficientnet_lite0"])
def test_what_is_published_is_torchvisions(name):
    """Address, accuracy and preparation, as torchvision states them."""
    models = library("torchvision.models")
    theirs = {weights.url: weights for weights in models.get_model_weights(name)}
    rows = {row.source: row for row in published(name) if row.source.startswith("https:")}
    assert rows.keys() == theirs.keys()
    for address, row in rows.items():
        weights, own = theirs[address], row.preprocessing
        transform = weights.transforms()
        assert row.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert own.input_shape == (*transform.crop_size * 2, 3)
        assert int(own.input_shape[0] / own.crop_fraction) == transform.resize_size[0]
        assert own.interpolation == transform.interpolation.value
        assert (list(own.mean), list(own.std)) == (transform.mean, transform.std)
        assert MODELS[name].parameters == weights.meta["num_params"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_is_timms(name):
    """Architecture, preparation and what the name changes in the network, as timm states them."""
    timm = library("timm")
    rows = [row for row in published(name) if row.source.startswith("hf:timm/")]
    assert rows
    for row in rows:
        cfg = timm.models.get_pretrained_cfg(row.file)
        own = row.preprocessing
        assert own.input_shape == (*cfg.input_size[1:], cfg.input_size[0])
        assert (own.mean, own.std, own.interpolation) == (cfg.mean, cfg.std, cfg.interpolation)
        assert own.crop_fraction == cfg.crop_pct
        assert row.top1_side in (cfg.input_size[1], (cfg.test_input_size or cfg.input_size)[1])
        assert timm_of_model(create(name, 1, **row.arguments)) == cfg.architecture


@pytest.mark.slow
def test_stochastic_depth_skips_whole_examples_in_training_alone():
    """An example skips the second block or gets its output scaled up: two kinds of examples."""
    model = create("efficientnet_b0", 3, width=0.25, depths=(2,), stochastic_depth=0.6)
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), 400, axis=0).astype(np.float32)
    variables = init_variables(model, jax.random.key(0), x.shape[1:])
    options = dict(train=True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"], stop="last")
    found, _ = jax.jit(lambda v: model.apply(v, x, **options))(variables)
    kinds, counts = np.unique(found, axis=0, return_counts=True)
    assert len(kinds) == 2
    assert 0.62 < counts.max() / 400 < 0.78  # the second of two blocks: half of 0.6
    in_use = jax.jit(lambda v: model.apply(v, x, stop="last"))(variables)
    assert len(np.unique(in_use, axis=0)) == 1


@pytest.mark.parametrize(
    ("architecture", "name", "arguments"),
    [
        ("mobilenetv2_100", "mobilenet_v2", {}),
        ("efficientnet_b3", "efficientnet_b3", PYTORCH),
        ("tf_efficientnet_b3", "efficientnet_b3", TENSORFLOW),
        ("tf_efficientnet_lite0", "efficientnet_lite0", TENSORFLOW),
        ("efficientnet_lite0", "efficientnet_lite0", PYTORCH),
        ("tf_efficientnet_b7", None, {}),
        ("tf_efficientnetv2_s", None, {}),
    ],
)
def test_a_configuration_of_timms_says_how_the_network_pads(tmp_path, architecture, name, arguments):
    cfg = {"input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": cfg}))
    described = read_config(tmp_path)
    assert (described.model, dict(described.arguments)) == (name, arguments)
    if name is not None:
        assert timm_of_model(create(name, 5, **arguments)) == architecture


def _checkpoint(name, **arguments):
    model = create(name, 4, width=0.25, depths=(1, 1), **arguments)
    return jaxdl.from_model(model, jaxdl.data.ImagePreprocessing((32, 32, 3), (0.5,) * 3, (0.5,) * 3), "abcd")


def test_weights_that_others_would_use_wrongly_are_not_exported(tmp_path):
    fitted = _checkpoint("efficientnet_b0", **TENSORFLOW)
    with pytest.raises(InputError, match=r"padding='same'.*torchvision.*layout='efficientnet_pytorch'"):
        jaxdl.export(fitted, tmp_path / "a", layout="torchvision")
    mixed = _checkpoint("efficientnet_b0", padding="same")
    with pytest.raises(InputError, match=r"timm.*'padding': 'same'"):
        jaxdl.export(mixed, tmp_path / "b", layout="timm")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_the_names_of_efficientnet_pytorch_say_how_the_network_pads(tmp_path):
    fitted = _checkpoint("efficientnet_b0", **TENSORFLOW)
    file = jaxdl.export(fitted, tmp_path / "out", layout="efficientnet_pytorch")
    arguments = {"width": 0.25, "depths": (1, 1)}
    again = jaxdl.convert(file, "efficientnet_b0", arguments=arguments, preprocessing={"image_size": 32})
    assert again.checkpoint.model == fitted.model
    jax.tree.map(np.testing.assert_array_equal, again.checkpoint.variables, fitted.variables)


@all_models
@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_network_is_theirs(name, layout):
    network = calibrated(_made(name, layout), 224)
    arguments = TENSORFLOW if layout == "efficientnet_pytorch" else {}
    keys = FAMILIES[MODELS[name].family]
    for side in (224, 161):
        assert_parity(name, network, keys, layout, side=side, stages={}, arguments=arguments)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b2", "efficientnet_lite0"])
def test_a_narrow_one_is_described_and_made_again(name):
    model = create(name, 5, width=0.1, depths=(1, 2, 1))
    again = describe(model)
    assert again[0] in (name, "efficientnet_b0")  # from which fewer arguments differ
    assert create(again[0], 5, **again[1]) == model
    assert describe(create("efficientnet_b0", 5, **TENSORFLOW)) == ("efficientnet_b0", TENSORFLOW)
    assert describe(create("efficientnet_lite0", 5, **PYTORCH)) == ("efficientnet_lite0", PYTORCH)
    x = jax.ShapeDtypeStruct((2, 33, 47, 3), "float32")
    logits, taps = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), np.zeros(x.shape, "float32"), taps=model.stage_names)
    )[0]
    assert logits.shape == (2, 5)
    assert [taps[stage].shape[1:3] for stage in ("stem", "stage1", "stage2", "stage3", "last")] == [
        (17, 24),
        (17, 24),
        (9, 12),
        (5, 6),
        (5, 6),
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mobilenet_v2", {"width": 0.0}, "width of mobilenet_v2 is 0.0"),
        ("mobilenet_v2", {"depths": (1,) * 8}, r"depths of mobilenet_v2 is \(1, 1.*7 groups"),
        ("efficientnet_b0", {"depths": ()}, r"depths of efficientnet is \(\)"),
        ("efficientnet_b0", {"width": float("nan")}, "width of efficientnet is nan"),
        ("efficientnet_b0", {"padding": "sane"}, "padding 'sane'.*'same'"),
        ("efficientnet_lite0", {"stochastic_depth": 1.0}, "stochastic_depth is 1.0"),
    ],
)
def test_what_cannot_be_is_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        create(name, 3, **arguments)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_inputs_of_another_shape_are_refused(name):
    with pytest.raises(InputError, match=r"needs \[batch, height, width, channels\], got \(1, 5\)"):
        init_variables(create(name, 3), jax.random.key(0), (5,))
