"""The key tables of all families, one file each."""

from jaxdl.errors import InputError
from jaxdl.models import MODELS
from jaxdl.models.bert import Bert
from jaxdl.models.bit import BiT
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.efficientnet import EfficientNet, EfficientNetLite
from jaxdl.models.googlenet import GoogLeNet
from jaxdl.models.inception import InceptionV3
from jaxdl.models.mobilenet import MobileNetV2
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.staged import Staged
from jaxdl.models.unet import UNet
from jaxdl.models.vgg import VGG
from jaxdl.models.vit import ViT
from jaxdl.weights import (
    bert,
    bit,
    convnext,
    efficientnet,
    googlenet,
    inception,
    mobilenet,
    resnet,
    resnet_cifar,
    unet,
    vgg,
    vit,
)
from jaxdl.weights.keys import Keys

KEYS: dict[type[Staged], Keys] = {
    CifarResNet: resnet_cifar.KEYS,
    ResNet: resnet.KEYS,
    BiT: bit.KEYS,
    VGG: vgg.KEYS,
    UNet: unet.KEYS,
    GoogLeNet: googlenet.KEYS,
    InceptionV3: inception.KEYS,
    ViT: vit.KEYS,
    ConvNeXt: convnext.KEYS,
    MobileNetV2: mobilenet.KEYS,
    EfficientNet: efficientnet.KEYS,
    EfficientNetLite: efficientnet.LITE_KEYS,
    Bert: bert.KEYS,
}


def keys_of(name: str) -> Keys:
    """The key tables of the model `name`. Raises InputError if there are no published weights for it."""
    family = MODELS[name].family if name in MODELS else None
    if family not in KEYS:
        known = [n for n, entry in MODELS.items() if entry.family in KEYS]
        raise InputError(
            f"there are no published weights for the model '{name}', and so no names for its own; there are for: "
            f"{', '.join(known)}. Any trained checkpoint can be exported as a program: --format stablehlo, in Python "
            "jaxdl.export(…, file_format='stablehlo')"
        )
    return KEYS[family]
