"""Commands that run as one program on several hosts: process 0 speaks, the others keep to errors."""

from collections.abc import Sequence
from threading import Timer

from jaxdl.cli_options import Hosts
from jaxdl.commands.console import console, errors
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import this_process
from jaxdl.parallel.joining import REACH, start
from jaxdl.parallel.watchdog import check_limit, watch

COMMANDS = ("pretrain", "finetune", "cross-validate", "predict")
OPTIONS = ("--multihost", "--coordinator", "--process")
SILENT = 20.0  # seconds after which a command says that it waits for the others


def asks_for_hosts(name: str, arguments: Sequence[str]) -> bool:
    """Whether a command is asked to run on several hosts. Raises InputError if it cannot."""
    given = [one for one in (argument.partition("=")[0] for argument in arguments) if one in OPTIONS]
    if given and name not in COMMANDS:
        raise InputError(
            f"{name} runs on one host; leave {given[0]} out. On several run {', '.join(COMMANDS[:-1])} and "
            f"{COMMANDS[-1]}"
        )
    return bool(given)


def join_hosts(given: Hosts) -> None:
    """Joins the other processes, where the options ask for it; before anything is asked of a device."""
    if given.multihost and (given.coordinator or given.process):
        raise InputError(
            "--multihost asks the machine which others it belongs to, and --coordinator with --process says it; leave "
            "--multihost out"
        )
    if given.asked:
        check_limit(given.hang_seconds)
        waits = Timer(SILENT, lambda: say_waiting(given))
        waits.daemon = True
        waits.start()
        try:
            here = start(given.coordinator, given.process, lost_after=given.hang_seconds)
        finally:
            waits.cancel()
        watch(given.hang_seconds)
        console.quiet = errors.quiet = here.index > 0


def say_waiting(given: Hosts) -> None:
    """Says what a command waits for: until all have come it does nothing else."""
    who = f"process {given.process} of {given.coordinator}" if given.process else "this process"
    errors.print(
        f"jaxdl: {who} waits for the others, for {REACH:.0f} s at most; start the same command on each host",
        highlight=False,
        soft_wrap=True,
    )


def say_error(said: str, style: str | None = None) -> None:
    """Prints it also where only process 0 speaks, with the number of the process."""
    here = this_process()
    name = f"jaxdl, process {here.index} of {here.count}" if here.count > 1 else "jaxdl"
    quiet, errors.quiet = errors.quiet, False
    errors.print(f"{name}: {said}", style=style, highlight=False, soft_wrap=True)
    errors.quiet = quiet
