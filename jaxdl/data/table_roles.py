"""What each column of a table is for: feature, target, group, time, file, text, or nothing."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.checks import check_fields
from jaxdl.data.image_file import SUFFIXES
from jaxdl.data.options import Options
from jaxdl.data.table_fields import to_number
from jaxdl.data.table_file import TableFile
from jaxdl.errors import InputError, nearest

TARGETS = ("target", "label", "class", "y")
FILES = ("file", "filename", "path", "image")
PARTS = ("split", "fold", "folds")  # columns that say how the rows are divided
ROW_NUMBERS = ("unnamed: 0", "index", "row", "row_number", "rownumber", "row_id", "rowid", "id")
NAME, SENTENCE = 40, 4  # characters of a name that a message shows; words from which on it is none
FEWEST = 10  # rows from which numbers in order are the numbers of the rows, whatever their column is called


@dataclasses.dataclass(frozen=True)
class TableOptions(Options):
    """What the columns of a table are for, as far as it is said.

    Attributes:
      target: column to learn, or several: the labels of a multi-label task.
      group: column of what belongs together.
      time: column of numbers or ISO dates.
      drop: columns that are left out.
      feature: columns to learn from, whatever they look like.
      text: column of what the numbers were computed from.
      header: whether the first line holds the names of the columns; None to see.
      weight: column of how much each row counts in training; see `source.with_weights`.
      text_column: column of texts to learn from, or two whose texts are compared; the others are not learned from.
    """

    target: tuple[str, ...] | None = None
    group: str | None = None
    time: str | None = None
    drop: tuple[str, ...] = ()
    feature: tuple[str, ...] = ()
    text: str | None = None
    header: bool | None = None
    weight: str | None = None
    text_column: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which column is what. Every column of a table is in one of these, but for further ones of a table of images.

    Attributes:
      targets: columns to learn.
      features: columns to learn from, in order.
      texts: columns of texts to learn from; there are no features beside them.
      group, time, file, text, weight: a column each, or None.
      part: the column that divides the rows: into train, val and test, or into folds; or None.
      dropped: columns that are left out because that was said.
      index: columns that are left out because they only number the rows.
      declared: features that were named as such.
    """

    targets: tuple[str, ...]
    features: tuple[str, ...]
    texts: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    file: str | None = None
    text: str | None = None
    weight: str | None = None
    part: str | None = None
    dropped: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    declared: frozenset[str] = frozenset()

    @property
    def as_text(self) -> tuple[str, ...]:
        """Columns whose fields are read as they are written."""
        others = (self.group, self.time, self.file, self.text, self.part)
        return (*self.targets, *self.texts, *(name for name in others if name))


def roles_by_name(table: TableFile, options: TableOptions, *, labelled: bool) -> Roles:
    """What the options and the names of the columns say, before more than the first rows is read.

    Raises:
      InputError: for a column that is not there, or has two roles; naming the columns.
    """
    names, path = table.names, table.path
    one_each = {name: getattr(options, name) for name in ("group", "time", "text", "weight")}
    learned, said = _text_columns(table, options), {}
    for role, found in [
        *((role, name) for role, name in one_each.items() if name is not None),
        *(("drop", name) for name in options.drop),
        *(("feature", name) for name in options.feature),
        *(("text_column", name) for name in learned),
    ]:
        if found not in names:
            raise no_column(table, found)
        if said.setdefault(found, role) != role:
            raise InputError(f"the column '{found}' of '{path}' cannot be both {said[found]} and {role}")
    targets = _targets(table, options.target, labelled, said)
    for name in targets:
        if name in said:
            raise InputError(f"the column '{name}' of '{path}' cannot be both {said[name]} and target")
    free = [name for name in names if name not in said and name not in targets]
    file = None if learned else _file_column(table, free)
    free = [name for name in free if name != file]
    group, time, text = one_each["group"], one_each["time"], one_each["text"]
    plain = file or learned  # numbers are no features there
    group = group or next((name for name in free if name.lower() == "group" and (plain or _worded(table, name))), None)
    time = time or next((name for name in free if name.lower() == "time" and (plain or _worded(table, name))), None)
    if text is None and not plain:
        text = next((name for name in free if name.lower() == "text" and _worded(table, name)), None)
    if text and file:
        raise InputError(f"'{path}' names images ('{file}'), which have no texts; leave out the option text")
    part = part_column(free, (group, time, text))
    rest = tuple(name for name in free if name not in (group, time, text, part))
    features = () if plain else tuple(n for n in names if n in rest or said.get(n) == "feature")
    if not plain and not features:
        texts = f"; {as_texts(text)}" if text else ""
        raise InputError(
            f"'{path}' has no columns to learn from; it has: {listed(names)}{texts}. Columns are divided by commas, "
            "semicolons, tabs, bars or spaces"
        )
    return Roles(
        targets=targets,
        features=features,
        texts=learned,
        group=group,
        time=time,
        file=file,
        text=text,
        weight=options.weight,
        part=part,
        dropped=tuple(options.drop),
        ignored=rest if plain else (),
        declared=frozenset(options.feature),
    )


