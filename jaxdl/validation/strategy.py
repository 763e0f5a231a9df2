"""Ways to run folds, and the choice between them."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import numpy as np

from jaxdl.data.batches import training_batches
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel import mesh as meshes
from jaxdl.training.runners import (
    Runner,
    one_batch,
    over_steps,
    predict_over_steps,
    single_runner,
    stack_batches,
)
from jaxdl.training.setup import Setup
from jaxdl.training.step import Batch, State
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.training.transfer import make_runner

FoldStrategy = Literal["auto", "loop", "vmap", "shard"]
STRATEGIES = get_args(FoldStrategy)
TRIAL_SECONDS, TRIAL_ROUNDS, TRIAL_STEPS = 2.0, 15, 4
TRIAL_SHARE = 0.1  # of the time that the folds themselves will take, at most


Fold = int | BatchedRun  # a fold by its number, or with a seed and numbers of its own


def pad_folds(folds: Sequence[Fold], strategy: str) -> list[Fold]:
    """Under ``shard`` folds come in equal numbers per device: some are run twice and counted once."""
    short = -len(folds) % len(jax.local_devices()) if strategy == "shard" else 0
    return [*folds, *(folds[i % len(folds)] for i in range(short))]


def fold_state(setup: Setup, folds: Sequence[Fold], *, stacked: bool) -> State:
    """Where `folds` start: all in one state ``[folds, …]`` if `stacked`, else the only one."""
    return setup.stacked_states(folds) if stacked else setup.initial_states(folds)[0]


def fold_batches(setup: Setup, folds: Sequence[Fold], epoch: int, *, stacked: bool) -> Batch:
    """Training batches of an epoch: ``[steps, folds, batch]`` if `stacked`, else ``[steps, batch]`` of one fold."""
    draws = [(run.seed, run.fold) for run in map(setup.run, folds)]
    made = {
        (seed, fold): training_batches(list(setup.parts), setup.plan.batch_size, seed, [fold], epoch)[0]
        for seed, fold in dict.fromkeys(draws)  # runs that differ in their numbers alone see the same batches
    }
    return stack_batches([made[draw] for draw in draws]) if stacked else one_batch(made[draws[0]])


def make_fold_runner(setup: Setup, strategy: str, held: int | None = None) -> Runner:
    """The runner of a strategy: for one fold under ``loop``, for stacked ones under ``vmap`` and ``shard``.

    `held` is the number of frozen stages, by default that of the last epoch.
    """
    if strategy == "loop":
        return make_runner(setup, held)
    step = jax.vmap(setup.make_step(held=held), in_axes=(0, 0, None))
    predict = jax.vmap(setup.make_predict(), in_axes=(0, 0, None))
    if strategy == "vmap":
        return single_runner(step, predict, setup.scan)
    mesh = meshes.make_mesh(jax.local_devices(), meshes.FOLD)
    axis = 1 if setup.scan else 0
    lay = partial(meshes.lay_folds, mesh=mesh, fold_axis=axis)
    whole, first = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(meshes.FOLD)

    def put(tree: Any, spec: Any) -> Any:
        return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))

    return Runner(
        lay(over_steps(step, setup.scan), updates_state=True),
        lay(predict_over_steps(predict, setup.scan), updates_state=False),
        setup.scan,
        lambda state: put(state, first),
        lambda shared: put(shared, whole),
        lambda state: jax.device_put(state, jax.local_devices()[0]),
    )


def check_strategy(setup: Setup, strategy: str) -> None:
    """Raises InputError for a strategy that there is not, or by which the folds of `setup` cannot be run."""
    check_choice("fold strategy", strategy, STRATEGIES)
    if strategy not in ("vmap", "shard"):
        return
    if setup.plan.parallel == "pmap":
        raise InputError(f"parallel='pmap' divides the batches of one fold at a time; '{strategy}' runs folds at once")
    if setup.streamed:
        raise InputError(
            f"streamed examples serve one fold at a time ({setup.streamed}); '{strategy}' runs folds at once: use "
            "'loop' or 'auto'"
        )


def choose_strategy(setup: Setup, folds: Sequence[Fold], turns: int = 1) -> tuple[dict[str, Any], dict[str, Runner]]:
    """The strategy for ``auto``: by rule where a measurement has settled it, else by a short trial here and now.

    Folds at once come first in the trial, and win at once where they take less time than compiling another way would.

    Args:
      setup: of all folds.
      folds: that are to be run.
      turns: how often as many are run.

    Returns:
      The choice with its reason, and the runners that were compiled for a trial.
    """
    devices = len(jax.local_devices())
    if len(folds) == 1:
        return {"name": "loop", "reason": "there is one fold"}, {}
    if setup.plan.parallel == "pmap":
        return {"name": "loop", "reason": "pmap divides the batches of one fold at a time"}, {}
    if setup.streamed:
        return {"name": "loop", "reason": f"the examples are streamed, fold by fold ({setup.streamed})"}, {}
    if not setup.scan and devices == 1:
        reason = "rule: convolutions of several folds at once are slow on the CPU (they become grouped convolutions)"
        return {"name": "loop", "reason": reason}, {}
    trials: dict[str, Trial] = {}
    reports = []
    for name in ("vmap" if devices == 1 else "shard", "loop"):
        begin = time.perf_counter()
        try:
            trials[name] = Trial(setup, folds, name)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or name == "loop":
                raise
            reports.append(f"{name} does not fit in memory")
            continue
        compiling, whole = time.perf_counter() - begin, turns * trials[name].whole()
        if name != "loop" and whole < compiling:
            reason = f"{name} takes {whole:.2g} s for all folds, less than it would take to compile another way"
            return {"name": name, "reason": reason, "trial": {name: trials[name].first}}, {name: trials[name].runner}
    budget = min(TRIAL_SECONDS, TRIAL_SHARE * turns * min(trial.whole() for trial in trials.values()))
    times: dict[str, list[float]] = {name: [] for name in trials}
    begin = time.perf_counter()
    for _ in range(TRIAL_ROUNDS):
        for name, trial in trials.items():  # in turn, so that a slow moment of the machine hits all
            times[name].append(trial.seconds())
        if time.perf_counter() - begin > budget:
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
      first: seconds of the steps of all folds, once compiled.
    """

    def __init__(self, setup: Setup, folds: Sequence[Fold], name: str):
        self.runner = make_fold_runner(setup, name)
        self.repeat = len(folds) if name == "loop" else 1
        chosen = folds[:1] if name == "loop" else pad_folds(folds, name)
        batches = fold_batches(setup, chosen, 0, stacked=name != "loop")
        if not setup.scan:
            batches = jax.tree.map(lambda a: a[:TRIAL_STEPS], batches)
        self.batches, self.steps = batches, len(batches.indices)
        state = fold_state(setup, chosen, stacked=name != "loop")
        self.state, self.shared = self.runner.place(_copied(state)), self.runner.place_shared(setup.shared)
        self.once()  # compiles
        self.first = self.seconds()
        self._turns = setup.plan.epochs * setup.steps / self.steps

    def whole(self) -> float:
        """Seconds that the whole training of all folds will take, by the first measurement."""
        return self.first * self._turns

    def once(self) -> float:
        """Takes the steps once (for one fold under ``loop``); the seconds."""
        begin = time.perf_counter()
        self.state, _ = self.runner.take_steps(self.state, self.runner.feed(self.batches, self.shared))
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

    def seconds(self) -> float:
        """Of the steps of all folds."""
        return self.once() * self.repeat


def _copied(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.copy(), tree)
