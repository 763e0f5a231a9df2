"""``jaxdl learning-curve``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdl import data as sources
from jaxdl.cli_options import (
    AllowOption,
    Debug,
    InitOption,
    ModelArguments,
    ModelOption,
    Running,
    RunningOptions,
    SizeOption,
    Spec,
    TaskOption,
    Training,
    TrainingOptions,
)
from jaxdl.commands.console import console, display, start_of
from jaxdl.commands.run import as_streaming, open_run, refuse_loggers, whole_result, without_broken
from jaxdl.report.learning_curve import outlook, print_curve, write_learning_curve
from jaxdl.training.plan import Plan
from jaxdl.training.resume import AlreadyFinished
from jaxdl.validation.learning_curve import CURVE, learning_curve
from jaxdl.validation.splits import Splitter
from jaxdl.validation.strategy import FoldStrategy

PICTURE = "learning_curve.png"


def learning_curve_command(
    *,
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    init: InitOption = None,
    model: ModelOption = None,
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SHARE% ...")] = ("auto",),
    budget: Literal["steps", "epochs"] = "steps",
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "auto",
    fold_strategy: FoldStrategy = "auto",
    allow: AllowOption = (),
    image_size: SizeOption = None,
    task: TaskOption = "auto",
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Measure how the score grows with the number of training examples.

    Args:
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: folder for the results; new, or that of the same command, which then goes on.
      init: checkpoint that every fold starts from.
      model: name of a model to train from scratch, instead of --init.
      sizes: numbers of training examples or shares of a fold's, such as 10 20 50 100%; auto halves them all four times.
      budget: what all sizes get alike: optimizer steps, for which epochs are stretched, or the plan's epochs.
      training: how to train each fold at full size.
      running: how the run is carried out.
      folds: number of folds, which test the same examples at every size.
      splitter: how to divide the examples; group needs groups, time-series times; auto is stratified, of numbers kfold.
      fold_strategy: how folds are run: in turn (loop), in one program (vmap), over devices (shard), or the fastest.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      task: whether the target column of a .csv names classes or is a number to foretell; auto looks at it.
      model_arguments: arguments of --model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    refuse_loggers(running)
    with open_run(out, "learning-curve", data, init, running, task) as run:
        source, broken = without_broken(sources.load(data, split="train", task=task), running)
        network = start_of(init, model, source, model_arguments)
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
                    image_size=image_size,
                    progress=shown.row,
                    on_steps=shown.steps,
                    streaming=as_streaming(running),
                    workers=running.workers,
                    work=run,
                    allow=allow,
                )
            except AlreadyFinished as finished:
                console.print(str(finished), soft_wrap=True)
                return
        with whole_result(run, CURVE) as made:
            curve.write_to(made)
            write_learning_curve(made / PICTURE, curve)
        run.finish(broken=broken)
    print_curve(console, curve)
    console.print(outlook(curve), soft_wrap=True)
    console.print(f"results and {PICTURE} in {run.path}", soft_wrap=True)
