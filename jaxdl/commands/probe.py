"""``jaxdl probe``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.table import Table

from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Devices,
    DevicesOptions,
    Dividing,
    DividingOptions,
    Examples,
    MetricOption,
    NewRun,
    Running,
    option,
    splitting_of,
)
from jaxdl.commands.console import check_outside, console, errors, say_about, say_cautions
from jaxdl.commands.run import about_command, execution_of, read_examples
from jaxdl.commands.tokens import pretrained
from jaxdl.errors import InputError
from jaxdl.report.edges import head_edges
from jaxdl.report.probe import best_head
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.report.table import baseline_rows, measure, uneven
from jaxdl.report.uncertainty import HOW_SURE_OF
from jaxdl.tasks import Task, choose_task
from jaxdl.training.resume import note_finished
from jaxdl.validation.probes.frozen import PUT_BACK, probe_checkpoint, with_head
from jaxdl.validation.probes.heads import HEADS
from jaxdl.validation.probes.linear import TOLERANCE
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.probes.result import PROBED, ProbeResult
from jaxdl.validation.probes.selection import Rule
from jaxdl.weights.checkpoint import save
from jaxdl.weights.files import check_free


@dataclasses.dataclass(frozen=True)
class ProbingOptions:
    """Which heads are fitted, and how the best of each is chosen.

    Attributes:
      heads: of ridge, logistic, svm, knn, ncm, mlp; all but mlp if left out, for numbers ridge and knn.
      penalties: numbers, or a range whose numbers are spaced by a factor: alpha of ridge, 1/C of logistic and svm.
      neighbours: how many, for knn; by default 1, 3, 5, 9, 17, 33 and 65 where there are examples enough.
      inner_folds: number of inner folds, which choose the penalty.
      nested: let inner folds choose; without, the score is of the folds that chose, and too good.
      selection: take the best mean, or the strongest penalty within one standard error of it.
      standardise: divide each feature by its standard deviation in the training part.
      tolerance: largest entry of the gradient, beside the mean residual, at which logistic and svm stop.
      seed: of the folds and of mlp.
    """

    heads: Annotated[tuple[str, ...], option("HEAD ...")] = ()
    penalties: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOW:HIGH:COUNT|NUMBER ...")] = ("1e-3:1e3:13",)
    neighbours: Annotated[tuple[int, ...], option("INT ...")] = ()
    inner_folds: int = 3
    nested: Annotated[bool, option()] = True
    selection: Rule = "best"
    standardise: Annotated[bool, option()] = True
    tolerance: float = TOLERANCE
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probed(Examples):
    """Whose features are taken, of which examples.

    Attributes:
      init: checkpoint whose features are taken, or hf:OWNER/NAME of published weights.
      length: of texts: number of tokens at which longer ones are cut; by default the checkpoint's.
      stage: take what flows out of this stage instead of what flows into the head.
      metric: score, by which penalties are chosen: auc or f1 of classes, mae of numbers, or a scorer of scikit-learn.
    """

    init: Annotated[Path, tyro.conf.arg(metavar="CKPT")]
    length: Annotated[int | None, option("INT")] = None
    stage: Annotated[str | None, option("STAGE")] = None
    metric: MetricOption = None


def probe_command(
    *,
    subject: tyro.conf.OmitArgPrefixes[Probed],
    out: NewRun,
    dividing: DividingOptions = Dividing(),  # noqa: B008
    chosen: tyro.conf.OmitArgPrefixes[ProbingOptions] = ProbingOptions(),
    save_best: Annotated[Path | None, option("CKPT")] = None,
    allow: AllowOption = (),
    devices: DevicesOptions = Devices(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Measure heads on a checkpoint's frozen features, in seconds.

    Args:
      subject: whose features are taken, of which examples.
      out: new folder for the results; that of each head in it is one that report and compare take.
      dividing: how the outer folds are divided; leave-one-out suits ridge, whose closed form is exact, knn and ncm.
      chosen: which heads are fitted, and how the best of each is chosen.
      save_best: put the better of ridge and logistic, fitted to all examples, into the checkpoint and save it there.
      allow: leaks to accept, by the names in the message that refuses them; the result lists them.
      devices: which devices are used, and for what.
      debug: show the traceback of an error.
    """
    out, _ = check_free(out, bucket=True), devices.layout_of_examples
    check_outside(out, subject.data)
    save_best = None if save_best is None else check_free(save_best, bucket=True)
    if save_best is not None and subject.stage is not None:
        raise InputError("--save-best puts a head where the checkpoint's is; leave out --stage")
    probing = Probing(**vars(chosen) | {"penalties": parse_penalties(chosen.penalties)})
    execution = execution_of(subject, Running(allow=allow, **vars(devices)))
    source, broken = read_examples(subject)
    question = choose_task(source, subject.task, purpose="probe")
    task = (question.of_place() or question).scored_by(subject.metric)
    if save_best is not None and question.of_place() is not None:
        raise InputError(
            f"--save-best is for heads of whole examples, not for {question.describe()}; leave it out, and train the "
            "final network by finetune, whose --freeze-through keeps the stages that were probed"
        )
    network = pretrained(subject)
    heads = probing.heads_for(task)
    if save_best is not None and not _to_save(heads, task):
        raise InputError(f"--save-best needs ridge or logistic among the heads, not {', '.join(heads)} alone")
    with errors.status("running the network over the data") as status:
        found = probe_checkpoint(
            network,
            source,
            splitting_of(dividing),
            probing,
            folds=dividing.folds,
            stage=subject.stage,
            task=question,
            metrics=subject.metric,
            execution=execution.replace(progress=lambda row: status.update(f"fitting {row['head']}")),
        )
    _tell(found, out / PAGE)
    found.save(out)
    about = about_command(PROBED, subject.init, subject) | {"broken": broken}
    for folder in (out, *(out / name for name in found.heads)):
        note_finished(folder, about)
    with errors.status(f"drawing {PAGE}"):
        write_run_report(out)
    if save_best is not None:
        best = max(_to_save(tuple(found.heads), task), key=lambda name: _mean(found, name))
        penalty = found.heads[best].best
        made = with_head(
            network,
            source,
            head=best,
            penalty=penalty,
            standardise=chosen.standardise,
            task=task,
            execution=execution,
        )
        save(made, save_best)
        console.print(f"{best} with the penalty {penalty:.3g}, fitted to all examples, in {save_best}", soft_wrap=True)
    console.print(f"{PAGE} in {out}, results of each head below it", soft_wrap=True)


