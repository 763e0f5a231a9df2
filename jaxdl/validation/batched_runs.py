"""Many trainings of one program: one after the other, or as many side by side as fit into memory.

Folds, seeds and numeric hyperparameters are all put along one axis; this is the one piece of code that trains them,
resumably.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import on_first
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import make_feeds
from jaxdl.training.loop import Fitted, Record, Training, fit
from jaxdl.training.progress import Diverged, not_finite
from jaxdl.training.resume import RESTART, RunFolder
from jaxdl.training.runners import Runner
from jaxdl.training.setup import Init, Setup
from jaxdl.training.step import State
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.training.transfer import held_in, history_row, inner_selection, of_run, runner_on, trained_checkpoint
from jaxdl.validation.strategy import executor_of, pad_runs
from jaxdl.weights.checkpoint import Checkpoint, restore, save
from jaxdl.weights.files import from_plain, read_json, read_npz, reading

Scores = dict[str, float]
MADE = "made.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What is left of one run.

    Attributes:
      scores: of its test part: what the task measures; all NaN where the training diverged.
      held_out: ``{"kept", "record"}`` of the test part, in its order; None where they were not to be kept.
      rows: of its learning curve; none where they were not to be kept.
      seconds: its share of the time.
      best_epoch: under early stopping, from 1; else None.
      model: the trained network, if it was to be kept.
    """

    scores: Scores
    held_out: dict[str, Any] | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0
    best_epoch: int | None = None
    model: Checkpoint | None = None


