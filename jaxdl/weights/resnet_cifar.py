"""CIFAR ResNets elsewhere: `jaxdl.models.resnet.CifarResNet` in akamaster/pytorch_resnet_cifar10."""

from jaxdl.models.resnet import CifarResNet
from jaxdl.weights.keys import CONV, LINEAR, Keys, Row, Table, batch_norm, with_bias


def akamaster(model: CifarResNet) -> Table:
    theirs, ours = "layer{s}.{b}", "stage{s}/block{b+1}"
    return (
        Row("conv1.weight", "params/stem/conv/kernel", CONV),
        *batch_norm("bn1", "stem/norm"),
        Row(f"{theirs}.conv{{c}}.weight", f"params/{ours}/conv{{c}}/kernel", CONV),
        *batch_norm(f"{theirs}.bn{{c}}", f"{ours}/norm{{c}}"),
        *with_bias("linear", "head/dense", LINEAR),
    )


KEYS = Keys(layouts={"akamaster": akamaster})
