"""What other models score on the same folds: one that looks at no example, and boosted trees on a table.

Both are fitted to a fold's training part alone, so that a result can be read beside them.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.source import Source, every_x
from jaxdl.tasks import Task
from jaxdl.validation.result import LOGITS, Result, finite
from jaxdl.validation.told import BaselineTold

TREES = "gradient-boosted trees"
NO_TABLE = "the examples are no table of numbers"
# Entries of training tables times outputs, over all folds: about 10 s on one core. A fit counts as OVERHEAD more.
MOST_ENTRIES, OVERHEAD = 3_000_000, 10_000
MOST_FOLDS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Trees:
    """What scikit-learn's histogram gradient boosting with its default settings says of held-out rows of a table.

    Attributes:
      kept: of the test part of each fold, as the task's `predict` gives it; None where it was left out.
      seconds: that it took.
      skipped: why it was left out; empty if it was not.
    """

    kept: Sequence[Any] | None = None
    seconds: float = 0.0
    skipped: str = ""


def grow_trees(source: Source, task: Task, train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> Trees:
    """Trees for each fold, fitted to the rows `train` and asked about the rows `test`: see `tasks.Task.boosted`.

    They are left out where the examples are no table of numbers, or the work would take longer than some seconds.
    """
    begin = time.perf_counter()
    if not _is_table(source):
        return Trees(skipped=NO_TABLE)
    if len(train) > MOST_FOLDS:
        return Trees(skipped=f"there are {len(train)} folds, more than {MOST_FOLDS}")
    features = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(source.spec()["x"]))
    outputs = max(1, task.num_outputs if task.num_outputs > 2 else 1)
    if (entries := outputs * sum(len(rows) * features + OVERHEAD for rows in train)) > MOST_ENTRIES:
        return Trees(
            skipped=f"the table is too large to fit them within some seconds ({entries:.2g} entries over all "
            f"folds and outputs, {MOST_ENTRIES:.2g} at most)"
        )
    from threadpoolctl import threadpool_limits

    x, targets = _rows(source), source.targets()
    made = []
    with threadpool_limits(1, user_api="openmp"):  # threads that wait for each other are slow on a machine that is busy
        for learned, asked in zip(train, test, strict=True):
            kept = task.boosted(x[learned], jax.tree.map(lambda array, rows=learned: array[rows], targets), x[asked])
            if kept is None:
                return Trees(skipped=f"there are none for {task.name}")
            made.append(kept)
    return Trees(made, time.perf_counter() - begin)


def _is_table(source: Source) -> bool:
    leaves = jax.tree.leaves(source.spec()["x"])
    flat = all(len(leaf.shape) <= 1 and np.dtype(leaf.dtype).kind in "fiub" for leaf in leaves)
    return flat and any(np.dtype(leaf.dtype).kind == "f" for leaf in leaves)  # whole numbers alone are tokens


def _rows(source: Source) -> np.ndarray:
    """All examples of a table, ``float64[n, features]``."""
    leaves = jax.tree.leaves(every_x(source))
    return np.concatenate([np.asarray(a, np.float64).reshape(len(source), -1) for a in leaves], 1)


def with_baselines(result: Result, targets: Any, train: Sequence[np.ndarray], trees: Trees) -> Result:
    """The result with what both models score on its held-out rows.

    Args:
      result: without them.
      targets: of every example.
      train: indices of the training part of each fold of the result.
      trees: of the same folds.
    """
    task = result.asked
    guesses = [
        task.baseline(jax.tree.map(lambda array, part=part: array[part], targets), row["test"])
        for part, row in zip(train, result.folds, strict=True)
    ]
    constant = _scored_as(result, guesses)
    names = dict.fromkeys((result.metric, task.LOSS))
    pooled = {name: constant.sample(name).pooled_score for name in names if _can(constant, name)}
    told = [_told(task.BASELINE, constant)]
    if trees.kept is None:
        told.append({"name": TREES, "folds": {}, "skipped": trees.skipped})
    else:
        told.append(_told(TREES, _scored_as(result, trees.kept)) | {"seconds": trees.seconds})
    return dataclasses.replace(result, baseline=pooled, baselines=told)


def _scored_as(result: Result, kept: Sequence[Any]) -> Result:
    """The result, had its networks said `kept` of each fold."""
    together = jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
    held = dataclasses.replace(result.out_of_fold, kept=together)
    return dataclasses.replace(result, out_of_fold=held, outputs=LOGITS)


def _told(name: str, scored: Result) -> BaselineTold:
    asked = [one for one in dict.fromkeys((scored.metric, *type(scored.asked).METRICS)) if _can(scored, one)]
    return {"name": name, "folds": finite({one: scored.sample(one).fold_scores.tolist() for one in asked})}


def _can(scored: Result, name: str) -> bool:
    return set(scored.asked.metrics[name].reads) <= set(scored.record)
