"""Many trainings of one program: one after the other, or as many side by side as fit into memory."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import evaluation_batches
from jaxdl.training.feeds import Feeds, MemoryFeeds, make_feeds
from jaxdl.training.loop import fit
from jaxdl.training.resume import RunFolder
from jaxdl.training.runners import Runner, stack_batches
from jaxdl.training.setup import Setup
from jaxdl.training.step import State
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.training.transfer import inner_selection, runner_by_epoch
from jaxdl.validation.strategy import (
    check_strategy,
    choose_strategy,
    fold_batches,
    fold_state,
    make_fold_runner,
    pad_folds,
)

Scores = dict[str, float]  # of a run's test part: what the task measures; all NaN where the training diverged
SCORES = "scores.json"


def run_bytes(setup: Setup, run: BatchedRun) -> int:
    """About how many bytes one run takes on the device beside the data.

    Its state, and the most that is alive at once while a step is computed as it is written down. (A compiler may need
    less: it computes many values where they are used.)
    """
    state = jax.eval_shape(lambda: setup.initial_states([run])[0])
    batch = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), fold_batches(setup, [run], 0, stacked=False)
    )
    traced = jax.make_jaxpr(setup.make_step())(state, batch, setup.shared)
    return sum(map(_bytes, jax.tree.leaves(state))) + _most_alive(traced.jaxpr)


def _most_alive(program: Any) -> int:
    """The largest number of bytes that a program's own values take at any time."""
    last_use = {}
    for place, equation in enumerate(program.eqns):
        last_use |= {id(value): place for value in equation.invars}
    last_use |= {id(value): len(program.eqns) for value in program.outvars}
    alive, most, ends = 0, 0, {}
    for place, equation in enumerate(program.eqns):
        within = [_most_alive(one) for value in equation.params.values() for one in _programs(value)]
        made = {id(out): _bytes(out.aval) for out in equation.outvars}
        alive += sum(made.values())
        most = max(most, alive, alive - sum(made.values()) + max(within, default=0))
        for value, size in made.items():
            ends.setdefault(last_use.get(value, place), []).append(size)
        alive -= sum(ends.pop(place, []))
    return most


