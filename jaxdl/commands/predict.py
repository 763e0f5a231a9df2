"""``jaxdl predict``."""

import csv
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxdl import data as sources
from jaxdl.cli_options import Debug, Flag, Spec
from jaxdl.commands.console import console, listed, scores_said
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.tasks.examples import load_examples
from jaxdl.tasks.task import PROBABILITY
from jaxdl.training.predict import Predictions, predict
from jaxdl.validation.ensemble import EnsembleCheckpoint
from jaxdl.validation.ensemble_files import is_ensemble, load_ensemble
from jaxdl.weights.files import check_free
from jaxdl.weights.pretrained import load_pretrained


def predict_command(
    *,
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")],
    batch_size: int = 64,
    out_of_fold: Flag = False,
    debug: Debug = False,
) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint or of an ensemble, or hf:OWNER/NAME of published weights.
      data: digits[:5-9], a folder (of class folders, or of images), FILE.npz, FILE.csv, tfds:NAME.
      out: file for the table; must not exist yet.
      batch_size: examples at a time.
      out_of_fold: of an ensemble, predict each example only by members that were not trained on it.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if out.is_dir():
        raise InputError(f"'{out}' is a folder; expected the name of a file .csv")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1")
    network = load_ensemble(checkpoint) if is_ensemble(checkpoint) else load_pretrained(checkpoint)
    several = isinstance(network, EnsembleCheckpoint)
    if out_of_fold and not several:
        raise InputError(f"--out-of-fold is for an ensemble; '{checkpoint}' is a single network")
    asked = network.task if several else network.card.asked(network.model.num_outputs)
    source = load_examples(data, asked.name, labelled=False, split=None)
    if several:
        predictions = _predict_together(network, source, batch_size, out_of_fold)
    else:
        predictions = predict(network, source, batch_size=batch_size)
    _write_csv(predictions, source, out)
    console.print(f"{len(source)} predictions in {out}", soft_wrap=True)
    if Path(data).is_dir() and len(sources.splits_of(data)) > 1:
        console.print(f"of train/ and val/ together; name {data}:val for those of val/ alone", soft_wrap=True)
    if predictions.scores:
        console.print(", ".join(scores_said(predictions.task, predictions.scores)))
    elif predictions.targets is not None:
        foreign = [name for name in source.class_names if name not in predictions.task.names]
        console.print(
            f"no {predictions.task.metric}: the checkpoint does not know all classes of the data ({listed(foreign)})"
        )
    elif source.targets() is not None:
        console.print(f"no {predictions.task.metric}: the labels of {source.name} are not of {asked.describe()}")


def _predict_together(network: EnsembleCheckpoint, source: Source, batch_size: int, out_of_fold: bool) -> Predictions:
    if out_of_fold:
        return network.out_of_fold(source, batch_size=batch_size)
    if source.targets() is not None:
        network.check_unseen(source)  # before anything is computed
    return network.predict(source, batch_size=batch_size)


def _write_csv(predictions: Predictions, source: Source, path: Path) -> None:
    """A row per example, all or nothing."""
    count, columns = len(source), predictions.task.columns(predictions.outputs)
    table = {"example": predictions.names or range(count)}
    table |= {name: values for name, values in columns.items() if not name.startswith(PROBABILITY)}
    if predictions.targets is not None:
        # in the words of the data: a class may be one that the checkpoint does not know
        targets = source.targets()
        table["label"] = type(predictions.task).of(targets, source.class_names).target_words(targets)
    table |= columns
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        work = Path(folder) / path.name
        with open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows([_cell(value) for value in row] for row in zip(*table.values(), strict=True))
        work.replace(path)


def _cell(value: Any) -> Any:
    """Numbers are computed in float32: more digits would mean nothing."""
    return str(np.float32(value)) if isinstance(value, float) else value
