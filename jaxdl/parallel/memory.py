"""How much memory arrays take, and how much this host has left."""

import math
from pathlib import Path
from typing import Any

import jax


def bytes_of(tree: Any) -> int:
    """What the arrays of a tree take, or arrays of the shapes and types that it holds."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def in_words(nbytes: int) -> str:
    """A number of bytes, as ``1.5 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} bytes"


def free_memory() -> int | None:
    """Bytes that programs on this host may still take, within the container's limit; None where it cannot be known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    try:
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            # cached files count as used, but make way
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
            free.append(max(0, int(most) - used))
    except (OSError, KeyError):
        pass  # no such group: the host's own memory is the limit
    return min(free) if free else None
