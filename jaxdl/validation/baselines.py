"""What other models score on the same folds: one that looks at no example, and boosted trees on a table.

Both are fitted to a fold's training part alone, so that a result can be read beside them.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.source import Source, every_x
from jaxdl.tasks import Task
from jaxdl.validation.result import Result, concatenated, finite, taken
from jaxdl.validation.statistics.sample import Sample
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
      kept: as the task's `predict` gives it, arrays ``[rows, …]`` of the test parts one after another; None where it
        was left out.
      seconds: that it took.
      skipped: why it was left out; empty if it was not.
    """

    kept: Any = None
    seconds: float = 0.0
    skipped: str = ""


def grow_trees(
    source: Source,
    task: Task,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    only: Sequence[int] | None = None,
) -> Trees:
    """Trees for each fold, fitted to the rows `train` and asked about the rows `test`: see `tasks.Task.boosted`.

    They are left out where the examples are no table of numbers, or the work of all folds would take longer than some
    seconds; of `only` some folds also then, so that the parts of a cross-validation have them all or none.
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
        for fold in range(len(train)) if only is None else only:
            learned, asked = train[fold], test[fold]
            kept = task.boosted(x[learned], taken(targets, learned), x[asked])
            if kept is None:
                return Trees(skipped=f"there are none for {task.name}")
            made.append(kept)
    return Trees(concatenated(made), time.perf_counter() - begin)


def _is_table(source: Source) -> bool:
    leaves = jax.tree.leaves(source.spec()["x"])
    flat = all(len(leaf.shape) <= 1 and np.dtype(leaf.dtype).kind in "fiub" for leaf in leaves)
    return flat and any(np.dtype(leaf.dtype).kind == "f" for leaf in leaves)  # whole numbers alone are tokens


def _rows(source: Source) -> np.ndarray:
    """All examples of a table, ``float64[n, features]``."""
    leaves = jax.tree.leaves(every_x(source))
    return np.concatenate([np.asarray(a, np.float64).reshape(len(source), -1) for a in leaves], 1)


def with_baselines(
    result: Result, source: Source, train: Sequence[np.ndarray], test: Sequence[np.ndarray], trees: Trees
) -> Result:
    """The result with what both models score on its held-out rows.

    Args:
      result: without them.
      source: of every example.
      train: indices of the training part of each fold of the result.
      test: of its held-out rows.
      trees: of the same folds.
    """
    return beside_baselines(result, constant_answers(result.asked, source, train, test), trees)


def constant_answers(task: Task, source: Source, train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> Any:
    """What the model that knows nothing but each fold's targets `train` says of the rows `test`."""
    made = guesses(task, source.targets(), train, test)
    return concatenated([task.read(kept, source, rows) for kept, rows in zip(made, test, strict=True)])


def guesses(task: Task, targets: Any, train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> list[Any]:
    """What the task's own baseline says of each fold's rows `test`."""
    return [task.baseline(taken(targets, rows), len(asked)) for rows, asked in zip(train, test, strict=True)]


def beside_baselines(result: Result, answers: Any, trees: Trees) -> Result:
    """`with_baselines`, of what both models said of the held-out rows."""
    held, (train, test) = result.out_of_fold, ([row[part] for row in result.folds] for part in ("train", "test"))
    asked = Held(result.asked, train, test, held.target, held.index)
    constant = asked.scored(answers)
    names = dict.fromkeys((result.metric, result.asked.LOSS))
    pooled = {name: constant[name].pooled_score for name in names if name in constant}
    return dataclasses.replace(result, baseline=pooled, baselines=asked.told(constant, trees))


def tell_baselines(
    task: Task, source: Source, train: Sequence[np.ndarray], test: Sequence[np.ndarray]
) -> Sequence[BaselineTold]:
    """What both models score on the rows `test` of each division, fitted to its rows `train`."""
    targets, index = source.targets(), np.concatenate(test)
    asked = Held(task, list(map(len, train)), list(map(len, test)), taken(targets, index), index)
    constant = asked.scored(constant_answers(task, source, train, test))
    return asked.told(constant, grow_trees(source, task, train, test))


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """What was held out in the folds, whose test parts stand one after another.

    Attributes:
      task: what is asked.
      train: number of examples in the training part of each fold.
      test: number of examples in the test part of each fold.
      truth: targets of the test parts, arrays ``[rows, …]``.
      index: examples of the test parts.
    """

    task: Task
    train: Sequence[int]
    test: Sequence[int]
    truth: Any
    index: np.ndarray

    def scored(self, kept: Any) -> dict[str, Sample]:
        """By the name of each metric that it allows, what was said of the test parts: `kept`, as of `Task.predict`."""
        record, rows = self.task.host_record(kept, self.truth), self.index
        train, test = np.array(self.train, np.float64), np.array(self.test)
        fold = np.repeat(np.arange(len(test)), test)
        asked = {name: self.task.find_metric(name) for name in (self.task.metric, *type(self.task).METRICS)}
        return {
            name: Sample(metric, record, fold, rows, rows, train, test)
            for name, metric in asked.items()
            if set(metric.reads) <= set(record)
        }

    def told(self, constant: Mapping[str, Sample], trees: Trees) -> list[BaselineTold]:
        """Both models with their scores, as plain values."""
        made = [{"name": self.task.BASELINE, "folds": _by_fold(constant)}]
        if trees.kept is None:
            return [*made, {"name": TREES, "folds": {}, "skipped": trees.skipped}]
        return [*made, {"name": TREES, "folds": _by_fold(self.scored(trees.kept)), "seconds": trees.seconds}]


def _by_fold(samples: Mapping[str, Sample]) -> dict[str, Any]:
    return finite({name: sample.fold_scores.tolist() for name, sample in samples.items()})
