"""``jaxdl search``."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Dividing,
    DividingOptions,
    Running,
    RunningOptions,
    Subject,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
)
from jaxdl.commands.console import console, display
from jaxdl.commands.run import carried_out, load_subject, make_loggers, open_run, tell_finished, whole_result
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.report.run_page import write_run_report
from jaxdl.report.search import search_rows, seeds_said, stability, verdict
from jaxdl.training.plan import Plan
from jaxdl.training.resume import STATE, AlreadyFinished, RunFolder
from jaxdl.training.setup import Init
from jaxdl.training.transfer import train
from jaxdl.validation.result import RESULT
from jaxdl.validation.search.result import SearchResult
from jaxdl.validation.search.search import SearchStrategy, search
from jaxdl.validation.search.selection import Criterion, Selection
from jaxdl.validation.search.space import parse_space
from jaxdl.validation.splits import SPLIT, Splitter, Splitting, split_source
from jaxdl.validation.strategy import FoldStrategy
from jaxdl.weights.checkpoint import Checkpoint, save

FINAL = "final"  # the checkpoint of --finetune, in the run's folder


def search_command(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    space: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES ...")],
    strategy: SearchStrategy = "grid",
    trials: Annotated[int | None, option("INT")] = None,
    eta: int = 3,
    selection: Selection = "best",
    criterion: Criterion = "metric",
    nested: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = True,
    seeds: int = 1,
    finetune: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "auto",
    allow: AllowOption = (),
    inner_folds: int = 3,
    fold_strategy: FoldStrategy = "auto",
    memory: Annotated[float | None, option("GIB")] = None,
    debug: Debug = False,
) -> None:
    """Find the best configuration, and measure honestly how good such a search is.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      space: as learning_rate=log:1e-4:1e-1 freeze_through=none,body model.dropout=0:0.5:3 (3 points), or a JSON file.
      strategy: all combinations (grid), --trials draws (random), or the better ones for longer and longer (halving).
      trials: configurations to draw.
      eta: halving goes on with one of so many, for so many times the epochs.
      selection: take the best mean, or the simplest configuration within one standard error of it.
      criterion: choose by the metric of the task, or by the loss.
      nested: save the inner folds: the score is then of the folds that chose, and too good.
      seeds: trainings of each configuration, over which scores are averaged.
      finetune: train the final configuration on all examples, too, as a checkpoint below --out.
      dividing: options of the splitter.
      training: how to train, where the space says nothing else.
      running: how the run is carried out.
      folds: number of outer folds, which give the score.
      splitter: auto (heeds classes and groups) or a name (of which some need groups or times), outside and inside.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      inner_folds: number of inner folds, which choose.
      fold_strategy: run trainings in turn (loop), side by side (vmap), over devices (shard), or as is fastest.
      memory: for trainings side by side; a quarter of the device's, or 4 GiB, if left out.
      debug: show the traceback of an error.
    """
    plan, dimensions, splitting = Plan(**vars(training)), parse_space(space), Splitting(**vars(dividing))
    if memory is not None and not 0 < memory < float("inf"):
        raise InputError(f"memory is {memory} GiB; expected more than 0")
    with open_run(out, "search", subject, running) as run:
        source, network, broken = load_subject(subject, running)
        with display(1, make_loggers(run, running, plan.as_dict())) as shown:
            try:
                found = search(
                    network,
                    source,
                    plan,
                    dimensions,
                    strategy=strategy,
                    trials=trials,
                    eta=eta,
                    splitter=splitter,
                    folds=folds,
                    splitting=splitting,
                    inner_folds=inner_folds,
                    selection=selection,
                    criterion=criterion,
                    nested=nested,
                    seeds=seeds,
                    fold_strategy=fold_strategy,
                    memory=None if memory is None else int(memory * 2**30),
                    progress=shown.row,
                    on_steps=shown.steps,
                    **carried_out(run, subject, running),
                    allow=allow,
                )
            except AlreadyFinished as finished:
                tell_finished(run, finished, source)
                return
            if finetune:
                _train_final(run, found, source, subject, running)
        with whole_result(run, RESULT) as made:
            found.write_to(made)
            split_source(source, splitter, folds, plan.seed, splitting).save(made / SPLIT, source)
        run.finish(broken=broken)
    write_run_report(run.path, source)
    _tell(found, run.path)
    if not finetune:
        line = shlex.join(["jaxdl", "finetune", *finetune_arguments(found, subject)])
        console.print(f"To train the final one on all examples: {line}", soft_wrap=True, highlight=False)


def _train_final(run: RunFolder, found: SearchResult, source: Source, subject: Subject, running: Running) -> None:
    below = RunFolder(run.path / STATE / "finetune", save_every=run.save_every, should_stop=run.should_stop)
    trained = train(found.final_init, source, found.final_plan, **carried_out(below, subject, running))
    run.place_folder(save(trained.checkpoint, run.fresh(FINAL)), FINAL)


def finetune_arguments(found: SearchResult, subject: Subject) -> list[str]:
    """What follows ``jaxdl finetune`` to train the final configuration; what is as by default is left out."""
    values, start = found.configurations[found.final]["values"], found.final_init
    given = ["--data", subject.data, "--out", FINAL, *_start_arguments(start, values.get("init", subject.init))]
    for field in dataclasses.fields(Plan):
        value = getattr(found.final_plan, field.name)
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default
        if value != default:
            given += _as_option(field.name, value)
    given += ["--task", subject.task] if subject.task != "auto" else []
    return given + (["--image-size", str(subject.image_size)] if subject.image_size else [])


def _start_arguments(start: Init, init: Any) -> list[str]:
    if isinstance(start, Checkpoint):
        return ["--init", str(init)]
    name, arguments = describe(start)
    words = [f"{k}={list(v) if isinstance(v, tuple) else v}".replace(" ", "") for k, v in arguments.items()]
    return ["--model", name, *(["--model-arguments", *words] if words else [])]


def _as_option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, dict):
        return [flag, *(f"{key}={factor}" for key, factor in value.items())]
    return [flag, *map(str, value)] if isinstance(value, tuple) else [flag, str(value)]


def _tell(found: SearchResult, out: Path) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(verdict(found), style="bold" if found.nested else "yellow", highlight=False)
    headers, lines = search_rows(found)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold")
    for row, line in zip(found.ranking, lines, strict=False):
        final = row["configuration"] == found.final
        table.add_row(*[Text(("* " if final and not i else "") + cell) for i, cell in enumerate(line)])
    console.print(table)
    note = "* is the final configuration, chosen with all examples; inner scores chose it and are no estimate."
    console.print(Text(note, style="dim"))
    for text in (stability(found), seeds_said(found)):
        if text:
            console.print(text, highlight=False)
    for one in found.groups:
        members = len(one["configurations"])
        many = "configurations" if members > 1 else "configuration"
        side = f", {one['width']} trainings at once at most" if one["width"] > 1 else ""
        console.print(
            f"{members} {many} of one program: {one['name']} ({one['reason']}){side}", highlight=False, soft_wrap=True
        )
    console.print(f"results and report.html in {out}", soft_wrap=True)
