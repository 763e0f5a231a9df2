"""The interval of nested cross-validation: folds within folds measure how far a cross-validated score is off.

Bates, Hastie & Tibshirani, "Cross-validation: what does it estimate and how well does it do it?", JASA 2024. It is
about the network that is trained on all examples, and costs K(K - 1)/2 trainings more, as often as the examples are
divided.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.tasks.metric import Mean, Metric
from jaxdl.validation.result import Result
from jaxdl.validation.splits import Split, split_source
from jaxdl.validation.statistics.intervals import Interval, made_interval
from jaxdl.validation.statistics.sample import Sample

NESTED_REPEATS = 3  # times that the examples are divided, unless said
NESTED = "that of folds within folds, corrected for their smaller training parts"
LIKE = {"stratified": "stratified", "StratifiedKFold": "stratified", "kfold": "kfold", "KFold": "kfold"}

Run = Callable[[Split, str], Result]


def nested_interval(
    result: Result,
    source: Source,
    split: Split,
    run: Run,
    *,
    repeats: int,
    level: float = 0.95,
    metric: str | Metric | None = None,
) -> Interval:
    """The interval for `result`, of a metric that is a mean over examples, such as accuracy, log loss or mse.

    Args:
      result: of the folds of `split`.
      source: what was divided.
      split: see `check_nested`.
      run: cross-validates with the folds of a split as `result` was made, and keeps its state under a name.
      repeats: how often the examples are divided, the first time as in `split`. Few make the width uncertain.
      level: of the interval.
      metric: see `Result.sample`; by default that of the result.

    Raises:
      InputError: for a metric that is no mean over examples.
    """
    sample = result.sample(metric)
    check_mean(sample.metric)
    n, k = len(source), len(split)
    outer, fold = np.zeros((repeats, n)), np.zeros((repeats, n), int)
    inner = np.full((repeats, k, n), np.nan)
    for repeat in range(repeats):
        division = split if repeat == 0 else _again(source, split, repeat)
        held = sample if repeat == 0 else run(division, f"nested-{repeat}-folds").sample(sample.metric)
        outer[repeat, held.index], fold[repeat, held.index] = _values(held), held.fold
        pairs = list(combinations(range(k), 2))
        held = run(without_pairs(division, pairs), f"nested-{repeat}").sample(sample.metric)
        values = _values(held)
        for number, (one, other) in enumerate(pairs):
            mine = held.fold == number
            for left_out, tested in ((one, other), (other, one)):
                rows = mine & (fold[repeat, held.index] == tested)
                inner[repeat, left_out, held.index[rows]] = values[rows]
    centre, half = nested(outer, inner, fold, float(outer.mean()), level)
    return made_interval(sample, (centre - half, centre + half), level, "nested", centre, NESTED, train=n)


def nested(
    outer: np.ndarray, inner: np.ndarray, fold: np.ndarray, estimate: float, level: float = 0.95
) -> tuple[float, float]:
    """Centre and half width of the interval, for a score that is a mean over examples.

    Args:
      outer: of each repeat, the value of each example by the model that did not train on its fold, ``[repeats, n]``.
      inner: ``[repeats, K, n]``: the value of each example by the model that trained neither on its fold nor on fold k;
        NaN for the examples of fold k itself.
      fold: of each example, ``int[repeats, n]``.
      estimate: the mean of the ordinary cross-validation.
      level: of the interval.
    """
    from scipy.stats import norm

    _, k, n = inner.shape
    mine = fold[:, None, :] == np.arange(k)[:, None]
    sizes = mine.sum(-1)
    mean_outer = (outer[:, None] * mine).sum(-1) / sizes
    variance = (np.square(outer[:, None] - mean_outer[..., None]) * mine).sum(-1) / np.maximum(sizes - 1, 1) / sizes
    mean_inner = np.nanmean(inner, -1)
    error = float((np.square(mean_inner - mean_outer) - variance).mean())
    plain = float(outer.std(-1, ddof=1).mean() / np.sqrt(n))
    spread = np.sqrt((k - 1) / k * max(error, 0.0))
    spread = float(np.clip(spread, plain, plain * np.sqrt(k)))
    found = float(mean_inner.mean())
    centre = found - (1 + (k - 2) / k) * (found - estimate)
    return centre, float(norm.ppf((1 + level) / 2)) * spread


def check_nested(source: Source, split: Split, folds: int, repeats: int, metric: Metric) -> None:
    """Raises InputError where this interval says nothing: it is derived for examples that may change places.

    Args:
      source: what is divided.
      split: plain folds, stratified or not, each example tested once; three or more.
      folds: how many of them are trained.
      repeats: how often the examples are to be divided.
      metric: a mean over examples.
    """
    check_mean(metric)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"the repeats of nested are {repeats!r}; expected a whole number of at least 1")
    why = ""
    if source.groups is not None:
        why = f"the examples of {source.name} come in groups, and so are not independent"
    elif split.kind not in LIKE:
        why = f"the folds are those of '{split.kind}'; it is derived for 'stratified' and 'kfold'"
    elif len(split) < 3 or folds < len(split):
        why = f"{folds} of {len(split)} folds are trained; it takes all of 3 or more"
    elif sorted(np.concatenate(split.test)) != list(range(len(source))):
        why = "the folds do not test each example once"
    if why:
        raise InputError(f"the interval 'nested' does not hold here: {why}. Use 'auto'")


def extra_trainings(folds: int, repeats: int) -> int:
    """How many more than `folds` there are."""
    return repeats * folds * (folds - 1) // 2 + (repeats - 1) * folds


def without_pairs(split: Split, pairs: list[tuple[int, int]]) -> Split:
    """As many folds as `pairs`: each tests two of the folds of `split`, and trains on what both of them train on."""
    train = [np.intersect1d(split.train[one], split.train[other]) for one, other in pairs]
    test = [np.concatenate([split.test[one], split.test[other]]) for one, other in pairs]
    return Split(f"pairs of {split.kind}", split.seed, train, test, examples=split.examples)


def _again(source: Source, split: Split, repeat: int) -> Split:
    """The examples divided alike, by other draws."""
    return split_source(source, LIKE[split.kind], len(split), (split.seed or 0) + repeat)


def check_mean(metric: Metric) -> None:
    """Raises InputError unless a metric is a mean over examples, which is what the interval is derived for."""
    if not isinstance(metric, Mean):
        raise InputError(
            f"the interval 'nested' is derived for means over examples, which '{metric.name}' is not. Use 'auto', or a "
            "metric such as accuracy, log_loss or mse"
        )


def _values(held: Sample) -> np.ndarray:
    return held.metric.values(held.record)
