"""The one training loop, over any way of running the step."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import beat, this_process
from jaxdl.training.progress import (
    KEPT,
    Diverged,
    TrainingProgress,
    explain,
    is_finite,
    not_finite,
    resumed,
    snapshot,
)
from jaxdl.training.resume import Interrupted, Saves
from jaxdl.training.runners import Feed, Runner
from jaxdl.training.step import State

Record = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` gives; everything has the runs as first axis.

    Attributes:
      state: after the last step.
      chosen: the state that counts: the best epoch's under early stopping, else the last.
      best: the best epoch's, None without `Selection`.
      best_epoch: from 0, ``int[runs]``; None without.
      rows: of the learning curves.
      held_out: for the held-out examples by the chosen state: ``{"kept", "record"}``, arrays ``[runs, rows, …]``, rows
        of padding included; None without.
      seconds: that the training took, those before an interruption included.
    """

    state: State
    chosen: State
    best: State | None
    best_epoch: np.ndarray | None
    rows: list[dict[str, Any]]
    held_out: dict[str, Any] | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Selection:
    """How a best epoch is found.

    Attributes:
      feed: gives the examples to measure on, after every epoch; None for those held out, whenever they are predicted.
      loss: of their records ``[runs, rows, …]``, with the padding; ``float[runs]``, smaller is better.
      patience: epochs without a smaller loss after which a run stops, and its best epoch counts; None to go on to the
        end, where the last one counts.
    """

    feed: Callable[[Runner], Feed] | None
    loss: Callable[[Record], np.ndarray]
    patience: int | None


