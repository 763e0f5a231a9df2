"""The key tables of all families, one file each."""

from jaxdl.models.bit import BiT
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.googlenet import GoogLeNet
from jaxdl.models.inception import InceptionV3
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.staged import Staged
from jaxdl.models.vgg import VGG
from jaxdl.models.vit import ViT
from jaxdl.weights import bit, convnext, googlenet, inception, resnet, resnet_cifar, vgg, vit
from jaxdl.weights.keys import Keys

KEYS: dict[type[Staged], Keys] = {
    CifarResNet: resnet_cifar.KEYS,
    ResNet: resnet.KEYS,
    BiT: bit.KEYS,
    VGG: vgg.KEYS,
    GoogLeNet: googlenet.KEYS,
    InceptionV3: inception.KEYS,
    ViT: vit.KEYS,
    ConvNeXt: convnext.KEYS,
}
