"""The fields of a table: which are missing, which are numbers, and a column of texts."""

import math
import re
from collections.abc import Collection
from typing import Any

import numpy as np

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-")  # in any case, among numbers
EMPTY = ("", "na", "n/a", "#n/a", "nan", "null", "?")  # in any case, among texts; the others may be words
DECIMAL_COMMA = re.compile(r"[-+]?(\d+,\d*|,\d+)(e[-+]?\d+)?", re.IGNORECASE)


class Texts:
    """A column of texts.

    Attributes:
      values: the different ones, in the order in which they occur.
      codes: ``int64[n]``, the place of each row's text in `values`; -1 where there is none.
    """

    def __init__(self, values: list[str], codes: np.ndarray):
        self.values, self.codes = values, codes

    def first(self, wanted: Collection[str]) -> int:
        """The first row that holds one of these texts."""
        places = [i for i, text in enumerate(self.values) if text in wanted]
        return int(np.argmax(np.isin(self.codes, places)))

    @property
    def missing(self) -> np.ndarray:
        """Rows that have none."""
        return np.flatnonzero(self.codes < 0)

    def all(self) -> np.ndarray:
        """The text of every row."""
        return np.array([*self.values, ""])[self.codes]


def to_number(text: str, comma: bool = False) -> float:
    """NaN if it is no number; with `comma` a comma stands before the decimals."""
    if "_" in text:  # float("1_000") is 1000
        return math.nan
    if comma and DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return math.nan


def as_text(value: Any) -> str:
    """What stands in a field; whole numbers of a Parquet file without a decimal point, missing values empty."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN and NaT
        return ""
    return str(value)
