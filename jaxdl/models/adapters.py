"""Low-rank adapters: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv:2106.09685).

A layer y = W x gets two small matrices beside its kernel, and gives W x + B (A x). They are parameters of the layer,
``lora_a`` and ``lora_b``: whatever reads variables, such as a checkpoint, a report or an ensemble, has them,
and a layer without them is as it was. B A is formed only by `merge`: mapped over folds it would be a whole matrix for
each. It is not scaled (the paper's α is the rank), so that a larger rank with zeros is the same adapter.

A layer that sees or gives fewer numbers than the rank takes as many: more would bring nothing.

B starts from zero, so that nothing is changed at first, and A uniformly within ±1/√(inputs), as in peft. Row j of A has
a key of its own: an adapter of rank 2 starts as the first two rows of one of rank 4.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import getitem
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxdl.errors import InputError, nearest
from jaxdl.models.flax_layers import arguments_of, is_own_call
from jaxdl.models.roles import ADAPTERS, is_adapter
from jaxdl.models.variables import Path, nest, partition, walk_shapes

TAKEN = (nn.Dense, nn.DenseGeneral, nn.Conv)  # layers that take an adapter
A, B = ADAPTERS


def add_low_rank(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
    """For `flax.linen.intercept_methods`: adds B (A x) to what a layer with an adapter gives."""
    module = context.module
    y = call(*args, **kwargs)
    if not _is_call(context) or module.is_initializing() or not module.has_variable("params", A):
        return y
    x = arguments_of(context, args, kwargs)["inputs"]
    a, b = module.get_variable("params", A), module.get_variable("params", B)
    # as matrices: else XLA on the CPU turns round all of what the layer gives in the gradient by A or B
    if isinstance(module, nn.Dense):
        x = x.reshape(-1, x.shape[-1])
    down = _down(module, a.shape[-1]).apply({"params": {"kernel": a}}, x)
    up = down.reshape(-1, down.shape[-1]) @ b.reshape(b.shape[0], -1).astype(down.dtype)
    return y + up.reshape(y.shape).astype(y.dtype)


def _is_call(context: nn.module.InterceptorContext) -> bool:
    return is_own_call(context, *TAKEN)


def _down(module: nn.Module, rank: int) -> nn.Module:
    """The layer that A is the kernel of: it sees what `module` sees and gives `rank` numbers."""
    same = {"use_bias": False, "dtype": module.dtype, "param_dtype": module.param_dtype, "precision": module.precision}
    if isinstance(module, nn.Dense):
        return nn.Dense(rank, parent=None, **same)
    if isinstance(module, nn.DenseGeneral):
        return nn.DenseGeneral(rank, axis=module.axis, parent=None, **same)
    names = ("kernel_size", "strides", "padding", "input_dilation", "kernel_dilation", "conv_general_dilated")
    return nn.Conv(rank, **{name: getattr(module, name) for name in names}, parent=None, **same)


class Stacked(nn.Module):
    """Stands for a layer inside `nn.scan` or `nn.vmap` that has a kernel for each step."""


def layers_of(model: nn.Module, variables: Any, x: Any, **options: Any) -> dict[Path, nn.Module]:
    """Every dense and convolution layer that `model` calls on `x`, by the path of its variables; nothing is computed.

    A `Stacked` stands for one whose kernels are stacked.

    Args:
      model: any module whose call takes `x`.
      variables: its variables or their shapes, as `x`.
      x: what it is fed with.
      **options: of its call.
    """
    found: dict[Path, nn.Module] = {}
    locate = getattr(model, "locate", lambda path: path)
    params = flatten_dict(variables.get("params", {}))

    def note(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if _is_call(context) and module.path:
            path = locate(module.path)
            stored, seen = params.get((*path, "kernel")), module.get_variable("params", "kernel")
            stacked = stored is not None and seen is not None and stored.ndim != seen.ndim
            found[path] = Stacked(parent=None) if stacked else module
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(partial(model.apply, **options), variables, x)
    return found


Layers = tuple[tuple[str, int], ...]  # names of layers, such as block1/mlp1, with the number of axes that each gives


def choose_layers(layers: Mapping[Path, nn.Module], stages: Sequence[str], named: Sequence[str]) -> Layers:
    """The layers that get an adapter, in the order of their names.

    Args:
      layers: of the network, see `layers_of`.
      stages: that may be trained, without the head.
      named: stages, or patterns of layers such as ``stage2/*/conv1``; all of `stages` by default.

    Raises:
      InputError: for a name that stands for none of them, or a layer that takes no adapter.
    """
    every = {"/".join(path): module for path, module in layers.items()}
    open_to = {name: module for name, module in every.items() if name.split("/")[0] in stages}
    chosen: dict[str, nn.Module] = {}
    for name in named or stages:
        inside = {k: v for k, v in open_to.items() if _names(name, k)}
        if named and not inside and (frozen := sorted(k for k in every if _names(name, k))):
            raise InputError(
                f"the adapter's '{name}' stands for {', '.join(frozen)}, of a stage that is frozen or the head; leave "
                "it out, or freeze less (with unfreeze_every: train long enough to reach it)"
            )
        if named and not inside:
            raise InputError(
                f"the adapter's '{name}' is no stage or layer that is trained and takes one; these are the stages "
                f"{', '.join(stages) or 'none'}, with the layers {', '.join(sorted(open_to)) or 'none'}."
                f"{nearest(name, [*stages, *open_to])}"
            )
        chosen |= inside
    if not chosen:
        raise InputError("no layer takes the adapter: all stages but the head are frozen, or have no such layer")
    for name, module in chosen.items():
        if said := _why_not(module):
            rest = _others(open_to)
            raise InputError(
                f"the layer {name} {said}; leave it out by naming the others, such as adapter "
                f"'lora:4:{','.join(rest[:3]) or 'stage'}'"
            )
    return tuple((name, len(np.atleast_1d(module.features))) for name, module in sorted(chosen.items()))


def patterns_that_fit(layers: Mapping[Path, nn.Module], head: str) -> list[str]:
    """Patterns of all layers outside the stage `head` that take an adapter; none where every layer does.

    Raises:
      InputError: if no layer takes one.
    """
    body = {"/".join(path): module for path, module in layers.items() if path[0] != head}
    if body and not any(map(_why_not, body.values())):
        return []
    if not (fitting := _others(body)):
        raise InputError("no layer of its body takes a low-rank addition")
    return fitting


def _names(pattern: str, layer: str) -> bool:
    """Whether a stage or pattern stands for a layer."""
    return layer.startswith(pattern + "/") or fnmatch.fnmatchcase(layer, pattern)


def _why_not(module: nn.Module) -> str:
    """Why a layer takes no adapter, in words; empty if it does."""
    if isinstance(module, Stacked):
        return "is inside an nn.scan or nn.vmap that stacks its kernels, which a low-rank adapter would not be"
    if getattr(module, "feature_group_count", 1) != 1 or getattr(module, "batch_dims", ()):
        return "is a grouped convolution, which a low-rank adapter would make a full one"
    return "masks its kernel, which a low-rank adapter would undo" if getattr(module, "mask", None) is not None else ""


def _others(layers: Mapping[str, nn.Module]) -> list[str]:
    """Patterns of layers that take an adapter: the last part of their names, wherever it stands."""
    not_taken = {name for name, module in layers.items() if _why_not(module)}
    fine = {f"*/{name.rsplit('/', 1)[-1]}" for name in layers.keys() - not_taken}
    return sorted(p for p in fine if not any(fnmatch.fnmatchcase(name, p) for name in not_taken))


