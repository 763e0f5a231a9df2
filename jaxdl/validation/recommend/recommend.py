"""Which use of a network suits these examples: several are cross-validated, the simplest that nothing beats is kept."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdl.checks import check_arguments, check_fields
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.source import Source, arrange_columns, check_source
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import Shown
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.tasks.metric import NoInterval
from jaxdl.training.execution import Execution
from jaxdl.training.features import DataStore
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.recommend.choice import Choice, choose, score_without_luck
from jaxdl.validation.recommend.methods import KINDS, Candidate, candidates, fit_method
from jaxdl.validation.recommend.trials import LeftOut, Say, Trials, in_turn
from jaxdl.validation.result import Result, finite, load_result
from jaxdl.validation.saving import Saved
from jaxdl.validation.splits import SPLIT, Split, Splitting, split_source
from jaxdl.weights.checkpoint import Checkpoint, environment, save
from jaxdl.weights.files import read_json

if TYPE_CHECKING:
    import pandas as pd

RECOMMENDATION, METHODS, CHECKPOINT, FIT = "recommendation.json", "methods", "checkpoint", "fit"
LEAST_EPOCHS, LEAST_STEPS = 10, 100  # of a method that trains more than a head, unless said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommending:
    """What is tried, and for how long.

    Attributes:
      minutes: time for all of it. The cheapest methods come first; one that would not fit in what is left is left out.
      methods: which: probe (a head fitted to frozen features), frozen (a head trained on a frozen body), partial (the
        last third of the stages), lora, full; scratch is what a model without a checkpoint can do; by default all.
      epochs: of methods that train more than a head; by default 10, more where that makes fewer than 100 steps. A head
        alone gets 6 times as many.
      batch_size: largest number of examples in a step.
      seed: of all.

    Raises:
      InputError: for a value that cannot be.
    """

    minutes: float = 30.0
    methods: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "methods", tuple(self.methods))
        for name in self.methods:
            check_choice("method", name, KINDS)
        if not 0 < self.minutes < float("inf"):
            raise InputError(f"minutes is {self.minutes}; expected more than 0")
        self.plan(1)  # checks the rest

    def plan(self, epochs: int) -> Plan:
        """The plan that all have in common, with `epochs` unless said."""
        epochs = epochs if self.epochs is None else self.epochs
        return Plan(epochs=epochs, batch_size=self.batch_size, seed=self.seed)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommendation(Shown, Saved):
    """Of `recommend`.

    Attributes:
      choice: which method, and why.
      tried: the methods that were cross-validated, by name.
      results: of each, in the same order.
      left_out: the others.
      without_luck: the score to expect of the best of them; see `choice.score_without_luck`.
      estimates: by name the seconds that a trial said it would take; not of all.
      split: the folds of all.
      checkpoint: what the chosen method made of all examples; None of one that was read from a file.
      seconds: of the whole call.
    """

    choice: Choice
    tried: Mapping[str, Candidate]
    results: Mapping[str, Result]
    left_out: Sequence[LeftOut]
    without_luck: float | None
    estimates: Mapping[str, float]
    split: Split
    checkpoint: Checkpoint
    seconds: float

    @property
    def chosen(self) -> Candidate:
        """The method that is recommended."""
        return self.tried[self.choice.chosen]

    @property
    def result(self) -> Result:
        """Of the method that is recommended."""
        return self.results[self.choice.chosen]

    def to_frame(self) -> "pd.DataFrame":
        """A row for each method that was tried, from the simplest: ``method, kind, mean, std, low, high, difference,
        difference_low, difference_high, seconds``; ``low`` and ``high`` are ends of 95 % intervals."""
        import pandas as pd

        rows = []
        for row in self.as_dict()["methods"]:
            ends, difference = row["interval"] or {}, row["difference"] or {}
            rows.append(
                {
                    "method": row["name"],
                    **{name: row[name] for name in ("kind", "mean", "std")},
                    **{name: ends.get(name) for name in ("low", "high")},
                    "difference": difference.get("value"),
                    **{f"difference_{name}": difference.get(name) for name in ("low", "high")},
                    "seconds": row["seconds"],
                }
            )
        return pd.DataFrame(rows)

    def _facts(self) -> dict[str, Any]:
        return {"chosen": self.choice.chosen, "of": len(self.results)} | self.result._facts()

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = []
        for name, result in self.results.items():
            difference = self.choice.to_best[name]
            rows.append(
                {
                    "name": name,
                    "kind": self.tried[name].kind,
                    "folder": self.tried[name].folder,
                    "mean": result.mean,
                    "std": result.std,
                    "interval": result.interval,
                    "difference": None if difference is None else dataclasses.asdict(difference),
                    "beaten_by": list(self.choice.beaten_by[name]),
                    "seconds": result.seconds,
                    "estimated_seconds": self.estimates.get(name),
                }
            )
        return {
            "metric": self.result.metric,
            "chosen": self.choice.chosen,
            "best": self.choice.best,
            "methods": rows,
            "left_out": [dataclasses.asdict(one) for one in self.left_out],
            "without_luck": self.without_luck,
            "seconds": self.seconds,
        }

    def write_to(self, folder: Path) -> None:
        """``recommendation.json``, ``checkpoint/``, and ``methods/NAME/`` with a result and its folds each."""
        for name, result in self.results.items():
            place = folder / METHODS / self.tried[name].folder
            place.mkdir(parents=True)
            result.write_to(place)
            self.split.save(place / SPLIT)
        save(self.checkpoint, folder / CHECKPOINT)
        (folder / RECOMMENDATION).write_text(json.dumps(finite(self.as_dict()), indent=1, allow_nan=False) + "\n")


@check_arguments
def recommend(
    init: Init,
    source: Source,
    recommending: Recommending = Recommending(),
    *,
    task: Task | str | None = None,
    metrics: Metrics = None,
    splitter: str | Splitting | Any = "auto",
    folds: int = 5,
    execution: Execution = Execution(),  # noqa: B008
    say: Say = lambda text: None,
) -> Recommendation:
    """How should this network be used for these examples?

    A fitted head, a trained head on a frozen body, the last stages, low-rank additions (LoRA) and all of the network,
    the last three at two learning rates each, are cross-validated on the same folds, the cheapest first and as far as
    time allows. The simplest that nothing beats (no other's paired 95 % interval of the difference is on its side of
    zero) is fitted to all examples.

    The same folds score and choose, so that the best score is a little too good; `Recommendation.without_luck` says by
    how much.

    Args:
      init: a `Checkpoint`, or a model from `create`, which can only be trained from scratch.
      source: labelled examples.
      recommending: what is tried, and for how long.
      task: what is asked of the examples; as `metrics`, `splitter` and `folds` see `cross_validate`.
      metrics: by what it is scored.
      splitter: of the folds.
      folds: for a splitter by name.
      execution: how all is run; with ``work`` methods that are finished are not made again.
      say: is given a line on what is being done.

    Raises:
      InputError: as `cross_validate`, and if no method applies.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    question = choose_task(check_source(source), task, metrics, purpose="a recommendation")
    if isinstance(question.score, NoInterval):
        raise InputError(
            f"the metric '{question.metric}' has no interval, by which methods are compared here; choose another one"
        )
    split = split_source(source, splitter, folds, recommending.seed, question)
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card)
    steps = steps_per_epoch([len(part) for part in split.train], recommending.batch_size)
    shared = recommending.plan(max(LEAST_EPOCHS, -(-LEAST_STEPS // steps)))
    if execution.store is None:
        execution = execution.replace(store=DataStore(batch_size=32))
    if execution.work:
        settings = {"call": "recommend", "image_size": execution.image_size, "split": split.sha256}
        settings |= describe_run(init, source, shared, question, execution) | {"methods": list(recommending.methods)}
        settings |= {"allow": list(execution.allow)} if execution.allow else {}
        execution.work.claim(settings, environment())
    check_leaks(init, source, split, allow=check_allowed(execution.allow), store=execution.store)
    common = {"epochs": shared.epochs, "batch_size": shared.batch_size, "seed": shared.seed}
    made, not_for = candidates(init, source, question, common, execution)
    left_out = [LeftOut(name, why) for name, why in not_for.items()]
    wanted = [one for one in made if not recommending.methods or one.kind in recommending.methods]
    if not wanted:
        reasons = "; ".join(f"{one.name}: {one.why}" for one in left_out)
        raise InputError(f"none of the methods {', '.join(recommending.methods)} applies here ({reasons})")
    trials = Trials(init, source, question, split, execution, 60 * recommending.minutes, begin, say)
    for candidate in in_turn(wanted):
        trials.run(candidate)
    left_out += trials.left_out
    if not trials.results:
        raise InputError("no method could be trained: " + "; ".join(f"{one.name}: {one.why}" for one in left_out))
    tried = {one.name: one for one in made if one.name in trials.results}
    results = {name: trials.results[name] for name in tried}
    choice = choose(results, {name: KINDS.index(one.kind) for name, one in tried.items()})
    say(f"{choice.chosen}: fitting it to all {len(source)} examples")
    told = results[choice.chosen].plan
    checkpoint = fit_method(
        init, source, tried[choice.chosen].method, told, task=question, execution=execution.below(FIT)
    )
    return Recommendation(
        choice=choice,
        tried=tried,
        results=results,
        left_out=left_out,
        without_luck=score_without_luck([result.sample() for result in results.values()]) if len(results) > 1 else None,
        estimates=trials.estimates,
        split=split,
        checkpoint=checkpoint,
        seconds=time.perf_counter() - begin,
    )


def read_recommendation(path: Path) -> tuple[dict[str, Any], dict[str, Result]]:
    """What `Recommendation.save` wrote: its plain values, and the results by name.

    Raises:
      InputError: if it is not there or damaged.
    """
    told = read_json(path / RECOMMENDATION)
    return told, {row["name"]: load_result(path / METHODS / row["folder"]) for row in told["methods"]}
