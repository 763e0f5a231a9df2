"""Devices that are not here: those of a slice of TPUs, for which the TPU compiler compiles all the same."""

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from jaxdl.errors import InputError
from jaxdl.parallel.chips import Slice

# What the TPU compiler asks for when it is loaded. With these it looks neither for a TPU nor for metadata of a machine,
# writes no logs, and does not mind another process that has loaded it.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
NEEDS = (
    "plans for TPUs need their compiler, libtpu, which is not installed here: pip install 'jax[tpu]' (no TPU is needed)"
)
OPTIONS = {"v4": {"chip_config_name": "megacore"}}  # both cores of a chip as one device, as they are by default

_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BYTES = r"([\d.]+)([KMGT]?)"
# "… required for HLO temporaries (1.41T) exceeds available HBM (15.75G)"; "Used 17.2G of 15.75G hbm"
_TOO_LARGE = (
    re.compile(rf"\({_BYTES}\) exceeds available HBM \({_BYTES}\)"),
    re.compile(rf"Used {_BYTES} of {_BYTES} hbm"),
)


def prepared(slices: Sequence[Slice]) -> bool:
    """Whether this process may plan for `slices`: JAX looks for no devices here, and where the compiler for TPUs is
    loaded, which ends the process on some programs, it is one that was made for that, in `ENVIRONMENT`.
    """
    needed = ENVIRONMENT if any(one.chip.is_tpu for one in slices) else {"JAX_PLATFORMS": "cpu"}
    return needed.items() <= os.environ.items()


def topology_devices(rented: Slice) -> tuple[Any, ...]:
    """The devices of a slice, to build a mesh on.

    Raises:
      InputError: without the TPU compiler, or if it knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(NEEDS)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = dict(OPTIONS.get(rented.chip.name, {}))
    if rented.chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=rented.name, **options)
    except jax.errors.JaxRuntimeError as error:  # a RuntimeError, too
        raise InputError(
            f"the TPU compiler knows no slice '{rented.name}' ({str(error).partition(chr(10))[0]}); a shape that there "
            "is, such as 2x4 or 4x4 of v5e and 2x2x2 of v5p, is compiled for, and pip install -U 'jax[tpu]' brings the "
            "compiler that fits this JAX"
        ) from error
    except RuntimeError as error:  # a libtpu that is there, but cannot be imported
        raise InputError(f"the TPU compiler cannot be loaded ({error}): pip install -U 'jax[tpu]'") from error
    return tuple(found.devices)


class DoesNotFit(Exception):
    """A program needs more memory than a device has.

    Attributes:
      needed, has: bytes; None where the compiler does not say.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        sizes = next((found.groups() for pattern in _TOO_LARGE if (found := pattern.search(said))), None)
        self.needed, self.has = (None, None) if sizes is None else (_bytes(*sizes[:2]), _bytes(*sizes[2:]))


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _SIZES[unit])


def compile_ahead(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles for the devices that it was lowered for.

    Raises:
      DoesNotFit: if it takes more memory than they have.
    """
    try:
        with _no_cache():
            return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(str(error)) from error


@contextmanager
def _no_cache() -> Iterator[None]:
    """Without JAX's cache of compiled programs: one of them cannot be read back where its devices are not."""
    kept = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()  # JAX remembers whether there is one
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
        reset_cache()
