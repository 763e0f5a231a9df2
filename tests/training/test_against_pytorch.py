"""Fine-tuning, step for step, against the loop that one would write in PyTorch."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.models.initialise import init_variables
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import Classification
from jaxdl.weights.card import Card

torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
nn = torch.nn

CLASSES, SIDE, WIDTH, BATCH, EPOCHS, SEED = ("ant", "bee", "wasp"), 8, 4, 8, 3, 5
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (22, SIDE, SIDE, 3), dtype=np.uint8)  # 3 steps: 7, 7, 8
LABELS = RANDOM.integers(0, 3, 22)
STAGES = ("stem", "stage1", "stage2", "head")

CASES = {  # of jaxdl's plan; PyTorch's side of each is in `_theirs`
    "all, SGD, decay, smoothed labels": dict(
        optimizer="sgd", learning_rate=0.05, schedule="constant", weight_decay=0.01, label_smoothing=0.1
    ),
    "last stage, SGD, cosine, clipped": dict(
        optimizer="sgd", learning_rate=0.1, schedule="cosine", weight_decay=0.0, clip_norm=0.5, freeze_through="stage1"
    ),
    "last stage, AdamW, cosine after warm-up, stages": dict(
        optimizer="adamw",
        learning_rate=0.01,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=0.1,
        stage_lr={"head": 3.0},
        freeze_through="stage1",
    ),
    "head, AdamW": dict(
        optimizer="adamw", learning_rate=0.02, schedule="constant", weight_decay=0.1, freeze_through="body"
    ),
}


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut; modules are called as jaxdl's."""

    def __init__(self, before, features):
        super().__init__()
        stride = 1 if before == features else 2
        self.conv1, self.norm1 = nn.Conv2d(before, features, 3, stride, 1, bias=False), nn.BatchNorm2d(features)
        self.conv2, self.norm2 = nn.Conv2d(features, features, 3, 1, 1, bias=False), nn.BatchNorm2d(features)
        self.shortcut = stride == 2
        if self.shortcut:
            self.shortcut_conv = nn.Conv2d(before, features, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(features)

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + (self.shortcut_norm(self.shortcut_conv(x)) if self.shortcut else x)).relu()


class Network(nn.Module):
    """``create("resnet18", depths=(1, 1), width=WIDTH, stem="small")``."""

    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(3, WIDTH, 3, 1, 1, bias=False), "norm": nn.BatchNorm2d(WIDTH)})
        self.stage1 = nn.ModuleDict({"block1": Block(WIDTH, WIDTH)})
        self.stage2 = nn.ModuleDict({"block1": Block(WIDTH, 2 * WIDTH)})
        self.head = nn.ModuleDict({"dense": nn.Linear(2 * WIDTH, len(CLASSES))})

    def forward(self, x):
        x = self.stem["norm"](self.stem["conv"](x)).relu()
        x = self.stage2["block1"](self.stage1["block1"](x))
        return self.head["dense"](x.mean((2, 3)))


def _network():
    """In float64, and as if trained: its running statistics are those of the images, its scales and biases differ."""
    torch.manual_seed(0)
    network = Network().double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(30):
            network(_as_torch(IMAGES))
    return network


def _as_torch(images):
    normal = (images / 255 - np.array(MEAN)) / np.array(STD)
    return torch.tensor(normal.transpose(0, 3, 1, 2).copy())


def _leaves(network):
    """The network's tensors under jaxdl's names and in its layout."""
    found = {}
    for name, tensor in network.state_dict().items():
        *path, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        value = tensor.numpy()
        if value.ndim > 1:
            collection, leaf = "params", "kernel"
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        elif leaf.startswith("running"):
            collection, leaf = "batch_stats", leaf.removeprefix("running_")
        else:
            collection, leaf = "params", "scale" if leaf == "weight" else leaf
        found["/".join((collection, *path, leaf))] = np.array(value)
    return found


