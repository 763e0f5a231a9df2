"""Tables: numbers with a target column, and images by file name."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from jaxdl.data import csv_file
from jaxdl.data.folder import SUFFIXES, ImageFiles, printable
from jaxdl.data.source import Arrays
from jaxdl.errors import InputError, check_choice, nearest

TARGETS = ("target", "label", "class", "y")
FILES = ("file", "filename", "path", "image")
TASKS = ("auto", "classification", "regression")
MOST_CLASSES = 20  # whole numbers of more different values than that are taken for amounts
BLOCK = 4096  # rows that are held as text at a time


def csv(
    path: str | Path,
    target: str | None = None,
    *,
    task: str = "auto",
    group: str = "group",
    time: str = "time",
    text: str = "text",
    labelled: bool = True,
) -> Arrays | ImageFiles:
    """A source from a table: a line of column names, then a line per example.

    With a column ``file``, ``filename``, ``path`` or ``image`` (the first of them that is there and whose first entry
    is no number) it is a table of images, read when asked for. The files are named relative to the table's folder and
    lie in it: a table with its images can then be moved, and one from elsewhere cannot reach for other files. Further
    columns are ignored.

    Otherwise it is a table of numbers: each column but those of target, group, time and text is a feature, in the
    order of the file, and every field must hold a finite number.

    The task ``"auto"`` is classification where the target is text, or whole numbers of at most 20 different values
    that are fewer than half as many as the examples; else regression.

    Args:
      path: the file; see `csv_file.opened` for its form.
      target: column to learn; by default one called target, label, class or y, in upper or lower case.
      task: ``"classification"`` (class names sorted, numbers by size), ``"regression"`` (labels are float32) or
        ``"auto"``.
      group: column of what belongs together; ``"group"`` need not be there.
      time: column of numbers or ISO dates (2024-05-31, 2024-05-31T09:30); ``"time"`` need not be there.
      text: column of what the numbers were computed from, see `table.arrays`; ``"text"`` need not be there, and is a
        feature if it begins with a number.
      labelled: if False, a table without a target column is taken without labels.

    Raises:
      InputError: naming column and line: for a file that is no table, a column that is not there, a field without a
        value, text or NaN among numbers, and files that are missing, named twice, of another kind or outside.
    """
    check_choice("task", task, TASKS)
    path = Path(path)
    with csv_file.opened(path) as (names, rows):
        first = next(rows, None)
        if first is None:
            raise InputError(f"'{path}' has column names but no rows; expected a line per example")
        target = _target(path, names, target, labelled)
        group, time = (_optional(path, names, *pair, target) for pair in ((group, "group"), (time, "time")))
        file = _file_column(names, first[1], (target, group, time))
        text = None if file else _text_column(path, names, first[1], text, (target, group, time))
        apart = [name for name in (target, group, time, file, text) if name is not None]
        features = [] if file else [name for name in names if name not in apart]
        if not features and not file:
            raise InputError(
                f"'{path}' has no columns to learn from; it has: {csv_file.listed(names)}. Columns are divided by "
                "commas, semicolons or tabs"
            )
        x, texts, lines = _read(path, names, first, rows, apart, features)

    def column(name: str | None) -> list[str] | None:
        if name is None:
            return None
        empty = next((i for i, text in enumerate(texts[name]) if text.lower() in ("", "nan")), None)
        if empty is not None:
            raise InputError(
                f"the column '{name}' of '{path}' {csv_file.what_is_wrong(texts[name][empty])}, on line "
                f"{lines[empty]}; fill it or remove the row"
            )
        return texts[name]

    labels, class_names = (None, ()) if target is None else _labels(path, target, column(target), lines, task)
    groups = None if group is None else np.array(column(group))
    times = None if time is None else _times(path, time, column(time), lines)
    if file:
        return ImageFiles(_files(path, file, column(file), lines), labels, class_names, str(path), groups, times)
    held = None if text is None else tuple(column(text))
    return Arrays(x, labels, class_names, groups, times, name=str(path), columns=tuple(features), texts=held)


def _target(path: Path, names: list[str], target: str | None, labelled: bool) -> str | None:
    if target is not None:
        if target not in names:
            raise InputError(
                f"'{path}' has no column '{target}'; it has: {csv_file.listed(names)}.{nearest(target, names)}"
            )
        return target
    found = [name for name in names if name.lower() in TARGETS]
    if len(found) > 1:
        raise InputError(f"'{path}' has the columns {', '.join(found)}; say which is the target: {path}:{found[0]}")
    if not found and labelled:
        raise InputError(
            f"'{path}' has no column called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}; name the target column, as in "
            f"{path}:COLUMN. It has: {csv_file.listed(names)}"
        )
    return found[0] if found else None


def _optional(path: Path, names: list[str], name: str, default: str, target: str | None) -> str | None:
    """The column called `name`; the default's need not be there, and is the target if that was asked for."""
    found = name if name in names else next((n for n in names if n.lower() == name == default), None)
    if found is None and name != default:
        raise InputError(f"'{path}' has no column '{name}'; it has: {csv_file.listed(names)}.{nearest(name, names)}")
    if found is not None and found == target:
        if name != default:
            raise InputError(f"the column '{name}' of '{path}' cannot be both {default} and target")
        return None
    return found


def _file_column(names: list[str], fields: list[str], taken: Sequence[str | None]) -> str | None:
    for wanted in FILES:
        for name, field in zip(names, fields, strict=True):
            if name.lower() == wanted and name not in taken and csv_file.number(field) is None:
                return name
    return None


