"""What learns: the families and the table of models."""

import dataclasses
from typing import Any

from jaxdl.errors import InputError, check_choice, nearest
from jaxdl.models.bit import BiT
from jaxdl.models.cnn import CNN
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.googlenet import GoogLeNet
from jaxdl.models.inception import InceptionV3
from jaxdl.models.mlp import MLP
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.staged import Staged
from jaxdl.models.vgg import VGG
from jaxdl.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table of models.

    Attributes:
      family: the class.
      arguments: what the name stands for.
      image_size: side in pixels to which images of varying size are brought when nothing else says.
      parameters: how many it has for colour images of that size, with 1000 outputs (10 for images below 200 pixels).
    """

    family: type[Staged]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    image_size: int = 32
    parameters: int = 0


# the modes of transfer that tests run every model of the table through
MODES = ("from scratch", "frozen features", "partial fine-tuning", "full fine-tuning")
DEEPEST = 1000  # blocks in a row; a damaged card may ask for millions, and tracing them would never end

MODELS: dict[str, Entry] = {
    "mlp": Entry(MLP, parameters=411_146),
    "cnn": Entry(CNN, parameters=545_194),
    "vit": Entry(ViT, parameters=208_074),
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
        ViT,
        {"patch_size": 16, "width": 384, "depth": 12, "num_heads": 6, "distilled": True},
        224,
        22_436_432,
    ),
    "deit_b_16_distilled": Entry(
        ViT,
        {"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12, "distilled": True},
        224,
        87_338_192,
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
        ConvNeXt,
        {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768), "stochastic_depth": 0.1},
        224,
        28_589_128,
    ),
    "convnext_small": Entry(
        ConvNeXt,
        {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768), "stochastic_depth": 0.4},
        224,
        50_223_688,
    ),
    "convnext_base": Entry(
        ConvNeXt,
        {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024), "stochastic_depth": 0.5},
        224,
        88_591_464,
    ),
    "convnext_large": Entry(
        ConvNeXt,
        {"depths": (3, 3, 27, 3), "widths": (192, 384, 768, 1536), "stochastic_depth": 0.5},
        224,
        197_767_336,
    ),
}


def _fields(family: type[Staged]) -> dict[str, Any]:
    """The arguments of a family with their defaults; linen's own fields left out."""
    own = [f for f in dataclasses.fields(family) if f.name not in ("parent", "name")]
    return {f.name: f.default for f in own}


def create(name: str, num_outputs: int, **arguments: Any) -> Staged:
    """A model by name, without variables.

    Args:
      name: one of `MODELS`.
      num_outputs: size of the logits: the number of classes.
      **arguments: fields of the family, such as ``activation="tanh"`` or ``depth=6``; they win over the name's.

    Raises:
      InputError: for an unknown name or argument, or a value that the family refuses.
    """
    check_choice("model", name, MODELS)
    entry = MODELS[name]
    fields = _fields(entry.family)
    for argument, value in arguments.items():
        if argument not in fields or argument == "num_outputs":
            known = sorted(set(fields) - {"num_outputs"})
            raise InputError(
                f"model '{name}' has no argument '{argument}'; it has: {', '.join(known)}.{nearest(argument, known)}"
            )
        if not _alike(value, fields[argument]):
            raise InputError(
                f"argument '{argument}' of model '{name}' is {value!r}; expected something like {fields[argument]!r}"
            )
        depths = value if isinstance(value, (list, tuple)) else [value]
        if argument in ("depth", "depths") and max(depths, default=0) > DEEPEST:
            raise InputError(f"{argument} of model '{name}' is {value!r}; expected at most {DEEPEST} blocks in a row")
        if argument == "dropout" and not 0 <= value < 1:
            raise InputError(f"dropout of model '{name}' is {value!r}; expected a share of at least 0 and less than 1")
    for dtype in ("dtype", "param_dtype"):
        check_choice(dtype, arguments.get(dtype, "float32"), ("float32", "bfloat16", "float16"))
    if not isinstance(num_outputs, int) or num_outputs < 1:
        raise InputError(f"num_outputs is {num_outputs!r}; expected a positive whole number")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    model = entry.family(num_outputs=num_outputs, **{**entry.arguments, **given})
    model.stages()  # families check their values here
    return model


def _alike(value: Any, expected: Any) -> bool:
    """Whether `value` is of the kind of the default `expected`: tuples hold sizes, numbers are not negative."""
    if isinstance(expected, tuple):
        return isinstance(value, (list, tuple)) and all(type(size) is int and size > 0 for size in value)
    if isinstance(expected, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(expected) and not (type(value) is int and value < 0)


def describe(model: Staged) -> tuple[str, dict[str, Any]]:
    """The name and arguments from which `create` makes this model again (without ``num_outputs``).

    Raises:
      InputError: if the model's class is in no row of `MODELS`.
    """
    best: tuple[str, dict[str, Any]] | None = None
    for name, entry in MODELS.items():
        if type(model) is not entry.family:
            continue
        preset = {**_fields(entry.family), **entry.arguments}
        differing = {k: getattr(model, k) for k, v in preset.items() if getattr(model, k) != v}
        differing.pop("num_outputs", None)
        if best is None or len(differing) < len(best[1]):
            best = name, differing
    if best is None:
        raise InputError(f"{type(model).__name__} is in no row of jaxdl.models.MODELS; add one to save such models")
    return best
