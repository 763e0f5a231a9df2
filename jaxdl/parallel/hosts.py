"""Several processes that compute one program together, such as those on the hosts of a TPU pod slice.

All run the same code on the same options, and call the same programs in the same order. The devices of all are one
mesh; each holds and reads its own rows of the data (`Process.rows`). Process 0 alone writes and prints: what only one
may do goes through `on_first`. What each decides for itself, such as by the clock, must be agreed on: `gather_plain`.
"""

import contextlib
import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding, Sharding

from jaxdl.errors import InputError

T = TypeVar("T")
REACH = 300.0  # seconds in which all processes must have started
SEEN = 10.0  # seconds until a file that one process wrote is there for the others
SLOWER = 60.0  # more that JAX is given: where it gives up, it ends the process without a message of ours

_alone: ContextVar[bool] = ContextVar("alone", default=False)


@dataclasses.dataclass(frozen=True)
class Process:
    """One of several processes.

    Attributes:
      index: from 0.
      count: of all.
      devices: of each of them; its number of rows is a multiple.
    """

    index: int = 0
    count: int = 1
    devices: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1 or not 0 <= self.index < self.count:
            raise InputError(f"{self}: the index must be from 0 to count - 1, and devices at least 1")

    def rows(self, count: int) -> slice:
        """The rows of `count` that belong to this process; of the same number for each, they may reach past the last.

        Together those of all processes are each row once, in order.
        """
        share = -(-count // (self.count * self.devices)) * self.devices
        return slice(self.index * share, (self.index + 1) * share)

    def within(self, count: int) -> np.ndarray:
        """The indices of `rows` that are not past the last."""
        return np.arange(count)[self.rows(count)]


def this_process() -> Process:
    """This one among those that compute together; the only one where there are no others, or inside `alone`."""
    if _alone.get() or not jax.distributed.is_initialized():
        return Process()
    count = jax.process_count()
    return Process(jax.process_index(), count, jax.local_device_count()) if count > 1 else Process()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What runs inside uses the devices of this process alone, and asks nothing of the others."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def start(coordinator: str | None = None, process: str | None = None, lost_after: float = 0.0) -> Process:
    """Joins the other processes; before anything is asked of a device.

    Args:
      coordinator: ``HOST:PORT`` of process 0; by default what the machine tells (of a TPU pod slice, or under SLURM).
      process: ``I/N``, which of how many this is; by default likewise.
      lost_after: seconds after which `watchdog` ends a process that is lost; JAX, which says less, is to come later.

    Raises:
      InputError: for options that do not go together, if the others are not reached, or there are none.
    """
    if (coordinator is None) != (process is None):
        raise InputError("--coordinator ADDR and --process I/N go together: give both, or --multihost alone")
    how = {"heartbeat_timeout_seconds": int(max(100, 3 * lost_after))}
    if coordinator is None:
        _join("its metadata", how)
    else:
        index, count = _parse(coordinator, process)
        address, said = coordinator, f"process {index} of {count}"
        if index:
            _reach(address, said)
        how |= {"coordinator_address": address, "num_processes": count, "process_id": index}
        _join(f"'{address}'", how)
        if jax.process_count() != count:
            raise InputError(
                f"--process {process} says {count} processes, and process 0 was started for {jax.process_count()}: "
                "give the same N to all of them"
            )
    if jax.process_count() == 1:
        raise InputError("--multihost finds one process alone; leave it out, or start the command on all hosts")
    held = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
    if len(set(held)) > 1:
        raise InputError(
            f"the processes have {', '.join(map(str, held))} devices; expected the same number for each: start one "
            "process on each host, with the same devices"
        )
    return this_process()


def _parse(coordinator: str, process: str) -> tuple[int, int]:
    """Index and number of the processes. Raises InputError for what cannot be."""
    port = re.fullmatch(r"\S+:(\d{1,5})", coordinator)
    if port is None or not 0 < int(port[1]) < 2**16:
        raise InputError(
            f"--coordinator is '{coordinator}'; expected HOST:PORT of process 0, such as 10.0.0.2:1234 (a port is "
            "1 to 65535)"
        )
    found = re.fullmatch(r"(\d+)/(\d+)", process)
    if found is None:
        raise InputError(f"--process is '{process}'; expected I/N, such as 0/2 on the first of two hosts")
    index, count = map(int, found.groups())
    if count == 1:
        raise InputError(f"--process {process}: one process needs no others; leave out --process and --coordinator")
    if index >= count:
        raise InputError(f"--process is '{process}'; expected 0/{count} on the first host to {count - 1}/{count}")
    return index, count


def _reach(address: str, said: str) -> None:
    """Waits until something listens there. Raises InputError."""
    host, _, port = address.rpartition(":")
    end, reason = time.monotonic() + REACH, None
    while time.monotonic() < end:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            reason = error
            time.sleep(0.2)
    raise InputError(
        f"{said} finds no process 0 at '{address}' within {REACH:.0f} s ({reason}): start the same command there with "
        "--process 0/N, let the port through the firewall, and give an address that this host reaches"
    )


def _join(where: str, how: dict[str, Any]) -> None:
    """`jax.distributed.initialize`, with a limit. Raises InputError."""
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(**how, initialization_timeout=int(REACH + SLOWER))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(REACH)
    if thread.is_alive():
        _alone.set(True)  # JAX ends a process that now asks for the others
        raise InputError(
            f"the other processes of {where} did not all come within {REACH:.0f} s: start the same command on each "
            "host, with its own --process I/N, all at about the same time"
        )
    if not failed:
        return
    error = failed[0]
    if isinstance(error, ValueError):
        raise InputError(
            "--multihost: this machine does not say which others it belongs to (it is no host of a TPU pod slice, and "
            "no cluster's scheduler that JAX knows started it); give --coordinator HOST:PORT --process I/N"
        ) from error
    if "RPC server" in str(error):
        raise InputError(
            f"process 0 cannot listen at {where}, another program may use the port; give another to all"
        ) from error
    raise InputError(f"the processes of {where} do not come together: {str(error).splitlines()[0]}") from error


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return this_process().index == 0


def check_seen(file: Path, option: str) -> None:
    """Whether all processes see what the first one wrote.

    Args:
      file: that is there on process 0.
      option: that names where it lies.

    Raises:
      InputError: on all, naming those that do not see it.
    """
    end = time.monotonic() + SEEN
    while not (seen := file.exists()) and time.monotonic() < end and this_process().count > 1:
        time.sleep(0.1)  # a network file system may be late
    blind = [str(place) for place, one in enumerate(gather_plain(seen)) if not one]
    if blind:
        raise InputError(
            f"process {', '.join(blind)} does not see '{file}', which process 0 wrote: on several hosts {option} must "
            "be one folder that all of them reach, such as one on a network file system"
        )


def on_first(function: Callable[[], T]) -> T:
    """What `function` gives on process 0, told to all; the others wait. It uses the devices of process 0 alone.

    Args:
      function: gives plain values, as JSON has them.

    Raises:
      InputError: on all, of the kind and with the words that it had on process 0.
    """
    here, error, told = this_process(), None, None
    if here.count == 1:
        return function()
    if here.index == 0:
        with alone():
            try:
                told = {"value": function()}
            except Exception as raised:
                error, told = raised, {"error": type(raised).__name__, "said": str(raised)}
    told = gather_plain(told)[0]
    if error is not None:
        raise error
    if "error" in told:
        raise _known_errors(InputError).get(told["error"], InputError)(told["said"])
    return told["value"]


def _known_errors(kind: type[InputError]) -> dict[str, type[InputError]]:
    found = {kind.__name__: kind}
    for inner in kind.__subclasses__():
        found |= _known_errors(inner)
    return found


def gather_plain(value: Any) -> list[Any]:
    """The plain value of each process, in order; all must ask."""
    if this_process().count == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = process_allgather(np.array([len(text)], np.int32)).reshape(-1)
    room = 1 << int(max(sizes) - 1).bit_length()  # of few sizes: each is compiled
    rows = process_allgather(np.pad(text, (0, room - len(text))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


class Agreement:
    """What all processes are to do, though each has its own clock and its own signals.

    They ask one another about every `pace` seconds, after a number of calls that is the same for all.
    """

    def __init__(self, pace: float):
        self.pace = pace
        self._calls = self._wait = 1
        self._last = time.monotonic()

    def ask(self, stop: bool, late: bool) -> tuple[bool, bool]:
        """Whether any process should stop, and whether process 0 finds that it is late; all call it equally often."""
        if this_process().count == 1:
            return stop, late
        self._wait -= 1
        if self._wait:
            return False, False
        now = time.monotonic()
        pace = min(1000, max(1, round(self._calls * self.pace / max(now - self._last, 1e-6))))
        told = gather_plain([bool(stop), bool(late), pace])
        self._calls = self._wait = told[0][2]
        self._last = now
        return any(one[0] for one in told), told[0][1]


def gather_rows(tree: Any, count: int) -> Any:
    """Arrays ``[count, …]`` of numpy from the rows of each process, bit for bit.

    Args:
      tree: arrays ``[rows, …]`` of `Process.rows`; those past the last may be left out.
      count: of all rows.
    """
    here = this_process()
    if here.count == 1:
        return tree
    rows = here.rows(count)

    def gather(array: Any) -> np.ndarray:
        array = np.ascontiguousarray(padded(array, rows.stop - rows.start))
        flat = array.reshape(len(array), -1)
        found = process_allgather(flat.view(np.uint8), tiled=True)  # of bytes: JAX would round float64
        return found.reshape(-1).view(array.dtype).reshape(-1, *array.shape[1:])[:count]

    return jax.tree.map(gather, tree)


def padded(array: Any, count: int) -> np.ndarray:
    """Zeros appended up to `count` rows."""
    array = np.asarray(array)
    return np.pad(array, [(0, count - len(array)), *[(0, 0)] * (array.ndim - 1)])


def spans(devices: Any) -> bool:
    """Whether they belong to several processes."""
    return len({getattr(device, "process_index", 0) for device in devices}) > 1


def place(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole, divided over the devices of all."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(place(jax.random.key_data(array), sharding), impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def fetch(tree: Any, whole: Sharding) -> Any:
    """Arrays of all devices, whole, on the first device of each process.

    Args:
      tree: of arrays on a mesh.
      whole: sharding on this mesh by which every device has all.
    """
    copied = jax.jit(_same, out_shardings=whole)(tree)
    return jax.tree.map(lambda array: array.addressable_data(0), copied)


def _same(tree: Any) -> Any:  # of this name once, so that what JAX compiled for it is found again
    return tree


@jax.jit
def _finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def all_finite(tree: Any) -> bool:
    """Whether no number is NaN or infinite, of arrays on the devices of several processes; each looks at its own."""
    return not jax.tree.leaves(tree) or bool(_finite(tree))


def copied(array: Any) -> Any:
    """A copy on the host; of an array on the devices of several processes, a copy on these."""
    several = isinstance(array, jax.Array) and not array.is_fully_addressable
    return array.copy() if several else np.array(array)


def orbax_alone() -> dict[str, Any]:
    """Options of an Orbax checkpointer with which a process reads or writes by itself, and waits for no other."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return {}
    import orbax.checkpoint as ocp

    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
    return {"multiprocessing_options": options}
