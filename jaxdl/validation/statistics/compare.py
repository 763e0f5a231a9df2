"""Results on the same folds, compared pair by pair."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.shown import Shown
from jaxdl.tasks.metric import Metric
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.pair_tests import corrected_t, mcnemar, out_of_fold, paired_bootstrap
from jaxdl.validation.statistics.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

Test = Literal["corrected-t", "out-of-fold", "mcnemar", "bootstrap"]
TESTS = get_args(Test)
POWER = 0.8  # of the difference that the data could have shown, see `Pair.detectable`


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two results.

    Attributes:
      first, second: their names.
      difference: of their scores, first less second: of the means over folds for the t-test, else of the pooled rows.
      p: of the test, for a difference of 0.
      low, high: interval of the difference, by the same test; of level 1 - alpha, for this pair alone. None where
        there is nothing to make it from, as for the same predictions.
      adjusted: `p` by Holm's correction for all pairs.
      shown: whether a difference was shown, `adjusted` at most alpha. Where it was not, the difference may still be
        anything in the interval: no difference shown is not shown to be no difference.
      detectable: what this data could have shown: the true difference that the test would find in `POWER` of such
        experiments, at the strictest level of Holm's correction. None where there is no interval.
    """

    first: str
    second: str
    difference: float
    p: float
    low: float | None
    high: float | None
    adjusted: float
    shown: bool
    detectable: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Of `compare`.

    Attributes:
      metric: that is compared; every result is scored by it, also one whose own metric is another.
      test: by which.
      alpha: chance of finding a difference anywhere where there is none.
      scores: mean over folds by name, the best first; where a fold has no score, that of all rows.
      folds: score of each fold by name.
      letters: by name; between results that share a letter no difference was shown.
      pairs: all of them.
      groups: how many there are, which the test took whole; None without groups, or of a test of folds.
      cautions: by name why a score is too good, of results that were chosen by the folds that score them.
      other_metrics: by name the metric of each result whose own is not `metric`.
      baselines: by name the score of each fold of other models, see `Result.baselines`; empty where it is not known.
    """

    metric: str
    test: str
    alpha: float
    scores: Mapping[str, float]
    folds: Mapping[str, Sequence[float]]
    letters: Mapping[str, str]
    pairs: Sequence[Pair]
    groups: int | None = None
    cautions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    other_metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each pair: the fields of `Pair`."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(pair) for pair in self.pairs])

    def _facts(self) -> dict[str, Any]:
        scores = ", ".join(f"{name} {score:.4g}" for name, score in self.scores.items())
        return {"metric": self.metric, "scores": scores, "test": self.test, "groups": self.groups}

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the score of a fold is None where the metric is not defined on it."""
        known = {name: [None if math.isnan(s) else s for s in scores] for name, scores in self.folds.items()}
        return dataclasses.asdict(self) | {"folds": known}


