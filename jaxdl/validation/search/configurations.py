"""From drawn values to what is trained: a starting point and a plan; and which of them share a program."""

import dataclasses
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.identity import key_of
from jaxdl.models import create, describe, is_own, with_arguments
from jaxdl.models.adapters import ranks_of
from jaxdl.models.initialise import variable_shapes
from jaxdl.models.roles import is_adapter
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables, partition
from jaxdl.tasks import Task
from jaxdl.training.labels import label_parameters
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
        """The one whose program serves all: the first, with the largest rank of an adapter."""
        one = self.configurations[0]
        if one.plan.adapter is None:  # and so has none of the others
            return one
        largest = max((other.plan for other in self.configurations), key=lambda plan: plan.parsed_adapter.rank)
        return dataclasses.replace(one, plan=dataclasses.replace(one.plan, adapter=largest.adapter))

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
    starts: dict[Hashable, Init] = {}
    shapes: dict[Hashable, Variables] = {}
    made = []
    for number, values in enumerate(drawn):
        try:
            start = _start(values, init, task, starts)
            chosen = _plan(values, plan)
            with_plan(task, chosen)  # checks that they go together
            sizes = _sizes(start, chosen, source, task, image_size, shapes)
        except InputError as error:
            said = ", ".join(f"{name}={_named(value)}" for name, value in values.items())
            raise InputError(f"the space holds a configuration that cannot be ({said}): {error}") from error
        made.append(Configuration(number, values, start, chosen, *sizes))
    return made


def _start(values: Mapping[str, Any], init: Init, task: Task, starts: dict[Hashable, Init]) -> Init:
    """The starting point; the same one for the same values."""
    arguments = without_prefix(values, "model.")
    given = values.get("init")
    by_name = tuple((name, key_of(value)) for name, value in sorted(arguments.items()))
    key = (str(given) if _is_name(given) else id(given), values.get("model"), by_name)
    if key in starts:
        return starts[key]
    if "init" in values:
        init = _once(starts, f"init {given}", lambda: load_pretrained(given)) if _is_name(given) else given
        if not isinstance(init, Checkpoint | Staged):
            raise InputError(f"init is {given!r}; expected a checkpoint, or the path or name of one")
    if "model" in values:
        init = create(values["model"], task.num_outputs, **arguments)
    elif arguments:
        if isinstance(init, Checkpoint) and (wrong := set(arguments) - set(WITHOUT_VARIABLES)):
            raise InputError(
                f"a checkpoint's {', '.join(sorted(wrong))} cannot be changed: its weights are of that shape; of a "
                f"checkpoint the space may name model.{', model.'.join(WITHOUT_VARIABLES)}"
            )
        model = with_arguments(model_of(init), arguments)
        init = dataclasses.replace(init, model=model) if isinstance(init, Checkpoint) else model
    starts[key] = init
    return init


def _is_name(value: Any) -> bool:
    return isinstance(value, str | Path)


def _once(starts: dict[Hashable, Init], key: str, make: Any) -> Init:
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
    init: Init, plan: Plan, source: Source, task: Task, image_size: int | None, known: dict[Hashable, Variables]
) -> tuple[int, int]:
    """Number of parameters, and of those that the plan trains. `known` are shapes of the models seen before."""
    spec = choose_preprocessing(init, source, image_size).spec()
    model = task.fit_model(model_of(init).clone(num_outputs=task.num_outputs), spec)
    key = key_of(init) if isinstance(init, Staged) else id(init)
    if key not in known:
        known[key] = variable_shapes(model, spec)
        if isinstance(init, Checkpoint):
            had, _ = partition(init.variables["params"], is_adapter)
            known[key] = join_variables(known[key], {"params": had})
    begun = label_parameters(plan, model, known[key], spec)
    frozen, trained = begun.frozen["params"], begun.trained["params"]
    if begun.adapter:
        both = join_variables(begun.frozen, begun.trained)["params"]
        drawn = jax.eval_shape(lambda: begun.adapter.draw(both, jax.random.key(0)))["params"]
        trained = join_variables(trained, drawn)
    frozen, trained = (sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for part in (frozen, trained))
    return frozen + trained, trained


def group(configurations: Sequence[Configuration]) -> list[Group]:
    """Those that differ in numbers alone together, in the order of the first of each."""
    found: dict[Hashable, list[Configuration]] = {}
    for one in configurations:
        found.setdefault(_program_of(one), []).append(one)
    groups = []
    for members in found.values():
        stages = sorted({stage for one in members for stage in one.plan.stage_lr})
        groups.append(Group(members, tuple(stages), any(map(_has_traced_dropout, members))))
    return groups


def _has_traced_dropout(one: Configuration) -> bool:
    """Whether its dropout is a number: a user's own model may do with it what no value of a program can (`if`)."""
    return "model.dropout" in one.values and not is_own(one.model)


def _program_of(one: Configuration) -> Hashable:
    """All of a configuration but its numbers."""
    model = one.model.clone(dropout=0.0) if _has_traced_dropout(one) else one.model
    weights = id(one.init.variables) if isinstance(one.init, Checkpoint) else None
    plan = {k: v for k, v in one.plan.as_dict().items() if k not in (*NUMBERS, "stage_lr")}
    had = isinstance(one.init, Checkpoint) and ranks_of(one.init.variables["params"])
    if one.plan.adapter and not had:  # its rank is a number, too
        plan["adapter"] = one.plan.parsed_adapter.layers
    return key_of(model), weights, json.dumps(plan, default=str, sort_keys=True)
