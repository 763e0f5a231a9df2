"""Sequences of uneven length: a batch is computed at the length of the longest in it, of which there are few.

Nothing that a network of sequences says depends on padding (`Staged.SEQUENCES`), nor what is drawn in training
(`SequenceDropout`). So a batch may be cut after its last real token, and the examples of a prediction may be sorted.
Every length is another program to compile: only those of `ladder` are used.

Of an example that is several windows ``[windows, length]``, those after its last real one are left out: its length is
counted in whole windows one after another.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from jaxdl.data.batches import evaluation_batches
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Source
from jaxdl.data.stream import EvaluationOrder, stream
from jaxdl.models.staged import Staged
from jaxdl.parallel.hosts import Process
from jaxdl.tasks import Task

SHORTEST = 16  # below it little is saved
STEPS = 8  # of a training, or batches of a prediction, that a further program should be worth


def lengths_of(model: Staged, x: Any) -> Int[np.ndarray, " n"] | None:
    """Of each example the number of places up to its last real token; of more than one window all of their places.

    Args:
      model: that reads them.
      x: what flows into one of its stages, arrays ``[n, …]``.

    Returns:
      None where nothing may be cut: the model reads no sequences, or `x` is none any more.
    """
    mask = x.get("mask") if isinstance(x, Mapping) else None
    if not model.SEQUENCES or mask is None or mask.ndim < 2:
        return None
    mask = np.asarray(mask).astype(bool)
    if mask.ndim == 2:
        return _up_to_last(mask)
    windows = _up_to_last(mask.any(2))
    return np.where(windows > 1, windows * mask.shape[2], _up_to_last(mask.any(1)))


def _up_to_last(mask: Bool[np.ndarray, "n places"]) -> Int[np.ndarray, " n"]:
    """Number of places up to the last that is True."""
    return np.where(mask.any(1), mask.shape[1] - mask[:, ::-1].argmax(1), 0)


def may_cut(model: Staged, task: Task) -> bool:
    """Whether what a task keeps of a model's answers has one form at all lengths."""
    return model.ANSWERS != "tokens" or task.ANY_LENGTH


def shortened(x: Any, length: int | None) -> Any:
    """What flows between stages, up to `length` tokens, or as many whole windows; as it is for None.

    Whole numbers that have the form of the mask belong to tokens, as does what has a further axis. Others, such as the
    last state of a recurrent layer, may have that form by chance.
    """
    if length is None:
        return x
    shape = x["mask"].shape
    kept = (
        (slice(None), slice(length)) if len(shape) == 2 else (slice(None), slice(-(-length // shape[2])), slice(length))
    )

    def cut(leaf: Any) -> Any:
        of_tokens = leaf.shape[: len(shape)] == shape and (leaf.ndim > len(shape) or leaf.dtype.kind in "iub")
        return leaf[kept] if of_tokens else leaf

    return jax.tree.map(cut, x)


def ladder(full: int, longest: int, most: int) -> tuple[int, ...]:
    """Lengths to compute at, ascending: the least that holds `longest`, and shorter ones, `most` in all.

    Each is about 0.7 of the one above it, counted from `full`, so that calls with other examples use the same ones.
    What is longer than that is whole windows of it.
    """
    made = [full]
    while (below := -(-round(full * 2 ** (-len(made) / 2)) // 8) * 8) < made[-1] and below >= SHORTEST:
        made.append(below)
    windows = [-(-longest // full)]
    while windows[-1] > 1:
        windows.append(min(windows[-1] - 1, round(0.7 * windows[-1])))
    made = [full * count for count in windows[:-1]] + made
    holding = [length for length in made if length >= longest]
    return tuple(reversed(made[len(holding) - 1 :][: max(1, most)]))


@dataclasses.dataclass(frozen=True, eq=False)
class Lengths:
    """At which lengths the batches of some examples are computed.

    Attributes:
      each: number of places up to the last real token of every example.
      sizes: ascending.
    """

    each: Int[np.ndarray, " n"]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, each: Int[np.ndarray, " n"], x: Any, steps: int) -> "Lengths":
        """For so many steps or batches of `x`."""
        return cls(each, ladder(x["mask"].shape[-1], int(each.max(initial=0)), steps // STEPS + 1))

    def at(self, indices: np.ndarray, weights: np.ndarray | None = None) -> int:
        """The length that holds these examples; those of weight 0 only pad."""
        longest = (self.each[indices] if weights is None else self.each[indices] * (weights > 0)).max(initial=0)
        return next(size for size in self.sizes if size >= longest)


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """Examples as stored, some at a time.

    Attributes:
      batches: pytrees of arrays ``[batch, …]``, all of as many rows; the last rows may only pad.
      order: which example each row is, ``int[n]``; None where they come as they are.
    """

    batches: Iterable[Any]
    order: np.ndarray | None = None

    def by_example(self, made: Any, count: int, axis: int = 0) -> Any:
        """Arrays with a row for each of `count` examples, of those with a row for each that came."""
        if self.order is not None:
            back = np.argsort(self.order)
            return jax.tree.map(lambda rows: rows.take(back, axis), made)
        first = (*(slice(None),) * axis, slice(count))
        return jax.tree.map(lambda rows: rows if rows.shape[axis] == count else rows[first], made)


def stored(model: Staged | None, x: Any, size: int) -> Stored:
    """Arrays ``[n, …]`` in batches of one number of rows, `size` at most; the last rows may only pad.

    Sequences come from long to short, so that the least is computed, and what takes the most memory first.

    Args:
      model: that reads them; None for the examples as they are, in their order.
      x: the arrays.
      size: number of rows.
    """
    count = len(jax.tree.leaves(x)[0])
    batches = evaluation_batches([np.arange(count)], size, [0])[0]
    each = None if model is None else lengths_of(model, x)
    if each is None:
        return Stored(_rows(x, some) for some in batches.indices)
    order = np.argsort(-each, kind="stable")
    indices, lengths = order[batches.indices], Lengths.of(each, x, len(batches.indices))
    pairs = zip(indices, batches.weights, strict=True)
    return Stored((shortened(_rows(x, some), lengths.at(some, weights)) for some, weights in pairs), order)


def streamed_batches(
    source: Source,
    preprocessing: Preprocessing,
    size: int,
    workers: int,
    process: Process = Process(),  # noqa: B008
) -> Stored:
    """All examples in batches as `stored` gives them, in their order and read from `source` as they are asked for.

    Of several processes each gets its own rows; for `workers` see `stream.stream`.
    """
    order = EvaluationOrder((np.arange(len(source)),), size)
    batches = stream(source, preprocessing, order, range(1), workers=workers, process=process, labelled=False)
    return Stored(batch["x"] for batch in batches)


def _rows(x: Any, indices: np.ndarray) -> Any:
    return jax.tree.map(lambda array: array[indices], x)


def lengthened(tree: Any, shape: Any) -> Any:
    """Zeros appended to arrays ``[batch, …]`` until their examples have the shapes of `shape`."""

    def fill(array: Any, to: Any) -> Any:
        short = [(0, 0), *((0, want - has) for want, has in zip(to.shape[1:], array.shape[1:], strict=True))]
        return array if not any(map(any, short)) else jax.numpy.pad(array, short)

    return jax.tree.map(fill, tree, shape)