def roles_like(table: TableFile, options: TableOptions, like: Any) -> Roles:
    """The columns that `like` has, and its target if the file has it; all others are ignored.

    Raises:
      InputError: naming the columns that are not there.
    """
    features, names = tuple(like.columns), table.names
    missing = [name for name in features if name not in names]
    if missing:
        others = [name for name in names if name not in (*features, *(getattr(like, "target", None) or ()))]
        raise InputError(
            f"'{table.path}' has other columns than the network was trained on: it lacks {listed(sorted(missing))}, "
            f"and {listed(others) or 'none'} are not known to it"
        )
    known = [name for name in getattr(like, "target", None) or () if name in names]
    if options.target is None and not known:
        known = [name for name in names if name.lower() in TARGETS and name not in features][:1]
    targets = tuple(known) if options.target is None else _targets(table, options.target, True, {})
    if clash := [name for name in targets if name in features]:
        raise InputError(f"the column '{clash[0]}' of '{table.path}' is one that the network learned from, no target")
    others = {"group": options.group, "time": options.time}
    given = {role: name for role, name in others.items() if name in names and name not in features}
    part = part_column(names, (*features, *targets))
    used = {*features, *targets, *given.values(), part}
    ignored = tuple(name for name in names if name not in used)
    return Roles(targets, features, **given, part=part, ignored=ignored, declared=frozenset(features))


def part_column(names: Sequence[str], used: Collection[str | None]) -> str | None:
    """The column that divides the rows, by its name, unless it is `used` for something else."""
    return next((name for name in names if name.lower() in PARTS and name not in used), None)


def settle(table: TableFile, roles: Roles) -> Roles:
    """The roles after a look at the columns' values: what only numbers the rows is left out.

    Raises:
      InputError: for a column called ``time`` or ``group`` of plain numbers that nothing is said about.
    """
    if roles.file or roles.texts:
        return roles
    asked = [name for name in roles.features if name not in roles.declared and name.lower() in ("group", "time")]
    open_to = [name for name in roles.features if name not in (*asked, *roles.declared)]
    index = tuple(name for name in open_to if _numbers_rows(table, name))
    if len(index) == len(roles.features):
        index = ()  # a table of it alone is to be learned from
    features = tuple(name for name in roles.features if name not in index)
    for name in asked:
        role = name.lower()
        if table.numbers(name) is not None:
            meanings = {"group": "says which rows belong together", "time": "says when each row was taken"}
            raise InputError(
                f"the column '{name}' of '{table.path}' holds numbers: it may be a feature, or it {meanings[role]}. "
                f"Say which: {ways(name)}"
            )
    return dataclasses.replace(roles, features=features, index=index)


def ways(name: str) -> str:
    """How to say what a doubtful column is for."""
    word = quoted(name)
    return (
        f"--group {word} (its rows stay together), --time {word} (rows are in its order), --feature {word} (learn from "
        f"it) or --drop {word}; from Python group={name!r}, time={name!r}, feature=[{name!r}] or drop=[{name!r}]"
    )


def as_texts(name: str) -> str:
    """How to learn from the texts of a column."""
    return f"--text-column {quoted(name)} learns from its texts, by a network that reads text (text_column={name!r})"


