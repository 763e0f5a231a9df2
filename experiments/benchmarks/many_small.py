"""Many trainings of a small network, 5 folds × 20 seeds: side by side in one program against one after another.

    python experiments/benchmarks/many_small.py [--seeds 20] [--epochs 10] [--only mlp] [--repeats 3]

Both ways run the same compiled step on the same batches and end with the same losses (the last column is their largest
difference). A time is that of a whole run once everything is compiled: drawing the networks, all epochs, predicting and
scoring the test parts; the two ways take turns, the median counts. `first` holds the compilation, too. `auto` is what a
search would choose here.
"""

import argparse
import time

import jax
import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.tasks import choose_task
from jaxdl.training.prepare import prepare
from jaxdl.training.traced_hyperparameters import BatchedRun, traced_hyperparameters
from jaxdl.validation.batched_runs import BatchedRuns
from jaxdl.validation.splits import split_source
from jaxdl.validation.strategy import choose_batching, run_bytes

FOLDS = 5
CASES = {
    "cnn (demo)": ("cnn", {}),
    "mlp (demo's width)": ("mlp", {}),
    "mlp, one layer of 32": ("mlp", {"hidden": (32,)}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    digits = data.digits(range(5, 10))
    source = data.subset(digits, np.random.default_rng(0).permutation(len(digits))[: options.examples])
    split = split_source(source, "stratified", FOLDS, 0)
    task, plan = choose_task(source, purpose="a benchmark"), jaxdl.Plan(epochs=options.epochs, batch_size=32)
    runs = [
        BatchedRun(fold, seed, traced_hyperparameters(plan, ()))
        for seed in range(options.seeds)
        for fold in range(FOLDS)
    ]
    device = f"{jax.local_device_count()} × {jax.devices()[0].device_kind}"
    images = f"{len(split.train[0])} images of 8×8, batch 32"
    print(f"{device}: {len(runs)} trainings of {options.epochs} epochs on {images}")
    print(f"{'':22}{'one after another':>28}{'side by side':>28}{'ratio':>8}{'MiB each':>10}  auto   difference")
    print(f"{'':22}" + f"{'first':>14}{'then':>14}" * 2)
    for row, (name, arguments) in CASES.items():
        if options.only not in row:
            continue
        setup = prepare(jaxdl.create(name, 5, **arguments), source, plan, split.train, task)
        ways = {strategy: BatchedRuns(setup, split.test, strategy, len(runs)) for strategy in ("loop", "vmap")}
        first, times, losses = {}, {strategy: [] for strategy in ways}, {}
        for strategy, way in ways.items():
            begin = time.perf_counter()
            losses[strategy] = [made.scores["loss"] for made in way.run(runs, row, epochs=options.epochs)]
            first[strategy] = time.perf_counter() - begin
        for _ in range(options.repeats):
            for strategy, way in ways.items():
                begin = time.perf_counter()
                way.run(runs, row, epochs=options.epochs)
                times[strategy].append(time.perf_counter() - begin)
        then = {strategy: float(np.median(values)) for strategy, values in times.items()}
        shown = "".join(f"{first[strategy]:12.2f} s{then[strategy]:12.2f} s" for strategy in ways)
        auto = choose_batching(setup, runs, "auto", 2**40)[0]["name"]
        apart = np.abs(np.subtract(losses["loop"], losses["vmap"])).max()
        size = run_bytes(setup, runs[0]) / 2**20
        print(f"{row:22}{shown}{then['loop'] / then['vmap']:8.2f}{size:10.2f}  {auto:6} {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
