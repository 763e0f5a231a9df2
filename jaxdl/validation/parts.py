"""A cross-validation in parts: machines that share nothing train some of the folds each; see `gather`."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.models.variables import nest, walk_shapes
from jaxdl.training.execution import Execution
from jaxdl.training.resume import Begun
from jaxdl.validation.baselines import Trees, constant_answers, grow_trees
from jaxdl.validation.crossval import Folds, settings_of, train_folds
from jaxdl.validation.result import PART, Result, finite, read_result
from jaxdl.validation.saving import Saved
from jaxdl.validation.statistics.intervals import METHODS, Method, check_method
from jaxdl.validation.statistics.summary import grouped
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import environment
from jaxdl.weights.files import read_json, read_npz, reading
from jaxdl.weights.hints import RESULT, RUN

BASELINES = "baselines.npz"


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of the folds a machine trains: those whose number leaves `number` when it is divided by `of`.

    Attributes:
      number: of the machine, from 0.
      of: how many machines there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            last = f"0/{self.of} to {self.of - 1}/{self.of}" if self.of > 0 else "0/2 and 1/2"
            raise InputError(f"folds_of is {self}; expected the number of a machine from 0 and of all: {last}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folds(self, count: int) -> list[int]:
        """Numbers of its folds among `count`. Raises InputError where there are fewer folds than machines."""
        if count < self.of:
            raise InputError(
                f"folds_of is {self}, but there are {count} folds: a machine would have none; expected at most {count} "
                f"machines, such as 0/{count}"
            )
        return list(range(self.number, count, self.of))


def parse_share(given: str) -> Share:
    """``"0/4"``: the first of four machines. Raises InputError for something else."""
    if not re.fullmatch(r"\d+/\d+", given):
        raise InputError(f"folds_of is '{given}'; expected I/N such as 0/4, the first of four machines")
    return Share(*map(int, given.split("/")))


class PartTold(TypedDict):
    """What ``part.json`` always holds."""

    part: Sequence[int]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    trees: Mapping[str, Any]
    result: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Part(Saved):
    """What one machine found: all that the result is made of and that needs the examples.

    Attributes:
      share: which part it is.
      result: of its folds, without what is computed of all of them: baselines, other metrics, interval.
      constant: what the model that looks at no example says of the held-out rows, arrays ``[rows, …]``.
      trees: of the same rows.
      settings: what the numbers of the whole depend on, as plain values.
      environment: versions and devices.
    """

    share: Share
    result: Result
    constant: Any
    trees: Trees
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def folds(self) -> list[int]:
        """Numbers of its folds."""
        return [row["fold"] for row in self.result.folds]

    @property
    def interval(self) -> Method:
        """The method that was asked for."""
        return self.settings.get("interval", "auto")

    def write_to(self, folder: Path) -> None:
        """``part.json``, ``baselines.npz``, and the predictions and curves as of a `Result`."""
        told = {
            "part": [self.share.number, self.share.of],
            "settings": self.settings,
            "environment": self.environment,
            "trees": {"seconds": self.trees.seconds, "skipped": self.trees.skipped},
            "result": finite(self.result.as_dict()),
        }
        held = {"constant": self.constant, "trees": self.trees.kept}
        np.savez_compressed(folder / BASELINES, **{name: np.asarray(leaf) for name, leaf in walk_shapes(held)})
        self.result.write_rows(folder)
        (folder / PART).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")


def train_part(asked: Folds, execution: Execution) -> Part:
    """Trains the part `asked.part` of the folds; `run_folds` for a machine among several.

    Raises:
      InputError: for an interval that trains networks of its own; else as `cross_validate`.
    """
    check_choice("interval", asked.interval, METHODS)
    if asked.interval == "nested":
        raise InputError("the interval 'nested' trains networks on what two folds share; use another with folds_of")
    if asked.interval != "auto":
        check_method(asked.interval, len(asked.split))
    source, split = asked.source, asked.split
    result = train_folds(asked, execution)
    folds = [row["fold"] for row in result.folds]
    trees = grow_trees(source, result.asked, split.train, split.test, folds)
    parts = ([part[fold] for fold in folds] for part in (split.train, split.test))
    constant = constant_answers(result.asked, source, *parts)
    whole = dataclasses.replace(asked, part=None)
    return Part(
        asked.part,
        grouped(result, source.groups),
        constant,
        trees,
        json.loads(json.dumps(settings_of(whole, source, execution))),
        environment(),
    )


def load_part(path: str | Path) -> Part:
    """What `Part.save`, or ``cross-validate --folds-of``, wrote.

    Raises:
      InputError: if it is not there, not finished, or damaged.
    """
    path = place_of(path)
    if not (path / PART).is_file():
        raise InputError(_no_part(path))
    file, arrays = path / PART, nest(read_npz(path / BASELINES))
    told = read_json(file, PartTold)
    with reading(file):
        share, trees = Share(*told["part"]), told["trees"]
        kept = None if trees["skipped"] else arrays["trees"]
        grown = Trees(kept, float(trees["seconds"]), str(trees["skipped"]))
        result = read_result(file, told["result"])
        return Part(share, result, arrays["constant"], grown, told["settings"], told["environment"])


def _no_part(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder '{path}'; expected one that cross-validate made with --folds-of"
    if (path / RUN).is_file() and not read_json(path / RUN, Begun)["finished"]:
        return f"the run in '{path}' is not finished; give its command again to go on, then gather"
    if (path / RESULT).is_file():
        return f"'{path}' is a whole result, not a part; leave it out"
    return f"'{path}' is no part of a cross-validation: it has no {PART}; expected what --folds-of I/N made"
