"""5-fold cross-validation of transfer learning, beside the loop that people write in PyTorch.

    JAXDL_REAL_DATA=FOLDER python experiments/benchmarks/transfer_cv.py [--models resnet18] [--modes a] [--epochs 5]

FOLDER holds cifar10_test.npz, hymenoptera_s160.zip, weights/mobilenet_v2_imagenet.safetensors and
weights/cifar10_resnet20-12fca82f.npz; torch and torchvision are needed. The main row is ImageNet's MobileNetV2 on the
397 photographs of ants and bees at 224². The published ResNet-20 goes to 1,000 of CIFAR-10's test images at 32², a
ResNet-18 with random weights to the photographs at 64². (a) the head alone is trained for 20 epochs, (b) the last
stages and the head, (c) everything, both for `--epochs`. (MobileNetV2's dropout before the head is left out.)

Three ways, from the same weights and heads drawn alike, with the same folds, the same numbers of steps of SGD with
momentum, in float32: jaxdl's `cross_validate`; PyTorch fold by fold and epoch by epoch, with the frozen part run under
no_grad in eval mode for every batch; and PyTorch with the frozen part's activations kept by hand. Where nothing is
frozen there is nothing to keep, and the two loops are one. jaxdl compiles: its time is given for a first start, and for
one that finds the compiled programs on disk, as the command line keeps them; the ratios are of the second. Beside each
accuracy stands the standard deviation between folds. (That single steps are the same is shown by
`tests/training/test_against_pytorch.py`.)
"""

import argparse
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

if find_spec("torchvision_cpu"):  # a shim for PyTorch's CPU build
    import torchvision_cpu  # noqa: F401
import torchvision

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import normalise
from jaxdl.training.setup import choose_preprocessing
from jaxdl.validation.splits import split_source

FOLDS, BATCH, MOMENTUM = 5, 32, 0.9
ALLOW = ("duplicates", "near-duplicates")  # speed is measured here
MOBILENET_FROZEN = 17  # of the 19 parts of torchvision's list: up to the sixth of the paper's groups of blocks
RATES = {"a head": 0.05, "b last stage": 0.01, "c everything": 0.01}


