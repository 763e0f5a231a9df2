"""Which of several results on the same folds to take, and how much luck there is in the best of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.tasks.metric import NoInterval
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.compare import compare
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

    def reversed(self) -> "Difference":
        """Second less first."""
        ends = (None, None) if self.low is None else (-self.high, -self.low)
        return Difference(-self.value, *ends)


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
    differences = {(pair.first, pair.second): Difference(pair.difference, pair.low, pair.high) for pair in found.pairs}
    differences |= {(second, first): one.reversed() for (first, second), one in differences.items()}
    beaten_by = {
        name: [other for other in order if other != name and differences[other, name].beats(sign)] for name in order
    }
    unbeaten = [name for name in order if not beaten_by[name]] or order[:1]
    chosen = min(unbeaten, key=lambda name: kinds[name])  # the first of equals, which is the best of them
    best = order[0]
    to_best = {name: None if name == best else differences[name, best] for name in results}
    return Choice(chosen, best, {name: beaten_by[name] for name in results}, to_best)


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