def _ours(network, options):
    """The checkpoint after training, from the same weights."""
    model = jaxdl.create("resnet18", len(CLASSES), depths=(1, 1), width=WIDTH, stem="small")
    shapes = jax.eval_shape(lambda key: init_variables(model, key, (SIDE, SIDE, 3)), jax.random.key(0))
    leaves = _leaves(network)
    assert {n: leaf.shape for n, leaf in walk_shapes(shapes)} == {n: leaf.shape for n, leaf in leaves.items()}
    values = [np.float32(leaves[name]) for name, _ in walk_shapes(shapes)]
    card = Card(ImagePreprocessing((SIDE, SIDE, 3), MEAN, STD), Classification(CLASSES))
    begin = jaxdl.Checkpoint(model, jax.tree.unflatten(jax.tree.structure(shapes), values), card)
    source = data.arrays(IMAGES, LABELS, class_names=CLASSES)
    plan = jaxdl.Plan(epochs=EPOCHS, batch_size=BATCH, seed=SEED, **options)
    made = jaxdl.finetune(begin, source, plan, head="keep")
    return dict(walk_shapes(made.variables)), jaxdl.predict(made, source).logits


def _theirs(network, options):
    """Trains `network` with the same batches; gives its logits. Batches are as even as can be, as jaxdl's."""
    frozen = {None: 0, "stage1": 2, "body": 3}[options.get("freeze_through")]
    stages = {name: getattr(network, name) for name in STAGES[frozen:]}
    for name in STAGES[:frozen]:
        getattr(network, name).requires_grad_(False)
    rate, groups = options["learning_rate"], []
    for name, stage in stages.items():
        for kernels in (True, False):
            members = [p for p in stage.parameters() if (p.ndim > 1) is kernels]
            peak = rate * options.get("stage_lr", {}).get(name, 1.0)
            decay = options["weight_decay"] if kernels else 0.0
            # PyTorch's and optax's decoupled decay are the same: both are multiplied by the learning rate
            groups.append({"params": members, "lr": peak, "peak": peak, "weight_decay": decay})
    optimizer = (
        torch.optim.SGD(groups, rate, momentum=0.9) if options["optimizer"] == "sgd" else torch.optim.AdamW(groups)
    )
    loss = nn.CrossEntropyLoss(label_smoothing=options.get("label_smoothing", 0.0))
    x, y = _as_torch(IMAGES), torch.tensor(LABELS)
    steps = -(-len(x) // BATCH)
    warmup, total, taken = steps * options.get("warmup_epochs", 0), steps * EPOCHS, 0
    for epoch in range(EPOCHS):
        order = np.random.default_rng((SEED, 0, epoch)).permutation(len(x))
        for step in range(steps):
            rows = order[step * len(x) // steps : (step + 1) * len(x) // steps]
            network.eval()
            for stage in stages.values():
                stage.train()
            factor = 1.0
            if taken < warmup:
                factor = (taken + 1) / warmup
            elif options["schedule"] == "cosine":
                factor = (1 + np.cos(np.pi * (taken - warmup) / (total - warmup))) / 2
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak"]
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            if "clip_norm" in options:
                nn.utils.clip_grad_norm_([p for s in stages.values() for p in s.parameters()], options["clip_norm"])
            optimizer.step()
            taken += 1
    with torch.no_grad():
        return network.eval()(x).numpy()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "stage" in name else ()) for name in CASES]
)
def test_fine_tuning_is_that_of_pytorch(name):
    """Every parameter and running statistic after 9 steps, from the same weights and on the same batches."""
    options, network = CASES[name], _network()
    before = _leaves(network)
    ours, our_logits = _ours(network, options)
    their_logits = _theirs(network, options)
    after = _leaves(network)
    for leaf, value in after.items():
        moved = np.abs(value - before[leaf]).max()
        if leaf.split("/")[1] in STAGES[: {None: 0, "stage1": 2, "body": 3}[options.get("freeze_through")]]:
            assert moved == 0
            np.testing.assert_array_equal(ours[leaf], np.float32(value), err_msg=leaf)
        else:
            assert moved > 1e-3, f"{leaf} stands still: nothing would be shown"
            np.testing.assert_allclose(ours[leaf], value, rtol=0, atol=1e-3 * moved, err_msg=leaf)
    spread = their_logits.std()
    np.testing.assert_allclose(our_logits, their_logits, rtol=0, atol=1e-4 * spread)
