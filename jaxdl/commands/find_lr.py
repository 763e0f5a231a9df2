"""``jaxdl find-lr``."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import Debug, Running, StartOptions, Training, TrainingOptions
from jaxdl.commands.console import check_outside, console
from jaxdl.commands.run import execution_of, read_examples, start_of
from jaxdl.commands.tokens import as_tokens
from jaxdl.report.range_test import check_picture, write_range_test
from jaxdl.tasks import choose_task
from jaxdl.training.plan import Plan
from jaxdl.training.range_test import find_learning_rate


def find_lr_command(
    *,
    subject: StartOptions,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.png")] = Path("find-lr.png"),
    training: TrainingOptions = Training(),  # noqa: B008
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    debug: Debug = False,
) -> None:
    """Suggest a learning rate: one that rises step by step until the loss does.

    Args:
      subject: what is trained, and on what.
      out: file for the picture, ending in .png, .svg or .pdf; must not exist yet.
      training: how to train; learning rate, schedule and epochs are not used.
      lowest: learning rate of the first step.
      highest: learning rate of the last step, if the loss does not grow before.
      steps: number of steps.
      debug: show the traceback of an error.
    """
    plan, out = Plan(**vars(training)), check_picture(out)
    check_outside(out, subject.data)
    execution = execution_of(subject, Running())
    source = as_tokens(read_examples(subject)[0], subject)
    task = choose_task(source, subject.task, purpose="find-lr")
    found = find_learning_rate(
        start_of(subject, task, source),
        source,
        plan,
        lowest=lowest,
        highest=highest,
        steps=steps,
        task=task,
        execution=execution,
    )
    write_range_test(out, found, f"{subject.model or subject.init} on {source.name}, {plan.optimizer}")
    console.print(f"suggestion: --learning-rate {found.suggestion:.2g} (a tenth of the rate with the smallest loss)")
    console.print(f"the loss fell fastest at {found.steepest:.2g}; the test took {len(found.rates)} steps")
    console.print(f"picture in {out}", soft_wrap=True)
