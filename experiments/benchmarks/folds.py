"""Steps per second of 5 folds by `loop` and `vmap`, and whether `auto` chooses the faster.

    python experiments/benchmarks/folds.py [--repeats 7] [--only resnet]

A step here is one step of all five folds. Strategies are compiled first, then timed in turn, repeat by repeat, so that
a slow moment of the machine hits all of them; the table gives medians and ratios. On several devices `shard` joins.
"""

import argparse
import time

import jax
import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.tasks import choose_task
from jaxdl.training.prepare import prepare
from jaxdl.training.setup import Setup
from jaxdl.validation.splits import split_source
from jaxdl.validation.strategy import Trial, choose_strategy
from jaxdl.weights.checkpoint import from_model

FOLDS = 5


def images(side: int, channels: int, examples: int = 320) -> data.Arrays:
    """Random images of ten classes: speed does not depend on what they show."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (examples, side, side, channels), dtype=np.uint8)
    return data.arrays(x, np.arange(examples) % 10)


def cases() -> dict[str, tuple[str, dict, int, str | None]]:
    """Row: model, its arguments, side of the images, and through which stage it is frozen."""
    return {
        "mlp 2×128": ("mlp", {}, 8, None),
        "mlp 2×512": ("mlp", {"hidden": (512, 512)}, 32, None),
        "cnn (demo)": ("cnn", {}, 8, None),
        "cnn 32²": ("cnn", {}, 32, None),
        "vit 4 blocks": ("vit", {}, 32, None),
        "resnet20_cifar head only": ("resnet20_cifar", {}, 32, "body"),
        "resnet20_cifar full": ("resnet20_cifar", {}, 32, None),
    }


def setup_of(name: str, arguments: dict, side: int, freeze: str | None) -> Setup:
    source = images(side, 1 if side == 8 else 3)
    plan = jaxdl.Plan(epochs=10, batch_size=32, freeze_through=freeze)
    model = jaxdl.create(name, num_outputs=10, **arguments)
    channels = source.x.shape[-1]
    known = ImagePreprocessing(source.x.shape[1:], (0.5,) * channels, (0.25,) * channels)
    split = split_source(source, "stratified", FOLDS, 0)
    return prepare(from_model(model, known), source, plan, split.train, choose_task(source, purpose="a benchmark"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    strategies = ("loop", "vmap") if jax.local_device_count() == 1 else ("loop", "vmap", "shard")
    print(f"{jax.local_device_count()} × {jax.devices()[0].device_kind}, {FOLDS} folds, batch 32")
    print(f"{'':26}" + "".join(f"{s:>10}" for s in strategies) + "   vmap/loop  auto   best/auto")
    for row, case in cases().items():
        if options.only not in row:
            continue
        setup = setup_of(*case)
        runs = [setup.run(fold) for fold in range(FOLDS)]
        trials = {s: Trial(setup, runs, s) for s in strategies}
        times: dict[str, list[float]] = {s: [] for s in strategies}
        for _ in range(options.repeats):
            for s, trial in trials.items():
                repeats = 1 if trial.once() > 0.05 else 20
                begin = time.perf_counter()
                for _ in range(repeats):
                    trial.once()
                times[s].append((time.perf_counter() - begin) * trial.repeat / repeats / trial.steps)
        median = {s: float(np.median(values)) for s, values in times.items()}
        chosen = choose_strategy(setup, runs)[0]["name"]
        rates = "".join(f"{1 / median[s]:10.3g}" for s in strategies)
        ratio, regret = median["loop"] / median["vmap"], min(median.values()) / median[chosen]
        print(f"{row:26}{rates}{ratio:12.2f}  {chosen:6}{regret:8.2f}", flush=True)


if __name__ == "__main__":
    main()
