"""The key tables of all families, one file each."""

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
}
