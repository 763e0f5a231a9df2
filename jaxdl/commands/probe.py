"""``jaxdl probe``."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.table import Table

from jaxdl import data as sources
from jaxdl.cli_options import (
    AllowOption,
    Debug,
    Dividing,
    DividingOptions,
    SizeOption,
    Spec,
    TaskOption,
    option,
)
from jaxdl.commands.console import console, errors, score
from jaxdl.commands.run import about_command
from jaxdl.errors import InputError
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.report.table import measure
from jaxdl.training.resume import note_finished
from jaxdl.validation.probes.frozen import PUT_BACK, probe_checkpoint, with_head
from jaxdl.validation.probes.heads import HEADS
from jaxdl.validation.probes.linear import TOLERANCE
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.probes.result import PROBED, ProbeResult
from jaxdl.validation.probes.selection import Rule
from jaxdl.validation.splits import Splitter, Splitting
from jaxdl.weights.checkpoint import save
from jaxdl.weights.files import check_free
from jaxdl.weights.pretrained import load_pretrained


def probe_command(
    *,
    init: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    heads: Annotated[tuple[str, ...], option("HEAD ...")] = (),
    penalties: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOW:HIGH:COUNT|NUMBER ...")] = ("1e-3:1e3:13",),
    neighbours: Annotated[tuple[int, ...], option("INT ...")] = (),
    folds: int = 5,
    splitter: Splitter = "auto",
    dividing: DividingOptions = Dividing(),  # noqa: B008
    inner_folds: int = 3,
    nested: Annotated[bool, option()] = True,
    selection: Rule = "best",
    standardise: Annotated[bool, option()] = True,
    tolerance: float = TOLERANCE,
    stage: Annotated[str | None, option("STAGE")] = None,
    save_best: Annotated[Path | None, option("CKPT")] = None,
    seed: int = 0,
    allow: AllowOption = (),
    image_size: SizeOption = None,
    task: TaskOption = "auto",
    debug: Debug = False,
) -> None:
    """Measure heads on a checkpoint's frozen features, in seconds.

    Args:
      init: checkpoint whose features are taken, or hf:OWNER/NAME of published weights.
      data: digits[:5-9], a folder of class folders (of splits its train/), FILE.npz, FILE.csv[:TARGET], tfds:NAME.
      out: new folder for the results; that of each head in it is one that report and compare take.
      heads: of ridge, logistic, svm, knn, ncm, mlp; all but mlp if left out (of numbers ridge and knn).
      penalties: numbers, or a range whose numbers are spaced by a factor: alpha of ridge, 1/C of logistic and svm.
      neighbours: how many, for knn; by default 1, 3, 5, 9, 17, 33 and 65 where there are examples enough.
      folds: number of outer folds, which give the score.
      splitter: how to divide; leave-one-out takes closed forms for ridge, logistic and svm.
      dividing: options of the splitter.
      inner_folds: number of inner folds, which choose the penalty.
      nested: let inner folds choose; without, the score is of the folds that chose, and too good.
      selection: take the best mean, or the strongest penalty within one standard error of it.
      standardise: divide each feature by its standard deviation in the training part.
      tolerance: largest entry of the gradient, beside the mean residual, at which logistic and svm stop.
      stage: take what flows out of this stage instead of what flows into the head.
      save_best: put the better of ridge and logistic, fitted to all examples, into the checkpoint and save it there.
      seed: of the folds and of mlp.
      allow: leaks to go on with in spite of all: groups, times, duplicates, near-duplicates, parent.
      image_size: side in pixels that images are brought to; by default the checkpoint's.
      task: whether the target column of a .csv names classes or is a number to predict; auto looks at it.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    save_best = None if save_best is None else check_free(save_best)
    if save_best is not None and stage is not None:
        raise InputError("--save-best puts a head where the checkpoint's is; leave out --stage")
    strengths = parse_penalties(penalties)
    source = sources.load(data, split="train", task=task)
    network = load_pretrained(init)
    probing = Probing(
        heads=heads,
        penalties=strengths,
        neighbours=neighbours,
        nested=nested,
        inner_folds=inner_folds,
        selection=selection,
        standardise=standardise,
        tolerance=tolerance,
        seed=seed,
    )
    chosen = probing.heads_for(bool(source.class_names))
    if save_best is not None and not _to_save(chosen, bool(source.class_names)):
        raise InputError(f"--save-best needs ridge or logistic among the heads, not {', '.join(chosen)} alone")
    with errors.status("running the network over the data") as status:
        found = probe_checkpoint(
            network,
            source,
            splitter,
            probing,
            folds=folds,
            splitting=Splitting(**vars(dividing)),
            stage=stage,
            image_size=image_size,
            allow=allow,
            progress=lambda name: status.update(f"fitting {name}"),
        )
    found.save(out)
    about = about_command(PROBED, init, data, task)
    for folder in (out, *(out / name for name in found.heads)):
        note_finished(folder, about)
    write_run_report(out)
    _tell(found)
    if save_best is not None:
        _save_best(found, network, source, save_best, standardise, image_size)
    console.print(f"{PAGE} in {out}, results of each head below it", soft_wrap=True)


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


def _tell(found: ProbeResult) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("head", "penalty (all folds' choice)", f"{found.metric}, mean ± spread of folds", "seconds"):
        table.add_column(header, justify="left" if header == "head" else "right", overflow="fold")
    for name, head in found.heads.items():
        result = found.result(name)
        grid = {"penalty": "{:.3g}", "neighbours": "{:.0f} neighbours", "": "–"}[HEADS[name].grid]
        shown = measure(result.metric, result.mean, result.std) + ("" if head.nested else " *")
        table.add_row(name, grid.format(head.best) if head.best is not None else grid, shown, f"{head.seconds:.1f}")
    console.print(table)
    if not all(head.nested for head in found.heads.values()):
        console.print("* of the very folds that chose the penalty, and so a little too good.", soft_wrap=True)
    elif found.settings["nested"]:
        said = f"In each fold {found.settings['inner_folds']} inner folds of its training part chose, and no others."
        console.print(said, soft_wrap=True)
    for name, head in found.heads.items():
        if head.approximation:
            error, spread = (head.approximation[key][head.chosen] for key in ("largest_error", "spread_of_outputs"))
            count = len(head.approximation["refits"])
            console.print(
                f"{name}: leave-one-out is approximate; outputs of {count} true refits differ by at most "
                f"{score(error, 3)}, where outputs spread by {score(spread, 3)}",
                soft_wrap=True,
            )
        for note in head.notes:
            if note.startswith("not every"):
                console.print(f"{name}: {note}", soft_wrap=True)
    console.print(f"the network ran over {len(found.labels)} examples once, in {found.feature_seconds:.1f} s")


def _to_save(heads: tuple[str, ...], classes: bool) -> list[str]:
    """Of the heads those whose outputs are worth having as a network's."""
    return [name for name in heads if name in PUT_BACK and name != "svm"] if classes else ["ridge"] * ("ridge" in heads)


def _save_best(found: ProbeResult, network: object, source: object, path: Path, standardise: bool, size: int | None):
    able = _to_save(tuple(found.heads), bool(found.class_names))
    best = max(able, key=lambda name: found.heads[name].scores.mean(1)[found.heads[name].chosen])
    penalty = found.heads[best].best
    made = with_head(network, source, head=best, penalty=penalty, standardise=standardise, image_size=size)
    save(made, path)
    console.print(f"{best} with the penalty {penalty:.3g}, fitted to all examples, in {path}", soft_wrap=True)
