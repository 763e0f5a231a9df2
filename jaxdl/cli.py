"""The program ``jaxdl``: which command, and how it ends."""

import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from logging import getLogger
from typing import Any

import jax
import tyro
from absl import logging
from rich.table import Table

from jaxdl.cli_options import registry
from jaxdl.commands.compare import compare_command
from jaxdl.commands.console import console, errors
from jaxdl.commands.convert import convert_command
from jaxdl.commands.crossval import cross_validate_command
from jaxdl.commands.demo import demo_command
from jaxdl.commands.doctor import doctor_command
from jaxdl.commands.embed import embed_command
from jaxdl.commands.ensemble import ensemble_command
from jaxdl.commands.export import export_command
from jaxdl.commands.find_lr import find_lr_command
from jaxdl.commands.gather import gather_command
from jaxdl.commands.help import ALL, FIRST, HELP, print_help
from jaxdl.commands.hosts import asks_for_hosts, say_error
from jaxdl.commands.inspect import inspect_command
from jaxdl.commands.learning_curve import learning_curve_command
from jaxdl.commands.models import models_command
from jaxdl.commands.other_names import check_names
from jaxdl.commands.plan import plan_command
from jaxdl.commands.predict import predict_command
from jaxdl.commands.probe import probe_command
from jaxdl.commands.recommend import recommend_command
from jaxdl.commands.report import report_command
from jaxdl.commands.run import INTERRUPTED, TERMINATED, Terminated, command_line
from jaxdl.commands.search import search_command
from jaxdl.commands.show import show_command
from jaxdl.commands.split import split_command
from jaxdl.commands.train import finetune_command, pretrain_command
from jaxdl.commands.variance import variance_command
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.cache import compiled_programs
from jaxdl.parallel.devices import local_devices
from jaxdl.parallel.watchdog import stop_watching, wait_for_blame
from jaxdl.training.resume import Interrupted

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "recommend": recommend_command,
    "pretrain": pretrain_command,
    "finetune": finetune_command,
    "split": split_command,
    "cross-validate": cross_validate_command,
    "gather": gather_command,
    "compare": compare_command,
    "search": search_command,
    "learning-curve": learning_curve_command,
    "variance": variance_command,
    "ensemble": ensemble_command,
    "probe": probe_command,
    "plan": plan_command,
    "predict": predict_command,
    "embed": embed_command,
    "convert": convert_command,
    "export": export_command,
    "models": models_command,
    "inspect": inspect_command,
    "report": report_command,
    "find-lr": find_lr_command,
    "show": show_command,
    "doctor": doctor_command,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The program ``jaxdl``. A user's mistake ends in one message and exit code 2."""
    is_program = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    command_line.set(tuple(arguments))
    if is_program:
        _prepare_process(debug)
    try:
        if arguments == ["--version"]:
            console.print(f"jaxdl {version('jaxdl')}", highlight=False)
            return
        if not arguments:
            raise InputError(f"there is no command; expected one of: {', '.join(COMMANDS)}. See jaxdl --help")
        if arguments[0] in HELP:
            _print_commands()
            return
        if not arguments[0].startswith("-"):
            check_choice("command", arguments[0], COMMANDS)
            if _helped(arguments[0], arguments[1:]):
                return
            several = asks_for_hosts(arguments[0], arguments[1:])
            check_names(arguments[0], COMMANDS, arguments[1:])
            # several processes must join before a device is touched, and doctor says more of them
            if "JAX_PLATFORMS" in os.environ and arguments[0] != "doctor" and not several:
                local_devices()  # checks that there are some
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="jaxdl",
            args=arguments,
            registry=registry,
        )
        stop_watching()
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        stop_watching()
    except Interrupted as stopped:
        errors.print(f"jaxdl: {stopped}; the same command goes on from there", highlight=False, soft_wrap=True)
        stop_watching()
        _leave(INTERRUPTED if stopped.signal == signal.SIGINT else TERMINATED, is_program)
    except BaseException as error:
        several = wait_for_blame(error)
        told = _tell(error, debug, several)
        stop_watching(error)
        if told is None:
            raise
        _leave(told, is_program)


def _tell(error: BaseException, debug: bool, several: bool) -> int | None:
    """Says what went wrong, in one line where it is a user's mistake, and gives the exit code; None to raise it."""
    if isinstance(error, InputError | OSError) and not debug:
        say_error(f"error: {_in_words(error)}", style="red")
        return 2
    for kind, said, code in ((KeyboardInterrupt, "interrupted", INTERRUPTED), (Terminated, "terminated", TERMINATED)):
        if isinstance(error, kind):
            errors.print(f"jaxdl: {said}")
            return code
    if several and not isinstance(error, SystemExit):  # an orderly end would wait for the other processes
        traceback.print_exception(error)
        return 1
    return None


def _helped(name: str, arguments: Sequence[str]) -> bool:
    """Prints the help of a command where that is asked for: the options that most need, or all of them."""
    asked = set(arguments) & set(HELP)
    if asked and ALL not in asked and name in FIRST:
        print_help(name, COMMANDS[name])
    elif asked:
        tyro.cli(COMMANDS[name], prog=f"jaxdl {name}", args=["--help"], registry=registry)
    return bool(asked)


def _print_commands() -> None:
    """The help without a command. (tyro's would name all of them in a line of usage that no terminal holds.)"""
    console.print("usage: jaxdl COMMAND [OPTIONS]\n\nTransfer learning in JAX whose results can be trusted.\n")
    table = Table.grid(padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"  {name}", command.__doc__.splitlines()[0])
    console.print(table)
    console.print(
        "\njaxdl COMMAND --help shows the options, --help-all all of them, jaxdl --version the version.",
        highlight=False,
    )


def _in_words(error: Exception) -> str:
    """What is shown of an error; of the system's without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"'{error.filename}': {error.strerror}"
    return str(error)


def warnings_as_notes() -> Callable[..., None]:
    """Shows of a warning what it says, without the line of code that gave it; once, also where numbers differ.

    (A text that is cut is so in each part of the examples that is read.)
    """
    known = set()

    def say(message: Warning | str, *_: Any) -> None:
        if (said := re.sub(r"\d[\d,.]*", "#", str(message))) not in known:
            known.add(said)
            errors.print(f"jaxdl: note: {message}", highlight=False, soft_wrap=True)

    return say


def _leave(code: int, is_program: bool) -> None:
    """Ends with an exit code; a process of our own at once.

    Threads still at work (XLA's after an interruption, TensorStore's after a damaged checkpoint) make an orderly end
    crash or talk.
    """
    if is_program:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _keep_compiled_programs() -> None:
    """A second start finds what the first one compiled, in the user's cache folder or JAX_COMPILATION_CACHE_DIR."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(compiled_programs()))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # JAX's second skips most of ours


def _prepare_process(debug: bool) -> None:
    _keep_compiled_programs()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where output is captured
            stream.reconfigure(errors="replace")  # a file's name may not be text, a terminal may not know Unicode
    if not debug:  # of a damaged checkpoint our message is enough, without the log and late callbacks of Orbax
        warnings.showwarning = warnings_as_notes()
        logging.set_verbosity(logging.FATAL)
        getLogger("asyncio").setLevel("CRITICAL")
        sys.unraisablehook = lambda _: None
