"""How the score grows with the number of training examples, and what more of them would bring."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.source import Source, check_source
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import Shown
from jaxdl.tasks import Metric, Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.crossval import Folds, run_folds
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.power_law import PowerLaw, describe_law, extrapolate
from jaxdl.validation.result import Result, finite, load_result
from jaxdl.validation.saving import Saved
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.told import DataTold, InitTold, PointTold, SplitTold
from jaxdl.validation.training_sizes import nested_parts, resolve_sizes
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import environment
from jaxdl.weights.files import from_plain, read_json, reading

if TYPE_CHECKING:
    import pandas as pd

CURVE, SIZES = "learning_curve.json", "sizes"
BUDGETS = ("steps", "epochs")
EPOCH_FIELDS = ("epochs", "warmup_epochs", "unfreeze_every", "early_stopping", "eval_every")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LearningCurve(Shown, Saved):
    """Of `learning_curve`.

    Attributes:
      metric: of which the points speak.
      points: by rising size ``asked`` (a number or a percentage, as text), ``size`` (mean number of training examples
        of a fold), ``mean``, ``std`` (between folds, None for one), ``folds`` (the score of each), ``interval``
        (see `statistics.intervals.Interval`; None where there is nothing to tell it from), ``epochs``, ``steps`` and
        ``seconds``.
      law: the power law through the errors with what it predicts, None where it would not be sound.
      why: how `law` was fitted, or why there is none.
      budget: what is the same at all sizes, ``steps`` or ``epochs``.
      split: the manifest of the folds at full size.
      plan: as given, as plain values; the epochs of a point are with it.
      data: ``{"name", "examples", "class_names"}``.
      init: where the folds started.
      environment: versions and devices.
      seconds: of the whole call.
      results: the `Result` at each size; `save` writes each to a folder of its own.
      best: the best value of the metric, from which `law` measures.
      higher_is_better: whether a larger score is the better one.
    """

    metric: str
    points: Sequence[PointTold]
    law: PowerLaw | None
    why: str
    budget: str
    split: SplitTold
    plan: Mapping[str, Any]
    data: DataTold
    init: InitTold
    environment: Mapping[str, Any]
    seconds: float
    results: Sequence[Result] = ()
    best: float = 1.0
    higher_is_better: bool = True

    def score_of(self, error: Any) -> Any:
        """The score that misses the best value by `error`."""
        return self.best - error if self.higher_is_better else self.best + error

    def to_frame(self) -> "pd.DataFrame":
        """A row for each size: ``asked``, ``size``, ``mean``, ``std``, and ``low`` and ``high`` of its interval."""
        import pandas as pd

        told, rows = ("asked", "size", "mean", "std"), []
        for point in self.points:
            ends = point.get("interval") or {}
            row = {name: point[name] for name in told} | {"low": ends.get("low"), "high": ends.get("high")}
            rows.append(row | {name: point.get(name) for name in ("epochs", "steps", "seconds")})
        return pd.DataFrame(rows)

    def _facts(self) -> dict[str, Any]:
        means = ("not defined" if point["mean"] is None else f"{point['mean']:.4g}" for point in self.points)
        sizes = ", ".join(f"{point['asked']}: {mean}" for point, mean in zip(self.points, means, strict=True))
        return {self.metric: sizes, "budget": self.budget, "data": self.data["name"]}

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """All but the results, for JSON."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "results"}
        return held | {"law": None if self.law is None else describe_law(self.law)}

    def write_to(self, folder: Path) -> None:
        """``learning_curve.json`` and ``sizes/SIZE/`` with a result each, into a folder that is there."""
        for point, result in zip(self.points, self.results, strict=False):
            place = folder / SIZES / str(point["asked"])
            place.mkdir(parents=True)
            result.write_to(place)
        (folder / CURVE).write_text(json.dumps(finite(self.as_dict()), indent=1) + "\n")


