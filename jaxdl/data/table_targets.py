"""What the target columns of a table say: classes, labels or numbers; when each row was taken, and what it counts."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from jaxdl.data.source import check_weights
from jaxdl.data.table import ALONE, MOST_CLASSES, SEVERAL, few_enough, to_labels
from jaxdl.data.table_fields import MISSING
from jaxdl.data.table_file import TableFile
from jaxdl.data.table_roles import listed
from jaxdl.errors import InputError


def read_labels(table: TableFile, targets: Sequence[str], task: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    path = table.path
    if not targets:
        return None, ()
    if task == "multitarget" or (task == "auto" and len(targets) > 1 and _are_numbers(table, targets)):
        columns = [_of_numbers(table, name) for name in targets]
        return to_labels(np.stack(columns, axis=1), targets, "multitarget", str(path))
    if len(targets) > 1 and task not in ("auto", "multilabel"):
        raise InputError(
            f"the target of '{path}' is {len(targets)} columns ({listed(targets)}), but the task is {task}; name one "
            f"column ({path}:{targets[0]}), or take the task multilabel for labels of 0 and 1, multitarget for numbers"
        )
    if len(targets) > 1 or task == "multilabel":
        remedy = f"give every label a column of 0 and 1, as in {path}:A,B, or {ALONE}"
        if len(targets) > 1:
            alone = f"name one column alone to learn its classes or numbers ({path}:{targets[0]})"
            remedy = f"{SEVERAL}; {alone}{', and leave out the task multilabel' if task == 'multilabel' else ''}"
        columns = [_zeros_and_ones(table, name, remedy) for name in targets]
        return to_labels(np.stack(columns, axis=1), targets, "multilabel", str(path))
    (name,) = targets
    amounts = None if task == "classification" else table.amounts(name)
    if amounts is not None and (np.abs(amounts) <= np.finfo(np.float32).max).all():
        many = task == "auto" and not few_enough(len(np.unique(amounts)), len(amounts))
        if task == "regression" or many:  # fields that differ as numbers differ as texts, too
            return to_labels(amounts, None, "regression", str(path))
    texts = table.filled(name)
    numbers = table.as_numbers(texts.values)
    if task != "regression" and {text.lower() for text in texts.values} <= {"true", "false"}:
        numbers = np.full(len(numbers), np.nan)  # classes called so
    words = np.isnan(numbers)
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    if task == "auto" and not words.any():
        task = "classification" if whole.all() and few_enough(len(numbers), len(texts.codes)) else "regression"
    mixed = words.any() and not words.all()
    gaps = mixed and all(texts.values[place].lower() in MISSING for place in np.flatnonzero(words))
    fractions = mixed and not (whole | words).all()
    if gaps or (task == "regression" and words.any()) or (task == "auto" and fractions):
        remedy = "leave out the task regression to learn classes"
        if mixed:
            remedy = "the target is a number elsewhere; correct that field or remove the row"
        first = texts.first([texts.values[place] for place in np.flatnonzero(words)])
        raise table.refusal(name, first, remedy, "which is no number")
    if task == "regression":
        too_large = ~(np.abs(numbers) <= np.finfo(np.float32).max)
        if too_large.any():
            first = texts.first([texts.values[place] for place in np.flatnonzero(too_large)])
            raise table.refusal(name, first, "correct or remove that row")
        return to_labels(numbers[texts.codes], None, task, str(path))
    count, rows = len(texts.values), len(texts.codes)
    if task == "auto" and count > MOST_CLASSES and 2 * count > rows:
        raise InputError(
            f"the target '{name}' of '{path}' holds {count} different texts in {rows} rows, such as "
            f"'{texts.values[0][:30]}': hardly any class occurs twice. Numbers have to be written as 1.45 (or 1,45 "
            "between semicolons or tabs); to learn these classes anyway, name --task classification"
        )
    order = sorted(range(count), key=lambda i: texts.values[i] if words.any() else (numbers[i], texts.values[i]))
    codes = np.empty(count, np.int64)
    codes[order] = np.arange(count)
    names = [texts.values[i] for i in order]
    return to_labels(codes[texts.codes], names, "classification", str(path))


def _are_numbers(table: TableFile, names: Sequence[str]) -> bool:
    """Whether all fields of these columns are numbers, and not all of them whole."""
    held = [table.amounts(name) for name in names]
    return all(one is not None for one in held) and any((one != np.round(one)).any() for one in held)


def _of_numbers(table: TableFile, name: str) -> np.ndarray:
    """``float64[n]`` of a column of numbers to predict."""
    if (amounts := table.amounts(name)) is not None:
        return amounts
    texts = table.filled(name)
    numbers = table.as_numbers(texts.values)
    if len(wrong := np.flatnonzero(~np.isfinite(numbers))):
        first = texts.first([texts.values[place] for place in wrong])
        raise table.refusal(name, first, f"correct or remove it, or name other columns ({table.path}:A,B)", "no number")
    return numbers[texts.codes]


def _zeros_and_ones(table: TableFile, name: str, remedy: str) -> np.ndarray:
    """``uint8[n]`` of a column of a multi-label target."""
    texts = table.filled(name)
    numbers = table.as_numbers(texts.values)
    logical = {"true": 1.0, "false": 0.0}
    values = [logical.get(text.lower(), one) for text, one in zip(texts.values, numbers, strict=True)]
    wrong = [text for text, value in zip(texts.values, values, strict=True) if value not in (0, 1)]
    if wrong:
        raise table.refusal(name, texts.first(wrong), remedy, "not 0, 1, true or false")
    return np.array(values, np.uint8)[texts.codes]


def read_times(table: TableFile, name: str) -> np.ndarray:
    """float64 where all are numbers, else datetime64; times with an offset are brought to UTC."""
    texts = table.filled(name)
    numbers = table.as_numbers(texts.values)
    if np.isfinite(numbers).all():
        return numbers[texts.codes]
    made: list[datetime] = []
    for text in texts.values:
        try:
            moment = datetime.fromisoformat(text)
            made.append(moment if moment.tzinfo is None else moment.astimezone(UTC))
            if made[-1].tzinfo != made[0].tzinfo:
                raise ValueError("some have an offset, some have none")
        except (ValueError, OverflowError) as error:
            remedy = "expected numbers only, or ISO dates only, such as 2024-05-31T09:30, all with an offset or none"
            raise table.refusal(name, texts.first([text]), remedy, "which is no such time") from error
    return np.array([moment.replace(tzinfo=None) for moment in made], "datetime64[us]")[texts.codes]


def read_weights(table: TableFile, name: str) -> np.ndarray:
    """``float64[n]`` of 0 or more. Raises InputError, naming the row, for what is no such number."""
    texts = table.filled(name)
    values = table.as_numbers(texts.values)[texts.codes]
    if len(bad := np.flatnonzero(~(np.isfinite(values) & (values >= 0)))):
        raise table.refusal(name, bad[0], "correct or remove that row", "which is no number of 0 or more")
    return check_weights(values, len(values), f"the column '{name}' of '{table.path}'")
