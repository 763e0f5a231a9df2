"""What learns: the families and the table of models."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdl.errors import InputError, check_choice, nearest
from jaxdl.models.bit import BiT
from jaxdl.models.cnn import CNN
from jaxdl.models.convnext import ConvNeXt
from jaxdl.models.efficientnet import EfficientNet, EfficientNetLite
from jaxdl.models.googlenet import GoogLeNet
from jaxdl.models.inception import InceptionV3
from jaxdl.models.mlp import MLP
from jaxdl.models.mobilenet import MobileNetV2
from jaxdl.models.own import defaults, how_to_give, own_arguments, own_name, rebuild_own
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.staged import Staged, check_stages
from jaxdl.models.unet import UNet
from jaxdl.models.vgg import VGG
from jaxdl.models.vit import ViT
from jaxdl.models.wrapped import Wrapped


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table of models.

    Attributes:
      family: the class.
      arguments: what the name stands for.
      image_size: side in pixels to which images of varying size are brought when nothing else says.
      parameters: how many it has for colour images of that size, with 1000 outputs (10 for images below 200 pixels).
      own: whether it is a user's; see `register_model`.
    """

    family: type[Staged]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    image_size: int = 32
    parameters: int = 0
    own: bool = False

    @property
    def preset(self) -> dict[str, Any]:
        """All fields that a model of this name has, without linen's own."""
        return {**defaults(self.family), **self.arguments}


# the modes of transfer that tests run every model of the table through
MODES = ("from scratch", "frozen features", "partial fine-tuning", "full fine-tuning")
DEEPEST = 1000  # blocks in a row; a damaged card may ask for millions, and tracing them would never end

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
}


def register_model(
    name: str,
    family: type[Staged] | Wrapped,
    arguments: Mapping[str, Any] | None = None,
    image_size: int = 32,
) -> None:
    """Adds a model of your own to `MODELS`, for this process: names, checkpoints and commands know it from then on.

    Args:
      name: for `create`, ``init="…"``, a search's space, and on cards.
      family: a subclass of `Staged`, or what `wrap` gave.
      arguments: what the name stands for, if not the class's defaults.
      image_size: see `Entry`.

    Raises:
      InputError: for a name that is taken, or a model that does not keep the rules of `Staged`.
    """
    if isinstance(family, Wrapped):
        held = {field: getattr(family, field) for field in ("module", "head", "groups", "dtype")}
        entry = Entry(Wrapped, held | dict(arguments or {}), image_size, own=True)
    elif isinstance(family, type) and issubclass(family, Staged) and family is not Wrapped:
        entry = Entry(family, dict(arguments or {}), image_size, own=True)
    else:
        raise InputError(f"family is {family!r:.100}; expected a subclass of jaxdl.Staged, or what jaxdl.wrap gave")
    if MODELS.get(name, entry) != entry:
        raise InputError(f"there is a model '{name}' already; give yours another name")
    if unknown := entry.arguments.keys() - defaults(entry.family).keys():
        raise InputError(f"{entry.family.__name__} has no argument {', '.join(sorted(unknown))}")
    check_stages(entry.family(num_outputs=1, **entry.arguments))
    MODELS[name] = entry


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
    fields = defaults(entry.family)
    for argument, value in tuple(arguments.items()):
        if argument not in fields or argument == "num_outputs":
            known = sorted(set(fields) - {"num_outputs"})
            raise InputError(
                f"model '{name}' has no argument '{argument}'; it has: {', '.join(known)}.{nearest(argument, known)}"
            )
        if argument in entry.family.PARTS:
            arguments[argument] = _part(f"argument '{argument}' of model '{name}'", value)
        elif not entry.own and not _alike(value, fields[argument]):
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
    check_stages(model)  # families check their values there
    return model


