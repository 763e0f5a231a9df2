"""The table of models: what each name stands for."""

import dataclasses
from typing import Any

from jaxdl.errors import InputError
from jaxdl.models.bert import Bert
from jaxdl.models.bit import BiT
from jaxdl.models.cnn import CNN
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.efficientnet import EfficientNet, EfficientNetLite
from jaxdl.models.googlenet import GoogLeNet
from jaxdl.models.inception import InceptionV3
from jaxdl.models.mlp import MLP
from jaxdl.models.mobilenet import MobileNetV2
from jaxdl.models.own import defaults
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.rnn import RNN
from jaxdl.models.sequence import token_spec
from jaxdl.models.staged import Staged
from jaxdl.models.textcnn import TextCNN
from jaxdl.models.transformer import Transformer
from jaxdl.models.unet import UNet
from jaxdl.models.vgg import VGG
from jaxdl.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table of models.

    Attributes:
      family: the class.
      arguments: what the name stands for.
      image_size: side in pixels to which images of varying size are brought when nothing else says.
      parameters: how many it has for `example`, with `outputs`.
      own: whether it is a user's; see `register_model`.
      length: of a model that reads text, the number of tokens of an example when nothing else says; else 0.
    """

    family: type[Staged]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    image_size: int = 32
    parameters: int = 0
    own: bool = False
    length: int = 0

    @property
    def outputs(self) -> int:
        """For which `parameters` are counted: the classes of the data that such models are mostly published for."""
        return 2 if self.length else 1000 if self.image_size >= 200 else 10

    @property
    def input(self) -> str:
        """What it is fed with, in words."""
        return f"{self.length} tokens" if self.length else f"{self.image_size}²"

    def example(self, shape: tuple[int, ...] | None = None) -> Any:
        """Spec of an example: colour images of `image_size`, or `length` tokens with their mask; or of another shape.

        Raises:
          InputError: for tokens in another shape than a row.
        """
        if not self.length:
            return shape or (self.image_size, self.image_size, 3)
        if len(shape or (0,)) != 1:
            raise InputError(f"the input shape is {shape}; expected one number, of tokens: the model reads text")
        return token_spec(*(shape or (self.length,)))

    @property
    def preset(self) -> dict[str, Any]:
        """All fields that a model of this name has, without linen's own."""
        return {**defaults(self.family), **self.arguments}


# the modes of transfer that tests run every model of the table through
MODES = ("from scratch", "frozen features", "partial fine-tuning", "full fine-tuning")

