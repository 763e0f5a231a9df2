"""``jaxdl export``."""

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdl.cli_options import Debug, option
from jaxdl.commands.console import console
from jaxdl.weights.export import export
from jaxdl.weights.files import check_free
from jaxdl.weights.pretrained import load_pretrained
from jaxdl.weights.stablehlo import ABOUT, PROGRAM


def export_command(
    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")],
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    format: Annotated[str, option("EXT")] = "safetensors",
    layout: Annotated[str | None, option("NAME")] = None,
    debug: Debug = False,
) -> None:
    """Write a checkpoint for timm or torchvision, or to run without jaxdl.

    Args:
      checkpoint: folder of the checkpoint.
      out: folder for what is written; it must not exist yet, or be empty.
      format: safetensors (the default) or npz for weights, stablehlo for a program and how to feed it.
      layout: whose names the weights get, such as torchvision, timm, huggingface; by default those they came with.
      debug: show the traceback of an error.
    """
    check_free(out)
    file = export(load_pretrained(checkpoint), out, layout=layout, file_format=format)
    if file.name != PROGRAM:
        console.print(f"weights in {file}", soft_wrap=True)
        return
    told = json.loads((file.parent / ABOUT).read_text(encoding="utf-8"))
    program = told["program"]
    for line in (
        f"program in {file} ({file.stat().st_size / 1e6:.1f} MB), for {', '.join(program['platforms'])}",
        f"input {_said(told['input'])}, prepared as {file.with_name(ABOUT)} says; normalised inside",
        f"output {_said(told['output'])}: {told['output_means']}",
        f"without jaxdl, with {program['needs']}: {program['call']}",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _said(arrays: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['place']} {one['dtype']}{one['shape']}".strip().replace("'", "") for one in arrays)
