"""A checkpoint for others: its weights under their names, or a program."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.data.preprocessing.tokenizer import TOKENIZER
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.models.bert import Bert
from jaxdl.models.staged import HEAD, Staged
from jaxdl.models.variables import Variables
from jaxdl.weights.adapt import has_adapter, merge_adapter
from jaxdl.weights.bert import named_for, to_config
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.families import keys_of
from jaxdl.weights.files import check_free, written_whole
from jaxdl.weights.hub_config import CONFIG, to_timm
from jaxdl.weights.keys import Keys, to_tensors
from jaxdl.weights.stablehlo import PROGRAM, write_program

FORMATS = ("safetensors", "npz", "stablehlo")


@check_arguments
def export(
    checkpoint: Checkpoint, out: str | Path, *, layout: str | None = None, file_format: str = "safetensors"
) -> Path:
    """Writes a checkpoint for others: a program that runs without jaxdl, or weights for timm, torchvision or the hub.

    Args:
      checkpoint: for weights, of a family with published ones, into which an adapter is merged; for a program, a
        trained one.
      out: a folder that does not exist yet or is empty. With weights it gets ``model.safetensors`` (or ``model.npz``)
        and, where the names are timm's, the ``config.json`` with which ``timm.create_model("local-dir:FOLDER")`` makes
        the network; of a BERT those with which transformers and sentence-transformers do. With a program it gets
        ``model.stablehlo`` and ``model.json``, see `weights.stablehlo`: JAX runs it on a CPU, GPU or TPU for any number
        of examples as stored, and gives what `predict` gives.
      layout: of weights, whose names: see `Keys`; by default those from which the checkpoint, or its parent, came, else
        the first.
      file_format: of weights ``"safetensors"`` or ``"npz"``; ``"stablehlo"`` for a program.

    Returns:
      The file of weights, or of the program.

    Raises:
      InputError: if the family has no key table, the checkpoint cannot be a program, or the folder cannot be written.
    """
    check_choice("format", file_format, FORMATS)
    if file_format == "stablehlo":
        if layout is not None:
            raise InputError(f"layout is '{layout}', but a program (stablehlo) has no names of weights; leave it out")
        out = check_free(out)
        with written_whole(out) as work:
            write_program(checkpoint, work)
        return out / PROGRAM
    return _export_weights(checkpoint, out, layout, file_format)


def _export_weights(checkpoint: Checkpoint, out: str | Path, layout: str | None, file_format: str) -> Path:
    network = checkpoint.model
    name, _ = describe(network)
    keys = keys_of(name)
    if has_adapter(checkpoint):
        checkpoint = merge_adapter(checkpoint)
    layout = layout or (checkpoint.card.source or {}).get("layout") or next(iter(keys.layouts))
    check_choice(f"layout of '{name}'", layout, keys.layouts)
    _check_layout(network, layout, keys)
    tensors = dict(to_tensors(_as_it_is(checkpoint), keys.layouts[layout](network)))
    if isinstance(network, Bert):
        tensors = named_for(tensors, _asked(checkpoint))
    out = check_free(out)
    with written_whole(out) as work:
        if file_format == "safetensors":
            from safetensors.numpy import save_file

            save_file(tensors, work / "model.safetensors", metadata={"format": "pt"})
        else:
            np.savez(work / "model.npz", **tensors)
        for file, config in _configs(checkpoint, layout).items():
            (work / file).parent.mkdir(exist_ok=True)
            (work / file).write_text(config, encoding="utf-8")
    return out / f"model.{file_format}"


def _as_it_is(checkpoint: Checkpoint) -> Variables:
    """The variables with a head whose outputs need nothing done to them, such as to undo a scaling of the targets."""
    task = checkpoint.card.task
    if task is None or not task.ELSEWHERE:
        return checkpoint.variables
    head = checkpoint.variables["params"][HEAD]
    made = task.head_elsewhere(head["dense"]["kernel"], head["dense"]["bias"], checkpoint.card.target_constants())
    dense = {**head["dense"], **dict(zip(("kernel", "bias"), made, strict=True))}
    params = {**checkpoint.variables["params"], HEAD: {**head, "dense": dense}}
    return {**checkpoint.variables, "params": params}


def _configs(checkpoint: Checkpoint, layout: str) -> dict[str, str]:
    """By file what makes the network of the weights elsewhere, where that is known."""
    network, names = checkpoint.model, checkpoint.card.class_names
    if layout == "timm":
        return {CONFIG: to_timm(network, checkpoint.card.preprocessing, names)}
    if isinstance(network, Bert):
        own, normalise = checkpoint.card.preprocessing, checkpoint.card.normalise
        made = to_config(network, names, normalise, _asked(checkpoint))
        files = {file: json.dumps(held, indent=1) for file, held in made.items()}
        return files | ({TOKENIZER: own.tokenizer} if isinstance(own, TextPreprocessing) else {})
    return {}


def _asked(checkpoint: Checkpoint) -> str:
    """Name of the task; empty for one that is not known."""
    return "" if checkpoint.card.task is None else checkpoint.card.task.name


def _check_layout(network: Staged, layout: str, keys: Keys) -> None:
    """Raises InputError for a network that others would take for another one, by the names of its weights."""

    def differing(known: str) -> dict[str, Any]:
        return {k: v for k, v in keys.arguments.get(known, {}).items() if getattr(network, k) != v}

    if needed := differing(layout):
        fitting = [f"layout='{known}'" for known in keys.layouts if not differing(known)]
        raise InputError(
            f"the network has {', '.join(f'{k}={getattr(network, k)!r}' for k in needed)}, but networks with the names "
            f"of {layout} have {', '.join(f'{k}={v!r}' for k, v in needed.items())}, and its weights would be used "
            f"wrongly. Export it with {' or '.join(fitting)}, or as a program: file_format='stablehlo'"
        )
