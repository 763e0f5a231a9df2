"""Which learning rate? A short training in which it rises, until the loss does."""

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import optax

from jaxdl.checks import check_arguments
from jaxdl.data.batches import training_batches
from jaxdl.data.source import Source, check_source
from jaxdl.errors import InputError
from jaxdl.parallel.executor import on_one_device
from jaxdl.shown import Shown
from jaxdl.tasks import Task, choose_task
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import make_feeds
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.runners import make_runner
from jaxdl.training.setup import Init, weighed

if TYPE_CHECKING:
    import pandas as pd

DIVERGED = 4.0  # times the smallest loss: beyond it the test ends
BEGINNING = 8  # steps at first, whose running mean is of too few losses to have a slope
MEMORY = 0.9  # of the running mean that smooths the losses


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RangeTest(Shown):
    """What a learning-rate range test found.

    Attributes:
      rates: of the steps taken, ``float[steps]``.
      losses: of the batch, before each step.
      smoothed: their running mean, corrected for its beginning as Adam's are.
      suggestion: a peak for the learning rate: a tenth of the rate at which the smoothed loss was smallest.
      steepest: the rate at which the smoothed loss fell fastest; a more careful choice.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float
    steepest: float

    def to_frame(self) -> "pd.DataFrame":
        """A row for each step: ``rate``, ``loss``, ``smoothed``."""
        import pandas as pd

        return pd.DataFrame({"rate": self.rates, "loss": self.losses, "smoothed": self.smoothed})

    def _facts(self) -> dict[str, Any]:
        return {"suggestion": self.suggestion, "steepest": self.steepest, "steps": len(self.rates)}


@check_arguments
def find_learning_rate(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    task: Task | str | None = None,
    execution: Execution = Execution(),  # noqa: B008
) -> RangeTest:
    """Trains for a few steps while the learning rate rises exponentially (Smith 2017, arXiv:1506.01186).

    What is trained is discarded. The test ends early when the loss has grown to four times its smallest value.

    Args:
      init: a checkpoint, or a model to be trained from scratch; its head starts from new random weights.
      source: labelled examples.
      plan: everything but the learning rate, its schedule and the number of epochs is taken from it.
      lowest: learning rate of the first step.
      highest: that of the last one.
      steps: how many, if the loss does not grow before.
      task: what is asked of the examples; by default what their targets look like.
      execution: where examples are kept, and at which size.

    Raises:
      InputError: if plan, model and data do not go together, or no loss was finite for long enough to tell anything.
    """
    question = choose_task(check_source(source), task, purpose="a learning-rate range test")
    if not 0 < lowest < highest < float("inf"):
        raise InputError(f"the rates run from {lowest} to {highest}; expected 0 < lowest < highest")
    if steps < 10:
        raise InputError(f"steps is {steps}; expected at least 10")
    part = weighed(source, np.arange(len(source)))
    epoch_steps = len(training_batches([part], plan.batch_size, plan.seed, [0], 0)[0].indices)
    plan = dataclasses.replace(
        plan,
        epochs=-(-steps // epoch_steps),
        learning_rate=lowest,
        warmup_epochs=0.0,
        early_stopping=None,
        unfreeze_every=None,
        ema=0.0,
    )
    setup = prepare(init, source, plan, [part], question, execution)
    rates = np.geomspace(lowest, highest, steps)
    rising = optax.exponential_decay(lowest, steps - 1, highest / lowest)
    setup = dataclasses.replace(setup, rate=rising)
    # one step at a time, on one device: the test is short, and ends where the loss says
    runner = make_runner(on_one_device(), setup.recipe(), False)
    runs, losses = [setup.run(0)], []
    state = setup.states(runs)
    with contextlib.closing(make_feeds(setup, runs, None)) as feeds:
        for epoch in range(plan.epochs):
            for _, batch, shared in feeds.train(runner, epoch, 0):
                state, metrics = runner.step(state, batch, shared)
                losses.append(float(metrics["loss"][0]))
                if len(losses) == steps or not _goes_on(losses):
                    return _conclude(rates[: len(losses)], np.array(losses))
    raise AssertionError("the epochs hold fewer steps than they were counted to")


def smooth(losses: np.ndarray) -> np.ndarray:
    """Exponential running mean of ``losses[steps]``, each divided by the weight gathered so far."""
    mean, made = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        made.append(mean / (1 - MEMORY**step))
    return np.array(made)


def _goes_on(losses: list[float]) -> bool:
    if not np.isfinite(losses[-1]):
        return False
    smoothed = smooth(np.array(losses))
    return smoothed[-1] <= DIVERGED * smoothed.min()


def _conclude(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
    fine = np.isfinite(losses)
    rates, losses = rates[fine], losses[fine]
    if len(losses) < 10:
        raise InputError(
            f"the loss stopped being finite, or grew out of bounds, after {len(losses)} steps: begin with a lower "
            "rate, or look at the data"
        )
    smoothed = smooth(losses)
    best = int(smoothed.argmin())
    fall = np.gradient(smoothed, np.log(rates))
    steepest = BEGINNING + int(fall[BEGINNING : max(best, BEGINNING) + 1].argmin())
    return RangeTest(rates, losses, smoothed, float(rates[best] / 10), float(rates[steepest]))
