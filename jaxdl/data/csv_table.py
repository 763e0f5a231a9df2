"""Tables: numbers with target columns, and images by file name."""

import csv as standard
import math
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from jaxdl.data.folder import SUFFIXES, ImageFiles, printable
from jaxdl.data.source import Arrays
from jaxdl.data.table import ALONE, LABELS, SEVERAL, few_enough, to_labels
from jaxdl.errors import InputError, check_choice, nearest

if TYPE_CHECKING:
    import pandas as pd

TARGETS = ("target", "label", "class", "y")
FILES = ("file", "filename", "path", "image")
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-")  # in any case, among numbers
EMPTY = {"", "nan", "NaN", "NAN"}  # in any column
FIELDS = 2**21  # that pandas holds at a time, so that a large table does not fill the memory as text


def csv(
    path: str | Path,
    target: str | Sequence[str] | None = None,
    *,
    task: str = "auto",
    group: str = "group",
    time: str = "time",
    text: str = "text",
    labelled: bool = True,
) -> Arrays | ImageFiles:
    """A source from a table in UTF-8: a line of column names, then a line per example; blank lines are ignored.

    Columns are separated by whichever of comma, semicolon and tab splits the first line into the most fields. Fields
    may stand in double quotes; spaces around a field are ignored.

    With a column ``file``, ``filename``, ``path`` or ``image`` whose first entry is no number it is a table of images,
    read when asked for. The files are named relative to the table's folder and lie in it: a table with its images can
    then be moved, and one from elsewhere cannot reach for other files. Further columns are ignored.

    Otherwise it is a table of numbers, ``float32[n, features]``: each column but those of target, group, time and text
    is a feature, in the order of the file, and every field must hold a finite number.

    Args:
      path: the file.
      target: column to learn; by default one called target, label, class or y, in upper or lower case. Several, as a
        list or as ``"A,B,C"``, are the labels of a multi-label task: each field holds 0, 1, true or false.
      task: ``"classification"`` (labels ``int32[n]``; class names are the texts of the fields, sorted, numbers by
        size), ``"multilabel"`` (``uint8[n, columns]``; class names are the columns), ``"regression"``
        (``float32[n]``) or ``"auto"``: multilabel for several columns; classification for text, or whole numbers of at
        most 20 different values that are fewer than half as many as the examples; else regression.
      group: column of what belongs together; ``"group"`` need not be there.
      time: column of numbers or ISO dates (2024-05-31, 2024-05-31T09:30); ``"time"`` need not be there.
      text: column of what the numbers were computed from, see `table.arrays`; ``"text"`` need not be there, and is a
        feature if it begins with a number.
      labelled: if False, a table without a target column is taken without labels.

    Raises:
      InputError: naming column and line: for a file that is no such table, a column that is not there, a field without
        a value, text or NaN among numbers, and files that are missing, named twice, of another kind or outside.
    """
    check_choice("task of a table", task, LABELS)
    path = Path(path)
    rows = _rows(path)
    names = next(rows)[1]
    _, first = next(rows, (0, None))
    if first is None:
        raise InputError(f"'{path}' has column names but no rows; expected a line per example")
    targets = _targets(path, names, target, labelled)
    group, time = (_optional(path, names, *pair, targets) for pair in ((group, "group"), (time, "time")))
    taken = [*targets, *(name for name in (group, time) if name)]
    files = [name for wanted in FILES for name in names if name.lower() == wanted and name not in taken]
    file = next((name for name in files if math.isnan(_number(first[names.index(name)]))), None)
    by_default = text == "text"
    text = None if file else _optional(path, names, text, "text", targets)
    if text and by_default and not math.isnan(_number(first[names.index(text)])):
        text = None
    if text in taken:
        raise InputError(f"the column '{text}' of '{path}' cannot be both text and group or time")
    taken += [name for name in (file, text) if name]
    features = [] if file else [name for name in names if name not in taken]
    if not features and not file:
        raise InputError(
            f"'{path}' has no columns to learn from; it has: {_listed(names)}. Columns are divided by commas, "
            "semicolons or tabs"
        )
    x, texts = _read(path, names, features, taken)
    labels, class_names = _labels(path, targets, texts, task)
    groups = np.array(texts[group]) if group else None
    times = _times(path, time, texts[time]) if time else None
    if file:
        return ImageFiles(_files(path, file, texts[file]), labels, class_names, str(path), groups, times)
    held = tuple(texts[text]) if text else None
    return Arrays(x, labels, class_names, groups, times, name=str(path), columns=tuple(features), texts=held)


