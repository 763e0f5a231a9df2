"""``jaxdl plan``: what a training comes to on chips that are not here."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich import box
from rich.table import Table

from jaxdl.cli_options import (
    Debug,
    Dividing,
    DividingOptions,
    Flag,
    RunningFoldsOnHosts,
    RunningFoldsOnHostsOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
    splitting_of,
)
from jaxdl.commands.console import console, errors, print_wide
from jaxdl.commands.run import command_line, execution_of, load_subject
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.chips import parse_slice
from jaxdl.parallel.memory import in_words
from jaxdl.parallel.topology import ENVIRONMENT, prepared
from jaxdl.report.planned import CALIBRATION, NOT_COUNTED, duration, money, of_peak, plan_as_dict, plan_lines
from jaxdl.shown import counted
from jaxdl.training.plan import Plan
from jaxdl.training.transfer import hold_out, keeps_head
from jaxdl.validation.planning.plan import plan_on
from jaxdl.validation.planning.planned import Asked, Planned
from jaxdl.validation.splits import split_source
from jaxdl.validation.statistics.nested import NESTED_REPEATS, extra_trainings
from jaxdl.weights.files import check_free, write_text

Planable = Literal["pretrain", "finetune", "cross-validate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renting:
    """Where it would run.

    Attributes:
      on: slices to compare: TPUs such as v5e:4x4, v6e:4x4, v4:2x2x2, v5p:2x2x2 or tpu7x:2x2x2, GPUs such as h100x8, or
        a100, h200, b200, l4 and t4.
      price: of a chip for an hour; one for each slice, or one for all.
      json: file for the plan, an object for each slice.
      compiles: programs to compile for each slice beside the training's own, to find the largest batch that fits, and
        what helps where it does not fit; 0 looks for neither.
    """

    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SLICE ...")]
    price: Annotated[tuple[float, ...], option("PRICE ...")] = ()
    json: Annotated[Path | None, option("FILE")] = None
    compiles: int = 3


@dataclasses.dataclass(frozen=True)
class Others:
    """Options of these commands that change little or nothing of a plan: a command line can stay as it is.

    Attributes:
      out: not written to.
      head: of finetune.
      validation: of pretrain and finetune; its examples are not counted.
      validation_fraction: share of the examples that is not trained on.
      merge_adapter: of finetune.
      keep_models: of cross-validate.
      interval: of cross-validate; nested trains more networks.
      nested_repeats: of cross-validate.
      folds_of: of cross-validate; all folds are planned.
    """

    out: Annotated[Path | None, option("FOLDER")] = None
    head: Literal["auto", "fresh", "keep"] = "auto"
    validation: Annotated[str | None, option("SPEC")] = None
    validation_fraction: float = 0.0
    merge_adapter: Flag = False
    keep_models: Literal["auto", "always", "never"] = "auto"
    interval: str = "auto"
    nested_repeats: int = NESTED_REPEATS
    folds_of: Annotated[str | None, option("I/N")] = None


def plan_command(
    command: Annotated[tyro.conf.Positional[Planable], tyro.conf.arg(metavar="COMMAND")] = "finetune",
    *,
    subject: SubjectOptions,
    renting: tyro.conf.OmitArgPrefixes[Renting],
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningFoldsOnHostsOptions = RunningFoldsOnHosts(),  # noqa: B008
    others: tyro.conf.OmitArgPrefixes[Others] = Others(),
    debug: Debug = False,
) -> None:
    """Predict memory, time and cost of a training on TPUs or GPUs before renting them.

    Args:
      command: pretrain, finetune or cross-validate, with its options; so plan goes before the command that you have.
      subject: what is trained, and on what.
      renting: where it would run.
      dividing: how the examples are divided, of cross-validate.
      training: how to train.
      running: how the run is carried out.
      others: options of these commands that change little or nothing.
      debug: show the traceback of an error.
    """
    check_choice("command to plan", command, ("pretrain", "finetune", "cross-validate"))
    if not renting.on:
        raise InputError("--on names no slice; expected where it would run, such as v5e:2x4 or h100x8")
    if renting.compiles < 0:
        raise InputError(f"--compiles is {renting.compiles}; expected 0 or more")
    slices = [parse_slice(name) for name in renting.on]
    prices = _prices(renting.price, len(slices))
    out = None if renting.json is None else check_free(renting.json, "--json")
    if not prepared(slices):
        sys.exit(_again())
    plan = Plan(**vars(training))
    asked = _asked(command, subject, plan, dividing, running, others)
    planned = []
    for rented in slices:
        with errors.status(f"planning for {rented.name}") as status:
            planned.append(plan_on(asked, rented, renting.compiles, lambda said, bar=status: bar.update(said)))
        for line in plan_lines(planned[-1], prices[len(planned) - 1]):
            console.print(line, soft_wrap=True, highlight=False)
    if len(planned) > 1:
        print_wide(_table(planned, prices))
    console.print(
        f"Not counted: {'; '.join(NOT_COUNTED)}. {CALIBRATION.capitalize()}.", soft_wrap=True, highlight=False
    )
    if out is not None:
        plain = [plan_as_dict(one, price) for one, price in zip(planned, prices, strict=True)]
        write_text(out, json.dumps(plain, indent=1))
        console.print(f"the plan in {out}", soft_wrap=True)


def _again() -> int:
    """The same command in a process of its own, which the TPU compiler finds as it needs it; its exit code.

    Raises InputError where the compiler ended that process.
    """
    line = [sys.executable, "-c", "from jaxdl.program import main; main()", *command_line.get()]
    code = subprocess.run(line, env={**os.environ, **ENVIRONMENT}, check=False).returncode
    if code < 0:
        raise InputError(
            f"the compiler ended its process ({signal.Signals(-code).name}) at the first slice of --on that is not "
            "told above, for which it cannot compile this training: leave that slice out of --on, or try another "
            "version of the compiler, pip install -U 'jax[tpu]'"
        )
    return code


def _prices(given: tuple[float, ...], count: int) -> list[float | None]:
    """One for each slice. Raises InputError for another number of them, or what is no price."""
    if len(given) not in (0, 1, count):
        raise InputError(
            f"there are {len(given)} prices for {counted(count, 'slice')}; give one for each, or one for all"
        )
    for price in given:
        if not 0 <= price < float("inf"):
            raise InputError(f"the price is {price}; expected what a chip costs in an hour, 0 or more")
    return list(given) * (count if len(given) == 1 else 1) or [None] * count


def _asked(command: str, subject: Any, plan: Plan, dividing: Any, running: Any, others: Others) -> Asked:
    """The training of a command line, as its command would carry it out."""
    if command == "pretrain" and subject.init is not None:
        raise InputError("pretrain has no option --init; name a --model, or plan finetune")
    if command != "cross-validate":
        _refuse_folds(command)
    execution = execution_of(subject, running)
    source, _, task, network = load_subject(command, subject)
    if command == "cross-validate":
        split = split_source(source, splitting_of(dividing), dividing.folds, plan.seed, task)
        more = extra_trainings(len(split), others.nested_repeats) if others.interval == "nested" else 0
        return Asked(network, source, plan, task, execution, split.train, more=more)
    count = len(source)
    if others.validation_fraction:
        count = len(hold_out(source, others.validation_fraction, plan.seed, task)[0])
    keep = keeps_head(network, task, source, others.head)
    return Asked(network, source, plan, task, execution, [np.arange(count)], keep_head=keep)


def _refuse_folds(command: str) -> None:
    """Raises InputError for options that divide the examples, which a single training has not."""
    given = {word.partition("=")[0].replace("_", "-") for word in command_line.get()}
    names = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Dividing)]
    for name in names:
        if name in given:
            raise InputError(f"{command} has no option {name}; it is an option of cross-validate")


def _table(planned: list[Planned], prices: list[float | None]) -> Table:
    """The slices side by side."""
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("slice", "chips", "fits", "needs", "step", "of peak", "bound", "all steps", "cost", "largest batch"):
        table.add_column(header, justify="left" if header in ("slice", "fits", "bound") else "right")
    for one, price in zip(planned, prices, strict=True):
        told = plan_as_dict(one, price)
        numbers = ("–",) * 5
        if one.best.step.times is not None:
            cost = "–" if told["cost"] is None else money(told["cost"])
            step = f"{told['step_seconds'] * 1e3:.3g} ms"
            numbers = (step, of_peak(told["of_peak"]), told["bound"], duration(one.seconds), cost)
        largest = one.largest and one.largest.fits
        needs = "–" if told["needs_bytes_per_device"] is None else in_words(told["needs_bytes_per_device"])
        fits = "yes" if told["fits"] else "no"
        table.add_row(one.rented.name, str(one.rented.chips), fits, needs, *numbers, f"{largest or '–'}")
    return table