def fresh(params: Any, layers: Layers, rank: int, key: jax.Array, used: Any = None) -> Any:
    """Adapters to begin with, as nested dicts of `params`: A at random, B zero.

    Args:
      params: (shapes of) the network's parameters.
      layers: see `choose_layers`.
      rank: of each.
      key: to draw A from.
      used: a number of the program, up to `rank`, from which on the rows of A are zero (and stay so); by default all
        are used.
    """
    made = {}
    for place, (name, axes) in enumerate(layers):
        kernel = kernel_of(params, name)
        inputs, outputs = kernel.shape[:-axes], kernel.shape[-axes:]
        limit, own = 1 / math.sqrt(math.prod(inputs)), rank_of(kernel, axes, rank)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, place)))(jnp.arange(own))
        draw = partial(jax.random.uniform, shape=inputs, minval=-limit, maxval=limit)
        a = jax.vmap(draw, out_axes=-1)(keys)
        if used is not None:
            a = jnp.where(jnp.arange(own) < used, a, 0)
        made[f"{name}/{A}"] = a.astype(kernel.dtype)
        made[f"{name}/{B}"] = jnp.zeros((own, *outputs), kernel.dtype)
    return nest(made)


def merge(params: Any) -> Any:
    """(Shapes of) parameters without adapters: their products are added to the kernels, as numpy's arrays."""
    adapters, plain = partition(params, is_adapter)

    def add(node: Any, extra: Any) -> Any:
        if A in extra and isinstance(node["kernel"], jax.ShapeDtypeStruct):
            return node
        if A in extra:
            product = np.tensordot(np.asarray(extra[A], np.float64), np.asarray(extra[B], np.float64), 1)
            kernel = np.asarray(node["kernel"])
            return {**node, "kernel": (kernel.astype(np.float64) + product).astype(kernel.dtype)}
        return {**node, **{name: add(node[name], part) for name, part in extra.items()}}

    return add(plain, adapters)


