"""Training data that does not fit in memory: decoded batch by batch, ahead of its use.

The order of the examples is not decided here: `stream` asks the same functions that memory training asks (`batches`),
so that a streamed run sees the same examples in the same batches. One iterator of grain serves all epochs; its elements
are whole batches, of which each worker process decodes every n-th, so that workers start once, hand over one array per
step, and cannot change the order.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import Batches, evaluation_batches, training_batches
from jaxdl.data.preprocessing import Preprocessing, nbytes
from jaxdl.data.source import Source
from jaxdl.data.workers import in_order
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import Process

__all__ = ["EvaluationOrder", "Order", "TrainingOrder", "measure", "stream"]

Order = Callable[[int], Batches]

CHUNK = 64  # examples whose sums travel together


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingOrder:
    """`training_batches` of one fold as a function of the epoch, which can be sent to workers."""

    parts: tuple[np.ndarray, ...]
    batch_size: int
    seed: int
    fold: int = 0
    sample_weights: np.ndarray | None = None

    def __call__(self, epoch: int) -> Batches:
        parts, fold = list(self.parts), [self.fold]
        return training_batches(parts, self.batch_size, self.seed, fold, epoch, self.sample_weights)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationOrder:
    """`evaluation_batches` of one fold, the same in every epoch."""

    parts: tuple[np.ndarray, ...]
    batch_size: int
    fold: int = 0

    def __call__(self, epoch: int) -> Batches:
        return evaluation_batches(list(self.parts), self.batch_size, [self.fold])[0]


def stream(
    source: Source,
    preprocessing: Preprocessing,
    order: Order,
    epochs: range,
    *,
    start_step: int = 0,
    workers: int = 0,
    process: Process = Process(),  # noqa: B008
    labelled: bool = True,
) -> Iterator[dict[str, Any]]:
    """The batches of `epochs`, one dict per step, of examples as stored.

    Close the iterator (or drop it) to end its workers. They end, too, when this process is killed.

    Args:
      source: where examples come from. It is sent to each worker once.
      preprocessing: of the network; what it fits is not used.
      order: the batches of an epoch, all epochs of one shape ``[steps, batch]``; see `TrainingOrder`. It is sent to
        the workers and asked there once an epoch.
      epochs: consecutive.
      start_step: of the first epoch. What comes before it is not read.
      workers: processes that decode; with 0 a thread of this one does. Arrays in memory are not sent to processes.
      process: of those that share every batch: each reads its own rows (`Process.rows`) and no others. Rows that reach
        past the last are not read.
      labelled: whether batches have ``y``: to look targets up, some sources read all examples.

    Yields:
      ``x``, stored examples ``[rows, …]``; ``y``, their targets, where there are any; ``weights`` ``float32[batch]`` of
      the rows of all processes; ``epoch`` and ``step``, int. A row of weight 0 is not read: its ``x`` and ``y`` are 0.

    Raises:
      InputError: for examples the network cannot take, at once or when they are met; for options that cannot be.
    """
    if epochs.step != 1:
        raise InputError(f"epochs are {epochs}; expected consecutive ones")
    if not epochs:
        return iter(())
    _check(source, preprocessing)
    steps, width = order(epochs.start).indices.shape
    if not 0 <= start_step <= steps:
        raise InputError(f"start_step is {start_step}; an epoch has {steps} steps")
    rows = process.rows(width)
    make = _MakeBatch(source, preprocessing, order, epochs.start, (steps, width), rows, labelled)
    positions = range(start_step, steps * len(epochs))
    size = (rows.stop - rows.start) * nbytes(preprocessing)
    return in_order(make, positions, workers=_useful(workers, source), nbytes=size, what=source.name)


@dataclasses.dataclass(eq=False)
class _MakeBatch:
    """Position in the whole run to that step's batch."""

    source: Source
    preprocessing: Preprocessing
    order: Order
    first_epoch: int
    shape: tuple[int, int]
    share: slice  # of the rows; it may reach past the last
    labelled: bool
    _known: tuple[int, Batches] | None = None  # the epoch asked last

    def __call__(self, position: int) -> dict[str, Any]:
        epoch, step = divmod(position, self.shape[0])
        epoch += self.first_epoch
        if self._known is None or self._known[0] != epoch:
            self._known = epoch, self.order(epoch)
        batches = self._known[1]
        if batches.indices.shape != self.shape:
            raise InputError(f"epoch {epoch} has batches {batches.indices.shape}, the first has {self.shape}")
        indices, weights = batches.indices[step, self.share], batches.weights[step]
        rows, real = self.share.stop - self.share.start, np.flatnonzero(weights[self.share])
        x = jax.tree.map(lambda one: np.zeros((rows, *one.shape), one.dtype), self.preprocessing.stored_spec())
        for row in real:
            made = _stored(self.source, int(indices[row]), self.preprocessing)
            jax.tree.map(lambda array, one, row=row: array.__setitem__(row, one), x, made)
        batch = {"x": x, "weights": weights, "epoch": epoch, "step": step}
        targets = self.source.targets() if self.labelled else None
        if targets is not None:
            batch["y"] = jax.tree.map(lambda array: _spread(array[indices[real]], real, rows), targets)
        return batch


def _spread(chosen: np.ndarray, places: np.ndarray, rows: int) -> np.ndarray:
    """`chosen` at some `places` of as many `rows`; 0 elsewhere."""
    held = np.zeros((rows, *chosen.shape[1:]), chosen.dtype)
    held[places] = chosen
    return held


def _stored(source: Source, index: int, preprocessing: Preprocessing) -> Any:
    """The ``x`` of one example as stored."""
    return preprocessing.stored(source[index], f"example {index} of {source.name}")["x"]


def _check(source: Source, preprocessing: Preprocessing) -> None:
    """One example shows whether `source` holds what the network takes."""
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples")
    preprocessing.check(source)


def _useful(workers: int, source: Source) -> int:
    if workers < 0:
        raise InputError(f"workers is {workers}; expected 0 or more")
    return 0 if source.in_memory else workers


def measure(
    source: Source, preprocessing: Preprocessing, indices: np.ndarray | None = None, *, workers: int = 0
) -> Any:
    """`Preprocessing.measure` of all stored examples, bit for bit, in one pass that keeps only the sums.

    Args:
      source: where examples come from.
      preprocessing: of the network.
      indices: which examples to read (those of the training part), all by default. The sums of the others are NaN.
      workers: as in `stream`.

    Raises:
      InputError: for examples the network cannot take.
    """
    _check(source, preprocessing)
    wanted = np.arange(len(source)) if indices is None else np.unique(indices)
    parts = [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    sums = _Sums(source, preprocessing, parts)
    held: Any = None
    made = in_order(sums, range(len(parts)), workers=_useful(workers, source), nbytes=0, what=source.name)
    for part, found in zip(parts, made, strict=True):
        if held is None:
            held = {name: np.full((len(source), *one.shape[1:]), np.nan) for name, one in found.items()}
        for name, one in found.items():
            held[name][part] = one
    return held


@dataclasses.dataclass(frozen=True, eq=False)
class _Sums:
    source: Source
    preprocessing: Preprocessing
    parts: list[np.ndarray]

    def __call__(self, part: int) -> Mapping[str, np.ndarray]:
        rows = [_stored(self.source, int(i), self.preprocessing) for i in self.parts[part]]
        found = [self.preprocessing.measure(jax.tree.map(lambda one: np.asarray(one)[None], row)) for row in rows]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
