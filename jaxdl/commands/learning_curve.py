"""``jaxdl learning-curve``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Running,
    RunningOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
)
from jaxdl.commands.console import console, display
from jaxdl.commands.run import carried_out, load_subject, open_run, refuse_loggers, tell_finished, whole_result
from jaxdl.report.learning_curve import outlook, print_curve, write_learning_curve
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.training.plan import Plan
from jaxdl.training.resume import AlreadyFinished
from jaxdl.validation.learning_curve import CURVE, learning_curve
from jaxdl.validation.splits import Splitter
from jaxdl.validation.strategy import FoldStrategy

PICTURE = "learning_curve.png"


def learning_curve_command(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SHARE% ...")] = ("auto",),
    budget: Literal["steps", "epochs"] = "steps",
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "auto",
    fold_strategy: FoldStrategy = "auto",
    allow: AllowOption = (),
    debug: Debug = False,
) -> None:
    """Measure how the score grows with the number of training examples.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      sizes: numbers of training examples or shares of a fold's, such as 10 20 50 100%; auto halves them all four times.
      budget: what all sizes get alike: optimizer steps, for which epochs are stretched, or the plan's epochs.
      training: how to train each fold at full size.
      running: how the run is carried out.
      folds: number of folds, which test the same examples at every size.
      splitter: how to divide the examples; auto heeds classes and groups.
      fold_strategy: how folds are run: in turn (loop), in one program (vmap), over devices (shard), or the fastest.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    refuse_loggers(running)
    with open_run(out, "learning-curve", subject, running) as run:
        source, network, broken = load_subject(subject, running)
        with display(folds * plan.epochs) as shown:
            try:
                curve = learning_curve(
                    network,
                    source,
                    plan,
                    sizes="auto" if sizes == ("auto",) else sizes,
                    budget=budget,
                    splitter=splitter,
                    folds=folds,
                    fold_strategy=fold_strategy,
                    progress=shown.row,
                    on_steps=shown.steps,
                    **carried_out(run, subject, running),
                    allow=allow,
                )
            except AlreadyFinished as finished:
                tell_finished(run, finished)
                return
        with whole_result(run, CURVE) as made:
            curve.write_to(made)
            write_learning_curve(made / PICTURE, curve)
        run.finish(broken=broken)
    write_run_report(run.path)
    print_curve(console, curve)
    console.print(outlook(curve), soft_wrap=True)
    console.print(f"results, {PICTURE} and {PAGE} in {run.path}", soft_wrap=True)
