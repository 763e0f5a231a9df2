"""Columns of a table that make a score too good: identities, times, and what nearly is the target."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.column_names import IDENTITIES, named
from jaxdl.data.source import Source, every_x, levels_of
from jaxdl.shown import few

TIMES = frozenset(("time", "date", "datetime", "timestamp", "year"))
ORDERED_TIMES = frozenset(("month", "week", "day", "hour", "minute", "visit"))  # only where the rows are in their order
TOO_GOOD = 0.95  # R² or AUC of one feature alone from which it nearly is the target
MOST_ROWS = 20_000  # that a feature alone is scored on
FEWEST = 10  # rows, and examples of two classes, below which such a score is chance
ALONE = 5  # examples of a class

REMEDIES = {  # in which the division of the examples has no part
    "identity-columns": "Say what such a column is: --group COLUMN (rows of one value stay together), --feature COLUMN "
    "(learn from it) or --drop COLUMN; from Python data.csv(path, group=…, feature=[…], drop=[…])",
    "time-columns": "Say what such a column is: --time COLUMN (with --splitter time-series the past predicts the "
    "future), --feature COLUMN (learn from it) or --drop COLUMN; from Python data.csv(path, time=…, feature=[…], "
    "drop=[…])",
    "target-columns": "Leave out what is not known before the target is: --drop COLUMN; if it is known by then, "
    "--feature COLUMN; from Python data.csv(path, drop=[…], feature=[…])",
}
SAID = {
    "identity-columns": "called like an identity, by which a network knows examples",
    "time-columns": "called like a time; what comes later tells of what came before",
    "target-columns": "nearly the target",
}
SHOWN = 3  # columns that a message names

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


class Suspect(NamedTuple):
    """A column that may be a leak.

    Attributes:
      column: its place.
      name: as the table calls it.
      why: in words, behind its name.
    """

    column: int
    name: str
    why: str


def find_suspects(source: Source) -> dict[str, list[Suspect]]:
    """Suspect columns by the leak that they may be, whatever the split. Where there are times none looks like one."""
    features = undeclared(source)
    return {
        "identity-columns": list(identity_columns(features)),
        "time-columns": list(time_columns(features)) if source.times is None else [],
        "target-columns": list(target_columns(features, source.targets())),
    }


def column_leaks(
    source: Source, folds: Folds, found: Mapping[str, list[Suspect]] | None = None
) -> Iterator[tuple[str, int, str]]:
    """Name of the leak, number of test examples, and what it is, for each kind of suspect columns there are.

    `found` is what `find_suspects` says of the source, if that is known already.
    """
    if source.columns is None:
        return
    tested = np.unique(np.concatenate([test for _, test in folds]))
    x = source.stacked()
    for name, held in (find_suspects(source) if found is None else found).items():
        count = len(tested)
        if name == "identity-columns" and x is not None:
            shared = {one: _shared(x[:, one.column], folds) for one in held}
            held = [one for one in held if shared[one]]
            count = max(map(shared.__getitem__, held), default=0)
        if held:
            listed = few([f"'{one.name}' {one.why}" for one in held], SHOWN)
            yield name, count, f"{name}: {SAID[name]}: {listed}"


def _shared(values: np.ndarray, folds: Folds) -> int:
    """How many tested examples have a value that the same fold trains on; all where no value occurs twice."""
    alone = len(np.unique(values)) == len(values)
    return len(np.unique(np.concatenate([t if alone else t[np.isin(values[t], values[r])] for r, t in folds])))


class Feature(NamedTuple):
    """A column of a table.

    Attributes:
      column, name: as of `Suspect`.
      values: ``float64[n]``, or codes of its levels.
      levels: how many there are; 0 of numbers.
    """

    column: int
    name: str
    values: np.ndarray
    levels: int


def undeclared(source: Source) -> list[Feature]:
    """Features that nobody declared to be features."""
    if source.columns is None or source.declared.issuperset(source.columns):
        return []
    x, levels = every_x(source), levels_of(source)
    return [
        Feature(place, name, np.asarray(x[:, place], np.float64), len(levels[place]))
        for place, name in enumerate(source.columns)
        if name not in source.declared
    ]


def identity_columns(features: Sequence[Feature]) -> Iterator[Suspect]:
    """Columns called like an identity, of few values that occur many times each, or of one for each row."""
    for place, name, values, _ in features:
        known = values[np.isfinite(values)]
        if not named(name, IDENTITIES) or not len(known) or (known != np.round(known)).any():
            continue
        different = len(np.unique(known))
        if different == len(known) > 1:
            yield Suspect(place, name, f"has another value in each of {len(known)} rows")
        elif 2 <= different <= len(known) / 2:
            yield Suspect(
                place, name, f"has {different} values, each in {len(known) / different:.0f} of {len(known)} rows"
            )


def time_columns(features: Sequence[Feature]) -> Iterator[Suspect]:
    """Columns called like a time; where the rows are in their order also those called day, week and the like."""
    for place, name, values, levels in features:
        known = values[np.isfinite(values)]
        if levels or len(np.unique(known)) < 3:
            continue
        ordered = named(name, ORDERED_TIMES) and bool((np.diff(known) >= 0).all())
        if named(name, TIMES) or ordered:
            yield Suspect(place, name, f"runs from {known.min():g} to {known.max():g}")


def target_columns(features: Sequence[Feature], targets: Any) -> Iterator[Suspect]:
    """Columns that alone give an R² or AUC above `TOO_GOOD`.

    Of a number the better of R² and that of the ranks, or the AUC between classes: of more than two the lowest between
    neighbours, in the order of their means. Of a category the same of what its levels' means in one half of the rows
    say of the other half. Where values are missing, that they are is looked at, too.
    """
    if not isinstance(targets, np.ndarray) or targets.ndim not in (1, 2) or len(targets) < FEWEST:
        return
    rows = np.arange(len(targets))
    random = np.random.default_rng(0)
    if len(rows) > MOST_ROWS:
        rows = random.choice(rows, MOST_ROWS, replace=False)
    columns = targets.reshape(len(targets), -1)[rows]
    for place, name, values, levels in features:
        values = values[rows]
        missing = np.isnan(values)
        found = [score_alone(values[~missing], y[~missing], categories=bool(levels)) for y in columns.T]
        if missing.any():
            found += [score_alone(missing.astype(float), y) for y in columns.T]
        best = max((one for one in found if one), default=None, key=lambda one: one[1])
        if best is not None and best[1] > TOO_GOOD:
            yield Suspect(place, name, f"alone gives {best[0]} {best[1]:.3f}")


def score_alone(values: np.ndarray, targets: np.ndarray, *, categories: bool = False) -> tuple[str, float] | None:
    """What one feature says of the targets without any other: ``("R²", …)`` or ``("AUC", …)``.

    Args:
      values: ``float64[n]``, or codes of categories.
      targets: floats, or classes from 0.
      categories: whether the values are codes.

    Returns:
      None where there are too few examples to say.
    """
    if len(values) < FEWEST or len(np.unique(values)) < 2:
        return None
    if categories:
        half = np.random.default_rng(0).permutation(len(values)) < len(values) // 2
    if targets.dtype.kind == "f":
        y = targets.astype(np.float64)
        if not y.std():
            return None
        if categories:
            said = _level_means(values[half], y[half], values[~half])
            rest = y[~half]
            spread = np.square(rest - rest.mean()).sum()
            return None if not spread else ("R²", 1 - float(np.square(rest - said).sum() / spread))
        return "R²", max(_squared_correlation(values, y), _squared_correlation(_ranks(values), _ranks(y)))
    classes, counts = np.unique(targets, return_counts=True)
    classes = classes[counts >= ALONE]
    if len(classes) < 2:
        return None
    if categories:
        found = [
            _auc(_level_means(values[half], targets[half] == c, values[~half]), targets[~half] == c) for c in classes
        ]
        return "AUC", min(found)
    ordered = sorted(classes, key=lambda c: values[targets == c].mean())
    pairs = [np.isin(targets, both) for both in itertools.pairwise(ordered)]
    found = [_auc(values[rows], targets[rows] == two) for rows, two in zip(pairs, ordered[1:], strict=True)]
    return "AUC", min(max(one, 1 - one) for one in found)


def _level_means(codes: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The mean of `y` over the rows of each level, for the levels `asked`; of an unknown one the mean of all."""
    levels, place = np.unique(codes, return_inverse=True)
    means = np.bincount(place, y) / np.bincount(place)
    at = np.searchsorted(levels, asked).clip(max=len(levels) - 1)
    return np.where(levels[at] == asked, means[at], y.mean())


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def _squared_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = np.square(a).sum() * np.square(b).sum()
    return float(np.square(a @ b) / spread) if spread > 0 else 0.0


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, from the ranks (Mann and Whitney); 0.5 with one class alone."""
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return 0.5
    return float((_ranks(scores)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
