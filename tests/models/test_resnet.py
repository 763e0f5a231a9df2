"""Residual networks against the paper, written out in numpy and in PyTorch, and their published sizes."""

import functools

import jax
import numpy as np
import pytest

from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.variables import walk_shapes

CASES = {  # name in the table, arguments, side of the images
    "basic": ("resnet18", {"depths": (1, 2), "width": 4}, 33),
    "bottleneck": ("resnet50", {"depths": (2, 1), "width": 4}, 32),
    "bottleneck_small": ("resnet50", {"depths": (1, 1), "width": 4, "stem": "small"}, 9),
    "cifar": ("resnet20_cifar", {"depths": (1, 2), "width": 4}, 12),
}


@functools.cache
def _case(kind):
    name, arguments, side = CASES[kind]
    model = create(name, 3, **arguments)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, (side, side, 3)), jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return 0.5 + noise**2
        return noise / np.sqrt(np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0.3 * noise

    x = rng.normal(size=(2, side, side, 3)) + 2 * rng.normal(size=(2, 1, 1, 3))  # images of different colours
    return model, jax.tree_util.tree_map_with_path(draw, shapes), x.astype(np.float32)


def _conv(x, kernel, stride):
    size = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True)


def _resnet(model, variables, x):
    """The network of arXiv:1512.03385, from its text: one line per operation, in float64."""
    variables = jax.tree.map(np.float64, variables)

    def conv_norm(x, stage, block, n, stride=1):
        at = lambda tree: tree[stage][block] if block else tree[stage]  # noqa: E731
        params, stats = at(variables["params"]), at(variables["batch_stats"])
        conv, norm = (f"conv{n}", f"norm{n}") if n != "shortcut" else ("shortcut_conv", "shortcut_norm")
        y = _conv(x, params[conv]["kernel"], stride)
        y = (y - stats[norm]["mean"]) / np.sqrt(stats[norm]["var"] + 1e-5)
        return y * params[norm]["scale"] + params[norm]["bias"]

    x = np.maximum(conv_norm(x, "stem", None, "", 2 if model.stem == "imagenet" else 1), 0)
    if model.stem == "imagenet":  # 3 x 3 maximum, stride 2; after a ReLU zeros are as good as -infinity
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    for i, depth in enumerate(model.depths, 1):
        for j in range(1, depth + 1):
            stage, block, stride = f"stage{i}", f"block{j}", 2 if i > 1 and j == 1 else 1
            if model.block == "bottleneck":
                y = np.maximum(conv_norm(x, stage, block, 1), 0)
                y = np.maximum(conv_norm(y, stage, block, 2, stride), 0)
                y = conv_norm(y, stage, block, 3)
            else:
                y = np.maximum(conv_norm(x, stage, block, 1, stride), 0)
                y = conv_norm(y, stage, block, 2)
            if x.shape != y.shape and model.block == "basic_identity":  # option A: new channels are zero
                new = (y.shape[-1] - x.shape[-1]) // 2
                x = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (new, new)))
            elif x.shape != y.shape:  # option B
                x = conv_norm(x, stage, block, "shortcut", stride)
            x = np.maximum(x + y, 0)
    head = variables["params"]["head"]["dense"]
    return x.mean((1, 2)) @ head["kernel"] + head["bias"]


@pytest.mark.parametrize("kind", CASES)
def test_logits_are_those_of_the_paper(kind):
    model, variables, x = _case(kind)
    expected = _resnet(model, variables, x)
    spread = np.abs(expected[0] - expected[1]).max()
    assert spread > 0.05 * np.abs(expected).max(), "both images get the same answer: nothing would be shown"
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), expected, atol=1e-4 * spread)


