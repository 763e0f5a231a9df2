"""Training data that does not fit in memory: decoded batch by batch, ahead of its use.

The order of the examples is not decided here: `stream` asks the same functions that memory training asks (`batches`),
so that a streamed run sees the same examples in the same batches. One iterator of grain serves all epochs; its elements
are whole batches, of which each worker process decodes every n-th, so that workers start once, hand over one array per
step, and cannot change the order.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdl.data.batches import Batches, evaluation_batches, training_batches
from jaxdl.data.memory import example_bytes, in_memory_bytes, must_stream
from jaxdl.data.preprocessing import Moments, Preprocessing, resize_and_crop
from jaxdl.data.source import Arrays, Joined, Source, Subset
from jaxdl.data.workers import in_order
from jaxdl.errors import InputError

__all__ = ["EvaluationOrder", "Order", "TrainingOrder", "in_memory_bytes", "moments", "must_stream", "stream"]

Order = Callable[[int], Batches]

CHUNK = 64  # examples whose sums travel together


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingOrder:
    """`training_batches` of one fold as a function of the epoch, which can be sent to workers."""

    parts: tuple[np.ndarray, ...]
    batch_size: int
    seed: int
    fold: int = 0

    def __call__(self, epoch: int) -> Batches:
        return training_batches(list(self.parts), self.batch_size, self.seed, [self.fold], epoch)[0]


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
    process: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Any]]:
    """The batches of `epochs`, one dict per step, resized and cropped but not yet normalised.

    Close the iterator (or drop it) to end its workers. They end, too, when this process is killed.

    Args:
      source: where examples come from. It is sent to each worker once.
      preprocessing: of the network; its mean and std are not used.
      order: the batches of an epoch, all epochs of one shape ``[steps, batch]``; see `TrainingOrder`. It is sent to
        the workers and asked there once an epoch.
      epochs: consecutive.
      start_step: of the first epoch. What comes before it is not read.
      workers: processes that decode; with 0 a thread of this one does. Arrays in memory are not sent to processes.
      process: ``(index, count)`` gives this host its contiguous share of every batch's rows. Where `count` does not
        divide the batch, rows of weight 0 are added at its end.

    Yields:
      ``x`` ``[rows, *input_shape]``, uint8 or float32; ``y`` ``[rows]``, where there are labels; ``weights``
      ``float32[rows]``; ``epoch`` and ``step``, int. A row of weight 0 is not read: its ``x`` and ``y`` are 0.

    Raises:
      InputError: for examples the network cannot take, at once or when they are met; for options that cannot be.
    """
    index, count = process
    if not 0 <= index < count:
        raise InputError(f"process is {process}; expected (index, count) with the index from 0 to count - 1")
    if epochs.step != 1:
        raise InputError(f"epochs are {epochs}; expected consecutive ones")
    if not epochs:
        return iter(())
    _check_kind(source, preprocessing)
    steps, width = order(epochs.start).indices.shape
    if not 0 <= start_step <= steps:
        raise InputError(f"start_step is {start_step}; an epoch has {steps} steps")
    share = -(-width // count)
    make = _MakeBatch(
        source, preprocessing, order, epochs.start, (steps, width), slice(index * share, (index + 1) * share)
    )
    positions = range(start_step, steps * len(epochs))
    nbytes = share * example_bytes(preprocessing)
    return in_order(make, positions, workers=_useful(workers, source), nbytes=nbytes, what=source.name)


@dataclasses.dataclass(eq=False)
class _MakeBatch:
    """Position in the whole run to that step's batch."""

    source: Source
    preprocessing: Preprocessing
    order: Order
    first_epoch: int
    shape: tuple[int, int]
    share: slice  # of the rows; it may reach past the last
    _known: tuple[int, Batches] | None = None  # the epoch asked last

    def __call__(self, position: int) -> dict[str, Any]:
        epoch, step = divmod(position, self.shape[0])
        epoch += self.first_epoch
        if self._known is None or self._known[0] != epoch:
            self._known = epoch, self.order(epoch)
        batches = self._known[1]
        if batches.indices.shape != self.shape:
            raise InputError(f"epoch {epoch} has batches {batches.indices.shape}, the first has {self.shape}")
        indices, given = batches.indices[step, self.share], batches.weights[step, self.share]
        rows = self.share.stop - self.share.start
        weights = np.zeros(rows, np.float32)
        weights[: len(given)] = given
        real = np.flatnonzero(weights)
        dtype = np.uint8 if self.preprocessing.kind == "uint8" else np.float32
        x = np.zeros((rows, *self.preprocessing.input_shape), dtype)
        for row in real:
            x[row] = _example(self.source, int(indices[row]), self.preprocessing)
        batch = {"x": x, "weights": weights, "epoch": epoch, "step": step}
        if self.source.labels is not None:
            batch["y"] = np.zeros(rows, self.source.labels.dtype)
            batch["y"][real] = self.source.labels[indices[real]]
        return batch


