"""``jaxdl models``."""

from typing import Annotated

import tyro
from rich.table import Table

from jaxdl.cli_options import Debug, option
from jaxdl.commands.console import console, print_wide
from jaxdl.errors import check_choice
from jaxdl.models import MODELS, MODES
from jaxdl.weights.published import Published, published


def models_command(
    name: Annotated[str | None, tyro.conf.Positional, option("NAME")] = None,
    *,
    debug: Debug = False,
) -> None:
    """List the models: parameters, input size, published weights, accuracy.

    Args:
      name: of one model, to see all its known weights.
      debug: show the traceback of an error.
    """
    if name is not None:
        check_choice("model", name, MODELS)
        _one(name)
        return
    table = Table("model", "parameters", "input", "published weights", "licence", "top-1", box=None, pad_edge=False)
    for each, entry in MODELS.items():
        rows = published(each)
        first = rows[0] if rows else None
        table.add_row(
            each,
            "" if entry.own else _millions(entry.parameters),
            entry.input,
            "" if first is None else _short(first),
            "" if first is None else first.licence,
            "" if first is None else _accuracy(first),
        )
    print_wide(table)
    console.print(
        "jaxdl models NAME lists all known weights of a model. top-1: published accuracy in % on ImageNet-1k (CIFAR-10 "
        f"for …_cifar), at the input size unless said. Tested for every model: {', '.join(MODES)}.",
        highlight=False,
    )


def _one(name: str) -> None:
    entry = MODELS[name]
    console.print(
        f"{name}: {entry.family.__name__}, {entry.parameters:,} parameters, input {entry.input}; tested: "
        + ", ".join(MODES),
        highlight=False,
    )
    stages = entry.family(num_outputs=1, **entry.arguments).stage_names
    console.print(f"stages: {', '.join(stages)}", highlight=False)
    rows = published(name)
    if not rows:
        console.print("no published weights are known", highlight=False)
        return
    titles = ("source", "licence") if entry.length else ("source", "licence", "input", "crop", "resized by", "top-1")
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        own = row.preprocessing
        prepared = (
            (f"{own.input_shape[0]}²", f"{own.crop_fraction:.3g}", own.interpolation, _accuracy(row)) if own else ()
        )
        table.add_row(row.source, row.licence, *prepared)
    print_wide(table)
    console.print(
        "hf: sources are fetched by jaxdl convert --from and by --init; fetch an https: file yourself, then convert it",
        highlight=False,
    )


def _short(row: Published) -> str:
    return row.source if row.source.startswith("hf:") else row.file


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e7 else f"{count / 1e6:.1f} M"


def _accuracy(row: Published) -> str:
    if row.top1 is None:
        return ""
    at = "" if row.top1_side == row.preprocessing.input_shape[0] else f" at {row.top1_side}²"
    return f"{row.top1:.1f}{at}"
