"""``jaxdl find-lr``."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxdl import data as sources
from jaxdl.cli_options import (
    Debug,
    InitOption,
    ModelArguments,
    ModelOption,
    SizeOption,
    Spec,
    TaskOption,
    Training,
    TrainingOptions,
)
from jaxdl.commands.console import console, start_of
from jaxdl.report.range_test import check_picture, write_range_test
from jaxdl.training.plan import Plan
from jaxdl.training.range_test import find_learning_rate


def find_lr_command(
    *,
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png")] = Path("find-lr.png"),
    init: InitOption = None,
    model: ModelOption = None,
    training: TrainingOptions = Training(),  # noqa: B008
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    image_size: SizeOption = None,
    task: TaskOption = "auto",
    model_arguments: ModelArguments = (),
    debug: Debug = False,
) -> None:
    """Suggest a learning rate: one that rises step by step until the loss does.

    Args:
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: file for the picture, ending in .png, .svg or .pdf; must not exist yet.
      init: checkpoint to start from, or hf:OWNER/NAME of published weights.
      model: name of a model to train from scratch, instead of --init.
      training: how to train; learning rate, schedule and epochs are not used.
      lowest: learning rate of the first step.
      highest: learning rate of the last step, if the loss does not grow before.
      steps: number of steps.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      task: whether the target column of a .csv names classes or is a number to foretell; auto looks at it.
      model_arguments: arguments of --model, such as activation=tanh.
      debug: show the traceback of an error.
    """
    plan, out = Plan(**vars(training)), check_picture(out)
    source = sources.load(data, split="train", task=task)
    start = start_of(init, model, source, model_arguments)
    found = find_learning_rate(start, source, plan, lowest=lowest, highest=highest, steps=steps, image_size=image_size)
    write_range_test(out, found, f"{model or init} on {source.name}, {plan.optimizer}")
    console.print(f"suggestion: --learning-rate {found.suggestion:.2g} (a tenth of the rate with the smallest loss)")
    console.print(f"the loss fell fastest at {found.steepest:.2g}; the test took {len(found.rates)} steps")
    console.print(f"picture in {out}", soft_wrap=True)