def compare(
    results: Mapping[str, Result],
    *,
    metric: str | Callable[..., float] | Metric | None = None,
    test: Test = "corrected-t",
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Which of several results on the same folds differ?

    Args:
      results: by name; at least two.
      metric: see `Result.sample`; by default that of the first result. All results are scored by it, from their
        held-out predictions.
      test: ``corrected-t``: the t-test of the differences fold by fold, whose variance is corrected for training parts
        that overlap (Nadeau & Bengio 2003). ``out-of-fold``: of the held-out examples, paired, with an allowance for
        training parts that overlap, see `pair_tests.out_of_fold`; with few folds it tells more. ``mcnemar``: of
        accuracies, exact, on the examples that one gets right and the other wrong (McNemar 1947), in whole groups where
        there are groups: see `mcnemar`. ``bootstrap``: examples are drawn again, or groups where there are groups, with
        all their rows in both results. The last two take the trained networks as given, and say nothing of other
        training examples.
      alpha: level of the letters, for all pairs together (Holm 1979).
      seed: of the bootstrap.

    Raises:
      InputError: for fewer than two results, or results of other folds or another task, or a metric that
        the test is not for.
    """
    check_choice("test", test, TESTS)
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; expected a level between 0 and 1, such as 0.05")
    if len(results) < 2:
        raise InputError(f"there are {len(results)} results to compare; expected at least 2")
    _check_alike(results)
    first = next(iter(results.values()))
    chosen = first.asked.find_metric(first.metric if metric is None else metric)
    samples, groups = _samples(results, chosen)
    means = {name: sample.fold_scores.mean() for name, sample in samples.items()}
    means = {name: samples[name].pooled_score if np.isnan(mean) else mean for name, mean in means.items()}
    order = sorted(samples, key=lambda name: -chosen.sign * means[name])
    pairs = _tested([(name, samples[name]) for name in order], test, alpha, seed)
    different = {(pair.first, pair.second) for pair in pairs if pair.shown}
    return Comparison(
        metric=chosen.name,
        test=test,
        alpha=alpha,
        scores={name: float(means[name]) for name in order},
        folds={name: samples[name].fold_scores.tolist() for name in order},
        letters=letters(order, different),
        pairs=pairs,
        groups=None if test == "corrected-t" else groups,
        cautions={name: results[name].caution for name in order if results[name].caution},
        other_metrics={name: result.metric for name, result in results.items() if result.metric != chosen.name},
        baselines=next((found for result in results.values() if (found := _baselines(result, chosen.name))), {}),
    )


def _baselines(result: Result, metric: str) -> dict[str, Sequence[float | None]]:
    return {one["name"]: one["folds"][metric] for one in result.baselines or () if metric in one["folds"]}


def _tested(samples: Sequence[tuple[str, Sample]], test: str, alpha: float, seed: int) -> list[Pair]:
    """Every pair, in order."""
    places = list(combinations(range(len(samples)), 2))
    every = [sample for _, sample in samples]
    if test == "bootstrap":
        found = paired_bootstrap(every, places, alpha, seed)
    else:
        judge = {"corrected-t": corrected_t, "out-of-fold": out_of_fold, "mcnemar": mcnemar}[test]
        found = [judge(every[one], every[other], alpha) for one, other in places]
    adjusted = holm([p for _, p, *_ in found])
    degrees = (len(every[0].test) if test == "corrected-t" else every[0].units) - 1
    return [
        Pair(
            samples[one][0],
            samples[other][0],
            *row,
            float(corrected),
            shown=bool(corrected <= alpha),
            detectable=detectable_difference(row[2], row[3], degrees, alpha, len(places)),
        )
        for (one, other), row, corrected in zip(places, found, adjusted, strict=True)
    ]


def detectable_difference(
    low: float | None, high: float | None, degrees: int, alpha: float, pairs: int = 1
) -> float | None:
    """The true difference that a t-test finds in `POWER` of all experiments whose standard error is the one found here.

    The test statistic then has a noncentral t distribution (Cohen 1988, chapter 2): that of (Z + shift) ÷ S, whose
    distribution is averaged over quantiles of S here, since scipy's gives NaN far from the centre.

    Args:
      low, high: interval of the difference, of level 1 - alpha; None where there is none.
      degrees: of freedom, of the test and of the interval.
      alpha: level of the interval.
      pairs: how many are tested; the test is of level alpha ÷ pairs, Holm's strictest.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2, norm, t

    if low is None or high is None or degrees < 1 or high <= low:
        return None
    error = (high - low) / 2 / t.ppf(1 - alpha / 2, degrees)
    quantiles = (np.arange(2000) + 0.5) / 2000
    least = t.ppf(1 - alpha / pairs / 2, degrees) * np.sqrt(chi2.ppf(quantiles, degrees) / degrees)

    def lacking(shift: float) -> float:
        return float(np.mean(norm.sf(least - shift) + norm.cdf(-least - shift))) - POWER

    return float(brentq(lacking, 0.0, least.max() + 10) * error)


def _samples(results: Mapping[str, Result], metric: Metric) -> tuple[dict[str, Sample], int | None]:
    """By name, with the same units, and how many groups there are; a result of an older release may know none."""
    samples = {name: result.sample(metric) for name, result in results.items()}
    known = [result.out_of_fold.group for result in results.values() if result.out_of_fold.group is not None]
    if not known:
        return samples, None
    return {n: dataclasses.replace(s, unit=known[0]) for n, s in samples.items()}, len(np.unique(known[0]))


def _check_alike(results: Mapping[str, Result]) -> None:
    (name, first), *others = results.items()
    for other, result in others:
        mine, theirs = first.out_of_fold, result.out_of_fold
        # only said: the same data may be called by two paths
        own, given = _data_said(first), _data_said(result)
        data = "" if own == given else f" The first is of {own}, the second of {given}."
        if said := first.asked.differs_from(result.asked):
            raise InputError(
                f"'{name}' and '{other}' were asked different things and cannot be compared. They differ in {said}."
                f"{data} Expected runs of one task on the same data"
            )
        same_rows = np.array_equal(mine.index, theirs.index) and np.array_equal(mine.fold, theirs.fold)
        if result.split["sha256"] != first.split["sha256"] or not same_rows:
            raise InputError(
                f"'{name}' and '{other}' use other folds (split {first.split['sha256'][:12]}… and "
                f"{result.split['sha256'][:12]}…).{data} Run one again on the folds of the other, for example with the "
                "same --data, --splitter, --folds and --seed"
            )
        if not all(map(np.array_equal, jax.tree.leaves(mine.target), jax.tree.leaves(theirs.target))):
            raise InputError(
                f"'{name}' and '{other}' have other labels for the same examples.{data} Expected the same data"
            )
    grouped = {name: r.out_of_fold.group for name, r in results.items() if r.out_of_fold.group is not None}
    for other, group in grouped.items():
        if not np.array_equal(group, next(iter(grouped.values()))):
            raise InputError(f"'{next(iter(grouped))}' and '{other}' have other groups; expected the same data")


def _data_said(result: Result) -> str:
    return f"{result.data['examples']} examples of {result.data['name']}"


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for how many there are (Holm 1979): the chance of any false finding stays below alpha."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def letters(names: Sequence[str], different: set[tuple[str, str]]) -> dict[str, str]:
    """A compact letter display (Piepho 2004, insert and absorb): two share a letter where no difference is shown.

    Args:
      names: in the order in which letters are given out.
      different: pairs with a difference that is shown.
    """
    groups: list[frozenset[str]] = [frozenset(names)]
    for one, other in sorted(different):
        divided = []
        for group in groups:
            divided += [group - {one}, group - {other}] if {one, other} <= group else [group]
        kept = [g for i, g in enumerate(divided) if not any(g < o or (g == o and j < i) for j, o in enumerate(divided))]
        groups = [group for group in kept if group]
    place = {name: i for i, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(place[name] for name in group))
    signs = [_sign(i) for i in range(len(groups))]
    return {name: "".join(sign for sign, group in zip(signs, groups, strict=True) if name in group) for name in names}


def _sign(number: int) -> str:
    """a, b, …, z, a2, b2, …"""
    return chr(ord("a") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")