def _text_column(path: Path, names: list[str], fields: list[str], text: str, taken: Sequence[str | None]) -> str | None:
    found = _optional(path, names, text, "text", taken[0])
    if found is None or (text == "text" and csv_file.number(fields[names.index(found)]) is not None):
        return None
    if found in taken:
        raise InputError(f"the column '{found}' of '{path}' cannot be both text and group or time")
    return found


def _read(
    path: Path,
    names: list[str],
    first: tuple[int, list[str]],
    rows: csv_file.Rows,
    apart: list[str],
    features: list[str],
) -> tuple[np.ndarray, dict[str, list[str]], list[int]]:
    """Features ``float32[n, features]``, the columns `apart` as text, and the line of each row.

    Block by block: as text a table takes twenty times the memory.
    """
    texts: dict[str, list[str]] = {name: [] for name in apart}
    lines, blocks, block = [], [], [first]
    while block := block + list(islice(rows, BLOCK - len(block))):
        here = [line for line, _ in block]
        columns = dict(zip(names, zip(*(fields for _, fields in block), strict=True), strict=True))
        for name in apart:
            texts[name].extend(columns[name])
        if features:
            blocks.append(_features(path, {name: columns[name] for name in features}, here))
        lines.extend(here)
        block = []
    return np.concatenate(blocks) if blocks else np.zeros((0, 0), np.float32), texts, lines


def _features(path: Path, columns: dict[str, Sequence[str]], lines: list[int]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        x = np.stack([csv_file.to_floats(texts) for texts in columns.values()], axis=1).astype(np.float32)
    if np.isfinite(x).all():
        return x
    problems = []
    for values, (name, texts) in zip(x.T, columns.items(), strict=True):
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            problems.append((lines[bad[0]], name, csv_file.what_is_wrong(texts[bad[0]])))
    line, name, problem = min(problems, key=lambda p: p[0])
    others = [n for _, n, _ in problems if n != name]
    raise InputError(
        f"the column '{name}' of '{path}' {problem}, on line {line}"
        + (f" (other columns with such fields: {csv_file.listed(others)})" if others else "")
        + "; encode text as numbers, fill or remove what is missing, or remove the column"
    )


def few_enough(values: int, examples: int) -> bool:
    """Whether whole numbers that take so many different values in so many examples are classes, not amounts."""
    return values <= MOST_CLASSES and 2 * values < examples


def _labels(path: Path, name: str, texts: list[str], lines: list[int], task: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names of the target column `name`; none of the latter for regression."""
    numbers = [csv_file.number(text) for text in texts]
    wrong = [i for i, value in enumerate(numbers) if value is None]
    some = next((text for text, value in zip(texts, numbers, strict=True) if value is not None), None)
    mixed = any(value is not None and value != value // 1 for value in numbers)  # with fractions: not classes
    missing = some is not None and all(texts[i].lower() in csv_file.MISSING for i in wrong)
    if wrong and (task == "regression" or (task == "auto" and mixed) or missing):
        i = wrong[0]
        held = f"numbers such as {some}" if some is not None else "no numbers"
        raise InputError(
            f"the target column '{name}' of '{path}' holds {held}, but on line {lines[i]} it "
            f"{csv_file.what_is_wrong(texts[i])}; remove or mend that row"
        )
    if wrong:
        classes = sorted(set(texts))
        place = {text: i for i, text in enumerate(classes)}
        return np.array([place[text] for text in texts], np.int32), tuple(classes)
    with np.errstate(over="ignore"):
        values = np.array([float(text) for text in texts]).astype(np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise InputError(
            f"the target column '{name}' of '{path}' {csv_file.what_is_wrong(texts[bad[0]])}, on line {lines[bad[0]]}; "
            "remove or mend that row"
        )
    found = sorted(set(numbers))
    few = not mixed and few_enough(len(found), len(texts))
    if task == "regression" or (task == "auto" and not few):
        return values, ()
    place = {value: i for i, value in enumerate(found)}
    return np.array([place[n] for n in numbers], np.int32), tuple(str(int(n) if n == n // 1 else n) for n in found)


def _times(path: Path, name: str, texts: list[str], lines: list[int]) -> np.ndarray:
    times = csv_file.to_times(texts)
    if isinstance(times, int):
        raise InputError(
            f"the column '{name}' of '{path}' holds '{texts[times][:30]}' on line {lines[times]}; expected numbers "
            "throughout, or ISO dates throughout, such as 2024-05-31 or 2024-05-31T09:30, all with an offset or none"
        )
    return times


def _files(path: Path, name: str, texts: list[str], lines: list[int]) -> tuple[Path, ...]:
    def refuse(which: Sequence[int], problem: str) -> None:
        if which:
            few = ", ".join(f"'{texts[i][:100]}' on line {lines[i]}" for i in which[:3])
            more = f" and {len(which) - 3} more" if len(which) > 3 else ""
            raise InputError(f"the column '{name}' of '{path}' names {problem}: {few}{more}")

    inside = [os.path.normpath(text) for text in texts]
    places = range(len(texts))
    refuse(
        [i for i in places if os.path.isabs(texts[i]) or inside[i].split(os.sep)[0] == os.pardir],
        f"files outside the table's folder, by an absolute path or '..' (expected paths below '{path.parent}')",
    )
    count: Counter[str] = Counter(inside)
    refuse([i for i in places if count[inside[i]] > 1], "files more than once (keep one row of each)")
    refuse(
        [i for i in places if not texts[i].lower().endswith(SUFFIXES)],
        f"files that are no images of a kind that is read ({', '.join(SUFFIXES)})",
    )
    files = tuple(path.parent / file for file in inside)
    refuse([i for i in places if not os.path.isfile(files[i])], f"files that are not in '{printable(path.parent)}'")
    return files