def _to_save(heads: tuple[str, ...], task: Task) -> list[str]:
    """Of the heads those whose outputs are worth having as a network's."""
    able = [name for name in PUT_BACK if name != "svm"] if task.PROBED == "classes" else ["ridge"]
    return [name for name in heads if name in able]


def _mean(found: ProbeResult, name: str) -> float:
    """Score of the penalty that all folds together choose; larger is better."""
    head = found.heads[name]
    return found.task.score.sign * head.scores.mean(1)[head.chosen]


def parse_penalties(given: tuple[str, ...]) -> list[float]:
    """``("1e-3:1e3:13",)`` or ``("0.1", "1", "10")`` to numbers.

    Raises:
      InputError: for anything else.
    """
    made = []
    for item in given:
        try:
            if ":" in item:
                low, high, count = item.split(":")
                if not (0 < float(low) < float(high) < float("inf") and 2 <= int(count) <= 1000):
                    raise ValueError
                made += np.geomspace(float(low), float(high), int(count)).tolist()
            else:
                made.append(float(item))
        except ValueError:
            raise InputError(
                f"the penalty '{item}' is neither a number nor LOW:HIGH:COUNT; expected for example 1e-3:1e3:13"
            ) from None
    return made


def _tell(found: ProbeResult, page: Path) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("head", "penalty (all folds' choice)", f"{found.metric}, mean ± spread of folds", "seconds"):
        table.add_column(header, justify="left" if header == "head" else "right", overflow="fold")
    for name, head in found.heads.items():
        result = found.result(name)
        grid = {"penalty": "{:.3g}", "neighbours": "{:.0f} neighbours", "": "–"}[HEADS[name].grid]
        shown = measure(result.metric, result.mean, result.std) + ("" if head.nested else " *")
        table.add_row(name, grid.format(head.best) if head.best is not None else grid, shown, f"{head.seconds:.1f}")
    results = {name: found.result(name) for name in found.heads}
    table.add_section()
    for row in baseline_rows(results):
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:.1f}"
        table.add_row(row["method"], "–", measure(row["score"], row["mean"], row["std"]), seconds, style="dim")
    console.print(table)
    if said := uneven(results):
        console.print(said, soft_wrap=True)
    if not all(head.nested for head in found.heads.values()):
        console.print("* of the very folds that chose the penalty, and so a little too good.", soft_wrap=True)
    elif found.settings["nested"]:
        said = f"In each fold {found.settings['inner_folds']} inner folds of its training part chose, and no others."
        console.print(said, soft_wrap=True)
    say_cautions(found.leaks)
    for said in head_edges(found.metric, found.as_dict()["heads"]):
        console.print(said, soft_wrap=True, highlight=False)
    for name, head in found.heads.items():
        for note in head.notes:
            if note.startswith("not every"):
                console.print(f"{name}: {note}", soft_wrap=True)
    console.print(f"the network ran over {len(found.labels)} examples once, in {found.feature_seconds:.1f} s")
    say_about("± and the interval", page, HOW_SURE_OF.format(best_head(found.metric, results)))
