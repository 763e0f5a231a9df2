"""Big Transfer elsewhere: `jaxdl.models.bit.BiT`."""

from jaxdl.models.bit import BiT
from jaxdl.weights.keys import CONV, POINTWISE, Change, Keys, Row, Table, scale_and_bias, with_bias

# the head is a 1×1 convolution, [1, 1, in, out]
HEAD = Change(lambda tensor: (tensor.squeeze((0, 1)),), lambda leaf: leaf[None, None])


def google(model: BiT) -> Table:
    """The ``.npz`` files of google-research/big_transfer; kernels are ``[height, width, in, out]`` there, too."""
    theirs, ours = "resnet/block{s}/unit{u:02}", "stage{s}/block{u}"
    return (
        Row("resnet/root_block/standardized_conv2d/kernel", "params/stem/conv/kernel"),
        *(
            row
            for letter, number in (("a", 1), ("b", 2), ("c", 3))
            for row in (
                *_group_norm(f"{theirs}/{letter}", f"{ours}/norm{number}"),
                Row(f"{theirs}/{letter}/standardized_conv2d/kernel", f"params/{ours}/conv{number}/kernel"),
            )
        ),
        Row(f"{theirs}/a/proj/standardized_conv2d/kernel", f"params/{ours}/shortcut_conv/kernel"),
        *_group_norm("resnet", "pool/norm"),
        Row("resnet/head/conv2d/kernel", "params/head/dense/kernel", HEAD),
        Row("resnet/head/conv2d/bias", "params/head/dense/bias"),
    )


def _group_norm(theirs: str, ours: str) -> Table:
    return (
        Row(f"{theirs}/group_norm/gamma", f"params/{ours}/scale"),
        Row(f"{theirs}/group_norm/beta", f"params/{ours}/bias"),
    )


def timm(model: BiT) -> Table:
    theirs, ours = "stages.{s}.blocks.{b}", "stage{s+1}/block{b+1}"
    return (
        Row("stem.conv.weight", "params/stem/conv/kernel", CONV),
        Row(f"{theirs}.conv{{c}}.weight", f"params/{ours}/conv{{c}}/kernel", CONV),
        *scale_and_bias(f"{theirs}.norm{{c}}", f"{ours}/norm{{c}}"),
        Row(f"{theirs}.downsample.conv.weight", f"params/{ours}/shortcut_conv/kernel", CONV),
        *scale_and_bias("norm", "pool/norm"),
        *with_bias("head.fc", "head/dense", POINTWISE),
    )


KEYS = Keys(layouts={"google": google, "timm": timm})
