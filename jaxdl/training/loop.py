"""The one training loop, over any way of running the step."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.errors import InputError
from jaxdl.parallel import mesh as meshes
from jaxdl.parallel import pmap as pmaps
from jaxdl.training.step import Batch, Predict, Shared, State, Step


@dataclasses.dataclass(frozen=True)
class Runner:
    """A way of running steps: on one device or several, for one fold or for many at once.

    Attributes:
      step: ``(state, batch, shared) -> (state, metrics)``, compiled; the state it is given is used up.
      predict: ``(state, batch, shared) -> logits[…, batch, num_outputs]``, compiled.
      scan: whether both take batches that have the steps as first axis, and give outputs that have.
      place: puts a state and the shared data where the two want them.
      fetch: gives a state back as `place` found it.
    """

    step: Callable[[State, Batch, Shared], tuple[State, dict[str, Any]]]
    predict: Callable[[State, Batch, Shared], Any]
    scan: bool
    place: Callable[[State, Shared], tuple[State, Shared]] = lambda state, shared: (state, shared)
    fetch: Callable[[State], State] = lambda state: state

    def train_epoch(self, state: State, batches: Batch, shared: Shared) -> tuple[State, dict[str, np.ndarray]]:
        """Takes the steps of `batches` ``[steps, …]``; the metrics are ``[steps, …]`` too."""
        if self.scan:
            state, metrics = self.step(state, batches, shared)
            return state, jax.tree.map(np.asarray, metrics)
        made = []
        for batch in _each(batches):
            state, metrics = self.step(state, batch, shared)
            made.append(metrics)
        return state, jax.tree.map(lambda *values: np.stack([np.asarray(v) for v in values]), *made)

    def predict_all(self, state: State, batches: Batch, shared: Shared) -> np.ndarray:
        """Logits ``[steps, …, batch, num_outputs]`` of all rows of `batches`."""
        if self.scan:
            return np.asarray(self.predict(state, batches, shared))
        made = [self.predict(state, batch, shared) for batch in _each(batches)]
        return np.stack([np.asarray(logits) for logits in made])


def _each(batches: Batch) -> list[Batch]:
    return [jax.tree.map(lambda a, i=i: a[i], batches) for i in range(len(batches.indices))]


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
    return Runner(jax.jit(over_steps(step, scan), donate_argnums=0), jax.jit(predict_over_steps(predict, scan)), scan)


def mesh_runner(step: Step, predict: Predict, scan: bool, devices: Sequence[Any]) -> Runner:
    """Every batch divided over `devices` by jit over a mesh."""
    mesh = meshes.make_mesh(devices, meshes.DATA)
    run = meshes.divide_batches(over_steps(step, scan), mesh, donate=True)
    logits = meshes.divide_batches(predict_over_steps(predict, scan), mesh, donate=False)

    def predict_rows(state: State, batch: Batch, shared: Shared) -> np.ndarray:
        return np.asarray(logits(state, batch, shared))[..., : batch.indices.shape[-1], :]

    return Runner(
        run,
        predict_rows,
        scan,
        lambda state, shared: meshes.replicate((state, shared), mesh),
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
        step_once, predict_rows, scan, lambda state, shared: pmaps.replicate((state, shared), devices), pmaps.first
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


def fit(
    runner: Runner,
    state: State,
    shared: Shared,
    *,
    epochs: int,
    train_batches: Callable[[int], Batch],
    eval_batches: Batch | None,
    on_epoch: Callable[[int, dict[str, np.ndarray], np.ndarray | None], None],
) -> State:
    """Trains for `epochs`.

    Args:
      runner: how.
      state: where to start; not used up.
      shared: see `Shared`.
      epochs: how many.
      train_batches: gives the batches of an epoch.
      eval_batches: to predict after each epoch, or None.
      on_epoch: told the epoch (from 0), its metrics (loss and accuracy over its examples in training mode, mean
        gradient norm; one value per fold where there are folds), and the logits ``[…, rows, num_outputs]``.

    Returns:
      The trained state.

    Raises:
      InputError: if the loss, the logits or the final parameters are not finite.
    """
    state = jax.tree.map(lambda a: a.copy(), state)
    state, shared = runner.place(state, shared)
    for epoch in range(epochs):
        state, metrics = runner.train_epoch(state, train_batches(epoch), shared)
        summary = _summarise(metrics)
        logits = None
        if eval_batches is not None:
            logits = _rows(runner.predict_all(state, eval_batches, shared))
        # the loss is that before a step: a last step may still have broken the parameters
        broken = None
        if not np.isfinite(summary["loss"]).all():
            broken = f"the training loss became {summary['loss']}"
        elif not (logits is None or np.isfinite(logits).all()) or (epoch + 1 == epochs and not _finite(state.params)):
            broken = "the parameters stopped being finite"
        if broken:
            raise InputError(
                f"{broken} in epoch {epoch + 1}; try a lower learning rate, clip_norm=1, warmup_epochs=1, or precision "
                "float32"
            )
        on_epoch(epoch, summary, logits)
    return runner.fetch(state)


def _finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))  # compiles nothing


def _summarise(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of an epoch from those of its steps ``[steps, …]``."""
    total = metrics["count"].sum(0)
    mean = partial(np.average, axis=0, weights=metrics["count"])
    return {
        "loss": mean(metrics["loss"]),
        "accuracy": mean(metrics["accuracy"]),
        "grad_norm": metrics["grad_norm"].mean(0),
        "count": total,
    }


def _rows(logits: np.ndarray) -> np.ndarray:
    """``[steps, …, batch, outputs]`` to ``[…, steps × batch, outputs]``."""
    moved = np.moveaxis(logits, 0, -3)
    return moved.reshape(*moved.shape[:-3], -1, moved.shape[-1])