def _bytes(value: Any) -> int:
    dtype = getattr(value, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # a random key
        return 0
    return value.size * dtype.itemsize


def _programs(value: Any) -> list[Any]:
    """The programs that an equation runs, such as the body of a loop."""
    if hasattr(value, "jaxpr"):
        return [value.jaxpr]
    if hasattr(value, "eqns"):
        return [value]
    return [one for item in value for one in _programs(item)] if isinstance(value, list | tuple) else []


@dataclasses.dataclass(eq=False)
class BatchedRuns:
    """Trains runs of one setup and measures each on its test part.

    Attributes:
      setup: with the training parts of all folds.
      tests: test indices of all folds.
      strategy: ``loop``, ``vmap`` or ``shard``.
      width: runs side by side at most.
      work: where finished parts, and the state of the one under way, are kept.
      on_steps: told how many steps (of a run) were just taken.
      runners: compiled before, by strategy.
      compiled: programs by number of frozen stages, of other runs that differ in their data alone.
    """

    setup: Setup
    tests: Sequence[np.ndarray]
    strategy: str
    width: int
    work: RunFolder | None = None
    on_steps: Callable[[int], None] | None = None
    runners: dict[str, Runner] = dataclasses.field(default_factory=dict)
    compiled: Callable[[int], Runner] | None = None
    _left: dict[BatchedRun, tuple[int, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        last = self.setup.held[-1]

        def make(held: int) -> Runner:
            if self.strategy in self.runners and held == last:
                return self.runners[self.strategy]
            return make_fold_runner(self.setup, self.strategy, held)

        self.compiled = self.compiled or runner_by_epoch(self.setup, make)

    def run(self, runs: Sequence[BatchedRun], name: str, *, epochs: int, keep: bool = False) -> list[Scores]:
        """Trains `runs` for the first `epochs` of the plan's.

        Args:
          runs: runs that were run, and kept, go on from where they were.
          name: under which the parts are kept.
          epochs: how many, those before included.
          keep: the states, on the host, for a longer run later.
        """
        stacked = self.strategy != "loop"
        size = self._chunk(len(runs)) if stacked else 1
        found = []
        for place, begin in enumerate(range(0, len(runs), size)):
            chunk = list(runs[begin : begin + size])
            full = chunk + [chunk[i % len(chunk)] for i in range(size - len(chunk))]  # so that one program serves all
            found += self._part(f"{name}-{place}", chunk, full, epochs, keep)
        return found

    def _chunk(self, count: int) -> int:
        """Runs side by side: in as few turns as fit, about as many in each."""
        turns = -(-count // self.width)
        return len(pad_folds(range(-(-count // turns)), self.strategy))

    def _part(self, name: str, runs: list[BatchedRun], full: list[BatchedRun], epochs: int, keep: bool) -> list[Scores]:
        finished = self.work.finished_part(name) if self.work else None
        if finished is not None:
            return json.loads((finished / SCORES).read_text())
        scores = self._train(name, runs, full, epochs, keep)
        if self.work:
            with self.work.finish_part(name) as folder:
                (folder / SCORES).write_text(json.dumps(scores))
        return scores

    def _train(
        self, name: str, runs: list[BatchedRun], full: list[BatchedRun], epochs: int, keep: bool
    ) -> list[Scores]:
        setup, stacked = self.setup, self.strategy != "loop"
        begun, state = self._begin(full, stacked)
        with contextlib.closing(self._feeds(full, stacked)) as feeds, np.errstate(all="ignore"):
            fitted = fit(
                self.compiled,
                state,
                epochs=epochs,
                stages=setup.model.stage_names,
                train=feeds.train,
                held_out=feeds.held_out,
                eval_every=epochs,  # once, at the end
                on_epoch=lambda *told: [],
                selection=inner_selection(setup, feeds, [run.fold for run in full], stacked=stacked),
                saves=self.work.part(name) if self.work else None,
                on_steps=None if self.on_steps is None else lambda count: self.on_steps(count * len(runs)),
                first_epoch=begun,
                lenient=True,
            )
            if keep:
                self._keep(runs, fitted.state, epochs, stacked)
            outputs = fitted.outputs if stacked else fitted.outputs[None]
            return [self._score(outputs[place], run.fold) for place, run in enumerate(runs)]

    def _score(self, outputs: np.ndarray, fold: int) -> Scores:
        test = self.tests[fold]
        outputs, labels = outputs[: len(test)], self.setup.labels[test]
        scores = self.setup.task.evaluate(outputs, labels)
        return scores if np.isfinite(outputs).all() else dict.fromkeys(scores, float("nan"))

    def _begin(self, runs: list[BatchedRun], stacked: bool) -> tuple[int, State]:
        """Epochs behind them, and the state; from the beginning if one of them was not kept."""
        if any(run not in self._left for run in runs):
            return 0, fold_state(self.setup, runs, stacked=stacked)
        kept = [self._left[run] for run in runs]
        trees = [tree for _, tree in kept]
        tree = jax.tree.map(lambda *rows: np.stack(rows), *trees) if stacked else trees[0]
        state = jax.tree.map(jax.numpy.asarray, tree)
        return kept[0][0], state.replace(key=jax.random.wrap_key_data(state.key))

    def _keep(self, runs: list[BatchedRun], state: State, epochs: int, stacked: bool) -> None:
        held = jax.tree.map(np.array, state.replace(key=jax.random.key_data(state.key)))
        for place, run in enumerate(runs):
            self._left[run] = epochs, jax.tree.map(lambda a, i=place: a[i], held) if stacked else held

    def _feeds(self, runs: list[BatchedRun], stacked: bool) -> Feeds:
        setup, size = self.setup, self.setup.plan.batch_size
        if not stacked:
            return make_feeds(setup, runs[0], self.tests[runs[0].fold])
        folds = [run.fold for run in runs]
        return MemoryFeeds(
            setup.shared,
            lambda epoch: fold_batches(setup, runs, epoch, stacked=True),
            stack_batches(evaluation_batches(list(self.tests), size, folds)),
            None if setup.inner is None else stack_batches(evaluation_batches(list(setup.inner), size, folds)),
        )


def choose_batching(
    setup: Setup, runs: Sequence[BatchedRun], strategy: str, memory: int
) -> tuple[dict[str, Any], dict[str, Runner]]:
    """How to run `runs`: ``{"name", "reason", "width"}``, and the runners that a trial compiled.

    Args:
      setup: of all of them.
      runs: that are to be run.
      strategy: ``auto``, or the one to take.
      memory: bytes that runs side by side may take.
    """
    check_strategy(setup, strategy)
    if strategy == "loop":
        return {"name": "loop", "reason": "asked for", "width": 1}, {}
    one_by_one = setup.streamed or setup.plan.parallel == "pmap"  # then `choose_strategy` says so
    width = len(runs) if one_by_one else max(1, min(len(runs), memory // run_bytes(setup, runs[0])))
    if strategy != "auto":
        return {"name": strategy, "reason": "asked for", "width": width}, {}
    turns = -(-len(runs) // width)
    choice, runners = choose_strategy(setup, list(runs[: -(-len(runs) // turns)]), turns)
    return {**choice, "width": width if choice["name"] != "loop" else 1}, runners
