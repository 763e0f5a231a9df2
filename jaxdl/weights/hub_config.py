"""What the ``config.json`` beside published weights says: which model, which preprocessing, which classes."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.models import MODELS, describe
from jaxdl.models.bert import Bert
from jaxdl.models.efficientnet import EfficientNet
from jaxdl.models.staged import Staged
from jaxdl.weights.bert import MODULES, POOLING, asked_by, has_head, normalises, of_config
from jaxdl.weights.efficientnet import PYTORCH, TENSORFLOW
from jaxdl.weights.files import read_json
from jaxdl.weights.published import HALVES, IMAGENET

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers

SIZES = {"tiny": "ti", "small": "s", "base": "b", "large": "l", "huge": "h"}
# timm's architectures whose names differ from those here; sizes are written as in `SIZES`
TIMM = (
    (r"vit_(tiny|small|base|large|huge)_patch(\d+)_\d+", "vit_{}_{}"),
    (r"deit_(tiny|small|base)_patch(\d+)_\d+", "vit_{}_{}"),
    (r"deit_(tiny|small|base)_distilled_patch(\d+)_\d+", "deit_{}_{}_distilled"),
    (r"resnetv2_(\d+)x(\d)_bit", "bit_r{}x{}"),
    (r"tf_(efficientnet_.*)", "{}"),
    (r"mobilenetv2_100", "mobilenet_v2"),
)


@dataclasses.dataclass(frozen=True)
class Described:
    """What is said about a file of weights.

    Attributes:
      model: name of the model here, or None if it is another.
      architecture: its name there.
      arguments: of the model, where they differ from the name's.
      preprocessing: of the images, or None if nothing is said about it.
      class_names: of the outputs; empty if unknown.
      licence: as given, or None.
      headless: whether the weights are a network's body alone.
      normalise: whether its embeddings are brought to unit length.
      task: name of the one that its head answers; None where that follows from the model.
    """

    model: str | None
    architecture: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocessing: ImagePreprocessing | None = None
    class_names: tuple[str, ...] = ()
    licence: str | None = None
    headless: bool = False
    normalise: bool = False
    task: str | None = None


def read_config(folder: Path) -> Described | None:
    """What the configuration in `folder` says, timm's or transformers'; None if there is none.

    Raises:
      InputError: if it is damaged.
    """
    config = _read_json(folder / CONFIG)
    if config is None:
        return None
    try:
        if "architecture" in config:
            return _from_timm(config)
        if config.get("model_type") == "bert":
            return _from_bert(config, _read_json(folder / POOLING), _read_json(folder / MODULES, list))
        if "model_type" in config:
            return _from_transformers(config, _read_json(folder / PREPROCESSOR))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"'{folder / CONFIG}' cannot be understood ({type(error).__name__}: {error}); fetch it again, or convert "
            "the file of weights from a folder without it, naming --model"
        ) from error
    return None


def _read_json(path: Path, expected: type = dict) -> Any:
    return read_json(path, expected, advice="fetch it again") if path.is_file() else None


def model_of_timm(architecture: str) -> str | None:
    """The name here of one of timm's architectures, or None."""
    if architecture in MODELS:
        return architecture
    for pattern, template in TIMM:
        if found := re.fullmatch(pattern, architecture):
            name = template.format(*(SIZES.get(part, part) for part in found.groups()))
            return name if name in MODELS else None
    return None


def _from_timm(config: Mapping[str, Any]) -> Described:
    given = {**config.get("pretrained_cfg", {}), **{k: v for k, v in config.items() if k != "pretrained_cfg"}}
    channels, *size = given["input_size"]
    mode = given.get("crop_mode", "center")
    preprocessing = ImagePreprocessing(
        (*size, channels),
        tuple(given["mean"]),
        tuple(given["std"]),
        given["interpolation"],
        float(given["crop_pct"]),
        "squash" if mode == "squash" else "center",
    )
    names = config.get("label_names") or ()
    described = config.get("label_descriptions") or {}
    names = tuple(str(described.get(name, name)) for name in names)
    architecture = str(config["architecture"])
    licence = given.get("license")
    model, arguments = model_of_timm(architecture), {}
    if model is not None and issubclass(MODELS[model].family, EfficientNet):
        arguments = TENSORFLOW if architecture.startswith("tf_") else PYTORCH
    return Described(model, architecture, arguments, preprocessing, names, licence)


def _from_transformers(config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None) -> Described:
    kind = config["model_type"]
    wanted: dict[str, Any] | None = None
    arguments: dict[str, Any] = {}
    if kind in ("vit", "deit"):
        width = config["hidden_size"]
        wanted = {
            "width": width,
            "depth": config["num_hidden_layers"],
            "num_heads": config["num_attention_heads"],
            "patch_size": config["patch_size"],
            "distilled": kind == "deit",
        }
        if config.get("intermediate_size", 4 * width) != 4 * width or config.get("hidden_act", "gelu") != "gelu":
            wanted = None
        arguments = {"epsilon": config.get("layer_norm_eps", 1e-12)}
    elif (
        kind == "resnet" and not config.get("downsample_in_bottleneck") and not config.get("downsample_in_first_stage")
    ):
        wanted = {"depths": tuple(config["depths"]), "block": config["layer_type"], "groups": 1, "width_per_group": 64}
    elif kind == "convnext":
        wanted = {"depths": tuple(config["depths"]), "widths": tuple(config["hidden_sizes"])}
    model = None if wanted is None else _with_arguments(wanted)
    names = _class_names(config)
    preprocessing = None if preprocessor is None else _preprocessing(preprocessor, config)
    return Described(model, kind, arguments if model else {}, preprocessing, names)


