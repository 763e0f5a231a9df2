"""Columns of texts: which of them a network was trained on, what they hold, and which texts belong together."""

import dataclasses
from typing import Any

import numpy as np

from jaxdl.data.column_names import IDENTITIES, named
from jaxdl.data.preprocessing.tokenizer import Text
from jaxdl.data.table_file import TableFile
from jaxdl.data.table_roles import Roles, TableOptions, listed, quoted
from jaxdl.data.text_file import half_character
from jaxdl.errors import InputError


def options_like(table: TableFile, options: TableOptions, like: Any) -> TableOptions:
    """The options for the columns of texts, and the targets, that `like` has; one called text if it names none.

    What else the options name is left out where the table has no such column.

    Raises:
      InputError: if the table has none of that.
    """
    learned = options.text_column or tuple(like.columns or ("text",))
    if not options.text_column and (missing := [name for name in learned if name not in table.names]):
        raise InputError(
            f"'{table.path}' has no column '{missing[0]}', from which the network reads its texts; say which has them: "
            f"--text-column COLUMN (from Python text_column=…). It has: {listed(table.names)}"
        )
    target = options.target
    if target is None and set(of_before := like.target or ()) <= set(table.names) - set(learned):
        target = of_before or None
    others = {role: getattr(options, role) for role in ("group", "time", "weight")}
    kept = {role: name if name in table.names else None for role, name in others.items()}
    return dataclasses.replace(options, text_column=learned, target=target, text=None, drop=(), feature=(), **kept)


def read_texts(table: TableFile, roles: Roles, *, labelled: bool) -> list[Text]:
    """The text of each row, or two; if they are `labelled`, to be learned from, an empty one is refused by its line."""
    columns = [table.written(name) for name in roles.texts]
    for name, texts in zip(roles.texts, columns, strict=True):
        for row, text in enumerate(texts):
            if labelled and not text:
                said = f"the column '{name}' of '{table.path}' has no text {table.place_of(row)}"
                raise InputError(f"{said}; write one or remove the row: there is nothing to learn from")
            if half_character(text):
                said = f"the column '{name}' of '{table.path}' holds half of a character {table.place_of(row)}"
                raise InputError(f"{said}: it was cut, or written in a wrong encoding; correct it or remove the row")
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def documents(table: TableFile, roles: Roles) -> list[str]:
    """What is said of columns that look as if they told which texts are of one document, and are not used."""
    found = []
    for name in roles.ignored:
        texts = table.texts(name) if named(name, IDENTITIES) else None
        different = 0 if texts is None else len(np.unique(texts.codes[texts.codes >= 0]))
        if texts is not None and 2 <= different < len(texts.codes) - len(texts.missing):
            word = quoted(name)
            found.append(
                f"'{name}' is called like an identity and has {different:,} values in {len(texts.codes):,} rows: texts "
                f"of one document or author are alike, and a score is too good where they stand on both sides of a "
                f"split. --group {word} keeps them together (from Python group={name!r}); --drop {word} says that the "
                "rows are independent"
            )
    return found
