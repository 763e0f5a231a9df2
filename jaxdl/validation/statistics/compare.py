"""Results on the same folds, compared pair by pair."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import drawn_weights, expanded_p, pooled

Test = Literal["corrected-t", "mcnemar", "bootstrap"]
TESTS = get_args(Test)
DRAWS = 4000  # of the paired bootstrap


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two results.

    Attributes:
      first, second: their names.
      difference: of their scores, first less second: of the means over folds for the t-test, else of the pooled rows.
      p: of the test, for a difference of 0.
      adjusted: `p` by Holm's correction for all pairs.
    """

    first: str
    second: str
    difference: float
    p: float
    adjusted: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Of `compare`.

    Attributes:
      metric: that is compared.
      test: by which.
      alpha: chance of finding a difference anywhere where there is none.
      scores: mean over folds by name, the best first.
      folds: score of each fold by name.
      letters: by name; results that share a letter do not differ.
      pairs: all of them.
      groups: how many there are, which the test took whole; None without groups, or of a test that goes by folds.
      cautions: by name why a score is too good, of results that were chosen by the folds that score them.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def compare(
    results: Mapping[str, Result], *, test: Test = "corrected-t", alpha: float = 0.05, seed: int = 0
) -> Comparison:
    """Which of several results on the same folds differ?

    Args:
      results: by name; at least two.
      test: ``corrected-t``: the t-test of the differences fold by fold, whose variance is corrected for training parts
        that overlap (Nadeau & Bengio 2003). ``mcnemar``: of classes, exact, on the examples that one gets right and the
        other wrong (McNemar 1947), in whole groups where there are groups: see `mcnemar`. ``bootstrap``: examples are
        drawn anew, or groups where there are groups, with all their rows in both results. The latter two take the
        trained networks as given, and say nothing of other training examples.
      alpha: level of the letters, for all pairs together (Holm 1979).
      seed: of the bootstrap.

    Raises:
      InputError: for fewer than two results, or such as rest on other folds or measure something else.
    """
    check_choice("test", test, TESTS)
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; expected a level between 0 and 1, such as 0.05")
    if len(results) < 2:
        raise InputError(f"there is {len(results)} result to compare; expected at least 2")
    _check_alike(results)
    first = next(iter(results.values()))
    if test == "corrected-t" and len(first.folds) < 2:
        raise InputError("the corrected t-test needs 2 folds or more; use the test 'bootstrap'")
    if test == "mcnemar" and not first.class_names:
        raise InputError("McNemar's test is for classes; of numbers use 'corrected-t' or 'bootstrap'")
    scores = {name: np.array([fold[first.metric] for fold in r.folds]) for name, r in results.items()}
    order = sorted(results, key=lambda name: -scores[name].mean())
    units, groups = _units(results)
    count = len(np.unique(units))
    weights = drawn_weights(units, DRAWS, seed) if test == "bootstrap" else None
    judge: Callable[[Result, Result], tuple[float, float]] = {
        "corrected-t": corrected_t,
        "mcnemar": lambda a, b: mcnemar(a, b, units),
        "bootstrap": lambda a, b: paired_bootstrap(a, b, weights, count),
    }[test]
    found = [(a, b, *judge(results[a], results[b])) for a, b in combinations(order, 2)]
    adjusted = holm([p for *_, p in found])
    pairs = [Pair(*row, float(corrected)) for row, corrected in zip(found, adjusted, strict=True)]
    different = {(pair.first, pair.second) for pair in pairs if pair.adjusted <= alpha}
    return Comparison(
        metric=first.metric,
        test=test,
        alpha=alpha,
        scores={name: float(scores[name].mean()) for name in order},
        folds={name: scores[name].tolist() for name in order},
        letters=letters(order, different),
        pairs=pairs,
        groups=None if test == "corrected-t" else groups,
        cautions={name: results[name].caution for name in order if results[name].caution},
    )


def _units(results: Mapping[str, Result]) -> tuple[np.ndarray, int | None]:
    """What is independent from row to row, and how many groups there are; a result of an older release has none."""
    known = [result.out_of_fold.group for result in results.values() if result.out_of_fold.group is not None]
    if not known:
        return next(iter(results.values())).out_of_fold.index, None
    return known[0], len(np.unique(known[0]))