OnEpoch = Callable[[int, dict[str, Any], Record | None, np.ndarray], list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Training:
    """What is to be done.

    Attributes:
      runner_at: gives the way of running the steps of an epoch; all on one executor.
      epochs: how many.
      stages: names of all stages from input to output.
      train: gives the batches of an epoch from a step on.
      on_epoch: told the epoch (from 0), its metrics ``[runs]`` (means over its examples in training mode, mean gradient
        norms), the records of the held-out examples ``[runs, rows, …]`` (None where not measured), and which runs had
        stopped before; gives the rows of the learning curves.
      held_out: gives the batches to measure on every `eval_every` epochs and after the last; or None.
      eval_every: see there.
      selection: see `Selection`.
      saves: where the state is kept, to go on from there after an interruption.
      on_steps: called with the number of steps that were just taken.
      first_epoch: how many of the epochs the state has behind it.
      lenient: go on when numbers are not finite, as some of several runs may while others are fine.
    """

    runner_at: Callable[[int], Runner]
    epochs: int
    stages: Sequence[str]
    train: Callable[[Runner, int, int], Feed]
    on_epoch: OnEpoch = lambda *_: []
    held_out: Callable[[Runner], Feed] | None = None
    eval_every: int = 1
    selection: Selection | None = None
    saves: Saves | None = None
    on_steps: Callable[[int], None] | None = None
    first_epoch: int = 0
    lenient: bool = False


def fit(training: Training, begin: Callable[[Executor], State]) -> Fitted:
    """Trains.

    Args:
      training: what is to be done.
      begin: gives the state to start from, for the executor of the training; it is used up.

    Raises:
      Diverged: if the loss, the predictions or the parameters are not finite; it says since when. The last good state
        is saved.
      Interrupted: if `saves` says that the run should stop; the state is saved.
    """
    executor = training.runner_at(training.first_epoch).executor
    found = resumed(training.saves, partial(begin, executor), executor)
    progress, state = found or (TrainingProgress(), executor.place_state(begin(executor)))
    progress.stages, progress.lenient = training.stages, training.lenient
    progress.epoch = max(progress.epoch, training.first_epoch)
    running = _Running(training, progress)
    with running.ending_well():
        runner, lengths = training.runner_at(progress.epoch), set()
        running.beat("reading", slow=True)
        while progress.epoch < training.epochs and not running.stopped.all():
            before, runner = runner, training.runner_at(progress.epoch)
            lengths = lengths if runner is before else set()  # of which its programs are compiled
            for count, batch, shared in training.train(runner, progress.epoch, progress.step):
                running.beat("training", slow=batch.length not in lengths)
                state, metrics = runner.step(state, batch, shared)
                lengths.add(batch.length)
                running.took_steps(runner, state, count, metrics)
            running.end_epoch(runner, state)
    return running.conclude(runner, state)


SNAPSHOT_SHARE = 0.02  # of the time, at most, goes into copies of the last good state


@dataclasses.dataclass
class _Running:
    """A training under way."""

    training: Training
    progress: TrainingProgress
    predicted: dict[str, Any] | None = None  # the held-out examples after the last epoch
    good: tuple[int, Any, Any] | None = None  # what to save of the last state that is known to be finite
    copied: float = -float("inf")  # when, and how long it took
    cost: float = 0.0
    evaluated: Runner | None = None  # the last whose predictions were asked for: they are compiled
    made: list[tuple[int, Any]] = dataclasses.field(default_factory=list)  # metrics that are not gathered yet

    def __post_init__(self) -> None:
        self.begin = time.perf_counter() - self.progress.seconds

    @property
    def seconds(self) -> float:
        """Of the training so far."""
        return time.perf_counter() - self.begin

    @property
    def stopped(self) -> np.ndarray:
        """Which runs have stopped."""
        selection = self.training.selection
        return self.progress.stalled(selection.patience if selection else None)

    def beat(self, doing: str, *, slow: bool = False) -> None:
        """Tells processes that compute together with this one what it does from here on; see `hosts.beat`."""
        beat(f"{doing} in epoch {self.progress.epoch + 1}, step {self.progress.step + 1}", slow=slow)

    def took_steps(self, runner: Runner, state: State, count: int, metrics: Any) -> None:
        """Counts steps that were just taken; saves if that is due."""
        self.made.append((count, metrics))
        self.progress.step += count
        if self.training.on_steps:
            self.training.on_steps(count)
        if self.training.saves and self.training.saves.due():
            self.beat("saving", slow=True)
            self._gather_metrics(runner)
            self._keep(runner, state)
        self.beat("reading")

    def end_epoch(self, runner: Runner, state: State) -> None:
        """After its last step: measures, and counts it."""
        progress = self.progress
        self.beat("evaluating", slow=runner is not self.evaluated)
        self._gather_metrics(runner)
        self._measure(runner, state)
        progress.before = {stage: norms[-1] for stage, norms in progress.metrics["stage_grad_norms"].items()}
        progress.epoch, progress.step, progress.metrics = progress.epoch + 1, 0, None
        self.beat("saving", slow=True)
        self._keep(runner, state)
        self.beat("reading")

    def conclude(self, runner: Runner, state: State) -> Fitted:
        """After the last epoch."""
        training, progress, executor = self.training, self.progress, runner.executor
        self.beat("predicting", slow=runner is not self.evaluated)
        final = executor.fetch_state(state)
        best = final if progress.best is None else final.replace(**progress.best)
        chosen = best if training.selection and training.selection.patience is not None else final
        held = self.predicted
        if training.held_out and (chosen is not final or held is None):
            feed = training.held_out(runner)
            compiled = runner is self.evaluated
            held = runner.predict_all(executor.place_state(chosen), feed, keep=True, compiled=compiled)
        self.beat("finishing", slow=True)
        if training.saves:
            training.saves.close()
        best = best if training.selection else None
        return Fitted(final, chosen, best, progress.best_epoch, progress.rows, held, self.seconds)

    @contextlib.contextmanager
    def ending_well(self) -> Iterator[None]:
        """Whatever stops the training, its saves are whole; if it diverged, the last good state is among them."""
        saves = self.training.saves
        try:
            yield
        except Diverged:
            if saves:
                if self.good:
                    saves.save(*self.good)
                saves.close()
            raise
        except BaseException:
            if saves:  # what is being written is finished first: whoever goes on in this process must not meet it half
                with contextlib.suppress(InputError):  # what stopped the training is what matters
                    saves.close()
            raise

    def _gather_metrics(self, runner: Runner) -> None:
        """Adds metrics to those of the epoch so far, and raises Diverged if a loss is not finite."""
        progress, made, self.made = self.progress, self.made, []
        if made:
            new = runner.join_metrics(made)
            old = progress.metrics
            progress.metrics = new if old is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), old, new)
        if progress.metrics is None or progress.lenient:
            return
        if not is_finite((progress.metrics["loss"], progress.metrics["stage_grad_norms"])):
            raise Diverged(explain(progress, "the loss is"))

    def _measure(self, runner: Runner, state: State) -> None:
        """Ends an epoch: held-out examples, the selection, rows of the curves."""
        progress, training, epoch = self.progress, self.training, self.progress.epoch
        last, stopped, self.predicted = epoch + 1 == training.epochs, self.stopped, None
        if last and not progress.lenient and not is_finite(runner.executor.fetch_state(state.params)):
            raise Diverged(explain(progress, "the parameters are"))
        record = None
        if training.held_out and ((epoch + 1) % training.eval_every == 0 or last):
            found = self._predict(runner, state, training.held_out(runner), keep=last)
            record = found["record"]
            self.predicted = found if last else None
        if selection := training.selection:
            by = record
            if selection.feed:
                by = self._predict(runner, state, selection.feed(runner), keep=False)["record"]
            if by is not None:
                _keep_best(progress, runner, state, np.asarray(selection.loss(by)), stopped)
        if record is not None or selection is not None:
            self.evaluated = runner
        progress.rows += training.on_epoch(epoch, _summarise(progress.metrics), record, stopped)

    def _predict(self, runner: Runner, state: State, feed: Feed, *, keep: bool) -> dict[str, Any]:
        found = runner.predict_all(state, feed, keep=keep, compiled=runner is self.evaluated)
        return _checked(found, self.progress)

    def _keep(self, runner: Runner, state: State) -> None:
        """Saves the state if that is due; now and then copies it to the host, should the next steps diverge."""
        saves = self.training.saves
        if saves is None:
            return
        due, now = saves.due(), time.perf_counter()
        if not due and (this_process().count > 1 or now - self.copied < self.cost / SNAPSHOT_SHARE):
            return  # by its own clock no process does what others take part in
        self.progress.seconds = self.seconds
        self.good = snapshot(runner, state, self.progress)
        self.copied = time.perf_counter()
        self.cost = min(self.cost or np.inf, self.copied - now)
        if not due:
            return
        saves.save(*self.good)
        if saves.stops():
            saves.close()
            raise Interrupted(f"the state after step {self.good[0] // 2} is saved in '{saves.folder}'")