def quoted(name: str) -> str:
    """As one word of a shell."""
    return name if re.fullmatch(r"[\w.:@%+=,/-]+", name) else "'" + name.replace("'", "'\\''") + "'"


def listed(names: Sequence[str], most: int = 20) -> str:
    """The names, the first ones of many."""
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def divided(named: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of columns; a single one that is not known is several with commas between them, as in ``"A,B"``."""
    if len(named) == 1 and named[0] not in known:
        return tuple(name.strip() for name in named[0].split(","))
    return tuple(named)


def no_column(table: TableFile, name: str) -> InputError:
    """The error for a column that is not there."""
    said = f"'{table.path}' has no column '{name}'; it has: {listed([one[:NAME] for one in table.names])}."
    if table.header and any(len(one.split()) >= SENTENCE for one in table.names):
        said += (
            " These are taken from its first line, which looks like an example: --header no (from Python header=False) "
            "calls the columns 1, 2, …"
        )
    return InputError(said + nearest(name, table.names))


def _text_columns(table: TableFile, options: TableOptions) -> tuple[str, ...]:
    """The columns of texts that were named; raises InputError for more than two, and for features beside them."""
    named = divided(options.text_column, table.names)
    if len(named) > 2 or len(set(named)) < len(named):
        raise InputError(
            f"text_column names {listed(named)} of '{table.path}'; expected one column, or two whose texts are compared"
        )
    if named and (beside := [*options.feature, *([options.text] if options.text else [])]):
        raise InputError(
            f"'{table.path}': the texts of {listed(named)} are learned from, and nothing beside them; leave out "
            f"{listed(beside)} as a feature or text"
        )
    return named


def _worded(table: TableFile, name: str) -> bool:
    """Whether a column begins with text, not with a number."""
    return bool(np.isnan(to_number(table.first[table.names.index(name)], table.comma)))


def _numbers_rows(table: TableFile, name: str) -> bool:
    """Whether a column holds 0, 1, 2, … or 1, 2, 3, …, in this order."""
    values = table.numbers(name)
    if values is None or len(values) < (1 if name.lower() in ROW_NUMBERS else FEWEST):
        return False
    return values[0] in (0, 1) and bool((np.diff(values) == 1).all())


def _targets(
    table: TableFile, target: Sequence[str] | None, labelled: bool, said: Mapping[str, str]
) -> tuple[str, ...]:
    names, path = table.names, table.path
    if target is None:
        found = [name for name in names if name.lower() in TARGETS and said.get(name) not in ("drop", "feature")]
        if len(found) > 1:
            raise InputError(f"'{path}' has the columns {', '.join(found)}; say which is the target: {path}:{found[0]}")
        if not found and labelled:
            raise InputError(
                f"'{path}' has no column called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}; name the target column, as "
                f"in {path}:COLUMN. It has: {listed(names)}"
            )
        return tuple(found)
    target = divided(target, names)
    if "" in target:
        kept = ",".join(name for name in target if name) or names[-1]
        raise InputError(
            f"the target '{','.join(target)}' of '{path}' has a comma with no name beside it; expected for example "
            f"{path}:{kept}"
        )
    for name in target:
        if name not in names:
            raise no_column(table, name)
    if not target or len(set(target)) < len(target):
        raise InputError(f"target names {', '.join(target) or 'no column'} of '{path}'; expected each column once")
    return target


def _file_column(table: TableFile, free: Sequence[str]) -> str | None:
    """The column of a table of images that names them: called so, or by the suffix of its first entry."""
    first = dict(zip(table.names, table.first, strict=True))
    for wanted in FILES:
        for name in free:
            if name.lower() == wanted and _worded(table, name):
                return name
    found = [name for name in free if Path(first[name]).suffix.lower() in SUFFIXES]
    if len(found) > 1:
        raise InputError(
            f"'{table.path}' names images in the columns {', '.join(found)}; leave out all but one, such as --drop "
            f"{quoted(found[1])} (from Python drop=[{found[1]!r}])"
        )
    return found[0] if found else None
