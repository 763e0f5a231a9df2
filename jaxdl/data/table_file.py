"""The file of a table: what separates its columns, what they are called, and their fields as pandas reads them."""

import csv as standard
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from jaxdl.data.table_fields import DECIMAL_COMMA, EMPTY, MISSING, Texts, as_text, to_number
from jaxdl.data.text_file import opened, read_json_lines
from jaxdl.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PARQUET, JSON_LINES = ".parquet", (".jsonl", ".jsonl.gz")
SUFFIXES = (".csv", ".tsv", ".data", ".txt", PARQUET, ".csv.gz", ".tsv.gz", *JSON_LINES)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
SAMPLE = 30  # lines from which a file's form is guessed


class TableFile:
    """A table's columns, read once.

    Attributes:
      path: of the file.
      separator: of its columns; None in a file that has none, such as Parquet or JSON in lines.
      header: whether its first line holds their names.
      names: of the columns, in order.
      first: the fields of the first row, as text.
    """

    def __init__(self, path: str | Path, header: bool | None = None):
        """Reads the beginning of the file; `header` says whether its first line holds names, None to see."""
        self.path = Path(path)
        self.separator: str | None = None
        self.comma = False
        self.header = False
        self._lines_of_rows: Sequence[int] | None = None  # where there is no separator
        self._nested: Mapping[str, int] = {}
        if not self.path.is_file():
            raise InputError(f"there is no file '{self.path}'")
        if self.path.suffix.lower() == PARQUET:
            self._frame = read_parquet(self.path)
            self.names = [str(name) for name in self._frame.columns]
            self._frame.columns = range(len(self.names))
            self.first = [str(value) for value in self._frame.iloc[0]] if len(self._frame) else None
        elif self.path.name.lower().endswith(JSON_LINES):
            self._read_json_lines()
        else:
            self.separator = self._find_separator()
            start = [fields for _, fields in islice(self._lines(), SAMPLE)]
            self.header = _has_names(self.path, start) if header is None else header
            self.names = self._name_columns(start[0])
            body = start[1:] if self.header else start
            self.first = next(self._rows(), (0, None))[1]
            self.comma = self.separator in ";\t" and any(DECIMAL_COMMA.fullmatch(f) for row in body for f in row)
        _check_names(self.path, self.names)
        if self.first is None:
            raise InputError(f"'{self.path}' has column names but no rows; expected a line per example")
        self._worded: frozenset[str] = frozenset()

    def _read_json_lines(self) -> None:
        import pandas as pd

        self.names, rows, self._lines_of_rows, self._nested = read_json_lines(self.path)
        columns = {i: [row.get(name, "") for row in rows] for i, name in enumerate(self.names)}
        self._frame = pd.DataFrame(columns, dtype=object)
        self.first = [rows[0].get(name, "") for name in self.names]

    # Lines, slowly: the first ones, and to find the line of a row

    @contextmanager
    def _opened(self) -> Iterator[IO[str]]:
        with opened(self.path, newline="", advice="save the table in UTF-8") as file:
            if file.read(2) != "# ":  # before the names, as numpy.savetxt writes them
                file.seek(0)
            yield file

    def _find_separator(self) -> str:
        """That by which the first lines have equally many fields, the most; else that of most fields in the first."""
        with self._opened() as file:
            lines = list(islice(file, 10 * SAMPLE))
        if not any(map(str.strip, lines)):
            raise InputError(f"'{self.path}' is empty; expected a line of column names and a line per example")
        counts = {
            separator: [len(row) for _, row in islice(_parse(iter(lines), separator, strict=False), SAMPLE)]
            for separator in SEPARATORS
        }
        even = [s for s, found in counts.items() if found and found[0] > 1 and len(set(found)) == 1]
        marks = [separator for separator in even if separator != " "]  # a space may be part of a name
        return max(marks or even or ",;\t|", key=lambda separator: counts[separator][:1])

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """``(line, fields)`` of every line that is not blank, as pandas counts them."""
        with self._opened() as file:
            reader = _parse(file, self.separator)
            line = 0
            try:
                for line, fields in reader:
                    yield line, fields
            except standard.Error as error:
                raise InputError(
                    f"'{self.path}' cannot be read as a table from line {line + 1} on ({error})"
                ) from error

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """``(line, fields)`` of each row. Raises InputError for one that is longer or shorter than the first line."""
        for line, fields in islice(self._lines(), int(self.header), None):
            if len(fields) != len(self.names):
                what = "the first line names" if self.header else "the first line has"
                raise InputError(
                    f"line {line} of '{self.path}' has {len(fields)} fields; {what} {len(self.names)} columns"
                )
            yield line, fields

    def _name_columns(self, fields: list[str]) -> list[str]:
        if not self.header:
            return [str(place) for place in range(1, len(fields) + 1)]
        return ["Unnamed: 0", *fields[1:]] if fields[0] == "" and len(fields) > 1 else fields

    # Columns

    def written(self, name: str) -> list[str]:
        """The fields of a column that is read as text, without spaces around them; empty where there is nothing."""
        if name in self._nested:
            self.texts(name)  # which refuses it
        return [as_text(value) for value in self._frame[self.names.index(name)]]

    def read(self, as_text: Collection[str], only: Collection[str] | None = None) -> None:
        """Reads all columns, or `only` some; those of `as_text` as they are written, not as numbers."""
        places, self._worded = [self.names.index(name) for name in as_text], frozenset(as_text)
        if self.separator is None:
            self._frame = self._frame.astype(dict.fromkeys(places, object))
            return
        import pandas as pd

        empty = [*{form(mark) for mark in EMPTY for form in (str, str.upper, str.title)}, "NaN", "#N/A", "n/A", "N/a"]
        others = [place for place in range(len(self.names)) if place not in places]
        with self._opened() as file:
            try:
                self._frame = pd.read_csv(
                    file,
                    sep=r"\s+" if self.separator == " " else self.separator,
                    header=0 if self.header else None,
                    names=range(len(self.names)),
                    index_col=False,
                    usecols=None if only is None else [self.names.index(name) for name in only],
                    dtype=dict.fromkeys(places, object),
                    na_values=dict.fromkeys(others, empty),
                    keep_default_na=False,
                    decimal="," if self.comma else ".",
                    low_memory=False,  # one type for a column
                )
            except pd.errors.ParserError as error:
                for _ in self._rows():  # finds the line, and refuses it
                    continue
                raise InputError(f"'{self.path}' cannot be read as a table ({error})") from error
        if (
            only is None and self._frame[len(self.names) - 1].isin(["", np.nan]).any()
        ):  # pandas fills a line that is too short
            for _ in self._rows():
                continue

    def __len__(self) -> int:
        return len(self._frame)

    def numbers(self, name: str) -> np.ndarray | None:
        """``float64[n]`` with NaN where a field is missing; None if the column holds anything but numbers.

        ``True`` and ``False`` are 1 and 0.
        """
        column = self._frame[self.names.index(name)]
        if column.dtype.kind in "iufb":
            return column.to_numpy(np.float64)
        if column.dtype.kind in "mM":
            return None
        texts = self.texts(name)
        if not texts.values:
            return np.full(len(self), np.nan)
        values = self.as_numbers(texts.values)
        known = np.array([value.lower() not in MISSING for value in texts.values], bool)
        if np.isnan(values[known]).any() or not known.any():
            return None
        return np.append(values, np.nan)[texts.codes]

    def amounts(self, name: str) -> np.ndarray | None:
        """``float64[n]`` of a column that is read as text, at once; None unless each field is a finite number."""
        import pandas as pd

        column = self._frame[self.names.index(name)]
        if self.comma and column.dtype == object:
            column = column.str.replace(",", ".", regex=False)
        found = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        return found if np.isfinite(found).all() else None

    def as_numbers(self, texts: Sequence[str]) -> np.ndarray:
        """``float64`` of each text, NaN of what is no number; commas are decimal where commas do not separate."""
        logical = {"true": 1.0, "false": 0.0}
        if {text.lower() for text in texts if text.lower() not in MISSING} <= logical.keys():
            return np.array([logical.get(text.lower(), math.nan) for text in texts])
        comma = self.separator is not None and self.separator in ";\t"
        return np.array([to_number(text, comma) for text in texts])

    def texts(self, name: str) -> "Texts":
        """The fields of a column as text, without spaces around them."""
        import pandas as pd

        if name in self._nested:
            raise self.refusal(name, self._nested[name], f"leave it out: --drop {name}", "which is a list or an object")
        if name not in self._known:
            codes, values = pd.factorize(self._frame[self.names.index(name)])
            values = [as_text(value) for value in values]
            empty = ("", "nan") if name in self._worded else EMPTY  # NA may be the name of a class
            unique = [text for text in dict.fromkeys(values) if text.lower() not in empty]
            place = dict.fromkeys(values, -1) | {text: i for i, text in enumerate(unique)}
            codes = np.append(np.array([place[text] for text in values], np.int64), -1)[codes]
            self._known[name] = Texts(unique, codes)
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, "Texts"]:
        return {}

    def filled(self, name: str) -> "Texts":
        """As `texts`. Raises InputError, naming the row, where one is missing."""
        texts = self.texts(name)
        if len(texts.missing):
            raise self.refusal(name, texts.missing[0], "fill it or remove the row")
        return texts

    def place_of(self, row: int) -> str:
        """Where row `row`, from 0, stands, in words."""
        if self._lines_of_rows is not None:
            return f"on line {self._lines_of_rows[int(row)]}"
        return f"in row {int(row) + 1}" if self.separator is None else f"on line {self._row(row)[0]}"

    def _row(self, row: int) -> tuple[int, list[str]]:
        found = next(islice(self._rows(), int(row), None), None)
        if found is None:
            raise InputError(f"'{self.path}' cannot be read as a table: a line holds nothing but quoted spaces")
        return found

    def field(self, name: str, row: int) -> str:
        """As it is written."""
        place = self.names.index(name)
        return as_text(self._frame[place][int(row)]) if self.separator is None else self._row(row)[1][place]

    def refusal(
        self, name: str, row: int, remedy: str, problem: str = "which is no finite number (as float32)"
    ) -> InputError:
        """The error for the field of column `name` in row `row`, from 0."""
        text = self.field(name, row)
        if text.lower() in MISSING:
            problem = f"has no value ('{text}')" if text else "has no value"
        else:
            problem = f"holds '{text[:30]}', {problem}"
        return InputError(f"the column '{name}' of '{self.path}' {problem}, {self.place_of(row)}; {remedy}")