def _from_bert(config: Mapping[str, Any], pooling: Mapping[str, Any] | None, modules: Any) -> Described:
    arguments = of_config(config, pooling)
    if arguments is None:
        return Described(None, "bert")
    sizes = {key: arguments[key] for key in ("width", "depth", "num_heads")}
    name = _with_arguments(sizes, Bert) or "bert_base"
    known = MODELS[name].preset
    differing = {key: value for key, value in arguments.items() if known[key] != value}
    headless = pooling is not None or not has_head(config)
    names = () if headless else _class_names(config)
    normalise = pooling is not None and normalises(modules)
    task = None if headless else asked_by(config, len(config.get("id2label") or (0, 1)))
    return Described(name, "bert", differing, None, names, headless=headless, normalise=normalise, task=task)


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label") or {}
    names = tuple(names[str(i)] for i in range(len(names)))
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return ()  # transformers' way of knowing none
    return names


def _with_arguments(wanted: Mapping[str, Any], family: type[Staged] = Staged) -> str | None:
    """The first model of the family that has these arguments."""
    for name, entry in MODELS.items():
        if entry.own or not issubclass(entry.family, family):
            continue
        have = entry.preset
        if all(have.get(key) == value for key, value in wanted.items() if key in have or value) and any(
            key in entry.arguments for key in wanted
        ):
            return name
    return None


def _preprocessing(given: Mapping[str, Any], config: Mapping[str, Any]) -> ImagePreprocessing:
    """As transformers' image processors of these families do it."""
    size = given.get("size", 224)
    shorter = size.get("shortest_edge") if isinstance(size, dict) else None
    if isinstance(size, dict):
        side = int(shorter or size.get("height") or size["width"])
        if shorter is None and size.get("height", side) != size.get("width", side):
            raise ValueError(f"size is {size}; only square images are known")
    else:
        side = int(size)
    fraction, mode = 1.0, "squash"
    if given.get("crop_pct"):  # ConvNext's processor: the shorter edge grows by the fraction, below 384 pixels
        fraction, mode = (float(given["crop_pct"]), "center") if side < 384 else (1.0, "squash")
    elif given.get("do_center_crop"):
        crop = given.get("crop_size", side)
        crop = int(crop["height"]) if isinstance(crop, dict) else int(crop)
        side, fraction, mode = crop, crop / side, "center" if shorter else "squash"
    elif shorter:
        mode = "center"
    mean = tuple(given.get("image_mean", HALVES[0])) if given.get("do_normalize", True) else (0.0,) * 3
    std = tuple(given.get("image_std", HALVES[1])) if given.get("do_normalize", True) else (1.0,) * 3
    interpolation = RESAMPLE[int(given.get("resample", 2))]
    return ImagePreprocessing(
        (side, side, int(config.get("num_channels", 3))), mean, std, interpolation, fraction, mode
    )


def timm_of_model(network: Staged) -> str:
    """The architecture of timm's that `network`, of a family of which timm has the names, is there.

    Raises:
      InputError: for an EfficientNet that pads as one of timm's and normalises as another.
    """
    name, _ = describe(network)
    if isinstance(network, EfficientNet):
        own = {"padding": network.padding, "epsilon": network.epsilon}
        if own not in (PYTORCH, TENSORFLOW):
            raise InputError(
                f"timm has no {name} with {own}; it has one with {PYTORCH} and one with {TENSORFLOW}. Export it as a "
                "program: --format stablehlo, in Python file_format='stablehlo'"
            )
        return f"tf_{name}" if own == TENSORFLOW else name
    if name == "mobilenet_v2":
        return "mobilenetv2_100"
    sizes = {short: long for long, short in SIZES.items()}
    if bit := re.fullmatch(r"bit_r(\d+)x(\d)", name):
        return f"resnetv2_{bit[1]}x{bit[2]}_bit"
    if vit := re.fullmatch(r"vit_(\w+)_(\d+)", name):
        return f"vit_{sizes[vit[1]]}_patch{vit[2]}_224"
    if deit := re.fullmatch(r"deit_(\w+)_(\d+)_distilled", name):
        return f"deit_{sizes[deit[1]]}_distilled_patch{deit[2]}_224"
    return name


def to_timm(network: Staged, preprocessing: Preprocessing, class_names: tuple[str, ...]) -> str:
    """The ``config.json`` with which timm makes the `network` from a folder (``local-dir:``) or the hub."""
    architecture, outputs = timm_of_model(network), network.num_outputs
    if isinstance(preprocessing, TablePreprocessing):  # of images that are floats, which nothing resizes
        preprocessing = ImagePreprocessing(preprocessing.input_shape, preprocessing.mean, preprocessing.std)
    elif not isinstance(preprocessing, ImagePreprocessing):
        raise InputError(f"the network takes {preprocessing.describe()} as they are; timm knows of images alone")
    height, width, channels = preprocessing.input_shape
    mean, std = (preprocessing.mean, preprocessing.std) if preprocessing.fitted else IMAGENET
    config = {
        "architecture": architecture,
        "num_classes": outputs,
        **({"label_names": list(class_names)} if class_names else {}),
        "model_args": {
            "num_classes": outputs,
            "in_chans": channels,
            **({"img_size": [height, width]} if architecture.startswith(("vit_", "deit_")) else {}),
        },
        "pretrained_cfg": {
            "input_size": [channels, height, width],
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_fraction,
            "crop_mode": preprocessing.crop_mode,
            "mean": list(mean),
            "std": list(std),
            "num_classes": outputs,
        },
    }
    return json.dumps(config, indent=1)
