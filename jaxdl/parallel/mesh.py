"""One step over several devices by jit and a mesh, and one fold per device by shard_map.

A step is ``fn(state, batch, shared)``. Every array of `batch` has the examples as its last axis, so that single
batches ``[examples]``, whole epochs ``[steps, examples]`` and folds of them ``[folds, examples]`` divide alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.parallel.compiler import compiler_options

DATA = "data"  # the axis over which the examples of a batch are divided
FOLD = "fold"  # the axis over which folds are laid


def make_mesh(devices: Sequence[Any], axis: str) -> Mesh:
    """A mesh of one axis. (Auto, not jax.make_mesh's Explicit: a vmapped convolution refuses explicit axes.)"""
    return Mesh(np.asarray(devices), (axis,), axis_types=(AxisType.Auto,))


def pad_last(array: Any, multiple: int) -> np.ndarray:
    """Zeros appended to the last axis until `multiple` divides it; in a batch, rows of weight 0."""
    array = np.asarray(array)
    short = -array.shape[-1] % multiple
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, short)])


def replicate(tree: Any, mesh: Mesh) -> Any:
    """A copy of `tree` on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def divide_rows(tree: Any, mesh: Mesh) -> Any:
    """Every array with its first axis divided over the devices, padded with zeros where they do not divide it.

    No device then holds all of the data; a batch's rows are fetched from the devices that have them.
    """

    def divide(array: Any) -> jax.Array:
        short = -array.shape[0] % mesh.size
        if short:
            array = np.pad(np.asarray(array), [(0, short), *[(0, 0)] * (array.ndim - 1)])
        return jax.device_put(array, NamedSharding(mesh, P(DATA)))

    return jax.tree.map(divide, tree)


def divide_batches(fn: Callable, mesh: Mesh, *, donate: bool) -> Callable:
    """`fn` jitted so that each device takes its part of the batch; the compiler adds the reductions.

    Args:
      fn: ``(state, batch, shared) -> outputs``.
      mesh: with the axis `DATA`. The state comes replicated (`replicate`), the shared data divided (`divide_rows`) or
        replicated, the batch from the host.
      donate: whether the state's buffers may be used up.

    Returns:
      A function like `fn`, whose outputs are replicated; per-example outputs include the rows of padding.
    """
    whole = NamedSharding(mesh, P())
    options = compiler_options(mesh.devices.flat[0].platform)
    run = jax.jit(fn, donate_argnums=(0,) if donate else (), out_shardings=whole, compiler_options=options)

    def call(state: Any, batch: Any, shared: Any) -> Any:
        padded = jax.tree.map(lambda a: pad_last(a, mesh.size), batch)
        parts = jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, P(*(None,) * (a.ndim - 1), DATA))), padded)
        return run(state, parts, shared)

    return call


def lay_folds(fn: Callable, mesh: Mesh, *, fold_axis: int, updates_state: bool) -> Callable:
    """`fn` over an axis of folds distributed over the mesh, jitted. Devices do not communicate.

    Args:
      fn: ``(state, batch, shared) -> (state, metrics)`` or ``-> logits``, already mapped over the folds of a device.
      mesh: with the axis `FOLD`, whose size divides the number of folds.
      fold_axis: position of the folds in the batch and in the outputs beside the state, where they come first.
      updates_state: whether `fn` returns a state, and may use up the buffers of the one it is given.
    """
    first, inner = P(FOLD), P(*(None,) * fold_axis, FOLD)
    laid = jax.shard_map(
        fn,
        mesh=mesh,
        in_specs=(first, inner, P()),
        out_specs=(first, inner) if updates_state else inner,
        check_vma=False,
    )
    options = compiler_options(mesh.devices.flat[0].platform)
    return jax.jit(laid, donate_argnums=(0,) if updates_state else (), compiler_options=options)
