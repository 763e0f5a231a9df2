"""What learns: the families and the table of models."""

import dataclasses
from typing import Any

from jaxdl.errors import InputError, check_choice, nearest
from jaxdl.models.cnn import CNN
from jaxdl.models.mlp import MLP
from jaxdl.models.resnet import CifarResNet, ResNet
from jaxdl.models.staged import Staged
from jaxdl.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table of models.

    Attributes:
      family: the class.
      arguments: what the name stands for.
      image_size: side in pixels to which images of varying size are brought when nothing else says.
    """

    family: type[Staged]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    image_size: int = 32


DEEPEST = 1000  # blocks in a row; a damaged card may ask for millions, and tracing them would never end

MODELS: dict[str, Entry] = {
    "mlp": Entry(MLP),
    "cnn": Entry(CNN),
    "vit": Entry(ViT),
    "resnet20_cifar": Entry(CifarResNet, {"depths": (3, 3, 3)}),
    "resnet32_cifar": Entry(CifarResNet, {"depths": (5, 5, 5)}),
    "resnet44_cifar": Entry(CifarResNet, {"depths": (7, 7, 7)}),
    "resnet56_cifar": Entry(CifarResNet, {"depths": (9, 9, 9)}),
    "resnet110_cifar": Entry(CifarResNet, {"depths": (18, 18, 18)}),
    "resnet18": Entry(ResNet, {"depths": (2, 2, 2, 2), "block": "basic"}, 224),
    "resnet34": Entry(ResNet, {"depths": (3, 4, 6, 3), "block": "basic"}, 224),
    "resnet50": Entry(ResNet, {"depths": (3, 4, 6, 3), "block": "bottleneck"}, 224),
    "resnet101": Entry(ResNet, {"depths": (3, 4, 23, 3), "block": "bottleneck"}, 224),
    "resnet152": Entry(ResNet, {"depths": (3, 8, 36, 3), "block": "bottleneck"}, 224),
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
