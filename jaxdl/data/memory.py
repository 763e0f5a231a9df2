"""Whether the data fit in memory."""

from pathlib import Path

from jaxdl.data.preprocessing import Preprocessing, nbytes
from jaxdl.data.source import Source
from jaxdl.parallel.devices import device_memory, first_device

HOST_SHARE = 0.5  # of the free memory: the rest is for the model, the program and what else runs
DEVICE_SHARE = 0.5  # of the device's memory: parameters, optimizer state and activations take the rest


def in_memory_bytes(source: Source, preprocessing: Preprocessing) -> int:
    """Bytes that all examples take as stored."""
    return len(source) * nbytes(preprocessing)


def must_stream(source: Source, preprocessing: Preprocessing, limit: int | None = None) -> str | None:
    """Why `source` is too large to be trained on in memory, in words; None if it is not.

    Args:
      source: where examples come from.
      preprocessing: of the network.
      limit: bytes that the data may take. By default half of the memory that is free on this host and, where the
        device tells how much it has, half of that: the data lie on the device throughout, and the model, its optimizer
        and its activations need the rest.
    """
    needed = in_memory_bytes(source, preprocessing)
    limits = {}
    if limit is not None:
        limits["the limit set"] = limit
    else:
        free = free_memory()
        if free is not None:
            limits[f"half of the {_in_words(free)} of free memory"] = int(free * HOST_SHARE)
        held = device_memory()
        if held is not None:
            limits[f"half of the {_in_words(held)} of a {first_device().device_kind}"] = int(held * DEVICE_SHARE)
    for words, most in limits.items():
        if needed > most:
            return (
                f"{len(source)} examples of {preprocessing.describe()} take "
                f"{_in_words(needed)}, more than {words} ({_in_words(most)})"
            )
    return None


def _in_words(nbytes: int) -> str:
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