def load_learning_curve(path: str | Path) -> LearningCurve:
    """What `LearningCurve.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    path = place_of(path)
    if not (path / CURVE).is_file():
        raise InputError(f"'{path}' is not a learning curve: it has no {CURVE}")
    held = read_json(path / CURVE)
    with reading(path / CURVE):
        if (law := held.pop("law")) is not None:
            law.pop("formula")
            law = from_plain(PowerLaw, law)
        curve = from_plain(LearningCurve, held, law=law)
    return dataclasses.replace(curve, results=[load_result(path / SIZES / p["asked"]) for p in curve.points])


@check_arguments
@watched
def learning_curve(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    sizes: Sequence[Any] | str = "auto",
    budget: str = "steps",
    task: Task | str | None = None,
    metrics: Metrics = None,
    splitter: str | Splitting | Any = "auto",
    folds: int = 5,
    execution: Execution = Execution(),  # noqa: B008
) -> LearningCurve:
    """Cross-validation at growing numbers of training examples, always tested on the same ones.

    The training part of a fold is drawn from once for all sizes, so that a smaller one is part of every larger one.
    Strata such as classes keep their shares, each with an example at least; where there are groups, whole groups come
    one after another, as if fewer had been collected; of a series in time the latest examples are taken.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how to train each fold, at full size.
      sizes: numbers of training examples, shares of a fold's training part (0.25 or ``"25%"``), or both; ``auto``
        halves the training part up to four times while two examples a class, and ten in all, are left.
      budget: what is the same at all sizes. With ``steps`` small sizes are gone through more often, and every number of
        epochs in the plan (warm-up, early stopping and more) is stretched alike, so that they are not just trained
        less; with ``epochs`` the plan is taken as it is.
      task: see `cross_validate`, as `metrics`, `splitter`, `folds`.
      metrics: by what it is scored.
      splitter: of the folds.
      folds: for a splitter by name.
      execution: how the run is executed. The fold strategy ``auto`` is chosen at the largest size and kept for the
        others; the rows that `progress` gets also have their ``size`` and the steps ``in_all``.

    Raises:
      InputError: as `cross_validate`, and for a size that cannot be had.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    question = choose_task(check_source(source), task, metrics, purpose="a learning curve")
    check_choice("budget", budget, BUDGETS)
    allow = check_allowed(execution.allow)
    whole = split_source(source, splitter, folds, plan.seed, question)
    strata = question.strata(source.targets())
    wanted = resolve_sizes(sizes, strata, whole)
    parts = nested_parts(source, strata, whole, list(wanted.values()), plan.seed)
    plans = [plan if budget == "epochs" else _stretched(plan, part, whole.train) for part in parts]
    in_all = sum(p.epochs * _steps(p, part) * len(whole) for p, part in zip(plans, parts, strict=True))
    if execution.work:
        settings = {"call": "learning_curve", "image_size": execution.image_size}
        settings |= describe_run(init, source, plan, question, execution)
        settings |= {"sizes": list(wanted), "budget": budget, "split": whole.sha256}
        settings |= {"fold_strategy": execution.fold_strategy} | ({"allow": list(allow)} if allow else {})
        execution.work.claim(settings, environment())
    results: list[Result] = []
    execution.expect(in_all)
    execution = execution.replace(store=DataStore(plan.batch_size))  # frozen stages run over the data once for all
    for name, part, stretched in reversed(list(zip(wanted, parts, plans, strict=True))):  # the largest chooses the way

        def tell(row: Mapping[str, Any], name: str = name) -> None:
            execution.tell({**row, "size": name, "in_all": in_all})

        how = execution.replace(progress=tell, on_expected=None)
        if results and execution.fold_strategy == "auto":
            how = how.replace(fold_strategy=results[0].fold_strategy["name"])
        division = dataclasses.replace(whole, train=part, options={**whole.options, "train_size": name})
        results.append(run_part(f"size-{name}", Folds(init, source, stretched, question, division), how))
    results.reverse()
    share, full = _test_share(whole), float(np.mean([len(train) for train in whole.train]))
    results = [dataclasses.replace(result, interval=_interval(result, full)) for result in results]
    points = [_point(*row) for row in zip(wanted, parts, plans, results, strict=True)]
    law, why = _extrapolate(question.score, results, points, share, plan.seed)
    return LearningCurve(
        metric=question.metric,
        points=points,
        law=law,
        why=why,
        budget=budget,
        split=whole.as_dict(),
        plan=plan.as_dict(),
        data=results[0].data,
        init=results[0].init,
        environment=environment(),
        seconds=time.perf_counter() - begin,
        results=results,
        best=question.score.best,
        higher_is_better=question.score.higher_is_better,
    )


