"""``jaxdl search``."""

import shlex
from typing import Annotated

import tyro

from jaxdl.cli_options import (
    Choosing,
    ChoosingOptions,
    Debug,
    Dividing,
    DividingOptions,
    Flag,
    NewRun,
    RunningSearch,
    RunningSearchOptions,
    Subject,
    SubjectOptions,
    Training,
    TrainingOptions,
    splitting_of,
)
from jaxdl.commands.by_hand import words_of_examples, words_of_plan, words_of_start
from jaxdl.commands.console import console, say_about, say_cautions
from jaxdl.commands.run import Begun, open_run
from jaxdl.report.edges import search_edges
from jaxdl.report.search import choice, search_rows, seeds_said, stability, verdict
from jaxdl.report.table import beside
from jaxdl.report.uncertainty import HOW_SURE
from jaxdl.training.plan import Plan
from jaxdl.training.transfer import train
from jaxdl.validation.result import RESULT
from jaxdl.validation.search.result import SearchResult, load_search
from jaxdl.validation.search.search import Searching, count_trainings, search
from jaxdl.validation.search.space import parse_space
from jaxdl.validation.splits import SPLIT, split_source
from jaxdl.weights.checkpoint import save

MANY = 500  # trainings, from which on their number is said before they begin
FINAL = "final"  # the checkpoint of --finetune, in the run's folder


def search_command(
    *,
    subject: SubjectOptions,
    out: NewRun,
    space: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUES ...")],
    choosing: ChoosingOptions = Choosing(),  # noqa: B008
    finetune: Flag = False,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningSearchOptions = RunningSearch(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Find the best configuration, and measure honestly how good such a search is.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      space: as learning_rate=log:1e-4:1e-1 freeze_through=none,body model.dropout=0:0.5:3 (3 points), or a JSON file.
      choosing: how the space is searched.
      finetune: train the final configuration on all examples, too, as a checkpoint below --out.
      dividing: how the outer folds are divided, which give the score; inner folds are of the same kind.
      training: how to train, where the space says nothing else.
      running: how the run is carried out.
      debug: show the traceback of an error.
    """
    plan, dimensions = Plan(**vars(training)), parse_space(space)
    searching = Searching(**vars(choosing))
    again = lambda begun: _tell(load_search(begun.run.path), begun)  # noqa: E731
    with open_run(out, "search", subject, running, tell=again) as begun:
        split = split_source(begun.source, splitting_of(dividing), dividing.folds, plan.seed, begun.task)
        many = count_trainings(begun.network, begun.source, plan, dimensions, searching, split, begun.task)
        if many[1] >= MANY:
            fewer = "; halving stops most of them early" if searching.strategy == "halving" else ""
            console.print(
                f"{many[0]:,} configurations on all folds: {many[1]:,} trainings{fewer}. Fewer values, --inner-folds 2 "
                "or --strategy halving make it quicker",
                soft_wrap=True,
                highlight=False,
            )
        with begun.shown(1, plan) as execution:
            found = search(
                begun.network,
                begun.source,
                plan,
                dimensions,
                searching,
                task=begun.task,
                splitter=split,
                execution=execution,
            )
        _tell(found, begun)
        if finetune:
            _train_final(found, begun)
        with begun.result(RESULT) as made:
            found.write_to(made)
            split.save(made / SPLIT, begun.source)
        begun.finish()
        if not finetune:
            line = shlex.join(["jaxdl", "finetune", *finetune_arguments(found, subject)])
            console.print(f"To train the final one on all examples: {line}", soft_wrap=True, highlight=False)


def _train_final(found: SearchResult, begun: Begun) -> None:
    execution = begun.execution.below("finetune")
    trained = train(found.final_init, begun.source, found.final_plan, task=begun.task, execution=execution)
    begun.run.place_folder(save(trained.checkpoint, begun.run.fresh(FINAL)), FINAL)


def finetune_arguments(found: SearchResult, subject: Subject) -> list[str]:
    """What follows ``jaxdl finetune`` to train the final configuration; what is as by default is left out."""
    values, start = found.configurations[found.final]["values"], found.final_init
    words = [*words_of_start(start, values.get("init", subject.init)), *words_of_plan(found.final_plan)]
    return [*words_of_examples(subject), "--out", FINAL, *words]


def _tell(found: SearchResult, begun: Begun) -> None:
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
    console.print(Text(f"* is the final configuration. {choice(found)}", style="dim"))
    for text in (beside({"": found.result}), stability(found), seeds_said(found), *search_edges(found)):
        if text:
            console.print(text, highlight=False)
    say_cautions(found.result.leaks)
    for one in found.groups:
        members = len(one["configurations"])
        many = "configurations" if members > 1 else "configuration"
        side = f", {one['width']} trainings at once at most" if one["width"] > 1 else ""
        console.print(
            f"{members} {many} of one program: {one['name']} ({one['reason']}){side}", highlight=False, soft_wrap=True
        )
    say_about("±", begun.page_file, HOW_SURE)
