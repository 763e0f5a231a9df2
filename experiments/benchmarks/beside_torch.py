"""What benchmarks beside PyTorch have in common: the machine they run on, and how two sides are timed."""

import statistics
import time
from collections.abc import Callable, Sequence

import jax
import torch

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, by the makers' data sheets


def machine() -> tuple[str, str, float | None]:
    """PyTorch's name of the device, the makers' one, and its peak in FLOP a second if it is a GPU of `PEAKS`."""
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    kind = jax.devices()[0].device_kind
    return device, kind, next((value for part, value in PEAKS.items() if part in kind), None)


def medians(runs: Sequence[Callable], repeats: int) -> list[float]:
    """Medians of the seconds that each takes, in turn; once before to compile and warm up."""
    for run in runs:
        run()
    times = [[seconds(run) for run in runs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def seconds(function: Callable) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
