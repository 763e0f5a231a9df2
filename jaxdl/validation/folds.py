"""Three ways to train K folds that give the same numbers, and the choice between them."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.batches import evaluation_batches, training_batches
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel import mesh as meshes
from jaxdl.training.loop import (
    Runner,
    data_parallel_runner,
    fit,
    one_batch,
    over_steps,
    predict_over_steps,
    single_runner,
    stack_batches,
)
from jaxdl.training.setup import Setup
from jaxdl.training.step import Batch, State
from jaxdl.training.transfer import history_row

FoldStrategy = Literal["auto", "loop", "vmap", "shard"]
STRATEGIES = get_args(FoldStrategy)
TRIAL_SECONDS, TRIAL_ROUNDS, TRIAL_STEPS = 2.0, 15, 4

OnRow = Callable[[Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True, eq=False)
class FoldsRun:
    """What training the folds gave.

    Attributes:
      logits: of each fold's test part, in its order, ``float32[test, classes]``.
      seconds: per fold; where folds ran at once, the whole time divided among them.
      strategy: ``{"name", "reason"}``, and ``"trial"``: seconds per epoch of all folds, by strategy.
      rows: of the learning curves.
    """

    logits: list[np.ndarray]
    seconds: list[float]
    strategy: Mapping[str, Any]
    rows: list[dict[str, Any]]


def make_fold_runner(setup: Setup, strategy: str) -> Runner:
    """The runner of a strategy: for one fold under ``loop``, for stacked ones under ``vmap`` and ``shard``."""
    if strategy == "loop":
        return data_parallel_runner(
            setup.plan.parallel, setup.make_step, setup.make_predict(), setup.scan, jax.local_devices()
        )
    step = jax.vmap(setup.make_step(), in_axes=(0, 0, None))
    predict = jax.vmap(setup.make_predict(), in_axes=(0, 0, None))
    if strategy == "vmap":
        return single_runner(step, predict, setup.scan)
    mesh = meshes.make_mesh(jax.local_devices(), meshes.FOLD)
    axis = 1 if setup.scan else 0
    lay = partial(meshes.lay_folds, mesh=mesh, fold_axis=axis)
    whole, first = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(meshes.FOLD)

    def place(state: State, shared: Any) -> tuple[State, Any]:
        put = lambda tree, spec: jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))  # noqa: E731
        return put(state, first), put(shared, whole)

    return Runner(
        lay(over_steps(step, setup.scan), updates_state=True),
        lay(predict_over_steps(predict, setup.scan), updates_state=False),
        setup.scan,
        place,
        lambda state: jax.device_put(state, jax.local_devices()[0]),
    )


def choose_strategy(setup: Setup, folds: Sequence[int]) -> tuple[dict[str, Any], dict[str, Runner]]:
    """The strategy for ``auto``: by rule where a measurement has settled it, else by a short trial here and now.

    Returns:
      The choice with its reason, and the runners that were compiled for a trial.
    """
    devices = len(jax.local_devices())
    if len(folds) == 1:
        return {"name": "loop", "reason": "there is one fold"}, {}
    if setup.plan.parallel == "pmap":
        return {"name": "loop", "reason": "pmap divides the batches of one fold at a time"}, {}
    if not setup.scan and devices == 1:
        reason = "rule: convolutions of several folds at once are slow on the CPU (they become grouped convolutions)"
        return {"name": "loop", "reason": reason}, {}
    candidates = ("loop", "vmap") if devices == 1 else ("loop", "shard")
    trials: dict[str, Trial] = {}
    reports = []
    for name in candidates:
        try:
            trials[name] = Trial(setup, folds, name)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or name == "loop":
                raise
            reports.append(f"{name} does not fit in memory")
    times: dict[str, list[float]] = {name: [] for name in trials}
    begin = time.perf_counter()
    for _ in range(TRIAL_ROUNDS):
        for name, trial in trials.items():  # in turn, so that a slow moment of the machine hits all
            times[name].append(trial.seconds())
        if time.perf_counter() - begin > TRIAL_SECONDS:
            break
    medians = {name: float(np.median(values)) for name, values in times.items()}
    best = min(medians, key=medians.__getitem__)
    reports += [f"{name} {medians[name] * 1e3:.3g} ms" for name in medians]
    tried = "an epoch" if setup.scan else f"{TRIAL_STEPS} steps"
    reason = f"trial, {tried} of all folds: {', '.join(reports)}"
    return {"name": best, "reason": reason, "trial": medians}, {n: trial.runner for n, trial in trials.items()}


class Trial:
    """A strategy, compiled and ready to be timed; what it trains is thrown away.

    Attributes:
      repeat: how often `once` must run to take the steps of all folds.
      steps: how many it takes of each fold.
    """

    def __init__(self, setup: Setup, folds: Sequence[int], name: str):
        self.runner = make_fold_runner(setup, name)
        self.repeat = len(folds) if name == "loop" else 1
        chosen = folds[:1] if name == "loop" else pad_folds(folds, name)
        batches = _batches(setup, chosen, 0, stacked=name != "loop")
        if not setup.scan:
            batches = jax.tree.map(lambda a: a[:TRIAL_STEPS], batches)
        self.batches, self.steps = batches, len(batches.indices)
        state = _state(setup, chosen, stacked=name != "loop")
        self.state, self.shared = self.runner.place(_copied(state), setup.shared)
        self.once()  # compiles

    def once(self) -> float:
        """Takes the steps once (for one fold under ``loop``); the seconds."""
        begin = time.perf_counter()
        self.state, _ = self.runner.train_epoch(self.state, self.batches, self.shared)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

    def seconds(self) -> float:
        """Of the steps of all folds."""
        return self.once() * self.repeat


def _copied(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.copy(), tree)


def pad_folds(folds: Sequence[int], strategy: str) -> list[int]:
    """Under ``shard`` folds come in equal numbers per device: some are run twice and counted once."""
    short = -len(folds) % len(jax.local_devices()) if strategy == "shard" else 0
    return [*folds, *(folds[i % len(folds)] for i in range(short))]


def _state(setup: Setup, folds: Sequence[int], *, stacked: bool) -> State:
    states = setup.initial_states(folds)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states) if stacked else states[0]


def _batches(setup: Setup, folds: Sequence[int], epoch: int, *, stacked: bool) -> Batch:
    made = training_batches(list(setup.parts), setup.plan.batch_size, setup.plan.seed, list(folds), epoch)
    return stack_batches(made) if stacked else one_batch(made[0])


def run_folds(
    setup: Setup, tests: Sequence[np.ndarray], folds: Sequence[int], strategy: str, on_row: OnRow | None = None
) -> FoldsRun:
    """Trains `folds` and predicts their test parts.

    Args:
      setup: with the training parts of all folds.
      tests: test indices of all folds.
      folds: which of them to run.
      strategy: one of `STRATEGIES`.
      on_row: told each row of the curves when it is known.
    """
    check_choice("fold strategy", strategy, STRATEGIES)
    if setup.plan.parallel == "pmap" and strategy in ("vmap", "shard"):
        raise InputError(f"parallel='pmap' divides the batches of one fold at a time; '{strategy}' runs folds at once")
    runners: dict[str, Runner] = {}
    if strategy == "auto":
        choice, runners = choose_strategy(setup, folds)
    else:
        choice = {"name": strategy, "reason": "asked for"}
    name = choice["name"]
    runner = runners.get(name) or make_fold_runner(setup, name)
    run = _Run(setup, tests, runner, on_row)
    if name == "loop":
        for fold in folds:
            run.train([fold], [fold], stacked=False)
    else:
        run.train(pad_folds(folds, name), list(folds), stacked=True)
    return FoldsRun(run.logits, run.seconds, choice, run.rows)


@dataclasses.dataclass
class _Run:
    """Collects what the folds give while they are trained."""

    setup: Setup
    tests: Sequence[np.ndarray]
    runner: Runner
    on_row: OnRow | None
    logits: list[np.ndarray] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def train(self, padded: list[int], folds: list[int], *, stacked: bool) -> None:
        setup, plan = self.setup, self.setup.plan
        last: dict[int, np.ndarray] = {}

        def on_epoch(epoch: int, metrics: dict[str, np.ndarray], logits: np.ndarray | None) -> None:
            for place, fold in enumerate(folds):
                test = self.tests[fold]
                mine = jax.tree.map(lambda a, i=place: a[i], metrics) if stacked else metrics
                last[fold] = (logits[place] if stacked else logits)[: len(test)]
                row = history_row(setup, epoch, mine, (last[fold], setup.data.labels[test]))
                self.rows.append({"fold": fold, **row})
                if self.on_row:
                    self.on_row(self.rows[-1])

        made = evaluation_batches(list(self.tests), plan.batch_size, padded)
        begin = time.perf_counter()
        state = fit(
            self.runner,
            _state(setup, padded, stacked=stacked),
            setup.shared,
            epochs=plan.epochs,
            train_batches=lambda epoch: _batches(setup, padded, epoch, stacked=stacked),
            eval_batches=stack_batches(made) if stacked else one_batch(made[0]),
            on_epoch=on_epoch,
        )
        jax.block_until_ready(state)
        seconds = time.perf_counter() - begin
        self.logits += [last[fold] for fold in folds]
        self.seconds += [seconds / len(folds)] * len(folds)
