"""``jaxdl cross-validate``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdl import data as sources
from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Dividing,
    DividingOptions,
    Running,
    RunningOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    option,
)
from jaxdl.commands.console import console, display, score
from jaxdl.commands.run import carried_out, load_subject, make_loggers, open_run, tell_finished, whole_result
from jaxdl.data.source import Source, check_labelled
from jaxdl.errors import check_choice
from jaxdl.report.run_page import write_run_report
from jaxdl.report.table import print_table, results_table
from jaxdl.report.uncertainty import apart, interval_said
from jaxdl.report.underfit import underfit
from jaxdl.training.plan import Plan
from jaxdl.training.resume import AlreadyFinished, RunFolder
from jaxdl.training.setup import Init
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.leakage import duplicate_groups
from jaxdl.validation.result import RESULT, Result
from jaxdl.validation.splits import SPLIT, Split, Splitter, Splitting, split_source
from jaxdl.validation.statistics.intervals import Method
from jaxdl.validation.statistics.nested import extra_trainings
from jaxdl.validation.strategy import FoldStrategy
from jaxdl.weights.checkpoint import Checkpoint, save

MOST_FOLDS = 20  # with more, they are not listed one by one, nor are their networks kept


def cross_validate_command(
    *,
    subject: SubjectOptions,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    dividing: DividingOptions = Dividing(),  # noqa: B008
    training: TrainingOptions = Training(),  # noqa: B008
    running: RunningOptions = Running(),  # noqa: B008
    folds: int = 5,
    splitter: Splitter = "auto",
    fold_strategy: FoldStrategy = "auto",
    keep_models: Literal["auto", "always", "never"] = "auto",
    allow: AllowOption = (),
    group_duplicates: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False,
    interval: Method = "auto",
    nested_repeats: int = 3,
    debug: Debug = False,
) -> None:
    """Measure by cross-validation how good fine-tuning is.

    Args:
      subject: what is trained, and on what.
      out: folder for the results; new, or that of the same command, which then goes on.
      dividing: options of the splitter.
      training: how to train each fold.
      running: how the run is carried out.
      folds: number of folds, a repeat; of combinatorial-purged the time blocks; leave-… and holdout have their own.
      splitter: auto (heeds classes and groups), a name (of which some need groups or times), or a split.npz.
      fold_strategy: how folds are run: in turn (loop), in one program (vmap), over devices (shard), or the fastest.
      keep_models: save the network of each fold, too, below --out; auto does for up to 20 folds.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      group_duplicates: keep copies of an example, and images that look the same, on one side: as groups.
      interval: how sure the score is, by which method; nested trains K(K-1)/2 more networks, --nested-repeats times.
      nested_repeats: how often nested divides the examples anew; each time but the first costs K networks more.
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    check_choice("keep_models", keep_models, ("auto", "always", "never"))
    with open_run(out, "cross-validate", subject, running) as run:
        source, network, broken = load_subject(subject, running)
        if Path(subject.data).is_dir() and sources.splits_of(subject.data):
            whole = f"name {subject.data}:all for all of them"
            console.print(f"{len(source)} examples of {source.name}; {whole}", soft_wrap=True)
        check_labelled(source, purpose="cross-validation")
        if group_duplicates:
            source = duplicate_groups(source)
        split = split_source(source, splitter, folds, plan.seed, Splitting(**vars(dividing)))
        count = len(split)
        trained = count + (extra_trainings(count, nested_repeats) if interval == "nested" else 0)
        with display(trained * plan.epochs, make_loggers(run, running, plan.as_dict())) as shown:
            try:
                result = cross_validate(
                    network,
                    source,
                    plan,
                    splitter=split,
                    fold_strategy=fold_strategy,
                    progress=shown.row,
                    on_steps=shown.steps,
                    keep_models=keep_models == "always" or (keep_models == "auto" and count <= MOST_FOLDS),
                    **carried_out(run, subject, running),
                    allow=allow,
                    interval=interval,
                    nested_repeats=nested_repeats,
                )
            except AlreadyFinished as finished:
                tell_finished(run, finished, source)
                return
        _write(run, result, split, source)
        run.finish(broken=broken)
    write_run_report(run.path, source)
    _tell(result, network, source, run.path)


def _write(run: RunFolder, result: Result, split: Split, source: Source) -> None:
    with whole_result(run, RESULT) as made:
        result.write_to(made)
        split.save(made / SPLIT, source)
        for fold, checkpoint in zip(result.folds, result.models or (), strict=False):
            save(checkpoint, made / "folds" / str(fold["fold"]))


def _tell(result: Result, network: Init, source: Source, out: Path) -> None:
    name = "fine-tuning" if isinstance(network, Checkpoint) else "from scratch"
    print_table(console, results_table({name: result}))
    if result.interval:
        said = (
            f"{result.interval['level']:.0%} interval ({result.interval['method']}): {''.join(interval_said(result))}."
        )
        console.print(" ".join([said, *apart(result)]))
    for row in result.folds if len(result.folds) <= MOST_FOLDS else ():
        console.print(
            f"fold {row['fold']}: {result.metric} {score(row[result.metric], 3)}, loss {score(row['loss'], 3)} "
            f"on {row['test']} example{'s' if row['test'] > 1 else ''}, "
            f"trained on {row['train']} in {row['seconds']:.1f} s"
        )
    if brief := underfit(result):
        console.print(brief, soft_wrap=True, highlight=False)
    for leak in result.leaks:
        console.print(f"Caution: {leak['said']}", soft_wrap=True, highlight=False)
    if isinstance(network, Checkpoint) and network.card.data == source.name and network.card.trained_on is None:
        console.print(
            f"Caution: the checkpoint was trained on {source.name} itself. If that holds these examples, the result is "
            "too good: the folds' test examples are not new to it."
        )
    console.print(f"folds: {result.fold_strategy['name']} ({result.fold_strategy['reason']})")
    console.print(f"results and report.html in {out}", soft_wrap=True)
