"""A checkpoint as a program in StableHLO, which JAX runs without jaxdl, and a file that says how to feed it."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax import export

from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.models.variables import walk_shapes
from jaxdl.parallel.memory import bytes_of
from jaxdl.weights.checkpoint import Checkpoint, environment
from jaxdl.weights.files import first_line

FORMAT = 1
PROGRAM, ABOUT = "model.stablehlo", "model.json"
PLATFORMS = ("cpu", "cuda", "tpu")
LARGEST = 2_000_000_000  # bytes of weights: what JAX can write has less than 2 GiB (2,147,483,648), all included
CALL = f"jax.export.deserialize(bytearray(open('{PROGRAM}', 'rb').read())).call(x)"


def write_program(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes `PROGRAM` and `ABOUT` into a folder. Raises InputError as `to_program`."""
    program = to_program(checkpoint)
    (folder / PROGRAM).write_bytes(program.serialize())
    (folder / ABOUT).write_text(json.dumps(about(checkpoint, program), indent=1), encoding="utf-8")


def to_program(checkpoint: Checkpoint, platforms: Sequence[str] = PLATFORMS) -> export.Exported:
    """What `predict` computes of examples as stored, for any number of them: normalised, weights and all.

    Args:
      checkpoint: a trained network.
      platforms: that the program is lowered for; it takes on each what is written for it.

    Raises:
      InputError: if the network was never trained, is too large, or cannot be traced without the number of examples.
    """
    card, task = checkpoint.card, checkpoint.task
    card.check_trained(advice="the program applies them: train it, or export its weights as safetensors")
    size = bytes_of(checkpoint.variables)
    if size > LARGEST:
        raise InputError(
            f"the weights take {size / 1e9:.2f} GB; a program holds them, and may hold {LARGEST / 1e9:.2g} GB. Export "
            "them as safetensors, or take a smaller model"
        )
    predict = partial(checkpoint.prediction(), checkpoint.variables)
    (batch,) = export.symbolic_shape("batch")
    stored = card.preprocessing.stored_spec()
    x = jax.tree.map(lambda one: jax.ShapeDtypeStruct((batch, *one.shape), one.dtype), stored)
    try:
        return export.export(jax.jit(predict), platforms=platforms)(x)
    except InputError:
        raise
    except Exception as error:  # a user's own network or task may do anything with the number of examples
        raise InputError(
            f"{type(checkpoint.model).__name__} with {task.name} cannot be exported for any number of examples: "
            f"{first_line(error).rstrip('.')}. In its code the size of the batch must stay open: no if, range or int() "
            "of it"
        ) from error


def about(checkpoint: Checkpoint, program: export.Exported) -> dict[str, Any]:
    """All that it takes to feed the program and to read what it gives, as values for JSON."""
    card, model, task = checkpoint.card, checkpoint.model, checkpoint.task
    (x,), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    try:
        name, arguments = describe(model)
    except InputError:  # a class with the name of another model
        name, arguments = type(model).__name__, None
    return {
        "format": FORMAT,
        "program": {
            "file": PROGRAM,
            "platforms": program.platforms,
            "calling_convention_version": program.calling_convention_version,
            "needs": "the Python packages jax and flatbuffers",
            "call": CALL,
        },
        "input": _arrays(x),
        **card.preprocessing.instructions(),
        "preprocessing": card.preprocessing.plain(),
        "columns": card.columns,
        "output": _arrays(jax.tree.unflatten(program.out_tree, program.out_avals)),
        "output_means": task.PREDICTS,
        "task": task.plain(),
        "targets": card.targets,
        "model": {"name": name, "arguments": arguments, "num_outputs": model.num_outputs},
        "environment": environment(),
    }


def _arrays(tree: Any) -> list[dict[str, Any]]:
    """Place in the dict (keys divided by ``/``, empty for a single array), shape and type of each array."""
    return [
        {"place": place, "shape": [n if isinstance(n, int) else str(n) for n in leaf.shape], "dtype": str(leaf.dtype)}
        for place, leaf in walk_shapes(tree)
    ]