def _check_alike(results: Mapping[str, Result]) -> None:
    (name, first), *others = results.items()
    for other, result in others:
        if result.metric != first.metric or result.class_names != first.class_names:
            raise InputError(
                f"'{name}' measures {first.metric} of {len(first.class_names)} classes, '{other}' {result.metric} of "
                f"{len(result.class_names)}; results of the same task can be compared"
            )
        mine, theirs = first.out_of_fold, result.out_of_fold
        same_rows = np.array_equal(mine.index, theirs.index) and np.array_equal(mine.fold, theirs.fold)
        if result.split["sha256"] != first.split["sha256"] or not same_rows:
            raise InputError(
                f"'{name}' and '{other}' rest on other folds (split {first.split['sha256'][:12]}… and "
                f"{result.split['sha256'][:12]}…); run one again on the folds of the other, for example with the same "
                "--data, --splitter, --folds and --seed"
            )
        if not np.array_equal(mine.label, theirs.label):
            raise InputError(f"'{name}' and '{other}' have other labels for the same examples; expected the same data")
    grouped = {name: r.out_of_fold.group for name, r in results.items() if r.out_of_fold.group is not None}
    for other, group in grouped.items():
        if not np.array_equal(group, next(iter(grouped.values()))):
            raise InputError(f"'{next(iter(grouped))}' and '{other}' have other groups; expected the same data")


def corrected_t(first: Result, second: Result) -> tuple[float, float]:
    """Mean difference of the folds' scores, and the p of the corrected resampled t-test (Nadeau & Bengio 2003)."""
    from scipy.stats import t

    metric = first.metric
    pairs = zip(first.folds, second.folds, strict=True)
    differences = np.array([one[metric] - other[metric] for one, other in pairs])
    mean, variance, k = differences.mean(), differences.var(ddof=1), len(differences)
    if variance == 0:
        return float(mean), float(mean == 0)
    share = np.mean([fold["test"] / fold["train"] for fold in first.folds])
    statistic = mean / np.sqrt((1 / k + share) * variance)
    return float(mean), float(2 * t.sf(abs(statistic), k - 1))


def mcnemar(first: Result, second: Result, units: np.ndarray) -> tuple[float, float]:
    """Difference of the pooled accuracies and the p of the exact test, over examples that are tested once.

    Where two results are equally good, they may be exchanged, and with them the sign of how many more examples of a
    unit one of them gets right. Of all these exchanges p is the share with a difference as large as that found. Units
    of one example make it McNemar's exact test. With whole groups as units its large-sample form is Obuchowski's
    ("On the comparison of correlated proportions for clustered data", 1998); McNemar's own would count the examples of
    a group, which are right and wrong together, as so many that are independent.

    Args:
      first, second: of the same folds.
      units: the example or group of each row.
    """
    held, other = first.out_of_fold, second.out_of_fold
    if len(np.unique(held.index)) < len(held.index):
        raise InputError("McNemar's test wants each example tested once; of repeated folds use 'corrected-t'")
    ahead = (held.predicted == held.label).astype(int) - (other.predicted == other.label)
    _, place = np.unique(units, return_inverse=True)
    sums = np.round(np.bincount(place, ahead)).astype(int)
    return float(ahead.mean()), sign_test(sums)


def sign_test(values: np.ndarray) -> float:
    """Share of all 2^n choices of signs whose sum of ± values is as far from 0 as that of `values`, whole numbers."""
    from scipy.stats import binom

    total, sizes = abs(int(values.sum())), np.abs(values)
    chances = np.ones(1)  # of the sum of those with a plus, from 0 on
    for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True):
        step = np.zeros(size * count + 1)
        step[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, step)
    signed = 2 * np.arange(len(chances)) - int(sizes.sum())
    return float(min(1.0, chances[np.abs(signed) >= total].sum()))


def paired_bootstrap(first: Result, second: Result, weights: np.ndarray, count: int) -> tuple[float, float]:
    """Difference of the pooled scores, and the p of it over drawn `weights` ``[draws, rows]`` of `count` units."""
    drawn = pooled(first, weights) - pooled(second, weights)
    every = np.ones((1, weights.shape[1]))
    found = float((pooled(first, every) - pooled(second, every))[0])
    if count < 2:
        return found, 1.0
    low, high = (drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1  # the sample itself is one of the draws
    p = min(1.0, 2 * min(low, high) / (len(drawn) + 1))
    return found, expanded_p(p, count)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for how many there are (Holm 1979): the chance of any false finding stays below alpha."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def letters(names: Sequence[str], different: set[tuple[str, str]]) -> dict[str, str]:
    """A compact letter display (Piepho 2004, insert and absorb): two share a letter where they do not differ.

    Args:
      names: in the order in which letters are given out.
      different: pairs that differ.
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
