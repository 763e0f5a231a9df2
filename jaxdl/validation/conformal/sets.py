"""Prediction sets and intervals: what they hold, how large they are, and how often they hold the truth."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.shown import Shown
from jaxdl.tasks.columns import distinct
from jaxdl.tasks.metric import percent
from jaxdl.validation.conformal.comparison import check_coverage, check_enough, choose, guaranteed

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95  # of the interval of an observed coverage


def _share(coverage: float) -> str:
    """What was asked for, with the digits that it was asked with."""
    return f"{100 * coverage:.6g} %"


@dataclasses.dataclass(frozen=True)
class Basis:
    """What sets or intervals rest on.

    Attributes:
      by: what the coverage is of: ``"example"``, ``"class"`` (each class by itself), or ``"group"`` (a new group).
      units: number of calibration units: examples or groups; for classes, of the class that has fewest.
      unit: what a unit is called, ``"example"`` or ``"group"``.
      folds: how many.
      plus: whether each member was compared with its own fold (CV+), so that something is guaranteed; else each example
        of a fold was compared with the other folds, which checks them.
      cautions: why the truth may be held less often, in sentences.
    """

    by: str
    units: int
    unit: str
    folds: int
    plus: bool = True
    cautions: tuple[str, ...] = ()

    def meaning(self, coverage: float, what: str, truth: str) -> str:
        """In words.

        Args:
          coverage: that was asked for.
          what: ``"sets"`` or ``"intervals"``.
          truth: what they hold, such as ``"the true class"``.
        """
        often, alike = (
            f"{_share(coverage)} of the {what}",
            "if these come from the same source as the training examples",
        )
        said = {
            "example": f"About {often} of new examples hold {truth}, {alike}",
            "class": f"Of each class about {often} of new examples hold {truth}, {alike}",
            "group": f"About {often} of examples of new groups hold {truth}, each group counting alike, {alike}",
        }[self.by]
        calibrated = f"{self.units} calibration {self.unit}s{' of the rarest class' if self.by == 'class' else ''}"
        if not self.plus:
            return f"{said} ({calibrated})."
        least = percent(guaranteed(coverage, self.units, self.folds))
        return (
            f"{said}; at least {least} whatever the network (CV+, {calibrated} in {self.folds} folds). This is an "
            "average: for some kinds of examples it may be less."
        )


@dataclasses.dataclass(frozen=True)
class Observed:
    """How often the truth was held.

    Attributes:
      share: of the examples.
      count: of the examples.
      low, high: exact 95 % interval of Clopper & Pearson, for independent examples; NaN without examples.
    """

    share: float
    count: int
    low: float
    high: float

    def __str__(self) -> str:
        ends = f"{percent(self.low)} to {percent(self.high)}"
        return f"{percent(self.share)} of {self.count} examples ({percent(LEVEL, decimals=0)} binomial interval {ends})"


def observe(covered: np.ndarray) -> Observed:
    """The share of ``covered``, ``bool[n]``, with its interval."""
    from scipy.stats import binomtest

    held, count = int(np.sum(covered)), len(covered)
    if not count:
        return Observed(np.nan, 0, np.nan, np.nan)
    ends = binomtest(held, count).proportion_ci(LEVEL, "exact")
    return Observed(held / count, count, float(ends.low), float(ends.high))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Covering(Shown):
    """What sets and intervals have in common.

    Attributes:
      coverage: how often the truth should be held, from 0 to 1.
      basis: what this rests on.
      targets: the truth of each example, or None.
      seen: which examples a member was trained on, ``bool[n]``: their sets are too small, and none is counted in
        `observed`. None if there are none.
    """

    coverage: float
    basis: Basis
    targets: Any = dataclasses.field(default=None, kw_only=True)
    seen: np.ndarray | None = dataclasses.field(default=None, kw_only=True)

    WHAT = "sets"
    TRUTH = "the truth"

    @property
    def covered(self) -> np.ndarray | None:
        """Whether each holds the truth, ``bool[n]``; None where that is not known."""
        return None if self.targets is None else self._held()

    @property
    def observed(self) -> Observed | None:
        """How often the truth was held of examples that no member was trained on; None where it is not known."""
        covered = self.covered
        if covered is None or (self.seen is not None and self.seen.all()):
            return None
        return observe(covered if self.seen is None else covered[~self.seen])

    @property
    def meaning(self) -> str:
        """What the coverage means, in words."""
        return self.basis.meaning(self.coverage, self.WHAT, self.TRUTH)

    @property
    def cautions(self) -> list[str]:
        """Why the truth may be held less often than that, in sentences."""
        found = list(self.basis.cautions)
        if self.seen is not None and self.seen.any():
            found.append(
                f"{int(self.seen.sum())} of the {len(self.seen)} examples were trained on by a member of the ensemble: "
                f"their {self.WHAT} are too small, and are not counted."
            )
        if self.basis.unit == "group" and self.observed is not None:
            found.append(
                "The binomial interval takes examples for independent; those of a group are not: it is too narrow."
            )
        return found

    def columns(self) -> dict[str, list[Any]]:
        """Columns of a table, by name."""
        raise NotImplementedError

    def to_frame(self) -> "pd.DataFrame":
        """A row for each example: `columns` and, where the truth is known, whether it is held (``covered``)."""
        import pandas as pd

        return pd.DataFrame(self.columns() | ({} if self.covered is None else {"covered": self.covered}))

    def _facts(self) -> dict[str, Any]:
        observed = self.observed
        share = None if observed is None else f"{observed.share:.4g} of {observed.count}"
        size = self.sizes_said()[0].partition(": ")[2]
        return {"coverage": self.coverage, "by": self.basis.by, "observed": share, "size": size}

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    def _held(self) -> np.ndarray:
        raise NotImplementedError

    def __str__(self) -> str:
        """Size, coverage and meaning, for print."""
        observed = [] if self.observed is None else [f"coverage: {self.observed}"]
        return "\n".join([*self.sizes_said(), *observed, self.meaning, *(f"Caution: {c}" for c in self.cautions)])

    def sizes_said(self) -> list[str]:
        """How large they are, in lines."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PredictionSets(Covering):
    """Of each example the classes that may be true.

    A set may be empty: then every class would be stranger than nearly all calibration examples were.

    Attributes:
      holds: whether each class is in the set, ``bool[n, classes]``.
      p_values: see `comparison.p_values`; a class is in the set where it is above 1 - coverage.
      names: of the classes.
    """

    holds: np.ndarray
    p_values: np.ndarray
    names: tuple[str, ...]

    TRUTH = "the true class"

    @property
    def size(self) -> np.ndarray:
        """How many classes are in each set, ``int[n]``."""
        return self.holds.sum(1)

    @property
    def classes(self) -> list[list[str]]:
        """The names of the classes in each set, those that are least strange first."""
        names, order = distinct(self.names), np.argsort(-self.p_values, axis=1, kind="stable")
        return [[names[c] for c in row if holds[c]] for row, holds in zip(order, self.holds, strict=True)]

    def at(self, coverage: float) -> "PredictionSets":
        """The sets at another coverage. Raises InputError if there are too few calibration examples for it."""
        check_coverage(coverage)
        check_enough(self.basis.units, coverage, f"calibration {self.basis.unit}s")
        return dataclasses.replace(self, coverage=coverage, holds=choose(self.p_values, coverage))

    def _held(self) -> np.ndarray:
        targets = np.asarray(self.targets)  # -1 for a class that is not known, which no set holds
        return (targets >= 0) & self.holds[np.arange(len(targets)), targets]

    @property
    def separator(self) -> str:
        """What stands between the names of a set in a table: ``|``, so often that no name holds it."""
        mark = "|"
        while any(mark in name for name in self.names):
            mark += "|"
        return mark

    def columns(self) -> dict[str, list[Any]]:
        """Columns of a table: ``set`` and ``set_size``."""
        return {"set": [self.separator.join(row) for row in self.classes], "set_size": self.size.tolist()}

    def sizes_said(self) -> list[str]:
        """Mean size, and the shares of empty sets, of one, two, and more classes."""
        counts = np.bincount(np.minimum(self.size, 3), minlength=4)
        shares = [
            f"{word} {percent(count / len(self.size))} ({count})"
            for word, count in zip(("empty", "one class", "two", "three or more"), counts, strict=True)
            if count or word == "empty"
        ]
        mean = f"{self.size.mean():.2f} of {len(self.names)} classes on average"
        said = [f"sets at coverage {_share(self.coverage)}: {mean}; {', '.join(shares)}"]
        if counts[0]:
            said.append(
                "A set is empty where no class is as probable as is usual for a true one. A higher coverage makes "
                "fewer of them, the score 'adaptive' none."
            )
        return said


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PredictionIntervals(Covering):
    """Of each example the numbers that may be true.

    Attributes:
      low, high: ends, ``float64[n]``.
    """

    low: np.ndarray
    high: np.ndarray

    WHAT = "intervals"
    TRUTH = "the true number"

    @property
    def width(self) -> np.ndarray:
        """``float64[n]``; an interval whose ends have crossed is empty, and has none."""
        return np.maximum(self.high - self.low, 0)

    def _held(self) -> np.ndarray:
        return (self.low <= self.targets) & (self.targets <= self.high)

    def columns(self) -> dict[str, list[Any]]:
        """Columns of a table: ``low`` and ``high``."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    def sizes_said(self) -> list[str]:
        """Mean width, and the narrowest and widest."""
        width = self.width
        return [
            f"intervals at coverage {_share(self.coverage)}: {width.mean():.4g} wide on average, from "
            f"{width.min():.4g} to {width.max():.4g}"
        ]
