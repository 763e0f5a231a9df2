"""``jaxdl variance``."""

from typing import Annotated

from jaxdl.cli_options import (
    Debug,
    Division,
    DivisionOptions,
    NewRun,
    RunningFolds,
    RunningFoldsOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
    splitting_of,
)
from jaxdl.commands.console import console, say_about, say_cautions
from jaxdl.commands.run import Begun, open_run
from jaxdl.report.variance import TITLE, print_variance, write_variance
from jaxdl.training.plan import Plan
from jaxdl.validation.search.space import parse_space
from jaxdl.validation.variance import VARIANCE, Variance, load_variance, variance

PICTURE = "variance.png"
NONE = ("none",)


def variance_command(
    *,
    subject: SubjectOptions,
    out: NewRun,
    splits: int = 10,
    seeds: int = 3,
    configurations: Annotated[tuple[str, ...], option("NAME=VALUES ...")] = (),
    division: DivisionOptions = Division(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningFoldsOptions = RunningFolds(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Measure how much of a score is the split, the seed, and the hyperparameters.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      splits: number of divisions of the examples.
      seeds: trainings of each configuration on each split.
      configurations: such as learning_rate=1e-3,3e-3; none for the plan alone; by default half to twice its rate.
      division: how to divide; auto draws a test part for each split, of whole groups where there are groups.
      training: how to train, where the configurations say nothing else.
      running: how the run is carried out.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    wanted = None if not configurations else [{}] if configurations == NONE else parse_space(configurations)
    again = lambda begun: _tell(load_variance(begun.run.path), begun)  # noqa: E731
    kept = f"results, {PICTURE}"
    with open_run(out, "variance", subject, running, logs=False, tell=again, kept=kept) as begun:
        with begun.shown(1, plan) as execution:
            found = variance(
                begun.network,
                begun.source,
                plan,
                splits=splits,
                seeds=seeds,
                configurations=wanted,
                task=begun.task,
                splitter=splitting_of(division),
                execution=execution,
            )
        _tell(found, begun)
        with begun.result(VARIANCE) as made:
            found.write_to(made)
            write_variance(made / PICTURE, found)
        begun.finish()


def _tell(found: Variance, begun: Begun) -> None:
    print_variance(console, found, explained=begun.page_file is None)
    say_cautions(found.leaks)
    say_about("these splits", begun.page_file, TITLE)
