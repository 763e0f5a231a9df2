"""``jaxdl predict``."""

import csv
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from jaxdl import data as sources
from jaxdl.cli_options import (
    Debug,
    DevicesOnHosts,
    DevicesOnHostsOptions,
    Flag,
    Reading,
    ReadingOptions,
    option,
    parse_void,
)
from jaxdl.commands.console import check_outside, console, inert, listed, say_notes, scores_said
from jaxdl.commands.hosts import join_hosts
from jaxdl.commands.run import without_broken
from jaxdl.data import MaskOptions
from jaxdl.data.masks_classes import CLASS_FILE
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.data.source import Source
from jaxdl.data.texts import holds_texts
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import beat, on_first
from jaxdl.shown import shortened
from jaxdl.tasks import Task
from jaxdl.tasks.columns import PROBABILITY, as_cells, top_columns
from jaxdl.tasks.examples import load_examples
from jaxdl.tasks.metric import percent
from jaxdl.training.execution import Execution
from jaxdl.training.predict import NOT_HELD_OUT, Predictions, predict
from jaxdl.validation.ensemble import EnsembleCheckpoint
from jaxdl.validation.ensemble_files import is_ensemble, load_ensemble
from jaxdl.weights.files import check_free, write_text, written_whole
from jaxdl.weights.pretrained import load_pretrained

MANY, TOP = 50, 5  # with more classes than that, a table has the most probable ones alone
FIRST, ANSWERS = 5, 3  # examples that are also printed, and how many classes of each


@dataclasses.dataclass(frozen=True)
class TrueMasks:
    """Masks to compare with.

    Attributes:
      classes: of masks to compare with: file of their classes, see finetune; by default the checkpoint's.
      void: of masks to compare with: number, colour or class of the pixels that nobody knows.
    """

    classes: Annotated[Path | None, option("FILE")] = None
    void: Annotated[str | None, option("NUMBER")] = None


@dataclasses.dataclass(frozen=True)
class Covering:
    """Sets of classes, or intervals of numbers, that hold the truth as often as is asked for.

    Attributes:
      coverage: of an ensemble of folds, write the set of classes (or the interval of numbers) that holds the truth so
        often, such as 0.9.
      coverage_by: how often is meant of new examples, of those of each class, or of those of new groups; by default of
        groups where the folds had any, else of examples.
      coverage_score: of classes, probability for sets that are small on average, adaptive for sets that are larger for
        hard examples and never empty.
    """

    coverage: Annotated[float | None, option("SHARE")] = None
    coverage_by: Annotated[Literal["example", "class", "group"] | None, option("{example,class,group}")] = None
    coverage_score: Annotated[str | None, option("NAME")] = None


@dataclasses.dataclass(frozen=True)
class Asking:
    """How the network is asked.

    Attributes:
      batch_size: examples at a time.
      tta: predict mirror images of each image, too, and combine the answers (test-time augmentation).
      out_of_fold: of an ensemble, predict each example only by members that were not trained on it.
      temperature: divide the logits of classes by it, as the page of a cross-validation advises; 1 leaves them.
    """

    batch_size: int = 64
    tta: Annotated[tuple[str, ...], option("{flip,flip-vertical} ...")] = ()
    out_of_fold: Flag = False
    temperature: float = 1.0

    def check(self, checkpoint: Path, several: bool) -> None:
        """Checks the options against what the checkpoint is: a single network, or `several`. Raises InputError."""
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; expected at least 1")
        if self.out_of_fold and not several:
            raise InputError(f"--out-of-fold is for an ensemble; '{checkpoint}' is a single network")


