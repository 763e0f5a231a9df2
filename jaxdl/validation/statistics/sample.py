"""The held-out rows of a result and one metric: its scores, what each row adds to their error, and scores of draws.

Everything that intervals and comparisons need, for any metric, by its kind.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.tasks.metric import ENTRIES, Metric, NoInterval, Pairs, Ranks, Record, Sums, mean_of_defined

BLOCKS = 200  # at most as many blocks of units are left out


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Held-out rows.

    Attributes:
      metric: that scores them.
      record: of all rows, see `tasks.metric`.
      fold: of each row, from 0 to K - 1.
      unit: the group of each row, or the example where there are none: what is independent.
      index: the example of each row; an example may be tested by several folds.
      train: number of training examples of each fold, ``[K]``.
      test: number of test examples of each fold, ``[K]``.
      timed: whether the folds go by time, so that even units are not independent.
    """

    metric: Metric
    record: Record
    fold: np.ndarray
    unit: np.ndarray
    index: np.ndarray
    train: np.ndarray
    test: np.ndarray
    timed: bool = False

    @cached_property
    def place(self) -> np.ndarray:
        """The number of each row's unit, ``int[n]`` from 0; identities are the units of pairs."""
        units = self.record["identity"] if isinstance(self.metric, Pairs) else self.unit
        return np.unique(units, return_inverse=True)[1]

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.place.max()) + 1

    @cached_property
    def pooled_score(self) -> float:
        """The score of all rows together; of a metric that is averaged, the mean over the folds that have one."""
        if self.metric.averaged:
            return float(mean_of_defined(self.fold_scores))
        return self.metric.score(self.record)

    @cached_property
    def fold_scores(self) -> np.ndarray:
        """``float64[K]``; NaN where a fold has none."""
        if isinstance(self.metric, Sums):
            return self.metric.of_sums(_added(self._columns, self.fold, len(self.test)))
        return np.array([metric.score(_take(self.record, rows)) for metric, rows in self.parts])

    @cached_property
    def deviations(self) -> np.ndarray:
        """What each row adds to the error of `pooled_score`, ``float64[n]``.

        Added within units, and their squares added, they give the variance of the score over other test examples.
        With one unit, or where the score is undefined, they are NaN.

        Raises:
          InputError: for a metric that has no interval.
        """
        if isinstance(self.metric, NoInterval):
            raise InputError(f"the metric '{self.metric.name}' has no interval; choose another one")
        if self.units < 2 or np.isnan(self.pooled_score):
            return np.full(len(self.fold), np.nan)
        if isinstance(self.metric, Ranks) and self.metric.influence is not None:
            return self._influence()
        if isinstance(self.metric, Sums) and not self.metric.averaged:
            return self.metric.influence(self._columns) * np.sqrt(self.units / (self.units - 1))
        return self._left_out()

    def _influence(self) -> np.ndarray:
        """Of ranks with a closed form, fold by fold or pooled."""
        parts = self.parts if self.metric.averaged else [(self.metric, np.arange(len(self.fold)))]
        found, known = np.zeros(len(self.fold)), 0
        for metric, rows in parts:
            part = metric.influence(_take(self.record, rows))
            if np.isnan(part).any():
                continue
            count = len(np.unique(self.place[rows]))
            # the closed form is unbiased for single rows; of units with several rows there are fewer
            found[rows] += part * np.sqrt(count / max(count - 1, 1) if count < len(rows) else 1.0)
            known += 1
        return found / known if known else np.full(len(found), np.nan)

    def _left_out(self) -> np.ndarray:
        """The jackknife: the score without each block of units, at random and of about equal size."""
        count = min(self.units, BLOCKS)
        order = np.random.default_rng(0).permutation(self.units)
        block = np.empty(self.units, int)
        block[order] = np.arange(self.units) % count
        mine = block[self.place]
        scores = np.array([self._without(mine == one) for one in range(count)])
        changes = (mean_of_defined(scores) - scores) * np.sqrt((count - 1) / count)
        # a block's part is divided among its units so that the sum of their squares is its square
        sizes, rows = np.bincount(block), np.bincount(self.place)
        return np.nan_to_num(changes)[mine] / np.sqrt(sizes[mine]) / rows[self.place]

    def _without(self, gone: np.ndarray) -> float:
        if not self.metric.averaged:
            return self.metric.score(_take(self.record, ~gone))
        scores = self.fold_scores.copy()
        for one in np.unique(self.fold[gone]):
            metric, rows = self.parts[one]
            kept = rows[~gone[rows]]
            scores[one] = metric.score(_take(self.record, kept)) if len(kept) else np.nan
        return float(mean_of_defined(scores))

    @property
    def variance(self) -> float:
        """Of `pooled_score` over other test examples, see `deviations`."""
        return float(np.square(self.by_unit(self.deviations)).sum())

    def by_unit(self, values: np.ndarray) -> np.ndarray:
        """`values` of rows, added within units."""
        return np.bincount(self.place, values, minlength=self.units)

    def drawn_scores(self, draws: int, seed: int) -> np.ndarray:
        """The score of `draws` samples of as many units, drawn with replacement: ``float64[draws]``."""
        return scores_of_draws([self], draws, seed)[0]

    def scores_of(self, counts: np.ndarray) -> np.ndarray:
        """The score where each unit counts so often, ``float64[draws, units]``: ``float64[draws]``."""
        if isinstance(self.metric, Sums) and not self.metric.averaged:
            return self.metric.of_sums(counts @ self._columns_by_unit)
        if not self.metric.averaged:
            return self.metric.scores(self.record, counts[:, self.place])
        scores = [metric.scores(_take(self.record, rows), counts[:, self.place[rows]]) for metric, rows in self.parts]
        return mean_of_defined(np.array(scores))

    @cached_property
    def width(self) -> int:
        """How many numbers a draw needs."""
        rows = 0 if isinstance(self.metric, Sums) and not self.metric.averaged else 4 * len(self.fold)
        return self.units + rows

    @cached_property
    def _columns(self) -> Any:
        return self.metric.columns(self.record)

    @cached_property
    def _columns_by_unit(self) -> np.ndarray:
        return _added(self._columns, self.place, self.units)

    @cached_property
    def parts(self) -> list[tuple[Metric, np.ndarray]]:
        """Of each fold the metric, with what it takes from the other folds, and its rows."""
        rows = [np.flatnonzero(self.fold == one) for one in range(len(self.test))]
        if type(self.metric).fitted is Metric.fitted:  # it takes nothing from the other folds
            return [(self.metric, mine) for mine in rows]
        parts = []
        for one, places in enumerate(rows):
            mine = self.fold == one
            # rows of an example that the fold tests do not influence what it is measured by
            others = ~np.isin(self.index, self.index[mine])
            parts.append((self.metric.fitted(_take(self.record, others), self.fold[others]), places))
        return parts


