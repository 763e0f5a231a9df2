"""What a model learns from."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data.broken import skip_broken
from jaxdl.data.builtin import digits
from jaxdl.data.class_folders import parts_to_predict, splits_of
from jaxdl.data.conll import conll, conll_spec
from jaxdl.data.csv_table import csv, jsonl, read_table, table_splits
from jaxdl.data.folder import folder, images
from jaxdl.data.folder_layout import SPLIT_NAMES, TEXTS, kind_of
from jaxdl.data.image_file import SUFFIXES, begins_as_image, printable
from jaxdl.data.masks import VOID, MaskOptions, mask_splits, masks, masks_of
from jaxdl.data.pairs import pairs
from jaxdl.data.preprocessing import (
    ColumnsPreprocessing,
    ImagePreprocessing,
    Preprocessing,
    RawPreprocessing,
    TablePreprocessing,
    TextPreprocessing,
    WindowsPreprocessing,
    WordsPreprocessing,
)
from jaxdl.data.preprocessing.train_tokenizer import train_tokenizer
from jaxdl.data.source import Arrays, Source, check_source, subset, with_groups, with_weights
from jaxdl.data.squad import SUFFIXES as SQUAD
from jaxdl.data.squad import Questions, squad
from jaxdl.data.table import TASKS, arrays, npz, wants_masks
from jaxdl.data.table_file import SUFFIXES as TABLES
from jaxdl.data.table_file import TableFile
from jaxdl.data.table_roles import TableOptions
from jaxdl.data.tagged import Tagged, tagged
from jaxdl.data.tagged_lines import load_tagged, tagged_lines
from jaxdl.data.text_file import opened
from jaxdl.data.text_sources import text_folder, text_lines
from jaxdl.data.texts import Texts, holds_texts, texts, with_tokenizer
from jaxdl.data.tfds import from_tfds
from jaxdl.errors import InputError, check_choice, nearest

__all__ = [
    "VOID",
    "Arrays",
    "ColumnsPreprocessing",
    "ImagePreprocessing",
    "MaskOptions",
    "Preprocessing",
    "Questions",
    "RawPreprocessing",
    "Source",
    "TableOptions",
    "TablePreprocessing",
    "Tagged",
    "TextPreprocessing",
    "Texts",
    "WindowsPreprocessing",
    "WordsPreprocessing",
    "arrays",
    "as_source",
    "conll",
    "csv",
    "digits",
    "folder",
    "folder_of",
    "from_tfds",
    "has_masks",
    "images",
    "is_table",
    "jsonl",
    "load",
    "masks",
    "names_features",
    "npz",
    "options_of_before",
    "pairs",
    "part_to_predict",
    "parts_of",
    "skip_broken",
    "splits_of",
    "squad",
    "subset",
    "tagged",
    "tagged_lines",
    "text_folder",
    "text_lines",
    "texts",
    "train_tokenizer",
    "with_groups",
    "with_tokenizer",
    "with_weights",
]


def load(
    spec: str | Path,
    split: str | None = None,
    *,
    labelled: bool = True,
    task: str = "auto",
    masks: MaskOptions | None = None,
    table: TableOptions | None = None,
    like: Any = None,
) -> Source:
    """The source that a `SPEC` of the command line names.

    Args:
      spec: ``digits``, ``digits:5-9`` or ``digits:1,7``; a folder, with ``:train``, ``:val``, ``:test`` or ``:all``
        behind it where it has splits, of images or ``.txt``; an image file; a file ``.npz``; or a table ``.csv``,
        ``.tsv``, ``.data``, ``.txt``, ``.jsonl`` or ``.parquet``, with ``:COLUMN`` behind it for the target, or
        ``:A,B,C`` for the labels of a multi-label task; ``.conll`` or ``.conllu``, with ``:NUMBER`` behind it for the
        column of the tags, see `conll`; ``.json`` or ``.json.gz`` of questions in SQuAD's form, see `squad`; or
        ``tfds:NAME``, see `from_tfds`.
      split: taken where a folder or data set has it and the spec does not say one.
      labelled: see `folder` and `masks`.
      task: ``"auto"``, ``"classification"``, ``"multilabel"``, ``"regression"`` or ``"segmentation"``: what the labels
        of a ``.csv`` or ``.npz`` are, see `csv` and `arrays`, and whether a folder is one of images with masks, which
        auto sees by its folders: see `masks`. The other sources know their labels.
      masks: how masks are read.
      table: what the columns of a table are for.
      like: of a table, the card of the checkpoint whose columns it should have; see `csv`. Where the network reads
        texts, a file ``.txt`` without its columns is a text in each line.

    Raises:
      InputError: if there is no such thing, or its labels do not fit the task.
    """
    check_choice("task", task, TASKS)
    spec, reads_text = str(spec), holds_texts(like)
    if spec == "digits" or spec.startswith("digits:"):
        return digits(_digit_classes(spec))
    if spec.startswith("tfds:"):
        return from_tfds(spec, split, *((table.text_column, table.target) if table else ()))
    if ":/" in spec and not os.path.exists(spec):
        raise InputError(
            f"'{printable(spec)}' is an address, and examples are read from this machine; copy them here first, as by "
            "gcloud storage cp --recursive gs://BUCKET/FOLDER . and name what it made"
        )
    if (tags := conll_spec(spec)) is not None:
        return conll(tags[0], tag=tags[1], labelled=labelled)
    if reads_text and not (table and table.text_column) and _is_lines(spec, like):
        return text_lines(spec)
    if (named := _table_spec(spec)) is not None:
        options = _with_target(*named, table or TableOptions())
        if (sentences := load_tagged(named[0], options, labelled)) is not None:
            return sentences
        return read_table(named[0], options, task, labelled, like, split)
    if table is not None and table.plain():
        name, value = next(iter(table.plain().items()))
        raise InputError(f"{name} {value} is for tables, but {spec} is none; leave it out")
    if spec.lower().endswith(SQUAD) and not os.path.isdir(spec):
        return squad(spec, labelled=labelled)
    path, colon, said = spec.rpartition(":")
    if colon and said in ("all", *SPLIT_NAMES) and not os.path.exists(spec):
        return _folder(path, (SPLIT_NAMES.get(said, said), None), labelled, task, masks)
    if os.path.isdir(spec):
        return _folder(spec, (None, split), labelled, task, masks)
    if spec.endswith(".npz"):
        return _npz(spec, task, masks)
    if (Path(spec).suffix.lower() in SUFFIXES and os.path.exists(spec)) or begins_as_image(Path(spec)):
        return images([spec])
    shown = printable(spec)
    if reads_text:
        raise InputError(
            f"there is no '{shown}'; expected a table such as FILE.csv, a folder of .txt, or a file .txt with a text "
            "in each line. (From Python texts themselves are given as a list: [text])"
        )
    if os.path.exists(spec):
        raise InputError(
            f"'{shown}' is neither a folder of class folders, nor an image, nor a file .npz or {', '.join(TABLES)}"
        )
    raise InputError(
        f"there is no '{shown}'; expected 'digits', a folder of class folders of images, an image, or a file .npz or "
        ".csv." + nearest(spec, ["digits", *(f"{path}:{s}" for s in splits_of(path))])
    )


def as_source(given: Any, like: Any = None) -> Source:
    """The examples that a user gives to be predicted, without labels unless they have some.

    Args:
      given: a `Source`; an array ``[n, …]``, as `arrays` takes it; paths of images, or for a network that reads text a
        list of texts, as `texts` takes it; for one that tags words a list of lists of words; or a path or spec, as
        `load` takes it, of whose splits `part_to_predict` is taken.
      like: the card of the checkpoint that predicts; see `csv`.

    Raises:
      InputError: if it is none of that.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | Path):
        return load(given, part_to_predict(given, like=like), labelled=False, like=like)
    if isinstance(getattr(like, "preprocessing", None), WordsPreprocessing) and _are_lists(given):
        return tagged(given)
    if holds_texts(like) and (held := _texts_of(given)) is not None:
        return texts(held)
    if isinstance(given, list | tuple) and given and all(isinstance(one, str | Path) for one in given):
        if like is not None and not Path(given[0]).suffix and not os.path.exists(given[0]):
            takes = like.preprocessing.describe()
            raise InputError(
                f"{str(given[0])[:60]!r} is no file, and the network takes {takes}, no texts; expected paths of images"
            )
        return images(given)
    if isinstance(given, np.ndarray | jax.Array | list):
        return arrays(given)
    return check_source(given)