def _example(source: Source, index: int, preprocessing: Preprocessing) -> np.ndarray:
    """What `to_memory` makes of one example."""
    x = source[index]["x"]
    if preprocessing.kind == "uint8":
        return resize_and_crop(x, preprocessing)
    x = np.asarray(x, np.float32)
    if x.shape != preprocessing.input_shape:
        raise InputError(
            f"example {index} of {source.name} has the shape {list(x.shape)}; the network takes "
            f"{list(preprocessing.input_shape)}"
        )
    return x


def _check_kind(source: Source, preprocessing: Preprocessing) -> None:
    """One example shows whether `source` holds what the network takes."""
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples")
    example = np.asarray(source[0]["x"])
    images = example.dtype == np.uint8 and example.ndim == 3
    if images != (preprocessing.kind == "uint8"):
        raise InputError(
            f"{source.name} holds {example.dtype}{list(example.shape)}; the network was made for {preprocessing.kind} "
            f"of shape {list(preprocessing.input_shape)}"
        )


def _useful(workers: int, source: Source) -> int:
    if workers < 0:
        raise InputError(f"workers is {workers}; expected 0 or more")
    return 0 if _holds_arrays(source) else workers


def _holds_arrays(source: Source) -> bool:
    """Whether sending `source` to a process would copy its examples."""
    if isinstance(source, Subset):
        return _holds_arrays(source.source)
    if isinstance(source, Joined):
        return _holds_arrays(source.one) or _holds_arrays(source.two)
    return isinstance(source, Arrays)


def moments(
    source: Source, preprocessing: Preprocessing, indices: np.ndarray | None = None, *, workers: int = 0
) -> Moments:
    """`Moments.of` what `to_memory` would make of `source`, bit for bit, in one pass that keeps only the sums.

    Args:
      source: where examples come from.
      preprocessing: of the network; its mean and std are not used.
      indices: which examples to read (those of the training part), all by default. The sums of the others are NaN.
      workers: as in `stream`.

    Raises:
      InputError: for examples the network cannot take.
    """
    _check_kind(source, preprocessing)
    wanted = np.arange(len(source)) if indices is None else np.unique(indices)
    parts = [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    total, square = np.full((2, len(source), preprocessing.input_shape[-1]), np.nan)
    sums = _Sums(source, preprocessing, parts)
    made = in_order(sums, range(len(parts)), workers=_useful(workers, source), nbytes=0, what=source.name)
    for part, found in zip(parts, made, strict=True):
        total[part], square[part] = found["total"], found["square"]
    return Moments(total, square, math.prod(preprocessing.input_shape[:-1]))


@dataclasses.dataclass(frozen=True, eq=False)
class _Sums:
    source: Source
    preprocessing: Preprocessing
    parts: list[np.ndarray]

    def __call__(self, part: int) -> dict[str, np.ndarray]:
        found = [Moments.of(_example(self.source, int(i), self.preprocessing)[None]) for i in self.parts[part]]
        return {
            "total": np.concatenate([one.total for one in found]),
            "square": np.concatenate([one.square for one in found]),
        }