def _checked(found: dict[str, Any], progress: TrainingProgress) -> dict[str, Any]:
    if not progress.lenient and not is_finite(found):
        error = Diverged(explain(progress, "the predictions are"))
        error.rows = not_finite(found)
        raise error
    return found


def _keep_best(
    progress: TrainingProgress, runner: Runner, state: State, losses: np.ndarray, stopped: np.ndarray
) -> None:
    """Takes over the runs whose loss is smaller than ever, on the host."""
    losses = np.where(np.isnan(losses), np.inf, losses)  # a score that is not defined is beaten by any that is
    if progress.best is None:
        better = np.ones_like(losses, bool)
        progress.best_loss, progress.best_epoch = np.full_like(losses, np.inf), np.zeros(losses.shape, int)
    else:
        better = (losses < progress.best_loss) & ~stopped
    if not better.any():
        return
    new = jax.tree.map(np.array, runner.executor.fetch_state({name: getattr(state, name) for name in KEPT}))

    def choose(old: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return np.where(better.reshape(better.shape + (1,) * (fresh.ndim - better.ndim)), fresh, old)

    progress.best = new if progress.best is None else jax.tree.map(choose, progress.best, new)
    progress.best_loss = np.where(better, losses, progress.best_loss)
    progress.best_epoch = np.where(better, progress.epoch, progress.best_epoch)


def _summarise(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of an epoch from those of its steps ``[steps, …]``."""
    others = ("loss", "count", "weight", "grad_norm", "stage_grad_norms")
    weights = {"loss": metrics["weight"], **{name: metrics["count"] for name in metrics if name not in others}}
    # of no weight at all, as where a task counts no part of any example, there is no mean
    weights = {name: np.where(weight.sum(0) == 0, np.nan, weight) for name, weight in weights.items()}
    return {
        **{name: np.average(metrics[name], axis=0, weights=weight) for name, weight in weights.items()},
        "grad_norm": metrics["grad_norm"].mean(0),
        "stage_grad_norms": {stage: norm.mean(0) for stage, norm in metrics["stage_grad_norms"].items()},
        "count": metrics["count"].sum(0),
    }
