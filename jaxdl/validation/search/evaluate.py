"""Trains configurations on training parts, group by group, and measures each on its test part."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore, memory_limit
from jaxdl.training.prepare import prepare
from jaxdl.training.setup import Setup, choose_preprocessing
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.validation.batched_runs import BatchedRuns, Scores
from jaxdl.validation.search.configurations import Configuration, Group
from jaxdl.validation.search.inner import Part
from jaxdl.validation.splits import Split
from jaxdl.validation.strategy import choose_batching
from jaxdl.validation.told import BatchingTold
from jaxdl.weights.checkpoint import Checkpoint

Trained = tuple[int, Part, int]  # configuration, part, seed


@dataclasses.dataclass(eq=False)
class Evaluation:
    """All that training a configuration on a part takes.

    Attributes:
      source: labelled examples.
      task: what is asked of them.
      splits: by name; the folds of one all take the same number of steps.
      groups: of the configurations.
      seeds: of the repetitions.
      execution: how all is executed; what the groups have in common of the data is kept in its store.
      chosen: how each group is run, once that is known.
    """

    source: Source
    task: Task
    splits: dict[str, Split]
    groups: Sequence[Group]
    seeds: Sequence[int]
    execution: Execution
    chosen: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    _runs: dict[Trained, BatchedRun] = dataclasses.field(default_factory=dict)
    _ready: dict[tuple[int, int | None], dict[str, BatchedRuns]] = dataclasses.field(default_factory=dict)
    _programs: dict[tuple[int, str], Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.execution.store is None:
            size = min(group.first.plan.batch_size for group in self.groups)
            self.execution = self.execution.replace(store=DataStore(size))

    def run(
        self, wanted: Iterable[tuple[int, Part]], name: str, *, share: tuple[int, int] = (1, 1), keep: bool = False
    ) -> dict[Trained, Scores]:
        """Scores of configurations on the test parts of folds, for every seed.

        Args:
          wanted: numbers of configurations, each with a part.
          name: under which finished parts are kept.
          share: of the plan's epochs to train for: numerator and denominator are epochs.
          keep: what is needed to train for longer later.
        """
        wanted = set(wanted)
        found: dict[Trained, Scores] = {}
        for number, group in enumerate(self.groups):
            members = [one for one in group.configurations if any(one.number == c for c, _ in wanted)]
            if not members:
                continue
            epochs = max(1, round(group.first.plan.epochs * share[0] / share[1]))
            for alone in self._seeds_of(group):
                for split in self.splits:
                    asked = [
                        (one.number, (split, fold), seed)
                        for one in members
                        for fold in range(len(self.splits[split]))
                        for seed in (self.seeds if alone is None else [alone])
                        if (one.number, (split, fold)) in wanted
                    ]
                    if asked:
                        runs = [self._run(group, one) for one in asked]
                        ready = self._prepared(number, alone, runs, split)
                        label = f"{name}-{number}-{split}" + ("" if alone is None else f"-seed-{alone}")
                        made = ready.run(runs, label, epochs=epochs, resumable=keep)
                        found |= dict(zip(asked, [one.scores for one in made], strict=True))
                if not keep:
                    self._ready.pop((number, alone), None)  # its data goes, too
            if not keep:
                self._programs = {key: made for key, made in self._programs.items() if key[0] != number}
        return found

    def _seeds_of(self, group: Group) -> list[int | None]:
        """None where one program serves all seeds; else each by itself: frozen weights or inner parts depend on it."""
        one = group.first
        apart = one.plan.early_stopping or (not isinstance(one.init, Checkpoint) and one.plan.freezes)
        return list(self.seeds) if apart else [None]

    def _run(self, group: Group, asked: Trained) -> BatchedRun:
        if asked not in self._runs:
            configuration = next(one for one in group.configurations if one.number == asked[0])
            self._runs[asked] = BatchedRun(asked[1][1], asked[2], group.traced(configuration))
        return self._runs[asked]

    def _prepared(self, number: int, seed: int | None, runs: list[BatchedRun], split: str) -> BatchedRuns:
        ready = self._ready.setdefault((number, seed), {})
        if not ready:
            whole = self._prepare(self.groups[number].first, seed)
            begin = 0
            for name, one in self.splits.items():
                setup = _some_of(whole, slice(begin, begin + len(one)))
                ready[name] = BatchedRuns(setup, one.test, "", 1, self.execution)
                begin += len(one)
        found = ready[split]
        if not found.strategy:
            runners = {}
            if number not in self.chosen:
                self.chosen[number], runners = self._choose(number, found.setup, runs)
            choice = self.chosen[number]
            ready[split] = found = dataclasses.replace(
                found,
                strategy=choice["name"],
                width=choice["width"],
                runners=runners,
                compiled=self._programs.get((number, split)),  # seeds that need data of their own share the programs
            )
            self._programs[number, split] = found.compiled
        return found

    def _choose(self, number: int, setup: Setup, runs: list[BatchedRun]) -> tuple[dict[str, Any], dict[str, Any]]:
        execution = self.execution
        # a trial may end otherwise the next time
        known = execution.work.recall(f"group-{number}", BatchingTold) if execution.work else None
        if known:
            return known, {}
        memory = memory_limit() if execution.memory is None else execution.memory
        choice, runners = choose_batching(setup, runs, execution.fold_strategy, memory)
        if execution.work:
            execution.work.note(f"group-{number}", choice)
        return choice, runners

    def _prepare(self, one: Configuration, seed: int | None) -> Setup:
        plan = one.plan if seed is None else dataclasses.replace(one.plan, seed=seed)
        setup = prepare(
            one.init,
            self.source,
            plan,
            [part for split in self.splits.values() for part in split.train],
            self.task,
            self.execution.remembering(),
            preprocessing=choose_preprocessing(one.init, self.source, self.execution.image_size),
        )
        self.execution.remember(bool(setup.streamed))
        return setup


def _some_of(setup: Setup, chosen: slice) -> Setup:
    """The setup of some of the folds: its batches are theirs."""
    parts = setup.parts[chosen]
    inner = None if setup.inner is None else setup.inner[chosen]
    return dataclasses.replace(setup, parts=parts, inner=inner)


def averaged(table: dict[Trained, Scores], seeds: Sequence[int], number: int, part: Part) -> Scores:
    """The mean over seeds of each score; NaN where one diverged."""
    rows = [table[number, part, seed] for seed in seeds]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
