"""Whether the data fit in memory."""

from jaxdl.data.preprocessing import Preprocessing, nbytes
from jaxdl.data.source import Source
from jaxdl.parallel.devices import device_memory, first_device
from jaxdl.parallel.memory import free_memory, in_words

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
            limits[f"half of the {in_words(free)} of free memory"] = int(free * HOST_SHARE)
        held = device_memory()
        if held is not None:
            limits[f"half of the {in_words(held)} of a {first_device().device_kind}"] = int(held * DEVICE_SHARE)
    for words, most in limits.items():
        if needed > most:
            return (
                f"{len(source)} examples of {preprocessing.describe()} take "
                f"{in_words(needed)}, more than {words} ({in_words(most)})"
            )
    return None
