"""Images per second streamed against in memory, and the memory that streaming 50,000 images takes.

    python experiments/benchmarks/streaming.py [--only speed|memory] [--repeats 5] [--workers 2]

Both make their JPEGs themselves, in a temporary folder. Speed: 3,000 images of 96×96, decoded and brought to 32×32, fed
in the batches of a training run, alone and into the training step of a small network. The ways take turns, repeat by
repeat, so that a slow moment of the machine hits all of them; the start of worker processes, which happens once in a
run, is timed apart. Memory: one epoch over a folder of 50,000 names (hard links to 500 files), brought to 224×224; what
this process and its workers hold resident is read ten times on the way. Pages that processes share, such as batches on
their way from a worker, are counted in each of them.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.data.memory import in_memory_bytes
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.data.stream import TrainingOrder, stream
from jaxdl.parallel.memory import held_memory

BATCH = 64
CLASSES = 10


def make_folder(folder: Path, names: int, files: int, side: int = 96) -> data.Source:
    """`names` JPEGs in class folders, of which only `files` differ."""
    random = np.random.default_rng(0)
    for i in range(names):
        place = folder / f"class{i % CLASSES}" / f"{i:06}.jpg"
        if i < files:
            place.parent.mkdir(exist_ok=True)
            rough = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)  # smooth, as photographs are
            Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC).save(place, quality=90)
        else:
            os.link(folder / f"class{i % files % CLASSES}" / f"{i % files:06}.jpg", place)
    return data.folder(folder)


def from_memory(source: data.Arrays, order: TrainingOrder, epochs: range) -> Iterator[dict[str, Any]]:
    for epoch in epochs:
        batches = order(epoch)
        for indices, weights in zip(batches.indices, batches.weights, strict=True):
            yield {"x": source.x[indices], "y": source.labels[indices], "weights": weights}


def make_step(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A training step of a small convolutional network, and its first state."""
    model = jaxdl.create("cnn", num_outputs=CLASSES)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *shape)))
    optimizer = optax.sgd(0.01)

    @jax.jit
    def step(state: Any, x: jax.Array, y: jax.Array, weights: jax.Array) -> Any:
        variables, opt_state = state

        def loss(params: Any) -> jax.Array:
            logits = model.apply({**variables, "params": params}, x.astype(jnp.float32) / 255)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return (each * weights).sum() / weights.sum()

        updates, opt_state = optimizer.update(jax.grad(loss)(variables["params"]), opt_state)
        return {**variables, "params": optax.apply_updates(variables["params"], updates)}, opt_state

    return step, (variables, optimizer.init(variables["params"]))


def speed(folder: Path, repeats: int, workers: int) -> None:
    source = make_folder(folder, 3000, 3000)
    preprocessing = ImagePreprocessing((32, 32, 3))
    order = TrainingOrder((np.arange(len(source)),), BATCH, 0)
    begin = time.perf_counter()
    whole = data.arrays(preprocessing.load(source), source.targets())
    print(
        f"{len(source)} JPEGs of 96×96 to 32×32, batch {BATCH}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}"
    )
    print(f"to memory, once: {time.perf_counter() - begin:.1f} s")
    # two epochs to time (feeding alone, then with training) in each repeat, and one ahead of them
    epochs, steps = range(2 * repeats + 1), len(order(0).indices)
    readers = {"in memory": from_memory(whole, order, epochs)}
    for count in (0, workers):
        begin = time.perf_counter()
        readers[f"{count} workers"] = reader = stream(source, preprocessing, order, epochs, workers=count)
        next(reader)
        print(f"{count} workers, until the first batch: {time.perf_counter() - begin:.1f} s")
        for _ in range(steps - 1):
            next(reader)
    step, state = make_step(preprocessing.input_shape)
    for _, batch in zip(range(steps), readers["in memory"], strict=False):
        state = step(state, batch["x"], batch["y"], batch["weights"])
    rates: dict[tuple[str, bool], list[float]] = {}
    for _ in range(repeats):
        for name, reader in readers.items():
            for trains in (False, True):
                begin = time.perf_counter()
                for _ in range(steps):
                    batch = next(reader)
                    if trains:
                        state = step(state, batch["x"], batch["y"], batch["weights"])
                jax.block_until_ready(state)
                rates.setdefault((name, trains), []).append(len(source) / (time.perf_counter() - begin))
    print(f"{'images per second (median)':28}{'feeding alone':>16}{'with training':>16}")
    for name, reader in readers.items():
        alone, trained = (float(np.median(rates[name, trains])) for trains in (False, True))
        print(f"{name:28}{alone:16,.0f}{trained:16,.0f}")
        reader.close()


def memory(folder: Path, names: int, workers: int) -> None:
    source = make_folder(folder, names, 500)
    preprocessing = ImagePreprocessing((224, 224, 3))
    order = TrainingOrder((np.arange(len(source)),), BATCH, 0)
    steps = len(order(0).indices)
    marks = {round(steps * part / 10) for part in range(11)}
    print(f"{len(source)} JPEGs, {steps} batches of {BATCH}×224×224×3; resident MB: this process, each worker, in all")
    peak, begin, images = 0, time.perf_counter(), 0
    for done, batch in enumerate(stream(source, preprocessing, order, range(1), workers=workers), start=1):
        images += int(batch["weights"].sum())
        if done in marks or done == 10:
            held = [held_memory(pid) for pid in (os.getpid(), *(p.pid for p in multiprocessing.active_children()))]
            peak = max(peak, sum(held))
            each = " ".join(f"{b / 1e6:6.0f}" for b in held)
            print(f"  after {images:6} images {each}  {sum(held) / 1e6:6.0f}", flush=True)
    print(f"  {images / (time.perf_counter() - begin):,.0f} images per second, the start of the workers counted")
    needed = in_memory_bytes(source, preprocessing)
    print(f"  peak {peak / 1e6:,.0f} MB; in memory the data alone take {needed / 1e6:,.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("speed", "memory"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--names", type=int, default=50_000, help="images in the folder of the second part")
    options = parser.parse_args()
    if options.only != "memory":
        with tempfile.TemporaryDirectory() as folder:
            speed(Path(folder), options.repeats, options.workers)
    if options.only != "speed":
        with tempfile.TemporaryDirectory() as folder:
            memory(Path(folder), options.names, options.workers)


if __name__ == "__main__":
    main()
