"""Cross-validation of a training plan."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source, arrange_columns, check_labelled
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.models.staged import walk_shapes
from jaxdl.training.features import DataStore
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import prepare
from jaxdl.training.resume import STATE, RunFolder
from jaxdl.training.setup import Init, choose_preprocessing
from jaxdl.training.traced_hyperparameters import TracedHyperparameters
from jaxdl.training.transfer import describe_run, remember_streaming, remembered_streaming
from jaxdl.validation.folds import run_folds
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.result import OutOfFold, Result
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.statistics.intervals import METHODS, Method, check_method
from jaxdl.validation.statistics.nested import check_nested, nested_interval
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.strategy import STRATEGIES
from jaxdl.weights.checkpoint import Checkpoint, environment


def cross_validate(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    splitter: str | Any = "auto",
    folds: int = 5,
    splitting: Splitting | None = None,
    fold_strategy: str = "auto",
    only_folds: Sequence[int] | None = None,
    image_size: int | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    on_steps: Callable[[int], None] | None = None,
    keep_models: bool = False,
    streaming: bool | None = None,
    workers: int = 2,
    work: str | Path | RunFolder | None = None,
    allow: Iterable[str] = (),
    numbers: Mapping[int, TracedHyperparameters] | None = None,
    interval: Method = "auto",
    nested_repeats: int = 3,
    store: DataStore | None = None,
) -> Result:
    """How good is what `plan` makes of `init` with such data?

    Every fold starts from the same restored weights with a fresh head, takes the same number of steps, and never sees
    its test examples: not in normalisation, not in any choice. What would make its score too good in spite of that,
    such as copies of an example on both sides, is looked for first and refused; see `leakage.check_leaks`. Test
    predictions after each epoch draw the curves; only those after the last are counted.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how to train each fold.
      splitter: ``auto`` (stratified, or kfold for numbers), another name of `validation.splits.SPLITTERS`, any
        scikit-learn splitter (the source's groups are passed on), or a `Split` or the file of one: the same folds.
      folds: for a splitter by name.
      splitting: options of a splitter by name: repeats, gap, horizon, embargo and more.
      fold_strategy: ``loop`` (one after another), ``vmap`` (all in one program), ``shard`` (over devices), or ``auto``.
      only_folds: train these alone; they come out as they do among all.
      image_size: see `training.setup.choose_preprocessing`.
      progress: told each row of the curves.
      on_steps: told how many steps (of a fold) were just taken.
      keep_models: whether the result holds the folds' networks.
      streaming: see `training.prepare`, as `workers`.
      workers: processes that decode what is streamed.
      work: folder where the state is kept. The same call goes on from there after an interruption, and ends with the
        very numbers of a call that was never interrupted; folds that were finished are not run again.
      allow: leaks to go on with: ``groups``, ``times``, ``duplicates``, ``near-duplicates``, ``parent``. The result
        says what they came to.
      numbers: of each fold, in place of the plan's; for `validation.search`, where each fold chooses its own.
      interval: by which method the result says how sure its score is: see `statistics.intervals.interval`. ``nested``
        (Bates, Hastie & Tibshirani 2024) trains K(K - 1)/2 networks more, on what two folds both train on, and is about
        a network trained on all examples; see `statistics.nested`.
      nested_repeats: how often ``nested`` divides the examples; each time but the first costs K networks more.
      store: where several calls with the same source keep what they have in common, such as frozen stages' activations.

    Returns:
      A `Result`.

    Raises:
      InputError: if data, plan, model and splitter do not go together, for a leak that is not allowed, or if the
        numbers stop being finite.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    check_labelled(source, purpose="cross-validation")
    check_choice("fold strategy", fold_strategy, STRATEGIES)
    check_choice("interval", interval, METHODS)
    allow = check_allowed(allow)
    split = split_source(source, splitter, folds, plan.seed, splitting)
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card.columns)
    chosen = list(range(len(split))) if only_folds is None else [int(k) for k in only_folds]
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(split))):
        raise InputError(f"only_folds is {chosen}; expected different numbers from 0 to {len(split) - 1}")
    if not source.class_names and min(len(split.test[fold]) for fold in chosen) < 2:
        raise InputError("a fold tests a single example, of which there is no R²; use another splitter or fewer folds")
    if interval == "nested":
        check_nested(source, split, len(chosen), nested_repeats)
    elif interval != "auto":
        check_method(interval, len(chosen))
    work = RunFolder(work) if isinstance(work, str | Path) else work
    if work:
        settings = {"call": "cross_validate", "image_size": image_size, **describe_run(init, source, plan)}
        known = {key: value for key, value in split.as_dict().items() if key in ("kind", "k", "seed", "sha256")}
        asked = {"folds": chosen, "fold_strategy": fold_strategy, "split": known, "keep_models": keep_models}
        allowed = {"allow": list(allow)} if allow else {}  # older runs say nothing of it
        allowed |= {} if interval == "auto" else {"interval": [interval, nested_repeats]}
        work.claim(settings | asked | allowed | _describe_numbers(numbers), environment())
    if interval == "nested" and store is None:
        store = DataStore(plan.batch_size)
    leaks = check_leaks(init, source, split, allow=allow, folds=chosen, store=store)
    preprocessing = choose_preprocessing(init, source, image_size)
    setup = prepare(
        init,
        source,
        plan,
        split.train,
        preprocessing=preprocessing,
        streaming=remembered_streaming(work, streaming),
        workers=workers,
        store=store,
    )
    setup = dataclasses.replace(setup, numbers=numbers)
    remember_streaming(work, setup)
    run = run_folds(
        setup,
        init,
        split.test,
        chosen,
        fold_strategy,
        on_row=progress,
        on_steps=on_steps,
        keep_models=keep_models,
        work=work,
    )

    labels = setup.labels
    rows = []
    for place, fold in enumerate(chosen):
        test = split.test[fold]
        measured = setup.task.evaluate(run.logits[place], labels[test])
        size = {"train": len(split.train[fold]), "test": len(test)}
        best = {"best_epoch": run.best_epochs[place]} if run.best_epochs else {}
        rows.append({"fold": fold, **size, **measured, **best, "seconds": run.seconds[place]})
    scores = [row[setup.task.metric] for row in rows]
    index = np.concatenate([split.test[fold] for fold in chosen])
    out_of_fold = OutOfFold(
        index=index,
        fold=np.repeat(chosen, [len(split.test[fold]) for fold in chosen]),
        label=labels[index],
        logits=np.concatenate(run.logits),
    )
    name, arguments = describe(setup.model)
    result = Result(
        task=setup.task.name,
        metric=setup.task.metric,
        mean=float(np.mean(scores)),
        std=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        folds=rows,
        fold_strategy=run.strategy,
        split=split.as_dict(),
        init=_describe_init(init),
        model={"name": name, "arguments": arguments},
        plan=plan.as_dict(),
        data={"name": source.name, "examples": len(source), "class_names": list(source.class_names)},
        cached=setup.cached,
        streamed=setup.streamed,
        environment=environment(),
        seconds=time.perf_counter() - begin,
        out_of_fold=out_of_fold,
        curves=run.rows,
        models=run.models,
        leaks=[leak.as_dict() for leak in leaks],
    )
    if interval != "nested":
        return summarised(result, source.groups, interval)

    def again(division: Split, name: str) -> Result:
        return cross_validate(
            init,
            source,
            plan,
            splitter=division,
            fold_strategy=run.strategy["name"],
            image_size=image_size,
            on_steps=on_steps,
            streaming=streaming,
            workers=workers,
            work=below(work, name),
            allow=allow,
            store=store,
        )

    result = summarised(result)
    found = nested_interval(result, source, split, again, repeats=nested_repeats)
    return dataclasses.replace(result, interval=found.as_dict(), seconds=time.perf_counter() - begin)


def below(work: RunFolder | None, name: str) -> RunFolder | None:
    """A folder for a run that is part of another one."""
    if work is None:
        return None
    return RunFolder(work.path / STATE / name, save_every=work.save_every, should_stop=work.should_stop)


def _describe_numbers(numbers: Mapping[int, TracedHyperparameters] | None) -> dict[str, Any]:
    if numbers is None:
        return {}
    return {"numbers": {str(fold): [float(v) for _, v in walk_shapes(traced)] for fold, traced in numbers.items()}}


def _describe_init(init: Init) -> dict[str, Any]:
    if not isinstance(init, Checkpoint):
        return {"kind": "scratch", "model": describe(init)[0]}
    held = {"kind": "checkpoint", "model": describe(init.model)[0], "path": init.path}
    return held | ({"source": dict(init.card.source)} if init.card.source else {})
