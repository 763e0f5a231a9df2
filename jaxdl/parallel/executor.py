"""Where a pure function runs: one executor owns the mesh, what is divided over it and how, and what is fetched.

The ways, by the sizes of the axes:

- one device: plain `jax.jit`.
- ``data``: jit over the mesh. Batches, and the data that they index, are divided; the compiler adds the reductions.
- ``data`` with `pmap`: the explicit way. Every device has all data and its part of the batch; the step itself reduces
  over the axis `DATA`. Kept for what it teaches; jit over a mesh is JAX's recommendation.
- ``data`` with `fsdp`: as ``data``; parameters and what the optimizer keeps of them are divided too, see `fsdp`.
- ``fold``: `jax.shard_map` over runs side by side. Devices do not communicate.
- ``fold`` and ``data``: the same, and the devices of a run share its batches; the step reduces, as under pmap. (The
  compiler's own way, jit over a vmapped step, would collect arrays of all runs on every device.)
- ``model``, with any of these but pmap and fsdp: parameters divided by `rules`; the compiler adds what that needs.

The devices of ``data``, by jit, may belong to several processes (`hosts`), each of which gives its own rows.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from jaxdl.errors import InputError
from jaxdl.parallel import hosts
from jaxdl.parallel.compiler import compiler_options
from jaxdl.parallel.devices import first_device
from jaxdl.parallel.fsdp import fsdp_spec, gathered, types_at_use
from jaxdl.parallel.program import Program, first_rows, lies_as_it_came, over_runs, pad
from jaxdl.parallel.rules import MODEL, RULES, Rules, check_rules, path_of, spec_of

T = TypeVar("T")
FOLD = "fold"  # the axis along which runs are laid
DATA = "data"  # the axis over which the examples of a batch are divided


@dataclasses.dataclass(frozen=True)
class Executor:
    """Devices and how they are used; two that are equal run the same programs.

    A *state* has the runs as first axis of every array; a *batch* has ``[runs, rows]`` as its last two axes.
    `jax.ShapeDtypeStruct` may take the place of arrays wherever something is placed or lowered, so that the devices
    need not be here (`jax.experimental.topologies`).

    Attributes:
      devices: as many as the product of the three sizes.
      fold: parts that the runs side by side are divided into; their number must be a multiple.
      data: parts that every batch is divided into.
      model: parts that the arrays named by `rules` are divided into.
      pmap: whether `data` is by `jax.pmap`.
      fsdp: whether parameters are divided over `data`, too; of one run at a time.
      rules: see `rules`; they are of use where `model` is more than 1.
    """

    devices: tuple[Any, ...]
    fold: int = 1
    data: int = 1
    model: int = 1
    pmap: bool = False
    fsdp: bool = False
    rules: Rules = RULES

    def __post_init__(self) -> None:
        sizes = {FOLD: self.fold, DATA: self.data, MODEL: self.model}
        said = " × ".join(f"{axis} {size}" for axis, size in sizes.items())
        if min(sizes.values()) < 1 or self.fold * self.data * self.model != len(self.devices):
            raise InputError(f"the axes {said} do not come to the {len(self.devices)} devices; change one of the sizes")
        if self.pmap and self.fold * self.model > 1:
            raise InputError(f"pmap divides batches alone, not {said}; leave fold and model at 1, or pmap away")
        if self.fsdp and (self.fold * self.model > 1 or self.pmap):
            raise InputError(
                f"fsdp divides parameters over data alone, not {said}; leave fold and model at 1, and pmap away"
            )
        if self._several:
            self._check_hosts()
        check_rules(self.rules)
        if self.model > 1 and not any(any(entries) for _, entries in self.rules):
            raise InputError(f"{said}, but no rule divides a parameter over '{MODEL}'; give rules, or leave it at 1")

    def _check_hosts(self) -> None:
        """Raises InputError for axes by which devices of several processes are not used."""
        if self.pmap or self.fold > 1:
            raise InputError(
                "several hosts divide the batches of one training by jit; pmap and trainings side by side are for one "
                "process: leave --parallel and --fold-strategy out"
            )
        here = hosts.this_process().devices
        if here % self.model:
            raise InputError(
                f"the axis '{MODEL}' has {self.model} parts, and a host has {here} devices; give a number of parts "
                "that divides these"
            )

    @cached_property
    def mesh(self) -> Mesh:
        """Of the three axes. (Auto, not jax.make_mesh's Explicit: a vmapped convolution refuses explicit axes.)"""
        shape = np.asarray(self.devices, object).reshape(self.fold, self.data, self.model)
        return Mesh(shape, (FOLD, DATA, MODEL), axis_types=(AxisType.Auto,) * 3)

    @property
    def alone(self) -> bool:
        """Whether there is nothing to divide."""
        return len(self.devices) == 1 and not self.pmap

    @property
    def parted(self) -> bool:
        """Whether parameters lie in parts, so that no device need ever hold all of a state."""
        return (self.fsdp or self.model > 1) and not self.alone

    @property
    def axis_name(self) -> str | None:
        """The axis over which a step must reduce; None where its batch is whole or the compiler reduces."""
        return DATA if self.pmap or (self.fold > 1 and self.data > 1) else None

    @property
    def divides_rows(self) -> bool:
        """Whether `place_shared` divides rows as batches are: those of a batch may then be given with it."""
        return self.fold == 1 and not self.pmap

    def place_state(self, state: Any) -> Any:
        """A state as `step` and `predict` take it; under pmap with the devices as a new first axis."""
        if self.pmap:
            return self._copies(state)
        return self._put(state, lambda path, shape: (FOLD, *self._axes_of(path, shape[1:])))

    def place_variables(self, variables: Any, *, stacked: bool = False) -> Any:
        """Variables that no run has for itself: of frozen stages, or what `forward` takes; they are never used up.

        Args:
          variables: arrays by name.
          stacked: whether each array has several networks as its first axis, as an ensemble's.
        """
        if stacked and not self.fsdp:
            return self._put(variables, lambda path, shape: (None, *self._axes_of(path, shape[1:])))
        return self._put(variables, self._axes_of)

    def place_shared(self, rows: Any, variables: Any) -> tuple[Any, Any]:
        """The data that batches index, arrays ``[n, …]``, and the variables beside it, as `step` takes them.

        Under jit no device holds all data, and the rows of a batch are fetched from those that have them: where the
        number of rows is no multiple of the devices, zeros follow. Of several processes each gives its own rows
        (`hosts.Process.rows`), such zeros included.
        """
        if self.pmap:
            return self._copies((rows, variables))
        if self._several:
            return self._joined_rows(rows, DATA), self.place_variables(variables)
        divided = self.divides_rows and not self.alone
        rows = jax.tree.map(lambda a: pad(a, 0, self.data if divided else 1), rows)
        return self._put(rows, lambda *_: (DATA,) if divided else ()), self.place_variables(variables)

    def whole(self, function: Callable[[Any], T], variables: Any) -> T:
        """What a function makes of variables, which are whole in it: a step and a prediction run the network so."""
        if not self.fsdp or self.alone:
            return function(variables)
        return function(gathered(variables, types_at_use(function, variables), self.mesh, DATA))

    def fetch_state(self, state: Any) -> Any:
        """A state, or some of it, as `place_state` was given it, on the first device (of each process).

        Of parameters in parts on the host, one array after the other: no device has room for all.
        """
        if self.alone:
            return state
        if self.parted:
            return jax.tree.map(self._on_host, state)
        if self._several:
            return hosts.fetch(state, self._sharding())
        if self.pmap:
            return jax.tree.map(lambda array: array[0], state)
        return jax.device_put(state, self.devices[0])

    def step(self, function: Callable, *, scan: bool = False) -> Program:
        """``(state, batch, shared) -> (state, metrics)`` of batched runs; the state that it is given is used up.

        Args:
          function: the same of one run, made for `axis_name`.
          scan: whether batches and metrics have the steps of one call as their first axis.
        """
        run = over_runs(function, scan=scan, updates=True)
        place, ahead = partial(self._place_batch, axes=(FOLD, DATA)), (None,) * scan
        if self.pmap:
            # the metrics are reduced: the same on every device
            mapped = jax.pmap(run, DATA, devices=self.devices, donate_argnums=0, out_axes=(0, None))
            return Program(lambda _: mapped, place)
        if self.alone:
            jitted = jax.jit(run, donate_argnums=0, **self._options)
            return Program(lambda _: jitted, place)
        if self.fold > 1:
            run = self._map(run, ahead, (P(FOLD), P(*ahead, FOLD)))
        return Program(lies_as_it_came(run, self._sharding(*ahead, FOLD), **self._options), place)

    def predict(self, function: Callable, *, scan: bool = False) -> Program:
        """``(state, batch, shared) -> arrays [runs, rows, …]`` of batched runs; arguments as of `step`."""
        run = over_runs(function, scan=scan, updates=False)
        place, ahead = partial(self._place_batch, axes=(FOLD, DATA)), (None,) * scan
        axis = 1 + scan  # of the rows
        if self.pmap:
            jitted = jax.pmap(run, DATA, devices=self.devices, out_axes=axis)
            return Program(lambda _: jitted, place, partial(_joined, axis=axis))
        if self.alone:
            jitted = jax.jit(run, **self._options)
            return Program(lambda _: jitted, place)
        if self.fold > 1:
            run = self._map(run, ahead, P(*ahead, FOLD, DATA))
        jitted = jax.jit(run, out_shardings=self._sharding_out(*ahead, FOLD, DATA), **self._options)
        return Program(lambda _: jitted, place, partial(_cut, axis=axis, of=-1))

    def forward(self, function: Callable, *, rows_in: int = 0, rows_out: int = 0, divided: bool = False) -> Program:
        """``(variables, x) -> arrays`` of examples, divided over all devices but those of ``model``; by jit, always.

        Args:
          function: the same, of arrays in which the examples do not depend on one another.
          rows_in: axis of the examples in the arrays of ``x``.
          rows_out: axis of the examples in what comes out: arrays on the device where it is one, else on the host.
          divided: of several processes each gives its own rows (`hosts.Process.rows`), as many as the others; all of
            them come out, on every process.
        """
        both = (FOLD, DATA)
        place = partial(self._place_rows, axis=rows_in)

        def run(variables: Any, x: Any) -> Any:
            return self.whole(lambda whole: function(whole, x), variables)

        if self.alone:
            jitted = jax.jit(run, **self._options)
            return Program(lambda _: jitted, place)
        jitted = jax.jit(run, out_shardings=self._sharding_out(*(None,) * rows_out, both), **self._options)
        if self._several and divided:
            joined = partial(self._joined_rows, axes=both, axis=rows_in)
            return Program(lambda _: jitted, joined, lambda made, _: jax.tree.map(np.asarray, made))
        return Program(lambda _: jitted, place, partial(_cut, axis=rows_out, of=rows_in))

    @cached_property
    def _several(self) -> bool:
        """Whether the devices belong to several processes, of which this is one: those of a topology are not here."""
        return hosts.spans(self.devices) and hosts.this_process().count > 1

    def _joined_rows(self, tree: Any, axes: Any, axis: int = 0) -> Any:
        """Arrays of which each process has its own rows along `axis`, divided over the devices."""
        sharding = self._sharding(*(None,) * axis, axes)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), tree)

    def _axes_of(self, path: str, shape: tuple[int, ...]) -> P:
        """How an array of variables, or what is kept of it, is divided; `shape` is without an axis of runs."""
        if self.fsdp:
            return fsdp_spec(shape, self.data, DATA)
        return spec_of(path, shape, self.rules, self.model)

    @property
    def _options(self) -> dict[str, Any]:
        return {"compiler_options": compiler_options(self.devices[0].platform)}

    def _sharding(self, *axes: Any) -> jax.sharding.Sharding:
        return SingleDeviceSharding(self.devices[0]) if self.alone else NamedSharding(self.mesh, P(*axes))

    def _sharding_out(self, *axes: Any) -> jax.sharding.Sharding:
        """Of arrays that the host reads: every process has all of them, since it reaches its own devices alone."""
        return self._sharding() if self._several else self._sharding(*axes)

    def _map(self, function: Callable, ahead: tuple[None, ...], out: Any) -> Callable:
        """`function` over the runs of each device; what divides single arrays is left to the compiler.

        Without ``check_vma``, since with it gradients of what is copied are added up once more than the step does.
        """
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(P(FOLD), P(*ahead, FOLD, DATA), P()),
            out_specs=out,
            # kernels that the compiler cannot divide ask whether all axes are mapped
            axis_names={FOLD, DATA} if self.model > 1 else {FOLD, DATA, MODEL},
            check_vma=False,
        )

    def _put(self, tree: Any, axes_of: Callable[[str, tuple[int, ...]], tuple[Any, ...]]) -> Any:
        """Every array where `axes_of` says of its path and shape; on one device what is there stays as it is."""

        def put(path: Any, leaf: Any) -> Any:
            sharding = self._sharding(*axes_of(path_of(path), leaf.shape))
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            if self.alone:
                return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
            return hosts.place(leaf, sharding) if self._several else jax.device_put(leaf, sharding)

        return jax.tree_util.tree_map_with_path(put, tree)

    def _copies(self, tree: Any) -> Any:
        """For pmap: every array with a new first axis that holds one copy per device."""
        spread, count = NamedSharding(self.mesh, P(DATA)), len(self.devices)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape), a.dtype, sharding=spread), tree)
        copy = jax.jit(
            lambda t: jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), t), out_shardings=spread
        )
        return copy(tree)

    def _place_batch(self, batch: Any, axes: tuple[str, str]) -> Any:
        """A batch ``[…, runs, rows]`` divided over the devices."""
        if self.alone:
            return self._on_one(batch)
        rows = len(self.devices) if self._several else self.data  # those that each process gives are a multiple
        padded = jax.tree.map(lambda a: pad(a, a.ndim - 1, rows), batch)
        if self.pmap:
            return jax.tree.map(self._split_rows, padded)
        return self._put(padded, lambda _, shape: (*(None,) * (len(shape) - 2), *axes))

    def _place_rows(self, x: Any, axis: int) -> Any:
        """Examples for `forward`."""
        if self.alone:
            return self._on_one(x)
        padded = jax.tree.map(lambda a: pad(a, axis, self.fold * self.data), x)
        return self._put(padded, lambda *_: (*(None,) * axis, (FOLD, DATA)))

    def _on_host(self, array: Any) -> Any:
        """A whole array in this process's memory; keys, which numpy does not know, on a device."""
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self._on_host(jax.random.key_data(array)), impl=jax.random.key_impl(array))
        if self._several and not array.is_fully_replicated:
            array = hosts.fetch(array, self._sharding())
        return np.array(array)  # a copy: on the CPU it would lie in the buffer, which the next step uses up

    def _on_one(self, tree: Any) -> Any:
        """What comes from the host goes into the program as it is."""
        abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))
        return self._put(tree, lambda *_: ()) if abstract else tree

    def _split_rows(self, array: Any) -> Any:
        """For pmap: ``[…, rows]`` to ``[devices, …, rows / devices]``."""
        if isinstance(array, jax.ShapeDtypeStruct):
            shape = (self.data, *array.shape[:-1], array.shape[-1] // self.data)
            return jax.ShapeDtypeStruct(shape, array.dtype, sharding=NamedSharding(self.mesh, P(DATA)))
        return np.stack(np.split(np.asarray(array), self.data, axis=-1))


def _cut(made: Any, given: Any, axis: int, of: int) -> Any:
    """Arrays on the host, with as many rows along `axis` as the arrays of `given` have along the axis `of`."""
    rows = jax.tree.leaves(given)[0].shape[of]
    return jax.tree.map(lambda array: first_rows(array, axis, rows), made)


def _joined(made: Any, given: Any, axis: int) -> Any:
    """Of pmap: as `_cut`, where the devices are the axis before that of their rows."""

    def join(array: Any) -> np.ndarray:
        return np.asarray(array).reshape(*array.shape[:axis], -1, *array.shape[axis + 2 :])

    return _cut(jax.tree.map(join, made), given, axis, of=-1)


def on_one_device() -> Executor:
    """The first device of this process."""
    return Executor((first_device(),))
