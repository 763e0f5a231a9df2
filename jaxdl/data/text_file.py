"""Files of text in UTF-8, also compressed by gzip, and JSON in lines."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxdl.data.image_file import printable
from jaxdl.errors import InputError

PACKED = ".gz"


def _open(path: Path, **options: Any) -> Any:
    return gzip.open(path, **options) if path.suffix.lower() == PACKED else path.open(**options)


@contextmanager
def opened(path: Path, newline: str | None = None, advice: str = "save it in UTF-8") -> Iterator[IO[str]]:
    """The file at `path`, without the byte order mark that it may begin with.

    Args:
      path: of the file; one that ends in ``.gz`` is unpacked.
      newline: as of Python's `open`.
      advice: what to do about a file in another encoding.

    Raises:
      InputError: while it is read, naming the line of what is not UTF-8; for a file that cannot be read or unpacked.
    """
    shown = printable(path)
    try:
        try:
            with _open(path, mode="rt", encoding="utf-8-sig", newline=newline) as file:
                yield file
        except UnicodeDecodeError as error:
            place, line = _where(path, error)  # which may find that the file is damaged further on
            raise InputError(
                f"'{shown}' is no UTF-8 text ({place.reason} at byte {place.start}, on line {line}); {advice}"
            ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"'{shown}' cannot be unpacked ({error}); is it a whole file of gzip?") from error
    except OSError as error:
        raise InputError(f"'{shown}' cannot be read ({error.strerror or error})") from error


def _where(path: Path, error: UnicodeDecodeError) -> tuple[UnicodeDecodeError, int]:
    """The same error with its place in the file, and the line: Python counts from the last block that was read."""
    with _open(path, mode="rb") as file:
        content = file.read()
    try:
        content.decode()
    except UnicodeDecodeError as whole:
        return whole, content.count(b"\n", 0, whole.start) + 1
    return error, 1


def half_character(text: str) -> str | None:
    """The first place of a text that holds half of a character (a surrogate), which cannot be written; else None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


class JsonLines(NamedTuple):
    """What a file of JSON in lines holds.

    Attributes:
      names: of all fields, in the order in which they occur.
      rows: the fields of each object as text: numbers as they are written, ``true`` and ``false``, lists and objects as
        JSON, nothing for ``null``.
      lines: on which line each object stands, from 1.
      nested: by field the first row in which it is a list or an object.
    """

    names: list[str]
    rows: list[dict[str, str]]
    lines: Sequence[int]
    nested: dict[str, int]


def read_json_lines(path: Path) -> JsonLines:
    """The objects of a file, one in each line; blank lines are ignored.

    Raises:
      InputError: naming the line that is no JSON, or no object; for a file without any.
    """
    made = JsonLines([], [], [], {})
    names: dict[str, None] = {}
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            held = _parsed(path, number, line)
            row = {}
            for name, value in held.items():
                if isinstance(value, dict | list):
                    made.nested.setdefault(name, len(made.rows))
                row[name] = _as_field(value)
            names.update(dict.fromkeys(row))
            made.rows.append(row)
            made.lines.append(number)
    if not made.rows:
        raise InputError(f"'{path}' is empty; expected an object of JSON in each line")
    return made._replace(names=list(names))


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    expected = 'expected an object in each line, such as {"text": "a good film", "label": "good"}'
    try:
        held = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        where = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise InputError(f"line {number} of '{path}' is no JSON ({where}); {expected}") from error
    except RecursionError as error:
        raise InputError(f"line {number} of '{path}' is nested too deeply; {expected}") from error
    if not isinstance(held, dict):
        raise InputError(f"line {number} of '{path}' holds {line.strip()[:30]!r}; {expected}")
    return held


def _as_field(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
