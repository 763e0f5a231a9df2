"""Search for the best configuration, and how good what it finds is."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.data.source import Source, arrange_columns, check_labelled
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.training.plan import Plan
from jaxdl.training.resume import RunFolder
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.crossval import below, cross_validate
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.result import OutOfFold, Result
from jaxdl.validation.search.configurations import Configuration, Group, configure, group, model_of
from jaxdl.validation.search.evaluate import INNER, OUTER, Evaluation, Part, Scores, Trained
from jaxdl.validation.search.inner import as_one, inner_splits, number_parts
from jaxdl.validation.search.result import SearchResult
from jaxdl.validation.search.selection import CRITERIA, SELECTIONS, halving_rungs, select
from jaxdl.validation.search.space import Space, make_space, propose
from jaxdl.validation.search.successive_halving import successive_halving
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.splitters import Splitting
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.strategy import STRATEGIES
from jaxdl.weights.checkpoint import Checkpoint, environment

SearchStrategy = Literal["grid", "random", "halving"]
SEARCH_STRATEGIES = get_args(SearchStrategy)
ALL = "all"


def search(
    init: Init,
    source: Source,
    plan: Plan,
    space: Space,
    *,
    strategy: SearchStrategy = "grid",
    trials: int | None = None,
    eta: int = 3,
    splitter: str | Any = "auto",
    folds: int = 5,
    splitting: Splitting | None = None,
    inner_splitter: str | Any | None = None,
    inner_folds: int = 3,
    selection: str = "best",
    criterion: str = "metric",
    nested: bool = True,
    seeds: int = 1,
    fold_strategy: str = "auto",
    memory: int | None = None,
    image_size: int | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    on_steps: Callable[[int], None] | None = None,
    streaming: bool | None = None,
    workers: int = 2,
    work: str | Path | RunFolder | None = None,
    allow: Iterable[str] = (),
) -> SearchResult:
    """Which configuration of `space` is best, and how good is what such a search finds?

    Nested cross-validation (Varma & Simon 2006): each outer fold's training part is divided into inner folds, which
    choose a configuration; that is trained on the whole part and tested on the outer fold, which had no say. The final
    configuration is chosen in the same way, with all examples: by the outer folds.

    Configurations that differ in numbers alone (learning rate, weight decay, label smoothing, clip_norm, the factors of
    stages, dropout) are trained by one program, with all folds and seeds: one after the other, or side by side as far
    as `memory` allows. Each gets the numbers that `cross_validate` gives it alone.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch; the space may name others.
      source: labelled examples.
      plan: how to train, but for what the space names.
      space: values by name: see `space.make_space` for the names, `space.as_dimension` for the values.
      strategy: ``grid``: all combinations; ``random``: `trials` draws; ``halving``: draws, or all combinations; in each
        rung the better ones go on for `eta` times as many epochs (of the same schedule).
      trials: how many configurations to draw.
      eta: of halving.
      splitter: of the outer folds, see `cross_validate`, as `folds` and `splitting`.
      folds: number of outer folds.
      splitting: options of the splitter.
      inner_splitter: of the inner folds; by default as the outer ones, where these may be divided so once more.
      inner_folds: number of inner folds.
      selection: ``best`` or ``one-se``: see `selection.select`.
      criterion: to choose by: the task's ``metric``, or the ``loss``. Equal ones are told apart by the loss.
      nested: False to save the inner folds: the score is then too good, and says so.
      seeds: how often each configuration is trained, from the plan's seed on; means over these choose.
      fold_strategy: ``loop``, ``vmap``, ``shard`` or ``auto``: see `cross_validate`.
      memory: bytes that trainings side by side may take; by default a quarter of the device's, or 4 GiB.
      image_size: see `training.setup.choose_preprocessing`.
      progress: told the rows of the chosen configurations' curves.
      on_steps: told how many steps were just taken.
      streaming: see `training.prepare`, as `workers`.
      workers: processes that decode what is streamed.
      work: folder where the state is kept. The same call goes on from there after an interruption, and ends with the
        same numbers.
      allow: leaks to go on with, see `cross_validate`; they are looked for in the outer and in the inner folds.

    Raises:
      InputError: for a space, data, plan or splitter that do not go together, or if no configuration could be trained.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    check_labelled(source, purpose="a search")
    allow = check_allowed(allow)
    check_choice("search strategy", strategy, SEARCH_STRATEGIES)
    check_choice("selection", selection, SELECTIONS)
    check_choice("criterion", criterion, CRITERIA)
    check_choice("fold strategy", fold_strategy, STRATEGIES)
    if not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"seeds is {seeds!r}; expected a whole number of at least 1")
    if memory is not None and memory <= 0:
        raise InputError(f"memory is {memory}; expected more than 0 bytes")
    outer = split_source(source, splitter, folds, plan.seed, splitting)
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card.columns)
    dimensions = make_space(space, model_of(init))
    configurations = configure(propose(dimensions, strategy, trials, plan.seed), init, plan, source, image_size)
    rungs = [(plan.epochs, len(configurations))]
    if strategy == "halving":
        _check_halving(dimensions, plan)
        rungs = halving_rungs(len(configurations), plan.epochs, eta)
    splits, divisions = {OUTER: outer}, {ALL: [(OUTER, fold) for fold in range(len(outer))]}
    if nested:
        by_fold = inner_splits(source, outer, splitter, splitting, inner_splitter, inner_folds, plan.seed)
        divisions |= number_parts(by_fold)
        splits[INNER] = as_one(by_fold)
    _check_sizes(source, splits, criterion)
    work = RunFolder(work) if isinstance(work, str | Path) else work
    spoken = {name: {"kind": type(d).__name__, **_plain(d)} for name, d in dimensions.items()}
    told = {"strategy": strategy, "rule": selection, "criterion": criterion, "seeds": seeds, "nested": nested}
    if work:
        asked = {"space": spoken, "trials": trials, "eta": eta, "search": told, "image_size": image_size}
        asked |= {"split": outer.sha256, "inner": splits[INNER].sha256 if nested else None}
        asked |= {"fold_strategy": fold_strategy, "memory": memory}
        asked |= {"allow": list(allow)} if allow else {}
        work.claim({"call": "search", **asked, **describe_run(init, source, plan)}, environment())
    groups = group(configurations, source)
    repeats = range(plan.seed, plan.seed + seeds)
    evaluation = Evaluation(
        source, splits, groups, repeats, fold_strategy, memory, image_size, streaming, workers, work, on_steps
    )
    for start in {id(one.first.init): one.first.init for one in groups}.values():
        check_leaks(start, source, outer, allow=allow, store=evaluation.store)
    if nested:
        check_leaks(init, source, splits[INNER], allow=allow, store=evaluation.store)
    halving = successive_halving(evaluation, configurations, divisions, rungs, criterion)
    chosen = {name: select(standing, configurations, selection) for name, standing in halving.last.items()}
    final = configurations[chosen[ALL]]
    choices = [chosen[fold] for fold in range(len(outer))] if nested else []
    taken = choices or [final.number] * len(outer)
    seed_scores = _seed_scores(evaluation, halving.table, taken)
    results = _train_outer(
        groups,
        configurations,
        taken,
        source,
        work,
        splitter=outer,
        fold_strategy=fold_strategy,
        image_size=image_size,
        progress=progress,
        on_steps=on_steps,
        streaming=streaming,
        workers=workers,
        store=evaluation.store,
        allow=allow,
    )
    result = _join(results, [configurations[number] for number in taken], final, time.perf_counter() - begin)
    selected = {"configurations": len(configurations), "nested": nested}
    result = summarised(dataclasses.replace(result, selected=selected), source.groups)
    return SearchResult(
        nested=nested,
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


def _check_halving(dimensions: Mapping[str, Any], plan: Plan) -> None:
    """Raises InputError where a training cannot be paused after some of its epochs."""
    if "epochs" in dimensions:
        raise InputError("halving goes over epochs: they cannot be in its space; use strategy grid or random")
    if plan.early_stopping or "early_stopping" in dimensions:
        raise InputError("halving stops configurations by itself: leave early_stopping out, or use strategy grid")


def _check_sizes(source: Source, splits: Mapping[str, Split], criterion: str) -> None:
    if source.class_names or criterion == "loss":
        return
    if min(len(test) for split in splits.values() for test in split.test) < 2:
        raise InputError("a fold tests a single example, of which there is no R²; use criterion='loss' or fewer folds")


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
    source: Source,
    work: RunFolder | None,
    **options: Any,
) -> list[Result]:
    """Cross-validates the outer folds with what each took; those of a group at once."""
    results = []
    for place, members in enumerate(groups):
        numbers = {n: members.traced(configurations[n]) for n in taken if configurations[n] in members.configurations}
        mine = [fold for fold, number in enumerate(taken) if number in numbers]
        if mine:
            results.append(
                cross_validate(
                    members.first.init,
                    source,
                    members.first.plan,
                    only_folds=mine,
                    numbers={fold: numbers[taken[fold]] for fold in mine},
                    work=below(work, f"outer-{place}"),
                    **options,
                )
            )
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
    parts: dict[int, dict[str, np.ndarray]] = {}
    for one in results:
        for fold in np.unique(one.out_of_fold.fold):
            mine = one.out_of_fold.fold == fold
            parts[int(fold)] = {name: column[mine] for name, column in one.out_of_fold.as_dict().items()}
    in_order = [parts[row["fold"]] for row in rows]
    held = OutOfFold(**{name: np.concatenate([part[name] for part in in_order]) for name in in_order[0]})
    scores = [row[first.metric] for row in rows]
    name, arguments = describe(final.model)
    return dataclasses.replace(
        first,
        mean=float(np.mean(scores)),
        std=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        folds=rows,
        plan=final.plan.as_dict(),
        model={"name": name, "arguments": arguments},
        seconds=seconds,
        out_of_fold=held,
        curves=curves,
        leaks=list({leak["said"]: leak for one in results for leak in one.leaks}.values()),
    )
