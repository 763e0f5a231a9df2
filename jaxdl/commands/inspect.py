"""``jaxdl inspect``."""

from typing import Annotated, Any

import tyro
from rich.table import Column, Table

from jaxdl.cli_options import Debug, Devices, DevicesOptions, ModelArguments, option, parse_arguments
from jaxdl.commands.console import console, listed
from jaxdl.errors import InputError, nearest
from jaxdl.models import MODELS, create
from jaxdl.models.adapters import ranks_of
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.memory import in_words
from jaxdl.report.inspect import inspect, inspect_division
from jaxdl.training.division import Lying, alike
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.hub import is_hub
from jaxdl.weights.pretrained import load_pretrained


def inspect_command(
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CKPT|MODEL")],
    *,
    input_shape: Annotated[tuple[int, ...] | None, option("INT ...")] = None,
    num_outputs: int = 10,
    model_arguments: ModelArguments = (),
    devices: DevicesOptions = Devices(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Show the stages of a checkpoint or model: shapes, parameters, FLOPs, bytes.

    Args:
      target: folder of a checkpoint, hf:OWNER/NAME of published weights, or name of a model.
      input_shape: shape of an example, such as 32 32 3, or a number of tokens; a checkpoint knows its own.
      num_outputs: number of classes, for a model.
      model_arguments: arguments of a model, such as depth=6.
      devices: also show how parameters are divided over them; they need not be here.
      debug: show the traceback of an error.
    """
    spec: Any = input_shape
    layout = devices.layout
    if is_hub(target) or place_of(target).exists():
        network: Any = load_pretrained(target)
    elif target in MODELS:
        network = create(target, num_outputs, **parse_arguments(model_arguments))
        spec = MODELS[target].example(input_shape)
    else:
        raise InputError(
            f"'{target}' is neither the folder of a checkpoint nor a model; the models are: {', '.join(MODELS)}."
            + nearest(target, MODELS)
        )
    rows = inspect(network, spec)
    division = inspect_division(network, layout, spec) if devices != Devices() else None
    if isinstance(network, Checkpoint):
        _print_card(network)
    else:
        console.print(f"{target} for {_in_words(spec)} and {num_outputs} classes")
    table = Table("stage", "output", *(_right(c) for c in ("parameters", "statistics", "FLOPs", "bytes")))
    for row in rows:
        shapes = ", ".join("×".join(map(str, shape)) for shape in row.output)
        table.add_row(row.name, shapes, *_counts(row.parameters, row.statistics, row.flops, row.bytes))
    totals = [sum(getattr(r, f) for r in rows) for f in ("parameters", "statistics", "flops", "bytes")]
    table.add_section()
    table.add_row("all", "", *_counts(*totals))
    console.print(table)
    if division is not None:
        _print_division(division, layout)


def _print_division(found: list[Lying], layout: Layout) -> None:
    """What is divided, on which axis, and what stays whole and why."""
    said = " × ".join(f"{axis} {size}" for axis, size in layout.sizes().items() if size > 1) or "one device"
    table = Table(Column("parameters", overflow="fold"), _right("arrays"), "shape", "lie", _right("bytes per device"))
    for one in alike(found):
        how = f"whole: {one.why}" if one.axis is None else f"divided along axis {one.axis} over {one.over}"
        path = f"{one.path} and others" if one.shape is None and one.count > 1 else one.path
        table.add_row(path, str(one.count), "×".join(map(str, one.shape or ())), how, *_counts(one.nbytes))
    table.add_section()
    held = sum(one.nbytes for one in found)
    table.add_row("all", str(len(found)), "", "", *_counts(held))
    console.print(f"\nOver {said}:", highlight=False)
    console.print(table)
    console.print(
        f"Training with AdamW holds about four times this on each device ({in_words(4 * held)}: parameters, gradients, "
        "two moments), and activations.",
        soft_wrap=True,
        highlight=False,
    )


def _in_words(spec: Any) -> str:
    return f"inputs of shape {tuple(spec)}" if isinstance(spec, tuple) else f"{spec['tokens'].shape[0]} tokens"


def _right(title: str) -> Any:
    return Column(title, justify="right")


def _counts(*values: float) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def _print_card(checkpoint: Checkpoint) -> None:
    card = checkpoint.card
    console.print(f"checkpoint {checkpoint.path}", soft_wrap=True)
    asked = "task unknown" if card.task is None else f"task: {card.task.describe()}"
    console.print(f"{asked}; input {card.preprocessing.describe()}", soft_wrap=True)
    if ranks := ranks_of(checkpoint.variables["params"]):
        said = ", ".join(f"{name} ({rank})" for name, rank in sorted(ranks.items()))
        console.print(f"low-rank adapter (rank) on {len(ranks)} layers: {said}", soft_wrap=True)
    held = {name: (card.plan or {}).get(name) for name in ("freeze_through", "train", "adapter")}
    if any(held.values()):
        said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in held.items() if value)
        console.print(f"trained with: {said}; the head whole", soft_wrap=True)
    if card.columns:
        console.print(f"columns: {listed(card.columns)}", soft_wrap=True)
    if card.target:
        console.print(f"target: {listed(card.target)}", soft_wrap=True)
    for what, value in (("trained on", card.data), ("parent", card.parent), ("converted from", card.source)):
        if value:
            console.print(f"{what}: {value}", soft_wrap=True)
