"""``jaxdl cross-validate``."""

from typing import Literal

from jaxdl.cli_options import (
    Debug,
    Dividing,
    DividingOptions,
    NewRun,
    RunningFolds,
    RunningFoldsOptions,
    SubjectOptions,
    Training,
    TrainingOptions,
    splitting_of,
)
from jaxdl.commands.console import console, say_about, say_cautions, score
from jaxdl.commands.run import Begun, open_run
from jaxdl.errors import check_choice
from jaxdl.report.diagnosis import diagnose, why_ended
from jaxdl.report.network import dead_in_first_fold
from jaxdl.report.table import baseline_rows, print_table, results_table, uneven
from jaxdl.report.uncertainty import HOW_SURE, apart, interval_said
from jaxdl.tasks.metric import percent
from jaxdl.training.plan import Plan
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.result import RESULT, Result, load_result
from jaxdl.validation.splits import SPLIT, split_source
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
    running: RunningFoldsOptions = RunningFolds(),  # noqa: B008
    keep_models: Literal["auto", "always", "never"] = "auto",
    interval: Method = "auto",
    nested_repeats: int = NESTED_REPEATS,
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
      debug: show the traceback of an error.
    """
    plan = Plan(**vars(training))
    check_choice("keep_models", keep_models, ("auto", "always", "never"))
    again = lambda begun: _tell(load_result(begun.run.path), begun)  # noqa: E731
    with open_run(out, "cross-validate", subject, running, tell=again) as begun:
        split = split_source(begun.source, splitting_of(dividing), dividing.folds, plan.seed, begun.task)
        count = len(split)
        trained = count + (extra_trainings(count, nested_repeats) if interval == "nested" else 0)
        keep = keep_models == "always" or (keep_models == "auto" and count <= MOST_FOLDS)
        with begun.shown(trained * plan.epochs, plan) as execution:
            result = cross_validate(
                begun.network,
                begun.source,
                plan,
                task=begun.task,
                splitter=split,
                interval=(interval, nested_repeats) if interval == "nested" else interval,
                execution=execution.replace(keep_models=keep),
            )
        _tell(result, begun)
        with begun.result(RESULT) as made:
            result.write_to(made)
            split.save(made / SPLIT, begun.source)
            for fold, checkpoint in zip(result.folds, result.models or (), strict=False):
                save(checkpoint, made / "folds" / str(fold["fold"]))
        begun.finish()


def _tell(result: Result, begun: Begun) -> None:
    network, source, page = begun.network, begun.source, begun.page_file
    name = "fine-tuning" if isinstance(network, Checkpoint) else "from scratch"
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
    for row in result.folds if len(result.folds) <= MOST_FOLDS else ():
        console.print(
            f"fold {row['fold']}: {result.metric} {score(row[result.metric], 3)}, loss {score(row['loss'], 3)} "
            f"on {row['test']} example{'s' if row['test'] > 1 else ''}, "
            f"trained on {row['train']} in {row['seconds']:.1f} s"
        )
    if brief := diagnose(result):
        # before it is advised to train more or faster: a network whose units are dead learns nothing by that
        brief = diagnose(result, dead_in_first_fold(result, source))
        console.print(brief, soft_wrap=True, highlight=False)
    console.print(why_ended(result.curves, result.plan), soft_wrap=True, highlight=False)
    say_cautions(result.leaks)
    if isinstance(network, Checkpoint) and network.card.data == source.name and network.card.trained_on is None:
        console.print(
            f"Caution: the checkpoint was trained on {source.name} itself. If that holds these examples, the result is "
            "too good: the folds' test examples are not new to it."
        )
    console.print(f"folds: {result.fold_strategy['name']} ({result.fold_strategy['reason']})", soft_wrap=True)
    say_about("± and the interval", page, HOW_SURE)
