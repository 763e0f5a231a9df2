"""What a division of the examples looks like: a row of numbers per fold, and who is where."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.report.table import plain
from jaxdl.tasks import Task
from jaxdl.validation.splits import Split

UNUSED, TRAIN, TEST, PURGED = range(4)
MOST_NAMES = 4  # of classes or labels, above which a line names the largest shift alone
SINGULAR = {"classes": "class", "labels": "label"}  # what is counted by the names of the outputs

MEANING = {
    "stratified": "Every test part has the classes in about the same shares as all examples have.",
    "kfold": "Examples are drawn at random, whatever their class.",
    "group": "The examples of a group are all on one side of every fold.",
    "stratified-group": "The examples of a group are all on one side of every fold; classes are as even as can be.",
    "leave-one-out": "Every example is tested by a network that was trained on all others.",
    "leave-groups-out": "Every choice of so many groups is tested once by a network that saw none of them.",
    "monte-carlo": "Every fold draws a test part of its own; an example may be tested several times or never.",
    "repeated-stratified": "The division is made several times over, each time from another draw.",
    "repeated-kfold": "The division is made several times over, each time from another draw.",
    "time-series": "Every test part lies later than all that its network was trained on.",
    "purged": (
        "Every test part is a stretch of time. Training examples whose labels were decided at the same time as its "
        "own, or that start within the embargo after it, are left out."
    ),
    "combinatorial-purged": (
        "Time is cut into blocks, and every choice of so many blocks is tested once. Training examples whose labels "
        "were decided at the same time as those of a test block, or that start within the embargo after it, are left "
        "out."
    ),
    "holdout": "There is one test part, drawn once.",
}


def name_of(split: Split) -> str:
    """The splitter's name as `SPLITTERS` has it, or that of its class."""
    return split.name or split.kind


def roles(split: Split, source: Source, fold: int) -> np.ndarray:
    """What each example is in a fold: ``int8[n]`` of `UNUSED`, `TRAIN`, `TEST`, `PURGED`.

    Purged is what a splitter over time leaves out to keep training and test apart; unused is the rest, such as what
    lies later than the test part of time-series.
    """
    made = np.full(len(source), UNUSED, np.int8)
    kind = name_of(split)
    if kind in ("purged", "combinatorial-purged"):
        made[:] = PURGED
    elif kind == "time-series" and source.times is not None:
        place = np.argsort(np.argsort(source.times, kind="stable"))
        made[place < place[split.test[fold]].min()] = PURGED
    made[split.train[fold]], made[split.test[fold]] = TRAIN, TEST
    return made


def fold_rows(split: Split, source: Source, task: Task) -> list[dict[str, Any]]:
    """A row of numbers per fold.

    Args:
      split: of `source`.
      source: labelled.
      task: what is asked of the examples: it says which targets are counted.

    Returns:
      Rows of ``fold``; ``train``, ``test`` and ``left_out``, numbers of examples; for classes ``train_classes`` and
      ``test_classes``, ``int[classes]``, for labels ``train_labels`` and ``test_labels`` likewise, for numbers
      ``train_target`` and ``test_target``, ``(mean, standard deviation)``; with groups ``train_groups``,
      ``test_groups`` and ``both_groups``, numbers of them; with times ``train_times`` and ``test_times``, ``(first,
      last)``.
    """
    columns = task.in_numbers(source.targets())
    groups = None if source.groups is None else _codes(source.groups)
    rows = []
    for fold, parts in enumerate(zip(split.train, split.test, strict=True)):
        row: dict[str, Any] = {"fold": fold}
        found: dict[str, set[int]] = {}
        for side, part in zip(("train", "test"), parts, strict=True):
            row[side] = len(part)
            row |= {f"{side}_{what}": value for what, value in _describe_targets(columns, part).items()}
            if groups is not None:
                found[side] = set(groups[part].tolist())
                row[f"{side}_groups"] = len(found[side])
            if source.times is not None:
                row[f"{side}_times"] = source.times[part].min(), source.times[part].max()
        row["left_out"] = len(source) - row["train"] - row["test"]
        if groups is not None:
            row["both_groups"] = len(found["train"] & found["test"])
        rows.append(row)
    return rows


def _describe_targets(columns: tuple[str, np.ndarray] | None, part: np.ndarray) -> dict[str, Any]:
    """What a row says of the targets of a part: counts by name, or mean and standard deviation of numbers."""
    if columns is None:
        return {}
    what, values = columns
    mine = values[part]
    return {what: (float(mine.mean()), float(mine.std())) if what == "target" else mine.sum(0)}


def counted(row: Mapping[str, Any]) -> str | None:
    """What a row counts by the names of the outputs; None if nothing."""
    return next((what for what in SINGULAR if f"train_{what}" in row), None)