def read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise InputError(
            f"reading '{path}' takes a package that is not installed: pip install pyarrow, or save the table as .csv"
        ) from error
    except Exception as error:  # its readers say in many ways that a file is damaged
        raise InputError(f"'{path}' cannot be read as Parquet ({str(error)[:200]}); is it whole?") from error


def _parse(lines: Iterator[str], separator: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """``(line, fields)`` of every line that is not blank; fields without spaces around them."""
    spaced = separator == " "
    source = (line.replace("\t", " ").strip(" ") for line in lines) if spaced else lines
    reader = standard.reader(source, delimiter=separator, strict=strict, skipinitialspace=spaced)
    for fields in reader:
        if not fields or (len(fields) == 1 and fields[0] and not fields[0].strip(" \t")):
            continue  # what pandas takes for a blank line, so that both count the same rows
        yield reader.line_num, [field.strip() for field in fields]


def _has_names(path: Path, start: list[list[str]]) -> bool:
    """Whether the first line names the columns. Raises InputError where it looks like an example."""
    first, body = start[0], start[1:]
    numbers = [not math.isnan(to_number(field, True)) for field in first]
    places = [str(i) for i in range(len(first))]
    if not any(numbers) or not body or len(body[0]) != len(first):
        return True
    counted = [field for field, number in zip(first, numbers, strict=True) if number]
    if counted in ([*places[: len(counted)]], [*places[1:], str(len(first))][: len(counted)]):
        return True  # numbered columns
    if numbers != [not math.isnan(to_number(field, True)) for field in body[0]]:
        return True
    raise InputError(
        f"the first line of '{path}' looks like an example ({', '.join(first)[:60]}), not like names of columns. Add a "
        "line of names above it, or say --header no (from Python header=False) to call the columns 1, 2, …; if these "
        "are names, say --header yes (header=True)"
    )


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise InputError(
            f"column {names.index('') + 1} of '{path}' has no name; name it or remove it (pandas writes such a column "
            "unless index=False is set)"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"'{path}' has two columns called '{twice}'; rename or remove one")
