"""The devices of this process. Code that asks for them, or puts something on one, does so here or by an `Executor`."""

from typing import Any

import jax


def local_devices() -> tuple[Any, ...]:
    """Those of this process."""
    return tuple(jax.local_devices())


def first_device() -> Any:
    """The one on which things are that are not divided."""
    return local_devices()[0]


def device_kinds() -> list[str]:
    """The kinds of all devices, those of other processes included."""
    return [str(device.device_kind) for device in jax.devices()]


def device_memory() -> int | None:
    """Bytes of one device; None where it does not tell."""
    return (first_device().memory_stats() or {}).get("bytes_limit") or None
