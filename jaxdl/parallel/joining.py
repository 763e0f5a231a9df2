"""How several processes come together: each finds the others, and all are refused what cannot be."""

import re
import socket
import threading
import time
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.parallel.hosts import Process, stay_alone, this_process

REACH = 300.0  # seconds in which all processes must have started
SLOWER = 60.0  # more that JAX is given: where it gives up, it ends the process without a message of ours


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
    address = re.fullmatch(r"(\S+):(\d{1,5})", coordinator)
    if address is None or not _may_be_a_host(address[1]) or not 0 < int(address[2]) < 2**16:
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


def _may_be_a_host(name: str) -> bool:
    """Whether Python would look for it: for a name with an empty or a long part it raises no OSError."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _reach(address: str, said: str) -> None:
    """Waits until something listens there. Raises InputError."""
    end, reason = time.monotonic() + REACH, None
    while time.monotonic() < end:
        try:
            knock(address, 5)
            return
        except OSError as error:
            reason = error
            time.sleep(0.2)
    raise InputError(
        f"{said} finds no process 0 at '{address}' within {REACH:.0f} s ({reason}): start the same command there with "
        "--process 0/N, let the port through the firewall, and give an address that this host reaches"
    )


def knock(address: str, seconds: float) -> None:
    """Connects to ``HOST:PORT`` and lets go again. Raises OSError if nothing listens or answers there."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


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
        stay_alone()  # JAX ends a process that now asks for the others
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
