"""The rows of a ``.csv`` file as text, and text as numbers and times."""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from jaxdl.errors import InputError

DELIMITERS = (",", ";", "\t")
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-")  # in any case, among numbers

Rows = Iterator[tuple[int, list[str]]]


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[list[str], Rows]]:
    """The names of the columns, and ``(line, fields)`` of each row below them; blank lines are passed over.

    The file is UTF-8 (with or without a byte order mark). Columns are divided by whichever of comma, semicolon and tab
    divides the first line into the most fields; fields may stand in double quotes. Spaces around a field do not count.

    Raises:
      InputError: if there is no such file, or it is no such table: another encoding, no lines, columns without a name
        or with the same one, rows of another length than the first, quotes that are not closed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file '{path}'")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), None)
            if first is None:
                raise InputError(f"'{path}' is empty; expected a line of column names and a line per example")
            delimiter = max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d))))
            file.seek(0)
            rows = _rows(path, csv.reader(file, delimiter=delimiter, strict=True))
            _, names = next(rows, (0, [""]))
            _check_names(path, names)
            yield names, _checked(path, rows, len(names))
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{path}' is no UTF-8 text ({error.reason} at byte {error.start}); save the table as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(f"'{path}' cannot be read as a table ({error})") from error


def _rows(path: Path, reader: "csv.reader") -> Rows:
    try:
        for fields in reader:
            if any(field.strip() for field in fields) or len(fields) > 1:
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        raise InputError(f"'{path}' cannot be read as a table from line {reader.line_num} on ({error})") from error


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise InputError(
            f"column {names.index('') + 1} of '{path}' has no name; name it or remove it (pandas writes such a column "
            "unless told index=False)"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"'{path}' has two columns called '{twice}'; rename or remove one")


def _checked(path: Path, rows: Rows, number: int) -> Rows:
    for line, fields in rows:
        if len(fields) != number:
            raise InputError(f"line {line} of '{path}' has {len(fields)} fields; the first line names {number} columns")
        yield line, fields


def listed(names: Sequence[str]) -> str:
    """Names for a message; of many the first ones."""
    return ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")


def number(text: str) -> float | int | None:
    """The number that `text` is (NaN and infinity among them), or None. Whole ones stay exact."""
    if "_" in text:  # Python takes 1_000 for a number; a table that holds it means something else
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


def to_floats(texts: Sequence[str]) -> np.ndarray:
    """float64, NaN where a text is no number."""
    if "_" not in "".join(texts):
        try:
            return np.array([float(text) for text in texts], np.float64)
        except ValueError:
            pass
    return np.array([math.nan if number(text) is None else float(text) for text in texts], np.float64)


def what_is_wrong(text: str) -> str:
    """Why a cell of a column of numbers cannot be used."""
    if text.lower() in MISSING:
        return f"has no value ('{text}')" if text else "has no value"
    if number(text) is not None:
        return f"holds {text[:30]}, which is not finite as float32"
    return f"holds '{text[:30]}', which is no number"


def to_times(texts: Sequence[str]) -> np.ndarray | int:
    """float64 where all are numbers, else datetime64 of ISO dates; or the place of the first that is neither.

    Times that name their offset are brought to UTC; they cannot be mixed with ones that do not.
    """
    numbers = to_floats(texts)
    if np.isfinite(numbers).all():
        return numbers
    made: list[datetime] = []
    for i, text in enumerate(texts):
        try:
            made.append(datetime.fromisoformat(text))
            if (made[-1].tzinfo is None) != (made[0].tzinfo is None):
                return i
            if made[-1].tzinfo is not None:
                made[-1] = made[-1].astimezone(UTC)
        except (ValueError, OverflowError):
            return i
    return np.array([moment.replace(tzinfo=None) for moment in made], "datetime64[us]")
