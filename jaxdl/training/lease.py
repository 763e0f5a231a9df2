"""One process at a time works in the folder of a run, also where it lies in a bucket, which knows no locks.

An object names the process and is written again every `RENEW` seconds, each time only if nobody else wrote it in the
meantime: a bucket does that in one step (preconditions on the object's generation). Where it is not renewed for `LOST`
seconds, its process is gone, and the next one takes it over. No clock is compared with that of another machine.
"""

import atexit
import contextlib
import os
import secrets
import socket
import threading
import time
import warnings

from jaxdl.errors import InputError
from jaxdl.weights.buckets import BucketPath
from jaxdl.weights.files import LOCK

RENEW, LOST = 15.0, 60.0


class Lease:
    """The claim of this process to a folder; it is renewed beside all else, until `release`.

    Args:
      folder: in a bucket. Where another process has claimed it, this waits until it shows that it lives, or is gone.

    Raises:
      InputError: naming the process that works there.
    """

    def __init__(self, folder: BucketPath):
        self.folder, self._file = folder, folder / LOCK
        self._mine = f"process {os.getpid()} on {socket.gethostname()}\n{secrets.token_hex(16)}".encode()
        self._lost, self._guard, self._done = False, threading.Lock(), threading.Event()
        self._generation = self._take()
        self._renewed = time.monotonic()
        threading.Thread(target=self._keep, daemon=True).start()
        atexit.register(self.release)

    def check(self) -> None:
        """Before something is written there.

        Raises:
          InputError: if another process took the folder over, or the bucket cannot be reached.
        """
        if time.monotonic() - self._renewed > 2 * RENEW:  # such as after a sleep of the whole machine
            self._renew()
        if self._lost:
            raise InputError(
                f"{self._holder()} has taken over '{self.folder}', because this process was silent for more than "
                f"{LOST:.0f} s; nothing more is written here. Let the other one go on, or name another --out"
            )

    def release(self) -> None:
        """Gives the folder back; nothing happens if another process has taken it over."""
        self._done.set()
        atexit.unregister(self.release)
        with self._guard, contextlib.suppress(InputError):  # without it the next process waits a minute
            if not self._lost:
                self._file.unlink_if(self._generation)

    def _take(self) -> int:
        seen, since = None, time.monotonic()
        while (taken := self._file.write_if(self._mine, 0)) is None:
            there = self._file.generation()
            if there is None:  # given back just now
                continue
            if seen is None:
                seen = there
                warnings.warn(
                    f"{self._holder()} claimed '{self.folder}'; waiting for up to {LOST:.0f} s to see whether it lives",
                    stacklevel=4,
                )
            if there != seen:
                raise InputError(
                    f"{self._holder()} is working in '{self.folder}'; wait until it has ended, or name another --out"
                )
            if time.monotonic() - since > LOST and (taken := self._file.write_if(self._mine, seen)) is not None:
                return taken
            time.sleep(min(1.0, RENEW / 4))
        return taken

    def _holder(self) -> str:
        try:
            return self._file.read_text().partition("\n")[0] or "another process"
        except OSError:
            return "another process"

    def _keep(self) -> None:
        while not self._done.wait(RENEW):
            with contextlib.suppress(InputError):  # `check` asks again, and says it
                self._renew()

    def _renew(self) -> None:
        with self._guard:
            if self._lost or self._done.is_set():
                return
            new = self._file.write_if(self._mine, self._generation)
            if new is None and (there := self._file.generation()) is not None:
                # the bucket's answer may have been lost: then what is there is still ours
                new = there if self._read() == self._mine else None
            self._lost = new is None
            self._generation = self._generation if new is None else new
            self._renewed = time.monotonic()

    def _read(self) -> bytes:
        try:
            return self._file.read_bytes()
        except OSError:
            return b""
