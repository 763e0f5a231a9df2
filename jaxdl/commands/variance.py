"""``jaxdl variance``."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Running,
    RunningOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
)
from jaxdl.commands.console import console, display
from jaxdl.commands.run import carried_out, load_subject, open_run, refuse_loggers, tell_finished, whole_result
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.report.variance import print_variance, write_variance
from jaxdl.training.plan import Plan
from jaxdl.training.resume import AlreadyFinished
from jaxdl.validation.search.space import parse_space
from jaxdl.validation.splits import Splitter
from jaxdl.validation.strategy import FoldStrategy
from jaxdl.validation.variance import VARIANCE, variance

PICTURE = "variance.png"
NONE = ("none",)


def variance_command(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    splits: int = 10,
    seeds: int = 3,
    configurations: Annotated[tuple[str, ...], option("NAME=VALUES ...")] = (),
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    splitter: Splitter = "auto",
    test_fraction: float = 0.2,
    fold_strategy: FoldStrategy = "auto",
    allow: AllowOption = (),
    debug: Debug = False,
) -> None:
    """Measure how much of a score is the split, the seed, and the hyperparameters.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      splits: number of divisions of the examples.
      seeds: trainings of each configuration on each split.
      configurations: such as learning_rate=1e-3,3e-3; none for the plan alone; by default half to twice its rate.
      training: how to train, where the configurations say nothing else.
      running: how the run is carried out.
      splitter: how to divide; auto draws a test part anew each time, of whole groups where there are groups.
      test_fraction: share of the test part, for auto.
      fold_strategy: run trainings in turn (loop), side by side (vmap), over devices (shard), or as is fastest.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    refuse_loggers(running)
    wanted = None if not configurations else [{}] if configurations == NONE else parse_space(configurations)
    with open_run(out, "variance", subject, running) as run:
        source, network, broken = load_subject(subject, running)
        with display(1) as shown:
            try:
                found = variance(
                    network,
                    source,
                    plan,
                    splits=splits,
                    seeds=seeds,
                    configurations=wanted,
                    splitter=splitter,
                    test_fraction=test_fraction,
                    fold_strategy=fold_strategy,
                    on_steps=shown.steps,
                    **carried_out(run, subject, running),
                    allow=allow,
                )
            except AlreadyFinished as finished:
                tell_finished(run, finished)
                return
        with whole_result(run, VARIANCE) as made:
            found.write_to(made)
            write_variance(made / PICTURE, found)
        run.finish(broken=broken)
    write_run_report(run.path)
    print_variance(console, found)
    console.print(f"results, {PICTURE} and {PAGE} in {run.path}", soft_wrap=True)
