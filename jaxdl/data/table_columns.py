"""The features of a table: numbers, and categories with their levels; and what is said of all columns."""

import math
import re
from datetime import datetime
from typing import Any

import numpy as np

from jaxdl.data.image_file import SUFFIXES
from jaxdl.data.preprocessing.columns import ColumnsPreprocessing
from jaxdl.data.source import levels_of
from jaxdl.data.table_fields import MISSING, Texts, to_number
from jaxdl.data.table_file import TableFile
from jaxdl.data.table_roles import Roles, as_texts, listed, quoted, ways
from jaxdl.data.table_source import Table
from jaxdl.errors import InputError
from jaxdl.shown import counted

FEW_LEVELS, MOST_LEVELS = 20, 1000  # always taken as categories; never, unless that is said
WORDS = 3  # on average, from which on the texts of a column are sentences
RARE = 5  # rows of a level up to which it is said that a training part may lack it
SHARE = 0.1  # of the rows, up to which that many levels are categories


def read_features(table: TableFile, roles: Roles, like: Any = None) -> tuple[np.ndarray, ColumnsPreprocessing | None]:
    """``x float32[n, features]`` with NaN for what is missing and codes for categories, and how these are prepared.

    Args:
      table: that was read.
      roles: of its columns.
      like: see `csv_table.csv`: its categories are categories here, too.

    Raises:
      InputError: for a column that is neither; see `_check_levels`.
    """
    x, levels = np.empty((len(table), len(roles.features)), np.float32), []
    worded = dict(zip(like.columns, levels_of(like), strict=False)) if like else {}
    for place, name in enumerate(roles.features):
        values = None if worded.get(name) else table.numbers(name)
        if values is None:
            texts = table.texts(name)
            if not worded.get(name):
                _check_levels(table, name, texts, declared=name in roles.declared and not like)
            order = sorted(range(len(texts.values)), key=texts.values.__getitem__)
            codes = np.full(len(order) + 1, math.nan, np.float32)
            codes[order] = np.arange(len(order))
            x[:, place] = codes[texts.codes]
            levels.append(tuple(texts.values[i] for i in order))
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
            x[:, place] = values
        if len(bad := np.flatnonzero(np.isinf(x[:, place]))):
            raise table.refusal(name, bad[0], f"correct it, or leave the column out: --drop {quoted(name)}")
        levels.append(())
    for place, name in enumerate(roles.features):
        if np.isnan(x[:, place]).all() and not like:
            raise InputError(f"the column '{name}' of '{table.path}' has no value at all; --drop {quoted(name)}")
    gaps = np.isnan(x).any(axis=0)
    if not gaps.any() and not any(levels):
        return x, None
    return x, ColumnsPreprocessing(roles.features, tuple(levels), tuple(map(bool, gaps)))


def _check_levels(table: TableFile, name: str, texts: Texts, *, declared: bool) -> None:
    """Raises InputError for a column of texts that are probably no categories, unless they are declared a feature."""
    if declared:
        return
    rows, values = len(texts.codes), texts.values
    word = quoted(name)
    leave = f"--drop {word} leaves the column out (from Python drop=[{name!r}])"
    take = f"--feature {word} takes its texts for categories (feature=[{name!r}])"
    words = [v for v in values if math.isnan(to_number(v, table.comma)) and v.lower() not in MISSING]
    if len(words) < len(values):
        row = texts.first(words)
        raise table.refusal(name, row, f"correct or remove it; {take}, {leave}", "and numbers elsewhere")
    if odd := [v for v in values if not math.isnan(to_number(re.sub(r"[\s_'%$€£,\0]", "", v)))]:
        remedy = f"write numbers as 1234.5; {take}, {leave}"
        raise table.refusal(name, texts.first(odd), remedy, "which is no number")
    if all(map(_is_date, values)):
        raise InputError(
            f"the column '{name}' of '{table.path}' holds dates, such as '{values[0][:30]}'. Say what it is for: "
            f"{ways(name)}"
        )
    most = min(max(FEW_LEVELS, SHARE * rows), MOST_LEVELS)
    if len(values) <= most and (len(values) < len(texts.codes) - len(texts.missing) or len(values) == 1):
        return
    what = f"{len(values)} different texts in {rows} rows, such as '{values[0][:30]}' {table.place_of(0)}"
    for suffix in SUFFIXES:
        if (table.path.parent / f"{values[0][:200]}{suffix}").is_file():
            raise InputError(
                f"the column '{name}' of '{table.path}' names images without their suffix: there is "
                f"'{values[0]}{suffix}' beside the table. Write the whole names in a column called file"
            )
    said = f"the column '{name}' of '{table.path}' holds {what}: too many to be categories. "
    if sum(len(value.split()) for value in values) >= WORDS * len(values):
        said += f"{as_texts(name)}; "
    raise InputError(f"{said}{leave}; {take}; --group {word} keeps rows of the same text together (group={name!r})")


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def notes_of(roles: Roles, source: Table | None = None) -> tuple[str, ...]:
    """What each column was taken for, in one line; `source` is the table that was made, None of images or texts."""
    said = [f"target {listed(roles.targets, 5)}" if roles.targets else "no target"]
    if roles.file:
        said.append(f"images {roles.file}")
    if roles.texts:
        said.append(f"{'pairs of texts' if roles.texts[1:] else 'texts'} {listed(roles.texts)}")
    if source is not None:
        both = list(zip(source.columns, source.levels, strict=True))
        if numbers := [name for name, levels in both if not levels]:
            said.append(f"{counted(len(numbers), 'number')} {listed(numbers, 5)}")
        if texts := [f"{name} ({len(levels)})" for name, levels in both if levels]:
            said.append(f"{counted(len(texts), 'category', 'categories')} {listed(texts, 5)}")
        gaps = np.isnan(source.x).sum(0)
        if gaps.any():
            missing = [f"{name} ({count})" for name, count in zip(source.columns, gaps, strict=True) if count]
            said.append(f"{counted(gaps.sum(), 'missing value')} filled in, {listed(missing, 5)}")
    if roles.text:
        said.append(f"texts {roles.text}, among which copies are looked for (--text-column would learn from them)")
    roles_of_one = {"groups": roles.group, "times": roles.time, "weights": roles.weight}
    said += [f"{what} {name}" for what, name in roles_of_one.items() if name]
    unused = {"dropped": roles.dropped, "left out as row numbers": roles.index, "not used": roles.ignored}
    said += [f"{what} {listed(names, 5)}" for what, names in unused.items() if names]
    return (f"columns: {'; '.join(said)}", *_rare_levels(source))


def _rare_levels(source: Table | None) -> tuple[str, ...]:
    """The levels that some training parts will lack."""
    found = []
    for place, (name, levels) in enumerate(zip(source.columns, source.levels, strict=True) if source else ()):
        codes = source.x[:, place]
        counts = np.bincount(codes[codes >= 0].astype(np.int64), minlength=len(levels)) if levels else ()
        found += [f"{name} {level}" for level, count in zip(levels, counts, strict=True) if 0 < count < RARE]
    if not found:
        return ()
    rare = f"{counted(len(found), 'level')} in fewer than {RARE} rows"
    return (f"{rare}, which set no input in a fold that does not train on them: {listed(found, 5)}",)
