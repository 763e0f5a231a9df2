"""The devices at hand. Code that asks for them, or puts something on one, does so here or by an `Executor`."""

from typing import Any

import jax

from jaxdl.errors import InputError
from jaxdl.parallel.hosts import this_process


def local_devices() -> tuple[Any, ...]:
    """Those of this process.

    Raises:
      InputError: if there are none of the kind that JAX is told to use.
    """
    try:
        return tuple(jax.local_devices())
    except (RuntimeError, AssertionError) as error:  # AssertionError: of JAX 0.10, where the platform has no device
        said = str(error).partition("\n")[0] or "it has none"
        raise InputError(
            f"JAX finds no device of JAX_PLATFORMS={jax.config.jax_platforms} ({said}); set the variable to cpu, or "
            "unset it to use what there is; jaxdl doctor says what there is"
        ) from error


def all_devices() -> tuple[Any, ...]:
    """Those over which one program runs: of this process, or of all that compute together, one process after another.

    Raises:
      InputError: as `local_devices`.
    """
    if this_process().count == 1:
        return local_devices()
    return tuple(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))


def first_device() -> Any:
    """The one on which things are that are not divided."""
    return local_devices()[0]


def device_kinds() -> list[str]:
    """The kinds of all devices, those of other processes included."""
    return [str(device.device_kind) for device in jax.devices()]


def device_memory() -> int | None:
    """Bytes of one device; None where it does not tell."""
    return (first_device().memory_stats() or {}).get("bytes_limit") or None
