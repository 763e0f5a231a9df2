"""Where the batches of a training come from: from the data in memory, or streamed."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxdl.data.batches import Batches, evaluation_batches, training_batches
from jaxdl.data.stream import EvaluationOrder, TrainingOrder, stream
from jaxdl.parallel.hosts import this_process
from jaxdl.training.lengths import Lengths
from jaxdl.training.runners import Feed, Runner
from jaxdl.training.setup import Setup
from jaxdl.training.step import Batch, Shared
from jaxdl.training.traced_hyperparameters import BatchedRun


class Feeds(Protocol):
    """The three feeds of a training, as `loop.fit` takes them; the last two only where there is such a part."""

    def train(self, runner: Runner, epoch: int, first: int) -> Feed: ...

    def held_out(self, runner: Runner) -> Feed: ...

    def inner(self, runner: Runner) -> Feed: ...

    def close(self) -> None: ...


def side_by_side(batches: Sequence[Batches]) -> Batch:
    """Batches of several runs: ``[steps, runs, rows]``."""
    return Batch(np.stack([b.indices for b in batches], axis=1), np.stack([b.weights for b in batches], axis=1))


def epoch_batches(setup: Setup, runs: Sequence[BatchedRun], epoch: int) -> Batch:
    """Training batches of an epoch, ``[steps, runs, rows]``."""
    draws, parts, size = [(run.seed, run.fold) for run in runs], list(setup.parts), setup.plan.batch_size
    lengths = setup.lengths.each if setup.plan.group_by_length else None
    made = {
        (seed, fold): training_batches(parts, size, seed, [fold], epoch, setup.sample_weights, lengths)[0]
        for seed, fold in dict.fromkeys(draws)  # runs that differ in their numbers alone see the same batches
    }
    return side_by_side([made[draw] for draw in draws])


@dataclasses.dataclass(eq=False)
class MemoryFeeds:
    """From data that is on the device, which the batches index.

    Attributes:
      shared: the data.
      train_batches: gives those of an epoch.
      held_out_batches, inner_batches: None where there are none.
      lengths: at which batches are computed; None where nothing is cut.
    """

    shared: Shared
    train_batches: Callable[[int], Batch]
    held_out_batches: Batch | None
    inner_batches: Batch | None
    lengths: Lengths | None = None
    _placed: Shared | None = None

    def train(self, runner: Runner, epoch: int, first: int) -> Feed:
        return self._feed(runner, self.train_batches(epoch), first)

    def held_out(self, runner: Runner) -> Feed:
        return self._feed(runner, self.held_out_batches)

    def inner(self, runner: Runner) -> Feed:
        return self._feed(runner, self.inner_batches)

    def close(self) -> None:
        self._placed = None

    def _feed(self, runner: Runner, batches: Batch, first: int = 0) -> Feed:
        lengths = self.lengths
        length_of = (lambda _: None) if lengths is None else lambda batch: lengths.at(batch.indices, batch.weights)
        return runner.feed(batches, self._place(runner), first, length_of)

    def _place(self, runner: Runner) -> Shared:
        if self._placed is None:
            self._placed = runner.place_shared(self.shared)
        return self._placed


class StreamFeeds:
    """Of a single run, read in each epoch; each step brings its own examples to the device.

    The worker processes of each of the three are started once, not in every epoch; measuring has one at most, since it
    waits while training runs.
    """

    def __init__(self, setup: Setup, run: BatchedRun, held_out: np.ndarray | None):
        self.setup = setup
        size, parts, fold = setup.plan.batch_size, tuple(setup.parts), run.fold
        self._order = TrainingOrder(parts, size, run.seed, fold, setup.sample_weights)
        self._streams: dict[str, Iterator[dict[str, Any]]] = {}
        self._next = (0, 0)
        self._frozen: Any = None
        inner = None if setup.inner is None else setup.inner[fold]
        self._parts = {"held out": held_out, "inner": inner}

    def train(self, runner: Runner, epoch: int, first: int) -> Feed:
        if first == self.setup.steps:  # saved between the last step of an epoch and its end
            return
        if "train" not in self._streams or self._next != (epoch, first):
            epochs = range(epoch, self.setup.plan.epochs)
            self._streams["train"] = self._open(self._order, epochs, first, self.setup.workers)
        for step in range(first, self.setup.steps):
            yield self._taken("train", runner)
            self._next = (epoch, step + 1) if step + 1 < self.setup.steps else (epoch + 1, 0)

    def held_out(self, runner: Runner) -> Feed:
        return self._evaluate("held out", runner)

    def inner(self, runner: Runner) -> Feed:
        return self._evaluate("inner", runner)

    def close(self) -> None:
        for opened in self._streams.values():
            opened.close()
        self._streams.clear()

    def _evaluate(self, name: str, runner: Runner) -> Feed:
        order = EvaluationOrder((self._parts[name],), self.setup.plan.batch_size)
        if name not in self._streams:
            # after the last epoch the chosen state may be measured once more
            self._streams[name] = self._open(order, range(self.setup.plan.epochs + 1), 0, min(1, self.setup.workers))
        for _ in range(len(order(0).indices)):
            yield self._taken(name, runner)

    def _open(self, order: Any, epochs: range, first: int, workers: int) -> Iterator[dict[str, Any]]:
        how = {"start_step": first, "workers": workers, "process": this_process()}
        return stream(self.setup.source, self.setup.preprocessing, order, epochs, **how)

    def _taken(self, name: str, runner: Runner) -> tuple[int, Batch, Shared]:
        made = next(self._streams[name])
        # of what is divided as the batch is, every device has its rows: none are fetched from others
        rows = None if runner.executor.divides_rows else np.arange(len(made["weights"]), dtype=np.int32)
        if self._frozen is None:  # to the devices once
            self._frozen = runner.place_shared(Shared((), (), self.setup.shared.frozen)).frozen
        targets = self.setup.task.device_targets(made["y"])
        shared = runner.place_shared(Shared(made["x"], targets, {})).replace(frozen=self._frozen)
        return 1, jax.tree.map(lambda array: array[None], Batch(rows, made["weights"])), shared


def make_feeds(setup: Setup, runs: Sequence[BatchedRun], held_out: Sequence[np.ndarray] | None) -> Feeds:
    """The feeds of runs side by side.

    Args:
      setup: of all folds.
      runs: a single one where the examples are streamed.
      held_out: indices that each fold measures on; None for none.
    """
    folds, size = [run.fold for run in runs], setup.plan.batch_size
    if setup.streamed:
        return StreamFeeds(setup, runs[0], None if held_out is None else held_out[folds[0]])

    def evaluated(parts: Sequence[np.ndarray] | None) -> Batch | None:
        return None if parts is None else side_by_side(evaluation_batches(list(parts), size, folds))

    return MemoryFeeds(
        setup.shared,
        lambda epoch: epoch_batches(setup, runs, epoch),
        evaluated(held_out),
        evaluated(setup.inner),
        setup.lengths,
    )
