"""Splitters by name: scikit-learn's where it has one, those of `time_splits` where it has none."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.checks import check_fields
from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.validation.time_splits import MOST_FOLDS, as_days, check_count

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
UNSTRATIFIED = {"stratified": "kfold", "repeated-stratified": "repeated-kfold", "stratified-group": "group"}
GROUPED = ("group", "stratified-group", "leave-groups-out")  # these keep groups whole
PURGED = ("purged", "combinatorial-purged")  # these train before and after a test part, less what would leak
TIMED = ("time-series", *PURGED)  # these need times
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
# What splitter objects call these options.
ATTRIBUTES = {
    "repeats": ("n_repeats",),
    "gap": ("gap",),
    "horizon": ("horizon",),
    "embargo": ("embargo",),
    "test_groups": ("n_test_blocks", "n_groups"),
    "test_fraction": ("test_size",),
}
# The name that stands for what the splitters of a class do.
CLASSES = {
    "StratifiedKFold": "stratified",
    "KFold": "kfold",
    "GroupKFold": "group",
    "GroupShuffleSplit": "group",
    "StratifiedGroupKFold": "stratified-group",
    "LeaveOneOut": "leave-one-out",
    "LeaveOneGroupOut": "leave-groups-out",
    "LeavePGroupsOut": "leave-groups-out",
    "ShuffleSplit": "monte-carlo",
    "StratifiedShuffleSplit": "monte-carlo",
    "RepeatedStratifiedKFold": "repeated-stratified",
    "RepeatedKFold": "repeated-kfold",
    "TimeSeriesSplit": "time-series",
    "PurgedTimeSeriesSplit": "time-series",
    "PurgedKFold": "purged",
    "CombinatorialPurgedKFold": "combinatorial-purged",
}


@dataclasses.dataclass(frozen=True)
class Splitting:
    """A splitter by name with its options; None leaves one as it is, and one that it does not have is refused.

    Attributes:
      splitter: its name, one of `SPLITTERS`.
      repeats: how often the repeated splitters divide the examples; 5 if left out.
      gap: number of examples left out before a test part of time-series.
      horizon: time until a label is known (dates: days); training labels that reach a test part are purged.
      embargo: time after a purged test part (dates: days) in which no training example starts.
      test_groups: tested at once: groups of leave-groups-out (1), time blocks of combinatorial-purged (2).
      test_fraction: share that monte-carlo and holdout test; 0.2 if left out.
    """

    splitter: str = "auto"
    repeats: int | None = None
    gap: int | None = None
    horizon: float | None = None
    embargo: float | None = None
    test_groups: int | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def options_of(self, kind: str) -> dict[str, Any]:
        """What the splitter `kind` takes, by name; empty for most.

        Raises:
          InputError: for an option that it does not have.
        """
        for name, kinds in OPTIONS.items():
            if (value := getattr(self, name)) is not None and kind not in kinds:
                raise InputError(
                    f"{name} is {value}, but the splitter '{kind}' has no such option; it is for {' and '.join(kinds)}"
                )
        held = {name: (getattr(self, name), which[kind]) for name, which in OPTIONS.items() if kind in which}
        return {name: default if value is None else value for name, (value, default) in held.items()}


def name_of_class(kind: str) -> str | None:
    """The name of `SPLITTERS` for a manifest's ``kind``, a name or a class; None for a class that is not known."""
    return kind if kind in SPLITTERS else CLASSES.get(kind)


def is_timed(manifest: Mapping[str, Any]) -> bool:
    """Whether folds go by time, from their manifest; older ones say only of what kind they are."""
    return bool(manifest.get("timed", name_of_class(manifest["kind"]) in TIMED))


def describe_object(splitter: Any) -> tuple[str | None, dict[str, Any]]:
    """The name that stands for what a splitter object does, and its options; None and no options if it is not known."""
    names = (CLASSES.get(base.__name__) for base in type(splitter).__mro__)
    name = next((name for name in names if name), None)
    options = {}
    for option in (option for option, kinds in OPTIONS.items() if name in kinds):
        value = next((getattr(splitter, a) for a in ATTRIBUTES[option] if hasattr(splitter, a)), None)
        if isinstance(value, np.timedelta64 | timedelta):
            value = as_days(value)
        if isinstance(value, Real) and not (option == "test_fraction" and value >= 1):  # there scikit-learn counts
            options[option] = int(value) if isinstance(value, Integral) else float(value)
    if getattr(splitter, "ends", None) is not None:
        options.pop("horizon", None)  # the ends are in its place
    return name, options


