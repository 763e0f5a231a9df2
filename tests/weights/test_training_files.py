"""Checkpoints that other people's training scripts wrote: what is around the weights is taken off, and named."""

import argparse
import collections
import datetime
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, refused
from parity import library

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.initialise import variable_shapes
from jaxdl.models.variables import walk_shapes
from jaxdl.weights import mobilenet
from jaxdl.weights.keys import to_tensors
from jaxdl.weights.mobilenet import torchvision as mobilenet_of_torchvision
from jaxdl.weights.networks import find_network
from jaxdl.weights.read import read_weights
from jaxdl.weights.recognise import looks_like
from jaxdl.weights.resnet_cifar import KEYS, akamaster
from jaxdl.weights.vit import timm as vit_timm

SIDE, OUTPUTS = 32, 3
SMALL = {"depths": (1, 1), "width": 4}
COMMAND = "--model resnet20_cifar --model-arguments depths=[1,1] width=4"


def drawn(name, side=SIDE, seed=0, **arguments):
    """A network whose variables numpy drew."""
    model = jaxdl.create(name, OUTPUTS, **arguments)
    preprocessing = jaxdl.data.ImagePreprocessing((side, side, 3), (0.5,) * 3, (0.2,) * 3)
    made = jaxdl.from_model(model, preprocessing, "abc", seed)
    rng = np.random.default_rng(seed)
    leaves = {leaf: rng.uniform(0.1, 1, value.shape).astype(np.float32) for leaf, value in walk_shapes(made.variables)}
    return model, leaves, made.variables


@pytest.fixture(scope="module")
def tensors():
    """A small network's, by the names that others have for them, with PyTorch's counters."""
    model, leaves, variables = drawn("resnet20_cifar", **SMALL)
    flat = dict(walk_shapes(variables))
    assert flat.keys() == leaves.keys()
    nested = jaxdl.models.variables.nest(leaves)
    named = dict(to_tensors(nested, akamaster(model)))
    return named | {"bn1.num_batches_tracked": np.array(5)}


@pytest.fixture(scope="module")
def expected(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "w.npz"
    np.savez(path, **tensors)
    return jaxdl.convert(path, "resnet20_cifar", arguments=SMALL)


def same(made, expected):
    found, wanted = dict(walk_shapes(made.checkpoint.variables)), dict(walk_shapes(expected.checkpoint.variables))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def convert(path, **options):
    return jaxdl.convert(path, "resnet20_cifar", arguments=SMALL, **options)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.module.",
        "module._orig_mod.",
        "model._orig_mod.backbone.",
        "state_dict.model.module.",
        "params/",
        "my_own.name_for.it.",
    ],
)
def test_what_stands_before_all_names_is_taken_off(tensors, prefix):
    held = {prefix + name: value for name, value in tensors.items()}
    held |= {"criterion.weight": np.ones(3), f"{prefix}n_averaged": np.array(2)}
    model = jaxdl.create("resnet20_cifar", 1, **SMALL)
    found = find_network(held, {"akamaster": akamaster(model)}, KEYS.stem)
    assert set(found.tensors) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found.tensors[name], value)
    assert found.dropped.keys() == {"criterion.weight", f"{prefix}n_averaged"}


@pytest.mark.parametrize("outer", ["", "module."])
def test_a_network_is_not_taken_for_another_one_that_lacks_its_first_word(outer):
    """All but the head of torchvision's MobileNetV2 are below features."""
    model = jaxdl.create("mobilenet_v2", OUTPUTS, width=0.25, depths=(1, 1, 1, 1, 1, 1, 1))
    shapes = variable_shapes(model, jaxdl.data.ImagePreprocessing((SIDE, SIDE, 3)).spec())
    table = mobilenet_of_torchvision(model)
    held = dict(to_tensors(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), table))
    assert sum(name.startswith("features.") for name in held) > 0.9 * len(held)
    found = find_network({outer + name: value for name, value in held.items()}, {"": table}, mobilenet.KEYS.stem)
    assert (set(found.tensors), found.note) == (set(held), "")


def test_compiled_parts_within_a_network(tensors):
    held = {name.replace("layer1.0.", "layer1.0._orig_mod."): value for name, value in tensors.items()}
    assert held.keys() != tensors.keys()
    model = jaxdl.create("resnet20_cifar", 1, **SMALL)
    assert set(find_network(held, {"": akamaster(model)}, KEYS.stem).tensors) == set(tensors)


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_files_without_pickle_may_have_them_too(tensors, expected, tmp_path, kind):
    held = {f"model._orig_mod.{name}": value for name, value in tensors.items()}
    if kind == "npz":
        np.savez(tmp_path / "w.npz", **held)
    else:
        library("safetensors.numpy").save_file(held, tmp_path / "w.safetensors")
    same(convert(tmp_path / f"w.{kind}"), expected)


def as_torch(tensors, add=0.0):
    torch = library("torch")
    return {name: torch.from_numpy(np.array(value + (add if value.ndim else 0))) for name, value in tensors.items()}


@pytest.mark.parametrize("key", ["params", "ema", "weights", "params_ema", "state_dict", "model_state_dict", "net"])
@pytest.mark.parametrize("suffix", [".pth.tar", ".ckpt"])
def test_names_under_which_scripts_keep_weights(tensors, tmp_path, key, suffix):
    torch = library("torch")
    torch.save({key: as_torch(tensors), "epoch": 3}, tmp_path / f"w{suffix}")
    held = read_weights(tmp_path / f"w{suffix}")
    assert held.beside == ("epoch",)
    model = jaxdl.create("resnet20_cifar", 1, **SMALL)
    assert set(find_network(held.tensors, {"": akamaster(model)}, KEYS.stem).tensors) == set(tensors)


def torchvision_script(tensors, path):
    """As references/classification/train.py writes it: averaged weights of a network on several GPUs, and options."""
    torch = library("torch")
    averaged = {f"module.module.{name}": value for name, value in as_torch(tensors, 1.0).items()}
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    options = argparse.Namespace(
        lr=0.1, output_dir=pathlib.Path("out"), best=np.float64(3.5), when=datetime.datetime.now()
    )
    held = {
        "model": as_torch(tensors),
        "model_ema": {"n_averaged": torch.tensor(7), **averaged},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": collections.defaultdict(list, last=[1]),
        "epoch": np.int64(3),
        "args": options,
        "numbers": np.arange(3),
    }
    torch.save(held, path)


def test_averaged_weights_are_taken_and_said_unless_others_are_asked_for(tensors, expected, tmp_path):
    torchvision_script(tensors, tmp_path / "w.pth")
    one, other, plain = convert(tmp_path / "w.pth"), convert(tmp_path / "w.pth", weights="ema"), expected
    same(one, other)
    same(convert(tmp_path / "w.pth", weights="model"), plain)
    leaves, wanted = dict(walk_shapes(one.checkpoint.variables)), dict(walk_shapes(plain.checkpoint.variables))
    np.testing.assert_array_equal(leaves["params/head/dense/bias"], wanted["params/head/dense/bias"] + 1)
    (note, beside) = one.notes
    assert "--weights model" in note
    for name in ("optimizer", "lr_scheduler", "epoch", "args", "numbers"):
        assert name in beside
    assert "model_ema.n_averaged" in one.dropped
    assert len([name for name in one.dropped if name.startswith("model.")]) == len(tensors)
    with pytest.raises(InputError, match=r"'model_ema\.module\.module\.'"):
        convert(tmp_path / "w.pth", weights="other")


@pytest.mark.slow
def test_what_is_left_out_is_printed_with_counts(tensors, tmp_path):
    torchvision_script(tensors, tmp_path / "w.pth")
    code, _, said = call(f"convert --from {tmp_path / 'w.pth'} {COMMAND} --weights model --out {tmp_path / 'c'}")
    assert code == 0, said
    assert f"left out {len(tensors)} tensors (model_ema.module.module." in said
    assert "left out 1 tensor (model_ema.n_averaged)" in said
    assert "optimizer" in said


