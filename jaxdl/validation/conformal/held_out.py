"""From held-out outputs to sets and intervals: of new examples by an ensemble of folds, and of the folds' own."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.tasks import Task
from jaxdl.tasks.conformal import IntervalScore, SetScore
from jaxdl.validation.conformal.comparison import (
    check_coverage,
    check_enough,
    choose,
    interval_ends,
    p_values,
    p_values_by_class,
)
from jaxdl.validation.conformal.sets import Basis, PredictionIntervals, PredictionSets
from jaxdl.validation.result import DECISION_VALUES, OutOfFold, Result
from jaxdl.validation.splitters import is_timed

BY = ("example", "class", "group")
OTHERWISE = {
    "class": "or leave out the coverage by class",
    "group": "or ask for it by example, which is about examples of the same groups",
}


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What the members of an ensemble said of the examples that they tested, with which new ones are compared.

    Attributes:
      rows: the out-of-fold outputs; `fold` is the number of the member.
      cautions: why sets made of them may hold the truth less often, in sentences.
    """

    rows: OutOfFold
    cautions: tuple[str, ...] = ()


def held_out_of(result: Result, members: Sequence[int]) -> HeldOut | None:
    """What a result keeps for the sets and intervals of its ensemble; None where the task has neither.

    Args:
      result: of a cross-validation.
      members: the folds whose networks are the members, in their order.
    """
    if not result.asked.CONFORMAL or result.outputs == DECISION_VALUES:
        return None
    rows = result.out_of_fold
    rows = rows.take(np.isin(rows.fold, members))
    order = np.argsort(members)
    place = order[np.searchsorted(np.sort(members), rows.fold)]
    return HeldOut(dataclasses.replace(rows, fold=place), _cautions(result))


def _cautions(result: Result) -> tuple[str, ...]:
    """What breaks the exchangeability on which all rests."""
    found = []
    if result.caution:
        found.append("The folds that gave the calibration scores also chose the configuration.")
    if is_timed(result.split):
        found.append("The folds go by time: later examples need not be like earlier ones, so nothing is guaranteed.")
    if leaked := [leak["name"] for leak in result.leaks if leak["examples"] and not leak["caution"]]:
        found.append(f"The folds' networks knew something of what they tested (allowed leaks: {', '.join(leaked)}).")
    return tuple(found)


def covering_of(
    task: Task,
    held: HeldOut,
    kept: Sequence[Any],
    coverage: float,
    by: str | None,
    score: str | None,
    kind: type[SetScore] | type[IntervalScore] | None = None,
    **more: Any,
) -> PredictionSets | PredictionIntervals:
    """Sets or intervals of new examples, by CV+.

    Args:
      task: of the members.
      held: what new examples are compared with.
      kept: what each member says of the new examples, see `tasks.Task.predict`.
      coverage: how often the truth should be held.
      by: one of `BY`, or None for groups where there are any, else examples.
      score: one of the task's `CONFORMAL`, or None.
      kind: of score, so that what is made is what was asked for; None for what the task has.
      more: fields of `sets.Covering`.

    Raises:
      InputError: if the task has no such score, or there are too few calibration examples.
    """
    found, basis, unit = prepare(task, held, len(kept), coverage, by, score, kind)
    rows = held.rows
    if isinstance(found, SetScore):
        candidates = np.stack([found.candidates(one) for one in kept])
        p = _compare(candidates, found.candidates(rows.kept), rows.target, rows.fold, unit, basis.by == "class")
        return PredictionSets(coverage, basis, choose(p, coverage), p, task.names, **more)
    residuals = _finite(np.abs(rows.target - found.centres(rows.kept)))
    low, high = interval_ends(_finite(np.stack(list(map(found.centres, kept)))), residuals, rows.fold, unit, coverage)
    return PredictionIntervals(coverage, basis, low, high, **more)


def prepare(
    task: Task,
    held: HeldOut,
    members: int,
    coverage: float,
    by: str | None,
    score: str | None,
    kind: type[SetScore] | type[IntervalScore] | None = None,
) -> tuple[SetScore | IntervalScore, Basis, np.ndarray]:
    """The score, what all rests on, and the unit of each calibration row: all that can be refused is refused here.

    Arguments and errors as of `covering_of`; `members` is their number.
    """
    found = _score_of(task, score, kind)
    return found, *_basis(held, task, coverage, by, members)


