"""What a metric is: a score of records, and of which kind, so that its statistics are written once for all tasks.

A record holds a few arrays with one row per example (`Record`). A metric turns a weighted record into one number. Its
kind says how: a function of sums over rows (`Sums`, `Mean`), of rows in sorted order (`Ranks`), of pairs of rows
(`Pairs`), any function of a user (`tasks.user_metric.Function`), or a score without an interval (`NoInterval`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from jaxdl.errors import InputError

Record = Mapping[str, np.ndarray]
Scale = Literal["plain", "share", "distance"]
STEP = 1e-3  # of the differences that give a derivative, as a share of the sum of absolute values
ENTRIES = 4_000_000  # of the largest array that is made at once: 32 MB
MOST_PAIRS = 20_000_000  # within one fold


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """A score of a record.

    Attributes:
      name: of the metric.
      higher_is_better: whether a larger score is the better one.
      bounds: smallest and largest possible score.
      best: the score of a perfect model.
      scale: on which the interval is symmetric: ``plain``: the score itself; ``share``: as Wilson's interval of a
        share, between `bounds`; ``distance``: the logarithm of the distance from `best`.
      averaged: whether the score of a cross-validation is the mean over folds; else the rows of all folds are pooled.
      undefined: why a score can be NaN.
      reads: keys of the record that it needs; empty if it may read all of them.
      note: a sentence that a reader of its values needs, such as the convention of a score that has several.
    """

    name: str
    _: dataclasses.KW_ONLY
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-np.inf, np.inf)
    best: float = 1.0
    scale: Scale = "plain"
    averaged: bool = False
    undefined: str = "the score is not defined for these examples"
    reads: tuple[str, ...] = ()
    note: str = ""

    @property
    def sign(self) -> int:
        """What scores are multiplied by so that a larger one is better: 1 or -1."""
        return 1 if self.higher_is_better else -1

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        """The score of the rows, each counted `weights[n]` times (once if None); NaN where it is undefined."""
        raise NotImplementedError

    def scores(self, record: Record, weights: np.ndarray) -> np.ndarray:
        """The score under each of the weightings ``[draws, n]``: ``float64[draws]``."""
        return np.array([self.score(record, row) for row in weights])

    def fitted(self, record: Record, fold: np.ndarray) -> "Metric":
        """The metric with everything chosen that it takes from the rows of other folds; most take nothing."""
        return self


SHARE = dict(bounds=(0.0, 1.0), scale="share")  # of a metric that is a share
# of one that says how far an answer is off: 0 at best, without a largest value
ERROR = dict(higher_is_better=False, best=0.0, bounds=(0.0, np.inf), scale="distance")


def _counted(weights: np.ndarray | None, n: int) -> np.ndarray:
    """``float64[n]``: once each where nothing is said."""
    return np.ones(n) if weights is None else np.asarray(weights, np.float64)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Sums(Metric):
    """A function of sums over rows, whose value does not change when all weights are multiplied by a number.

    Attributes:
      columns: gives ``float64[n, p]`` for a record, dense or a ``scipy.sparse.csr_array``.
      combine: gives the score for sums ``float64[..., p]`` of the columns, over any leading axes; NaN if undefined.
    """

    columns: Callable[[Record], Any]
    combine: Callable[[np.ndarray], np.ndarray]

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        columns = self.columns(record)
        return float(self.of_sums(_counted(weights, columns.shape[0]) @ columns))

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        """`combine`, silent where it divides by zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.combine(sums)

    def influence(self, columns: Any) -> np.ndarray:
        """The derivative of the score by the weight of each row, ``float64[n]``; it sums to 0.

        It is the gradient of `combine` at the sums, by five-point central differences whose error is about 1e-11,
        times the row.
        """
        ones = np.ones(columns.shape[0])
        sums, reach = ones @ columns, ones @ abs(columns)
        gradient = np.zeros(len(sums))
        moved = np.flatnonzero(reach > 0)
        few = max(1, ENTRIES // (4 * len(sums)))
        for begin in range(0, len(moved), few):
            places = moved[begin : begin + few]
            step = STEP * reach[places]
            at = np.repeat(sums[None], 4 * len(places), 0).reshape(4, len(places), -1)
            at[:, np.arange(len(places)), places] += np.array([-2.0, -1.0, 1.0, 2.0])[:, None] * step
            gradient[places] = np.array([1.0, -8.0, 8.0, -1.0]) @ self.of_sums(at) / (12 * step)
        return columns @ gradient


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Sums):
    """The mean of a value per example.

    Attributes:
      value: key of the record that holds the values ``[n]``, or a function that gives them for a record.
    """

    value: str | Callable[[Record], np.ndarray]
    columns: Callable[[Record], Any] = dataclasses.field(init=False)
    combine: Callable[[np.ndarray], np.ndarray] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self._columns)
        object.__setattr__(self, "combine", lambda sums: sums[..., 0] / sums[..., 1])
        if isinstance(self.value, str) and not self.reads:
            object.__setattr__(self, "reads", (self.value,))

    def values(self, record: Record) -> np.ndarray:
        """Of each example, ``float64[n]``."""
        return np.asarray(record[self.value] if isinstance(self.value, str) else self.value(record), np.float64)

    def _columns(self, record: Record) -> np.ndarray:
        values = self.values(record)
        return np.stack([values, np.ones_like(values)], 1)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Ranks(Metric):
    """A score of rows in sorted order; scores of different networks share no scale, so that folds are averaged.

    Attributes:
      rank: gives the score ``float[...]`` for a record and weights ``float64[..., n]``.
      influence: gives ``float64[n]`` for a record: each row's part in the score's error, so that the sum of their
        squares is its variance; without one, units are left out.
    """

    rank: Callable[[Record, np.ndarray], np.ndarray]
    influence: Callable[[Record], np.ndarray] | None = None
    averaged: bool = True

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        return float(self.rank(record, _counted(weights, len(next(iter(record.values()))))))

    def scores(self, record: Record, weights: np.ndarray) -> np.ndarray:
        return self.rank(record, weights)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pairs(Metric):
    """A score of pairs of rows: are two of the same identity? Pairs form within one fold.

    The record holds ``embedding`` ``[n, d]``, compared by the cosine, and ``identity`` ``[n]``. Identities are the
    units. A threshold is chosen once, on the pairs of the other folds, and kept when examples are drawn or left out:
    it is part of the model.

    Attributes:
      pair: gives the score for ``similarity[m]``, ``same`` ``bool[m]``, ``weights[m]`` (w_i · w_j) and a threshold.
      choose: gives the threshold for the first three of them; None if there is none.
      threshold: that was chosen.
    """

    pair: Callable[[np.ndarray, np.ndarray, np.ndarray, float | None], float]
    choose: Callable[[np.ndarray, np.ndarray, np.ndarray], float] | None = None
    threshold: float | None = None
    averaged: bool = True
    reads: tuple[str, ...] = ("embedding", "identity")

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        """NaN also where a threshold is needed and none was chosen; see `fitted`."""
        if self.choose is not None and self.threshold is None:
            return float("nan")
        return float(self.pair(*pairs_of(record, weights), self.threshold))

    def fitted(self, record: Record, fold: np.ndarray) -> "Pairs":
        """With the threshold that all pairs within a fold of the given rows choose."""
        if self.choose is None or not len(fold):
            return self
        parts = [pairs_of({key: record[key][fold == one] for key in self.reads}) for one in np.unique(fold)]
        return dataclasses.replace(self, threshold=self.choose(*map(np.concatenate, zip(*parts, strict=True))))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NoInterval(Metric):
    """A score with kinks or a bias under resampling, so that no interval of it is given.

    Attributes:
      measure: gives the score for a record and weights ``float64[n]``.
    """

    measure: Callable[[Record, np.ndarray], float]

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        return float(self.measure(record, _counted(weights, len(next(iter(record.values()))))))


def pairs_of(record: Record, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of rows with a weight: cosine ``float64[m]``, whether of the same identity ``bool[m]``, their weights.

    Raises:
      InputError: for more than `MOST_PAIRS` pairs.
    """
    identity = record["identity"]
    weights = _counted(weights, len(identity))
    rows = np.flatnonzero(weights > 0)
    if (count := len(rows) * (len(rows) - 1) // 2) > MOST_PAIRS:
        raise InputError(f"a fold has {len(rows)} examples, which make {count} pairs; expected at most {MOST_PAIRS}")
    embedding = np.asarray(record["embedding"], np.float64)[rows]
    embedding = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(len(rows), 1)
    same = identity[rows][first] == identity[rows][second]
    return (embedding @ embedding.T)[first, second], same, weights[rows][first] * weights[rows][second]


def percent(mean: float, std: float | None = None, *, decimals: int = 1) -> str:
    """A share in percent, as all texts write it: ``"96.7 ± 2.4 %"``, or ``"96.7 %"`` without a spread."""
    spread = "" if std is None else f" ± {100 * std:.{decimals}f}"
    return f"{100 * mean:.{decimals}f}{spread} %"


def mean_of_defined(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean along an axis over what is no NaN; NaN where everything is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis) / known.sum(axis)
