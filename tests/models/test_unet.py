"""U-Nets: against PyTorch, with published weights, and around the trained stages of other families."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.masks import VOID
from jaxdl.errors import InputError
from jaxdl.models import describe, rebuild
from jaxdl.models.initialise import init_variables, variable_shapes
from jaxdl.models.unet import feature_maps
from jaxdl.training.execution import Execution

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


SMALL = dict(depth=2, width=4)
CNN = dict(features=(4, 8), hidden=(8,))


def blocks(count, seed=0, side=12):
    """Noisy pictures of a bright block and a dark one on grey ground."""
    random = np.random.default_rng(seed)
    y = np.zeros((count, side, side), np.uint8)
    for picture in y:
        for label in (1, 2):
            top, left = random.integers(0, side - 4, 2)
            picture[top : top + 4, left : left + 4] = label
    x = (np.array([120, 210, 30])[y] + random.normal(0, 10, y.shape)).clip(0, 255).astype(np.uint8)
    y[:, 0] = VOID
    return data.Arrays(x[..., None].repeat(3, -1), y, ("ground", "bright", "dark"))


SOURCE = blocks(24)


def drawn(model, spec, seed=0):
    """Variables of numpy's, batch statistics too."""
    random = np.random.default_rng(seed)
    shapes = variable_shapes(model, spec)
    made = jax.tree.map(lambda s: random.normal(0, 0.4, s.shape).astype(np.float32), shapes)
    return {**made, "batch_stats": jax.tree.map(lambda leaf: 1 + np.abs(leaf), made["batch_stats"])}


@needs_torch
@pytest.mark.parametrize("size", [slow((16, 24)), (13, 18)])
def test_it_computes_what_the_paper_says(size):
    """Written in PyTorch with its own convolutions, pooling and 2×2 up-convolutions, the maps padded as ours are."""
    import torch
    import torch.nn.functional as F

    model = jaxdl.create("unet", 3, **SMALL)
    variables = drawn(model, (*size, 2))
    params, stats = variables["params"], variables["batch_stats"]

    def double(stage, x):
        for i in "12":
            weights, moved = params[stage]["convs"], stats[stage]["convs"][f"norm{i}"]["batch"]
            x = F.conv2d(x, torch.tensor(weights[f"conv{i}"]["kernel"].transpose(3, 2, 0, 1)), padding=1)
            norm = weights[f"norm{i}"]["batch"]
            mean, var, scale, bias = (torch.tensor(v) for v in (moved["mean"], moved["var"], *_of(norm)))
            x = F.relu(F.batch_norm(x, mean, var, scale, bias))
        return x

    def _of(norm):
        return norm["scale"], norm["bias"]

    def up(stage, x, skip):
        kernel, bias = params[stage]["up"]["kernel"], params[stage]["up"]["bias"]
        features = skip.shape[1]
        weight = torch.tensor(kernel.reshape(-1, 2, 2, features).transpose(0, 3, 1, 2).copy())
        x = F.conv_transpose2d(x, weight, stride=2)  # its bias is one for each channel, ours for each place, too
        x = x + torch.tensor(np.tile(bias.reshape(2, 2, features).transpose(2, 0, 1), (1, *np.array(x.shape[2:]) // 2)))
        x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]), mode="replicate")
        return double(stage, torch.cat([x, skip], 1))

    x = np.random.default_rng(1).normal(size=(2, *size, 2)).astype(np.float32)
    one = double("down1", torch.tensor(x.transpose(0, 3, 1, 2)))
    two = double("down2", F.max_pool2d(one, 2))
    made = up("up1", up("up2", double("bottom", F.max_pool2d(two, 2)), two), one)
    head = params["head"]["dense"]
    expected = made.permute(0, 2, 3, 1).numpy() @ head["kernel"] + head["bias"]
    found = model.apply(variables, x)
    assert found.shape == (2, *size, 3)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@needs_torch
