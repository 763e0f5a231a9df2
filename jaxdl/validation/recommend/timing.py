"""How long a training will take, from a few of its steps."""

import contextlib
import itertools
import time
from collections.abc import Sequence

import jax
import numpy as np

from jaxdl.data.source import Source
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.feeds import make_feeds
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.setup import Init, choose_preprocessing
from jaxdl.training.transfer import runner_on

TIMED = 3  # calls of the program after the one that compiles it, at most
ENOUGH = 2.0  # seconds after which no more are timed
FORWARD = 1 / 3  # of the time of a step: what predicting the same examples takes


def estimate_seconds(
    init: Init, source: Source, plan: Plan, parts: Sequence[np.ndarray], task: Task, execution: Execution
) -> float:
    """Seconds of a cross-validation, one fold after the other, its measurements included.

    What is trained for it is discarded; the program that it compiles, and with a store in `execution` what frozen
    stages make of the examples, serve the training itself, too.

    Args:
      init, source, plan, task, execution: as of `cross_validate`.
      parts: training indices of each fold.

    Raises:
      InputError: as `cross_validate`, for what does not go together.
    """
    setup = prepare(
        init,
        source,
        plan,
        parts,
        task,
        execution,
        preprocessing=choose_preprocessing(init, source, execution.image_size),
    )
    runner, run = runner_on(setup.layout.executor(), setup), setup.run(0)
    state = runner.executor.place_state(jax.tree.map(lambda a: a.copy(), setup.states([run])))
    taken, begin, seconds = 0, 0.0, 0.0
    with contextlib.closing(make_feeds(setup, [run], None)) as feeds:
        calls = itertools.chain.from_iterable(feeds.train(runner, epoch, 0) for epoch in range(plan.epochs))
        for place, (count, batch, shared) in enumerate(itertools.islice(calls, 1 + TIMED)):
            state, _ = runner.step(state, batch, shared)
            jax.block_until_ready(state)
            if place == 0:  # it compiled
                begin = time.perf_counter()
                continue
            taken, seconds = taken + count, time.perf_counter() - begin
            if seconds > ENOUGH:
                break
    steps = plan.epochs * setup.steps * len(parts)
    tested = len(source) / sum(len(part) for part in parts)  # every example is tested once in each measurement
    return seconds / max(taken, 1) * steps * (1 + FORWARD * tested / plan.eval_every)
