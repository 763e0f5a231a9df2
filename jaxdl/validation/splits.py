"""Who is tested on what: scikit-learn's splitters by name, and the division they make."""

import dataclasses
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.data.source import Source
from jaxdl.data.split_hash import hash_indices
from jaxdl.errors import InputError, check_choice

Splitter = Literal["auto", "stratified", "kfold", "group", "leave-one-out", "monte-carlo", "time-series", "holdout"]
SPLITTERS = get_args(Splitter)
TEST_SHARE = 0.2  # of monte-carlo and holdout


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A division of examples into training and test parts, fold by fold.

    Attributes:
      kind: the splitter's name.
      seed: of its shuffling, None where nothing was shuffled or it is not known.
      train: indices of each fold's training part.
      test: indices of each fold's test part.
    """

    kind: str
    seed: int | None
    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.train)

    @property
    def sha256(self) -> str:
        """Of all indices in order: two results with the same hash rest on the same folds."""
        return hash_indices([part for pair in zip(self.train, self.test, strict=True) for part in pair])

    def as_dict(self) -> dict[str, Any]:
        """``kind``, ``k``, ``seed``, ``sha256``."""
        return {"kind": self.kind, "k": len(self), "seed": self.seed, "sha256": self.sha256}


def make_splitter(kind: str, folds: int, seed: int, *, classes: bool = True) -> Any:
    """The scikit-learn splitter that a name stands for.

    Args:
      kind: one of `SPLITTERS` but ``auto``; ``monte-carlo`` and ``holdout`` test a fifth, stratified by class.
      folds: how many; leave-one-out and holdout have their own number.
      seed: of shuffling; time-series never shuffles.
      classes: whether the examples have classes, rather than numbers.

    Raises:
      InputError: for an unknown name or a number of folds that makes none.
    """
    from sklearn import model_selection as sk

    check_choice("splitter", kind, SPLITTERS)
    if not isinstance(folds, Integral):
        raise InputError(f"folds is {folds!r}; expected a whole number")
    if kind not in ("leave-one-out", "holdout") and folds < (1 if kind == "monte-carlo" else 2):
        raise InputError(f"folds is {folds}; '{kind}' needs at least {1 if kind == 'monte-carlo' else 2}")
    shuffled = sk.StratifiedShuffleSplit if classes else sk.ShuffleSplit
    return {
        "stratified": lambda: sk.StratifiedKFold(folds, shuffle=True, random_state=seed),
        "kfold": lambda: sk.KFold(folds, shuffle=True, random_state=seed),
        "group": lambda: sk.GroupKFold(folds, shuffle=True, random_state=seed),
        "leave-one-out": lambda: sk.LeaveOneOut(),
        "monte-carlo": lambda: shuffled(folds, test_size=TEST_SHARE, random_state=seed),
        "time-series": lambda: sk.TimeSeriesSplit(folds),
        "holdout": lambda: shuffled(1, test_size=TEST_SHARE, random_state=seed),
    }[kind]()


def split_source(source: Source, splitter: str | Any, folds: int, seed: int) -> Split:
    """Divides `source`.

    Args:
      source: labelled; its `groups` and `times` are passed on.
      splitter: a name of `SPLITTERS` (``auto`` is stratified for classes, kfold for numbers), or any object with
        scikit-learn's ``split(X, y, groups)``.
      folds: for a name; a splitter object has its own number.
      seed: for a name.

    Raises:
      InputError: too few examples of a class, no groups or times where they are needed, or folds that are empty.
    """
    named = isinstance(splitter, str)
    if splitter == "auto":
        splitter = "stratified" if source.class_names else "kfold"
    kind = splitter if named else type(splitter).__name__
    if named:
        _check_possible(source, splitter, folds)
        splitter = make_splitter(splitter, folds, seed, classes=bool(source.class_names))
    elif isinstance(splitter, type) or not callable(getattr(splitter, "split", None)):
        raise InputError(f"splitter is {splitter!r}; expected one of {', '.join(SPLITTERS)} or a scikit-learn splitter")
    # forward in time means in the order of times, whatever order the examples are stored in
    ordered = source.times is not None and kind in ("time-series", "TimeSeriesSplit")
    order = np.argsort(source.times, kind="stable") if ordered else np.arange(len(source))
    labels = source.labels[order]
    ignored = source.groups is None or (named and kind != "group")
    groups = None if ignored else source.groups[order]
    try:
        pairs = [(order[train], order[test]) for train, test in splitter.split(np.zeros(len(labels)), labels, groups)]
    except ValueError as error:
        raise InputError(f"{source.name} cannot be divided by {kind}: {error}") from error
    if not pairs or any(len(train) == 0 or len(test) == 0 for train, test in pairs):
        raise InputError(f"{kind} makes no folds, or empty ones, of the {len(source)} examples of {source.name}")
    for fold, (train, test) in enumerate(pairs):
        if overlap := np.intersect1d(train, test).size:
            raise InputError(f"fold {fold} of {kind} trains on {overlap} of its own test examples")
    used = seed if named and kind not in ("leave-one-out", "time-series") else getattr(splitter, "random_state", None)
    return Split(kind, used if isinstance(used, int) else None, *zip(*pairs, strict=True))


def _check_possible(source: Source, kind: str, folds: int) -> None:
    check_choice("splitter", kind, SPLITTERS)
    if kind == "stratified":
        _check_stratified(source, folds)
    if kind in ("kfold", "time-series") and folds + (kind == "time-series") > len(source):
        raise InputError(f"{source.name} has {len(source)} examples, too few for {folds} folds")
    if kind == "group":
        if source.groups is None:
            raise InputError(f"{source.name} has no groups; the splitter 'group' needs one for every example")
        if (distinct := len(np.unique(source.groups))) < folds:
            raise InputError(f"{source.name} has {distinct} groups, fewer than {folds} folds")
    if kind == "time-series" and source.times is None:
        raise InputError(f"{source.name} has no times; the splitter 'time-series' needs one for every example")


def _check_stratified(source: Source, folds: int) -> None:
    if not source.class_names:
        raise InputError(f"{source.name} has numbers, no classes to stratify by; use the splitter 'kfold'")
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    rarest = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
    if counts[rarest] < folds:
        raise InputError(
            f"class '{source.class_names[rarest]}' of {source.name} has {counts[rarest]} examples, fewer than "
            f"{folds} folds; use --folds {max(2, counts[rarest])}, another --splitter, or more examples"
        )
