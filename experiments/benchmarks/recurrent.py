"""Recurrent layers here beside Flax's cells in `flax.linen.RNN`: forward, and forward with gradients under lengths.

python experiments/benchmarks/recurrent.py [batch steps width features]

Both run in turn in one process; the ratio is the median over pairs of runs. On a busy machine give it one core of its
own (taskset -c 0): the time is that of the process, not of the clock.
"""

import statistics
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.models.recurrent import Recurrent

CELLS = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}
SIZES = ((8, 128, 256, 256), (16, 64, 128, 128), (32, 128, 128, 256))
RUNS = 7


def seconds(run, *given):
    """Of the processor, for one run."""
    start = time.process_time()
    jax.block_until_ready(run(*given))
    return time.process_time() - start


def compare(kind, batch, steps, width, features):
    """Prints the medians of both, and of their ratio."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, steps, width)).astype(np.float32)
    lengths = rng.integers(steps // 4, steps + 1, batch)
    real = np.arange(steps) < lengths[:, None]
    ours, theirs = Recurrent(features, kind), nn.RNN(CELLS[kind](features))
    variables = [layer.init(jax.random.key(0), x) for layer in (ours, theirs)]
    forward = [lambda v: ours.apply(v, x, real)[0], lambda v: theirs.apply(v, x, seq_lengths=lengths)]
    total = [lambda v, run=run: jnp.sin(run(v)).sum() for run in forward]
    for what, runs in (("forward", forward), ("with gradients", [jax.value_and_grad(run) for run in total])):
        runs = [jax.jit(run) for run in runs]
        for run, held in zip(runs, variables, strict=True):
            jax.block_until_ready(run(held))
        pairs = [[seconds(run, held) for run, held in zip(runs, variables, strict=True)] for _ in range(RUNS)]
        own, flax = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(
            f"{batch} × {steps} × {width} → {features}, {kind}, {what}: {own:.1f} ms, Flax {flax:.1f} ms, {ratio:.2f}"
        )


if __name__ == "__main__":
    for size in [tuple(map(int, sys.argv[1:]))] if len(sys.argv) > 1 else SIZES:
        for kind in CELLS:
            compare(kind, *size)