def scores_of_draws(samples: Sequence[Sample], draws: int, seed: int) -> np.ndarray:
    """Scores of the same draws of units for each of several samples with the same units, ``float64[samples, draws]``.

    Draws are made and scored in chunks, so that memory stays bounded for any number of rows.
    """
    units = samples[0].units
    found = [
        np.array([sample.scores_of(counts) for sample in samples])
        for counts in drawn_counts(units, draws, seed, max(sample.width for sample in samples))
    ]
    return np.concatenate(found, 1)


def drawn_counts(units: int, draws: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, ``float64[chunk, units]`` until there are `draws`, at most `ENTRIES` at a time."""
    rng, chunk = np.random.default_rng(seed), max(1, ENTRIES // max(width, units))
    for begin in range(0, draws, chunk):
        size = min(chunk, draws - begin)
        yield rng.multinomial(units, np.full(units, 1 / units), size=size).astype(np.float64)


def _added(columns: Any, place: np.ndarray, count: int) -> np.ndarray:
    """Rows of `columns` added by their place, ``float64[count, p]``."""
    from scipy.sparse import csr_array, issparse

    rows = len(place)
    indicator = csr_array((np.ones(rows), (place, np.arange(rows))), shape=(count, rows))
    added = indicator @ columns
    return added.toarray() if issparse(added) else added


def _take(record: Record, rows: np.ndarray) -> Record:
    return {key: values[rows] for key, values in record.items()}
