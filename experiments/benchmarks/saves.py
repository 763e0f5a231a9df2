"""How much saving the state holds up training: the same training without saves and with them, turn by turn.

    python experiments/benchmarks/saves.py [--parameters 25] [--every 15] [--seconds 90] [--turns 3]

An MLP of so many million parameters is trained with AdamW, whose state is three times as large, on one process. Both
ways run the same steps; what a save costs is the difference of the two, divided by the number of saves. "Held" is the
part of it in which the training itself stands still: the state is copied, and the library begins to write. The rest is
the writing beside the training, which takes cores from it where it computes on the CPU, and none where it computes
elsewhere. Each is given by the clock and in seconds of one core, which other work on the machine hardly changes, and
scaled to one save a minute, the default of --save-every.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.training import loop
from jaxdl.training.resume import RunFolder
from jaxdl.training.saves import Saves

STEPS, BATCH, CLASSES = 8, 32, 10  # of an epoch


@dataclasses.dataclass
class Held:
    """What saves have taken from the thread that trains, and how many there were."""

    clock: float = 0.0
    core: float = 0.0
    saves: int = 0

    def timed(self, call: Callable[..., Any], saves: int) -> Callable[..., Any]:
        """The same function; its time is added."""

        def run(*arguments: Any) -> Any:
            clock, core = time.perf_counter(), time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.clock += time.perf_counter() - clock
                self.core += time.thread_time() - core
                self.saves += saves

        return run


def train(model: Any, source: data.Source, epochs: int, every: float | None, held: Held) -> np.ndarray:
    """From the end of the first epoch to that of the last: seconds, those of all cores, the same held, and saves."""
    ends: list[tuple[float, ...]] = []

    def note(row: Any) -> None:
        ends.append((time.perf_counter(), time.process_time(), held.clock, held.core, held.saves))

    with tempfile.TemporaryDirectory() as folder:
        work = None if every is None else RunFolder(f"{folder}/run", save_every=every)
        execution = jaxdl.Execution(work=work, progress=note)
        jaxdl.pretrain(model, source, jaxdl.Plan(epochs=epochs, batch_size=BATCH), execution=execution)
    return np.subtract(ends[-1], ends[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=float, default=25, help="in millions")
    parser.add_argument("--every", type=float, default=15, help="seconds between saves")
    parser.add_argument("--seconds", type=float, default=90, help="of a training, about")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()

    width = int(np.sqrt(given.parameters * 1e6))
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(STEPS * BATCH, 64)).astype(np.float32), np.arange(STEPS * BATCH) % CLASSES
    model, source = jaxdl.create("mlp", CLASSES, hidden=(width, width)), data.arrays(x, y)
    held = Held()
    loop.snapshot, Saves.save = held.timed(loop.snapshot, 0), held.timed(Saves.save, 1)
    once = train(model, source, 4, None, held)[0] / 3
    epochs = max(3, round(given.seconds / once))
    print(f"MLP of {(64 + width + CLASSES) * width / 1e6:.1f} million parameters, {epochs} epochs of {STEPS} steps")
    costs = []
    for turn in range(given.turns):
        without, beside = train(model, source, epochs, None, held), train(model, source, epochs, given.every, held)
        count = int(beside[4])
        costs.append([*(beside - without)[:2] / count, *beside[2:4] / count])
        print(f"turn {turn + 1}: {without[0]:.1f} s without saves, {beside[0]:.1f} s with {count}", flush=True)
    print("median cost of a save: seconds, and % of the time at one a minute")
    names = ("all, by the clock", "all, of one core", "held, by the clock", "held, of one core")
    for name, cost in zip(names, np.median(costs, 0), strict=True):
        print(f"{name:20}{cost:6.2f} s{100 * cost / 60:7.1f} %")


if __name__ == "__main__":
    main()
