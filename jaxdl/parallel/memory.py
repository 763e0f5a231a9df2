"""How much memory arrays and processes take, and how much this host has left."""

import math
import os
from pathlib import Path
from typing import Any


def bytes_of(tree: Any) -> int:
    """What the arrays of a tree take, or arrays of the shapes and types that it holds."""
    import jax  # here alone: `jaxdl doctor` asks for this host's memory where JAX cannot be imported

    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def in_words(nbytes: int) -> str:
    """A number of bytes, as ``1.5 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes} bytes"


def held_memory(pid: int | str = "self") -> int | None:
    """Bytes that a process holds, by default this one; None where the system does not say it as Linux does."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int | None:
    """Bytes that programs on this host may still take, within the container's limit; None where it cannot be known."""
    free = [size for size in (_of_host("MemAvailable"), *_left_in_container()) if size is not None]
    return min(free) if free else None


def total_memory() -> int | None:
    """Bytes of this host, or of the container's limit where that is less; None where it cannot be known."""
    total = [size for size in (_of_host("MemTotal"), *(most for most, _, _ in _limits())) if size is not None]
    return min(total) if total else None


def _of_host(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _left_in_container() -> list[int]:
    # cached files count as used, but make way
    return [max(0, most - used + cached) for most, used, cached in _limits()]


def _limits(group: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int, int]]:
    """Of the container: bytes at most, used, and of these cached files; none where there is no such group or limit."""
    found = []
    for folder, names in (
        (group, ("memory.max", "memory.current", "inactive_file")),
        (group / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),  # version 1
    ):
        try:
            most, used = ((folder / name).read_text().strip() for name in names[:2])
            if most != "max" and int(most) < 2**62:  # how version 1 writes that there is none
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                found.append((int(most), int(used), int(stat[names[2]])))
        except (OSError, KeyError):
            continue  # no such group: the host's own memory is the limit
    return found
