"""What a single training scores on examples that were held out from it, with all that is said of a cross-validation."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxdl.data.content import hash_indices
from jaxdl.data.source import Source, arrange_columns
from jaxdl.models import describe
from jaxdl.training.execution import Execution
from jaxdl.training.predict import predict
from jaxdl.training.setup import Init
from jaxdl.training.transfer import Trained, validation_targets
from jaxdl.validation.baselines import grow_trees, with_baselines
from jaxdl.validation.crossval import describe_init
from jaxdl.validation.result import OutOfFold, Result, finite
from jaxdl.validation.statistics.metrics import measure
from jaxdl.validation.statistics.unseen import of_network
from jaxdl.weights.checkpoint import environment

HELD_OUT = "held_out"  # the folder of the result in that of the run, and the kind of its split
LEVEL = 0.95


def held_out_result(
    init: Init,
    trained: Trained,
    source: Source,
    validation: Source,
    batch_size: int = 64,
    execution: Execution = Execution(),  # noqa: B008
) -> Result | None:
    """The result of a training as one of a single fold: its checkpoint on what was held out.

    Args:
      init: what training started from.
      trained: of `training.transfer.train`; it is its `checkpoint` that is scored, and not `best`, which was chosen by
        these examples.
      source: what it was trained on.
      validation: what was held out.
      batch_size: examples at a time.
      execution: whether they are read batch by batch.

    Returns:
      The result, with an interval for this very network (see `of_network`); None where what is predicted has no form
      that can be kept, as maps of several sizes.
    """
    made, task = trained.checkpoint, trained.checkpoint.card.task
    source, validation = (arrange_columns(one, made.card) for one in (source, validation))
    predicted = predict(made, validation, batch_size=batch_size, execution=execution)
    targets = validation_targets(task, source, validation)
    count = len(validation)
    if not all(isinstance(leaf, np.ndarray) and len(leaf) == count for leaf in _leaves((predicted.outputs, targets))):
        return None
    scores = finite(task.evaluate(predicted.outputs, targets))
    groups = None if validation.groups is None else np.unique(validation.groups, return_inverse=True)[1]
    name, arguments = describe(made.model)
    result = Result(
        task=task.name,
        metric=task.metric,
        mean=scores.get(task.metric),
        std=None,
        folds=[{"fold": 0, "train": len(source), "test": count, **scores}],
        fold_strategy={"name": HELD_OUT, "reason": "a single part was held out"},
        split={"kind": HELD_OUT, "k": 1, "seed": None, "sha256": hash_indices([validation.hashes().view(np.int64)])},
        init=describe_init(init),
        model={"name": name, "arguments": arguments},
        plan=made.card.plan or {},
        data={"name": validation.name, "examples": count, "class_names": list(task.names)},
        cached=False,
        environment=environment(),
        seconds=0.0,
        out_of_fold=OutOfFold(np.arange(count), np.zeros(count, int), targets, predicted.outputs, groups),
        curves=[{"fold": 0, **row} for row in made.history],
        question=task.plain(),
        own=task,
    )
    both = source.join(validation, task.join(source.targets(), targets))
    train, test = np.split(np.arange(len(both)), [len(source)])
    trees = grow_trees(both, task, [train], [test])
    result = with_baselines(result, both, [train], [test], trees)
    interval = of_network(result.sample(), LEVEL)
    return dataclasses.replace(result, interval=interval and interval.as_dict(), metrics=measure(result))


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda value: isinstance(value, list))