def predict_command(
    *,
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SPEC|IMAGE ...")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")],
    top: Annotated[int | None, option("INT")] = None,
    masks: tyro.conf.OmitArgPrefixes[TrueMasks] = TrueMasks(),
    reading: ReadingOptions = Reading(),  # noqa: B008
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking(),
    covered: tyro.conf.OmitArgPrefixes[Covering] = Covering(),
    devices: DevicesOnHostsOptions = DevicesOnHosts(),  # noqa: B008
    debug: Debug = False,
) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint or of an ensemble, or hf:OWNER/NAME of published weights.
      data: images, a folder (of classes, images, .txt, images/ and masks/; of splits val/), FILE.npz, .csv or .conll.
      out: file for the table; must not exist yet.
      top: write so many of the most probable classes, or 0 for all; by default all of up to 50, else 5.
      masks: to compare with.
      reading: how the examples are read.
      asking: how the network is asked.
      covered: sets of classes, or intervals of numbers, that hold the truth as often as is asked for.
      devices: which devices are used, and for what.
      debug: show the traceback of an error.
    """
    join_hosts(devices)
    out, execution = Path(on_first(lambda: str(check_free(out)))), Execution(layout=devices.layout_of_examples)
    if out.is_dir():
        raise InputError(f"'{out}' is a folder; expected the name of a file .csv")
    network = load_ensemble(checkpoint) if is_ensemble(checkpoint) else load_pretrained(checkpoint)
    several = isinstance(network, EnsembleCheckpoint)
    asking.check(checkpoint, several)
    _check_coverage(network, covered, asking)
    top = _count_top(top, network.task)
    if network.task.DRAWS:
        on_first(lambda: str(check_free(_pictures_beside(out))))
    beat("reading the data", slow=True)
    source = _read(network, data, out, masks, reading)
    say_notes(source)
    source, _ = without_broken(source, reading.skip_broken)
    if several:
        predictions = _predict_together(network, source, asking, execution)
    else:
        predictions = predict(network, source, batch_size=asking.batch_size, tta=asking.tta, execution=execution)
    if asking.temperature != 1:
        predictions = predictions.at_temperature(asking.temperature)
    on_first(lambda: _end(predictions, network, source, top, covered, out), "writing the table")


def _end(predictions: Predictions, network: Any, source: Source, top: int, covered: Covering, out: Path) -> None:
    """Writes the table, and the pictures where the task draws some; prints the first answers and the scores."""
    pictures = _pictures_beside(out) if network.task.DRAWS else None
    files = _picture_names(predictions, len(source)) if pictures is not None else None
    if files is not None:
        _write_pictures(predictions, source, pictures, files)
    covering = None if covered.coverage is None else predictions.covering(*vars(covered).values())
    _write_csv(predictions, source, out, top, files, {} if covering is None else covering.columns())
    classes = f", the {top} most probable of {len(network.task.names):,} classes each (--top 0 for all)" if top else ""
    console.print(f"{len(source)} predictions in {out}{classes}", soft_wrap=True)
    if pictures is not None:
        console.print(f"{len(source)} masks in {pictures}, each the class of every pixel", soft_wrap=True)
    _print_first(predictions, source)
    if predictions.targets is not None and predictions.task.known(predictions.targets).all():
        _print_scores(predictions, network)
    elif predictions.targets is not None:
        foreign = [name for name in source.class_names if name not in predictions.task.names]
        console.print(
            f"no {predictions.task.metric}: the checkpoint does not know all classes of the data ({listed(foreign)})"
        )
    elif source.targets() is not None:
        console.print(f"no {predictions.task.metric}: the labels of {source.name} are not of {network.task.describe()}")
    if covering is not None:
        console.print(f"{covering}", soft_wrap=True, highlight=False)


def _check_coverage(network: Any, covered: Covering, asking: Asking) -> None:
    """Raises InputError for what cannot be, before anything is computed."""
    if covered.coverage is None:
        for name, given in (("by", covered.coverage_by), ("score", covered.coverage_score)):
            if given is not None:
                raise InputError(f"--coverage-{name} {given} says how --coverage is meant; give --coverage 0.9, too")
        return
    if not isinstance(network, EnsembleCheckpoint):
        raise InputError(NOT_HELD_OUT.format("a single network keeps"))
    if asking.tta:
        raise InputError("--coverage is of what networks say without --tta; leave one of the two out")
    if asking.out_of_fold:
        raise InputError(
            "--coverage is of new examples, and --out-of-fold of those of the training: the page of the run "
            "(jaxdl report RUN) shows their sets; leave one of the two out"
        )
    network.check_coverage(*vars(covered).values())


def _read(network: Any, data: Sequence[str], out: Path, given: TrueMasks, reading: Reading) -> Source:
    """What is predicted: a spec, or several image files."""
    for spec in data:
        check_outside(out, spec)
    card = network.cards[0] if isinstance(network, EnsembleCheckpoint) else network.card
    if len(data) != 1:
        if holds_texts(card):
            raise InputError(
                "the network reads texts: name one file after --data, a table or .txt with a text in each line, or one "
                "folder of .txt"
            )
        _masks(network, "several images", given)  # which have none
        for path in data:
            if Path(path).is_dir() or not Path(path).exists():
                what = "is a folder; name it alone" if Path(path).is_dir() else "is not there"
                raise InputError(f"several names after --data have to be image files, but '{path}' {what}")
        return sources.images(data)
    (spec,), task = data, network.task.name
    split, masks = sources.part_to_predict(spec, task, like=card), _masks(network, spec, given)
    how = {"masks": masks, "table": reading.table(spec)}
    return load_examples(spec, task, labelled=False, split=split, like=card, **how)


def _masks(network: Any, spec: str, masks: TrueMasks) -> MaskOptions | None:
    """How masks are read that predictions are compared with: by default in the checkpoint's classes and size."""
    if not sources.has_masks(spec, network.task.name):
        for name, given in vars(masks).items():
            if given is not None:
                raise InputError(f"--{name} {given} is for masks, but {spec} has none; leave it out")
        return None
    own = (network.cards[0] if isinstance(network, EnsembleCheckpoint) else network.card).preprocessing
    size = own.input_shape[:2] if isinstance(own, ImagePreprocessing) and own.crop_mode == "squash" else None
    void = "auto" if masks.void is None else parse_void(masks.void)
    return MaskOptions(masks.classes or _own_classes(spec, network.task), void, size)


