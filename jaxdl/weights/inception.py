"""Inception-v3's weights under the names of torchvision; timm has the same."""

from jaxdl.models.inception import MIXED, InceptionV3, units
from jaxdl.weights.keys import CONV, LINEAR, Keys, Row, Table, batch_norm, with_bias

AUXILIARY = "an auxiliary classifier: it serves training from scratch alone"
STEM = {
    "Conv2d_1a_3x3": "conv1a",
    "Conv2d_2a_3x3": "conv2a",
    "Conv2d_2b_3x3": "conv2b",
    "Conv2d_3b_1x1": "conv3b",
    "Conv2d_4a_3x3": "conv4a",
}


def conv_norm(theirs: str, ours: str) -> Table:
    """The rows of a `ConvNorm`."""
    return (
        Row(f"{theirs}.conv.weight", f"params/{ours}/conv/kernel", CONV),
        *batch_norm(f"{theirs}.bn", f"{ours}/norm"),
    )


def torchvision(model: InceptionV3) -> Table:
    return (
        *(row for theirs, ours in STEM.items() for row in conv_norm(theirs, f"stem/{ours}")),
        *(
            row
            for stage, branches in MIXED.items()
            for unit in units(branches)
            for row in conv_norm(f"{stage.capitalize()}.{unit.name}", f"{stage}/{unit.name}")
        ),
        *with_bias("fc", "head/dense", LINEAR),
        Row("AuxLogits.*", None, why=AUXILIARY),
    )


KEYS = Keys({"torchvision": torchvision, "timm": torchvision}, stem="params/stem/conv1a/conv/kernel")
