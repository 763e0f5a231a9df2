"""Splitters by name: scikit-learn's where it has one, those of `time_splits` where it has none."""

import dataclasses
import math
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.validation.time_splits import MOST_FOLDS, check_count

Splitter = Literal[
    "auto",
    "stratified",
    "kfold",
    "group",
    "stratified-group",
    "leave-one-out",
    "leave-groups-out",
    "monte-carlo",
    "repeated-stratified",
    "repeated-kfold",
    "time-series",
    "purged",
    "combinatorial-purged",
    "holdout",
]
SPLITTERS = get_args(Splitter)
TEST_SHARE = 0.2  # of monte-carlo and holdout
GROUPED = ("group", "stratified-group", "leave-groups-out")  # these keep groups whole
TIMED = ("time-series", "purged", "combinatorial-purged")  # these need times
UNSHUFFLED = ("leave-one-out", "leave-groups-out", *TIMED)
OWN_NUMBER = ("leave-one-out", "leave-groups-out", "holdout")  # of folds, whatever was asked for
LARGEST_SEED = 2**32 - 1

# Which splitters an option of `Splitting` is for, and what each takes where it is left out.
OPTIONS: dict[str, dict[str, Any]] = {
    "repeats": {"repeated-stratified": 5, "repeated-kfold": 5},
    "gap": {"time-series": 0},
    "horizon": {"time-series": None, "purged": 0, "combinatorial-purged": 0},
    "embargo": {"purged": 0, "combinatorial-purged": 0},
    "test_groups": {"leave-groups-out": 1, "combinatorial-purged": 2},
    "test_fraction": {"monte-carlo": TEST_SHARE, "holdout": TEST_SHARE},
}


@dataclasses.dataclass(frozen=True)
class Splitting:
    """Options of splitters by name; None leaves one as it is, and one that a splitter does not have is refused.

    Attributes:
      repeats: how often the repeated splitters divide anew; 5 if left out.
      gap: number of examples left out before a test part of time-series.
      horizon: time until a label is known (dates: days); training labels that reach a test part are purged.
      embargo: time after a purged test part (dates: days) in which no training example starts.
      test_groups: tested at once: groups of leave-groups-out (1), time blocks of combinatorial-purged (2).
      test_fraction: share that monte-carlo and holdout test; 0.2 if left out.
    """

    repeats: int | None = None
    gap: int | None = None
    horizon: float | None = None
    embargo: float | None = None
    test_groups: int | None = None
    test_fraction: float | None = None

    def options_of(self, kind: str) -> dict[str, Any]:
        """What the splitter `kind` takes, by name; empty for most.

        Raises:
          InputError: for an option that it does not have.
        """
        for name, value in vars(self).items():
            if value is not None and kind not in OPTIONS[name]:
                raise InputError(
                    f"{name} is {value}, but the splitter '{kind}' has no such option; it is for "
                    f"{' and '.join(OPTIONS[name])}"
                )
        held = {name: (getattr(self, name), which[kind]) for name, which in OPTIONS.items() if kind in which}
        return {name: default if value is None else value for name, (value, default) in held.items()}


