"""Starts JAX in a process of its own, which may hang or die, and prints what it finds: a line of JSON for each step.

python -m jaxdl.parallel.doctor.start [--speed]
"""

import json
import sys
from pathlib import Path
from typing import Any

SECONDS = 2.0  # of measuring
VECTOR = 2**30  # bytes of the vectors on an accelerator, at most
HOST_VECTOR = 2**28  # on the host, whose caches are smaller than this


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def main() -> None:
    import jax

    described, smallest = [], None
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        memory, used = stats.get("bytes_limit"), stats.get("bytes_in_use")
        described.append(dict(platform=device.platform, kind=device.device_kind, memory=memory, used=used))
        smallest = min(smallest or memory, memory) if memory else smallest
    say(devices=described)
    if "--speed" in sys.argv:
        sys.path.insert(0, str(Path(__file__).parents[3]))  # the jaxdl that this file belongs to
        from jaxdl.parallel.measure import matmul_flops, memory_bandwidth
        from jaxdl.parallel.memory import free_memory

        on_host = jax.default_backend() == "cpu"
        room = (free_memory() if on_host else smallest) or 2**30
        size = min(HOST_VECTOR if on_host else VECTOR, room // 8)
        dtypes = ("float32",) if on_host else ("float32", "bfloat16")  # few CPUs multiply bfloat16
        flops = {dtype: matmul_flops(dtype, SECONDS / 2 / len(dtypes)) for dtype in dtypes}
        say(speed=dict(flops=flops, bandwidth=memory_bandwidth(size, SECONDS / 2)))


if __name__ == "__main__":
    main()
