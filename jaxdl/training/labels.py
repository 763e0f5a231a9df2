"""Which parameters are trained: a label on their paths.

Every way of transfer is such a labelling of one tree: freezing stages, training biases alone, adding adapters.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax

from jaxdl.errors import InputError
from jaxdl.models import adapters
from jaxdl.models.initialise import batch_of
from jaxdl.models.roles import is_adapter, is_bias, is_norm
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Path, Variables, modules_of, partition
from jaxdl.training.plan import Plan

Label = Callable[[Path, Collection[str]], bool]


def _every(path: Path, siblings: Collection[str]) -> bool:
    return True


def _none(path: Path, siblings: Collection[str]) -> bool:
    return False


BODY: dict[str, Label] = {"all": _every, "biases": is_bias, "norm": is_norm}  # by `Plan.train`


def label_of(plan: Plan, names: Sequence[str], frozen: int) -> Label:
    """Whether a parameter is trained, by its path.

    Args:
      plan: says what is trained of the stages that are not frozen; the head is always trained whole.
      names: of all stages in order.
      frozen: how many of them, from the input, are frozen whole.
    """
    body = _none if plan.adapter and plan.train == "all" else BODY[plan.train]

    def trained(path: Path, siblings: Collection[str]) -> bool:
        if path[0] in names[:frozen]:
            return False
        if path[0] == names[-1] or body(path, siblings):
            return True
        return bool(plan.adapter) and is_adapter(path, siblings)

    return trained


def divide(variables: Variables, label: Label) -> tuple[Variables, Variables]:
    """Variables that are trained, and all others.

    Statistics go with the scale or bias beside which they stand; those of a normalisation that has neither go with its
    stage, if all of that is trained.
    """
    trained, others = partition(variables["params"], label)
    modules, still = modules_of(trained), modules_of(others)

    def live(path: Path, siblings: Collection[str]) -> bool:
        module = path[:-1]
        if module in modules or module in still:
            return module in modules
        return path[0] in trained and path[0] not in others

    stats, rest = partition(variables.get("batch_stats", {}), live)
    return {"params": trained, "batch_stats": stats}, {"params": others, "batch_stats": rest}


def check_trained(plan: Plan, model: Staged, trained: Variables) -> None:
    """Raises InputError where `Plan.train` names what no stage before the head has."""
    if plan.train != "all" and not trained["params"].keys() - {model.stage_names[-1]}:
        raise InputError(
            f"train='{plan.train}' trains nothing: no stage of {type(model).__name__} that is not frozen has such "
            "parameters before its head; use train='all', or freeze_through='body' to train the head alone"
        )


@dataclasses.dataclass(frozen=True)
class NewAdapter:
    """An adapter that a run begins with.

    Attributes:
      layers: that get one; see `adapters.choose_layers`.
      rank: of each.
    """

    layers: adapters.Layers
    rank: int

    def draw(self, params: Any, key: jax.Array, used: Any = None) -> Variables:
        """Its parameters; see `adapters.fresh`."""
        return {"params": adapters.fresh(params, self.layers, self.rank, key, used), "batch_stats": {}}


def with_adapter(
    plan: Plan, model: Staged, variables: Variables, spec: Any, frozen: int
) -> tuple[Variables, NewAdapter | None]:
    """Variables to start from, and the adapter that the plan adds to them; None where it adds none.

    An adapter that they have goes on where the plan names the very same, and else is merged into the kernels, which
    changes nothing that the network says.

    Args:
      plan: names it.
      model: gets it.
      variables: (shapes of) the model's.
      spec: of an example.
      frozen: number of stages that are frozen whole.

    Raises:
      InputError: if it names layers that are not there, are frozen or take none, or the one before cannot be merged.
    """
    wanted, had = plan.parsed_adapter, adapters.ranks_of(variables["params"])
    if not wanted and not had:
        return variables, None
    layers = adapters.layers_of(model, variables, batch_of(spec), stop=model.stage_names[-1])
    new = None
    if wanted:
        chosen = adapters.choose_layers(layers, model.stage_names[frozen:-1], wanted.layers)
        kernels = {name: adapters.kernel_of(variables["params"], name) for name, _ in chosen}
        ranks = {name: adapters.rank_of(kernels[name], axes, wanted.rank) for name, axes in chosen}
        if had == ranks:
            return variables, None
        new = NewAdapter(chosen, wanted.rank)
    if had:
        adapters.check_mergeable(variables["params"], layers)
        variables = {**variables, "params": adapters.merge(variables["params"])}
    return variables, new


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Variables divided as a plan asks.

    Attributes:
      names: of all stages in order.
      held: per epoch the number of stages that are frozen whole in it.
      label: says of a parameter whether it is ever trained.
      trained: (shapes of) variables that are, without a new adapter.
      frozen: all others.
      adapter: that each run adds; None for none.
    """

    names: Sequence[str]
    held: Sequence[int]
    label: Label
    trained: Variables
    frozen: Variables
    adapter: NewAdapter | None

    @property
    def first_trained(self) -> str:
        """The first stage of which anything is ever trained."""
        adapted = {name.split("/")[0] for name, _ in (self.adapter.layers if self.adapter else ())}
        return next(name for name in self.names if name in {*self.trained["params"], *adapted, self.names[-1]})


def label_parameters(plan: Plan, model: Staged, variables: Variables, spec: Any) -> Labelled:
    """What `plan` trains of a model.

    Args:
      plan: says it.
      model: with its final head.
      variables: (shapes of) what it starts from; see `with_adapter`.
      spec: of an example.

    Raises:
      InputError: as `Plan.boundary`, `with_adapter` and `check_trained`.
    """
    names = model.stage_names
    held = held_stages(plan, names, plan.boundary(model), variables)
    label = label_of(plan, names, min(held))
    variables, adapter = with_adapter(plan, model, variables, spec, min(held))
    trained, frozen = divide(variables, label)
    check_trained(plan, model, trained)
    return Labelled(names, held, label, trained, frozen, adapter)


def held_stages(plan: Plan, names: Sequence[str], at_first: int, variables: Variables) -> list[int]:
    """Per epoch the number of frozen stages.

    A stage without variables computes the same whether frozen or not: the boundary may pass it.
    """

    def has_variables(index: int) -> bool:
        return any(names[index] in tree for tree in variables.values())

    while 0 < at_first < len(names) - 1 and not has_variables(at_first):
        at_first += 1
    if not plan.unfreeze_every:
        return [at_first] * plan.epochs
    # downwards from the head; the first stage with variables takes those without, before it, along
    waiting = [index for index in range(at_first) if has_variables(index)][::-1]
    steps = [at_first, *waiting[:-1], *([0] if waiting else [])]
    return [steps[min(epoch // plan.unfreeze_every, len(steps) - 1)] for epoch in range(plan.epochs)]
