"""Ways to run trainings of one program, and the choice between them."""

import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.executor import Executor, on_one_device
from jaxdl.parallel.hosts import this_process
from jaxdl.parallel.layout import Layout
from jaxdl.parallel.program import equations_of
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.runners import Runner
from jaxdl.training.setup import Setup
from jaxdl.training.step import State
from jaxdl.training.traced_hyperparameters import BatchedRun
from jaxdl.training.transfer import runner_on

FoldStrategy = Literal["auto", "loop", "vmap", "shard"]
STRATEGIES = get_args(FoldStrategy)
TRIAL_SECONDS, TRIAL_ROUNDS, TRIAL_STEPS = 2.0, 15, 4
TRIAL_SHARE = 0.1  # of the time that the folds themselves will take, at most


def pad_runs(runs: Sequence[Any], strategy: str, layout: Layout) -> list[Any]:
    """Under ``shard`` more runs than devices come in equal numbers: some are trained twice and counted once."""
    short = -len(runs) % layout.parts(len(runs)) if strategy == "shard" else 0
    return [*runs, *(runs[i % len(runs)] for i in range(short))]


def executor_of(setup: Setup, strategy: str, runs: int) -> Executor:
    """Where `runs` trainings run side by side: one of them under ``loop``, all on one device under ``vmap``.

    Under ``shard`` they are laid over the devices, see `Layout.executor_of_runs`. Several devices share the batches of
    one training only where its step draws nothing at random: each device would draw for its own rows, and the result
    depend on how many there are.
    """
    if strategy == "loop":
        return setup.layout.executor()
    if strategy == "vmap":
        return on_one_device()
    return setup.layout.executor_of_runs(runs, divide=runs < len(setup.layout.chosen()) and not draws(setup))


def check_strategy(setup: Setup, strategy: str) -> None:
    """Raises InputError for a strategy that there is not, or by which the folds of `setup` cannot be run."""
    check_choice("fold strategy", strategy, STRATEGIES)
    layout, folds_at_once = setup.layout, strategy in ("vmap", "shard")
    at_once, asked = layout.at_once or folds_at_once, layout.said if layout.at_once else f"'{strategy}'"
    if this_process().count > 1 and at_once:
        raise InputError(
            f"{asked} runs folds at once on the devices of one process, and several hosts train one after the other, "
            "each over all devices: use 'loop' or 'auto' (and leave --parallel and --mesh out); or start one process "
            "alone"
        )
    if layout.at_once and strategy in ("loop", "vmap"):
        raise InputError(
            f"{layout.said} lays folds over the devices, which fold_strategy='{strategy}' does not: use 'shard' or "
            "'auto'"
        )
    if layout.at_once is False and folds_at_once:
        raise InputError(
            f"{layout.said} divides the batches of one fold at a time; '{strategy}' runs folds at once: use 'loop' or "
            "'auto'"
        )
    if setup.streamed and at_once:
        raise InputError(
            f"streamed examples serve one fold at a time ({setup.streamed}); {asked} runs folds at once: use 'loop' or "
            "'auto' (and leave --parallel and --mesh out)"
        )
    if layout.at_once and layout.divides_runs and draws(setup):
        raise InputError(
            f"{layout.said} has several devices share the batches of a fold, but this step draws at random (dropout, "
            "augmentation): each device would do so for its own examples, and the result depend on their number. Leave "
            "data out of the mesh, or take parallel='folds' without a mesh"
        )


