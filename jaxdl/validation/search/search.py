"""Search for the best configuration, and how good what it finds is."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxdl.checks import check_arguments, check_fields
from jaxdl.data.source import Source, arrange_columns, check_source
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.baselines import grow_trees, with_baselines
from jaxdl.validation.batched_runs import Scores
from jaxdl.validation.crossval import Folds, train_folds
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.result import OutOfFold, Result, concatenated, mean_and_spread
from jaxdl.validation.search.configurations import Configuration, Group, configure, group, model_of
from jaxdl.validation.search.evaluate import Evaluation, Trained
from jaxdl.validation.search.inner import INNER, OUTER, Part, as_one, inner_splits, number_parts
from jaxdl.validation.search.result import SearchResult
from jaxdl.validation.search.selection import CRITERIA, SELECTIONS, halving_rungs, select
from jaxdl.validation.search.space import Space, make_space, propose
from jaxdl.validation.search.successive_halving import successive_halving
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.strategy import STRATEGIES
from jaxdl.weights.checkpoint import Checkpoint, environment

SearchStrategy = Literal["grid", "random", "halving"]
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Searching:
    """How a space is searched.

    Attributes:
      strategy: ``grid``: all combinations; ``random``: `trials` draws; ``halving``: draws, or all combinations; in each
        rung the better ones go on for `eta` times as many epochs (of the same schedule).
      trials: how many configurations to draw.
      eta: of halving.
      inner_splitter: of the inner folds; by default what the outer folds are, however they were given.
      inner_folds: number of inner folds.
      selection: ``best`` or ``one-se``: see `selection.select`.
      criterion: to choose by: the ``loss``, or the ``metric``; ``auto`` is the metric where one is asked for, else the
        loss. Equal ones are told apart by the loss.
      nested: False to save the inner folds: the score is then too good, and says so.
      seeds: how often each configuration is trained, from the plan's seed on; means over these choose.

    Raises:
      InputError: for a value that cannot be.
    """

    strategy: SearchStrategy = "grid"
    trials: int | None = None
    eta: int = 3
    inner_splitter: str | Any | None = None
    inner_folds: int = 3
    selection: str = "best"
    criterion: str = "auto"
    nested: bool = True
    seeds: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("selection", self.selection, SELECTIONS)
        check_choice("criterion", self.criterion, CRITERIA)
        if self.seeds < 1:
            raise InputError(f"seeds is {self.seeds}; expected a whole number of at least 1")


@check_arguments
@watched
def search(
    init: Init,
    source: Source,
    plan: Plan,
    space: Space,
    searching: Searching = Searching(),
    *,
    task: Task | str | None = None,
    metrics: Metrics = None,
    splitter: str | Splitting | Any = "auto",
    folds: int = 5,
    execution: Execution = Execution(),  # noqa: B008
) -> SearchResult:
    """Which configuration of `space` is best, and how good is what such a search finds?

    Nested cross-validation (Varma & Simon 2006): each outer fold's training part is divided into inner folds, which
    choose a configuration; that is trained on the whole part and tested on the outer fold, which took no part in the
    choice. The final configuration is chosen in the same way, with all examples: by the outer folds.

    Configurations that differ in numbers alone (learning rate, weight decay, label smoothing, clip_norm, the factors of
    stages, dropout, the rank of an adapter) are trained by one program, with all folds and seeds: one after the other,
    or side by side as far as memory allows. Each gets the numbers that `cross_validate` gives it alone.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch; the space may name others.
      source: labelled examples.
      plan: how to train, except what the space names.
      space: values by name: see `space.make_space` for the names, `space.as_dimension` for the values.
      searching: how it is searched.
      task: see `cross_validate`, as `metrics`, `splitter` and `folds`, which are of the outer folds.
      metrics: the first is the score, by which configurations are then chosen.
      splitter: of the outer folds.
      folds: number of outer folds.
      execution: how all is executed; leaks are looked for in the outer and in the inner folds. `progress` gets the
        rows of the chosen configurations' curves.

    Raises:
      InputError: for a space, data, plan or splitter that do not go together, or if no configuration could be trained.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    question = choose_task(check_source(source), task, metrics, purpose="a search")
    check_choice("fold strategy", execution.fold_strategy, STRATEGIES)
    allow = check_allowed(execution.allow)
    outer = split_source(source, splitter, folds, plan.seed, question)
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card)
    dimensions = make_space(space, model_of(init))
    drawn = propose(dimensions, searching.strategy, searching.trials, plan.seed)
    configurations = configure(drawn, init, plan, source, question, execution.image_size)
    rungs = [(plan.epochs, len(configurations))]
    if searching.strategy == "halving":
        _check_halving(dimensions, plan)
        rungs = halving_rungs(len(configurations), plan.epochs, searching.eta)
    splits, divisions = _divide(source, question, outer, searching, plan.seed)
    criterion = _criterion(searching, question)
    if criterion == "metric":
        for split in splits.values():
            question.check_test(min(map(len, split.test)), "a search")
    spoken = {name: {"kind": type(d).__name__, **_plain(d)} for name, d in dimensions.items()}
    told = {"strategy": searching.strategy, "rule": searching.selection, "criterion": criterion}
    told |= {"seeds": searching.seeds, "nested": searching.nested}
    if execution.work:
        asked = {"call": "search", "space": spoken, "trials": searching.trials, "eta": searching.eta, "search": told}
        asked |= _settings(splits, execution) | describe_run(init, source, plan, question, execution)
        execution.work.claim(asked, environment())
    groups = group(configurations)
    repeats = range(plan.seed, plan.seed + searching.seeds)
    evaluation = Evaluation(source, question, splits, groups, repeats, execution)
    execution = evaluation.execution
    for start in {id(one.first.init): one.first.init for one in groups}.values():
        check_leaks(start, source, outer, allow=allow, store=execution.store)
    if searching.nested:
        check_leaks(init, source, splits[INNER], allow=allow, store=execution.store)
    halving = successive_halving(evaluation, configurations, divisions, rungs, criterion)
    chosen = {name: select(standing, configurations, searching.selection) for name, standing in halving.last.items()}
    final = configurations[chosen[ALL]]
    choices = [chosen[fold] for fold in range(len(outer))] if searching.nested else []
    taken = choices or [final.number] * len(outer)
    seed_scores = _seed_scores(evaluation, halving.table, taken)
    results = _train_outer(groups, configurations, taken, Folds(init, source, plan, question, outer), execution)
    result = _join(results, [configurations[number] for number in taken], final, time.perf_counter() - begin)
    chose = question.metric if criterion == "metric" else question.LOSS
    selected = {"configurations": len(configurations), "nested": searching.nested, "criterion": chose}
    trees = grow_trees(source, question, outer.train, outer.test)
    result = dataclasses.replace(result, selected=selected)
    result = with_baselines(result, source, outer.train, outer.test, trees)
    result = summarised(result, source.groups)
    return SearchResult(
        nested=searching.nested,
        result=result,
        configurations=[one.as_dict() for one in configurations],
        scores=halving.rows,
        choices=choices,
        final=final.number,
        selection=told,
        seed_means=[result.mean, *(float(np.mean([row[result.metric] for row in rows])) for rows in seed_scores)],
        groups=[
            {"configurations": [one.number for one in g.configurations], **evaluation.chosen.get(i, {})}
            for i, g in enumerate(groups)
        ],
        space=spoken,
        seconds=time.perf_counter() - begin,
        final_init=final.init,
        final_plan=final.plan,
    )


