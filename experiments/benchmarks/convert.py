"""How long it takes to convert published weights, and how much memory.

    python experiments/benchmarks/convert.py [--model resnet50] [--repeats 3]

Weights of the model's size under PyTorch's names are written to a .safetensors file (their values are random: they do
not matter here) and converted to a checkpoint on disk, each time in a process of its own. Printed are the medians: of
the conversion and the writing, of the whole command with its start, and the most memory that it held above what the
process held before, as a multiple of the file's size.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxdl.models import MODELS, create
from jaxdl.models.initialise import init_variables
from jaxdl.weights.families import KEYS
from jaxdl.weights.keys import to_tensors

MEASURED = """
import resource, sys, time
import jax
from jaxdl.weights.checkpoint import save
from jaxdl.weights.convert import convert
import orbax.checkpoint
jax.devices()
held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, begin = held(), time.perf_counter()
save(convert(sys.argv[1], sys.argv[2]).checkpoint, sys.argv[3])
print(time.perf_counter() - begin, held() - before)
"""


def write_weights(model: str, path: Path) -> None:
    """Random weights of a model's size, under the names of its first layout."""
    entry = MODELS[model]
    network = create(model, 1000)
    shape = (entry.image_size, entry.image_size, 3)
    shapes = jax.eval_shape(lambda key: init_variables(network, key, shape), jax.random.key(0))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    layouts = KEYS[entry.family].layouts
    save_file(dict(to_tensors(drawn, next(iter(layouts.values()))(network))), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", choices=MODELS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        write_weights(options.model, file)
        size = file.stat().st_size
        rows = []
        for i in range(options.repeats):
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, str(file), options.model, f"{folder}/checkpoint{i}"],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
            )
            seconds, held = map(float, done.stdout.split())
            rows.append((seconds, time.perf_counter() - begin, held / size))
    seconds, whole, times = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"{options.model}: {size / 2**20:.0f} MiB converted and written in {seconds:.2f} s "
        f"({whole:.1f} s with the start of Python), {times:.1f} times the file's size in memory"
    )


if __name__ == "__main__":
    main()
