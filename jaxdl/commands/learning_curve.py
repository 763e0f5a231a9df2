"""``jaxdl learning-curve``."""

from typing import Annotated, Literal

import tyro

from jaxdl.cli_options import (
    Debug,
    Dividing,
    DividingOptions,
    NewRun,
    RunningFolds,
    RunningFoldsOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    splitting_of,
)
from jaxdl.commands.console import console, say_about, say_cautions
from jaxdl.commands.run import Begun, open_run
from jaxdl.report.learning_curve import TITLE, outlook, print_curve, write_learning_curve
from jaxdl.training.plan import Plan
from jaxdl.validation.learning_curve import CURVE, LearningCurve, learning_curve, load_learning_curve

PICTURE = "learning_curve.png"


def learning_curve_command(
    *,
    subject: SubjectOptions,
    out: NewRun,
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SHARE% ...")] = ("auto",),
    budget: Literal["steps", "epochs"] = "steps",
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningFoldsOptions = RunningFolds(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Measure how the score grows with the number of training examples.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      sizes: numbers of training examples or shares of a fold's, such as 10 20 50 100%; auto halves them all four times.
      budget: what is the same at all sizes: optimizer steps (small sizes then take more epochs), or the plan's epochs.
      dividing: how the examples are divided; the folds test the same ones at every size.
      training: how to train each fold at full size.
      running: how the run is carried out.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    again = lambda begun: _tell(load_learning_curve(begun.run.path), begun)  # noqa: E731
    kept = f"results, {PICTURE}"
    with open_run(out, "learning-curve", subject, running, logs=False, tell=again, kept=kept) as begun:
        with begun.shown(dividing.folds * plan.epochs, plan) as execution:
            curve = learning_curve(
                begun.network,
                begun.source,
                plan,
                sizes="auto" if sizes == ("auto",) else sizes,
                budget=budget,
                task=begun.task,
                splitter=splitting_of(dividing),
                folds=dividing.folds,
                execution=execution,
            )
        _tell(curve, begun)
        with begun.result(CURVE) as made:
            curve.write_to(made)
            write_learning_curve(made / PICTURE, curve)
        begun.finish()


def _tell(curve: LearningCurve, begun: Begun) -> None:
    print_curve(console, curve, explained=begun.page_file is None)
    console.print(outlook(curve), soft_wrap=True)
    say_cautions(*(result.leaks for result in curve.results))
    say_about("± and the interval", begun.page_file, TITLE)