def count_trainings(
    init: Init, source: Source, plan: Plan, space: Space, searching: Searching, outer: Split, task: Task
) -> tuple[int, int]:
    """How many configurations `search` tries, and how many trainings that takes; fewer where halving stops some."""
    drawn = propose(make_space(space, model_of(init)), searching.strategy, searching.trials, plan.seed)
    splits, _ = _divide(source, task, outer, searching, plan.seed)
    return len(drawn), len(drawn) * searching.seeds * sum(map(len, splits.values()))


def _divide(
    source: Source, task: Task, outer: Split, searching: Searching, seed: int
) -> tuple[dict[str, Split], dict[str | int, list[Part]]]:
    """The outer folds and the inner ones by name, and the parts by which each outer fold, and all examples, choose."""
    splits: dict[str, Split] = {OUTER: outer}
    divisions: dict[str | int, list[Part]] = {ALL: [(OUTER, fold) for fold in range(len(outer))]}
    if searching.nested:
        by_fold = inner_splits(source, task, outer, searching.inner_splitter, searching.inner_folds, seed)
        divisions |= number_parts(by_fold)
        splits[INNER] = as_one(by_fold)
    return splits, divisions


def _settings(splits: Mapping[str, Split], execution: Execution) -> dict[str, Any]:
    """What of the folds and the execution the numbers depend on."""
    settings = {
        "image_size": execution.image_size,
        "split": splits[OUTER].sha256,
        "inner": splits[INNER].sha256 if INNER in splits else None,
        "fold_strategy": execution.fold_strategy,
        "memory": execution.memory,
    }
    return settings | ({"allow": list(execution.allow)} if execution.allow else {})


