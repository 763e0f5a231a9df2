"""Which examples make up each batch."""

import dataclasses
from itertools import pairwise

import numpy as np


@dataclasses.dataclass(frozen=True)
class Batches:
    """Indices into the data, and the weight of each row, 0 where it only pads. Shape ``[steps, batch]`` both."""

    indices: np.ndarray
    weights: np.ndarray


def steps_per_epoch(sizes: list[int], batch_size: int) -> int:
    """Steps in which the largest of several training parts is seen once."""
    return max(1, -(-max(sizes) // batch_size))


def spread(examples: np.ndarray, steps: int, width: int) -> Batches:
    """`examples` in their order, divided over `steps` batches as evenly as possible and padded to `width`.

    Even batches, rather than full ones and a rest: no step is taken on two examples, and training parts of slightly
    different size take the same number of steps. Fewer examples than steps are gone through repeatedly.
    """
    if len(examples) < steps:
        examples = np.resize(examples, steps)
    bounds = np.arange(steps + 1) * len(examples) // steps
    indices = np.zeros((steps, width), np.int32)
    weights = np.zeros((steps, width), np.float32)
    for step, (begin, end) in enumerate(pairwise(bounds)):
        indices[step, : end - begin] = examples[begin:end]
        weights[step, : end - begin] = 1
    return Batches(indices, weights)


TURN = 50  # batches that examples are sorted within: each still has others beside it in every epoch


def sorted_in_turns(order: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
    """`order` with every `size` examples of it sorted by their length."""
    turns = [order[begin : begin + size] for begin in range(0, len(order), size)]
    return np.concatenate([turn[np.argsort(lengths[turn], kind="stable")] for turn in turns])


def training_batches(
    parts: list[np.ndarray],
    batch_size: int,
    seed: int,
    folds: list[int],
    epoch: int,
    sample_weights: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
) -> list[Batches]:
    """One epoch of each training part, shuffled from (seed, fold, epoch); all of one shape.

    Args:
      parts: the training indices of all folds, from which the common shape is taken.
      batch_size: largest number of examples in a batch.
      seed: of the run.
      folds: for which of the parts to make batches.
      epoch: counted from 0.
      sample_weights: of all examples, above 0 in the parts; by default 1.
      lengths: of all examples; those of about the same length share a batch. By default batches are drawn at random.
    """
    sizes = [len(part) for part in parts]
    steps = steps_per_epoch(sizes, batch_size)
    width = max(1, -(-max(sizes) // steps))
    made = []
    for fold in folds:
        rng = np.random.default_rng((seed, fold, epoch))
        order = rng.permutation(parts[fold])
        if lengths is None:
            batches = spread(order, steps, width)
        else:
            batches = spread(sorted_in_turns(order, lengths, TURN * width), steps, width)
            place = rng.permutation(steps)
            batches = Batches(batches.indices[place], batches.weights[place])
        if sample_weights is not None:
            weighted = batches.weights * sample_weights[batches.indices].astype(np.float32)
            batches = dataclasses.replace(batches, weights=weighted)
        made.append(batches)
    return made


def evaluation_batches(parts: list[np.ndarray], batch_size: int, folds: list[int]) -> list[Batches]:
    """The parts in their own order, all in one shape, padded at the end."""
    largest = max(len(part) for part in parts)
    steps = steps_per_epoch([largest], batch_size)
    width = -(-largest // steps)
    made = []
    for fold in folds:
        part = parts[fold]
        indices, weights = np.zeros((2, steps * width), np.int64)
        indices[: len(part)], weights[: len(part)] = part, 1
        shape = (steps, width)
        made.append(Batches(indices.reshape(shape).astype(np.int32), weights.reshape(shape).astype(np.float32)))
    return made
