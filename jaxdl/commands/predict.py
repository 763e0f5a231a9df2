"""``jaxdl predict``."""

import csv
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdl import data as sources
from jaxdl.cli_options import Debug, Spec, option
from jaxdl.commands.console import console, listed, score
from jaxdl.data.source import Source
from jaxdl.errors import InputError
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
    out_of_fold: Annotated[tyro.conf.FlagCreatePairsOff[bool], option()] = False,
    debug: Debug = False,
) -> None:
    """Write a checkpoint's predictions to a table.

    Args:
      checkpoint: folder of a trained checkpoint or of an ensemble, or hf:OWNER/NAME of published weights.
      data: digits[:5-9], a folder (of class folders, or of images), FILE.npz, FILE.csv, tfds:NAME.
      out: file for the table; must not exist yet.
      batch_size: examples at a time.
      out_of_fold: of an ensemble, have each example predicted by those members alone that were not trained on it.
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
    card = network.cards[0] if several else network.card
    source = sources.load(data, labelled=False, task="regression" if card.scaling else "classification")
    if several:
        predictions = _predict_together(network, source, batch_size, out_of_fold)
    else:
        predictions = predict(network, source, batch_size=batch_size)
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


def _predict_together(network: EnsembleCheckpoint, source: Source, batch_size: int, out_of_fold: bool) -> Predictions:
    if out_of_fold:
        return network.out_of_fold(source, batch_size=batch_size)
    if source.labels is not None:
        network.check_unseen(source)  # before anything is computed
    return network.predict(source, batch_size=batch_size)


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
