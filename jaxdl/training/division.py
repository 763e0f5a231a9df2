"""What of a model lies where: how its parameters are divided over devices, told before anything is trained."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from jaxdl.errors import InputError
from jaxdl.models.attention import Attention
from jaxdl.models.initialise import batch_of
from jaxdl.models.own import own_name
from jaxdl.models.staged import Staged
from jaxdl.models.variables import walk_shapes
from jaxdl.parallel.executor import DATA
from jaxdl.parallel.fsdp import axis_to_divide
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.rules import MODEL, RULES, spec_of

WHOLE = "every device has all of it"


@dataclasses.dataclass(frozen=True)
class Lying:
    """How one array of parameters lies.

    Attributes:
      path: such as ``block1/mlp1/kernel``.
      shape: of the array.
      axis: along which it is divided; None where every device has all of it.
      over: the axis of the mesh over whose devices it is divided; None as above.
      why: it stays whole, in words; empty where it is divided.
      nbytes: on each device.
    """

    path: str
    shape: tuple[int, ...]
    axis: int | None
    over: str | None
    why: str
    nbytes: int


def lying(params: Any, layout: Layout) -> list[Lying]:
    """Every array of `params`, arrays or their shapes, under a layout whose devices need not be here.

    Raises:
      InputError: if a rule divides an axis that the devices do not.
    """
    sizes = layout.sizes()
    found = []
    for path, leaf in walk_shapes(params):
        shape, whole = tuple(leaf.shape), math.prod(leaf.shape) * leaf.dtype.itemsize
        axis, over, why = None, DATA, WHOLE
        if layout.parallel == "fsdp":
            axis, why = axis_to_divide(shape, sizes[DATA])
        elif sizes[MODEL] > 1:
            entries, over = tuple(spec_of(path, shape, RULES, sizes[MODEL])), MODEL
            axis, why = (entries.index(MODEL), "") if MODEL in entries else (None, "no rule names it")
        if axis is None:
            found.append(Lying(path, shape, None, None, why, whole))
        else:
            found.append(Lying(path, shape, axis, over, why, whole // sizes[over]))
    return found


@dataclasses.dataclass(frozen=True)
class Alike:
    """Arrays that lie alike: divided ones of one shape whose stages or blocks differ, or those whole for one reason.

    Attributes:
      path: with ``*`` in place of numbers, such as ``block*/mlp1/kernel``; of whole ones the first.
      count: how many.
      shape: of each; None of whole ones, which differ.
      nbytes: of all of them on each device.
      axis, over, why: see `Lying`.
    """

    path: str
    count: int
    shape: tuple[int, ...] | None
    nbytes: int
    axis: int | None
    over: str | None
    why: str


def alike(found: Sequence[Lying]) -> list[Alike]:
    """The divided arrays in their order, then the whole ones by reason."""
    together: dict[tuple[Any, ...], list[Lying]] = {}
    for one in found:
        *stages, layer, name = ("", "", *one.path.split("/"))
        path = "/".join([*(re.sub(r"\d+", "*", stage) for stage in stages if stage), layer, name])
        key = (one.why,) if one.axis is None else (one.why, path, one.shape, one.axis, one.over)
        together.setdefault(key, []).append(one)
    rows = []
    for (why, *rest), ones in together.items():
        path, shape, axis, over = rest or (ones[0].path, None, None, None)
        rows.append(Alike(path, len(ones), shape, sum(one.nbytes for one in ones), axis, over, why))
    return sorted(rows, key=lambda row: row.axis is None)


def check_division(model: Staged, variables: Mapping[str, Any], spec: Any, layout: Layout) -> None:
    """Raises InputError, naming the parameter or the heads, where `layout` divides a model that cannot be.

    Args:
      model: with its head.
      variables: of it, or their shapes.
      spec: of an example, see `initialise.batch_of`.
      layout: whose axis ``model`` is looked at.
    """
    size = layout.sizes()[MODEL]
    if size == 1:
        return
    for path, heads in attention_heads(model, variables, spec).items():
        if heads % size:
            raise InputError(
                f"{MODEL}={size} of the mesh cannot divide the {heads} attention heads of '{path}'; choose a divisor "
                f"of {heads}, or leave {MODEL} out"
            )
    if not any(one.axis is not None for one in lying(variables["params"], layout)):
        raise InputError(
            f"{MODEL}={size} of the mesh divides no parameter of {own_name(model)}: the rules (parallel/rules.py) are "
            f"of attention, of the perceptrons beside it, and of an mlp's layers; leave {MODEL} out of the mesh"
        )


def attention_heads(model: Staged, variables: Mapping[str, Any], spec: Any) -> dict[str, int]:
    """The heads of keys and values of every `Attention` that runs, by the path of its parameters."""
    found: dict[str, int] = {}

    def look(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, Attention) and context.method_name == "__call__":
            found["/".join(model.locate(module.path))] = module.key_heads or module.num_heads
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        jax.eval_shape(model.apply, variables, batch_of(spec))
    return found
