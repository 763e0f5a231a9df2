"""Of several processes that compute together, one that is killed or hangs ends all of them, and is named.

JAX notices a process that is dead (after a while, and ends the others without saying more), but not one that lives and
does nothing: the others would wait for it forever. So every process publishes, in the key-value store of JAX's
distributed runtime, that it is there, how far it has come and what it is doing, and looks at what the others publish:

- one that is not heard of any more was killed or stopped, or its machine is gone;
- one that makes no progress, while others wait for it at a later point, hangs.

All processes make the same beats in the same order, so that numbers of beats say who waits for whom.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax._src import distributed  # its store of keys and values is shown nowhere else

from jaxdl.errors import InputError
from jaxdl.parallel.hosts import has_others, send_beats
from jaxdl.parallel.joining import knock

LOST = 75  # exit code: "try again" by the convention of sysexits.h
HANG_SECONDS = 30.0
SLOW = 20  # times the limit, for what may take long: compilation, saving, evaluation
BEGIN = 60.0  # seconds in which all begin to watch, once they are joined
PACE = 1.0  # seconds between two looks at the others
BEATS = "jaxdl/beats/"
# what JAX's runtime says of a program that failed
STATUS = re.compile(r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ")


@dataclasses.dataclass(frozen=True)
class Beat:
    """What a process publishes.

    Attributes:
      host: name of its machine.
      pid: its number there.
      doing: what it does, in words.
      count: beats so far; who waits is at a later one.
      slow: whether that may take long.
      sent: how often it has published: it lives.
      ended: whether it came to its end.
      failed: what went wrong in it, in words; None if nothing did.
    """

    host: str
    pid: int
    doing: str = "starting"
    count: int = 0
    slow: bool = True
    sent: int = 0
    ended: bool = False
    failed: str | None = None


class Observed:
    """What one process sees of all, itself included, and since when."""

    def __init__(self, count: int, limit: float, now: float):
        self.limit = limit
        self.beats: dict[int, Beat | None] = dict.fromkeys(range(count))
        self.alive = dict.fromkeys(range(count), now)  # when it was last heard of
        self.behind: dict[int, float | None] = dict.fromkeys(range(count))  # since when others are further

    def see(self, beats: Mapping[int, Beat], now: float) -> None:
        """Takes note of what the processes have published."""
        furthest = max(beat.count for beat in beats.values())
        for index, beat in beats.items():
            before, self.beats[index] = self.beats[index], beat
            if before is None or beat.sent != before.sent:
                self.alive[index] = now
            if beat.count == furthest or before is None or beat.count != before.count:
                self.behind[index] = None if beat.count == furthest else now
            elif self.behind[index] is None:
                self.behind[index] = now

    def lost(self, now: float) -> str | None:
        """Which process is to blame and why, in words; None while all is well."""
        for index, beat in self.beats.items():
            silent = now - self.alive[index]
            if beat and beat.failed and silent > self.limit / 3:  # by then whoever fails likewise has said so itself
                return f"{name_of(index, beat)} failed: {beat.failed}"
            if silent > self.limit and not (beat and beat.ended):
                return f"{name_of(index, beat)} has not been heard of for {silent:.0f} s: killed or stopped, or cut off"
        for index, beat in sorted(self.beats.items(), key=lambda pair: pair[1].count if pair[1] else 0):
            since = self.behind[index]
            if beat is None or beat.ended or since is None:
                continue
            if now - since > self.limit * (SLOW if beat.slow else 1):
                return f"{name_of(index, beat)} hangs: the others have waited for it for {now - since:.0f} s"
        return None


def name_of(index: int, beat: Beat | None) -> str:
    """A process in words, with what it was doing when it was last heard of."""
    if beat is None:
        return f"process {index}"
    return f"process {index} (number {beat.pid} on {beat.host}, last seen {beat.doing})"


def _leave(message: str) -> None:
    """Ends the process at once: its main thread may wait for what never comes, and hold what printing needs."""
    os.write(sys.__stderr__.fileno(), f"jaxdl, {message}\n".encode())
    os._exit(LOST)


class Watchdog:
    """The watchdog of this process; its threads end the process.

    Args:
      index: of this process.
      count: of all.
      limit: seconds after which one that is not heard of, or for which others wait, is lost.
      store: JAX's client of the distributed runtime.
      address: ``HOST:PORT`` at which process 0 holds the store.
      leave: is told who is lost, and ends the process.
    """

    def __init__(
        self, index: int, count: int, limit: float, store: Any, address: str, leave: Callable[[str], None] = _leave
    ) -> None:
        self.index, self.limit, self.store, self.address, self.leave = index, limit, store, address, leave
        self.pace = min(PACE, limit / 5)
        self.mine = Beat(socket.gethostname(), os.getpid())
        self._now = time.monotonic
        self._observed = Observed(count, limit, self._now())
        self._heard = self._now()  # of the store
        self._failing: float | None = None  # since when the store refuses
        self._lock, self._done = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._exchange, self._judge)]

    def start(self) -> "Watchdog":
        """Begins to watch; waits until all have begun, so that each is known by its host."""
        _spare_aborted()
        self._publish()
        for index in self._observed.beats:
            self.store.blocking_key_value_get(f"{BEATS}{index}", int(1000 * BEGIN))
        self._heard = self._now()
        self._observed.see(self._read(), self._heard)
        for thread in self._threads:
            thread.start()
        return self

    def beat(self, doing: str, slow: bool = False) -> None:
        """See `hosts.beat`."""
        with self._lock:
            self.mine = dataclasses.replace(self.mine, doing=doing, slow=slow, count=self.mine.count + 1)

    def stop(self, failed: str | None = None) -> None:
        """Ends watching; the others are not to wait for this process. Process 0, which holds the store, ends last.

        Args:
          failed: what went wrong here, which ends the others, too; None where nothing did.
        """
        with self._lock:
            self.mine = dataclasses.replace(self.mine, ended=True, failed=failed)
        self._done.set()
        with contextlib.suppress(Exception):  # the store may be what is gone
            self._publish()
            end = self._now() + self.limit
            while self.index == 0 and self._now() < end and not all(one.ended for one in self._read().values()):
                time.sleep(self.pace / 2)

    def wait_for_blame(self) -> None:
        """Where communication failed: gives the watchdog the time to find out which process is lost."""
        self._done.wait(self.limit + 5 * self.pace)

    def _publish(self) -> None:
        with self._lock:
            self.mine = dataclasses.replace(self.mine, sent=self.mine.sent + 1)
            told = json.dumps(dataclasses.asdict(self.mine))
        self.store.key_value_set(f"{BEATS}{self.index}", told, allow_overwrite=True)

    def _read(self) -> dict[int, Beat]:
        told = self.store.key_value_dir_get(BEATS)
        return {int(key.rpartition("/")[2]): Beat(**json.loads(value)) for key, value in told}

    def _exchange(self) -> None:
        """Publishes, and reads what the others have published; the store may make it wait, or be gone."""
        while not self._done.wait(self.pace):
            try:
                self._publish()
                beats = self._read()
            except Exception:  # whatever it is: process 0 holds the store
                self._failing = self._failing or self._now()
                continue
            self._heard, self._failing = self._now(), None
            with self._lock:
                self._observed.see(beats, self._heard)

    def _judge(self) -> None:
        while not self._done.wait(self.pace / 2):
            now = self._now()
            quiet, since = now - self._heard, self._failing
            doubtful = since is not None or quiet > 2 * self.pace  # JAX may abort in 6 s: no time to lose
            if (since is not None and now - since > 2 * self.pace) or (doubtful and self._refused()):
                self._end(self._first("is gone: it was killed"))
            if quiet > self.limit:
                self._end(self._first(f"has not answered for {quiet:.0f} s: stopped, or cut off"))
            with self._lock:
                lost = self._observed.lost(now)
            if lost is not None:
                if self.index == 0:
                    time.sleep(3 * self.pace)  # until the others have found the same, by what they read here
                self._end(lost)

    def _refused(self) -> bool:
        """Whether nobody listens where process 0 did; a process that is stopped still does."""
        try:
            knock(self.address, 2 * self.pace)
        except ConnectionRefusedError:
            return True
        except OSError:  # no answer: as good as silence
            pass
        return False

    def _first(self, said: str) -> str:
        return f"{name_of(0, self._observed.beats[0])}, through which all speak with each other, {said}"

    def _end(self, lost: str) -> None:
        if self._done.is_set():
            return
        self._done.set()
        here = f"process {self.index} of {len(self._observed.beats)}"
        self.leave(f"{here}: error: {lost}. All end; the same commands, started again, go on from the last save")


def _spare_aborted() -> None:
    """Where JAX finds that process 0 is gone it aborts this one, before anybody can say why: that waits a little.

    The signal's handler is the C library's ``sleep``; its argument, the number of the signal, is 6 seconds. (JAX
    would call a Python function instead of aborting, but cannot hand its status to it.)
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


