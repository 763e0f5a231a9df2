"""Ways of running steps: on one device or several. Every one takes batched runs, be it a single one."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from jaxdl.parallel import mesh as meshes
from jaxdl.parallel import pmap as pmaps
from jaxdl.parallel.compiler import compiler_options
from jaxdl.training.step import Batch, Predict, Shared, State, Step, over_runs


@dataclasses.dataclass(frozen=True)
class Runner:
    """A way of running steps.

    Attributes:
      step: ``(state, batch, shared) -> (state, metrics)``, compiled; the state it is given is used up.
      predict: ``(state, batch, shared) -> {"kept", "record"}``, compiled; arrays ``[runs, rows, …]``.
      scan: whether both take batches that have the steps as first axis, and give outputs that have.
      place: puts a state where the two want it.
      place_shared: puts the shared data there.
      fetch: gives a state back as `place` found it.
    """

    step: Callable[[State, Batch, Shared], tuple[State, dict[str, Any]]]
    predict: Callable[[State, Batch, Shared], Any]
    scan: bool
    place: Callable[[State], State] = lambda state: state
    place_shared: Callable[[Shared], Shared] = lambda shared: shared
    fetch: Callable[[State], State] = lambda state: state

    def feed(self, batches: Batch, shared: Shared, first: int = 0) -> "Feed":
        """`batches` ``[steps, runs, rows]`` of data in memory, from step `first` on, as the two functions take them."""
        if not self.scan:
            for place in range(first, len(batches.indices)):
                yield 1, jax.tree.map(lambda a, i=place: a[i], batches), shared
            return
        for begin, end in _chunks(len(batches.indices)):
            if begin >= first:
                yield end - begin, jax.tree.map(lambda a, b=begin, e=end: a[b:e], batches), shared

    def take_steps(self, state: State, feed: "Feed") -> tuple[State, dict[str, np.ndarray]]:
        """Takes all steps of `feed`; the metrics are ``[steps, runs]``."""
        made = []
        for count, batch, shared in feed:
            state, metrics = self.step(state, batch, shared)
            made.append((count, metrics))
        return state, self.join_metrics(made)

    def join_metrics(self, made: Sequence[tuple[int, Any]]) -> dict[str, np.ndarray]:
        """Metrics of single calls of `step` as ``[steps, runs]``."""
        parts = [jax.tree.map(np.asarray if self.scan else lambda a: np.asarray(a)[None], m) for _, m in made]
        return jax.tree.map(lambda *values: np.concatenate(values), *parts)

    def predict_all(self, state: State, feed: "Feed", *, keep: bool) -> dict[str, Any]:
        """``record`` of all rows of `feed`, those of padding included, and with `keep` ``kept``: ``[runs, rows, …]``.

        What is not kept stays on the device.
        """
        wanted = ("kept", "record") if keep else ("record",)
        made = []
        for _, batch, shared in feed:
            found = self.predict(state, batch, shared)
            made.append(jax.tree.map(np.asarray, {name: found[name] for name in wanted}))

        def join(*parts: np.ndarray) -> np.ndarray:
            steps = np.concatenate(parts) if self.scan else np.stack(parts)  # [steps, runs, rows, …]
            moved = np.moveaxis(steps, 0, 1)
            return moved.reshape(moved.shape[0], -1, *moved.shape[3:])

        return jax.tree.map(join, *made)


Feed = Iterable[tuple[int, Batch, Shared]]  # how many steps, their batches, and the data that they index
CHUNK = 200  # steps in one program at most: between two, the state may be saved


def _chunks(steps: int) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of equal parts (as equal as can be), the same however often a run is interrupted."""
    parts = -(-steps // CHUNK)
    bounds = [part * steps // parts for part in range(parts + 1)]
    return pairwise(bounds)


def prefers_scan(variables: Any) -> bool:
    """Whether steps should run in a `lax.scan` inside one program rather than be dispatched from Python.

    Always, except for convolutions on the CPU: XLA runs those many times slower inside a loop. `variables` are those
    of all stages that run in the step; a convolution's kernel has four axes.
    """
    convolves = any(leaf.ndim >= 4 for leaf in jax.tree.leaves(variables))
    return not (convolves and jax.default_backend() == "cpu")


def over_steps(step: Step, scan: bool) -> Callable:
    """`step` itself, or over batches that have the steps as their first axis."""
    if not scan:
        return step
    return lambda state, batches, shared: jax.lax.scan(lambda s, batch: step(s, batch, shared), state, batches)


def predict_over_steps(predict: Predict, scan: bool) -> Callable:
    """`predict` itself, or over batches that have the steps as their first axis."""
    if not scan:
        return predict
    return lambda state, batches, shared: jax.lax.map(lambda batch: predict(state, batch, shared), batches)


def _functions(step: Step, predict: Predict, scan: bool) -> tuple[Callable, Callable]:
    return over_steps(over_runs(step), scan), predict_over_steps(over_runs(predict), scan)


def single_runner(step: Step, predict: Predict, scan: bool) -> Runner:
    """On the default device."""
    jit = partial(jax.jit, compiler_options=compiler_options())
    run, said = _functions(step, predict, scan)
    return Runner(jit(run, donate_argnums=0), jit(said), scan)


def mesh_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Every batch, and the data itself, divided over `devices` by jit over a mesh."""
    mesh = meshes.make_mesh(devices, meshes.DATA)
    both = _functions(step, predict, scan)
    run = meshes.divide_batches(both[0], mesh, donate=True)
    said = meshes.divide_batches(both[1], mesh, donate=False)

    def predict_rows(state: State, batch: Batch, shared: Shared) -> Any:
        return jax.tree.map(lambda a: _real_rows(np.asarray(a), batch, scan), said(state, batch, shared))

    return Runner(
        run,
        predict_rows,
        scan,
        lambda state: meshes.replicate(state, mesh),
        lambda shared: shared.replace(
            x=meshes.divide_rows(shared.x, mesh),
            y=meshes.divide_rows(shared.y, mesh),
            frozen=meshes.replicate(shared.frozen, mesh),
        ),
        lambda state: jax.device_put(jax.tree.map(lambda a: a.addressable_data(0), state), devices[0]),
    )


def _real_rows(array: np.ndarray, batch: Batch, scan: bool) -> np.ndarray:
    """Without the rows that were added so that the devices divide them."""
    rows = slice(batch.indices.shape[-1])
    return array[:, :, rows] if scan else array[:, rows]


def pmap_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Every batch divided over `devices` by pmap; `step` is made with ``axis_name=mesh.DATA``."""
    both = _functions(step, predict, scan)
    run = pmaps.divide_batches(both[0], devices, donate=True)
    said = pmaps.divide_batches(both[1], devices, donate=False)

    def step_once(state: State, batch: Batch, shared: Shared) -> tuple[State, dict[str, Any]]:
        state, metrics = run(state, batch, shared)
        return state, pmaps.first(metrics)  # reduced: the same on every device

    def predict_rows(state: State, batch: Batch, shared: Shared) -> Any:
        def join(array: Any) -> np.ndarray:
            return _real_rows(np.concatenate(list(np.asarray(array)), axis=2 if scan else 1), batch, scan)

        return jax.tree.map(join, said(state, batch, shared))

    return Runner(
        step_once,
        predict_rows,
        scan,
        lambda state: pmaps.replicate(state, devices),
        lambda shared: pmaps.replicate(shared, devices),
        pmaps.first,
    )


def folds_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Runs distributed over `devices`, as many on each; devices do not communicate."""
    mesh = meshes.make_mesh(devices, meshes.FOLD)
    lay = partial(meshes.lay_folds, mesh=mesh, fold_axis=1 if scan else 0)
    whole, first = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(meshes.FOLD)
    run, said = _functions(step, predict, scan)

    def put(tree: Any, spec: Any) -> Any:
        return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))

    return Runner(
        lay(run, updates_state=True),
        lay(said, updates_state=False),
        scan,
        lambda state: put(state, first),
        lambda shared: put(shared, whole),
        lambda state: jax.device_put(state, devices[0]),
    )


def data_parallel_runner(
    kind: str, make: Callable[[str | None], Step], predict: Predict, scan: bool, devices: Sequence[Any]
) -> Runner:
    """The runner that divides batches over `devices`; one device under jit has nothing to divide.

    Args:
      kind: ``"jit"`` or ``"pmap"``.
      make: gives the step for the name of the axis that it reduces over, None for none.
      predict: see `make_predict`.
      scan: see `prefers_scan`.
      devices: at least one.
    """
    if kind == "pmap":
        return pmap_runner(make(meshes.DATA), predict, scan, devices)
    if len(devices) == 1:
        return single_runner(make(None), predict, scan)
    return mesh_runner(make(None), predict, scan, devices)