MODELS: dict[str, Entry] = {
    "mlp": Entry(MLP, parameters=411_146),
    "cnn": Entry(CNN, parameters=545_194),
    "vit": Entry(ViT, parameters=208_074),
    "unet": Entry(UNet, image_size=128, parameters=31_041_098),
    "retina_unet": Entry(
        UNet,
        {"depth": 2, "width": 32, "upsample": "nearest", "norm": "none", "dropout": 0.2, "head_relu": True},
        48,
        471_850,
    ),
    "vit_ti_16": Entry(ViT, {"patch_size": 16, "width": 192, "depth": 12, "num_heads": 3}, 224, 5_717_416),
    "vit_s_16": Entry(ViT, {"patch_size": 16, "width": 384, "depth": 12, "num_heads": 6}, 224, 22_050_664),
    "vit_s_32": Entry(ViT, {"patch_size": 32, "width": 384, "depth": 12, "num_heads": 6}, 224, 22_878_952),
    "vit_b_8": Entry(ViT, {"patch_size": 8, "width": 768, "depth": 12, "num_heads": 12}, 224, 86_576_872),
    "vit_b_16": Entry(ViT, {"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12}, 224, 86_567_656),
    "vit_b_32": Entry(ViT, {"patch_size": 32, "width": 768, "depth": 12, "num_heads": 12}, 224, 88_224_232),
    "vit_l_16": Entry(ViT, {"patch_size": 16, "width": 1024, "depth": 24, "num_heads": 16}, 224, 304_326_632),
    "vit_l_32": Entry(ViT, {"patch_size": 32, "width": 1024, "depth": 24, "num_heads": 16}, 224, 306_535_400),
    "vit_h_14": Entry(ViT, {"patch_size": 14, "width": 1280, "depth": 32, "num_heads": 16}, 224, 632_045_800),
    "deit_ti_16_distilled": Entry(
        ViT, {"patch_size": 16, "width": 192, "depth": 12, "num_heads": 3, "distilled": True}, 224, 5_910_800
    ),
    "deit_s_16_distilled": Entry(
        ViT, {"patch_size": 16, "width": 384, "depth": 12, "num_heads": 6, "distilled": True}, 224, 22_436_432
    ),
    "deit_b_16_distilled": Entry(
        ViT, {"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12, "distilled": True}, 224, 87_338_192
    ),
    "resnet20_cifar": Entry(CifarResNet, {"depths": (3, 3, 3)}, 32, 269_722),
    "resnet32_cifar": Entry(CifarResNet, {"depths": (5, 5, 5)}, 32, 464_154),
    "resnet44_cifar": Entry(CifarResNet, {"depths": (7, 7, 7)}, 32, 658_586),
    "resnet56_cifar": Entry(CifarResNet, {"depths": (9, 9, 9)}, 32, 853_018),
    "resnet110_cifar": Entry(CifarResNet, {"depths": (18, 18, 18)}, 32, 1_727_962),
    "resnet18": Entry(ResNet, {"depths": (2, 2, 2, 2), "block": "basic"}, 224, 11_689_512),
    "resnet34": Entry(ResNet, {"depths": (3, 4, 6, 3), "block": "basic"}, 224, 21_797_672),
    "resnet50": Entry(ResNet, {"depths": (3, 4, 6, 3), "block": "bottleneck"}, 224, 25_557_032),
    "resnet101": Entry(ResNet, {"depths": (3, 4, 23, 3), "block": "bottleneck"}, 224, 44_549_160),
    "resnet152": Entry(ResNet, {"depths": (3, 8, 36, 3), "block": "bottleneck"}, 224, 60_192_808),
    "wide_resnet50_2": Entry(
        ResNet, {"depths": (3, 4, 6, 3), "block": "bottleneck", "width_per_group": 128}, 224, 68_883_240
    ),
    "wide_resnet101_2": Entry(
        ResNet, {"depths": (3, 4, 23, 3), "block": "bottleneck", "width_per_group": 128}, 224, 126_886_696
    ),
    "resnext50_32x4d": Entry(
        ResNet, {"depths": (3, 4, 6, 3), "block": "bottleneck", "groups": 32, "width_per_group": 4}, 224, 25_028_904
    ),
    "resnext101_32x8d": Entry(
        ResNet, {"depths": (3, 4, 23, 3), "block": "bottleneck", "groups": 32, "width_per_group": 8}, 224, 88_791_336
    ),
    "resnext101_64x4d": Entry(
        ResNet, {"depths": (3, 4, 23, 3), "block": "bottleneck", "groups": 64, "width_per_group": 4}, 224, 83_455_272
    ),
    "bit_r50x1": Entry(BiT, {"depths": (3, 4, 6, 3), "width": 64}, 224, 25_549_352),
    "bit_r50x3": Entry(BiT, {"depths": (3, 4, 6, 3), "width": 192}, 224, 217_319_080),
    "bit_r101x1": Entry(BiT, {"depths": (3, 4, 23, 3), "width": 64}, 224, 44_541_480),
    "bit_r101x3": Entry(BiT, {"depths": (3, 4, 23, 3), "width": 192}, 224, 387_934_888),
    "bit_r152x2": Entry(BiT, {"depths": (3, 8, 36, 3), "width": 128}, 224, 236_335_208),
    "bit_r152x4": Entry(BiT, {"depths": (3, 8, 36, 3), "width": 256}, 224, 936_533_224),
    "vgg11": Entry(VGG, {"depths": (1, 1, 2, 2, 2)}, 224, 132_863_336),
    "vgg11_bn": Entry(VGG, {"depths": (1, 1, 2, 2, 2), "norm": "batch"}, 224, 132_868_840),
    "vgg13": Entry(VGG, {"depths": (2, 2, 2, 2, 2)}, 224, 133_047_848),
    "vgg13_bn": Entry(VGG, {"depths": (2, 2, 2, 2, 2), "norm": "batch"}, 224, 133_053_736),
    "vgg16": Entry(VGG, {"depths": (2, 2, 3, 3, 3)}, 224, 138_357_544),
    "vgg16_bn": Entry(VGG, {"depths": (2, 2, 3, 3, 3), "norm": "batch"}, 224, 138_365_992),
    "vgg19": Entry(VGG, {"depths": (2, 2, 4, 4, 4)}, 224, 143_667_240),
    "vgg19_bn": Entry(VGG, {"depths": (2, 2, 4, 4, 4), "norm": "batch"}, 224, 143_678_248),
    "googlenet": Entry(GoogLeNet, {}, 224, 6_624_904),
    "inception_v3": Entry(InceptionV3, {}, 299, 23_834_568),
    "convnext_tiny": Entry(
        ConvNeXt, {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768), "stochastic_depth": 0.1}, 224, 28_589_128
    ),
    "convnext_small": Entry(
        ConvNeXt, {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768), "stochastic_depth": 0.4}, 224, 50_223_688
    ),
    "convnext_base": Entry(
        ConvNeXt, {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024), "stochastic_depth": 0.5}, 224, 88_591_464
    ),
    "convnext_large": Entry(
        ConvNeXt, {"depths": (3, 3, 27, 3), "widths": (192, 384, 768, 1536), "stochastic_depth": 0.5}, 224, 197_767_336
    ),
    "mobilenet_v2": Entry(MobileNetV2, {}, 224, 3_504_872),
    "efficientnet_lite0": Entry(EfficientNetLite, {}, 224, 4_652_008),
    "efficientnet_b0": Entry(EfficientNet, {}, 224, 5_288_548),
    "efficientnet_b1": Entry(EfficientNet, {"depths": (2, 3, 3, 4, 4, 5, 2)}, 240, 7_794_184),
    "efficientnet_b2": Entry(
        EfficientNet, {"width": 1.1, "depths": (2, 3, 3, 4, 4, 5, 2), "dropout": 0.3}, 260, 9_109_994
    ),
    "efficientnet_b3": Entry(
        EfficientNet, {"width": 1.2, "depths": (2, 3, 3, 5, 5, 6, 2), "dropout": 0.3}, 300, 12_233_232
    ),
    "efficientnet_b4": Entry(
        EfficientNet, {"width": 1.4, "depths": (2, 4, 4, 6, 6, 8, 2), "dropout": 0.4}, 380, 19_341_616
    ),
    "rnn": Entry(RNN, {"kind": "rnn"}, parameters=3_973_378, length=64),
    "gru": Entry(RNN, {"kind": "gru"}, parameters=4_105_474, length=64),
    "lstm": Entry(RNN, {"kind": "lstm"}, parameters=4_171_522, length=64),
    "textcnn": Entry(TextCNN, parameters=4_061_318, length=64),
    "transformer": Entry(Transformer, parameters=4_369_410, length=64),
    "bert_tiny": Entry(Bert, {"width": 128, "depth": 2, "num_heads": 2}, parameters=4_386_178, length=128),
    "bert_mini": Entry(Bert, {"width": 256, "depth": 4, "num_heads": 4}, parameters=11_171_074, length=128),
    "bert_small": Entry(Bert, {"width": 512, "depth": 4, "num_heads": 8}, parameters=28_764_674, length=128),
    "bert_medium": Entry(Bert, {"width": 512, "depth": 8, "num_heads": 8}, parameters=41_374_210, length=128),
    "bert_base": Entry(Bert, {"width": 768, "depth": 12, "num_heads": 12}, parameters=109_483_778, length=128),
    "bert_large": Entry(Bert, {"width": 1024, "depth": 24, "num_heads": 16}, parameters=335_143_938, length=128),
    "minilm_l6": Entry(
        Bert, {"width": 384, "depth": 6, "num_heads": 12, "pool": "mean"}, parameters=22_566_146, length=128
    ),
    "minilm_l12": Entry(
        Bert, {"width": 384, "depth": 12, "num_heads": 12, "pool": "mean"}, parameters=33_212_930, length=128
    ),
}
