"""How long a computation takes on the device at hand."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

ROUND = 0.02  # seconds: calls are timed together for so long, so that the clock and starting a call hardly count


def seconds_of(call: Callable[[], Any], budget: float) -> float:
    """The time of one call, of the fastest round of calls: what else runs on a machine makes rounds slower only.

    Args:
      call: starts the computation and returns what it will give.
      budget: seconds to spend; one round is timed even if it takes longer.
    """
    jax.block_until_ready(call())  # compiles
    calls, best, end = 1, float("inf"), time.perf_counter() + budget
    while True:
        began = time.perf_counter()
        for _ in range(calls):
            made = call()
        jax.block_until_ready(made)
        took = time.perf_counter() - began
        best = min(best, took / calls)
        if time.perf_counter() + took > end:
            return best
        if took < ROUND:
            calls = min(2 * calls, max(calls + 1, int(calls * ROUND / max(took, 1e-9))))


def matmul_flops(dtype: Any, budget: float, largest: int = 8192) -> float:
    """FLOP/s of the product of two square matrices (2 n³ of them), as large as two tenths of the budget allow.

    Args:
      dtype: of the matrices. A float32 product has the precision that JAX gives it by default on the device.
      budget: seconds.
      largest: side of the largest matrices.
    """
    product, side, rate = jax.jit(jnp.matmul), 256, 0.0
    for share in (0.1, 0.2, 0.7):
        left, right = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(2))
        rate = 2 * side**3 / seconds_of(partial(product, left, right), share * budget)
        side = max(side, min(largest, int((0.2 * budget * rate / 2) ** (1 / 3)) // 256 * 256))
    return rate


def memory_bandwidth(size: int, budget: float) -> float:
    """Bytes/s that ``a * x + y`` reads and writes: three times its vectors, which are larger than any cache.

    Args:
      size: bytes of a vector of float32; there are two, and the result takes the place of `y`.
      budget: seconds.
    """
    x = jnp.ones(size // 4, jnp.float32)
    return 3 * x.nbytes / seconds_of(in_place(lambda x, y: 0.5 * x + y, x, jnp.zeros_like(x)), budget)


def in_place(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call whose result takes the memory of the last argument, and its place in the next call.

    To get new memory for a large result takes a host longer than to compute a sum.
    """
    jitted, last = jax.jit(function, donate_argnums=len(arguments) - 1), [jnp.copy(arguments[-1])]

    def call() -> Any:
        last[0] = jitted(*arguments[:-1], last[0])
        return last[0]

    return call