def choose_strategy(
    setup: Setup, runs: Sequence[BatchedRun], turns: int = 1
) -> tuple[dict[str, Any], dict[str, Runner]]:
    """The strategy for ``auto``: by rule where a measurement has decided it, else by a short trial.

    Folds at once come first in the trial, and win at once where they take less time than compiling another way would.

    Args:
      setup: of all folds.
      runs: that are to be trained.
      turns: how often as many are trained.

    Returns:
      The choice with its reason, and the runners that were compiled for a trial.
    """
    layout, devices = setup.layout, len(setup.layout.chosen())
    if layout.at_once:
        return {"name": "shard", "reason": f"{layout.said} was asked for"}, {}
    if this_process().count > 1:
        return {"name": "loop", "reason": "the batches of one fold at a time are divided over all hosts"}, {}
    if len(runs) == 1:
        return {"name": "loop", "reason": "there is one fold"}, {}
    if layout.at_once is False:
        return {"name": "loop", "reason": f"{layout.said} divides the batches of one fold at a time"}, {}
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
            trials[name] = Trial(setup, runs, name)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or name == "loop":
                raise
            reports.append(f"{name} does not fit in memory")
            continue
        compiling, whole = time.perf_counter() - begin, turns * trials[name].whole()
        if name != "loop" and whole < compiling:
            reason = f"{name} takes {whole:.2g} s for all folds, too little to be worth trying another way"
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
    """A strategy, compiled and ready to be timed; what it trains is discarded.

    Attributes:
      repeat: how often `once` must run to take the steps of all folds.
      steps: how many it takes of each fold.
      first: seconds of the steps of all folds, once compiled.
    """

    def __init__(self, setup: Setup, runs: Sequence[BatchedRun], name: str):
        self.repeat = len(runs) if name == "loop" else 1
        chosen = runs[:1] if name == "loop" else pad_runs(runs, name, setup.layout)
        self.runner = runner_on(executor_of(setup, name, len(chosen)), setup)
        batches = epoch_batches(setup, chosen, 0)
        if not setup.scan:
            batches = jax.tree.map(lambda a: a[:TRIAL_STEPS], batches)
        self.batches, self.steps = batches, len(batches.indices)
        state = jax.tree.map(lambda a: a.copy(), setup.states(chosen))
        self.state, self.shared = self.runner.executor.place_state(state), self.runner.place_shared(setup.shared)
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


def choose_batching(
    setup: Setup, runs: Sequence[BatchedRun], strategy: str, memory: int
) -> tuple[dict[str, Any], dict[str, Runner]]:
    """How to train `runs`: ``{"name", "reason", "width"}``, and the runners that a trial compiled.

    Args:
      setup: of all of them.
      runs: that are to be trained.
      strategy: ``auto``, or the one to take.
      memory: bytes that runs side by side may take.
    """
    check_strategy(setup, strategy)
    if strategy == "loop":
        return {"name": "loop", "reason": "asked for", "width": 1}, {}
    one_by_one = setup.streamed or setup.layout.at_once is False  # then `choose_strategy` says so
    width = len(runs) if one_by_one else max(1, min(len(runs), memory // run_bytes(setup, runs[0])))
    if strategy != "auto":
        return {"name": strategy, "reason": "asked for", "width": width}, {}
    turns = -(-len(runs) // width)
    choice, runners = choose_strategy(setup, list(runs[: -(-len(runs) // turns)]), turns)
    return {**choice, "width": width if choice["name"] != "loop" else 1}, runners


def run_bytes(setup: Setup, run: BatchedRun) -> int:
    """About how many bytes one run takes on the device beside the data.

    Its state, and the most that is alive at once while a step is computed as it is written down. (A compiler may need
    less: it computes many values where they are used.)
    """

    program, state = _program(setup, run)
    return sum(map(_bytes, jax.tree.leaves(state))) + _most_alive(program)


def draws(setup: Setup) -> bool:
    """Whether a step draws at random (dropout, augment), and so depends on how a batch is divided over devices."""
    program, _ = _program(setup, setup.run(0))
    return any(equation.primitive.name == "random_bits" for equation in equations_of(program))


def _program(setup: Setup, run: BatchedRun) -> tuple[Any, State]:
    """The step of one run as it is written down, and the shapes of its state."""

    def alone(tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), tree)

    state = alone(jax.eval_shape(lambda: setup.states([run])))
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), epoch_batches(setup, [run], 0))
    return jax.make_jaxpr(setup.make_step())(state, batch, setup.shared).jaxpr, state


def _most_alive(program: Any) -> int:
    """The largest number of bytes that a program's own values take at any time."""
    last_use = {}
    for place, equation in enumerate(program.eqns):
        last_use |= {id(value): place for value in equation.invars}
    last_use |= {id(value): len(program.eqns) for value in program.outvars}
    alive, most, ends = 0, 0, {}
    for place, equation in enumerate(program.eqns):
        within = map(_most_alive, jaxprs_in_params(equation.params))
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