_watching: Watchdog | None = None


def check_limit(hang_seconds: float) -> None:
    """Raises InputError for a limit that cannot be."""
    if not 1 <= hang_seconds < 1e6:
        raise InputError(f"hang_seconds is {hang_seconds}; expected 1 second or more")


def watch(hang_seconds: float = HANG_SECONDS) -> None:
    """Begins to watch the other processes, where there are any, after `jax.distributed.initialize`.

    Args:
      hang_seconds: limit for a process that is not heard of, or for which others wait; `SLOW` times as long while it
        compiles, saves or evaluates.

    Raises:
      InputError: for a limit that cannot be.
    """
    global _watching
    check_limit(hang_seconds)
    if _watching is None and has_others():
        known = distributed.global_state
        here = jax.process_index(), jax.process_count()
        _watching = Watchdog(*here, hang_seconds, known.client, known.coordinator_address).start()
        send_beats(_watching.beat)


def wait_for_blame(error: BaseException) -> bool:
    """Before an error is told: where it is of the communication, the watchdog finds out which process was lost.

    Returns:
      Whether there are other processes at all; if one of them was lost, this one has ended by then.
    """
    while _watching is not None and error is not None:
        failed = isinstance(error, ValueError) and STATUS.match(str(error))  # as where it is met at once
        if failed or isinstance(error, jax.errors.JaxRuntimeError):  # such as of a connection that was closed
            _watching.wait_for_blame()
            break
        error = error.__cause__ or error.__context__
    return _watching is not None


def stop_watching(error: BaseException | None = None) -> None:
    """Before this process ends; an error ends the others, too."""
    global _watching
    watchdog, _watching = _watching, None
    send_beats(None)
    if watchdog is not None:
        watchdog.stop(None if error is None else f"{type(error).__name__}: {error}".splitlines()[0][:300].rstrip(": "))
