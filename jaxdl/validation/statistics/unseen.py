"""The score of one network on examples that had no part in making it, with its interval."""

from typing import Any

import jax
import numpy as np

from jaxdl.tasks import Task
from jaxdl.tasks.metric import NoInterval
from jaxdl.validation.statistics.intervals import POOLED, Interval, made_interval, out_of_fold
from jaxdl.validation.statistics.sample import Sample


def score_on_unseen(
    task: Task, kept: Any, targets: Any, trained: int, groups: np.ndarray | None = None, level: float = 0.95
) -> Interval | None:
    """By the task's score; see `of_network`.

    Args:
      task: what was asked.
      kept: what the task keeps of the outputs, arrays ``[n, …]``, as of `predict`.
      targets: the truth, arrays ``[n, …]``.
      trained: number of examples that the network was trained on.
      groups: of the n examples, which are then taken whole.
      level: how often such an interval holds the truth.
    """
    count = len(jax.tree.leaves(targets)[0])
    sample = Sample(
        metric=task.score,
        record=task.host_record(kept, targets),
        fold=np.zeros(count, int),
        unit=np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1],
        index=np.arange(count),
        train=np.full(1, float(trained)),
        test=np.full(1, float(count)),
    )
    return of_network(sample, level)


def of_network(sample: Sample, level: float = 0.95) -> Interval | None:
    """The score of the held-out rows of one network, with its interval for new examples of the same kind.

    As `intervals.out_of_fold` without what it adds for other training parts: of a share Wilson's interval. None where
    there is nothing to make it from: one example or group, or a metric without interval.
    """
    if isinstance(sample.metric, NoInterval) or sample.units < 2 or not np.isfinite(sample.pooled_score):
        return None
    ends = out_of_fold(sample.metric, sample.pooled_score, sample.variance, sample.units, 0.0, level)
    if not np.isfinite(ends).all():
        return None
    return made_interval(sample, ends, level, "held-out", sample.pooled_score, POOLED)
