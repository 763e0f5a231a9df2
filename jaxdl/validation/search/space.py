"""What is searched: a name for each dimension, and the values it may take."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError, nearest
from jaxdl.identity import key_of
from jaxdl.models import changeable
from jaxdl.models.staged import Staged
from jaxdl.training.plan import Plan
from jaxdl.training.progress import without_prefix

POINTS = 5  # of a range in a grid, where nothing else is said
MOST = 1000  # configurations of a grid; more are a mistake
FIELDS = tuple(field.name for field in dataclasses.fields(Plan) if field.name not in ("seed", "stage_lr"))
WHOLE = ("epochs", "batch_size", "accumulate", "unfreeze_every", "early_stopping", "eval_every")
SHORT = {"lr": "learning_rate", "wd": "weight_decay", "batch": "batch_size"}  # what others call a dimension


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few values, each as likely as the others."""

    values: tuple[Any, ...]

    def grid(self) -> list[Any]:
        return list(self.values)

    def draw(self, random: np.random.Generator) -> Any:
        return self.values[random.integers(len(self.values))]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`; a grid takes `points` of them, ends included."""

    low: float
    high: float
    points: int = POINTS

    def __post_init__(self):
        _check_range(self, -math.inf)

    def grid(self) -> list[float]:
        return np.linspace(self.low, self.high, self.points).tolist()

    def draw(self, random: np.random.Generator) -> float:
        return float(random.uniform(self.low, self.high))


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """A number from `low` to `high`, whose logarithm is spread evenly; a grid takes `points` of them, ends included."""

    low: float
    high: float
    points: int = POINTS

    def __post_init__(self):
        _check_range(self, 0)

    def grid(self) -> list[float]:
        return np.geomspace(self.low, self.high, self.points).tolist()

    def draw(self, random: np.random.Generator) -> float:
        return float(np.exp(random.uniform(np.log(self.low), np.log(self.high))))


Dimension = Choice | Uniform | LogUniform
Space = Mapping[str, Dimension | Sequence[Any] | str]


def _check_range(given: Any, least: float) -> None:
    written = f"{type(given).__name__}({given.low}, {given.high})"
    numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (given.low, given.high))
    if not numbers or not least < given.low < given.high:
        above = " and both above 0" if least == 0 else ""
        raise InputError(f"{written} is no range; expected two numbers, the lower one first{above}")
    if not isinstance(given.points, int) or given.points < 2:
        raise InputError(f"{written} has {given.points} points; expected a whole number of at least 2")


def parse_space(given: Sequence[str]) -> dict[str, Dimension]:
    """``("learning_rate=log:1e-4:1e-1", "weight_decay=0,1e-4", "label_smoothing=0:0.2")`` to dimensions.

    ``A:B`` is a range, ``log:A:B`` one in logarithms, both with ``:POINTS`` for a grid; anything else is a list. A
    single word without ``=`` is a JSON file of such texts, or of lists, by name.

    Raises:
      InputError: for what cannot be read.
    """
    if len(given) == 1 and "=" not in given[0]:
        return {name: as_dimension(name, value) for name, value in _read_file(given[0]).items()}
    space: dict[str, Dimension] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise InputError(f"'{item}' is no NAME=VALUES; expected for example learning_rate=log:1e-4:1e-1")
        if name in space:
            raise InputError(f"'{name}' stands twice in the space; give all its values at once: {name}=A,B,C")
        space[name] = as_dimension(name, text)
    return space


def _read_file(path: str) -> Mapping[str, Any]:
    try:
        held = json.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is neither NAME=VALUES nor a JSON file that can be read ({error})") from error
    if not isinstance(held, dict):
        raise InputError(f'\'{path}\' holds no JSON object; expected {{"learning_rate": "log:1e-4:1e-1", …}}')
    return held


def as_dimension(name: str, given: Any) -> Dimension:
    """A dimension as it is, a list of values, or a text as in `parse_space`."""
    if isinstance(given, Choice | Uniform | LogUniform):
        found = given
    elif isinstance(given, str):
        found = _parse(name, given)
    elif isinstance(given, Sequence):
        found = Choice(tuple(given))
    else:
        raise InputError(
            f"{name} is {given!r} in the space; expected a list of values, Choice, Uniform or LogUniform, or a text "
            "such as 'log:1e-4:1e-1'"
        )
    if isinstance(found, Choice) and not found.values:
        raise InputError(f"{name} has no values in the space; expected at least one")
    return found


def _parse(name: str, text: str) -> Dimension:
    parts = text.split(":")
    logarithmic = parts[0] == "log"
    ends = parts[1:] if logarithmic else parts
    numbers = [_number(end) for end in ends]
    if logarithmic or (len(ends) in (2, 3) and None not in numbers):
        if len(ends) not in (2, 3) or None in numbers:
            raise InputError(f"'{text}' of {name} is no range; expected log:LOW:HIGH or log:LOW:HIGH:POINTS")
        low, high = numbers[:2]
        points = POINTS if len(ends) == 2 else int(numbers[2]) if numbers[2] == int(numbers[2]) else numbers[2]
        try:
            return (LogUniform if logarithmic else Uniform)(low, high, points)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    if not text.strip():
        raise InputError(f"{name} has no values in the space; expected at least one")
    if text.startswith("["):
        try:
            return Choice(tuple(json.loads(text)))
        except ValueError as error:
            raise InputError(f"'{text}' of {name} is no JSON list ({error})") from None
    return Choice(tuple(_value(word) for word in text.split(",")))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() == "none":
        return None
    try:
        return json.loads(text)
    except ValueError:
        number = _number(text)  # 1e-4 is JSON, .5 is not
        return text if number is None else number


def make_space(given: Space, model: Staged) -> dict[str, Dimension]:
    """The dimensions of `given`, each known and with values that differ.

    Args:
      given: by name: a field of the plan but the seed, ``stage_lr.STAGE``, ``model.ARGUMENT``, or ``model`` or ``init``
        for the network to start from.
      model: of which the stages and arguments are, unless the space names others.

    Raises:
      InputError: for a name that is not known, or a dimension without values.
    """
    if not isinstance(given, Mapping) or not given:
        raise InputError("the space is empty; expected at least one NAME=VALUES, such as learning_rate=log:1e-4:1e-1")
    space = {name: as_dimension(name, value) for name, value in given.items()}
    if "model" in space and "init" in space:
        raise InputError("the space names both models and checkpoints to start from; expected one of the two")
    known = [*FIELDS, "model", "init", *(f"stage_lr.{stage}" for stage in _stages(space, model))]
    known += [f"model.{argument}" for argument in changeable(model)]
    for name, dimension in space.items():
        if name == "seed":
            raise InputError("the seed is nothing to choose by: the best one was lucky. Give seeds=3 to average over 3")
        if name not in known and not (name.startswith("model.") and "model" in space):
            hint = nearest(SHORT.get(name, name), known) or nearest(f"model.{name}", known)
            raise InputError(f"the space has no '{name}'; it may name: {', '.join(known)}.{hint}")
        space[name] = _distinct(name, dimension)
    return space


def _stages(space: Mapping[str, Dimension], model: Staged) -> Sequence[str]:
    if "model" not in space and "init" not in space:
        return model.stage_names
    return list(without_prefix(space, "stage_lr."))  # each model checks


def _distinct(name: str, dimension: Dimension) -> Dimension:
    """Without repetitions, and with none for what may be none alone."""
    if not isinstance(dimension, Choice):
        return dimension
    words = [_plain(name, value) for value in dimension.values]
    kept = {key_of(word): word for word in words}
    return Choice(tuple(kept.values()))


def _plain(name: str, value: Any) -> Any:
    if name in WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None and name in ("augment",):
        return "none"
    return value


def _settle(name: str, value: Any) -> Any:
    """A drawn value as the plan takes it: whole where it must be."""
    return round(value) if name in WHOLE and isinstance(value, float) else value


def propose(space: Mapping[str, Dimension], strategy: str, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """The configurations to try, all different.

    Args:
      space: of `make_space`.
      strategy: ``grid``: all combinations; ``random``: `trials` draws; ``halving``: draws, or all without `trials`.
      trials: how many.
      seed: of the draws.

    Raises:
      InputError: for a number of trials that cannot be had.
    """
    if strategy == "grid" and trials is not None:
        raise InputError(f"trials is {trials}, but a grid tries all combinations; use strategy random or halving")
    if strategy == "random" and trials is None:
        raise InputError("strategy random needs trials: how many configurations to draw")
    if trials is not None and (not isinstance(trials, int) or trials < 1):
        raise InputError(f"trials is {trials!r}; expected a whole number of at least 1")
    grid = {
        name: list(dict.fromkeys(_settle(name, v) for v in d.grid())) if not isinstance(d, Choice) else d.grid()
        for name, d in space.items()
    }
    size = math.prod(len(values) for values in grid.values())
    finite = all(isinstance(dimension, Choice) for dimension in space.values())
    if trials is None or (finite and trials >= size):
        if size > MOST:
            sizes = " × ".join(f"{len(values)} of {name}" for name, values in grid.items())
            raise InputError(
                f"the grid has {size:,} configurations ({sizes}), each of them trained on every fold; expected at most "
                f"{MOST:,}: give fewer values of a name (of a range its number: LOW:HIGH:3), or draw some of them: "
                "--strategy random --trials 60 (or halving in place of random)"
            )
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    random, found = np.random.default_rng((seed, 0x5EA2C4)), {}
    for _ in range(100 * trials):
        drawn = {name: _settle(name, dimension.draw(random)) for name, dimension in space.items()}
        found.setdefault(tuple(key_of(value) for value in drawn.values()), drawn)
        if len(found) == trials:
            break
    return list(found.values())
