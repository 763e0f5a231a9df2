"""One process at a time works in the folder of a run."""

import os
import socket
from pathlib import Path

from jaxdl.errors import InputError
from jaxdl.training.lease import Lease
from jaxdl.weights.buckets import BucketPath
from jaxdl.weights.files import LOCK

# of this process: the open file of each folder's lock, which lasts while it is open; of one in a bucket its lease
_held: dict[Path, int | Lease] = {}


def lock(folder: Path) -> bool:
    """Claims a folder, which exists, for this process, until `unlock` or until the process ends, however it does.

    A file system that knows no locks has none: the folder is then used unprotected.

    Returns:
      Whether it is claimed now and was not before.

    Raises:
      InputError: naming the process that has claimed it.
    """
    import fcntl

    folder = folder.resolve()
    if folder in _held:
        return False
    if isinstance(folder, BucketPath):
        if _lease_of(folder) is not None:  # of the run that this one is a part of
            return False
        _held[folder] = Lease(folder)
        return True
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # by either name another process has it
        holder = os.read(file, 200).decode(errors="replace") or "another process"
        os.close(file)
        raise InputError(
            f"{holder} is working in '{folder}'; wait until it has ended, or name another --out"
        ) from error
    except OSError:
        os.close(file)
        return False
    if not (folder / LOCK).exists() or not os.path.samestat(os.fstat(file), (folder / LOCK).stat()):
        os.close(file)  # its holder ended just now, and took the file away
        return lock(folder)
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _held[folder] = file
    return True


def unlock(folder: Path) -> None:
    """Gives back what this process claimed; nothing happens if it has not."""
    folder = folder.resolve()
    if isinstance(file := _held.pop(folder, None), Lease):
        file.release()
    elif file is not None:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(file)


def check_held(folder: Path) -> None:
    """Raises InputError if a folder in a bucket, or one that it lies in, was this process's and is another's now."""
    if isinstance(folder, BucketPath) and (lease := _lease_of(folder)) is not None:
        lease.check()


def _lease_of(folder: BucketPath) -> Lease | None:
    return next((_held[one] for one in (folder, *folder.parents) if one in _held), None)
