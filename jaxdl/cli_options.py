"""The options of the commands: what tyro is told about them, and what it does not know how to read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from jaxdl.errors import InputError
from jaxdl.training.plan import ClassWeights, Plan
from jaxdl.validation.splitters import Splitting


def option(metavar: str | None = None) -> Any:
    """An option that may be left out; its help says what that means, so that no default is shown."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


LEFT_OUT = {
    "freeze_through": option("STAGE"),
    "clip_norm": option("FLOAT"),
    "stage_lr": option(),
    "augment": option("NAME ..."),
    "class_weights": option(),
    "unfreeze_every": option("EPOCHS"),
    "early_stopping": option("EPOCHS"),
}
SPLITTING_LEFT_OUT = {
    "repeats": option("INT"),
    "gap": option("INT"),
    "horizon": option("FLOAT"),
    "embargo": option("FLOAT"),
    "test_groups": option("INT"),
    "test_fraction": option("FLOAT"),
}


def _options(name: str, kind: type, left_out: Mapping[str, Any]) -> type:
    """The fields of a dataclass as options, without its checks: those speak when it is made, in their own words."""
    fields = [
        (
            f.name,
            Annotated[f.type, left_out[f.name]] if f.name in left_out else f.type,
            dataclasses.field(default=f.default, default_factory=f.default_factory),
        )
        for f in dataclasses.fields(kind)
    ]
    made = dataclasses.make_dataclass(name, fields, frozen=True)
    made.__doc__ = kind.__doc__
    return made


Training = _options("Training", Plan, LEFT_OUT)
Dividing = _options("Dividing", Splitting, SPLITTING_LEFT_OUT)


ModelName = Annotated[str, tyro.conf.arg(metavar="NAME")]
Spec = Annotated[str, tyro.conf.arg(metavar="SPEC")]
NewCheckpoint = Annotated[Path, tyro.conf.arg(metavar="CKPT")]
InitOption = Annotated[Path | None, option("CKPT")]
ModelOption = Annotated[str | None, option("NAME")]
SizeOption = Annotated[int | None, option("INT")]
TaskOption = Annotated[Literal["auto", "classification", "regression"], option()]
AllowOption = Annotated[tuple[str, ...], option("LEAK ...")]
ModelArguments = Annotated[tuple[str, ...], option("NAME=VALUE ...")]
Debug = Annotated[tyro.conf.FlagCreatePairsOff[bool], option()]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is trained, and on what.

    Attributes:
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      init: checkpoint to start from, or hf:OWNER/NAME of published weights.
      model: name of a model to train from scratch, instead of --init.
      model_arguments: arguments of --model, such as activation=tanh features=[16,32].
      image_size: side in pixels that images are brought to; by default the checkpoint's, or the images' own.
      task: whether the target column of a .csv names classes or is a number to predict; auto looks at it.
    """

    data: Spec
    init: InitOption = None
    model: ModelOption = None
    model_arguments: ModelArguments = ()
    image_size: SizeOption = None
    task: TaskOption = "auto"


@dataclasses.dataclass(frozen=True)
class Running:
    """How a run is carried out; none of it changes the numbers.

    Attributes:
      restart: begin anew; what is in --out is first moved aside.
      save_every: seconds between saves of the state, from which the same command goes on after an interruption.
      stream: read the examples anew in each epoch instead of keeping them in memory; auto does if they do not fit.
      workers: processes that decode what is streamed; 0 for none.
      skip_broken: go on without the image files that cannot be read, and list them in the result.
      tensorboard: write TensorBoard's event files below --out, too.
      wandb: project of Weights & Biases to log to, too.
    """

    restart: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False
    save_every: float = 60.0
    stream: Literal["auto", "always", "never"] = "auto"
    workers: int = 2
    skip_broken: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False
    tensorboard: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False
    wandb: Annotated[str | None, option("PROJECT")] = None


RunningOptions = tyro.conf.OmitArgPrefixes[Running]
DividingOptions = tyro.conf.OmitArgPrefixes[Dividing]
TrainingOptions = tyro.conf.OmitArgPrefixes[Training]
SubjectOptions = tyro.conf.OmitArgPrefixes[Subject]


registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _choice(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Choices are listed in the help but checked by the package, whose message names the nearest."""
    if get_origin(info.type) is not Literal:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(get_args(info.type)) + "}",
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


@registry.primitive_rule
def _factors(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """``head=10 stage3=1`` to a dict."""
    if info.type != Mapping[str, float]:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="STAGE=FACTOR ...",
        instance_from_str=_parse_factors,
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda value: [f"{stage}={factor}" for stage, factor in value.items()],
    )


@registry.primitive_rule
def _class_weights(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """``balanced``, or ``rare=5 common=1`` to a dict."""
    if info.type != ClassWeights:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="balanced|CLASS=FACTOR ...",
        instance_from_str=lambda given: given[0] if len(given) == 1 and "=" not in given[0] else _parse_factors(given),
        is_instance=lambda value: value is None or isinstance(value, str | Mapping),
        str_from_instance=lambda value: [str(value)],
    )


def _parse_factors(given: Sequence[str]) -> dict[str, float]:
    factors = {}
    for item in given:
        stage, _, factor = item.rpartition("=")
        if stage in factors:
            raise InputError(f"'{stage}' has two factors; expected one")
        try:
            factors[stage] = float(factor)
        except ValueError:
            raise InputError(f"'{item}' is no NAME=FACTOR; expected for example head=10") from None
    return factors


def parse_arguments(given: Sequence[str]) -> dict[str, Any]:
    """``("activation=tanh", "features=[8,16]")`` to a dict; values are JSON where they can be, else strings.

    Raises:
      InputError: for an item without ``=``.
    """
    arguments = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"'{item}' is no NAME=VALUE; expected for example activation=tanh")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments
