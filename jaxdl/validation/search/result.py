"""What a search found."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdl.errors import InputError
from jaxdl.shown import Shown
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.validation.result import NOT_NESTED, Result, load_result
from jaxdl.validation.saving import Saved
from jaxdl.validation.told import ConfigurationTold, RankedTold
from jaxdl.weights.buckets import place_of
from jaxdl.weights.files import from_plain, read_json, reading

if TYPE_CHECKING:
    import pandas as pd

SEARCH = "search.json"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SearchResult(Shown, Saved):
    """Of `search`.

    Attributes:
      nested: whether `result` is of nested cross-validation.
      result: of the outer folds, each trained with what its own inner folds chose; not nested, of the final
        configuration on the folds that chose it, and too good: see `warning`.
      configurations: all of them: ``number``, ``values``, ``parameters``, ``trained``.
      scores: a row for each configuration on each division of examples: ``division`` (``"outer fold k"``: the inner
        folds of its training part; ``"all"``), ``configuration``, ``mean``, ``se`` (standard error over folds, as if
        they were independent), ``loss`` and ``loss_se``, ``epochs`` trained for, and ``folds``: the metric of each,
        averaged over seeds; ``rank`` is by the criterion. None stands where the numbers stopped being finite.
      choices: number of the configuration that each outer fold chose; empty if not nested.
      final: number of the one that all data chooses.
      selection: ``{"strategy", "rule", "criterion", "seeds"}``.
      seed_means: the outer score with each seed; `result` is of the first.
      groups: how each set of configurations that share a program was run: ``configurations``, ``name``, ``reason``,
        ``width`` (trainings side by side).
      space: as plain values.
      seconds: of the whole call.
      final_init: where the final configuration starts; None if read from a file.
      final_plan: how it trains, with the seed of the first; None if read from a file.
    """

    nested: bool
    result: Result
    configurations: Sequence[ConfigurationTold]
    scores: Sequence[RankedTold]
    choices: Sequence[int]
    final: int
    selection: Mapping[str, Any]
    seed_means: Sequence[float]
    groups: Sequence[Mapping[str, Any]]
    space: Mapping[str, Any]
    seconds: float
    final_init: Init | None = None
    final_plan: Plan | None = None

    @property
    def warning(self) -> str | None:
        """Why the score is too good; None of a nested one."""
        return None if self.nested else NOT_NESTED

    @property
    def criterion(self) -> str:
        """Name of the metric whose inner values chose: the score, or the task's loss."""
        return self.result.metric if self.selection["criterion"] == "metric" else self.result.asked.LOSS

    @property
    def ranking(self) -> list[Mapping[str, Any]]:
        """Rows of `scores` on all data, the best first; those that were trained for longest before the others."""
        rows = [row for row in self.scores if row["division"] == "all"]
        return sorted(rows, key=lambda row: row["rank"])

    @property
    def not_nested(self) -> float | None:
        """Mean of the final configuration on the folds that chose it: what would be reported without nesting."""
        return next(row["mean"] for row in self.ranking if row["configuration"] == self.final)

    @property
    def agreement(self) -> float | None:
        """Share of the outer folds that chose what most of them chose; None if not nested."""
        return Counter(self.choices).most_common(1)[0][1] / len(self.choices) if self.choices else None

    def stability(self) -> dict[str, list[Any]]:
        """For each dimension what each outer fold chose, in order."""
        chosen = [self.configurations[number]["values"] for number in self.choices]
        return {name: [values[name] for values in chosen] for name in self.configurations[0]["values"]}

    def to_frame(self) -> "pd.DataFrame":
        """A row for each configuration, the best first: its values, then ``mean``, ``se``, ``loss``, ``epochs`` and
        ``rank`` on all data, and by how many outer folds it was ``chosen``."""
        import pandas as pd

        told, chosen = ("mean", "se", "loss", "loss_se", "epochs", "rank"), Counter(self.choices)
        rows = [
            {
                "configuration": row["configuration"],
                **self.configurations[row["configuration"]]["values"],
                **{name: row.get(name) for name in told},
                **({"chosen": chosen[row["configuration"]]} if self.nested else {}),
            }
            for row in self.ranking
        ]
        return pd.DataFrame(rows)

    def _facts(self) -> dict[str, Any]:
        best = self.configurations[self.final]["values"]
        facts = {"best": ", ".join(f"{k}={v}" for k, v in best.items()), "configurations": len(self.configurations)}
        return facts | {"nested": self.nested or None} | self.result._facts()

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """All but `result` and what cannot be written, for JSON."""
        skipped = ("result", "final_init", "final_plan")
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}
        return held | {"warning": self.warning, "not_nested": self.not_nested, "agreement": self.agreement}

    def write_to(self, folder: Path) -> None:
        """``search.json`` and the files of `Result`, into a folder that is there."""
        self.result.write_to(folder)
        (folder / SEARCH).write_text(json.dumps(self.as_dict(), indent=1) + "\n")


def load_search(path: str | Path) -> SearchResult:
    """What `SearchResult.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    path = place_of(path)
    if not (path / SEARCH).is_file():
        raise InputError(f"'{path}' is not a result of search: it has no {SEARCH}")
    result = load_result(path)
    held = read_json(path / SEARCH)
    with reading(path / SEARCH):
        derived = ("warning", "not_nested", "agreement")
        if result.selected is None:  # of an older release
            selected = {"configurations": len(held["configurations"]), "nested": held["nested"]}
            result = dataclasses.replace(result, selected=selected)
        found = from_plain(SearchResult, {k: v for k, v in held.items() if k not in derived}, result=result)
        ranked = {row["configuration"] for row in found.ranking}
        if found.final not in ranked or not {*found.choices, *ranked} <= set(range(len(found.configurations))):
            raise ValueError("its scores are not those of its configurations")
        return found