@dataclasses.dataclass(eq=False)
class BatchedRuns:
    """Trains runs of one setup and measures each on the test part of its fold.

    Attributes:
      setup: of all folds.
      tests: test indices of all folds.
      strategy: ``loop``, ``vmap`` or ``shard``.
      width: runs side by side at most.
      execution: where the state is kept, and what is called with steps.
      init: what the setup was prepared from; None where nothing but scores is kept.
      runners: that a trial compiled, by strategy.
      compiled: programs by number of frozen stages and of runs, of other runs that differ in their data alone.
    """

    setup: Setup
    tests: Sequence[np.ndarray]
    strategy: str
    width: int
    execution: Execution = Execution()  # noqa: RUF009
    init: Init | None = None
    runners: Mapping[str, Runner] = dataclasses.field(default_factory=dict)
    compiled: Callable[[int, int], Runner] | None = None
    _left: dict[BatchedRun, tuple[int, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        setup = self.setup

        @cache
        def compiled(held: int, runs: int) -> Runner:
            executor, known = executor_of(setup, self.strategy, runs), self.runners.get(self.strategy)
            if known is not None and held == setup.held[-1] and known.executor == executor:
                return known
            return runner_on(executor, setup, held)

        self.compiled = self.compiled or compiled

    def run(
        self, runs: Sequence[BatchedRun], name: str, *, epochs: int | None = None, resumable: bool = False
    ) -> list[Outcome]:
        """Trains `runs` for the first `epochs` of the plan's.

        Args:
          runs: those that were trained before, and left, go on from where they were.
          name: under which the parts are kept.
          epochs: how many, those before included; by default all.
          resumable: leave the states, on the host, for a longer run later.
        """
        size = 1 if self.strategy == "loop" else self._chunk(len(runs))
        found: list[Outcome] = []
        whole = epochs or self.setup.plan.epochs
        self.execution.expect(sum(self.setup.steps * (whole - self._left.get(run, (0,))[0]) for run in runs))
        for place, begin in enumerate(range(0, len(runs), size)):
            chunk = list(runs[begin : begin + size])
            full = chunk + [chunk[i % len(chunk)] for i in range(size - len(chunk))]  # so that one program serves all
            found += self._part(f"{name}-{place}", chunk, full, whole, resumable)
        return found

    def _chunk(self, count: int) -> int:
        """Runs side by side: in as few turns as fit, about as many in each."""
        turns = -(-count // self.width)
        return len(pad_runs(range(-(-count // turns)), self.strategy, self.setup.layout))

    def _part(
        self, name: str, runs: list[BatchedRun], full: list[BatchedRun], epochs: int, resumable: bool
    ) -> list[Outcome]:
        work = self.execution.work
        finished = work.finished_part(name) if work else None
        if finished is not None:
            return _read(finished, len(runs), self.setup.model)
        made = self._train(name, runs, full, epochs, resumable)
        if work:
            on_first(lambda: _write_part(work, name, made))
        return made

    def _train(
        self, name: str, runs: list[BatchedRun], full: list[BatchedRun], epochs: int, resumable: bool
    ) -> list[Outcome]:
        setup, execution, whole = self.setup, self.execution, self.init is not None
        begun, begin = self._begin(full)

        def on_epoch(
            epoch: int, metrics: dict[str, Any], record: Record | None, stopped: np.ndarray
        ) -> list[dict[str, Any]]:
            rows = []
            for place, run in enumerate(runs) if whole else ():
                if np.broadcast_to(stopped, len(full))[place]:
                    continue
                test = self.tests[run.fold]
                mine = None if record is None else setup.record_of(of_run(record, place, len(test)), test)
                rows.append({"fold": run.fold, **history_row(setup, epoch, of_run(metrics, place), mine)})
                execution.tell(rows[-1])
            return rows

        with contextlib.closing(make_feeds(setup, full, self.tests)) as feeds, np.errstate(all="ignore"):
            training = Training(
                lambda epoch: self.compiled(held_in(setup, epoch), len(full)),
                epochs,
                setup.model.stage_names,
                feeds.train,
                on_epoch,
                feeds.held_out,
                setup.plan.eval_every if whole else epochs,
                inner_selection(setup, feeds, [run.fold for run in full]),
                execution.work.part(name) if execution.work else None,
                None if execution.on_steps is None else lambda count: execution.on_steps(count * len(runs)),
                first_epoch=begun,
                lenient=not whole,
            )
            try:
                fitted = fit(training, begin)
            except Diverged as error:
                raise self._of_fold(error, runs) from error
            if resumable:
                self._leave(runs, fitted.state, epochs)
            return [self._outcome(fitted, place, run, len(runs)) for place, run in enumerate(runs)]

    def _outcome(self, fitted: Fitted, place: int, run: BatchedRun, count: int) -> Outcome:
        task, test = self.setup.task, self.tests[run.fold]
        held = of_run(fitted.held_out, place, len(test))
        bad = not_finite(held, 1)
        if self.init is None:
            scores = task.evaluate_record(self.setup.record_of(held["record"], test))
        else:
            held["kept"] = task.read(held["kept"], self.setup.source, test)
            scores = task.evaluate(held["kept"], self.setup.targets_of(test))
        if bad.any():
            if self.init is not None:  # what is predicted counts: no result is made of it
                raise Diverged(_not_finite_said(run.fold, bad))
            scores = dict.fromkeys(scores, float("nan"))
        if self.init is None:
            return Outcome(scores)
        best = None if self.setup.inner is None else int(fitted.best_epoch[place]) + 1
        rows = tuple(row for row in fitted.rows if row["fold"] == run.fold)
        model = None
        if self.execution.keep_models:
            model = trained_checkpoint(self.setup, self.init, of_run(fitted.chosen, place), run.fold, rows)
            tested = self.setup.source.hashes()[test]
            model = dataclasses.replace(model, card=model.card.with_tested(tested))
        return Outcome(scores, held, rows, fitted.seconds / count, best, model)

    def _of_fold(self, error: Diverged, runs: Sequence[BatchedRun]) -> Diverged:
        """The error with the fold, and how many of its predictions are not finite, where it says so."""
        if error.rows is not None:
            for run, bad in zip(runs, error.rows, strict=False):
                if (mine := bad[: len(self.tests[run.fold])]).any():
                    return Diverged(f"{_not_finite_said(run.fold, mine)}: {error}")
        return Diverged(f"fold {runs[0].fold}: {error}") if len(runs) == 1 and len(self.tests) > 1 else error

    def _begin(self, runs: list[BatchedRun]) -> tuple[int, Callable[[Executor], State]]:
        """Epochs behind them, and what gives the state; from the beginning if one of them was not left."""
        if any(run not in self._left for run in runs):
            return 0, partial(self.setup.states, runs)
        left = [self._left[run] for run in runs]

        def stacked(_: Executor) -> State:
            state = jax.tree.map(lambda *rows: np.stack(rows), *(tree for _, tree in left))
            return state.replace(key=jax.random.wrap_key_data(state.key))

        return left[0][0], stacked

    def _leave(self, runs: list[BatchedRun], state: State, epochs: int) -> None:
        held = jax.tree.map(np.array, state.replace(key=jax.random.key_data(state.key)))
        for place, run in enumerate(runs):
            self._left[run] = epochs, of_run(held, place)


def _not_finite_said(fold: int, bad: np.ndarray) -> str:
    return (
        f"fold {fold}: {int(bad.sum())} of the {len(bad)} predictions of its test examples are not finite (NaN or "
        "infinity); look at these examples, and at the learning rate"
    )


def _write_part(work: RunFolder, name: str, made: Sequence[Outcome]) -> None:
    with work.finish_part(name) as folder:
        _write(folder, made)


def _write(folder: Path, made: Sequence[Outcome]) -> None:
    plain = []
    for place, one in enumerate(made):
        if one.held_out is not None:
            leaves, _ = jax.tree.flatten(one.held_out)
            np.savez(folder / f"{place}.npz", **{f"{i}": leaf for i, leaf in enumerate(leaves)})
        if one.model is not None:
            save(one.model, folder / f"model-{place}")
        structure = None if one.held_out is None else jax.tree.map(lambda _: 0, one.held_out)
        plain.append(
            {
                "scores": one.scores,
                "structure": structure,
                "rows": list(one.rows),
                "seconds": one.seconds,
                "best_epoch": one.best_epoch,
            }
        )
    (folder / MADE).write_text(json.dumps(plain))


def _read(folder: Path, count: int, network: Staged) -> list[Outcome]:
    told, made = read_json(folder / MADE, list[dict], RESTART), []
    with reading(folder / MADE, RESTART):
        if len(told) != count:
            raise ValueError(f"it has {len(told)} trainings, not {count}")
    for place, one in enumerate(told):
        arrays, held, model = folder / f"{place}.npz", None, None
        if (structure := one.pop("structure", None)) is not None:
            leaves = read_npz(arrays, RESTART)
            with reading(arrays, RESTART):
                held = jax.tree.unflatten(jax.tree.structure(structure), [leaves[f"{i}"] for i in range(len(leaves))])
        if (folder / f"model-{place}").is_dir():
            model = dataclasses.replace(restore(folder / f"model-{place}", network), path=None)
        with reading(folder / MADE, RESTART):
            made.append(from_plain(Outcome, one, held_out=held, model=model))
    return made