def _are_lists(given: Any) -> bool:
    return isinstance(given, list | tuple) and any(not isinstance(one, str) for one in given)


def _texts_of(given: Any) -> list[Any] | None:
    """A list of texts, or of pairs, also of numpy or pandas; None for what is none, such as files of images."""
    if not isinstance(given, list | tuple):
        return given.tolist() if getattr(getattr(given, "dtype", None), "kind", "") in ("O", "U", "T") else None
    first = given[0] if given else ""
    is_image = isinstance(first, str) and first.lower().endswith(SUFFIXES) and os.path.isfile(first)
    return None if is_image or isinstance(first, Path) else list(given)


def _is_lines(spec: str, like: Any) -> bool:
    """Whether a file holds a text in each line: it is ``.txt``, and no table with the columns that `like` has."""
    if not spec.lower().endswith((".txt", ".txt.gz")) or not os.path.isfile(spec):
        return False
    if not spec.lower().endswith(TABLES):
        return True
    with opened(Path(spec)) as file:
        first, second = ([field.strip(' "\n') for field in re.split(r"[,;\t|]", file.readline())] for _ in range(2))
    if not like.columns or not set(like.columns) <= set(first):
        return True
    return len(first) > len(like.columns) and len(second) < len(first)


def is_table(spec: str | Path) -> bool:
    """Whether `load` reads a spec as a table."""
    return _table_spec(str(spec)) is not None


