"""Options of commands as the words of a command line, with which the same can be done by hand."""

import dataclasses
from typing import Any

from jaxdl.cli_options import Running, Start
from jaxdl.models import describe
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.weights.checkpoint import Checkpoint

NAMED_APART = ("data", "init", "model", "model_arguments")


def words_of_examples(subject: Start) -> list[str]:
    """``--data`` and what else says how the examples are read and scored."""
    given = {name: value for name, value in changed_fields(subject).items() if name not in NAMED_APART}
    return ["--data", subject.data, *_as_words(given)]


def words_of_start(start: Init, init: Any) -> list[str]:
    """``--init`` of a checkpoint, which was given as `init`; ``--model`` of a model."""
    if isinstance(start, Checkpoint):
        return ["--init", str(init)]
    name, arguments = describe(start)
    words = [f"{k}={list(v) if isinstance(v, tuple) else v}".replace(" ", "") for k, v in arguments.items()]
    return ["--model", name, *(["--model-arguments", *words] if words else [])]


def words_of_plan(plan: Plan) -> list[str]:
    """The options of a plan that are not as by default."""
    return _as_words(changed_fields(plan))


def words_of_running(running: Running) -> list[str]:
    """The options on how a run is carried out that change what it finds."""
    return _as_words({"allow": running.allow} if running.allow else {})


def changed_fields(made: Any) -> dict[str, Any]:
    """The fields of a dataclass whose values are not the defaults."""
    found = {}
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default:
            found[field.name] = value
    return found


def _as_words(given: dict[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in _as_option(name, value)]


def _as_option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, dict):
        return [flag, *(f"{key}={factor}" for key, factor in value.items())]
    return [flag, *map(str, value)] if isinstance(value, tuple) else [flag, str(value)]