# The file


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[str], str]]:
    """The file at its beginning, and what separates its columns."""
    if not path.is_file():
        raise InputError(f"there is no file '{path}'")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = next((line for line in file if line.strip()), None)
            if start is None:
                raise InputError(f"'{path}' is empty; expected a line of column names and a line per example")
            file.seek(0)
            yield file, max(",;\t", key=lambda delimiter: len(next(standard.reader([start], delimiter=delimiter))))
    except UnicodeDecodeError as error:
        place = error  # counts from the last block that was read, so the whole file is decoded once more
        try:
            path.read_bytes().decode()
        except UnicodeDecodeError as whole:
            place = whole
        raise InputError(
            f"'{path}' is no UTF-8 text ({place.reason} at byte {place.start}); save the table as CSV in UTF-8"
        ) from error


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """``(line, fields)`` of the names of the columns, then of each row.

    Slow: for the first rows, and to find the line of a row that pandas gives by its number.
    """
    with _opened(path) as (file, delimiter):
        reader, names = standard.reader(file, delimiter=delimiter, strict=True), None
        try:
            for fields in reader:
                if not fields or (len(fields) == 1 and fields[0] and not fields[0].strip(" \t")):
                    continue  # what pandas takes for a blank line, so that both count the same rows
                fields = [field.strip() for field in fields]
                if names is None:
                    names = fields
                    _check_names(path, names)
                elif len(fields) != len(names):
                    raise InputError(
                        f"line {reader.line_num} of '{path}' has {len(fields)} fields; the first line names "
                        f"{len(names)} columns"
                    )
                yield reader.line_num, fields
        except standard.Error as error:
            raise InputError(f"'{path}' cannot be read as a table from line {reader.line_num} on ({error})") from error


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise InputError(
            f"column {names.index('') + 1} of '{path}' has no name; name it or remove it (pandas writes such a column "
            "unless index=False is set)"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"'{path}' has two columns called '{twice}'; rename or remove one")


def _read(path: Path, names: list[str], features: list[str], kept: list[str]) -> tuple[np.ndarray, dict[str, list]]:
    """Features ``float32[n, features]``, and the fields of the columns `kept` as text."""
    import pandas as pd

    places = {name: place for place, name in enumerate(names)}
    blocks, texts = [], {name: [] for name in kept}
    with _opened(path) as (file, delimiter):
        try:
            reader = pd.read_csv(
                file,
                sep=delimiter,
                header=0,
                names=range(len(names)),
                index_col=False,
                # equal texts of a block are kept once
                dtype={places[name]: object for name in places.keys() - set(features)},
                na_filter=False,  # an empty field stays empty text
                low_memory=False,  # one type for a column of a block
                chunksize=max(1, FIELDS // len(names)),
            )
            for block in reader:
                if features:
                    found = _numbers(block, [places[name] for name in features])
                    if not np.isfinite(found).all():
                        row, column = np.argwhere(~np.isfinite(found))[0]
                        remedy = "encode text as numbers, fill or remove what is missing, or remove the column"
                        raise _refusal(path, features[column], block.index[row], remedy)
                    blocks.append(found)
                for name in kept:
                    texts[name] += [text.strip() for text in block[places[name]]]
        except pd.errors.ParserError as error:
            for _ in _rows(path):  # finds the line, and refuses it
                continue
            raise InputError(f"'{path}' cannot be read as a table ({error})") from error
    for name in kept:
        if EMPTY.intersection(texts[name]):
            raise _refusal(path, name, _first(texts[name], EMPTY), "fill it or remove the row")
    return np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32), texts


