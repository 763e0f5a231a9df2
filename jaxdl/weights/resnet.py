"""Residual networks elsewhere: `jaxdl.models.resnet.ResNet` with the stem for ImageNet.

Wide ResNets and ResNeXts have the same names.
"""

from jaxdl.models.resnet import ResNet
from jaxdl.weights.keys import CONV, LINEAR, Keys, Row, Table, batch_norm, with_bias


def torchvision(model: ResNet) -> Table:
    """timm's `resnet.py` has the same names."""
    theirs, ours = "layer{s}.{b}", "stage{s}/block{b+1}"
    return (
        Row("conv1.weight", "params/stem/conv/kernel", CONV),
        *batch_norm("bn1", "stem/norm"),
        Row(f"{theirs}.conv{{c}}.weight", f"params/{ours}/conv{{c}}/kernel", CONV),
        *batch_norm(f"{theirs}.bn{{c}}", f"{ours}/norm{{c}}"),
        Row(f"{theirs}.downsample.0.weight", f"params/{ours}/shortcut_conv/kernel", CONV),
        *batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm"),
        *with_bias("fc", "head/dense", LINEAR),
    )


def huggingface(model: ResNet) -> Table:
    """transformers' `ResNetForImageClassification`.

    With its ``downsample_in_bottleneck=False``: were it true, the stride would be elsewhere under the same names.
    """
    theirs, ours = "resnet.encoder.stages.{s}.layers.{b}", "stage{s+1}/block{b+1}"
    return (
        Row("resnet.embedder.embedder.convolution.weight", "params/stem/conv/kernel", CONV),
        *batch_norm("resnet.embedder.embedder.normalization", "stem/norm"),
        Row(f"{theirs}.layer.{{c}}.convolution.weight", f"params/{ours}/conv{{c+1}}/kernel", CONV),
        *batch_norm(f"{theirs}.layer.{{c}}.normalization", f"{ours}/norm{{c+1}}"),
        Row(f"{theirs}.shortcut.convolution.weight", f"params/{ours}/shortcut_conv/kernel", CONV),
        *batch_norm(f"{theirs}.shortcut.normalization", f"{ours}/shortcut_norm"),
        *with_bias("classifier.1", "head/dense", LINEAR),
    )


KEYS = Keys(layouts={"torchvision": torchvision, "timm": torchvision, "huggingface": huggingface})