def make_splitter(
    kind: str,
    folds: int,
    seed: int,
    *,
    stratified: bool = True,
    splitting: Splitting | None = None,
    times: np.ndarray | None = None,
    ends: np.ndarray | None = None,
) -> Any:
    """The splitter that a name stands for, which scikit-learn's functions take.

    Args:
      kind: one of `SPLITTERS` but ``auto``.
      folds: how many, a repeat; of combinatorial-purged the blocks of time. Those of `OWN_NUMBER` have their own.
      seed: of shuffling; splitters over time never shuffle.
      stratified: whether monte-carlo and holdout keep the shares of strata, such as classes.
      splitting: see `Splitting`.
      times: of the examples, for purging.
      ends: when each label was known, instead of a horizon.

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
    shuffled = sk.StratifiedShuffleSplit if stratified else sk.ShuffleSplit
    repeats, test_groups, gap = held.get("repeats"), held.get("test_groups"), held.get("gap")
    purging = {"times": times, "ends": ends, "horizon": held.get("horizon") if ends is None else 0}
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


def check_possible(
    source: Source, kind: str, folds: int, options: dict[str, Any], times: Any, strata: np.ndarray | None
) -> None:
    """Raises InputError where `source` lacks what the splitter needs, in words that scikit-learn does not have.

    What a message advises can be done: `times` and groups are looked at first, then numbers, then classes.
    """
    check_count("folds", folds, 1)
    if kind in GROUPED and source.groups is None:
        raise InputError(
            f"{source.name} has no groups; the splitter '{kind}' needs one for every example. Without groups use "
            "--splitter auto or kfold"
        )
    if kind in TIMED and times is None:
        raise InputError(
            f"{source.name} has no times; the splitter '{kind}' needs one for every example. Without times use "
            "--splitter auto or kfold"
        )
    if kind == "leave-one-out" and len(source) > MOST_FOLDS:
        raise InputError(f"leave-one-out makes a fold of each of {len(source)} examples; expected at most {MOST_FOLDS}")
    if kind not in (*OWN_NUMBER, "monte-carlo") and folds + (kind == "time-series") > len(source):
        advice = _fewer_folds(len(source) - (kind == "time-series"), kind, strata)
        raise InputError(f"{source.name} has {len(source)} examples, too few for {folds} folds", advice)
    if kind in GROUPED:
        distinct = len(set(source.groups.tolist()))
        if distinct < 2:
            raise InputError(f"{source.name} has a single group; the splitter '{kind}' needs 2 or more")
        if kind == "leave-groups-out":
            _check_groups_out(source, distinct, options["test_groups"])
        elif distinct < folds:
            raise InputError(f"{source.name} has {distinct} groups, fewer than {folds} folds; use --folds {distinct}")
    if "stratified" in kind:
        _check_stratified(source, kind, folds, strata)


def _fewer_folds(most: int, kind: str, strata: np.ndarray | None) -> str:
    """What to do where there are too few examples: a number of folds that the splitter then makes, up to `most`."""
    if most < 2:
        return "add examples"
    if kind in ("stratified", "repeated-stratified") and strata is not None:
        counts = np.bincount(strata)
        if (rarest := int(counts[counts > 0].min())) < 2:
            return f"use --splitter {UNSTRATIFIED[kind]} and --folds {most} or fewer"
        most = min(most, rarest)
    return f"use --folds {most} or fewer"


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
            f"{MOST_FOLDS} folds. Use the splitter 'group' with up to {distinct} folds"
        )


def _check_stratified(source: Source, kind: str, folds: int, strata: np.ndarray | None) -> None:
    other = UNSTRATIFIED[kind]
    if strata is None:
        raise InputError(f"{source.name} has no classes to stratify by; use the splitter '{other}'")
    counts = np.bincount(strata)
    rarest = int(np.flatnonzero(counts == counts[counts > 0].min())[0])
    if counts[rarest] < folds:
        # fewer folds always serve plain classes; with groups, a fold may still come out empty
        fewer = f"--folds {counts[rarest]} or " if counts[rarest] >= 2 and kind != "stratified-group" else ""
        name = dict(enumerate(source.class_names)).get(rarest, rarest)  # strata of a task may be no classes
        raise InputError(
            f"class '{name}' of {source.name} has {counts[rarest]} examples, fewer than {folds} folds; use "
            f"{fewer}--splitter {other}"
        )
