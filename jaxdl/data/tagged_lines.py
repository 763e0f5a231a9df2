"""JSON in lines, each a sentence: a list of words, and a list of their tags."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.image_file import printable
from jaxdl.data.table_file import JSON_LINES
from jaxdl.data.table_roles import TableOptions
from jaxdl.data.tagged import Tagged, make_tagged
from jaxdl.data.text_file import JsonLines, opened, read_json_lines
from jaxdl.errors import InputError, check_choice

WORDS, TAGS = ("tokens", "words"), ("tags", "ner_tags", "pos_tags", "labels")  # fields that are taken by their names
TAKEN = {"target", "group", "text_column"}  # of the options of a table


def tagged_lines(
    path: str | Path,
    words: str | None = None,
    tags: str | None = None,
    *,
    group: str | None = None,
    class_names: Sequence[str] | None = None,
    labelled: bool = True,
) -> Tagged:
    """Sentences of a file with an object of JSON in each line: ``{"tokens": ["EU", "said"], "tags": ["B-ORG", "O"]}``.

    Args:
      path: the file, ``.jsonl`` or ``.jsonl.gz``.
      words: field of the words; by default ``tokens`` or ``words``.
      tags: field of the tags, strings, or numbers that are names; by default ``tags``, ``ner_tags``, ``pos_tags`` or
        ``labels``.
      group: field of what belongs together, such as the document; by default one called ``group``.
      class_names: as of `tagged`; where tags are whole numbers the names of 0, 1, 2, …
      labelled: if False, a file without tags is taken without.

    Raises:
      InputError: naming file and line: as `tagged`, for a line that is no JSON, and a field that is not there.
    """
    path, shown = Path(path), printable(path)
    held = read_json_lines(path)
    words = _field(shown, "words", words, WORDS, held)
    if tags is None and not labelled and not set(TAGS) & set(held.names):
        given = None
    else:
        tags = _field(shown, "tags", tags, TAGS, held)
        given = [_list(row.get(tags), shown, line, tags) for row, line in zip(held.rows, held.lines, strict=True)]
        numbered = {str(number): name for number, name in enumerate(() if class_names is None else class_names)}
        given = [[numbered.get(tag, tag) for tag in row] for row in given]
    places = [f"'{shown}', line {line}" for line in held.lines]
    sentences = [_list(row.get(words), shown, line, words) for row, line in zip(held.rows, held.lines, strict=True)]
    source = make_tagged(sentences, given, places, class_names)
    notes = [f"words are the field {words}" + ("" if given is None else f", tags the field {tags}")]
    groups = None
    group = "group" if group is None and "group" in held.names else group
    if group is not None:
        check_choice(f"field of '{shown}'", group, held.names)
        groups = np.array([row.get(group, "") for row in held.rows])
        notes.append(f"groups are the field {group}")
    names = [f"{shown}:{line}" for line in held.lines]
    return dataclasses.replace(source, groups=groups, names=names, name=shown, notes=tuple(notes))


def load_tagged(path: str, options: TableOptions, labelled: bool) -> Tagged | None:
    """The sentences of a file of JSON in lines, if its first object holds a list of words; else None.

    Raises:
      InputError: as `tagged_lines`, and for options of tables that say nothing here.
    """
    if not path.lower().endswith(JSON_LINES) or not _holds_words(Path(path), options.text_column):
        return None
    if unused := [name for name in options.plain() if name not in TAKEN]:
        raise InputError(
            f"'{printable(path)}' holds sentences of words, for which {unused[0]} says nothing; leave it out"
        )
    words, tags = (one[0] if one else None for one in (options.text_column, options.target or ()))
    return tagged_lines(path, words, tags, group=options.group, labelled=labelled)


def _holds_words(path: Path, asked: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    with opened(path) as file:
        first = next((line for line in file if line.strip()), "")
    try:
        held = json.loads(first)
    except (ValueError, RecursionError):
        return False  # who reads it says so
    fields = asked if len(asked) == 1 else () if asked else WORDS
    return isinstance(held, dict) and any(_are_strings(held.get(field)) for field in fields)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _field(shown: str, what: str, asked: str | None, usual: Sequence[str], held: JsonLines) -> str:
    """Raises InputError where there is no such field."""
    if asked is not None:
        check_choice(f"field of '{shown}'", asked, held.names)
        return asked
    found = next((name for name in usual if name in held.names), None)
    if found is None:
        raise InputError(
            f"'{shown}' has no field of {what}, such as {' or '.join(usual)}; it has: {', '.join(held.names)}. Name it"
        )
    return found


def _list(field: str | None, shown: str, line: int, name: str) -> list[str]:
    """A field as `read_json_lines` holds it. Raises InputError for what is no list of strings or numbers."""
    try:
        made = json.loads(field or "")
    except ValueError:
        made = None
    if not _are_strings(made):
        raise InputError(
            f"'{shown}', line {line}: the field {name} is {(field or 'missing')[:50]}; expected a list of strings"
        )
    return made
