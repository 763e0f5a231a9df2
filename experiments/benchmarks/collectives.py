"""Which collectives a training step holds on eight devices, for each way of using them.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python experiments/benchmarks/collectives.py [--model cnn]

The program is compiled ahead of time from shapes alone. An operation over several arrays at once counts as one.
"""

import argparse
import re

import jax
import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.parallel.executor import Executor
from jaxdl.tasks import choose_task
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.prepare import prepare
from jaxdl.training.runners import Runner, make_runner
from jaxdl.training.setup import Setup

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
MODELS = {"mlp": {"hidden": (64,)}, "cnn": {"features": (8, 16), "hidden": (64,)}}
RULES = (("head/dense/kernel", ("model", None)), ("dense/kernel", (None, "model")), ("dense/bias", ("model",)))


def count(text: str) -> dict[str, int]:
    """Of a compiled program; an operation that is begun and awaited counts once."""
    return {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}


def shapes(tree: object) -> object:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def setup_of(name: str, folds: int = 8) -> Setup:
    source = data.subset(data.digits(range(4)), np.arange(160))
    plan = jaxdl.Plan(epochs=1, batch_size=64, optimizer="sgd")
    parts = [np.delete(np.arange(160), np.arange(fold, 160, folds)) for fold in range(folds)]
    model = jaxdl.create(name, 4, **MODELS[name])
    return prepare(model, source, plan, parts, choose_task(source, purpose="a benchmark"))


def compiled_step(setup: Setup, executor: Executor, folds: int) -> str:
    """The program of one step of `folds` runs, as text."""
    runner: Runner = make_runner(executor, setup.recipe(), False)
    runs = [setup.run(fold) for fold in range(folds)]
    batch = jax.tree.map(lambda a: a[0], epoch_batches(setup, runs, 0))
    state, shared = shapes(setup.states(runs)), shapes(setup.shared)
    program = runner.step.lower(executor.place_state(state), shapes(batch), runner.place_shared(shared))
    return program.compile().as_text()


def ways(devices: tuple) -> dict[str, tuple[Executor, int]]:
    """Row: the executor, and how many runs side by side."""
    return {
        "data 8, by jit": (Executor(devices, data=8), 1),
        "data 8, by pmap": (Executor(devices, data=8, pmap=True), 1),
        "fold 8": (Executor(devices, fold=8), 8),
        "fold 4 × data 2": (Executor(devices, fold=4, data=2), 4),
        "data 4 × model 2": (Executor(devices, data=4, model=2, rules=RULES), 1),
        "fold 4 × model 2": (Executor(devices, fold=4, model=2, rules=RULES), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="mlp")
    options = parser.parse_args()
    devices = tuple(jax.devices())
    if len(devices) != 8:
        raise SystemExit(f"{len(devices)} devices; set XLA_FLAGS as above")
    setup = setup_of(options.model)
    print(f"{options.model} on 8 × {devices[0].device_kind}: collectives of one step")
    print(f"{'':18}" + "".join(f"{name:>20}" for name in COLLECTIVES))
    for row, (executor, folds) in ways(devices).items():
        found = count(compiled_step(setup, executor, folds))
        print(f"{row:18}" + "".join(f"{found[name]:20}" for name in COLLECTIVES), flush=True)


if __name__ == "__main__":
    main()
