"""What a run left in its folder, with what can be found again: its data and the checkpoint it started from."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jaxdl import data
from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.report.answer import check_source
from jaxdl.tasks import Task
from jaxdl.tasks.examples import load_examples, load_validation
from jaxdl.training.resume import RUN
from jaxdl.training.transfer import hold_out
from jaxdl.validation.held_out import HELD_OUT
from jaxdl.validation.result import PART, RESULT, Result, load_result
from jaxdl.validation.search.result import SEARCH
from jaxdl.weights.buckets import place_of
from jaxdl.weights.card import CARD
from jaxdl.weights.checkpoint import Checkpoint, OwnModels, restore
from jaxdl.weights.files import read_json

FOLDS = "folds"
MOST_NETWORKS = 5  # of the folds' networks that are read; more would say the same again


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
      path: its folder.
      kind: ``"cross-validate"``, ``"search"``, ``"pretrain"`` or ``"finetune"``.
      told: what ``run.json`` says; empty without one.
      result: of a cross-validation, else None.
      networks: the trained networks: of some folds, or the one checkpoint as number 0.
      parent: the checkpoint that training started from, or None.
      source: the examples of the run, or None.
      fresh: examples that a checkpoint did not train on, where they can be told apart, or None.
      held_out: what a checkpoint of pretraining or fine-tuning scores on what was held out from it; None where nothing
        was, or by an older release.
      missing: for ``"networks"``, ``"parent"`` and ``"source"`` a sentence on why it is not there.
    """

    path: Path
    kind: str
    told: Mapping[str, Any]
    result: Result | None
    networks: Mapping[int, Checkpoint]
    parent: Checkpoint | None
    source: Source | None
    fresh: Source | None
    missing: Mapping[str, str]
    held_out: Result | None = None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Of a pretraining or fine-tuning."""
        return None if self.result else self.networks[0]

    @property
    def plan(self) -> Mapping[str, Any]:
        """As plain values; empty if unknown."""
        return (self.result.plan if self.result else self.networks[0].card.plan) or {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was asked to do, as its ``run.json`` says; empty if unknown."""
        return self.told.get("settings") or {}

    @property
    def task(self) -> Task:
        """What was asked."""
        return self.result.asked if self.result else self.networks[0].task

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows of the curves, all with ``fold``."""
        rows = self.result.curves if self.result else self.networks[0].history
        return [{"fold": 0, **row} for row in rows]

    def network(self) -> tuple[int, Checkpoint]:
        """One of the networks, with its fold. Raises InputError, saying why, if there is none."""
        if not self.networks:
            raise InputError(self.missing["networks"])
        return next(iter(self.networks.items()))


def load_run(path: str | Path, source: Source | None = None, models: OwnModels = None) -> Run:
    """Reads the folder of a cross-validation or search, or of a checkpoint that pretraining or fine-tuning made.

    Args:
      path: the folder.
      source: the examples that the run was made on; by default those that its ``run.json`` names, if they are there.
      models: of your own, see `weights.checkpoint.restore`.

    Raises:
      InputError: if the folder holds no finished run, is damaged, or `source` is not what it was made on.
    """
    path = place_of(path).absolute()
    told = read_told(path)
    missing: dict[str, str] = {}
    result, networks = None, {}
    if (path / RESULT).is_file() or (path / PART).is_file():
        result = load_result(path)  # which says what to do with a part
        networks = _read_folds(path, missing, models)
    elif (path / CARD).is_file():
        networks = {0: restore(path, models=models)}
    else:
        raise InputError(_no_run(path, told))
    searched = (path / SEARCH).is_file()
    kind = (
        ("search" if searched else "cross-validate")
        if result
        else str(told.get("kind") or ("finetune" if networks[0].card.parent else "train"))
    )
    parent = _read_parent(told, result, networks, missing, models)
    fresh = None
    if source is None:
        source, fresh = _find_data(told, result, networks, missing)
    else:
        if source.names is not None:
            source = _without(source, [name for name, _ in told.get("broken") or ()])
        if result:
            check_source(source, path.name, result)
    held_out = load_result(path / HELD_OUT) if not result and (path / HELD_OUT / RESULT).is_file() else None
    return Run(path, kind, told, result, networks, parent, source, fresh, missing, held_out)


class Told(TypedDict, total=False):
    """What ``run.json`` may say that a report shows."""

    kind: str
    command: Sequence[str]
    data: str
    task: str
    init: str | None
    settings: Mapping[str, Any]
    broken: Sequence[Sequence[str]]
    finished: bool
    best_epoch: int | None
    table: Mapping[str, Any]
    validation: str


def read_told(path: Path) -> dict[str, Any]:
    """What ``run.json`` says; nothing without one."""
    if not (path / RUN).is_file():
        return {}
    return read_json(path / RUN, Told, "remove it to make the report without it")


def sentence(text: str) -> str:
    """`text` with a full stop, if it has none: the message of an error may end in one or not."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _no_run(path: Path, told: Mapping[str, Any]) -> str:
    if not path.is_dir():
        return f"there is no folder '{path}'; expected one that a command of jaxdl made with --out"
    if told and not told.get("finished", True):
        return f"the run in '{path}' is not finished; give its command again to go on, then report on it"
    return (
        f"'{path}' is neither a run of cross-validate (it has no {RESULT}) nor of search, learning-curve, variance or "
        f"probe, nor a checkpoint of pretrain or finetune (it has no {CARD})"
    )


