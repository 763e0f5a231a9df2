"""``jaxdl variance``."""

from pathlib import Path
from typing import Annotated

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
    option,
)
from jaxdl.commands.console import console, display, start_of
from jaxdl.commands.run import as_streaming, open_run, refuse_loggers, whole_result, without_broken
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
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    init: InitOption = None,
    model: ModelOption = None,
    splits: int = 10,
    seeds: int = 3,
    configurations: Annotated[tuple[str, ...], option("NAME=VALUES ...")] = (),
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    splitter: Splitter = "auto",
    test_fraction: float = 0.2,
    fold_strategy: FoldStrategy = "auto",
    allow: AllowOption = (),
    image_size: SizeOption = None,
    task: TaskOption = "auto",
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Measure how much of a score is the split, the seed, and the hyperparameters.

    Args:
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: folder for the results; new, or that of the same command, which then goes on.
      init: checkpoint that every training starts from.
      model: name of a model to train from scratch, instead of --init.
      splits: number of divisions of the examples.
      seeds: trainings of each configuration on each split.
      configurations: such as learning_rate=1e-3,3e-3; none for the plan alone; by default half to twice its rate.
      training: how to train, where the configurations say nothing else.
      running: how the run is carried out.
      splitter: how to divide; auto draws a test part anew each time, of whole groups where there are groups.
      test_fraction: share of the test part, for auto.
      fold_strategy: run trainings in turn (loop), side by side (vmap), over devices (shard), or as is fastest.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      task: whether the target column of a .csv names classes or is a number to foretell; auto looks at it.
      model_arguments: arguments of --model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    refuse_loggers(running)
    wanted = None if not configurations else [{}] if configurations == NONE else parse_space(configurations)
    with open_run(out, "variance", data, init, running, task) as run:
        source, broken = without_broken(sources.load(data, split="train", task=task), running)
        network = start_of(init, model, source, model_arguments)
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
                    image_size=image_size,
                    on_steps=shown.steps,
                    streaming=as_streaming(running),
                    workers=running.workers,
                    work=run,
                    allow=allow,
                )
            except AlreadyFinished as finished:
                console.print(str(finished), soft_wrap=True)
                return
        with whole_result(run, VARIANCE) as made:
            found.write_to(made)
            write_variance(made / PICTURE, found)
        run.finish(broken=broken)
    print_variance(console, found)
    console.print(f"results and {PICTURE} in {run.path}", soft_wrap=True)
