"""Splitters for labels that take time to be known: purged and embargoed (López de Prado 2018, chapters 7 and 12).

The label of an example that is taken at time t is often known only later, at its end: whether a machine fails within a
week, what a share returns over ten days. Where that interval of a training example touches the interval of a test
example, both were decided in part by the same events, and the test is too easy. These splitters leave such training
examples out (purging), and those that begin shortly after a test part, whose features still echo it (embargo).
Scikit-learn's functions take them wherever they take a splitter.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any, Self

import numpy as np

from jaxdl.errors import InputError

MOST_FOLDS = 10_000
MICROSECONDS_A_DAY = 86_400_000_000
FARTHEST, LONGEST = 2.0**62, 2.0**60  # so that a moment and two durations stay below what int64 holds
EXACT_FLOATS = 2.0**53  # up to which float64 holds every whole number
LARGEST_DENOMINATOR = 10**6  # of a duration such as 0.1 or 1/3, which float64 holds only nearly


@dataclasses.dataclass(frozen=True, eq=False)
class OverTime:
    """What splitters over time share.

    Attributes:
      times: when each example was taken, numbers or datetime64 ``[n]`` in any order.
      ends: when each label was known, in the same form and never before `times`; instead of `horizon`.
      horizon: time from every example until its label was known, in the unit of `times`; of dates a timedelta, or days.
    """

    _: dataclasses.KW_ONLY
    times: Sequence[Any] | np.ndarray = dataclasses.field(repr=False)
    ends: Sequence[Any] | np.ndarray | None = dataclasses.field(default=None, repr=False)
    horizon: Any = 0

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of training and test indices, each in the order of time.

        Raises:
          InputError: if `X` and the times are not as many, or nothing is left to train on.
        """
        starts, ends, reach = self._intervals()
        count = X.shape[0] if hasattr(X, "shape") else len(X)
        if count != len(starts):
            raise InputError(f"there are {count} examples but {len(starts)} times; expected one for each example")
        order = np.argsort(starts, kind="stable")
        for fold, (allowed, tested) in enumerate(self._parts(len(starts))):
            free = _free(starts[order], ends[order], reach[order], tested)
            train, test = order[allowed & free], order[tested]
            if len(train) == 0:
                raise InputError(
                    f"fold {fold} has nothing left to train on: every label interval touches its test part. Use fewer "
                    "or smaller test parts, a shorter horizon or embargo, or more examples"
                )
            yield train, test

    def _parts(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks over the examples in order of time: those that may be trained on, and those that are tested."""
        raise NotImplementedError

    def take(self, indices: np.ndarray) -> Self:
        """The same splitter for some of the examples: their times and ends."""
        ends = None if self.ends is None else np.asarray(self.ends)[indices]
        return dataclasses.replace(self, times=np.asarray(self.times)[indices], ends=ends)

    def _intervals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[n]`` each: start and end of every label, and until when no training example starts after it is tested.

        They are int64 or float64 of numbers, datetime64[us] of dates.
        """
        starts = _moments("times", self.times)
        embargo = _duration("embargo", getattr(self, "embargo", 0), starts.dtype)
        if self.ends is None:
            horizon = _duration("horizon", self.horizon, starts.dtype)
            return starts, _later(starts, horizon), _later(starts, horizon + embargo)
        if self.horizon != 0:
            raise InputError("both ends and a horizon are given; expected one of them")
        ends = _moments("ends", self.ends)
        if len(ends) != len(starts) or (ends.dtype.kind == "M") != (starts.dtype.kind == "M"):
            raise InputError(
                f"ends are {ends.dtype}[{len(ends)}] and times {starts.dtype}[{len(starts)}]; expected as many of one "
                "kind"
            )
        if len(early := np.flatnonzero(ends < starts)):
            i = early[0]
            raise InputError(f"the label of example {i} ends at {ends[i]}, before it starts at {starts[i]}")
        return starts, ends, _later(ends, embargo)


@dataclasses.dataclass(frozen=True, eq=False)
class PurgedKFold(OverTime):
    """K blocks of time, each tested once by what was trained on the others, purged and embargoed (chapter 7.4).

    Attributes:
      n_splits: number of blocks, as equal as can be.
      times: see the module, as `ends` and `horizon`.
      embargo: a training example must not start until this long after the last label of a test block was known; in the
        unit of `horizon`.
    """

    n_splits: int = 5
    _: dataclasses.KW_ONLY
    embargo: Any = 0

    def __post_init__(self) -> None:
        check_count("n_splits", self.n_splits, 2)
        self._intervals()

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits

    def _parts(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        blocks = _blocks(count, self.n_splits)
        for block in range(self.n_splits):
            yield blocks != block, blocks == block


@dataclasses.dataclass(frozen=True, eq=False)
class CombinatorialPurgedKFold(OverTime):
    """Every choice of `n_test_blocks` among `n_blocks` blocks of time is tested once (chapter 12.4).

    There are C(n, k) folds, and each example is tested in C(n - 1, k - 1) of them.

    Attributes:
      n_blocks: into how many blocks, as equal as can be, the examples are cut.
      n_test_blocks: how many of them a fold tests.
      times: see the module, as `ends` and `horizon`.
      embargo: see `PurgedKFold`.
    """

    n_blocks: int = 6
    n_test_blocks: int = 2
    _: dataclasses.KW_ONLY
    embargo: Any = 0

    def __post_init__(self) -> None:
        check_count("n_blocks", self.n_blocks, 2)
        check_count("n_test_blocks", self.n_test_blocks, 1)
        if self.n_test_blocks >= self.n_blocks:
            raise InputError(
                f"n_test_blocks is {self.n_test_blocks}; expected fewer than the {self.n_blocks} blocks, or nothing is "
                "left to train on"
            )
        if (folds := self.get_n_splits()) > MOST_FOLDS:
            raise InputError(
                f"{self.n_test_blocks} of {self.n_blocks} blocks can be chosen in {folds} ways; expected at most "
                f"{MOST_FOLDS} folds"
            )
        self._intervals()

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return math.comb(self.n_blocks, self.n_test_blocks)

    def _parts(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        blocks = _blocks(count, self.n_blocks)
        for chosen in itertools.combinations(range(self.n_blocks), self.n_test_blocks):
            tested = np.isin(blocks, chosen)
            yield ~tested, tested


@dataclasses.dataclass(frozen=True, eq=False)
class PurgedTimeSeriesSplit(OverTime):
    """Forward in time as scikit-learn's ``TimeSeriesSplit``, and training labels that reach a test part are purged.

    Attributes:
      n_splits: number of test parts, each trained on all that came before it.
      gap: examples left out right before a test part, purged or not.
      times: see the module, as `ends` and `horizon`.
    """

    n_splits: int = 5
    _: dataclasses.KW_ONLY
    gap: int = 0

    def __post_init__(self) -> None:
        check_count("n_splits", self.n_splits, 2)
        check_count("gap", self.gap, 0)
        self._intervals()

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits

    def _parts(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.model_selection import TimeSeriesSplit

        for train, test in TimeSeriesSplit(self.n_splits, gap=self.gap).split(np.zeros(count)):
            masks = np.zeros((2, count), bool)
            masks[0, train], masks[1, test] = True, True
            yield masks[0], masks[1]


def check_count(what: str, value: Any, least: int) -> None:
    """Raises InputError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise InputError(f"{what} is {value!r}; expected a whole number")
    if value < least:
        raise InputError(f"{what} is {value}; expected at least {least}")


def _blocks(count: int, blocks: int) -> np.ndarray:
    """The block of each of `count` examples in a row; as scikit-learn's KFold, the first ones are longer by one."""
    if blocks > count:
        raise InputError(f"there are {count} examples, too few for {blocks} blocks")
    return np.repeat(np.arange(blocks), [count // blocks + (block < count % blocks) for block in range(blocks)])


def _free(starts: np.ndarray, ends: np.ndarray, reach: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Whose label interval touches that of no tested example, lengthened by the embargo; all are in order of start.

    An interval that starts at s and ends at e touches [s', r'] if s ≤ r' and s' ≤ e (both ends belong to it). Of the
    tested ones that start no later than e, the one that reaches farthest decides.
    """
    test_starts, farthest = starts[tested], np.maximum.accumulate(reach[tested])
    begun = np.searchsorted(test_starts, ends, side="right")  # how many tested ones start no later than each end
    return (begun == 0) | (starts > farthest[np.maximum(begun - 1, 0)])


def _moments(what: str, values: Any) -> np.ndarray:
    """``[n]`` as int64 where all are whole numbers, else float64; of dates datetime64[us]."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iufM":
        raise InputError(
            f"{what} are {array.dtype}{list(array.shape)}; expected one number or date for each example (numbers or "
            "numpy's datetime64)"
        )
    if array.dtype.kind == "M":
        array = array.astype("datetime64[us]")
        wrong = np.isnat(array) | (np.abs(array.astype(np.int64)) >= FARTHEST)
    else:
        array = array.astype(np.int64 if np.can_cast(array.dtype, np.int64) else np.float64)
        wrong = ~np.isfinite(array) | (np.abs(array) >= FARTHEST)
    if wrong.any():
        raise InputError(f"{what} hold {array[wrong][0]} at index {np.flatnonzero(wrong)[0]}; expected a time")
    whole = array.dtype.kind == "f" and ((np.abs(array) <= EXACT_FLOATS) & (array == np.floor(array))).all()
    return array.astype(np.int64) if whole else array


def _duration(what: str, value: Any, dtype: np.dtype) -> Fraction:
    """`value` in the unit of times of `dtype`, of dates in microseconds, without a rounding error."""
    dates = dtype.kind == "M"
    if isinstance(value, np.timedelta64 | timedelta):
        if not dates:
            raise InputError(f"{what} is {value!r} but the times are numbers; expected a number in their unit")
        value = as_days(value)
    expected = "days from 0 (or a timedelta)" if dates else "a time from 0 in the unit of the times"
    most = LONGEST / MICROSECONDS_A_DAY if dates else LONGEST
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not 0 <= value < most:
        raise InputError(f"{what} is {value!r}; expected {expected}")
    if isinstance(value, Rational):
        exact = Fraction(int(value.numerator), int(value.denominator))
    else:
        exact = Fraction(float(value))
        simple = [exact.limit_denominator(LARGEST_DENOMINATOR)]
        if dates:
            simple.append(Fraction(round(exact * MICROSECONDS_A_DAY), MICROSECONDS_A_DAY))
        exact = next((one for one in simple if float(one) == value), exact)  # 0.1 is meant as a tenth
    return exact * MICROSECONDS_A_DAY if dates else exact


def as_days(value: timedelta | np.timedelta64) -> float:
    """A duration in days, the unit of horizons and embargoes of dates."""
    return float(np.timedelta64(value) / np.timedelta64(1, "D"))


def _later(moments: np.ndarray, duration: Fraction) -> np.ndarray:
    """`moments` plus `duration`; of whole moments the last whole one within it: none lies between it and the sum."""
    if moments.dtype.kind == "f":
        return moments + float(duration)
    whole = math.floor(duration)
    return moments + (np.timedelta64(whole, "us") if moments.dtype.kind == "M" else whole)
