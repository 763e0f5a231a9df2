"""U-Nets elsewhere: `jaxdl.models.unet.UNet` as Keras 1 stored that of orobix/retina-unet."""

from jaxdl.models.unet import UNet
from jaxdl.weights.keys import POINTWISE, Change, Keys, Row, Table

# Theano turned kernels by 180 degrees: [out, in, height, width] to [height, width, in, out], turned back
TURNED = Change(
    lambda tensor: (tensor[:, :, ::-1, ::-1].transpose(2, 3, 1, 0),),
    lambda leaf: leaf.transpose(3, 2, 0, 1)[:, :, ::-1, ::-1],
)


def keras(model: UNet) -> Table:
    """Convolutions are numbered from input to output, two on each level, the head last."""
    depth = 0 if model.encoder is not None else model.depth
    stages = [f"down{i}" for i in range(1, depth + 1)] + ["bottom"] + [f"up{i}" for i in range(depth, 0, -1)]
    places = [f"{stage}/convs/conv{i}" for stage in stages for i in (1, 2)]
    rows = [row for number, place in enumerate(places, 1) for row in _layer(number, place, TURNED)]
    about = Row("__architecture_json__", None, why="the description of the network, which the model has")
    return (*rows, *_layer(len(places) + 1, "head/dense", POINTWISE), about)


def _layer(number: int, ours: str, change: Change) -> tuple[Row, Row]:
    theirs = f"convolution2d_{number}/convolution2d_{number}"
    return Row(f"{theirs}_W", f"params/{ours}/kernel", change), Row(f"{theirs}_b", f"params/{ours}/bias")


KEYS = Keys({"keras": keras}, stem="params/down1/convs/conv1/kernel")
