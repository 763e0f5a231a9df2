"""``jaxdl convert``."""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxdl.cli_options import Debug, Flag, ModelArguments, NewCheckpoint, option, parse_arguments
from jaxdl.commands.console import console, errors
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.errors import InputError
from jaxdl.weights.checkpoint import Checkpoint, save
from jaxdl.weights.convert import Converted, convert
from jaxdl.weights.files import check_free
from jaxdl.weights.hub_config import CONFIG


@dataclasses.dataclass(frozen=True)
class Published:
    """How images were prepared for the network where it was trained; by default as published.

    Attributes:
      image_size: side in pixels of the images.
      crop_fraction: share of the shorter side that the centre crop keeps.
      crop_mode: crop the centre of an image, or squash it to a square first.
      interpolation: how images are resized.
      mean: of each channel, in units where white is 1.
      std: of each channel, in units where white is 1.
    """

    image_size: Annotated[int | None, option("INT")] = None
    crop_fraction: Annotated[float | None, option("FLOAT")] = None
    crop_mode: Annotated[str | None, option("{center,squash}")] = None
    interpolation: Annotated[str | None, option("{bilinear,bicubic}")] = None
    mean: Annotated[tuple[float, ...] | None, option("FLOAT ...")] = None
    std: Annotated[tuple[float, ...] | None, option("FLOAT ...")] = None


@dataclasses.dataclass(frozen=True)
class Taken:
    """What is taken of the file.

    Attributes:
      layout: whose names the tensors have, such as torchvision, timm, huggingface; by default whose fit best.
      weights: which weights of a training's checkpoint: averaged over steps (ema, the default if there are some) or of
        the last step (model).
      without_head: leave the head out, as of a backbone; training makes a new one.
    """

    layout: Annotated[str | None, option("LAYOUT")] = None
    weights: Annotated[str | None, option("ema|model")] = None
    without_head: Flag = False


@dataclasses.dataclass(frozen=True)
class Channels:
    """For images whose channels are not the network's.

    Attributes:
      channels: number of channels of your images, if they have not the network's.
      channel_mode: how the first kernel takes other channels: sum it up for grey images, or repeat it for bands.
      channel_order: bgr for weights trained on images with blue first.
    """

    channels: Annotated[int | None, option("INT")] = None
    channel_mode: Literal["sum", "repeat"] = "sum"
    channel_order: Literal["rgb", "bgr"] = "rgb"


def convert_command(
    *,
    source: Annotated[str, tyro.conf.arg(name="from", metavar="SOURCE")],
    out: NewCheckpoint,
    model: Annotated[str | None, option("NAME")] = None,
    class_names: Annotated[Path | None, option("FILE")] = None,
    taken: tyro.conf.OmitArgPrefixes[Taken] = Taken(),
    published: tyro.conf.OmitArgPrefixes[Published] = Published(),
    channels: tyro.conf.OmitArgPrefixes[Channels] = Channels(),
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Make a checkpoint of published weights, with their preprocessing and classes.

    Args:
      source: file (.safetensors .npz .pth .pt .th .bin .ckpt), folder as Hugging Face has it, or hf:OWNER/NAME.
      out: folder for the new checkpoint; it must not exist yet, or be empty.
      model: name of the model (see jaxdl models); needed where neither a config.json nor the file's name gives it.
      class_names: text file of the classes' names, a line each; by default as published.
      taken: what is taken of the file.
      published: how images are prepared for the network; by default as published.
      channels: for images whose channels are not the network's.
      model_arguments: arguments of the model, where they differ from what the name stands for.
      debug: show the traceback of an error.
    """
    check_free(out, bucket=True)
    converted = convert(
        source,
        model,
        arguments=parse_arguments(model_arguments),
        names=None if class_names is None else _lines(class_names),
        preprocessing={name: value for name, value in vars(published).items() if value is not None},
        **vars(taken),
        **vars(channels),
    )
    save(converted.checkpoint, out)
    _tell(converted, out)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"the classes' names cannot be read from '{path}' ({error}); expected a text file") from error
    return tuple(line.strip() for line in lines if line.strip())


def _tell(converted: Converted, out: Path) -> None:
    checkpoint = converted.checkpoint
    source: Any = checkpoint.card.source
    by_reason = defaultdict(list)
    for tensor, reason in converted.dropped.items():
        by_reason[reason].append(tensor)
    for note in converted.notes:
        errors.print(note, soft_wrap=True, highlight=False, markup=False)
    for reason, tensors in by_reason.items():
        some = f"1 tensor ({tensors[0]})" if len(tensors) == 1 else f"{len(tensors)} tensors ({tensors[0]}, …)"
        errors.print(f"left out {some}: {reason}", soft_wrap=True, highlight=False, markup=False)
    if source["preprocessing"] not in (None, source["published"], CONFIG):
        errors.print(
            f"the preprocessing of {source['file']} is not known; that of {source['preprocessing']} is used",
            soft_wrap=True,
            highlight=False,
        )
    own = checkpoint.card.preprocessing
    prepared = own.describe()
    if isinstance(own, ImagePreprocessing):
        prepared = f"{'×'.join(map(str, own.input_shape))}, {own.interpolation}, crop {own.crop_fraction:.3g}"
    for line in (
        f"{converted.name} from {source['file']} ({converted.layout}'s names, sha256 {source['sha256'][:12]}…), "
        f"licence {source['licence'] or 'unknown'}",
        f"input {prepared}; " + _outputs_said(checkpoint),
    ):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"checkpoint in {out}", soft_wrap=True)


def _outputs_said(checkpoint: Checkpoint) -> str:
    card = checkpoint.card
    if card.source["without_head"]:
        return "no head: training makes one"
    return f"{checkpoint.model.num_outputs} outputs, classes unknown" if card.task is None else card.task.describe()