@pytest.mark.slow
def test_timms_own_saver(tmp_path):
    """Written by timm's `CheckpointSaver`, numpy's number for the best score included."""
    timm, torch = library("timm"), library("torch")
    utils = library("timm.utils")
    torch.manual_seed(0)
    network = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=OUTPUTS)
    averaged = utils.ModelEmaV3(network, decay=0.5)
    with torch.no_grad():
        averaged.module.fc.bias.add_(1.0)
    saver = utils.CheckpointSaver(
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        args=argparse.Namespace(model="resnet18", data_dir="x", mean=np.float32(0.5)),
        model_ema=averaged,
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, metric=np.float64(55.5))
    (path, *_) = tmp_path.glob("*.pth.tar")
    options = {"arguments": {"depths": (1, 1, 1, 1)}, "preprocessing": {"image_size": SIDE}}
    bias = network.fc.bias.detach().numpy()
    for weights, added in (("ema", 1), ("model", 0), (None, 1)):
        made = jaxdl.convert(path, "resnet18", weights=weights, **options)
        np.testing.assert_array_equal(made.checkpoint.variables["params"]["head"]["dense"]["bias"], bias + added)


def test_two_networks_are_not_chosen_between(tensors, expected, tmp_path):
    torch = library("torch")
    torch.save({"generator": as_torch(tensors, 2.0), "critic": as_torch(tensors)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"'critic\.'.*'generator\.'"):
        convert(tmp_path / "w.pth")
    same(convert(tmp_path / "w.pth", weights="critic"), expected)
    with pytest.raises(InputError, match="no averaged"):
        convert(tmp_path / "w.pth", weights="ema")


def test_a_backbone_gets_a_head_by_training(tensors, expected, tmp_path):
    held = {f"backbone.{name}": value for name, value in tensors.items() if not name.startswith("linear")}
    np.savez(tmp_path / "w.npz", **held, **{"classifier.weight": np.ones((2, 5))})
    line = f"convert --from {tmp_path / 'w.npz'} {COMMAND} --out {tmp_path / 'c'}"
    said = refused(line)
    assert "--without-head" in said
    jaxdl_command(f"{line} --without-head")
    made = jaxdl.restore(tmp_path / "c")
    for name, value in walk_shapes(expected.checkpoint.variables):
        if "/head/" not in name:
            np.testing.assert_array_equal(dict(walk_shapes(made.variables))[name], value)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    source = jaxdl.data.arrays(images, np.array([0, 1, 2] * 2), class_names=list("abc"))
    with pytest.raises(InputError, match="--init CKPT"):  # what the head would say means nothing
        jaxdl.predict(made, source)
    tuned = jaxdl.finetune(made, source, jaxdl.Plan(epochs=1, batch_size=6, freeze_through="body"))
    assert jaxdl.predict(tuned, source).logits.shape == (6, 3)


def test_without_the_head_that_is_there(tensors, tmp_path):
    np.savez(tmp_path / "w.npz", **tensors)
    made = convert(tmp_path / "w.npz", without_head=True)
    assert {"linear.weight", "linear.bias"} <= made.dropped.keys()
    assert made.checkpoint.card.class_names == ()


def test_a_masked_autoencoders_decoder_is_left_out(tmp_path):
    model, leaves, _ = drawn("vit_ti_16", depth=1, width=8, num_heads=2)
    named = dict(to_tensors(jaxdl.models.variables.nest(leaves), vit_timm(model)))
    held = {name: value for name, value in named.items() if not name.startswith("head")}
    decoder = {name: np.ones(3, np.float32) for name in ("mask_token", "decoder_embed.weight", "decoder_blocks.0.x")}
    np.savez(tmp_path / "w.npz", **held, **decoder)
    made = jaxdl.convert(
        tmp_path / "w.npz", "vit_ti_16", arguments={"depth": 1, "width": 8, "num_heads": 2}, without_head=True
    )
    assert made.dropped.keys() == decoder.keys()
    assert all("masked autoencoder" in why for why in made.dropped.values())


@pytest.mark.slow
def test_a_transformers_backbone_lacks_the_first_word(tmp_path):
    from jaxdl.weights.vit import huggingface

    arguments = {"depth": 1, "width": 8, "num_heads": 2}
    model, leaves, _ = drawn("vit_ti_16", **arguments)
    named = dict(to_tensors(jaxdl.models.variables.nest(leaves), huggingface(model)))
    held = {name.removeprefix("vit."): value for name, value in named.items() if not name.startswith("classifier")}
    assert "embeddings.cls_token" in held
    np.savez(tmp_path / "w.npz", **held)
    made = jaxdl.convert(tmp_path / "w.npz", "vit_ti_16", arguments=arguments, without_head=True)
    assert made.layout == "huggingface"
    found = dict(walk_shapes(made.checkpoint.variables))
    for name, value in leaves.items():
        if "/head/" not in name:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow
def test_a_torchscript_program_says_how_to_get_its_weights(tmp_path):
    """The advice is followed."""
    torch = library("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    torch.jit.script(module).save(str(tmp_path / "program.pt"))
    with pytest.raises(InputError, match=r"TorchScript.*program\.pt") as caught:
        read_weights(tmp_path / "program.pt")
    code = str(caught.value).split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    assert set(read_weights(tmp_path / "weights.pth").tensors) == {"0.weight", "0.bias"}


class Bomb:
    """Pickled, it creates a file when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_the_options_beside_weights_execute_nothing(tensors, tmp_path):
    torch = library("torch")
    for options in (argparse.Namespace(x=Bomb(tmp_path / "it ran")), {"x": Bomb(tmp_path / "it ran")}):
        torch.save({"state_dict": as_torch(tensors), "args": options}, tmp_path / "w.pth")
        with pytest.raises(InputError, match="would run code"):
            read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("resnet20_cifar", "resnet18"),
        pytest.param("resnet32_cifar", "resnet20_cifar", marks=pytest.mark.slow),
    ],
)
def test_weights_of_another_model_are_recognised(tmp_path, held, asked):
    model, leaves, _ = drawn(held)
    named = dict(to_tensors(jaxdl.models.variables.nest(leaves), akamaster(model)))
    assert looks_like(named) == held
    np.savez(tmp_path / "w.npz", **{f"module.{name}": value for name, value in named.items()})
    said = refused(f"convert --from {tmp_path / 'w.npz'} --model {asked} --out {tmp_path / 'c'}")
    assert f"--model {held}" in said
    said = refused(f"convert --from {tmp_path / 'w.npz'} --out {tmp_path / 'c'}")
    assert f"--model {held}" in said
    jaxdl_command(f"convert --from {tmp_path / 'w.npz'} --model {held} --out {tmp_path / 'c'}")


def test_weights_of_no_model_look_like_none():
    assert looks_like({"conv1.weight": np.zeros((3, 3, 3, 3)), "fc.bias": np.zeros(3)}) is None


@pytest.mark.parametrize("value", [np.nan, pytest.param(-np.inf, marks=pytest.mark.slow)])
def test_numbers_that_are_not_finite_are_refused(tensors, tmp_path, value):
    bad = {name: array.copy() for name, array in tensors.items()}
    bad["layer1.0.conv1.weight"][0, 0, 0, :2] = value
    np.savez(tmp_path / "w.npz", **bad)
    with pytest.raises(InputError, match=r"stage1/block1/conv1/kernel \(2 of 144\)"):
        convert(tmp_path / "w.npz")


def test_too_large_for_float32(tensors, tmp_path):
    np.savez(tmp_path / "w.npz", **tensors | {"linear.bias": np.array([1e300, 0, 1])})
    with pytest.raises(InputError, match=r"head/dense/bias \(1 of 3\)"):
        convert(tmp_path / "w.npz")
