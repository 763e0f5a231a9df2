"""Which of several results on the same folds to take, and how much luck there is in the best of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.tasks.metric import NoInterval
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.compare import Pair, compare
from jaxdl.validation.statistics.pair_tests import LEAST_FOLDS
from jaxdl.validation.statistics.sample import Sample, drawn_counts

LEVEL = 0.95
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of the scores of two results.

    Attributes:
      value: first less second.
      low, high: its paired interval of level `LEVEL`; None where there is nothing to make it from.
    """

    value: float
    low: float | None
    high: float | None

    def beats(self, sign: float) -> bool:
        """Whether the interval lies on the side of the first; `sign` is -1 where a smaller score is the better."""
        return self.low is not None and min(sign * self.low, sign * self.high) > 0


@dataclasses.dataclass(frozen=True)
class Choice:
    """Of `choose`.

    Attributes:
      chosen: the name of the simplest that nothing beats, of equally simple ones the best.
      best: the name of the best score.
      beaten_by: by name those that beat it.
      to_best: by name the difference to the best; None of the best itself.
    """

    chosen: str
    best: str
    beaten_by: Mapping[str, Sequence[str]]
    to_best: Mapping[str, Difference | None]


def choose(results: Mapping[str, Result], kinds: Mapping[str, int]) -> Choice:
    """The simplest of several results that no other is shown to be better than.

    Args:
      results: by name, on the same folds, by the same metric.
      kinds: by name how simple it is: 0 is the simplest.

    Raises:
      InputError: for results of other folds, or a metric that has no difference to test.
    """
    first, *others = results
    if not others:
        return Choice(first, first, {first: []}, {first: None})
    timed = results[first].sample().timed and len(results[first].folds) >= LEAST_FOLDS  # examples are not independent
    found = compare(results, test="corrected-t" if timed else "out-of-fold", alpha=1 - LEVEL)
    sign, order = results[first].asked.find_metric(found.metric).sign, list(found.scores)
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}

    def difference(one: str, other: str) -> Difference:
        return _of_pair(pairs, one, other)

    beaten_by = {
        name: [other for other in order if other != name and difference(other, name).beats(sign)] for name in order
    }
    unbeaten = [name for name in order if not beaten_by[name]] or order[:1]
    chosen = min(unbeaten, key=lambda name: kinds[name])  # the first of equals, which is the best of them
    best = order[0]
    to_best = {name: None if name == best else difference(name, best) for name in results}
    return Choice(chosen, best, {name: beaten_by[name] for name in results}, to_best)


def _of_pair(pairs: Mapping[tuple[str, str], Pair], one: str, other: str) -> Difference:
    if (one, other) in pairs:
        pair = pairs[one, other]
        return Difference(pair.difference, pair.low, pair.high)
    pair = pairs[other, one]
    ends = (None, None) if pair.low is None else (-pair.high, -pair.low)
    return Difference(-pair.difference, *ends)


def score_without_luck(samples: Sequence[Sample], seed: int = 0) -> float | None:
    """The score to expect of the best of several results, without the luck of being chosen by the folds that score it.

    Held-out examples (or groups) are drawn with replacement; the best result on those drawn is scored on those that
    were not; the mean over draws is the estimate (BBC-CV: Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 2018). Nothing is trained
    again. None where the metric cannot be scored on a part of the examples, or there is a single one.

    Args:
      samples: of the results, on the same folds, by the same metric.
      seed: of the draws.
    """
    metric, units = samples[0].metric, samples[0].units
    if units < 2 or isinstance(metric, NoInterval):
        return None
    found = []
    for counts in drawn_counts(units, DRAWS, seed, max(sample.width for sample in samples)):
        drawn, others = (np.array([s.scores_of(c) for s in samples]) for c in (counts, (counts == 0).astype(float)))
        merit = np.where(np.isfinite(drawn), metric.sign * drawn, -np.inf)
        found.append(others[merit.argmax(0), np.arange(len(counts))])
    scores = np.concatenate(found)
    known = scores[np.isfinite(scores)]  # a draw may miss a class
    return float(known.mean()) if len(known) > DRAWS / 2 else None