def _own_classes(spec: str, task: Task) -> tuple[str, ...] | None:
    """The checkpoint's, unless the folder has a list of its own."""
    return None if (Path(spec) / CLASS_FILE).is_file() else task.names


def _pictures_beside(out: Path) -> Path:
    """The folder of the pictures that belong to a table."""
    return out.with_name(f"{out.stem}-masks")


def _picture_names(predictions: Predictions, count: int) -> list[str]:
    """A file's name for each example: that of its image, with a number behind it where another image has it, too."""
    made: dict[str, None] = {}
    for i, name in enumerate(predictions.names or range(count)):
        stem = Path(str(name)).stem
        tried = (f"{stem}{f'-{k}' if k else ''}.png" for k in (0, *range(i, count + i + 1)))
        made[next(one for one in tried if one not in made)] = None
    return list(made)


def _write_pictures(predictions: Predictions, source: Source, folder: Path, files: Sequence[str]) -> None:
    """A file for each example, all or nothing, in the size of its image; with the classes' names beside them."""
    from PIL import Image

    made = predictions.task.pictures(predictions.outputs)
    with written_whole(folder) as work:
        for i, (picture, name) in enumerate(zip(made, files, strict=True)):
            if (size := source.original_size(i)) is not None:
                picture = picture.resize(size[::-1], Image.Resampling.NEAREST)
            picture.save(work / name)
        write_text(work / CLASS_FILE, "".join(f"{name}\n" for name in predictions.task.names))


def _count_top(asked: int | None, task: Task) -> int:
    """For how many of the most probable classes the table has columns; 0 for all classes."""
    if asked is None:
        return TOP if task.RANKED and len(task.names) > MANY else 0
    if asked:
        task.check_top(asked)
    return asked


