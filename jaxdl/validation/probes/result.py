"""What heads on frozen features score."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.shown import Shown
from jaxdl.tasks import Task
from jaxdl.validation.baselines import Trees, beside_baselines, guesses
from jaxdl.validation.probes.heads import HEADS
from jaxdl.validation.result import DECISION_VALUES, LOGITS, OutOfFold, Result, concatenated, finite, mean_and_spread
from jaxdl.validation.saving import Saved
from jaxdl.validation.splits import Split
from jaxdl.validation.statistics.summary import summarised
from jaxdl.weights.checkpoint import environment

if TYPE_CHECKING:
    import pandas as pd

PROBE = "probe.json"
PROBED = "probe"  # the kind of run, and the fold strategy of its results


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HeadResult(Shown):
    """One kind of head.

    Attributes:
      name: of the head.
      grid: penalties, from the strongest; or numbers of neighbours, from the largest; a single 0 where there are none.
      outputs: ``float32[grid, rows, classes or 1]``: logits, decision values or numbers of examples that were not
        trained on, fold after fold.
      scores: ``[grid, folds]``, of the metric.
      chosen: place in the grid that all folds together choose.
      by_fold: place that the inner folds of each fold's training part choose; None without these.
      seconds: of all its fits.
      gradient: the largest entry of a gradient that was left, see `descent.Solution`; None of a head that is not
        iterated.
      notes: what there is to know about its numbers.
    """

    name: str
    grid: np.ndarray
    outputs: np.ndarray
    scores: np.ndarray
    chosen: int
    by_fold: Sequence[int] | None
    seconds: float
    gradient: float | None
    notes: Sequence[str]

    @property
    def nested(self) -> bool:
        """Whether its score is of examples that took no part in any choice."""
        return self.by_fold is not None or len(self.grid) == 1

    @property
    def best(self) -> float | None:
        """The penalty (or number of neighbours) that all folds together choose; None if there is no grid."""
        return float(self.grid[self.chosen]) if HEADS[self.name].grid else None

    def _facts(self) -> dict[str, Any]:
        mean, _ = mean_and_spread([float(self.scores[self.taken(fold), fold]) for fold in range(self.scores.shape[1])])
        return {"head": self.name, "score": mean, HEADS[self.name].grid or "grid": self.best, "nested": self.nested}

    def taken(self, fold: int) -> int:
        """The place in the grid that counts in `fold`."""
        return self.chosen if self.by_fold is None else self.by_fold[fold]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ProbeResult(Shown, Saved):
    """Of `probe`.

    Attributes:
      heads: by name, in the order asked for.
      split: the outer folds, those of all repeats in a row.
      labels: class or number of every example.
      task: what is asked of the examples.
      settings: what was asked for, as plain values.
      init: of which the features are, as in `validation.result.Result`.
      model: of which the features are.
      data: name of the source.
      feature_seconds: of the backbone's pass over the data.
      leaks: see `validation.result.Result`.
      groups: of every example, if the source has any.
      trees: what gradient-boosted trees say of the same folds, on the examples themselves.
    """

    heads: Mapping[str, HeadResult]
    split: Split
    labels: np.ndarray
    task: Task
    settings: Mapping[str, Any]
    init: Mapping[str, Any]
    model: Mapping[str, Any]
    data: str
    feature_seconds: float = 0.0
    leaks: Sequence[Mapping[str, Any]] = ()
    groups: np.ndarray | None = None
    trees: Trees = Trees(skipped="they were not asked for")  # noqa: RUF009 - it is frozen

    @property
    def metric(self) -> str:
        return self.task.metric

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the task's outputs."""
        return self.task.names

    def result(self, head: str) -> Result:
        """One head as the result of a cross-validation: in each fold with the penalty that its inner folds chose.

        With its interval, its metrics and its calibration.
        """
        return self._results[head]

    def to_frame(self) -> "pd.DataFrame":
        """A row for each head: its score, the ``low`` and ``high`` end of its interval, ``best`` of its grid."""
        import pandas as pd

        rows = []
        for name, head in self.heads.items():
            found = self.result(name)
            ends = found.interval or {}
            row = {"head": name, self.metric: found.mean, "low": ends.get("low"), "high": ends.get("high")}
            rows.append(row | {"best": head.best, "nested": head.nested, "seconds": head.seconds})
        return pd.DataFrame(rows)

    def _facts(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "heads": ", ".join(self.heads),
            "folds": len(self.split),
            "model": self.model["name"],
            "data": f"{self.data} ({len(self.labels)} examples)",
        }

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    @cached_property
    def _results(self) -> dict[str, Result]:
        return {name: summarised(self._bare_result(name), self.groups) for name in self.heads}

    def _bare_result(self, head: str) -> Result:
        found, task, kind = self.heads[head], self.task, HEADS[head]
        decisions = task.PROBED == "classes" and not kind.probabilistic
        rows, kept, begin = [], [], 0
        for fold, (train, test) in enumerate(zip(self.split.train, self.split.test, strict=True)):
            place = found.taken(fold)
            outputs = found.outputs[place, begin : begin + len(test)]
            begin += len(test)
            row = {"fold": fold, "train": len(train), "test": len(test), **task.evaluate(outputs, self.labels[test])}
            if decisions:
                del row["loss"]  # of decision values it means nothing
            if kind.grid:
                row[kind.grid] = float(found.grid[place])
            rows.append(row | {"seconds": found.seconds / len(self.split)})
            kept.append(outputs)
        index, everything = np.concatenate(self.split.test), np.concatenate(kept)
        fold = np.repeat(np.arange(len(rows)), [len(test) for test in self.split.test])
        mean, std = mean_and_spread([row[task.metric] for row in rows])
        if mean is None:  # as R² of single examples
            mean, std = mean_and_spread([task.evaluate(everything, self.labels[index])[task.metric]])
        reason = "; ".join([kind.note, *found.notes])
        result = Result(
            task=task.name,
            metric=task.metric,
            mean=mean,
            std=std,
            folds=rows,
            fold_strategy={"name": PROBED, "reason": reason},
            split=self.split.as_dict(),
            init=self.init,
            model=self.model,
            plan={"head": head, **self.settings},
            data={"name": self.data, "examples": len(self.labels), "class_names": list(self.class_names)},
            cached=True,
            environment=environment(),
            seconds=found.seconds + self.feature_seconds,
            out_of_fold=OutOfFold(index, fold, self.labels[index], everything),
            curves=(),
            leaks=self.leaks,
            outputs=DECISION_VALUES if decisions else LOGITS,
            selected={"configurations": len(found.grid), "nested": found.nested} if len(found.grid) > 1 else None,
            question=task.plain(),
            own=task,
        )
        constant = concatenated(guesses(task, self.labels, self.split.train, self.split.test))
        return beside_baselines(result, constant, self.trees)

    def as_dict(self) -> dict[str, Any]:
        """Grids, scores and choices of all heads, for JSON."""
        heads = {
            name: {
                "grid": found.grid.tolist(),
                "scores": found.scores.tolist(),
                "chosen": found.best,
                "chosen_by_fold": None if found.by_fold is None else [float(found.grid[i]) for i in found.by_fold],
                "nested": found.nested,
                "seconds": found.seconds,
                "gradient": found.gradient,
                "notes": list(found.notes),
            }
            for name, found in self.heads.items()
        }
        held = {"metric": self.metric, "data": self.data, "split": self.split.as_dict(), "settings": self.settings}
        return {**held, "feature_seconds": self.feature_seconds, "heads": heads}

    def write_to(self, folder: Path) -> None:
        """``probe.json``, and for each head a folder with the files of `Result` and its whole grid, into a folder."""
        (folder / PROBE).write_text(json.dumps(finite(self.as_dict()), indent=1, allow_nan=False) + "\n")
        for name, found in self.heads.items():
            (folder / name).mkdir()
            self.result(name).write_to(folder / name)
            np.savez_compressed(folder / name / "grid.npz", grid=found.grid, outputs=found.outputs, scores=found.scores)
