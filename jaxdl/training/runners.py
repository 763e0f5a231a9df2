"""Ways of running steps: on one device or several, for one fold or for many at once."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.parallel import mesh as meshes
from jaxdl.parallel import pmap as pmaps
from jaxdl.parallel.compiler import compiler_options
from jaxdl.training.step import Batch, Predict, Shared, State, Step


@dataclasses.dataclass(frozen=True)
class Runner:
    """A way of running steps: on one device or several, for one fold or for many at once.

    Attributes:
      step: ``(state, batch, shared) -> (state, metrics)``, compiled; the state it is given is used up.
      predict: ``(state, batch, shared) -> logits[…, batch, num_outputs]``, compiled.
      scan: whether both take batches that have the steps as first axis, and give outputs that have.
      place: puts a state where the two want it.
      place_shared: likewise the shared data.
      fetch: gives a state back as `place` found it.
    """

    step: Callable[[State, Batch, Shared], tuple[State, dict[str, Any]]]
    predict: Callable[[State, Batch, Shared], Any]
    scan: bool
    place: Callable[[State], State] = lambda state: state
    place_shared: Callable[[Shared], Shared] = lambda shared: shared
    fetch: Callable[[State], State] = lambda state: state

    def feed(self, batches: Batch, shared: Shared, first: int = 0) -> "Feed":
        """`batches` ``[steps, …]`` of data that is in memory, from step `first` on, as the two functions take them."""
        if not self.scan:
            for place in range(first, len(batches.indices)):
                yield 1, jax.tree.map(lambda a, i=place: a[i], batches), shared
            return
        for begin, end in _chunks(len(batches.indices)):
            if begin >= first:
                yield end - begin, jax.tree.map(lambda a, b=begin, e=end: a[b:e], batches), shared

    def take_steps(self, state: State, feed: "Feed") -> tuple[State, dict[str, np.ndarray]]:
        """Takes all steps of `feed`; the metrics are ``[steps, …]``."""
        made = []
        for count, batch, shared in feed:
            state, metrics = self.step(state, batch, shared)
            made.append((count, metrics))
        return state, self.join_metrics(made)

    def join_metrics(self, made: Sequence[tuple[int, Any]]) -> dict[str, np.ndarray]:
        """Metrics of single calls of `step` as ``[steps, …]``."""
        parts = [jax.tree.map(np.asarray if self.scan else lambda a: np.asarray(a)[None], m) for _, m in made]
        return jax.tree.map(lambda *values: np.concatenate(values), *parts)

    def predict_all(self, state: State, feed: "Feed") -> np.ndarray:
        """Outputs ``[…, rows, num_outputs]`` of all rows of `feed`, those of padding included."""
        made = [np.asarray(self.predict(state, batch, shared)) for _, batch, shared in feed]
        made = np.concatenate(made) if self.scan else np.stack(made)
        moved = np.moveaxis(made, 0, -3)  # [steps, …, batch, outputs]
        return moved.reshape(*moved.shape[:-3], -1, moved.shape[-1])


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


def single_runner(step: Step, predict: Predict, scan: bool) -> Runner:
    """On the default device. To run folds at once, give it a step and a predict that are mapped over them."""
    jit = partial(jax.jit, compiler_options=compiler_options())
    return Runner(jit(over_steps(step, scan), donate_argnums=0), jit(predict_over_steps(predict, scan)), scan)


def mesh_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Every batch, and the data itself, divided over `devices` by jit over a mesh."""
    mesh = meshes.make_mesh(devices, meshes.DATA)
    run = meshes.divide_batches(over_steps(step, scan), mesh, donate=True)
    logits = meshes.divide_batches(predict_over_steps(predict, scan), mesh, donate=False)

    def predict_rows(state: State, batch: Batch, shared: Shared) -> np.ndarray:
        return np.asarray(logits(state, batch, shared))[..., : batch.indices.shape[-1], :]

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


def pmap_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Every batch divided over `devices` by pmap; `step` is made with ``axis_name=mesh.DATA``."""
    run = pmaps.divide_batches(over_steps(step, scan), devices, donate=True)
    logits = pmaps.divide_batches(predict_over_steps(predict, scan), devices, donate=False)

    def step_once(state: State, batch: Batch, shared: Shared) -> tuple[State, dict[str, Any]]:
        state, metrics = run(state, batch, shared)
        return state, pmaps.first(metrics)  # reduced: the same on every device

    def predict_rows(state: State, batch: Batch, shared: Shared) -> np.ndarray:
        parts = np.asarray(logits(state, batch, shared))
        return np.concatenate(list(parts), axis=-2)[..., : batch.indices.shape[-1], :]

    return Runner(
        step_once,
        predict_rows,
        scan,
        lambda state: pmaps.replicate(state, devices),
        lambda shared: pmaps.replicate(shared, devices),
        pmaps.first,
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


def stack_batches(batches: Sequence[Batches]) -> Batch:
    """Batches of several folds side by side: ``[steps, folds, batch]``."""
    return Batch(np.stack([b.indices for b in batches], axis=1), np.stack([b.weights for b in batches], axis=1))


def one_batch(batches: Batches) -> Batch:
    """Batches of one fold: ``[steps, batch]``."""
    return Batch(batches.indices, batches.weights)