def _read_folds(path: Path, missing: dict[str, str], models: OwnModels) -> dict[int, Checkpoint]:
    """The first few of the folds' networks that were kept; one that cannot be read is reported."""
    folder = path / FOLDS
    kept = sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []
    found = {}
    for fold in kept[:MOST_NETWORKS]:
        try:
            found[fold] = restore(folder / str(fold), models=models)
        except InputError as error:
            missing["networks"] = sentence(f"The network of fold {fold} cannot be read: {error}")
    if not kept:
        missing["networks"] = "The networks of the folds were not kept, so that nothing can be said about them."
    return found


def _read_parent(
    told: Mapping[str, Any],
    result: Result | None,
    networks: Mapping[int, Checkpoint],
    missing: dict[str, str],
    models: OwnModels,
) -> Checkpoint | None:
    place = told.get("init") or (result.init.get("path") if result else networks[0].card.parent)
    if not place:
        scratch = result is None or result.init["kind"] == "scratch"
        missing["parent"] = (
            "Training started from random weights."
            if scratch
            else "The checkpoint that training started from was never saved."
        )
        return None
    try:
        return restore(place, models=models)
    except InputError as error:
        missing["parent"] = sentence(f"The checkpoint that training started from cannot be read: {error}")
        return None


def _find_data(
    told: Mapping[str, Any], result: Result | None, networks: Mapping[int, Checkpoint], missing: dict[str, str]
) -> tuple[Source | None, Source | None]:
    """The run's examples, and those of them that a checkpoint did not train on; None where they are not to be had."""
    spec = told.get("data")
    if not spec:
        missing["source"] = "The run does not say where its data is; jaxdl report with --data SPEC shows examples."
        return None, None
    try:
        source = _without(
            load_examples(spec, told.get("task", "auto"), **how_read(told)),
            [name for name, _ in told.get("broken") or ()],
        )
        if result:
            check_source(source, "this run", result)
            return source, None
        return source, _held_out(told, source, networks[0])
    except InputError as error:
        missing["source"] = (
            sentence(f"The examples cannot be shown: {error}") + " To show them, give jaxdl report --data SPEC."
        )
        return None, None


def _without(source: Source, broken: Sequence[str]) -> Source:
    """`source` less the examples that the run left out because they cannot be read."""
    if not broken:
        return source
    names = source.names if source.names is not None else [str(i) for i in range(len(source))]
    left_out = set(broken)
    return subset(source, np.array([i for i, name in enumerate(names) if str(name) not in left_out], np.int64))


def how_read(told: Mapping[str, Any]) -> dict[str, Any]:
    """The options of masks or of a table, as the command had them."""
    kinds = {"masks": data.MaskOptions, "table": data.TableOptions}
    how = {name: kind.parse(told[name]) for name, kind in kinds.items() if told.get(name) is not None}
    if "table" not in how and (before := data.options_of_before(told.get("data") or "")) is not None:
        how["table"] = before
    return how


def _held_out(told: Mapping[str, Any], source: Source, checkpoint: Checkpoint) -> Source | None:
    """What `pretrain` and `finetune` measured their curves on, if anything."""
    spec, task = told["data"], told.get("task", "auto")
    how, named = how_read(told), told.get("validation")
    if named is not None or "val" in data.parts_of(spec, task, table=how.get("table")):
        return load_validation(spec, named, source, task, **how)
    if not (held := (told.get("settings") or {}).get("held_out")):
        return None
    fraction = (held - 0.5) / len(source)  # rounded up, this is as many again
    return hold_out(source, fraction, (checkpoint.card.plan or {}).get("seed", 0), checkpoint.card.task)[1]