def run_part(name: str, asked: Folds, execution: Execution) -> Result:
    """One of several cross-validations of a run: read if it is finished, gone on with if it was begun."""
    work = execution.work
    if work is None:
        return run_folds(asked, execution)
    if (finished := work.finished_part(name)) is not None:
        return dataclasses.replace(load_result(finished), own=asked.task)
    inner = execution.below(name)
    try:
        result = run_folds(asked, inner)
    except BaseException:
        inner.work.abandon()  # leaves what a save has reached
        raise
    with work.finish_part(name) as folder:
        result.write_to(folder)
    return result


def _stretched(plan: Plan, part: Sequence[np.ndarray], whole: Sequence[np.ndarray]) -> Plan:
    """`plan` with all that is counted in epochs longer by as much as the epochs of `part` are shorter."""
    factor = _steps(plan, whole) / _steps(plan, part)
    changed: dict[str, Any] = {}
    for name in EPOCH_FIELDS:
        value = getattr(plan, name)
        if value is not None:
            changed[name] = value * factor if name == "warmup_epochs" else max(1, round(value * factor))
    changed["warmup_epochs"] = min(changed["warmup_epochs"], changed["epochs"])
    return dataclasses.replace(plan, **changed)


def _steps(plan: Plan, parts: Sequence[np.ndarray]) -> int:
    """Of an epoch, without the inner part of early stopping."""
    inner = plan.inner_fraction if plan.early_stopping else 0.0
    return steps_per_epoch([len(part) - int(np.ceil(inner * len(part))) for part in parts], plan.batch_size)


def _point(asked: str, part: Sequence[np.ndarray], plan: Plan, result: Result) -> dict[str, Any]:
    return {
        "asked": asked,
        "size": float(np.mean([len(indices) for indices in part])),
        "mean": result.mean,
        "std": result.std,
        "folds": [fold[result.metric] for fold in result.folds],
        "interval": result.interval,
        "epochs": plan.epochs,
        "steps": plan.epochs * _steps(plan, part),
        "seconds": result.seconds,
    }


def distance_to_best(scores: Any, best: float = 1.0) -> np.ndarray:
    """By how much scores miss the best value of their metric: 1 of accuracy and R², 0 of a loss; NaN for None."""
    return np.abs(best - np.array(scores, np.float64))


def _extrapolate(
    metric: Metric, results: Sequence[Result], points: Sequence[Mapping[str, Any]], share: float, seed: int
) -> tuple[PowerLaw | None, str]:
    errors = distance_to_best([point["folds"] for point in points], metric.best).T
    if not np.isfinite(errors).all():
        return None, f"{metric.name} is not defined in every fold at every size"
    tests = np.mean([fold["test"] for fold in results[-1].folds])
    resolution = 0.5 / float(tests) if metric.scale == "share" else 1e-6
    return extrapolate([p["size"] for p in points], errors, test_share=share, resolution=resolution, seed=seed)


def _interval(result: Result, full: float) -> dict[str, Any] | None:
    """As of any result, with the correction of training parts of `full` size; measured by experiments/coverage.py."""
    found = interval(result, whole=full)
    return None if found is None else found.as_dict()


def _test_share(split: Split) -> float:
    """Number of test examples over that of training examples, mean over folds."""
    return float(np.mean([len(test) / len(train) for train, test in zip(split.train, split.test, strict=True)]))
