"""From drawn values to what is trained: a starting point and a plan; and which of them share a program."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import create, describe
from jaxdl.models.staged import Staged, init_variables
from jaxdl.tasks import Task
from jaxdl.training.plan import Plan
from jaxdl.training.prepare import with_plan
from jaxdl.training.progress import without_prefix
from jaxdl.training.setup import Init, choose_preprocessing
from jaxdl.training.traced_hyperparameters import NUMBERS, TracedHyperparameters, traced_hyperparameters
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.pretrained import load_pretrained

# arguments of a model that change no variables, so that a checkpoint may have others
WITHOUT_VARIABLES = ("dropout", "stochastic_depth", "activation")


@dataclasses.dataclass(frozen=True, eq=False)
class Configuration:
    """One point of the space.

    Attributes:
      number: its place among all.
      values: by dimension, as drawn.
      init: what it starts from.
      plan: how it trains; the seed is that of all.
      parameters: of the whole network.
      trained: parameters that are trained.
    """

    number: int
    values: Mapping[str, Any]
    init: Init
    plan: Plan
    parameters: int = 0
    trained: int = 0

    @property
    def model(self) -> Staged:
        return model_of(self.init)

    def as_dict(self) -> dict[str, Any]:
        """``number``, ``values``, ``parameters``, ``trained``; plain values."""
        values = {name: _named(value) for name, value in self.values.items()}
        return {"number": self.number, "values": values, "parameters": self.parameters, "trained": self.trained}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Configurations that differ in numbers alone: one program trains them all.

    Attributes:
      configurations: at least one.
      stages: of which some have factors on the learning rate.
      dropout: whether its rate is one of the numbers.
    """

    configurations: Sequence[Configuration]
    stages: tuple[str, ...]
    dropout: bool

    @property
    def first(self) -> Configuration:
        return self.configurations[0]

    def traced(self, configuration: Configuration) -> TracedHyperparameters:
        """The numbers of one of them."""
        dropout = configuration.model.dropout if self.dropout else None
        return traced_hyperparameters(configuration.plan, self.stages, dropout)


def model_of(init: Init) -> Staged:
    return init.model if isinstance(init, Checkpoint) else init


def _named(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, Checkpoint):
        return str(value.path or describe(value.model)[0])
    if isinstance(value, Staged):
        return describe(value)[0]
    return str(value) if isinstance(value, Path) else value


def configure(
    drawn: Sequence[Mapping[str, Any]],
    init: Init,
    plan: Plan,
    source: Source,
    task: Task,
    image_size: int | None = None,
) -> list[Configuration]:
    """Makes, and checks, what the values stand for.

    Raises:
      InputError: naming the first configuration that cannot be.
    """
    starts: dict[str, Init] = {}
    sizes: dict[str, dict[str, int]] = {}
    made = []
    for number, values in enumerate(drawn):
        try:
            start = _start(values, init, task, starts)
            chosen = _plan(values, plan)
            boundary = chosen.boundary(model_of(start))
            with_plan(task, chosen)  # checks that they go together
        except InputError as error:
            said = ", ".join(f"{name}={_named(value)}" for name, value in values.items())
            raise InputError(f"the space holds a configuration that cannot be ({said}): {error}") from error
        by_stage = _sizes(start, source, task, image_size, sizes)
        trained = model_of(start).stage_names[boundary:] if not chosen.unfreeze_every else by_stage
        made.append(
            Configuration(
                number, values, start, chosen, sum(by_stage.values()), sum(by_stage.get(s, 0) for s in trained)
            )
        )
    return made


def _start(values: Mapping[str, Any], init: Init, task: Task, starts: dict[str, Init]) -> Init:
    """The starting point; the same one for the same values."""
    arguments = without_prefix(values, "model.")
    key = json.dumps([_named(values.get("init")), values.get("model"), arguments], default=str)
    if key in starts:
        return starts[key]
    if "init" in values:
        given = values["init"]
        init = _once(starts, f"init {given}", lambda: load_pretrained(given)) if _is_name(given) else given
        if not isinstance(init, Checkpoint | Staged):
            raise InputError(f"init is {given!r}; expected a checkpoint, or the path or name of one")
    if "model" in values:
        init = create(values["model"], task.num_outputs, **arguments)
    elif arguments:
        name, known = describe(model_of(init))
        if isinstance(init, Checkpoint) and (wrong := set(arguments) - set(WITHOUT_VARIABLES)):
            raise InputError(
                f"a checkpoint's {', '.join(sorted(wrong))} cannot be changed: its weights are of that shape; of a "
                f"checkpoint the space may name model.{', model.'.join(WITHOUT_VARIABLES)}"
            )
        model = create(name, model_of(init).num_outputs, **{**known, **arguments})
        init = dataclasses.replace(init, model=model) if isinstance(init, Checkpoint) else model
    starts[key] = init
    return init


def _is_name(value: Any) -> bool:
    return isinstance(value, str | Path)


def _once(starts: dict[str, Init], key: str, make: Any) -> Init:
    if key not in starts:
        starts[key] = make()
    return starts[key]


def _plan(values: Mapping[str, Any], plan: Plan) -> Plan:
    fields = {name: v for name, v in values.items() if "." not in name and name not in ("model", "init")}
    if factors := without_prefix(values, "stage_lr."):
        fields["stage_lr"] = {**plan.stage_lr, **factors}
    try:
        return dataclasses.replace(plan, **fields)
    except TypeError as error:  # a word where the plan compares numbers
        raise InputError(f"a value of another kind than the plan's own ({error})") from error


def _sizes(
    init: Init, source: Source, task: Task, image_size: int | None, known: dict[str, dict[str, int]]
) -> dict[str, int]:
    """Number of parameters by stage."""
    model = model_of(init)
    key = f"{describe(model)} {isinstance(init, Checkpoint)} {id(init) if isinstance(init, Checkpoint) else 0}"
    if key not in known:
        spec = choose_preprocessing(init, source, image_size).spec()
        model = model.clone(num_outputs=task.num_outputs)
        variables = jax.eval_shape(lambda k: init_variables(model, k, spec), jax.random.key(0))
        known[key] = {
            stage: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
            for stage, tree in variables["params"].items()
        }
    return known[key]


def group(configurations: Sequence[Configuration]) -> list[Group]:
    """Those that differ in numbers alone together, in the order of the first of each."""
    found: dict[str, list[Configuration]] = {}
    for one in configurations:
        found.setdefault(_program_of(one), []).append(one)
    groups = []
    for members in found.values():
        stages = sorted({stage for one in members for stage in one.plan.stage_lr})
        groups.append(Group(members, tuple(stages), any("model.dropout" in one.values for one in members)))
    return groups


def _program_of(one: Configuration) -> str:
    """All of a configuration but its numbers, as text."""
    name, arguments = describe(one.model)
    if "model.dropout" in one.values:
        arguments = {k: v for k, v in arguments.items() if k != "dropout"}
    weights = id(one.init.variables) if isinstance(one.init, Checkpoint) else None
    plan = {k: v for k, v in one.plan.as_dict().items() if k not in (*NUMBERS, "stage_lr")}
    return json.dumps([name, arguments, weights, plan], default=str, sort_keys=True)