def test_a_published_network_gives_the_logits_of_its_published_architecture(real_data):
    """retina-unet, trained on DRIVE: its Keras 1 architecture written in PyTorch, the kernels turned by 180 degrees."""
    import torch
    import torch.nn.functional as F

    file = real_data / "weights" / "retina_unet_drive.npz"
    found = jaxdl.convert(file, "retina_unet")
    assert list(found.dropped) == ["__architecture_json__"]
    assert found.checkpoint.card.task.names == ("background", "vessel")
    with np.load(file) as held:
        tensors = {name.rsplit("/")[-1]: torch.tensor(held[name]) for name in held.files if name.startswith("conv")}

    def convs(first, x):
        for i in (first, first + 1):
            x = one(i, x)
        return x

    def one(i, x):
        kernel = tensors[f"convolution2d_{i}_W"].flip(2, 3)
        return F.relu(F.conv2d(x, kernel, tensors[f"convolution2d_{i}_b"], padding=kernel.shape[-1] // 2))

    x = np.random.default_rng(0).random((2, 48, 48, 1)).astype(np.float32)
    top = convs(1, torch.tensor(x.transpose(0, 3, 1, 2)))
    middle = convs(3, F.max_pool2d(top, 2))
    bottom = convs(5, F.max_pool2d(middle, 2))
    up = convs(7, torch.cat([F.interpolate(bottom, scale_factor=2), middle], 1))
    up = convs(9, torch.cat([F.interpolate(up, scale_factor=2), top], 1))
    expected = one(11, up).permute(0, 2, 3, 1).numpy()
    network = found.checkpoint
    np.testing.assert_allclose(network.model.apply(network.variables, x), expected, atol=1e-4)
    assert expected.std() > 1


def test_published_weights_go_back_as_they_came(real_data, tmp_path):
    file = real_data / "weights" / "retina_unet_drive.npz"
    out = jaxdl.export(jaxdl.convert(file, "retina_unet").checkpoint, tmp_path / "out", file_format="npz")
    with np.load(out) as mine, np.load(file) as theirs:
        assert set(theirs.files) - set(mine.files) == {"__architecture_json__"}
        for name in mine.files:
            np.testing.assert_array_equal(mine[name], theirs[name])


ENCODERS = {
    "cnn": CNN,
    "resnet20_cifar": dict(depths=(1, 1), width=4),
    "resnet18": dict(depths=(1, 1), width=4),
    "vgg11": dict(depths=(1, 1), features=(4, 8), hidden=(8, 8)),
    "convnext_tiny": dict(depths=(1, 1), widths=(4, 8)),
}


@pytest.mark.parametrize("name", ["cnn", *map(slow, list(ENCODERS)[1:])])
def test_an_encoder_keeps_its_stages_their_names_and_what_they_compute(name):
    encoder = jaxdl.create(name, 5, **ENCODERS[name])
    factors, maps = feature_maps(encoder)
    model = jaxdl.create("unet", 3, encoder=encoder, width=4, upsample="nearest")
    assert model.stage_names[: len(maps)] == encoder.stage_names[: len(maps)]
    assert [n for n in model.stage_names if n.startswith("up")] == [f"up{i}" for i in range(len(factors), 0, -1)]
    spec = (34, 46, 3)  # which no power of two divides
    mine, theirs = drawn(model, spec), drawn(encoder, spec, 1)
    names = [stage for stage, _ in maps]
    for kind in mine:
        mine[kind] |= {stage: theirs[kind][stage] for stage in names if stage in theirs[kind]}
    x = np.random.default_rng(2).normal(size=(2, *spec)).astype(np.float32)
    logits, taps = model.apply(mine, x, taps=names)
    assert logits.shape == (2, 34, 46, 3)
    _, expected = encoder.apply(theirs, x, taps=names)
    for stage in names:
        np.testing.assert_allclose(taps[stage]["x"], expected[stage], rtol=1e-6, atol=1e-6)


def test_it_is_described_and_made_again():
    model = jaxdl.create("unet", 3, encoder="resnet20_cifar", width=8)
    name, arguments = describe(model)
    assert arguments == {"encoder": {"name": "resnet20_cifar", "arguments": {}}, "width": 8}
    assert rebuild(name, 3, arguments) == model
    assert hash(rebuild(name, 3, arguments)) == hash(model)
    with pytest.raises(InputError, match="'resnet21_cifar'"):
        jaxdl.create("unet", 3, encoder="resnet21_cifar")
    with pytest.raises(InputError, match=r"encoder.*3"):
        jaxdl.create("unet", 3, encoder=3)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [("vit", {}, "ViT has no stages that make feature maps"), ("mlp", {}, "MLP has no stages")],
)
def test_what_makes_no_feature_maps_is_no_encoder(name, arguments, said):
    with pytest.raises(InputError, match=said):
        jaxdl.create("unet", 3, encoder=name, **arguments).stage_names  # noqa: B018


def test_an_image_too_small_to_be_halved_is_refused():
    with pytest.raises(InputError, match="smaller depth"):
        init_variables(jaxdl.create("unet", 3, depth=4, width=2), jax.random.key(0), (8, 8, 1))


@pytest.fixture(scope="module")
def classifier():
    """A CNN that tells which half of a picture is brighter."""
    random = np.random.default_rng(3)
    x = random.integers(0, 256, (32, 12, 12, 3), np.uint8)
    labels = (x[:, :6].mean((1, 2, 3)) > x[:, 6:].mean((1, 2, 3))).astype(np.int32)
    source = data.Arrays(x, labels, ("below", "above"))
    return jaxdl.pretrain(jaxdl.create("cnn", 2, **CNN), source, jaxdl.Plan(epochs=1))


PLAN = jaxdl.Plan(epochs=6, batch_size=8, learning_rate=2e-2)


def test_a_classifier_becomes_the_encoder_and_its_weights_go_on(classifier, tmp_path):
    tuned = jaxdl.finetune(classifier, SOURCE, dataclasses.replace(PLAN, freeze_through="conv2"))
    assert tuned.model.stage_names == ("conv1", "conv2", "up2", "up1", "head")
    for stage in ("conv1", "conv2"):
        for one, two in zip(*(jax.tree.leaves(c.variables["params"][stage]) for c in (tuned, classifier)), strict=True):
            np.testing.assert_array_equal(one, two)
    scores = jaxdl.predict(tuned, blocks(10, 1)).scores
    assert scores["mean_iou"] > 0.4 > 0.3  # the baseline says ground everywhere
    assert tuned.card.preprocessing.mean == classifier.card.preprocessing.mean
    again = jaxdl.restore(jaxdl.save(tuned, tmp_path / "tuned"))
    assert again.model == tuned.model
    np.testing.assert_array_equal(*(jaxdl.predict(c, SOURCE).outputs["classes"] for c in (again, tuned)))


def test_frozen_encoders_are_computed_once_and_give_the_same(classifier):
    plan = dataclasses.replace(PLAN, epochs=2, freeze_through="conv2", optimizer="sgd", learning_rate=0.1)
    cached, whole = (
        jaxdl.finetune(classifier, SOURCE, dataclasses.replace(plan, cache_features=c)) for c in (True, False)
    )
    for one, two in zip(*(jax.tree.leaves(c.variables) for c in (cached, whole)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.slow
def test_folds_in_one_program_are_those_of_the_loop(classifier):
    plan = dataclasses.replace(PLAN, epochs=3, optimizer="sgd", learning_rate=0.1, augment=("flip", "crop"))
    loop, vmap, shard = (
        jaxdl.cross_validate(classifier, SOURCE, plan, folds=3, execution=Execution(fold_strategy=name))
        for name in ("loop", "vmap", "shard")
    )
    for other in (vmap, shard):
        assert (other.out_of_fold.kept["classes"] != loop.out_of_fold.kept["classes"]).mean() < 2e-3
        np.testing.assert_allclose(other.out_of_fold.kept["nats"], loop.out_of_fold.kept["nats"], rtol=1e-3)
    assert loop.interval["low"] < loop.mean < loop.interval["high"]
    assert set(loop.baseline) == {"mean_iou"}


def test_a_class_that_a_training_part_lacks_is_named():
    rare = blocks(8)
    rare.labels[rare.labels == 2] = 0
    rare.labels[5, 5, 5] = 2
    with pytest.raises(InputError, match=r"'dark' \(in 1 of 8\)"):
        jaxdl.cross_validate(jaxdl.create("unet", 3, **SMALL), rare, PLAN, folds=4)


@pytest.mark.parametrize("kind", [slow("focal"), "dice", slow("cross_entropy+dice")])
def test_any_loss_function_learns(kind):
    plan = dataclasses.replace(PLAN, loss_function=kind, epochs=8)
    found = jaxdl.pretrain(jaxdl.create("unet", 3, depth=1, width=4), SOURCE, plan)
    assert jaxdl.predict(found, blocks(10, 1)).scores["mean_iou"] > 0.45
    assert np.isfinite([row["train_loss"] for row in found.history]).all()


def test_maps_of_another_size_than_the_image_are_refused(classifier):
    import flax.linen as nn

    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(3, (1, 1))(x[:, ::2, ::2])

    with pytest.raises(InputError, match="6 × 6 logits of images of 12 × 12"):
        jaxdl.pretrain(jaxdl.wrap(Half(), head="Conv_0"), SOURCE, PLAN)


@pytest.mark.slow
def test_a_search_knows_the_stages_and_the_size_of_the_network_around_the_encoder(classifier):
    space = {"freeze_through": ["conv2", "up1"], "loss_function": [None, "dice"]}
    plan = dataclasses.replace(PLAN, epochs=1)
    found = jaxdl.search(classifier, SOURCE, plan, space, folds=2, searching=jaxdl.Searching(inner_folds=2))
    model = jaxdl.create("unet", 3, encoder=jaxdl.create("cnn", 1, **CNN), width=16, upsample="nearest")
    shapes = variable_shapes(model, (12, 12, 3))["params"]
    sizes = {stage: sum(leaf.size for leaf in jax.tree.leaves(tree)) for stage, tree in shapes.items()}
    for one in found.configurations:
        frozen = one["values"]["freeze_through"]
        trained = sizes["head"] + (sizes["up2"] + sizes["up1"] if frozen == "conv2" else 0)
        assert (one["parameters"], one["trained"]) == (sum(sizes.values()), trained)


def test_a_network_that_gives_maps_is_refused_for_whole_images():
    with pytest.raises(InputError, match="UNet gives a map"):
        jaxdl.pretrain(jaxdl.create("unet", 10, **SMALL), data.digits(), PLAN)
