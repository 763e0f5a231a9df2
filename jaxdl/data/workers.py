"""Results of a function, computed ahead of their use by worker processes, in order.

grain does the work; what is added here is how such processes end and how they fail.
"""

import atexit
import dataclasses
import gc
import os
import queue
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError

HELD = 5  # results of a worker at most: being made, waiting at either end of its queue, and in its reader's hands
SMALL = 1 << 16  # bytes up to which an array goes through a pipe: shared memory costs more than it saves
PATIENCE = 30.0  # seconds that closing waits for a result that is being made
SIGTERM_GRACE = 20.0  # seconds that a worker goes on serving a parent that saves before it stops


@dataclasses.dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker. An exception of its own might not survive pickling, and be waited for for ever."""

    message: str
    of_input: bool

    def exception(self) -> Exception:
        return InputError(self.message) if self.of_input else RuntimeError(self.message)


class _Sent:
    """A function on its way to the workers: pickled once for all of them, unpickled when first called."""

    def __init__(self, pickled: bytes):
        self.pickled: bytes | None = pickled
        self.function: Callable[[int], Any] | None = None

    def __call__(self, position: int) -> Any:
        try:
            if self.function is None:
                import cloudpickle

                self.function, self.pickled = cloudpickle.loads(self.pickled), None
            return self.function(position)
        except InputError as error:
            return _Failure(str(error), True)
        except Exception:  # it is raised again, by the reader
            return _Failure("in a worker process:\n" + traceback.format_exc(), False)


class _Guarded:
    """The same within this process: a failure waits for its turn, so that it comes at the step it belongs to."""

    def __init__(self, function: Callable[[int], Any]):
        self.function = function

    def __call__(self, position: int) -> Any:
        try:
            return self.function(position)
        except InputError as error:
            return _Failure(str(error), True)


def in_order(
    function: Callable[[int], dict[str, Any]], positions: range, *, workers: int, nbytes: int, what: str
) -> Iterator[dict[str, Any]]:
    """`function` of each position, in order, computed ahead of its use.

    Close the iterator (or drop it) to end its workers. They end, too, when this process is killed.

    Args:
      function: from a position to a dict of arrays and numbers. It is sent to each worker once.
      positions: consecutive; worker k of n computes every n-th, from the k-th on.
      workers: processes to compute in; with 0 a thread of this one does.
      nbytes: about what one result takes.
      what: the function reads, in words, for messages.

    Raises:
      InputError: as `function` raised it, when its turn comes; if `function` cannot be sent; if a worker is killed.
    """
    if not len(positions):
        return iter(())
    import grain

    dataset = grain.MapDataset.range(positions.start, positions.stop)
    if workers == 0:
        # one thread: it overlaps with training, and keeps the function's state its own
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return _closed_at_exit(_values(dataset.map(_Guarded(function)).to_iter_dataset(options), what))
    import cloudpickle
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain looks at its own, which it expects an absl program to have read
        flags.FLAGS.mark_as_parsed()
    try:
        sent = _Sent(cloudpickle.dumps(function))
    except Exception as error:  # whatever a user's own source raises on being pickled
        raise InputError(f"{what} cannot be sent to worker processes ({error}); use 0 workers") from error
    results = dataset.map(sent).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    smallest = SMALL if _shared_memory_holds(nbytes * workers * HELD) else 2**62
    shared = grain.experimental.DatasetOptions(min_shm_size=smallest)
    results = grain.experimental.WithOptionsIterDataset(results, shared)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    return _closed_at_exit(_values(results.mp_prefetch(options, worker_init_fn=_start_worker), what))


def _shared_memory_holds(nbytes: int) -> bool:
    """A container's /dev/shm is often 64 MB; writing past its end kills the process without a word."""
    try:
        space = os.statvfs("/dev/shm")
    except OSError:
        return True  # not Linux: no such limit
    return space.f_bavail * space.f_frsize > 2 * nbytes


def _values(dataset: Any, what: str) -> Iterator[Any]:
    iterator = iter(dataset)
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    given: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reader = threading.Thread(target=_serve, args=(iterator, asked, given), daemon=True)
    reader.start()
    value = None
    try:
        while True:
            asked.put(True)
            value = given.get()
            if isinstance(value, StopIteration):
                return
            if isinstance(value, Exception):
                _raise(value, what)
            if isinstance(value, _Failure):
                raise value.exception()
            yield value
    finally:
        asked.put(False)
        if threading.current_thread() is not reader:  # the garbage collector runs where it likes
            reader.join(PATIENCE)
        iterator.close()
        del iterator, reader, value
        gc.collect()  # grain's last exception and its frame hold each other, and with them the last shared arrays


def _serve(iterator: Iterator[Any], asked: queue.SimpleQueue, given: queue.SimpleQueue) -> None:
    """Reads grain's iterator in a thread, where Ctrl-C does not strike.

    In the main thread it can strike between taking a value from one of grain's queues and telling the thread that
    fills it; that thread then waits for ever, and closing the iterator for the thread.
    """
    while asked.get():
        try:
            value = next(iterator)
            if isinstance(value, dict):
                # grain's arrays lie in shared memory that goes with them; the copies are plain arrays
                value = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in value.items()}
        except Exception as error:
            value = error
        given.put(value)
        del value


def _raise(error: Exception, what: str) -> None:
    if not isinstance(error, RuntimeError) or "terminated unexpectedly" not in str(error):
        raise error
    raise InputError(
        f"a worker process that reads {what} ended too early ({error}). If memory ran out, take fewer workers or a "
        "smaller batch; a script of your own must start its work under if __name__ == '__main__'; with 0 workers no "
        "process is needed"
    ) from error


_open: weakref.WeakSet[Iterator] = weakref.WeakSet()


def _closed_at_exit(values: Iterator) -> Iterator:
    """An iterator that is still open when the program ends: grain could not close it once modules are taken down."""
    _open.add(values)
    atexit.unregister(_close_open)
    atexit.register(_close_open)  # the last to be registered is the first to be called
    return values


def _close_open() -> None:
    for values in list(_open):
        values.close()
    time.sleep(0.1)  # a thread of grain's removes shared arrays; cut short, they would be called leaked


def _start_worker(index: int, count: int) -> None:
    """Binds a worker's life to its parent's.

    Ctrl-C and SIGTERM often go to a whole group of processes. The parent decides what follows: it may save first, and
    until then wants its batches. If it dies without a word, nobody else would end the worker.
    """
    import multiprocessing

    jax.config.update("jax_platforms", "cpu")  # a source that uses jax must not take the parent's device
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _later(SIGTERM_GRACE))
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _later(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
