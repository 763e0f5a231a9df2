"""``jaxdl cross-validate``."""

from pathlib import Path
from typing import Annotated, Literal

from jaxdl.cli_options import (
    Debug,
    Dividing,
    DividingOptions,
    NewRun,
    RunningFoldsOnHosts,
    RunningFoldsOnHostsOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
    splitting_of,
)
from jaxdl.commands.console import console, say_about, say_cautions, score
from jaxdl.commands.run import Begun, open_run
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.hosts import on_first
from jaxdl.report.diagnosis import diagnose, why_ended
from jaxdl.report.network import dead_in_first_fold
from jaxdl.report.run import FOLDS
from jaxdl.report.table import baseline_rows, print_table, results_table, uneven
from jaxdl.report.uncertainty import HOW_SURE, apart, interval_said
from jaxdl.tasks.metric import percent
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.validation.crossval import Folds, cross_validate
from jaxdl.validation.parts import Part, Share, load_part, parse_share, train_part
from jaxdl.validation.result import PART, RESULT, Result, load_result
from jaxdl.validation.splits import SPLIT, Split, split_source
from jaxdl.validation.statistics.intervals import Method
from jaxdl.validation.statistics.nested import NESTED_REPEATS, extra_trainings
from jaxdl.weights.checkpoint import Checkpoint, save

MOST_FOLDS = 20  # with more, they are not listed one by one, nor are their networks kept


def cross_validate_command(
    *,
    subject: SubjectOptions,
    out: NewRun,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningFoldsOnHostsOptions = RunningFoldsOnHosts(),  # noqa: B008
    keep_models: Literal["auto", "always", "never"] = "auto",
    interval: Method = "auto",
    nested_repeats: int = NESTED_REPEATS,
    folds_of: Annotated[str | None, option("I/N")] = None,
    debug: Debug = False,
) -> None:
    """Measure by cross-validation how good fine-tuning is.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      dividing: how the examples are divided.
      training: how to train each fold.
      running: how the run is carried out.
      keep_models: save the network of each fold, too, below --out; auto does for up to 20 folds.
      interval: how sure the score is, by which method; nested trains K(K-1)/2 more networks, --nested-repeats times.
      nested_repeats: how often nested divides the examples; each time but the first costs K networks more.
      folds_of: train a part of the folds, 0/4 on the first of four machines that share nothing; see jaxdl gather.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    check_choice("keep_models", keep_models, ("auto", "always", "never"))
    if folds_of is not None:
        share = parse_share(folds_of)
        if running.asked:
            raise InputError(
                "--folds-of is for machines that share nothing, --multihost and --coordinator for hosts that train "
                "each fold together; leave one of the two out"
            )
        if interval == "nested":
            raise InputError("--interval nested trains networks on what two folds share; leave --folds-of out for it")
        with open_run(out, "cross-validate", subject, running, page=False, tell=_tell_part_again) as begun:
            split = split_source(begun.source, splitting_of(dividing), dividing.folds, plan.seed, begun.task)
            with begun.shown(len(share.folds(len(split))) * plan.epochs, plan) as execution:
                asked = Folds(begun.network, begun.source, plan, begun.task, split, interval, part=share)
                part = train_part(asked, execution.replace(keep_models=_keeps(keep_models, len(split))))
            _tell_part(part, out)
            _place(begun, part, part.result, split)
        return
    again = lambda begun: tell_result(load_result(begun.run.path), begun.network, begun.source, begun.page_file)  # noqa: E731
    with open_run(out, "cross-validate", subject, running, tell=again) as begun:
        split = split_source(begun.source, splitting_of(dividing), dividing.folds, plan.seed, begun.task)
        count = len(split)
        trained = count + (extra_trainings(count, nested_repeats) if interval == "nested" else 0)
        with begun.shown(trained * plan.epochs, plan) as execution:
            result = cross_validate(
                begun.network,
                begun.source,
                plan,
                task=begun.task,
                splitter=split,
                interval=(interval, nested_repeats) if interval == "nested" else interval,
                execution=execution.replace(keep_models=_keeps(keep_models, count)),
            )
        on_first(lambda: _end(begun, result, split), "writing the results")


def _end(begun: Begun, result: Result, split: Split) -> None:
    tell_result(result, begun.network, begun.source, begun.page_file)
    _place(begun, result, result, split)


def _keeps(keep_models: str, folds: int) -> bool:
    return keep_models == "always" or (keep_models == "auto" and folds <= MOST_FOLDS)


def _place(begun: Begun, found: Result | Part, result: Result, split: Split) -> None:
    """Writes what was found, with the folds and the networks of `result`, and ends the run."""
    with begun.result(RESULT if found is result else PART) as made:
        found.write_to(made)
        split.save(made / SPLIT, begun.source)
        for fold, checkpoint in zip(result.folds, result.models or (), strict=False):
            save(checkpoint, made / FOLDS / str(fold["fold"]))
    begun.finish()


def _tell_part_again(begun: Begun) -> None:
    _tell_part(load_part(begun.run.path), begun.run.path)


def _tell_part(part: Part, out: Path) -> None:
    _tell_folds(part.result)
    share = part.share
    others = [str(Share(number, share.of)) for number in range(share.of) if number != share.number]
    rest = f"; the others are made by --folds-of {', '.join(others)}" if others else ""
    console.print(f"part {share} of the folds in {out}{rest}", soft_wrap=True)
    parts = f"{out} OTHER-PARTS" if others else out
    console.print(f"jaxdl gather {parts} --out RUN makes one result of all", soft_wrap=True)


def _tell_folds(result: Result) -> None:
    for row in result.folds:
        console.print(
            f"fold {row['fold']}: {result.metric} {score(row[result.metric], 3)}, loss {score(row['loss'], 3)} "
            f"on {row['test']} example{'s' if row['test'] > 1 else ''}, "
            f"trained on {row['train']} in {row['seconds']:.1f} s"
        )


def tell_result(result: Result, network: Init | None, source: Source | None, page: Path | None) -> None:
    """Prints what was found.

    Args:
      result: of a cross-validation.
      network: what the folds started from; None where it is not there.
      source: the examples; None where they are not there.
      page: the report; None without one.
    """
    name = "fine-tuning" if result.init["kind"] == "checkpoint" else "from scratch"
    results = {name: result}
    explained = page is None or result.std is None
    print_table(console, results_table(results), baseline_rows(results), explained=explained)
    if said := uneven(results):
        console.print(said)
    if result.interval:
        level, method = percent(result.interval["level"], decimals=0), result.interval["method"]
        ends, rest = interval_said(result)
        said = f"{level} interval: {ends} ({method}){rest if page is None else ''}."
        console.print(" ".join([said, *apart(result)]), soft_wrap=True)
    if len(result.folds) <= MOST_FOLDS:
        _tell_folds(result)
    if brief := diagnose(result):
        # before it is advised to train more or faster: a network whose units are dead learns nothing by that
        brief = diagnose(result, dead_in_first_fold(result, source)) if source is not None else brief
        console.print(brief, soft_wrap=True, highlight=False)
    console.print(why_ended(result.curves, result.plan), soft_wrap=True, highlight=False)
    say_cautions(result.leaks)
    data = result.data["name"]
    if isinstance(network, Checkpoint) and network.card.data == data and network.card.trained_on is None:
        console.print(
            f"Caution: the checkpoint was trained on {data} itself. If that holds these examples, the result is too "
            "good: the folds' test examples are not new to it."
        )
    console.print(f"folds: {result.fold_strategy['name']} ({result.fold_strategy['reason']})", soft_wrap=True)
    say_about("± and the interval", page, HOW_SURE)
