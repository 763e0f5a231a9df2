"""How much memory a training will take, told before it starts."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing, nbytes
from jaxdl.errors import InputError
from jaxdl.models.initialise import batch_of, variable_shapes
from jaxdl.models.staged import Staged
from jaxdl.parallel.devices import device_memory
from jaxdl.parallel.executor import DATA, FOLD
from jaxdl.parallel.memory import bytes_of, free_memory, in_words
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan

# A step holds about so many times what the convolutions and matrix products of the trained stages give: their outputs
# for the backward pass, what lies between them, and gradients. XLA's own figures for the models here are 2.96 to 3.13.
PER_PRODUCT = 3.0
PRODUCTS = ("conv_general_dilated", "dot_general")
PER_PARAMETER = 4  # the parameter, its gradient, and two moments of AdamW
SMALLEST = 32  # pixels on a side that are advised
SURE = 1.2  # by how much the estimate has to be above what is free before a training is refused


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes that a training takes, about.

    Attributes:
      activations: of a step, of all its examples that are computed at once.
      rows: how many these are.
      parameters: with gradients and the optimizer's state.
      examples: kept in memory.
    """

    activations: int
    rows: int
    parameters: int
    examples: int

    @property
    def total(self) -> int:
        return self.activations + self.parameters + self.examples


def product_bytes(model: Staged, spec: Any, start: str | None = None, *, remat: bool = False) -> int:
    """Bytes that the convolutions and matrix products of the stages from `start` give for one example of `spec`.

    With `remat` of the largest stage alone, and a third of what flows into each: nothing else is kept.
    """
    shapes, x = variable_shapes(model, spec), batch_of(spec)
    if start is not None and start != model.stage_names[0]:
        x = jax.eval_shape(lambda v, x: model.apply(v, x, stop=start), shapes, x)
    pieces = model.pieces(start) if remat else (((start,), None),)
    largest, flowing = 0, 0
    for (first, *_), stop in pieces:
        run = partial(model.apply, start=first, stop=stop)
        program = jax.make_jaxpr(run)(shapes, x)
        largest, flowing = max(largest, _made(program.jaxpr)), flowing + bytes_of(x)
        x = jax.eval_shape(run, shapes, x)
    return largest + (int(flowing / PER_PRODUCT) if remat else 0)


def _made(program: Any) -> int:
    """Bytes that the products of a program (a jaxpr) give; those of a loop's body of all turns, which are all kept."""
    total = 0
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            total += bytes_of([one.aval for one in equation.outvars])
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += turns * sum(_made(inner) for inner in jaxprs_in_params(equation.params))
    return total


def footprint(
    model: Staged,
    preprocessing: Preprocessing,
    plan: Plan,
    *,
    trained: Any,
    start: str | None = None,
    examples: int,
    kept: int = 0,
    execution: Execution = Execution(),  # noqa: B008
) -> Footprint:
    """What a training takes, of the memory of each device.

    Args:
      model: with its head.
      preprocessing: of the examples.
      plan: how it is trained.
      trained: the variables that are trained, or their shapes.
      start: the first stage of which anything is trained; those before take little.
      examples: that are trained on: a batch holds no more.
      kept: examples that are kept in memory.
      execution: on which devices, and whether activations are computed again.
    """
    layout = execution.layout
    parts = layout.sizes()
    # of trainings side by side each device has whole batches, but where a mesh says otherwise
    whole = layout.mesh is None and (layout.parallel == "folds" or execution.fold_strategy in ("vmap", "shard"))
    # devices that do not tell their memory share the host's
    devices = 1 if whole or device_memory() is None else parts[DATA]
    rows = math.ceil(min(plan.batch_size, examples) / plan.accumulate / devices)
    remat = execution.remat and jax.default_backend() != "cpu"  # whose compiler may undo it
    activations = int(PER_PRODUCT * rows * product_bytes(model, preprocessing.spec(), start, remat=remat))
    parameters = PER_PARAMETER * bytes_of(trained) // (devices if layout.parallel == "fsdp" else 1)
    held = kept * nbytes(preprocessing) // (1 if layout.parallel == "pmap" or parts[FOLD] > 1 else devices)
    return Footprint(activations, rows, parameters, held)


def may_be_large(preprocessing: Preprocessing, plan: Plan) -> bool:
    """Whether the footprint is worth the second that it takes: a step takes 100 to 500 times what its examples do."""
    free, each = _free(), bytes_of(preprocessing.spec())
    return free is not None and 1000 * each * plan.batch_size / plan.accumulate > free


def _free() -> int | None:
    held = device_memory()
    return free_memory() if held is None else held


def check_footprint(model: Staged, preprocessing: Preprocessing, plan: Plan, **sizes: Any) -> None:
    """Raises InputError, with options that help, where a training would take far more memory than is free.

    Args:
      model: with its head.
      preprocessing: of the examples.
      plan: how it is trained.
      **sizes: see `footprint`.
    """
    found, free = footprint(model, preprocessing, plan, **sizes), _free()
    if free is None or found.total <= SURE * free:
        return
    advice = []
    if isinstance(preprocessing, ImagePreprocessing) and (
        side := _fitting_side(model, preprocessing, plan, sizes, free)
    ):
        advice.append(f"smaller images (--image-size {side}, from Python Execution(image_size={side}))")
    rows = int((free - found.parameters - found.examples) / found.activations * found.rows)  # that fit at once
    if rows > 0 and (parts := math.ceil(found.rows / rows) * plan.accumulate) <= plan.batch_size:
        advice.append(f"batches computed in parts (--accumulate {parts})")
    again = sizes | {"execution": sizes.get("execution", Execution()).replace(remat=True)}
    if footprint(model, preprocessing, plan, **again).total <= SURE * free:
        advice.append("activations computed again in the backward pass (--remat, from Python Execution(remat=True))")
    advice.append("a smaller model, a smaller --batch-size, or fewer trained stages (--freeze-through)")
    raise InputError(
        f"a training step of examples of {preprocessing.describe()} would take about {in_words(found.total)} of memory "
        f"(activations {in_words(found.activations)}, parameters and optimizer {in_words(found.parameters)}, examples "
        f"{in_words(found.examples)}), but {in_words(free)} are free. What helps: {'; '.join(advice)}"
    )


def _fitting_side(
    model: Staged, preprocessing: ImagePreprocessing, plan: Plan, sizes: dict[str, Any], free: int
) -> int | None:
    """Half the larger side of the images, a quarter or less: the first at which the training fits in memory."""
    side = max(preprocessing.input_shape[:2]) // 2
    while side >= SMALLEST:
        smaller = preprocessing.resized(side)
        # a head on flattened maps shrinks with them
        changed = sizes | {"trained": variable_shapes(model, smaller.spec())["params"]}
        if footprint(model, smaller, plan, **changed).total <= free:
            return side
        side //= 2
    return None