def describe(model: Staged) -> tuple[str, dict[str, Any]]:
    """The name and arguments from which `rebuild` makes this model again (without ``num_outputs``).

    A model of a user's own that is in no row of `MODELS` has the name of its class, or of that of the wrapped module.

    Raises:
      InputError: if that name is the one of a model in `MODELS`.
    """
    best: tuple[str, dict[str, Any]] | None = None
    for name, entry in MODELS.items():
        if type(model) is not entry.family:
            continue
        differing = {k: getattr(model, k) for k, v in entry.preset.items() if getattr(model, k) != v}
        differing.pop("num_outputs", None)
        if "module" in differing and entry.family is Wrapped:
            continue  # another module
        if best is None or len(differing) < len(best[1]):
            best = name, differing
    if best is None:
        if (name := own_name(model)) in MODELS:
            raise InputError(f"the class {name} has the name of a model of another kind; give yours another name")
        return name, own_arguments(model)
    # all of a user's own, so that a card is whole without the row
    if MODELS[best[0]].own:
        return best[0], own_arguments(model)
    return best[0], {k: _plain_part(v) if isinstance(v, Staged) else v for k, v in best[1].items()}


def _part(what: str, value: Any) -> Staged | None:
    """A model within another one, from its name or what `_plain_part` gave."""
    if isinstance(value, str):
        value = create(value, 1)
    elif (
        isinstance(value, Mapping) and value.keys() == {"name", "arguments"} and isinstance(value["arguments"], Mapping)
    ):
        value = rebuild(value["name"], 1, value["arguments"])
    if value is not None and not isinstance(value, Staged):
        raise InputError(f"{what} is {value!r}; expected the name of a model, a model, or None")
    return None if value is None else value.clone(num_outputs=1, dtype="float32", param_dtype="float32")


def _plain_part(model: Staged) -> dict[str, Any]:
    name, arguments = describe(model)
    return {"name": name, "arguments": arguments}


def is_own(model: Staged) -> bool:
    """Whether it is a user's own, in a row of `MODELS` or not."""
    return all(type(model) is not entry.family or entry.own for entry in MODELS.values())


def image_size_of(model: Staged) -> int:
    """See `Entry`."""
    return MODELS.get(describe(model)[0], Entry(type(model))).image_size


def rebuild(
    name: str, num_outputs: int, arguments: Mapping[str, Any], models: Mapping[str, type[Staged] | Staged] | None = None
) -> Staged:
    """The model that a card describes; undoes `describe`. Nothing is imported for it.

    Args:
      name: as on the card, with the two following.
      num_outputs: of the head.
      arguments: of the class.
      models: of a user's own by name: a subclass of `Staged`, or an instance.

    Raises:
      InputError: if the model is not known or cannot be made.
    """
    if name in (models or {}):
        return rebuild_own(name, num_outputs, arguments, models[name])
    if name not in MODELS:
        raise InputError(
            f"the model '{name}' is not one of jaxdl.{nearest(name, MODELS)} If it is one of your own, pass it in "
            f"Python: {how_to_give(name, arguments)}; or register it first, by jaxdl.register_model with this name"
        )
    if (entry := MODELS[name]).own:
        known = create(name, num_outputs)
        return rebuild_own(name, num_outputs, arguments, known if isinstance(known, Wrapped) else entry.family)
    return create(name, num_outputs, **arguments)


def changeable(model: Staged) -> list[str]:
    """Names of the arguments that a search may choose."""
    hidden = ("num_outputs", "dtype", "param_dtype", *(("module", "head", "groups") if type(model) is Wrapped else ()))
    return [name for name in defaults(type(model)) if name not in hidden]


def with_arguments(model: Staged, arguments: Mapping[str, Any]) -> Staged:
    """The model with other arguments. Raises InputError for what its class does not have, or refuses."""
    name, known = describe(model)
    if not is_own(model):
        return create(name, model.num_outputs, **{**known, **arguments})
    for argument in arguments:
        check_choice(f"argument of {name}", argument, changeable(model))
    changed = model.clone(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})
    check_stages(changed)
    return changed


def _alike(value: Any, expected: Any) -> bool:
    """Whether `value` is of the kind of the default `expected`: tuples hold sizes, numbers are not negative."""
    if isinstance(expected, tuple):
        return isinstance(value, (list, tuple)) and all(type(size) is int and size > 0 for size in value)
    if isinstance(expected, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(expected) and not (type(value) is int and value < 0)