def sets_of_folds(result: Result, coverage: float, by: str | None = None, score: str | None = None) -> PredictionSets:
    """The set of each held-out row, made of what the other folds held out: a check of classes, groups and sizes.

    Each row is compared with the scores that other networks gave to other examples. That the truth is held about as
    often as asked is nearly so by construction; how often in each class and group is not, nor how large the sets are.

    Args:
      result: of a cross-validation.
      coverage: see `sets_of`, as `by` and `score`.

    Returns:
      Sets of the rows of ``result.out_of_fold``, in their order.

    Raises:
      InputError: as `sets_of`.
    """
    task, rows = result.asked, result.out_of_fold
    found = _score_of(task, score, SetScore)
    basis, unit = _basis_of_folds(result, coverage, by)
    candidates = found.candidates(rows.kept)
    p = np.empty(candidates.shape)
    for mine, others in _parts(rows, unit):
        strange, nobody = candidates[others], np.zeros(others.sum(), int)
        p[mine] = _compare(
            candidates[None, mine], strange, rows.target[others], nobody, unit[others], basis.by == "class"
        )
    return PredictionSets(coverage, basis, choose(p, coverage), p, task.names, targets=rows.target)


def intervals_of_folds(
    result: Result, coverage: float, by: str | None = None, score: str | None = None
) -> PredictionIntervals:
    """The interval of each held-out row; as `sets_of_folds`."""
    task, rows = result.asked, result.out_of_fold
    found = _score_of(task, score, IntervalScore)
    basis, unit = _basis_of_folds(result, coverage, by)
    centres = _finite(found.centres(rows.kept))
    ends = np.empty((2, len(centres)))
    for mine, others in _parts(rows, unit):
        residuals, nobody = np.abs(rows.target - centres)[others], np.zeros(others.sum(), int)
        ends[:, mine] = interval_ends(centres[None, mine], residuals, nobody, unit[others], coverage)
    return PredictionIntervals(coverage, basis, *ends, targets=rows.target)


def _compare(
    candidates: np.ndarray, strange: np.ndarray, target: np.ndarray, member: np.ndarray, unit: np.ndarray, each: bool
) -> np.ndarray:
    """``p[n, classes]`` of ``candidates[members, n, classes]`` beside calibration rows ``strange[rows, classes]``."""
    rows = _finite(strange)[np.arange(len(target)), target], member, unit
    return p_values_by_class(_finite(candidates), *rows, target) if each else p_values(_finite(candidates), *rows)


def _parts(rows: OutOfFold, unit: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each fold its rows, and those of units that it does not test."""
    for fold in np.unique(rows.fold):
        mine = rows.fold == fold
        yield mine, ~np.isin(unit, unit[mine])


def _score_of(task: Task, score: str | None, kind: type[SetScore] | type[IntervalScore] | None) -> Any:
    found = task.conformal(score)
    if kind is not None and not isinstance(found, kind):
        right, wrong = ("sets", "intervals") if isinstance(found, SetScore) else ("intervals", "sets")
        raise InputError(f"{task.name} has prediction {right}, and no {wrong}; ask for {right}")
    return found


def _basis_of_folds(result: Result, coverage: float, by: str | None) -> tuple[Basis, np.ndarray]:
    rows = result.out_of_fold
    held = HeldOut(rows, _cautions(result))
    basis, unit = _basis(held, result.asked, coverage, by, len(result.folds))
    for _, others in _parts(rows, unit):  # what is left without the fold must be enough, too
        least, what = _fewest(unit[others], rows.target[others], result.asked, basis.by, basis.unit)
        check_enough(least, coverage, f"{what} outside each fold", OTHERWISE.get(basis.by, ""))
        basis = dataclasses.replace(basis, plus=False, units=min(basis.units, least))
    return basis, unit


def _basis(held: HeldOut, task: Task, coverage: float, by: str | None, folds: int) -> tuple[Basis, np.ndarray]:
    """What the sets rest on, and the unit of each calibration row. Raises InputError where that is too little."""
    check_coverage(coverage)
    rows = held.rows
    grouped = rows.group is not None
    by = by or ("group" if grouped else "example")
    check_choice("coverage by", by, BY)
    if by == "group" and not grouped:
        raise InputError(
            "the examples of the folds have no groups, so that there is no coverage by group; ask for it by example or "
            "class, or cross-validate with groups"
        )
    if by == "class" and not isinstance(task.conformal(), SetScore):
        raise InputError(f"there is no coverage by class, since {task.name} has no classes; leave it out")
    unit, word = (rows.group, "group") if grouped and by != "example" else (rows.index, "example")
    least, what = _fewest(unit, rows.target, task, by, word)
    check_enough(least, coverage, what, OTHERWISE.get(by, ""))
    cautions = held.cautions
    if grouped and by == "example":
        cautions += ("Examples of a group are alike: this is about the groups that were there, not about new groups.",)
    return Basis(by, least, word, folds, cautions=cautions), unit


def _fewest(unit: np.ndarray, target: np.ndarray, task: Task, by: str, word: str) -> tuple[int, str]:
    """The number of units, of the rarest class where each is compared with its own; and what they are."""
    if by != "class":
        return len(np.unique(unit)), f"calibration {word}s"
    counts = [len(np.unique(unit[target == c])) for c in range(len(task.names))]
    rarest = int(np.argmin(counts))
    return counts[rarest], f"calibration {word}s of each class ('{task.names[rarest]}' has fewest)"


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise InputError("some predictions are not finite, so that there are no sets or intervals; train again")
    return values
