"""The score of one network on examples that had no part in making it, with its interval."""

from typing import Any

import jax
import numpy as np

from jaxdl.tasks import Task
from jaxdl.tasks.metric import NoInterval
from jaxdl.validation.statistics.intervals import Interval, out_of_fold
from jaxdl.validation.statistics.sample import Sample

ABOUT = "{metric} on new examples of the same kind, of this very network"
OF = "that of {count} examples that had no part in making it"


def score_on_unseen(
    task: Task, kept: Any, targets: Any, groups: np.ndarray | None = None, level: float = 0.95
) -> Interval | None:
    """By the task's score; as an interval ``out-of-fold``, but without an allowance for other training examples.

    Args:
      task: what was asked.
      kept: what the task keeps of the outputs, arrays ``[n, …]``, as of `predict`.
      targets: the truth, arrays ``[n, …]``.
      groups: of the examples, which are then taken whole.
      level: how often such an interval holds the truth.

    Returns:
      None where there is nothing to make it from: one example or group, or a metric without interval.
    """
    count = len(jax.tree.leaves(targets)[0])
    sample = Sample(
        metric=task.score,
        record=task.host_record(kept, targets),
        fold=np.zeros(count, int),
        unit=np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1],
        index=np.arange(count),
        train=np.zeros(1),
        test=np.full(1, float(count)),
    )
    if isinstance(sample.metric, NoInterval) or sample.units < 2 or not np.isfinite(sample.pooled_score):
        return None
    ends = out_of_fold(sample.metric, sample.pooled_score, sample.variance, sample.units, 0.0, level)
    low, high = np.clip(ends, *sample.metric.bounds)
    about, of = ABOUT.format(metric=sample.metric.name), OF.format(count=count)
    return Interval(float(low), float(high), level, "out-of-fold", about, sample.pooled_score, of)
