"""Cross-validation of a training plan."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data.source import Source, arrange_columns, check_source
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.models.variables import walk_shapes
from jaxdl.parallel.hosts import beat
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore, kept
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.setup import Init, Setup, choose_preprocessing
from jaxdl.training.traced_hyperparameters import TracedHyperparameters
from jaxdl.training.transfer import describe_run
from jaxdl.validation.baselines import grow_trees, with_baselines
from jaxdl.validation.batched_runs import BatchedRuns, Outcome
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.result import OutOfFold, Result, concatenated, mean_and_spread
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.statistics.intervals import METHODS, Method, check_method
from jaxdl.validation.statistics.nested import NESTED_REPEATS, check_nested, nested_interval
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.strategy import STRATEGIES, check_strategy, choose_strategy
from jaxdl.validation.told import StrategyTold
from jaxdl.weights.checkpoint import Checkpoint, environment

if TYPE_CHECKING:
    from jaxdl.validation.parts import Share


@check_arguments
@watched
def cross_validate(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    task: Task | str | None = None,
    metrics: Metrics = None,
    splitter: str | Splitting | Any = "auto",
    folds: int = 5,
    interval: Method | tuple[str, int] = "auto",
    execution: Execution = Execution(),  # noqa: B008
) -> Result:
    """How good is what `plan` makes of `init` with such data?

    Every fold starts from the same restored weights with a fresh head, takes the same number of steps, and never sees
    its test examples: not in normalisation, not in any choice. What would make its score too good all the same, such as
    copies of an example on both sides, is looked for first and refused; see `leakage.check_leaks`. Test predictions
    after each epoch draw the curves; only those after the last are counted.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how to train each fold.
      task: what is asked of the examples; by default what their targets look like. See `tasks.choose_task`.
      metrics: by what it is scored; the first is the score, and chooses the epoch of early stopping, which otherwise
        the loss does. See `tasks.Task.scored_by`.
      splitter: ``auto`` (stratified where the task has strata such as classes, and groups whole), another name of
        `validation.splits.SPLITTERS`, a `Splitting` (a name with options), any scikit-learn splitter (the source's
        groups are passed on), folds as a list ``[(train, test), …]`` of indices, or a `Split` or the file of one: the
        same folds.
      folds: for a splitter by name.
      interval: by which method the result says how sure its score is: see `statistics.intervals.interval`. ``nested``
        (Bates, Hastie & Tibshirani 2024) trains K(K - 1)/2 networks more, on what two folds both train on, and is about
        a network trained on all examples; ``("nested", repeats)`` divides the examples so often, each time but the
        first with K networks more (3 times unless said). See `statistics.nested`.
      execution: how the run is executed, and which leaks to go on with.

    Returns:
      A `Result`.

    Raises:
      InputError: if data, task, plan, model and splitter do not go together, for a leak that is not allowed, or if the
        numbers stop being finite.
      Interrupted: see `training.resume.RunFolder`.
    """
    asked = choose_task(check_source(source), task, metrics, purpose="cross-validation")
    split = split_source(source, splitter, folds, plan.seed, asked)
    return run_folds(Folds(init, source, plan, asked, split, interval), execution)


@dataclasses.dataclass(frozen=True)
class Folds:
    """What is cross-validated.

    Attributes:
      init, source, plan, interval: as of `cross_validate`.
      task: what is asked.
      split: the folds.
      only: numbers of those to train; None for all. They come out as they do among all.
      part: which part of the folds is trained here, the others elsewhere; see `parts`. Unlike with `only`, what is
        checked is checked of all folds, so that it is refused wherever the whole would be.
      numbers: of each fold, in place of the plan's; for `validation.search`, where each fold chooses its own.
    """

    init: Init
    source: Source
    plan: Plan
    task: Task
    split: Split
    interval: Method | tuple[str, int] = "auto"
    only: Sequence[int] | None = None
    part: "Share | None" = None
    numbers: Mapping[int, TracedHyperparameters] | None = None


def run_folds(asked: Folds, execution: Execution) -> Result:
    """`cross_validate`, with folds that are given."""
    begin, source, split = time.perf_counter(), asked.source, asked.split
    method, repeats = asked.interval if isinstance(asked.interval, tuple) else (asked.interval, NESTED_REPEATS)
    check_choice("interval", method, METHODS)
    chosen = chosen_folds(asked)
    count = len(chosen)
    if method == "nested":
        check_nested(source, split, count, repeats, asked.task.score)
        if execution.store is None:
            execution = execution.replace(store=DataStore(asked.plan.batch_size))
    elif method != "auto":
        check_method(method, count)
    result = train_folds(asked, execution)
    train, test = ([part[row["fold"]] for row in result.folds] for part in (split.train, split.test))
    trees = kept(
        execution.store,
        lambda: ("trees", source.fingerprint(), source.columns, str(asked.task.plain()), split.sha256, *chosen),
        lambda: grow_trees(source, result.asked, train, test),
    )
    result = with_baselines(result, source, train, test, trees)
    if method != "nested":
        return summarised(result, source.groups, method)

    def again(division: Split, name: str) -> Result:
        strategy = result.fold_strategy["name"]
        plain = execution.below(name).replace(fold_strategy=strategy, keep_models=False, progress=None)
        return train_folds(dataclasses.replace(asked, split=division, interval="auto", only=None, numbers=None), plain)

    result = summarised(result)
    found = nested_interval(result, source, split, again, repeats=repeats)
    return dataclasses.replace(result, interval=found.as_dict(), seconds=time.perf_counter() - begin)


def train_folds(asked: Folds, execution: Execution) -> Result:
    """The result of the folds, without what is computed of it afterwards: baseline, other metrics, interval."""
    begin = time.perf_counter()
    init, plan, split = asked.init, asked.plan, asked.split
    check_choice("fold strategy", execution.fold_strategy, STRATEGIES)
    allow = check_allowed(execution.allow)
    source = arrange_columns(asked.source, init.card) if isinstance(init, Checkpoint) else asked.source
    chosen = chosen_folds(asked)
    checked = chosen if asked.part is None else range(len(split))
    for fold in checked:
        asked.task.check_test(len(split.test[fold]), "cross-validation")
    asked.task.check_parts(source.targets(), [split.train[fold] for fold in checked], "cross-validation")
    beat("hashing the examples", slow=True)
    if execution.work:
        execution.work.claim(settings_of(asked, source, execution), environment())
    beat("looking for leaks", slow=True)
    leaks = check_leaks(init, source, split, allow=allow, folds=checked, store=execution.store, task=asked.task)
    setup = prepare(
        init,
        source,
        plan,
        split.train,
        asked.task,
        execution.remembering(),
        preprocessing=choose_preprocessing(init, source, execution.image_size),
    )
    setup = dataclasses.replace(setup, numbers=asked.numbers)
    execution.remember(bool(setup.streamed))
    made, strategy = _train(setup, asked, chosen, execution)
    result = _joined(setup, asked, chosen, made, strategy)
    return dataclasses.replace(result, leaks=[leak.as_dict() for leak in leaks], seconds=time.perf_counter() - begin)


def chosen_folds(asked: Folds) -> list[int]:
    """Numbers of the folds to train, in their order. Raises InputError for what are no folds."""
    count = len(asked.split)
    if asked.part is not None:
        return asked.part.folds(count)
    chosen = list(range(count)) if asked.only is None else [int(k) for k in asked.only]
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(count)):
        raise InputError(f"the folds to train are {chosen}; expected different numbers from 0 to {count - 1}")
    return chosen


def settings_of(asked: Folds, source: Source, execution: Execution) -> dict[str, Any]:
    """What the numbers of the run depend on, as plain values."""
    known = {key: value for key, value in asked.split.as_dict().items() if key in ("kind", "k", "seed", "sha256")}
    settings = {
        "call": "cross_validate",
        "image_size": execution.image_size,
        **describe_run(asked.init, source, asked.plan, asked.task, execution),
        "folds": chosen_folds(asked),
        "fold_strategy": execution.fold_strategy,
        "split": known,
        "keep_models": execution.keep_models,
    }
    settings |= {"allow": list(execution.allow)} if execution.allow else {}
    settings |= {} if asked.interval == "auto" else {"interval": asked.interval}
    settings |= {} if asked.part is None else {"folds_of": str(asked.part)}
    if asked.numbers is not None:
        settings["numbers"] = {
            str(fold): [float(value) for _, value in walk_shapes(traced)] for fold, traced in asked.numbers.items()
        }
    return settings


def _train(
    setup: Setup, asked: Folds, chosen: Sequence[int], execution: Execution
) -> tuple[list[Outcome], Mapping[str, Any]]:
    """What became of each fold, and by which strategy."""
    work, strategy = execution.work, execution.fold_strategy
    runs, runners = [setup.run(fold) for fold in chosen], {}
    check_strategy(setup, strategy)
    choice = work.recall("strategy", StrategyTold) if work else None  # a trial may end otherwise the next time
    if choice is not None:
        check_strategy(setup, choice["name"])
    else:
        choice = {"name": strategy, "reason": "asked for"}
        if strategy == "auto":
            choice, runners = choose_strategy(setup, runs)
        if work:
            work.note("strategy", choice)
    batched = BatchedRuns(setup, asked.split.test, choice["name"], len(runs), execution, asked.init, runners)
    return batched.run(runs, "folds"), choice


def _joined(
    setup: Setup, asked: Folds, chosen: Sequence[int], made: Sequence[Outcome], strategy: Mapping[str, Any]
) -> Result:
    task, split = setup.task, asked.split
    rows = []
    for fold, one in zip(chosen, made, strict=True):
        size = {"train": len(split.train[fold]), "test": len(split.test[fold])}
        best = {} if one.best_epoch is None else {"best_epoch": one.best_epoch}
        rows.append({"fold": fold, **size, **one.scores, **best, "seconds": one.seconds})
    mean, std = mean_and_spread([row[task.metric] for row in rows])
    index = np.concatenate([split.test[fold] for fold in chosen])
    out_of_fold = OutOfFold(
        index=index,
        fold=np.repeat(chosen, [len(split.test[fold]) for fold in chosen]),
        target=setup.targets_of(index),
        kept=concatenated([one.held_out["kept"] for one in made]),
    )
    curves = [row for one in made for row in one.rows]
    if strategy["name"] != "loop":  # folds were trained at once
        curves.sort(key=lambda row: row["epoch"])
    name, arguments = describe(setup.model)
    return Result(
        task=task.name,
        metric=task.metric,
        mean=mean,
        std=std,
        folds=rows,
        fold_strategy=strategy,
        split=split.as_dict(),
        init=describe_init(asked.init),
        model={"name": name, "arguments": arguments},
        plan=asked.plan.as_dict(),
        data={"name": setup.source.name, "examples": len(setup.source), "class_names": list(task.names)},
        cached=setup.start is not None,
        streamed=setup.streamed,
        environment=environment(),
        seconds=0.0,
        out_of_fold=out_of_fold,
        curves=curves,
        models=[one.model for one in made] if made[0].model is not None else None,
        question=task.plain(),
        own=task,
    )


def describe_init(init: Init) -> dict[str, Any]:
    """Where a training starts, as plain values."""
    if not isinstance(init, Checkpoint):
        return {"kind": "scratch", "model": describe(init)[0]}
    held = {"kind": "checkpoint", "model": describe(init.model)[0], "path": init.path}
    return held | ({"source": dict(init.card.source)} if init.card.source else {})