def names_features(spec: str | Path) -> bool:
    """Whether a spec is of a data set whose features have names: `load` can be told which to learn from."""
    return str(spec).startswith("tfds:")


def options_of_before(spec: str | Path) -> TableOptions | None:
    """How a table is read whose run says nothing of its columns: ``group`` and ``time`` by name; None of no table."""
    named = _table_spec(str(spec))
    if named is None or not os.path.isfile(named[0]):
        return None
    names = TableFile(named[0]).names
    group, time = (next((name for name in names if name.lower() == role), None) for role in ("group", "time"))
    return TableOptions(group=group, time=time)


def _table_spec(spec: str) -> tuple[str, str | None] | None:
    """The file of a table and the target behind it; None where a spec names no table."""
    if spec.lower().endswith(TABLES) and not os.path.isdir(spec):
        return spec, None
    ends = [f"{suffix}:" for suffix in TABLES if f"{suffix}:" in spec]
    if not ends or os.path.exists(spec):
        return None
    cut = min(spec.index(end) + len(end) for end in ends)
    return spec[: cut - 1], spec[cut:] or None


def _with_target(path: str, target: str | None, options: TableOptions) -> TableOptions:
    if target is None:
        return options
    if options.target is not None:
        raise InputError(f"the target of '{path}' is named twice: {target}, and {', '.join(options.target)}")
    return dataclasses.replace(options, target=(target,))


def has_masks(spec: str | Path, task: str) -> bool:
    """Whether `load` reads masks of a spec."""
    spec = str(spec)
    folder = spec if os.path.isdir(spec) else spec.rpartition(":")[0]
    return wants_masks(task) or (task == "auto" and mask_splits(folder or spec) is not None)


def parts_of(
    spec: str | Path, task: str = "auto", *, labelled: bool = True, table: TableOptions | None = None
) -> tuple[str, ...]:
    """Which of train, val and test the folder `spec` has, or a column of a table says; none if it names one itself.

    Not `labelled`, also those that hold images without class folders.
    """
    if (named := _table_spec(str(spec))) is not None:
        return table_splits(named[0], _with_target(*named, table or TableOptions()))
    if not os.path.isdir(spec):
        return ()
    if has_masks(spec, task):
        return mask_splits(spec) or ()
    return splits_of(spec) if labelled else parts_to_predict(spec)


def folder_of(spec: str | Path) -> Path | None:
    """The folder that a spec names, with or without a split; None if it names no folder."""
    places = [Path(spec), Path(str(spec).rpartition(":")[0] or spec)]
    return next((place for place in places if os.path.isdir(place)), None)


def part_to_predict(spec: str | Path, task: str = "auto", *, like: Any = None) -> str | None:
    """The split that is predicted where none is named: what is held out, ``val``, else ``test``; else ``train``.

    Arguments as of `load`.
    """
    if holds_texts(like) and _is_lines(str(spec), like):
        return None
    here = parts_of(spec, task, labelled=False)
    return next((split for split in ("val", "test", "train") if split in here), None)


def _folder(
    path: str, said: tuple[str | None, str | None], labelled: bool, task: str, options: MaskOptions | None
) -> Source:
    """A folder of classes, or of images with masks; of its split `said`, or else of the second one if it has that."""
    splits = mask_splits(path) if wants_masks(task) or task == "auto" else None
    if not wants_masks(task) and splits is None:
        if os.path.isdir(path) and kind_of(Path(path)) is TEXTS:
            return text_folder(path, said[0], labelled=labelled, default=said[1])
        return folder(path, said[0], labelled=labelled, default=said[1])
    split = said[0] or (said[1] if said[1] in (splits or ()) else None)
    return masks_of(path, split, labelled=labelled, options=options or MaskOptions())


def _npz(path: str, task: str, options: MaskOptions | None) -> Source:
    if not wants_masks(task):
        return npz(path, task=task)
    options = options or MaskOptions()
    for name in ("size", "tile", "group"):
        if (value := getattr(options, name)) is not None:
            raise InputError(
                f"{name}={value!r} is for folders of images with masks; '{path}' holds arrays, which are taken as they "
                "are: leave it out, and save x and y as they should be (groups as an array 'groups')"
            )
    return npz(path, task=task, classes=options.classes, void=options.void)


def _digit_classes(spec: str) -> list[int] | None:
    said = spec.partition(":")[2]
    if not said:
        return None
    try:
        first, dash, last = said.partition("-")
        return list(range(int(first), int(last) + 1)) if dash else [int(c) for c in said.split(",")]
    except ValueError:
        raise InputError(f"'{spec}' names no digits; expected for example digits:0-4 or digits:1,7") from None