def _numbers(block: "pd.DataFrame", places: list[int]) -> np.ndarray:
    """``float32[rows, places]`` of some columns, NaN where a field is no number."""
    found = np.empty((len(block), len(places)), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        for i, place in enumerate(places):
            column = block[place]
            found[:, i] = column if column.dtype.kind in "iuf" else [_number(value) for value in column]
    return found


def _number(value: str | int | float) -> float:
    """NaN if it is no number."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # float("1_000") is 1000
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def _row(path: Path, row: int) -> tuple[int, list[str]]:
    """Line and fields of row `row`, from 0. An earlier row of another length is refused."""
    found = next(islice(_rows(path), int(row) + 1, None), None)
    if found is None:
        raise InputError(f"'{path}' cannot be read as a table: a line holds nothing but quoted spaces; remove it")
    return found


def _refusal(
    path: Path, name: str, row: int, remedy: str, problem: str = "which is no finite number (as float32)"
) -> InputError:
    """The error for the field of column `name` in row `row`, from 0."""
    line, fields = _row(path, row)
    text = fields[next(_rows(path))[1].index(name)]
    if text.lower() in MISSING:
        problem = f"has no value ('{text}')" if text else "has no value"
    else:
        problem = f"holds '{text[:30]}', {problem}"
    return InputError(f"the column '{name}' of '{path}' {problem}, on line {line}; {remedy}")


# The columns


def _first(texts: list[str], wanted: Collection[str]) -> int:
    return next(row for row, text in enumerate(texts) if text in wanted)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")


def _targets(path: Path, names: list[str], target: str | Sequence[str] | None, labelled: bool) -> list[str]:
    if target is None:
        found = [name for name in names if name.lower() in TARGETS]
        if len(found) > 1:
            raise InputError(f"'{path}' has the columns {', '.join(found)}; say which is the target: {path}:{found[0]}")
        if not found and labelled:
            raise InputError(
                f"'{path}' has no column called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}; name the target column, as "
                f"in {path}:COLUMN. It has: {_listed(names)}"
            )
        return found
    if isinstance(target, str):
        target = [target] if target in names else [name.strip() for name in target.split(",")]
    if "" in target:
        kept = ",".join(name for name in target if name) or names[-1]
        raise InputError(
            f"the target '{','.join(target)}' of '{path}' has a comma with no name beside it; expected for example "
            f"{path}:{kept}"
        )
    for name in target:
        if name not in names:
            raise InputError(f"'{path}' has no column '{name}'; it has: {_listed(names)}.{nearest(name, names)}")
    if not target or len(set(target)) < len(target):
        raise InputError(f"target names {', '.join(target) or 'no column'} of '{path}'; expected each column once")
    return list(target)


def _optional(path: Path, names: list[str], name: str, default: str, targets: list[str]) -> str | None:
    """The column called `name`; the default's need not be there, and is a target if it is one of them."""
    found = name if name in names else next((n for n in names if n.lower() == name == default), None)
    if found is None and name != default:
        raise InputError(f"'{path}' has no column '{name}'; it has: {_listed(names)}.{nearest(name, names)}")
    if found in targets and name != default:
        raise InputError(f"the column '{name}' of '{path}' cannot be both {default} and target")
    return None if found in targets else found


def _labels(
    path: Path, targets: list[str], texts: dict[str, list[str]], task: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if not targets:
        return None, ()
    if len(targets) > 1 and task not in ("auto", "multilabel"):
        raise InputError(
            f"the target of '{path}' is {len(targets)} columns ({_listed(targets)}), but the task is {task}; name one "
            f"column ({path}:{targets[0]}), or take the task multilabel for labels of 0 and 1"
        )
    if len(targets) > 1 or task == "multilabel":
        remedy = f"give every label a column of 0 and 1, as in {path}:A,B, or {ALONE}"
        if len(targets) > 1:
            alone = f"name one column alone to learn its classes or numbers ({path}:{targets[0]})"
            remedy = f"{SEVERAL}; {alone}{', and leave out the task multilabel' if task == 'multilabel' else ''}"
        columns = [_zeros_and_ones(path, name, texts[name], remedy) for name in targets]
        return to_labels(np.stack(columns, axis=1), targets, "multilabel", str(path))
    (name,) = targets
    fields = texts[name]
    numbers = np.array([_number(text) for text in fields])
    words = np.isnan(numbers)
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    if task == "auto" and not words.any():
        task = "classification" if whole.all() and few_enough(len(set(fields)), len(fields)) else "regression"
    mixed = words.any() and not words.all()
    gaps = mixed and all(text.lower() in MISSING for text in {fields[row] for row in np.flatnonzero(words)})
    fractions = mixed and not (whole | words).all()
    if gaps or (task == "regression" and words.any()) or (task == "auto" and fractions):
        remedy = "leave out the task regression to learn classes"
        if mixed:
            remedy = "the target is a number elsewhere; correct that field or remove the row"
        raise _refusal(path, name, np.argmax(words), remedy, "which is no number")
    if task == "regression":
        if len(bad := np.flatnonzero(~(np.abs(numbers) <= np.finfo(np.float32).max))):
            raise _refusal(path, name, bad[0], "correct or remove that row")
        return to_labels(numbers, None, task, str(path))
    names = sorted(set(fields), key=None if words.any() else lambda text: (float(text), text))
    index = {text: i for i, text in enumerate(names)}
    return to_labels(np.array([index[text] for text in fields]), names, "classification", str(path))


def _zeros_and_ones(path: Path, name: str, texts: list[str], remedy: str) -> np.ndarray:
    """``uint8[n]`` of a column of a multi-label target."""
    values = {text: {"true": 1.0, "false": 0.0}.get(text.lower(), _number(text)) for text in set(texts)}
    if wrong := {text for text, value in values.items() if value not in (0, 1)}:
        raise _refusal(path, name, _first(texts, wrong), remedy, "not 0, 1, true or false")
    return np.array([values[text] for text in texts], np.uint8)


def _times(path: Path, name: str, texts: list[str]) -> np.ndarray:
    """float64 where all are numbers, else datetime64; times with an offset are brought to UTC."""
    numbers = np.array([_number(text) for text in texts])
    if np.isfinite(numbers).all():
        return numbers
    made: list[datetime] = []
    for row, text in enumerate(texts):
        try:
            moment = datetime.fromisoformat(text)
            made.append(moment if moment.tzinfo is None else moment.astimezone(UTC))
            if made[-1].tzinfo != made[0].tzinfo:
                raise ValueError("some have an offset, some have none")
        except (ValueError, OverflowError) as error:
            remedy = "expected numbers only, or ISO dates only, such as 2024-05-31T09:30, all with an offset or none"
            raise _refusal(path, name, row, remedy, "which is no such time") from error
    return np.array([moment.replace(tzinfo=None) for moment in made], "datetime64[us]")


def _files(path: Path, name: str, texts: list[str]) -> tuple[Path, ...]:
    def refuse(which: list[int], problem: str) -> None:
        if which:
            few = ", ".join(f"'{texts[i][:100]}' on line {_row(path, i)[0]}" for i in which[:3])
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