def kernel_of(params: Any, name: str) -> Any:
    """The kernel of a layer."""
    return reduce(getitem, (*name.split("/"), "kernel"), params)


def rank_of(kernel: Any, axes: int, rank: int) -> int:
    """The rank of a layer's adapter: at most what its `kernel`, which gives so many `axes`, sees or gives."""
    return min(rank, math.prod(kernel.shape[:-axes]), math.prod(kernel.shape[-axes:]))


def ranks_of(params: Any) -> dict[str, int]:
    """By layer the rank of the adapter that it has among (shapes of) parameters."""
    return {name.removesuffix(f"/{A}"): leaf.shape[-1] for name, leaf in walk_shapes(params) if name.endswith(f"/{A}")}


def check_mergeable(params: Any, layers: Mapping[Path, nn.Module]) -> None:
    """Raises InputError for an adapter on a layer that uses its kernel in another way than by multiplying with it."""
    for name in sorted(ranks_of(params)):
        kind = type(layers[tuple(name.split("/"))])
        if kind not in TAKEN:
            raise InputError(
                f"the adapter of the layer {name} cannot be merged: a {kind.__name__} changes its kernel before it "
                "uses it. Keep the adapter apart, which gives the same predictions, and train on with the same one"
            )


def _fit(lora_a: Path, lora_b: Path, kernel: Path) -> bool:
    """Whether these shapes are those of an adapter and its kernel."""
    return len(lora_a) > 1 < len(lora_b) and lora_a[:-1] + lora_b[1:] == kernel and lora_a[-1] == lora_b[0]


def check_adapters(params: Any) -> list[str]:
    """What is wrong with the adapters among (shapes of) parameters, in words: one without its other half or its kernel.

    An adapter needs no announcement: it fits the kernel that it stands beside, or is named here. (All may have the
    networks of an ensemble as first axis.)
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in walk_shapes(params)}
    wrong = []
    for layer in sorted({name.rpartition("/")[0] for name in shapes if name.rpartition("/")[2] in ADAPTERS}):
        parts = {part: shapes[f"{layer}/{part}"] for part in (A, B, "kernel") if f"{layer}/{part}" in shapes}
        if len(parts) < 3 or not (_fit(**parts) or _fit(**{part: shape[1:] for part, shape in parts.items()})):
            wrong.append(f"params/{layer}: the adapter's parts do not fit together: {parts}")
    return wrong
