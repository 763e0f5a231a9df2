"""Training of K folds, in ways that give the same numbers."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import evaluation_batches
from jaxdl.training.feeds import Feeds, MemoryFeeds, make_feeds
from jaxdl.training.loop import Fitted, fit
from jaxdl.training.resume import RunFolder
from jaxdl.training.runners import Runner, stack_batches
from jaxdl.training.setup import Init, Setup
from jaxdl.training.transfer import history_row, inner_selection, runner_by_epoch, trained_checkpoint
from jaxdl.validation.strategy import (
    check_strategy,
    choose_strategy,
    fold_batches,
    fold_state,
    make_fold_runner,
    pad_folds,
)
from jaxdl.weights.checkpoint import Checkpoint, restore, save

OnRow = Callable[[Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True, eq=False)
class FoldsRun:
    """What training the folds gave.

    Attributes:
      logits: of each fold's test part, in its order, ``float32[test, classes]``.
      seconds: per fold; where folds ran at once, the whole time divided among them.
      strategy: ``{"name", "reason"}``, and ``"trial"``: seconds per epoch of all folds, by strategy.
      rows: of the learning curves.
      best_epochs: of each fold under early stopping, from 1; None without.
      models: of each fold, if they were to be kept.
    """

    logits: list[np.ndarray]
    seconds: list[float]
    strategy: Mapping[str, Any]
    rows: list[dict[str, Any]]
    best_epochs: list[int] | None
    models: list[Checkpoint] | None


def run_folds(
    setup: Setup,
    init: Init,
    tests: Sequence[np.ndarray],
    folds: Sequence[int],
    strategy: str,
    *,
    on_row: OnRow | None = None,
    on_steps: Callable[[int], None] | None = None,
    keep_models: bool = False,
    work: RunFolder | None = None,
) -> FoldsRun:
    """Trains `folds` and predicts their test parts.

    Args:
      setup: with the training parts of all folds.
      init: what it was prepared from.
      tests: test indices of all folds.
      folds: which of them to run.
      strategy: one of `STRATEGIES`.
      on_row: told each row of the curves when it is known.
      on_steps: told how many steps (of a fold) were just taken.
      keep_models: whether to give the trained networks, too.
      work: where the state is kept; folds that are finished there are not run again.
    """
    check_strategy(setup, strategy)
    runners: dict[str, Runner] = {}
    choice = work.recall("strategy") if work else None  # a trial may end otherwise the next time
    if choice is None:
        if strategy == "auto":
            choice, runners = choose_strategy(setup, folds)
        else:
            choice = {"name": strategy, "reason": "asked for"}
        if work:
            work.note("strategy", choice)
    name = choice["name"]
    last = setup.held[-1]

    def make(held: int) -> Runner:
        return runners[name] if name in runners and held == last else make_fold_runner(setup, name, held)

    run = _Run(setup, init, tests, runner_by_epoch(setup, make), on_row, on_steps, keep_models, work)
    if name == "loop":
        for fold in folds:
            run.train(f"fold-{fold}", [fold], [fold], stacked=False)
    else:
        run.train("folds", pad_folds(folds, name), list(folds), stacked=True)
    best = [made["best_epoch"] for made in run.made] if setup.inner is not None else None
    return FoldsRun(
        [made["logits"] for made in run.made],
        [made["seconds"] for made in run.made],
        choice,
        run.rows,
        best,
        [made["model"] for made in run.made] if keep_models else None,
    )


@dataclasses.dataclass
class _Run:
    """Collects what the folds give while they are trained."""

    setup: Setup
    init: Init
    tests: Sequence[np.ndarray]
    runner_at: Callable[[int], Runner]
    on_row: OnRow | None
    on_steps: Callable[[int], None] | None
    keep_models: bool
    work: RunFolder | None
    made: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def train(self, name: str, padded: list[int], folds: list[int], *, stacked: bool) -> None:
        """Trains `folds`, all at once where `stacked`; or reads what became of them in a run before."""
        finished = self.work.finished_part(name) if self.work else None
        if finished is None:
            made, rows = self._train(name, padded, folds, stacked=stacked)
            if self.work:
                with self.work.finish_part(name) as folder:
                    _write_made(folder, made, rows)
        else:
            made, rows = _read_made(finished)
        self.made += made
        self.rows += rows

    def _train(
        self, name: str, padded: list[int], folds: list[int], *, stacked: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        setup, plan = self.setup, self.setup.plan

        def on_epoch(
            epoch: int, metrics: dict[str, Any], logits: np.ndarray | None, stopped: np.ndarray
        ) -> list[dict[str, Any]]:
            rows = []
            for place, fold in enumerate(folds):
                if np.broadcast_to(stopped, len(padded))[place]:
                    continue
                mine = jax.tree.map(lambda a, i=place: a[i], metrics) if stacked else metrics
                evaluated = None
                if logits is not None:
                    test = self.tests[fold]
                    evaluated = (logits[place] if stacked else logits)[: len(test)], setup.labels[test]
                rows.append({"fold": fold, **history_row(setup, epoch, mine, evaluated)})
                if self.on_row:
                    self.on_row(rows[-1])
            return rows

        with contextlib.closing(self._feeds(padded, stacked=stacked)) as feeds:
            fitted = fit(
                self.runner_at,
                fold_state(setup, padded, stacked=stacked),
                epochs=plan.epochs,
                stages=setup.model.stage_names,
                train=feeds.train,
                held_out=feeds.held_out,
                eval_every=plan.eval_every,
                on_epoch=on_epoch,
                selection=inner_selection(setup, feeds, padded, stacked=stacked),
                saves=self.work.part(name) if self.work else None,
                on_steps=None if self.on_steps is None else lambda count: self.on_steps(count * len(folds)),
            )
        return [self._made(fitted, place, fold, len(folds), stacked) for place, fold in enumerate(folds)], fitted.rows

    def _feeds(self, padded: list[int], *, stacked: bool) -> Feeds:
        setup, size = self.setup, self.setup.plan.batch_size
        tests = list(self.tests)
        if not stacked:
            return make_feeds(setup, padded[0], tests[padded[0]])
        return MemoryFeeds(
            setup.shared,
            lambda epoch: fold_batches(setup, padded, epoch, stacked=True),
            stack_batches(evaluation_batches(tests, size, padded)),
            None if setup.inner is None else stack_batches(evaluation_batches(list(setup.inner), size, padded)),
        )

    def _made(self, fitted: Fitted, place: int, fold: int, folds: int, stacked: bool) -> dict[str, Any]:
        """What is left of one fold."""
        logits = fitted.outputs[place] if stacked else fitted.outputs
        made = {"fold": fold, "logits": logits[: len(self.tests[fold])], "seconds": fitted.seconds / folds}
        if self.setup.inner is not None:
            made["best_epoch"] = int(np.atleast_1d(fitted.best_epoch)[place]) + 1
        if self.keep_models:
            state = jax.tree.map(lambda a: a[place], fitted.chosen) if stacked else fitted.chosen
            rows = tuple(row for row in fitted.rows if row["fold"] == fold)
            made["model"] = trained_checkpoint(self.setup, self.init, state, fold, self.setup.source.name, rows)
        return made


def _write_made(folder: Path, made: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    for place, one in enumerate(made):
        np.save(folder / f"{place}.npy", one["logits"])
        if "model" in one:
            save(one["model"], folder / f"model-{place}")
    plain = [{k: v for k, v in one.items() if k not in ("logits", "model")} for one in made]
    (folder / "made.json").write_text(json.dumps({"made": plain, "rows": list(rows)}))


def _read_made(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    held = json.loads((folder / "made.json").read_text())
    for place, one in enumerate(held["made"]):
        one["logits"] = np.load(folder / f"{place}.npy")
        if (folder / f"model-{place}").is_dir():
            one["model"] = dataclasses.replace(restore(folder / f"model-{place}"), path=None)
    return held["made"], held["rows"]