def _criterion(searching: Searching, task: Task) -> str:
    """``loss`` or ``metric``."""
    if searching.criterion != "auto":
        return searching.criterion
    return "metric" if task.asked else "loss"


def _check_halving(dimensions: Mapping[str, Any], plan: Plan) -> None:
    """Raises InputError where a training cannot be paused after some of its epochs."""
    if "epochs" in dimensions:
        raise InputError("halving goes over epochs: they cannot be in its space; use strategy grid or random")
    if plan.early_stopping or "early_stopping" in dimensions:
        raise InputError("halving stops configurations by itself: leave early_stopping out, or use strategy grid")


def _plain(dimension: Any) -> dict[str, Any]:
    held = dataclasses.asdict(dimension) if not hasattr(dimension, "values") else {"values": list(dimension.values)}
    if "values" in held:
        held["values"] = [v if isinstance(v, int | float | str | list | None) else str(v) for v in held["values"]]
    return held


def _seed_scores(evaluation: Evaluation, table: Mapping[Trained, Scores], taken: Sequence[int]) -> list[list[Scores]]:
    """Scores of the outer folds with each seed but the first; what was not trained to the end before is now."""
    others = list(evaluation.seeds)[1:]
    wanted: list[tuple[int, Part]] = [(number, (OUTER, fold)) for fold, number in enumerate(taken)]
    missing = [(n, part) for n, part in wanted if any((n, part, seed) not in table for seed in others)]
    table = {**table, **(evaluation.run(missing, "chosen") if missing else {})}
    return [[table[n, part, seed] for n, part in wanted] for seed in others]


def _train_outer(
    groups: Sequence[Group],
    configurations: Sequence[Configuration],
    taken: Sequence[int],
    asked: Folds,
    execution: Execution,
) -> list[Result]:
    """Cross-validates the outer folds with what each took; those of a group at once."""
    results = []
    for place, members in enumerate(groups):
        numbers = {n: members.traced(configurations[n]) for n in taken if configurations[n] in members.configurations}
        mine = [fold for fold, number in enumerate(taken) if number in numbers]
        if mine:
            of_group = dataclasses.replace(
                asked,
                init=members.first.init,
                plan=members.first.plan,
                only=mine,
                numbers={fold: numbers[taken[fold]] for fold in mine},
            )
            results.append(train_folds(of_group, execution.below(f"outer-{place}")))
    return results


def _join(results: Sequence[Result], taken: Sequence[Configuration], final: Configuration, seconds: float) -> Result:
    """One result of all outer folds; what it says of plan and model is that of the final configuration."""
    mine = (one for one in results if any(taken[row["fold"]] is final for row in one.folds))
    first = next(mine, results[0])
    rows = [{**row, "configuration": taken[row["fold"]].number} for one in results for row in one.folds]
    rows.sort(key=lambda row: row["fold"])
    curves = [
        {
            **row,
            "learning_rate": row["learning_rate"] * taken[row["fold"]].plan.learning_rate / one.plan["learning_rate"],
        }
        for one in results
        for row in one.curves
    ]
    parts = {
        int(fold): one.out_of_fold.take(one.out_of_fold.fold == fold)
        for one in results
        for fold in np.unique(one.out_of_fold.fold)
    }
    held: OutOfFold = concatenated([parts[row["fold"]] for row in rows])
    mean, std = mean_and_spread([row[first.metric] for row in rows])
    name, arguments = describe(final.model)
    return dataclasses.replace(
        first,
        mean=mean,
        std=std,
        folds=rows,
        plan=final.plan.as_dict(),
        model={"name": name, "arguments": arguments},
        seconds=seconds,
        out_of_fold=held,
        curves=curves,
        leaks=list({leak["said"]: leak for one in results for leak in one.leaks}.values()),
    )
