"""What a model learns from."""

from pathlib import Path

from jaxdl.data.broken import skip_broken
from jaxdl.data.builtin import digits
from jaxdl.data.csv_table import csv
from jaxdl.data.folder import folder, splits_of
from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing, RawPreprocessing, TablePreprocessing
from jaxdl.data.source import Arrays, Source, subset, with_groups
from jaxdl.data.table import TASKS, arrays, npz
from jaxdl.data.tfds import from_tfds
from jaxdl.errors import InputError, check_choice, nearest

__all__ = [
    "Arrays",
    "ImagePreprocessing",
    "Preprocessing",
    "RawPreprocessing",
    "Source",
    "TablePreprocessing",
    "arrays",
    "csv",
    "digits",
    "folder",
    "from_tfds",
    "load",
    "npz",
    "skip_broken",
    "splits_of",
    "subset",
    "with_groups",
]


def load(spec: str | Path, split: str | None = None, *, labelled: bool = True, task: str = "auto") -> Source:
    """The source that a `SPEC` of the command line names.

    Args:
      spec: ``digits``, ``digits:5-9`` or ``digits:1,7``; a folder, with ``:train``, ``:val`` or ``:all`` behind it
        where it has splits; a file ``.npz``; or a table ``.csv``, with ``:COLUMN`` behind it for the target, or
        ``:A,B,C`` for the labels of a multi-label task; or ``tfds:NAME``, see `from_tfds`.
      split: taken where a folder or data set has it and the spec does not say one.
      labelled: see `folder`.
      task: ``"auto"``, ``"classification"``, ``"multilabel"`` or ``"regression"``: what the labels of a ``.csv`` or
        ``.npz`` are, see `csv` and `arrays`. The other sources know their labels.

    Raises:
      InputError: if there is no such thing, or its labels do not fit the task.
    """
    check_choice("task", task, TASKS)
    spec = str(spec)
    if spec == "digits" or spec.startswith("digits:"):
        return digits(_digit_classes(spec))
    if spec.startswith("tfds:"):
        return from_tfds(spec, split)
    table, colon, target = spec.partition(".csv:")
    if colon and not Path(spec).exists():
        return csv(f"{table}.csv", target or None, labelled=labelled, task=task)
    path, colon, said = spec.rpartition(":")
    if colon and said in ("train", "val", "all") and not Path(spec).exists():
        return folder(path, said, labelled=labelled)
    if Path(spec).is_dir():
        return folder(spec, split if split in splits_of(spec) else None, labelled=labelled)
    if spec.endswith(".npz"):
        return npz(spec, task=task)
    if spec.endswith(".csv"):
        return csv(spec, labelled=labelled, task=task)
    if Path(spec).exists():
        raise InputError(f"'{spec}' is neither a folder of class folders nor a file .npz or .csv")
    raise InputError(
        f"there is no '{spec}'; expected 'digits', a folder of class folders of images, or a file .npz or .csv."
        + nearest(spec, ["digits", *(f"{path}:{s}" for s in splits_of(path))])
    )


def _digit_classes(spec: str) -> list[int] | None:
    said = spec.partition(":")[2]
    if not said:
        return None
    try:
        first, dash, last = said.partition("-")
        return list(range(int(first), int(last) + 1)) if dash else [int(c) for c in said.split(",")]
    except ValueError:
        raise InputError(f"'{spec}' names no digits; expected for example digits:0-4 or digits:1,7") from None
