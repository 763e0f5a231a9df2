"""Commands that run as one program on several hosts: process 0 speaks, the others keep to errors."""

from collections.abc import Sequence

from jaxdl.cli_options import Hosts
from jaxdl.commands.console import console, errors
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import start, this_process
from jaxdl.parallel.watchdog import check_limit, watch

COMMANDS = ("pretrain", "finetune", "cross-validate", "predict")
OPTIONS = ("--multihost", "--coordinator", "--process")


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
        here = start(given.coordinator, given.process, lost_after=given.hang_seconds)
        watch(given.hang_seconds)
        console.quiet = errors.quiet = here.index > 0


def say_error(said: str, style: str | None = None) -> None:
    """Prints it also where only process 0 speaks, with the number of the process."""
    here = this_process()
    name = f"jaxdl, process {here.index} of {here.count}" if here.count > 1 else "jaxdl"
    quiet, errors.quiet = errors.quiet, False
    errors.print(f"{name}: {said}", style=style, highlight=False, soft_wrap=True)
    errors.quiet = quiet
