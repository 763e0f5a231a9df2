"""Results of a function, computed ahead of their use by worker processes, in order.

grain does the work; what is added here is how such processes end and how they fail.
"""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError

HELD = 5  # results of a worker at most: being made, waiting at either end of its queue, and in its reader's hands
SMALL = 1 << 16  # bytes up to which an array goes through a pipe; a worker that stops with more in it is waited for
PATIENCE = 30.0  # seconds that closing waits for a result that is being made


class _Sent:
    """A function on its way to the workers: pickled once for all of them, unpickled when first called."""

    def __init__(self, function: Callable[[int], Any]):
        import cloudpickle

        self.pickled, self.function = cloudpickle.dumps(function), None

    def __call__(self, position: int) -> Any:
        """What the function raises is given back: it might not survive pickling, and be waited for for ever."""
        try:
            if self.function is None:
                import cloudpickle

                self.pickled, self.function = None, cloudpickle.loads(self.pickled)
            return self.function(position)
        except InputError as error:
            return InputError(str(error))
        except Exception:
            return RuntimeError("in a worker process:\n" + traceback.format_exc())


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
    from absl import flags

    numbers = grain.MapDataset.range(positions.start, positions.stop)
    if workers == 0:
        # one thread: it overlaps with training, and keeps the function's state its own
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return _Results(numbers.map(function).to_iter_dataset(options), what)
    flags.FLAGS.mark_as_parsed()  # grain asks for flags of its own, which fails where no absl program has read them
    try:
        sent = _Sent(function)
    except Exception as error:  # whatever a user's own source raises on being pickled
        raise InputError(f"{what} cannot be sent to worker processes ({error}); use 0 workers") from error
    made = numbers.map(sent).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    smallest = SMALL if _shared_memory_holds(nbytes * workers * HELD) else 2**62
    shared = grain.experimental.DatasetOptions(min_shm_size=smallest)
    made = grain.experimental.WithOptionsIterDataset(made, shared)
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    return _Results(made.mp_prefetch(options, worker_init_fn=_start_worker), what)


def _shared_memory_holds(nbytes: int) -> bool:
    """A container's /dev/shm is often 64 MB; writing past its end kills the process without a word."""
    try:
        space = os.statvfs("/dev/shm")
    except OSError:
        return True  # not Linux: no such limit
    return space.f_bavail * space.f_frsize > 2 * nbytes


class _Results(Iterator):
    """Reads grain's iterator in a thread, where Ctrl-C does not strike.

    In the main thread it can strike between taking a value from one of grain's queues and telling the thread that
    fills it; that thread then waits for ever, and closing the iterator for the thread.
    """

    def __init__(self, dataset: Any, what: str):
        self.what, self.asked, self.given = what, queue.SimpleQueue(), queue.SimpleQueue()
        reader = threading.Thread(target=_serve, args=(iter(dataset), self.asked, self.given), daemon=True)
        reader.start()
        # called at most once: by hand, when this object goes, or when the program ends and modules are still there
        self.close = weakref.finalize(self, _stop, reader, self.asked)

    def __next__(self) -> dict[str, Any]:
        if not self.close.alive:
            raise StopIteration
        try:
            self.asked.put(True)
            value = self.given.get()
            if isinstance(value, Exception):
                raise value
            return value
        except BaseException as error:
            self.close()
            if isinstance(error, RuntimeError) and "terminated unexpectedly" in str(error):
                raise InputError(
                    f"a worker process that reads {self.what} ended too early ({error}). If memory ran out, take fewer "
                    "workers or a smaller batch; a script of your own must start its work under if __name__ == "
                    "'__main__'; with 0 workers no process is needed"
                ) from error
            raise


def _serve(iterator: Iterator[Any], asked: queue.SimpleQueue, given: queue.SimpleQueue) -> None:
    while asked.get():
        try:
            value = next(iterator)
            if isinstance(value, dict):
                # grain's arrays lie in shared memory that goes with them; the copies are plain arrays
                value = jax.tree.map(lambda v: np.array(v) if isinstance(v, np.ndarray) else v, value)
        except Exception as error:
            value = error
        given.put(value)
        del value
    iterator.close()


def _stop(reader: threading.Thread, asked: queue.SimpleQueue) -> None:
    asked.put(False)
    if threading.current_thread() is not reader:  # the garbage collector runs where it likes
        reader.join(PATIENCE)


def _start_worker(index: int, count: int) -> None:
    """Binds a worker's life to its parent's.

    Ctrl-C and SIGTERM often go to a whole group of processes. The parent decides what follows: it may save first, and
    until then wants its batches. If it dies without a word, nobody else would end the worker.
    """
    jax.config.update("jax_platforms", "cpu")  # a source that uses jax must not take the parent's device
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
