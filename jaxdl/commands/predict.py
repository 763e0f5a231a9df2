"""``jaxdl predict``."""

import csv
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdl import data as sources
from jaxdl.cli_options import Debug, Spec
from jaxdl.commands.console import console, listed, score
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.training.predict import Predictions, predict
from jaxdl.weights.files import check_free
from jaxdl.weights.pretrained import load_pretrained


def predict_command(
    *,
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CKPT")],
    data: Spec,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")],
    debug: Debug = False,
) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint, or hf:OWNER/NAME of published weights.
      data: digits[:5-9], a folder (of class folders, or of images), FILE.npz, FILE.csv, tfds:NAME.
      out: file for the table; must not exist yet.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if out.is_dir():
        raise InputError(f"'{out}' is a folder; expected the name of a file .csv")
    network = load_pretrained(checkpoint)
    task = "regression" if network.card.scaling else "classification"
    source = sources.load(data, labelled=False, task=task)
    predictions = predict(network, source)
    _write_csv(predictions, source, out)
    console.print(f"{len(predictions.logits)} predictions in {out}", soft_wrap=True)
    if Path(data).is_dir() and len(sources.splits_of(data)) > 1:
        console.print(f"of train/ and val/ together; name {data}:val for those of val/ alone", soft_wrap=True)
    if predictions.scores:
        measured = dict(predictions.scores)
        if not predictions.class_names:
            measured.pop("loss")  # the mse again
        console.print(", ".join(f"{name} {score(value)}" for name, value in measured.items()))
    elif predictions.labels is not None:
        foreign = [c for c in source.class_names if c not in predictions.class_names]
        console.print(f"no accuracy: the checkpoint does not know all classes of the data ({listed(foreign)})")


def _write_csv(predictions: Predictions, source: Source, path: Path) -> None:
    """A row per example, all or nothing."""
    names = predictions.class_names
    columns = ["confidence"] if names else []
    columns += ["label"] if source.labels is not None else []
    odds = predictions.probabilities if names else [()] * len(predictions.logits)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        work = Path(folder) / path.name
        with open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["example", "predicted", *columns, *(f"p:{name}" for name in names)])
            for i, (row, best) in enumerate(zip(odds, predictions.predicted, strict=True)):
                example = predictions.names[i] if predictions.names else i
                predicted = [names[best], f"{row[best]:.6f}"] if names else [best]
                writer.writerow([example, *predicted, *_label(source, i), *(f"{p:.6f}" for p in row)])
        work.replace(path)


def _label(source: Source, i: int) -> list[Any]:
    """Of one example: the name of its class, or its number; empty where there are no labels."""
    if source.labels is None:
        return []
    return [source.class_names[source.labels[i]] if source.class_names else source.labels[i]]