def _print_first(predictions: Predictions, source: Source) -> None:
    """A line for each of the first files, or texts."""
    task = predictions.task
    names = predictions.names or [shortened(text) or "(no text)" for text in (source.texts or ())[:FIRST]]
    first = jax.tree.map(lambda kept: kept[:FIRST], predictions.outputs)
    if task.RANKED:
        top = task.top(first, min(ANSWERS, len(task.names)))
        answers = [
            ", ".join(f"{name} ({percent(p)})" for name, p in zip(*row, strict=True))
            for row in zip(top.names, top.probabilities, strict=True)
        ]
    else:
        answers = [_cell(value) for value in next(iter(task.columns(first).values()))]
    for name, answer in zip(names[:FIRST], answers, strict=False):  # rows of a table have no names
        console.print(f"{name}: {answer}", soft_wrap=True, highlight=False)


def _print_scores(predictions: Predictions, network: Any) -> None:
    """Of the examples that the network was not trained on first; of those that it was trained on apart."""

    def said(rows: Any) -> str:
        return ", ".join(scores_said(predictions.task, predictions.scores_of(rows)))

    seen = predictions.seen
    if seen is None or not seen.any():
        console.print(said(slice(None)))
        if seen is None and not isinstance(network, EnsembleCheckpoint):
            console.print(
                "Caution: the checkpoint does not list the examples that it was trained on. If these are among them, "
                "the score is too good.",
                soft_wrap=True,
            )
        return
    count, total = int(seen.sum()), len(seen)
    if count == total:
        console.print(
            f"No example is new: the checkpoint was trained on all {total}. What follows says how well they were "
            "learned, not how good the network is on new examples (cross-validate measures that):",
            soft_wrap=True,
        )
        console.print(f"trained on ({total} examples): {said(seen)}", soft_wrap=True)
        return
    console.print(f"new ({total - count} examples): {said(~seen)}", soft_wrap=True)
    console.print(f"trained on ({count} examples, too good): {said(seen)}", soft_wrap=True)


def _predict_together(network: EnsembleCheckpoint, source: Source, asking: Asking, execution: Execution) -> Predictions:
    if asking.out_of_fold:
        return network.out_of_fold(source, batch_size=asking.batch_size, tta=asking.tta, execution=execution)
    if source.targets() is not None:
        network.check_unseen(source)  # before anything is computed
    return network.predict(source, batch_size=asking.batch_size, tta=asking.tta, execution=execution)


def _write_csv(
    predictions: Predictions,
    source: Source,
    path: Path,
    top: int,
    pictures: Sequence[str] | None,
    more: Mapping[str, Sequence[Any]],
) -> None:
    """A row per example, all or nothing; `more` are columns behind the answers."""
    task, outputs = predictions.task, predictions.outputs
    table = {"example": predictions.names or range(len(source))}
    if source.texts is not None:
        table["text"] = [shortened(text) for text in source.texts]
    if top:
        ranked = predictions.top(top)
        answers = {"predicted": [row[0] for row in ranked.names], "confidence": as_cells(ranked.probabilities[:, 0])}
        chances = top_columns(ranked)
    else:
        columns = task.columns(outputs)
        answers = {name: values for name, values in columns.items() if not name.startswith(PROBABILITY)}
        chances = {name: values for name, values in columns.items() if name not in answers}
    if pictures is not None:
        table["mask"] = pictures
    table |= answers | more
    if predictions.targets is not None:
        # in the words of the data: a class may be one that the checkpoint does not know
        targets = source.targets()
        table["label"] = type(task).of(targets, source.class_names).target_words(targets)
    if predictions.seen is not None and predictions.seen.any():
        table["trained on"] = ["yes" if seen else "no" for seen in predictions.seen]
    table |= chances
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        work = Path(folder) / path.name
        with open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = [list(table), *([_cell(value) for value in row] for row in zip(*table.values(), strict=True))]
            csv.writer(file).writerows([inert(cell) for cell in row] for row in rows)
        work.replace(path)
    if count := sum(inert(cell) is not cell for row in rows for cell in row):
        console.print(
            f"{count} cell{'s begin' if count > 1 else ' begins'} like a formula of a spreadsheet (= + - @) and "
            f"{'have' if count > 1 else 'has'} a ' before it",
            soft_wrap=True,
        )


def _cell(value: Any) -> Any:
    """Numbers are computed in float32: more digits would mean nothing."""
    return str(np.float32(value)) if isinstance(value, float) else value