def make_splitter(
    kind: str,
    folds: int,
    seed: int,
    *,
    classes: bool = True,
    splitting: Splitting | None = None,
    times: np.ndarray | None = None,
) -> Any:
    """The splitter that a name stands for, which scikit-learn's functions take.

    Args:
      kind: one of `SPLITTERS` but ``auto``; ``monte-carlo`` and ``holdout`` are stratified by class.
      folds: how many, a repeat; of combinatorial-purged the blocks of time. Those of `OWN_NUMBER` have their own.
      seed: of shuffling; what goes by time never shuffles.
      classes: whether the examples have classes, rather than numbers.
      splitting: see `Splitting`.
      times: of the examples, for purging.

    Raises:
      InputError: for an unknown name, a number of folds that makes none, or an option that is out of range.
    """
    from sklearn import model_selection as sk

    from jaxdl.validation import time_splits as ours

    check_choice("splitter", kind, [name for name in SPLITTERS if name != "auto"])
    check_count("folds", folds, 1)
    if kind not in OWN_NUMBER and folds < (least := 1 if kind == "monte-carlo" else 2):
        raise InputError(f"folds is {folds}; '{kind}' needs at least {least}")
    check_count("seed", seed, 0)
    if seed > LARGEST_SEED:
        raise InputError(f"seed is {seed}; expected at most {LARGEST_SEED}")
    held = (splitting or Splitting()).options_of(kind)
    for name, least in {"repeats": 1, "gap": 0, "test_groups": 1}.items():
        check_count(name, held.get(name, least), least)
    share = held.get("test_fraction", TEST_SHARE)
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise InputError(f"test_fraction is {share!r}; expected a share between 0 and 1")
    shuffled = sk.StratifiedShuffleSplit if classes else sk.ShuffleSplit
    repeats, test_groups, gap = held.get("repeats"), held.get("test_groups"), held.get("gap")
    purging = {"times": times, "horizon": held.get("horizon")}
    embargo = {"embargo": held.get("embargo")}
    return {
        "stratified": lambda: sk.StratifiedKFold(folds, shuffle=True, random_state=seed),
        "kfold": lambda: sk.KFold(folds, shuffle=True, random_state=seed),
        "group": lambda: sk.GroupKFold(folds, shuffle=True, random_state=seed),
        "stratified-group": lambda: sk.StratifiedGroupKFold(folds, shuffle=True, random_state=seed),
        "leave-one-out": lambda: sk.LeaveOneOut(),
        "leave-groups-out": lambda: sk.LeavePGroupsOut(test_groups),
        "monte-carlo": lambda: shuffled(folds, test_size=share, random_state=seed),
        "repeated-stratified": lambda: sk.RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed),
        "repeated-kfold": lambda: sk.RepeatedKFold(n_splits=folds, n_repeats=repeats, random_state=seed),
        "time-series": lambda: (
            sk.TimeSeriesSplit(folds, gap=gap)
            if purging["horizon"] is None
            else ours.PurgedTimeSeriesSplit(folds, gap=gap, **purging)
        ),
        "purged": lambda: ours.PurgedKFold(folds, **purging, **embargo),
        "combinatorial-purged": lambda: ours.CombinatorialPurgedKFold(folds, test_groups, **purging, **embargo),
        "holdout": lambda: shuffled(1, test_size=share, random_state=seed),
    }[kind]()


def check_possible(source: Source, kind: str, folds: int, options: dict[str, Any]) -> None:
    """Raises InputError where `source` lacks what the splitter needs, in words that scikit-learn does not have."""
    check_count("folds", folds, 1)
    if "stratified" in kind:
        _check_stratified(source, kind, folds)
    if kind in GROUPED and source.groups is None:
        raise InputError(f"{source.name} has no groups; the splitter '{kind}' needs one for every example")
    if kind in TIMED and source.times is None:
        raise InputError(f"{source.name} has no times; the splitter '{kind}' needs one for every example")
    if kind in ("kfold", "repeated-kfold", *TIMED) and folds + (kind == "time-series") > len(source):
        raise InputError(f"{source.name} has {len(source)} examples, too few for {folds} folds")
    if kind == "leave-one-out" and len(source) > MOST_FOLDS:
        raise InputError(f"leave-one-out makes a fold of each of {len(source)} examples; expected at most {MOST_FOLDS}")
    if kind in GROUPED:
        distinct = len(set(source.groups.tolist()))
        if kind == "leave-groups-out":
            _check_groups_out(source, distinct, options["test_groups"])
        elif distinct < folds:
            raise InputError(f"{source.name} has {distinct} groups, fewer than {folds} folds")


def _check_groups_out(source: Source, distinct: int, left_out: int) -> None:
    check_count("test_groups", left_out, 1)
    if left_out >= distinct:
        raise InputError(
            f"test_groups is {left_out}; expected fewer than the {distinct} groups of {source.name}, or nothing is "
            "left to train on"
        )
    if (folds := math.comb(distinct, left_out)) > MOST_FOLDS:
        raise InputError(
            f"{left_out} of the {distinct} groups of {source.name} can be chosen in {folds} ways; expected at most "
            f"{MOST_FOLDS} folds. Use the splitter 'group'"
        )


def _check_stratified(source: Source, kind: str, folds: int) -> None:
    if not source.class_names:
        other = {"stratified": "kfold", "repeated-stratified": "repeated-kfold", "stratified-group": "group"}[kind]
        raise InputError(f"{source.name} has numbers, no classes to stratify by; use the splitter '{other}'")
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    rarest = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
    if counts[rarest] < folds:
        raise InputError(
            f"class '{source.class_names[rarest]}' of {source.name} has {counts[rarest]} examples, fewer than "
            f"{folds} folds; use --folds {max(2, counts[rarest])}, another --splitter, or more examples"
        )
