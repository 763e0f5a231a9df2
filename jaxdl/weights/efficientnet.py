"""EfficientNet elsewhere: `jaxdl.models.efficientnet.EfficientNet`, the lite ones included."""

from jaxdl.models.efficientnet import GROUPS, EfficientNet
from jaxdl.weights.keys import Keys, Table
from jaxdl.weights.mobilenet import TIMM_ENDS, block, blocks_in_order, ends, parts, timm_blocks

# in what weights of the same names and shapes differ: where they were trained
TENSORFLOW = {"padding": "same", "epsilon": 1e-3}
PYTORCH = {"padding": "symmetric", "epsilon": 1e-5}


def torchvision(model: EfficientNet) -> Table:
    """There the parts of a block are steps, which are fewer where there is no way up."""
    rows: Table = ()
    for stage, group in enumerate(GROUPS[: len(model.depths)], 1):
        steps = (0, 2) if group.expansion == 1 else (0, 1, 3)
        names = tuple((f"block.{step}.0", f"block.{step}.1") for step in steps)
        squeeze = (f"block.{steps[-1] - 1}.fc1", f"block.{steps[-1] - 1}.fc2")
        rows += block(f"features.{stage}.{{b}}", f"stage{stage}/block{{b+1}}", parts(group, names), squeeze)
    last = f"features.{len(model.depths) + 1}"
    return (*ends(("features.0.0", "features.0.1"), (f"{last}.0", f"{last}.1"), "classifier.1"), *rows)


def timm(model: EfficientNet) -> Table:
    """Also of timm's ``tf_efficientnet_…``, which differ in what `TENSORFLOW` says."""
    return (*TIMM_ENDS, *timm_blocks(GROUPS, ("se.conv_reduce", "se.conv_expand")))


def efficientnet_pytorch(model: EfficientNet) -> Table:
    """The package of this name (github.com/lukemelas/EfficientNet-PyTorch), and its like with the lite networks."""
    rows: Table = ()
    for number, group, ours in blocks_in_order(model, GROUPS):
        names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        names = names[1:] if group.expansion == 1 else names
        rows += block(f"_blocks.{number}", ours, parts(group, names), ("_se_reduce", "_se_expand"))
    return (*ends(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), "_fc"), *rows)


KEYS = Keys(
    layouts={"torchvision": torchvision, "timm": timm, "efficientnet_pytorch": efficientnet_pytorch},
    arguments={"torchvision": PYTORCH, "efficientnet_pytorch": TENSORFLOW},
)
LITE_KEYS = Keys(
    layouts={"timm": timm, "efficientnet_pytorch": efficientnet_pytorch},
    arguments={"efficientnet_pytorch": TENSORFLOW},
)