def as_text(rows: list[dict[str, Any]], source: Source) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the table that the terminal shows; columns in which all is zero are left out."""
    some, what = rows[0], counted(rows[0])
    columns = {"fold": lambda row: str(row["fold"]), "train": lambda row: str(row["train"])}
    columns["test"] = lambda row: str(row["test"])
    if any(row["left_out"] for row in rows):
        columns["left out"] = lambda row: str(row["left_out"])
    if "train_target" in some:
        for side in ("train", "test"):
            columns[f"target in {side}"] = lambda row, side=side: "{:.3g} ± {:.2g}".format(*row[f"{side}_target"])
    elif what and len(source.class_names) <= MOST_NAMES:
        for side in ("train", "test"):
            columns[f"{what} in {side}, %"] = lambda row, side=side: " : ".join(
                f"{100 * share:.0f}" for share in _shares(row, side)
            )
    elif what:
        columns[f"largest shift of a {SINGULAR[what]}"] = lambda row: _largest_shift(row, source)
    if "train_groups" in some:
        for side in ("train", "test"):
            columns[f"groups in {side}"] = lambda row, side=side: str(row[f"{side}_groups"])
        columns["in both"] = lambda row: str(row["both_groups"])
    if "train_times" in some:
        for side in ("train", "test"):
            columns[f"{side} times"] = lambda row, side=side: " – ".join(map(moment, row[f"{side}_times"]))
    return list(columns), [[write(row) for write in columns.values()] for row in rows]


def as_csv(rows: list[dict[str, Any]], source: Source) -> list[dict[str, Any]]:
    """The same rows with a plain value in every cell; classes and labels are columns ``train:NAME`` and
    ``test:NAME``."""
    flat = []
    for row in rows:
        made: dict[str, Any] = {}
        for key, value in row.items():
            side = key.partition("_")[0]
            if key.partition("_")[2] in SINGULAR:
                made |= {f"{side}:{name}": int(n) for name, n in zip(source.class_names, value, strict=True)}
            elif key.endswith("_target"):
                made |= {f"{side}_mean": value[0], f"{side}_std": value[1]}
            elif key.endswith("_times"):
                made |= {f"{side}_from": moment(value[0]), f"{side}_to": moment(value[1])}
            else:
                made[key] = value
        flat.append(made)
    return flat


def say_split(split: Split, rows: list[dict[str, Any]], source: Source) -> list[str]:
    """Sentences on what the splitter does, how often examples are tested, and what is wrong."""
    kind = name_of(split)
    said = [MEANING[kind]] if kind in MEANING else []
    if (what := counted(rows[0])) and len(source.class_names) <= MOST_NAMES:
        said.insert(0, f"{what.capitalize()} in the order {' : '.join(map(plain, source.class_names))}.")
    times = np.bincount(np.concatenate(split.test), minlength=len(source))
    if times.min() == times.max():
        said.append(f"Every example is tested {_times_over(int(times.min()))}.")
    else:
        never = int((times == 0).sum())
        said.append(
            f"An example is tested {times.min()} to {times.max()} times"
            + (f"; {never} of {len(source)} never are." if never else ".")
        )
    return said + _cautions(kind, rows, source)


def _cautions(kind: str, rows: list[dict[str, Any]], source: Source) -> list[str]:
    said = []
    if broken := sum(row.get("both_groups", 0) > 0 for row in rows):
        said.append(
            f"Caution: {broken} of {len(rows)} folds have groups on both sides, so that the test is too easy; the "
            "splitters …group… keep them together."
        )
    if source.times is not None and "purged" not in kind:
        later = sum(bool(row["train_times"][1] > row["test_times"][0]) for row in rows)
        if later:
            said.append(
                f"Caution: {later} of {len(rows)} folds train on examples that are later than some of those that they "
                "test; the splitters time-series and purged follow the times."
            )
    if what := counted(rows[0]):
        unlearnt = [
            (row["fold"], np.flatnonzero((row[f"train_{what}"] == 0) & (row[f"test_{what}"] > 0))) for row in rows
        ]
        if unlearnt := [(fold, missing) for fold, missing in unlearnt if len(missing)]:
            fold, missing = unlearnt[0]
            said.append(
                f"Caution: {len(unlearnt)} of {len(rows)} folds test a {SINGULAR[what]} that they do not train on, the "
                f"first of them fold {fold}: '{plain(source.class_names[missing[0]])}'."
            )
    return said


def _times_over(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


@dataclasses.dataclass(frozen=True, eq=False)
class Arranged:
    """Examples in an order in which a division can be read.

    Attributes:
      order: indices of the examples.
      said: what the order is.
    """

    order: np.ndarray
    said: str


def arrange(split: Split, source: Source, strata: np.ndarray | None) -> Arranged:
    """By time, by group or by class (by `strata`), and within these by the first fold that tests an example."""
    first = np.full(len(source), len(split))
    for fold in reversed(range(len(split))):
        first[split.test[fold]] = fold
    if split.times_sha256 is not None and source.times is not None:
        return Arranged(np.argsort(source.times, kind="stable"), "in the order of time")
    if split.grouped and source.groups is not None:
        return Arranged(np.lexsort((_codes(source.groups), first)), "by the fold that tests them, then by group")
    if strata is not None:
        return Arranged(np.lexsort((first, strata)), "by class, then by the fold that tests them")
    return Arranged(np.argsort(first, kind="stable"), "by the fold that tests them")


def moment(value: Any) -> str:
    """A time in few letters: a date where it is midnight, else to the minute; a number as short as it can be."""
    if isinstance(value, np.datetime64):
        text = np.datetime_as_string(value.astype("datetime64[m]"))
        return text.removesuffix("T00:00").replace("T", " ")
    return f"{value:.6g}" if isinstance(value, int | float | np.number) else plain(value)


def _codes(values: np.ndarray) -> np.ndarray:
    """A number for each value, in the order in which they come first: they need not be sortable."""
    known: Mapping[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values.tolist()])


def _shares(row: Mapping[str, Any], side: str) -> np.ndarray:
    """Of the examples of a part, how many are of each class or have each label."""
    return row[f"{side}_{counted(row)}"] / row[side]


def _largest_shift(row: Mapping[str, Any], source: Source) -> str:
    shift = 100 * (_shares(row, "test") - _shares(row, "train"))
    most = int(np.abs(shift).argmax())
    return f"{plain(source.class_names[most])} {shift[most]:+.1f} %"
