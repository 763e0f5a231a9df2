"""Tables: rows of numbers and categories with target columns, and images by file name."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.folder import ImageFiles
from jaxdl.data.folder_layout import SPLIT_NAMES, SPLITS
from jaxdl.data.image_file import SUFFIXES, printable
from jaxdl.data.source import levels_of
from jaxdl.data.table import LABELS
from jaxdl.data.table_columns import notes_of, read_features
from jaxdl.data.table_file import JSON_LINES, TableFile
from jaxdl.data.table_roles import TableOptions, listed, part_column, roles_by_name, roles_like, settle, ways
from jaxdl.data.table_source import Table
from jaxdl.data.table_targets import read_labels, read_times, read_weights
from jaxdl.data.table_texts import documents, options_like, read_texts
from jaxdl.data.texts import Texts, holds_texts
from jaxdl.errors import InputError, check_choice


def csv(
    path: str | Path,
    target: str | Sequence[str] | None = None,
    *,
    task: str = "auto",
    group: str | None = None,
    time: str | None = None,
    drop: Sequence[str] = (),
    feature: Sequence[str] = (),
    text: str | None = None,
    labelled: bool = True,
    like: Any = None,
    header: bool | None = None,
    weight: str | None = None,
    text_column: str | Sequence[str] = (),
) -> Table | ImageFiles | Texts:
    """A source from a table in UTF-8: a line of column names, then a line per example; blank lines are ignored.

    Columns are separated by commas, semicolons, tabs or spaces, whichever the first lines show; a file ``.parquet``
    is read as such, ``.jsonl`` as an object of JSON in each line, and ``.csv.gz``, ``.tsv.gz``, ``.jsonl.gz`` are
    unpacked. Fields may stand in double quotes; spaces around a field are ignored. Between semicolons or tabs
    ``1,45`` is a number. The source's ``notes`` say in one line what each column was taken for.

    With a column ``file``, ``filename``, ``path`` or ``image`` whose first entry is no number, or one whose first
    entry ends like an image file, it is a table of images, read when asked for. The files are named relative to the
    table's folder and lie in it: a table with its images can then be moved, and one from elsewhere cannot reach for
    other files. Further columns are ignored.

    A column ``split`` of train, val and test divides the rows as folders of these names do (`load` takes one of them);
    one called ``fold`` says which rows a cross-validation tests together.

    With `text_column` it is a source of texts, and only these are learned from; see `texts.texts`.

    Otherwise it is a table of features: each column that is nothing else, in the order of the file. ``True`` and
    ``False`` are 1 and 0; texts are categories; what is missing is filled in by what the training part holds, see
    `preprocessing.columns`. A column that only numbers the rows (0, 1, 2, … or 1, 2, 3, …) is left out.

    Args:
      path: the file.
      target: column to learn; by default one called target, label, class or y, in upper or lower case. Several, as a
        list or as ``"A,B,C"``, are the labels of a multi-label task: each field holds 0, 1, true or false.
      task: ``"classification"`` (labels ``int32[n]``; class names are the texts of the fields, sorted, numbers by
        size), ``"multilabel"`` (``uint8[n, columns]``; class names are the columns), ``"regression"``
        (``float32[n]``) or ``"auto"``: multilabel for several columns; classification for text, or whole numbers of at
        most 20 different values that are fewer than half as many as the examples; else regression.
      group: column of what belongs together; by default one called group, if it holds texts.
      time: column of numbers or ISO dates (2024-05-31, 2024-05-31T09:30); by default one called time, if it holds
        dates.
      drop: columns to leave out.
      feature: columns to learn from whatever they look like, such as one that is called group, time or id.
      text: column of what the numbers were computed from, see `table.arrays`; by default one called text, unless it
        begins with a number.
      labelled: if False, a table without a target column is taken without labels.
      like: a card of a checkpoint, or a table: its columns are taken, by name and in its way, and no others.
      header: whether the first line holds names; by default it has to look like names.
      weight: column of how much each row counts in training, numbers of 0 or more; see `source.with_weights`.
      text_column: column of texts to learn from; two, as a list or as ``"A,B"``, whose texts are compared.

    Raises:
      InputError: naming column and line: for a file that is no such table, a column that is not there or may be
        several things, a field that cannot be read, and files that are missing, named twice, of another kind or
        outside.
    """
    several = (target,) if isinstance(target, str) else None if target is None else tuple(target)
    lists = ((names,) if isinstance(names, str) else tuple(names) for names in (drop, feature, text_column))
    drop, feature, learned = lists
    options = TableOptions(several, group, time, drop, feature, text, header, weight, learned)
    return read_table(path, options, task, labelled, like)


def jsonl(
    path: str | Path, text: str | Sequence[str] = "text", target: str | Sequence[str] | None = None, **options: Any
) -> Texts:
    """A source of texts from a file with an object of JSON in each line, such as ``{"text": "…", "label": "good"}``.

    Args:
      path: the file, ``.jsonl`` or ``.jsonl.gz``.
      text: field of the text to learn from; two, as a list or as ``"A,B"``, whose texts are compared.
      target: field to learn, as of `csv`.
      **options: ``group``, ``time``, ``weight``, ``task``, ``labelled`` and others of `csv`.

    Raises:
      InputError: naming field and line, as `csv`; also for a line that is no JSON, or no object.
    """
    if not str(path).lower().endswith(JSON_LINES):
        raise InputError(f"'{path}' is not called as a file of JSON in lines is; expected a name in {JSON_LINES[0]}")
    return csv(path, target, text_column=text, **options)


def read_table(
    path: str | Path,
    options: TableOptions,
    task: str = "auto",
    labelled: bool = True,
    like: Any = None,
    split: str | None = None,
) -> Table | ImageFiles | Texts:
    """As `csv`, with its options in one; `split` takes the rows of train, val or test where a column says these."""
    check_choice("task of a table", task, LABELS)
    path = Path(path)
    table = TableFile(path, options.header)
    if holds_texts(like):
        options, like = options_like(table, options, like), None
    columns = getattr(like, "columns", None)
    if columns is None:
        roles = roles_by_name(table, options, labelled=labelled)
    elif options.text_column:
        raise InputError(
            f"text_column names {listed(options.text_column)}, but the network was trained on other columns of a table "
            f"({listed(columns, 5)}), no texts; leave it out"
        )
    else:
        roles = roles_like(table, options, like)
    table.read(roles.as_text)
    if columns is None:
        roles = settle(table, roles)
    labels, class_names = read_labels(table, roles.targets, task)
    held = read_texts(table, roles, labelled=labelled) if roles.texts else None
    rows, folds, divided = _parts(table, roles.part, split)
    groups = table.filled(roles.group).all() if roles.group else None
    times = read_times(table, roles.time) if roles.time else None
    weights = read_weights(table, roles.weight) if roles.weight else None
    if roles.file:
        files = _files(table, roles.file)
        notes = (*notes_of(roles), *divided)
        source = ImageFiles.of(files, labels, class_names, str(path), groups, times, notes=notes)
        source = source if weights is None else source.with_weights(weights)
        return source if rows is None else source.take(rows)
    shared = dict(weights=weights, name=str(path), target=roles.targets or None, folds=folds)
    if held is not None:
        hints = documents(table, roles) if labelled and not roles.group else ()
        notes = (*notes_of(roles), *hints, *divided)
        columns = dict(groups=groups, times=times, columns=roles.texts, notes=notes)
        source = Texts(held, labels, class_names, **columns, **shared)
        return source if rows is None else source.take(rows)
    x, preprocessing = read_features(table, roles, None if columns is None else like)
    source = Table(
        x,
        labels,
        class_names,
        groups,
        times,
        columns=roles.features,
        texts=tuple(table.filled(roles.text).all().tolist()) if roles.text else None,
        preprocessing=preprocessing,
        declared=roles.declared,
        **shared,
    )
    if columns is not None:
        source = source.with_levels(levels_of(like))
    source = dataclasses.replace(source, notes=(*notes_of(roles, source), *divided, *source.notes))
    return source if rows is None else source.take(rows)


# Parts


def table_splits(path: str | Path, options: TableOptions) -> tuple[str, ...]:
    """Which of train, val and test a column of the table names; none if it has no such column."""
    table = TableFile(path, options.header)
    one_each = (options.group, options.time, options.text, options.weight, *options.text_column)
    name = part_column(table.names, (*options.drop, *options.feature, *(options.target or ()), *one_each))
    if name is None:
        return ()
    table.read((name,), only=(name,))
    held = {SPLIT_NAMES.get(text.lower()) for text in table.texts(name).values}
    return () if None in held else tuple(split for split in SPLITS if split in held)


def _parts(
    table: TableFile, name: str | None, split: str | None
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
    """The rows of a split, if there are splits; the fold of each row, if there are folds; and what is said of them."""
    if name is None:
        return None, None, ()
    texts = table.filled(name)
    named = [SPLIT_NAMES.get(text.lower()) for text in texts.values]
    if None in named:
        count = len(texts.values)
        if not 2 <= count <= len(texts.codes) / 2:
            raise InputError(
                f"the column '{name}' of '{table.path}' says how the rows are divided, but holds {count} different "
                f"values in {len(texts.codes)} rows; expected train, val and test, or a few folds. Say what else it "
                f"is: {ways(name)}"
            )
        return None, texts.all(), (f"'{name}' says the folds: {listed(sorted(texts.values), 10)}",)
    held = np.array(named, object)[texts.codes]
    counts = Counter(held.tolist())
    said = ", ".join(f"{one} {counts[one]}" for one in SPLITS if one in counts)
    if split is None:
        return None, None, (f"'{name}' says the splits, all of which are taken: {said}",)
    if split not in counts:
        raise InputError(f"the column '{name}' of '{table.path}' has no row of {split}; it has {said}")
    return np.flatnonzero(held == split), None, (f"'{name}' says the splits, of which {split} is taken: {said}",)


# Images


def _files(table: TableFile, name: str) -> tuple[Path, ...]:
    path, texts = table.path, table.filled(name).all().tolist()

    def refuse(which: list[int], problem: str) -> None:
        if which:
            few = ", ".join(f"'{texts[i][:100]}' {table.place_of(i)}" for i in which[:3])
            more = f" and {len(which) - 3} more" if len(which) > 3 else ""
            raise InputError(f"the column '{name}' of '{path}' names {problem}: {few}{more}")

    inside = [os.path.normpath(text) for text in texts]
    places = range(len(texts))
    refuse(
        [i for i in places if os.path.isabs(texts[i]) or inside[i].split(os.sep)[0] == os.pardir],
        f"files outside the table's folder, by an absolute path or '..' (expected paths below '{path.parent}')",
    )
    count = Counter(inside)
    refuse([i for i in places if count[inside[i]] > 1], "files more than once (keep one row of each)")
    refuse(
        [i for i in places if not texts[i].lower().endswith(SUFFIXES)],
        f"files that are no images of a kind that is read ({', '.join(SUFFIXES)})",
    )
    files = tuple(path.parent / file for file in inside)
    refuse([i for i in places if not os.path.isfile(files[i])], f"files that are not in '{printable(path.parent)}'")
    return files