def _torch_resnet(torch, model):
    """The same network with torch.nn; modules are called as the stages and leaves of jaxdl are."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inside, features, stride):
            super().__init__()
            bottleneck = model.block == "bottleneck"
            outside = 4 * features if bottleneck else features
            plan = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
            self.depth, channels = len(plan), inside
            for n, (size, step) in enumerate(plan, 1):
                out = outside if n == self.depth else features
                self.add_module(f"conv{n}", nn.Conv2d(channels, out, size, step, size // 2, bias=False))
                self.add_module(f"norm{n}", nn.BatchNorm2d(out))
                channels = out
            if inside != outside or stride != 1:
                self.shortcut_conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
                self.shortcut_norm = nn.BatchNorm2d(outside)

        def forward(self, x):
            y = x
            for n in range(1, self.depth + 1):
                y = getattr(self, f"norm{n}")(getattr(self, f"conv{n}")(y))
                y = y.relu() if n < self.depth else y
            return ((self.shortcut_norm(self.shortcut_conv(x)) if hasattr(self, "shortcut_conv") else x) + y).relu()

    imagenet, width = model.stem == "imagenet", model.width
    conv = nn.Conv2d(3, width, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, width, 3, 1, 1, bias=False)
    net = nn.Sequential()
    net.add_module("stem", nn.Sequential())
    net.stem.add_module("conv", conv)
    net.stem.add_module("norm", nn.BatchNorm2d(width))
    net.stem.add_module("relu", nn.ReLU())
    if imagenet:
        net.stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
    channels = width
    for i, depth in enumerate(model.depths):
        net.add_module(f"stage{i + 1}", nn.Sequential())
        for j in range(depth):
            block = Block(channels, width * 2**i, 2 if i and j == 0 else 1)
            net[-1].add_module(f"block{j + 1}", block)
            channels = width * 2**i * (4 if model.block == "bottleneck" else 1)
    net.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net.add_module("head", nn.Sequential())
    net.head.add_module("dense", nn.Linear(channels, model.num_outputs))
    return net


LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def _from_torch(net):
    """Variables of jaxdl from a network of `_torch_resnet`."""
    variables = {"params": {}, "batch_stats": {}}
    for name, tensor in net.state_dict().items():
        *path, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        value = tensor.detach().numpy().copy()
        if value.ndim > 1:
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
            collection, leaf = "params", "kernel"
        else:
            collection, leaf = "batch_stats" if leaf.startswith("running") else "params", LEAVES[leaf]
        tree = variables[collection]
        for part in path:
            tree = tree.setdefault(part, {})
        tree[leaf] = value
    return variables


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "bottleneck_small"])
def test_logits_and_statistics_are_those_of_torch(kind):
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
    model, like, x = _case(kind)
    torch.manual_seed(0)
    net = _torch_resnet(torch, model)
    theirs_x = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        # a fresh network answers nearly the same to every image; with calibrated batch norm a fault would show
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.cat([theirs_x, torch.randn(6, *theirs_x.shape[1:])]))
        variables = _from_torch(net)
        in_use = net.eval()(theirs_x).numpy()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.1
        in_training = net.train()(theirs_x).numpy()
    assert {path: leaf.shape for path, leaf in walk_shapes(variables)} == {
        path: leaf.shape for path, leaf in walk_shapes(like)
    }
    spread = np.abs(in_use[0] - in_use[1]).max()
    assert spread > 0.05 * np.abs(in_use).max(), "both images get the same answer: nothing would be shown"
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), in_use, atol=1e-4 * spread)

    train = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, changed = train(variables, x)
    np.testing.assert_allclose(logits, in_training, atol=1e-3 * spread)
    expected = _from_torch(net)["batch_stats"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), changed["batch_stats"], expected)


PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}


def _trainable(name, num_outputs, shape, **arguments):
    model = create(name, num_outputs, **arguments)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))
    return sum(leaf.size for _, leaf in walk_shapes(shapes["params"]))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("resnet101", "resnet152") else ()) for n in PUBLISHED]
)
def test_size_is_that_of_torchvision(name):
    assert _trainable(name, 1000, (224, 224, 3)) == PUBLISHED[name]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_size_of_the_cifar_networks(depth):
    """6n + 2 layers: 2n convolutions each of 16, 32 and 64 channels, shortcuts without parameters."""
    n = (depth - 2) // 6
    expected = 9 * 3 * 16 + 2 * 16  # the first convolution with its normalisation
    for inside, outside in ((16, 16), (16, 32), (32, 64)):
        expected += 9 * inside * outside + (2 * n - 1) * 9 * outside**2 + 2 * n * 2 * outside
    assert _trainable(f"resnet{depth}_cifar", 10, (32, 32, 3)) == expected + 64 * 10 + 10
    # table 6 of the paper, in millions
    table = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
    assert round(expected / 1e6, 1 if depth == 110 else 2) == table[depth]


def test_size_with_projections():
    """ResNet-20 with option B: two projections with their normalisation more."""
    plain = _trainable("resnet20_cifar", 10, (32, 32, 3))
    assert plain == 269_722
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert _trainable("resnet20_cifar", 10, (32, 32, 3), block="basic") == plain + projections == 272_474


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_size_is_that_of_the_published_weights(depth, real_data):
    (path,) = (real_data / "weights").glob(f"cifar10_resnet{depth}-*.npz")
    with np.load(path) as tensors:
        trainable = [name for name in tensors.files if name.endswith((".weight", ".bias"))]
        expected = sum(tensors[name].size for name in trainable)
    assert _trainable(f"resnet{depth}_cifar", 10, (32, 32, 3)) == expected
