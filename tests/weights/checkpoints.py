"""Small checkpoints, what is known of them, and what the tests of checkpoints and cards share."""

import json

import jax
import numpy as np

from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import Classification
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint

PREPROCESSING = ImagePreprocessing((8, 8, 1), (0.1,), (1 / 3,), "bicubic", 0.875)
CARD = Card(
    PREPROCESSING,
    Classification(("été", "b", "c")),
    parent="/some/where",
    data="digits:0,1,2",
    split="00ff",
    plan={"epochs": 3, "learning_rate": 0.1, "unfreeze": None},
    source={"file": "w.npz", "sha256": "12"},
)
HISTORY = ({"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-30})
KINDS = {
    "mlp": ("mlp", {"hidden": (4, 4)}),
    "cnn": ("cnn", {"features": (4,), "hidden": (4,)}),
    "vit": ("vit", {"width": 8, "depth": 1, "num_heads": 2}),
    "resnet": ("resnet20_cifar", {"depths": (1, 1), "width": 4}),
    "unet": ("unet", {"width": 2, "depth": 1, "norm": "none"}),
    "bfloat16": ("mlp", {"hidden": (4,), "param_dtype": "bfloat16"}),
}


def made(kind="mlp", card=CARD, history=HISTORY, seed=0, outputs=3):
    """A checkpoint whose variables numpy drew."""
    name, arguments = KINDS[kind]
    model = create(name, outputs, **arguments)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, card.preprocessing.spec()), jax.random.key(0))
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    return Checkpoint(model, variables, card, history)


def assert_same(one, two):
    """Variables with the same names, types and bytes."""
    one, two = dict(walk_shapes(one)), dict(walk_shapes(two))
    assert one.keys() == two.keys()
    for name, leaf in one.items():
        assert leaf.dtype == two[name].dtype, name
        assert np.asarray(leaf).tobytes() == np.asarray(two[name]).tobytes(), name


def edit_card(path, change):
    """The card in the folder `path` after `change`, which changes its plain values or gives others."""
    file = path / "card.json"
    held = json.loads(file.read_text())
    file.write_text(json.dumps(change(held) or held))


def put(**changes):
    """A change that sets values of a card."""
    return lambda card: card.update(changes)


def put_in(part, **changes):
    """A change that sets values of a dict on a card."""
    return lambda card: card[part].update(changes)


def without(*keys):
    """A change that takes values away."""

    def change(card):
        for key in keys:
            del card[key]

    return change
