"""Several processes that compute one program together, such as those on the hosts of a TPU pod slice.

All run the same code on the same options, and call the same programs in the same order. The devices of all are one
mesh; each holds and reads its own rows of the data (`Process.rows`). Process 0 alone writes and prints: what only one
may do goes through `on_first`. What each decides for itself, such as by the clock, must be agreed on: `gather_plain`.
"""

import contextlib
import dataclasses
import json
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
SEEN = 10.0  # seconds until a file that one process wrote is there for the others

_alone: ContextVar[bool] = ContextVar("alone", default=False)
_send: Callable[[str, bool], None] | None = None  # beats, to whoever watches over the processes


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


def has_others() -> bool:
    """Whether there are other processes, also inside `alone`."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def this_process() -> Process:
    """This one among those that compute together; the only one where there are no others, or inside `alone`."""
    if _alone.get() or not has_others():
        return Process()
    return Process(jax.process_index(), jax.process_count(), jax.local_device_count())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What runs inside uses the devices of this process alone, and asks nothing of the others."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def stay_alone() -> None:
    """From here on this process asks nothing of the others: they did not come."""
    _alone.set(True)


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return this_process().index == 0


def beat(doing: str, *, slow: bool = False) -> None:
    """Says that this process has come to a point that all reach, in the same order, and what it does next.

    So that of one that hangs there others say it; see `watchdog`. Nothing where it computes alone, for then the others
    do not come there.

    Args:
      doing: what it does, in words.
      slow: whether that may take long.
    """
    if _send is not None and this_process().count > 1:
        _send(doing, slow)


def send_beats(send: Callable[[str, bool], None] | None) -> None:
    """Has `beat` call `send`, or nothing any more."""
    global _send
    _send = send


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
    told = gather_plain([seen, str(file)])
    blind = [str(place) for place, (one, _) in enumerate(told) if not one]
    if blind:
        raise InputError(
            f"process {', '.join(blind)} does not see '{told[0][1]}', which process 0 wrote: on several hosts {option} "
            "must be one folder that all of them reach, such as one on a network file system"
        )


def on_first(function: Callable[[], T], doing: str = "doing what process 0 does alone") -> T:
    """What `function` gives on process 0, told to all; the others wait. It uses the devices of process 0 alone.

    Args:
      function: gives plain values, as JSON has them.
      doing: what that is, in words.

    Raises:
      InputError: on all, of the kind and with the words that it had on process 0.
    """
    here, error, told = this_process(), None, None
    if here.count == 1:
        return function()
    beat(doing, slow=True)
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
    beat("telling the others", slow=True)  # which wait here, where one of them does not come
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
    beat("gathering what each has read", slow=True)

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
    """An array that every process has whole, divided over the devices of all; one that lies so already, as it is."""
    if isinstance(array, jax.Array) and array.sharding == sharding:
        return array
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
    if not has_others():
        return {}
    import orbax.checkpoint as ocp

    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
    return {"multiprocessing_options": options}
