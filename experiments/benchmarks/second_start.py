"""Seconds from the start of a command to its first step: with an empty compilation cache, and again.

    python experiments/benchmarks/second_start.py

Each start is a process of its own, from the interpreter's first line to the end of the first training step.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile

COMMANDS = {
    "cnn of the demo": "pretrain --model cnn --data digits --epochs 1",
    "vit, 4 blocks": "pretrain --model vit --data digits --epochs 1 --model-arguments depth=4 patch_size=2",
    "resnet20_cifar": "pretrain --model resnet20_cifar --data digits --image-size 32 --epochs 1",
    "resnet18": "pretrain --model resnet18 --data digits --image-size 32 --epochs 1 --batch-size 8",
}
AGAIN = 3
# Told of its first step, the display ends the process: nothing else of the program is changed.
CHILD = """
import os, sys, time
begin = time.time()
import jaxdl.commands.console as console
def first(self, count):
    print(time.time() - begin, flush=True)
    os._exit(0)
console.Display.steps = first
from jaxdl.cli import main
main()
"""


def seconds(command: str, cache: str) -> float:
    """From the start of the process to the end of its first step."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        environment.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        code = [sys.executable, "-c", CHILD, *shlex.split(command), "--out", os.path.join(folder, "run")]
        made = subprocess.run(code, env=environment, capture_output=True, text=True, check=True)
    return float(made.stdout.split()[-1])


def main() -> None:
    print(f"{'':18}{'first':>8}{'again':>8}   seconds; again: median of {AGAIN}")
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as cache:
            first = seconds(command, cache)
            again = statistics.median(seconds(command, cache) for _ in range(AGAIN))
        print(f"{name:18}{first:8.1f}{again:8.1f}")


if __name__ == "__main__":
    main()