class Block(nn.Module):
    """Two 3 × 3 convolutions beside the image itself, subsampled and with channels of zeros where the shape changes."""

    def __init__(self, before: int, features: int):
        super().__init__()
        self.stride, self.new = (2 if features > before > 0 else 1), features - before
        self.conv1 = nn.Conv2d(before, features, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.new:
            half = self.new // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new - half))
        return functional.relu(x + y)


class Cifar(nn.Module):
    """The CIFAR ResNet-20, its tensors named as the published ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for place, (before, features) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            blocks = [Block(before, features), Block(features, features), Block(features, features)]
            setattr(self, f"layer{place}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)


def parts_of(network: nn.Module, mode: str, classes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The frozen part (may be empty) and the trained one, with a fresh head."""
    if isinstance(network, torchvision.models.MobileNetV2):
        return _parts_of_mobilenet(network, mode, classes)
    cifar = isinstance(network, Cifar)
    stem = [network.conv1, network.bn1, nn.ReLU()] + ([] if cifar else [network.maxpool])
    layers = [module for name, module in network.named_children() if name.startswith("layer")]
    width = (network.linear if cifar else network.fc).in_features
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = _head(width, classes)
    if mode == "a head":
        return nn.Sequential(*stem, *layers, *end), nn.Sequential(head)
    if mode == "b last stage":
        return nn.Sequential(*stem, *layers[:-1]), nn.Sequential(layers[-1], *end, head)
    return nn.Sequential(), nn.Sequential(*stem, *layers, *end, head)


def _head(width: int, classes: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=0.1 / width**0.5)  # as jaxdl's: PyTorch's own is too large for a short fine-tuning
    nn.init.zeros_(head.bias)
    return head


def _parts_of_mobilenet(network: nn.Module, mode: str, classes: int) -> tuple[nn.Sequential, nn.Sequential]:
    layers, end = list(network.features), [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = _head(network.last_channel, classes)
    if mode == "a head":
        return nn.Sequential(*layers, *end), nn.Sequential(head)
    frozen = MOBILENET_FROZEN if mode == "b last stage" else 0
    return nn.Sequential(*layers[:frozen]), nn.Sequential(*layers[frozen:], *end, head)


def in_pytorch(
    make: Callable[[], nn.Module], mode: str, x: np.ndarray, labels: np.ndarray, split, epochs: int, *, cached: bool
) -> list[float]:
    """Accuracy on each fold."""
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    targets = torch.tensor(labels.astype(np.int64))
    scores, kept = [], None
    for fold, (train, test) in enumerate(zip(split.train, split.test, strict=True)):
        torch.manual_seed(fold)
        frozen, trained = parts_of(make(), mode, int(labels.max()) + 1)
        frozen, trained = (part.to(memory_format=torch.channels_last) for part in (frozen, trained))
        frozen.eval()
        inputs, before = images, frozen
        if cached and len(frozen):
            if kept is None:  # the same for all folds
                with torch.no_grad():
                    kept = torch.cat([frozen(part) for part in images.split(BATCH)])
            inputs, before = kept, nn.Sequential()
        optimizer = torch.optim.SGD(trained.parameters(), RATES[mode], momentum=MOMENTUM)
        random = np.random.default_rng(fold)
        trained.train()
        for _ in range(epochs):
            for rows in np.array_split(random.permutation(train), -(-len(train) // BATCH)):
                with torch.no_grad():
                    flowing = before(inputs[rows])
                optimizer.zero_grad()
                functional.cross_entropy(trained(flowing), targets[rows]).backward()
                optimizer.step()
        trained.eval()
        with torch.no_grad():
            answers = [trained(before(inputs[rows])).argmax(1) for rows in np.array_split(test, -(-len(test) // BATCH))]
        scores.append((torch.cat(answers) == targets[test]).float().mean().item())
    return scores


def cifar_images(folder: Path, _: Path) -> data.Source:
    """1,000 of CIFAR-10's test images, by class."""
    whole = data.npz(folder / "cifar10_test.npz")
    order = np.random.default_rng(0).permutation(len(whole))
    chosen = [order[whole.labels[order] == label][:100] for label in range(10)]
    return data.subset(whole, np.sort(np.concatenate(chosen)))


def photographs(folder: Path, unpacked: Path) -> data.Source:
    """All photographs of ants and bees."""
    zipfile.ZipFile(folder / "hymenoptera_s160.zip").extractall(unpacked)
    return data.folder(next(path.parent for path in unpacked.rglob("train")), "all")


def published_resnet20(folder: Path) -> tuple[jaxdl.Checkpoint, Callable[[], nn.Module], int]:
    """A checkpoint, a function that makes the same network for PyTorch, and the side of its images."""
    file = folder / "weights" / "cifar10_resnet20-12fca82f.npz"
    with np.load(file) as arrays:
        tensors = {name.removeprefix("module."): torch.tensor(arrays[name]) for name in arrays.files}

    def make() -> nn.Module:
        network = Cifar()
        network.load_state_dict(tensors, strict=False)  # its counters of batches are not in the file
        return network

    return jaxdl.convert(file, "resnet20_cifar").checkpoint, make, 32


def random_resnet18(_: Path) -> tuple[jaxdl.Checkpoint, Callable[[], nn.Module], int]:
    """As `published_resnet20`."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.npz"
        np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})
        checkpoint = jaxdl.convert(file, "resnet18", preprocessing={"image_size": 64}).checkpoint

    def make() -> nn.Module:
        network = torchvision.models.resnet18()
        network.load_state_dict(state)
        return network

    return checkpoint, make, 64


def imagenet_mobilenet(folder: Path) -> tuple[jaxdl.Checkpoint, Callable[[], nn.Module], int]:
    """As `published_resnet20`."""
    from safetensors.torch import load_file

    file = folder / "weights" / "mobilenet_v2_imagenet.safetensors"
    checkpoint = jaxdl.convert(file, "mobilenet_v2", arguments={"dropout": 0.0}).checkpoint

    def make() -> nn.Module:
        network = torchvision.models.mobilenet_v2()
        network.load_state_dict(load_file(file))
        return network

    return checkpoint, make, 224


MODELS = {
    "mobilenet_v2": (imagenet_mobilenet, photographs),
    "resnet20_cifar": (published_resnet20, cifar_images),
    "resnet18": (random_resnet18, photographs),
}
FREEZE = {
    "mobilenet_v2": {"a head": "body", "b last stage": "stage6", "c everything": None},
    "resnet20_cifar": {"a head": "body", "b last stage": "stage2", "c everything": None},
    "resnet18": {"a head": "body", "b last stage": "stage3", "c everything": None},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=tuple(MODELS), choices=MODELS)
    parser.add_argument("--modes", nargs="+", default=("a", "b", "c"), choices=("a", "b", "c"))
    parser.add_argument("--epochs", type=int, default=5, help="of (b) and (c)")
    parser.add_argument("--examples", type=int, help="at most, chosen at random; all by default")
    parser.add_argument("--repeats", type=int, default=1, help="of all ways in turn; medians are printed")
    options = parser.parse_args()
    if "JAXDL_REAL_DATA" not in os.environ:
        parser.error("set JAXDL_REAL_DATA to the folder that holds the data; see the top of this file")
    folder = Path(os.environ["JAXDL_REAL_DATA"])
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, torch {torch.__version__}: seconds and accuracies")
    print(f"{'':16}{'':14}{'first':>8}{'jaxdl':>8}{'loop':>8}{'cached':>8}{'loop/':>8}{'cached/':>8}   accuracy")
    with tempfile.TemporaryDirectory() as work:
        jax.config.update("jax_compilation_cache_dir", f"{work}/programs")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        for name in options.models:
            load, read = MODELS[name]
            checkpoint, make, side = load(folder)
            source = read(folder, Path(work) / name)
            if options.examples:
                chosen = np.random.default_rng(1).permutation(len(source))[: options.examples]
                source = data.subset(source, np.sort(chosen))
            split = split_source(source, "auto", FOLDS, 0)
            x = _normalised(checkpoint, source, side)
            for mode in (mode for mode in RATES if mode[0] in options.modes):
                _compare(name, mode, checkpoint, make, source, side, x, split, options)


def _normalised(checkpoint: jaxdl.Checkpoint, source: data.Source, side: int) -> np.ndarray:
    """All images as jaxdl gives them to the network: PyTorch gets the same."""
    preprocessing = choose_preprocessing(checkpoint, source, side)
    stored = preprocessing.load(source)
    return np.asarray(normalise(stored, np.float32(preprocessing.mean), np.float32(preprocessing.std)))


def _compare(name, mode, checkpoint, make, source, side, x, split, options) -> None:
    epochs = 20 if mode == "a head" else options.epochs
    plan = jaxdl.Plan(
        freeze_through=FREEZE[name][mode],
        epochs=epochs,
        batch_size=BATCH,
        optimizer="sgd",
        learning_rate=RATES[mode],
        schedule="constant",
        weight_decay=0.0,
        eval_every=epochs,
    )

    def ours() -> list[float]:
        result = jaxdl.cross_validate(
            checkpoint, source, plan, folds=FOLDS, execution=jaxdl.Execution(image_size=side, allow=ALLOW)
        )
        return [fold["accuracy"] for fold in result.folds]

    def loop() -> list[float]:
        return in_pytorch(make, mode, x, source.targets(), split, epochs, cached=False)

    def kept() -> list[float]:
        return in_pytorch(make, mode, x, source.targets(), split, epochs, cached=True)

    ways = [ours, loop] + ([] if mode == "c everything" else [kept])
    first, _ = _timed(ours)
    rounds = [[_timed(way) for way in ways] for _ in range(options.repeats)]
    seconds = [statistics.median(column[0] for column in way) for way in zip(*rounds, strict=True)]
    scores = [100 * np.array(rounds[0][place][1]) for place in range(len(ways))]
    scores = ", ".join(f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" for values in scores)
    mine, looped, cached = (*seconds, None)[:3]
    shown = (
        f"{cached:8.1f}{looped / mine:8.2f}{cached / mine:8.2f}" if cached else f"{'–':>8}{looped / mine:8.2f}{'–':>8}"
    )
    print(f"{name:16}{mode:14}{first:8.1f}{mine:8.1f}{looped:8.1f}{shown}   {scores}", flush=True)


def _timed(function: Callable[[], list[float]]) -> tuple[float, list[float]]:
    begin = time.perf_counter()
    value = function()
    return time.perf_counter() - begin, value


if __name__ == "__main__":
    main()
