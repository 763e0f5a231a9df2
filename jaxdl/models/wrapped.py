"""Any Flax Linen module as a model: its submodules in named groups, and the one that is its head.

A stage is a part of the variables. The module itself runs in two pieces, the body and the head: its own call is run up
to where it calls the head, whose input is what flows between the two.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdl.checks import check_type
from jaxdl.errors import InputError
from jaxdl.models.flax_layers import COLLECTIONS, as_told, switched
from jaxdl.models.staged import HEAD, Mode, Staged
from jaxdl.models.variables import Path, Variables
from jaxdl.models.wrap_check import check_wrapped

REST = "body"  # the group of all that is in no other


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A module as a value among others: Flax would take a module among a model's fields for a submodule of it.

    Attributes:
      module: not bound to variables.
      heads: its head by name and compute dtype, as it was found when the module ran: it may be made inside the
        module's call, and is the same in every run.
      checked: what `Wrapped.check` looked at.
    """

    module: nn.Module
    heads: dict[tuple[str, str], nn.Module] = dataclasses.field(default_factory=dict)
    checked: set[Any] = dataclasses.field(default_factory=set)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Held) or self is other:
            return self is other
        try:
            return bool(self.module == other.module)
        except ValueError:  # arrays among its fields
            return False

    def __hash__(self) -> int:
        return hash(self.module)  # a TypeError for one that may change, such as with a list among its fields

    def __repr__(self) -> str:
        return repr(self.module)

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (self.module,)  # what was found out holds functions that cannot be pickled


class Wrapped(Staged):
    """A Flax module as a model; made by `wrap`.

    Its variables are ``{collection: {group: {submodule: …}}}``, with the head's under ``head``, so that all that works
    by stage works by group: what is frozen, learning rates, norms of gradients.

    Attributes:
      num_outputs: of the head; 0 for as many as the module's own has.
      module: the module.
      head: its head's path, such as ``"Dense_1"`` or ``"decoder/Dense_1"``.
      groups: ``((name, (path, …)), …)`` in the order of the stages.
    """

    num_outputs: int = 0
    module: Held | None = None
    head: str = ""
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The groups, the rest of the module before its head (it may have no variables), the head."""
        return *(name for name, _ in self.groups), REST, HEAD

    @property
    def cuts(self) -> tuple[str, ...]:
        """Before the first stage, which is before all, and before the head: the body runs as a whole."""
        return self.stage_names[0], HEAD

    @property
    def head_path(self) -> Path:
        """Of the head in the module."""
        return tuple(self.head.split("/"))

    @nn.nowrap
    def locate(self, path: Path) -> Path:
        """From a path in the module to that in the variables, which begins with a stage."""
        head = self.head_path
        if path[: len(head)] == head:
            return HEAD, *path[len(head) - 1 :]
        for name, members in self.groups:
            if any(path[: len(member)] == member for member in (tuple(m.split("/")) for m in members)):
                return name, *path
        return REST, *path

    @nn.nowrap
    def to_stages(self, own: Mapping[str, Any]) -> Variables:
        """The module's own variables, laid out by stage."""
        flat = {collection: flatten_dict(tree) for collection, tree in own.items()}
        return {c: unflatten_dict({self.locate(path): v for path, v in tree.items()}) for c, tree in flat.items()}

    @nn.nowrap
    def to_own(self, variables: Mapping[str, Any]) -> Variables:
        """Undoes `to_stages`, of all stages or some."""
        before = self.head_path[:-1]
        flat = {collection: flatten_dict(tree) for collection, tree in variables.items()}
        return {
            c: unflatten_dict({((*before, *p[1:]) if p[0] == HEAD else p[1:]): v for p, v in tree.items()})
            for c, tree in flat.items()
        }

    @nn.nowrap
    def own_module(self) -> nn.Module:
        """The module, computing in `dtype`. Raises InputError if it has no say in that."""
        module = self.module.module
        if not any(field.name == "dtype" for field in dataclasses.fields(module)):
            if self.dtype != "float32":
                raise InputError(
                    f"{type(module).__name__} cannot compute in {self.dtype}: it has no field dtype. Give it one, "
                    "which it passes on to its layers, or leave precision at float32"
                )
            return module
        if jnp.dtype(module.dtype or "float32") == self.dtype:
            return module
        return module.clone(parent=None, dtype=self.dtype if isinstance(module.dtype, str) else jnp.dtype(self.dtype))

    @nn.nowrap
    def head_module(self) -> nn.Module:
        """The head at the width `num_outputs`. Raises InputError before the module ran once."""
        found = self.module.heads.get((self.head, self.dtype))
        if found is None:
            raise InputError(
                f"the head '{self.head}' of {type(self.module.module).__name__} is only known once the module has run; "
                "call model.check(spec), with the shape of an example, before you run the head alone"
            )
        return found.clone(features=self.num_outputs, parent=None) if self.num_outputs else found

    @nn.nowrap
    def check(self, spec: Any) -> "Wrapped":
        """As of `Staged`: refuses a module that cannot be taken apart; runs it, on the first call, on random numbers.

        Args:
          spec: of an example, see `initialise.batch_of`.

        Returns:
          The model, whose `num_outputs` is known.

        Raises:
          InputError: if the head is never called, or twice, or inside a transformation, or is not the last that is
            computed; for a group of what the module does not have.
        """
        leaves, tree = jax.tree.flatten(spec)
        key = (self.head, self.groups, self.dtype, str(tree), str(leaves))
        if key not in self.module.checked:
            check_wrapped(self, spec)
            self.module.checked.add(key)
        return self if self.num_outputs else self.clone(num_outputs=self.head_module().features)

    def _run(self, modes: Mapping[str, Mode], x: Any, tied: Mapping[str, Any]) -> Any:
        taps = next(iter(modes.values())).taps
        if any(name != HEAD for name in modes):
            x = self._run_body(modes, x)
            taps.offer(REST, x)
        if HEAD in modes:
            x = self._run_head(modes, x)
            taps.offer(HEAD, x)
        return x

    def _run_body(self, modes: Mapping[str, Mode], x: Any) -> Any:
        """What the module gives its head."""
        found: list[Any] = []

        def instead(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if context.method_name != "__call__" or module.path != self.head_path:
                return call(*args, **kwargs)
            self.module.heads.setdefault((self.head, self.dtype), module.unbind()[0])
            found.append(args[0])
            head, kept = switched(self.head_module(), False)  # only the shape counts: what follows is dropped
            like = jax.eval_shape(lambda v: head.init_with_output(jax.random.key(0), v, **kept)[0], args[0])
            return jnp.zeros(like.shape, like.dtype)

        trees = {c: {s: t for s, t in tree.items() if s != HEAD} for c, tree in self.variables.items()}
        bare = [name for name in modes if name != HEAD and not trees.get("params", {}).get(name)]
        # a group without parameters, such as one of dropout alone, is evaluated if all others are
        telling = [name for name in modes if name not in (HEAD, *bare)] or bare
        live = any(modes[name].train for name in telling)
        modes = {name: dataclasses.replace(mode, train=live) if name in bare else mode for name, mode in modes.items()}
        with nn.intercept_methods(as_told(modes.__getitem__, self.locate)), nn.intercept_methods(instead):
            _, changed = self._call(self.own_module(), self.to_own(trees), x, train=live)
        if len(found) != 1:
            raise InputError(f"the head '{self.head}' is called {len(found)} times; expected once. See model.check")
        for collection, tree in self.to_stages(changed).items():
            for stage, part in tree.items():
                self.put_variable(collection, stage, part)
        return found[0]

    def _run_head(self, modes: Mapping[str, Mode], x: Any) -> Any:
        last = self.head_path[-1]
        own = {c: tree[HEAD][last] for c, tree in self.variables.items() if last in tree.get(HEAD, {})}
        with nn.intercept_methods(as_told(modes.__getitem__, lambda path: (HEAD, last, *path))):
            y, changed = self._call(self.head_module(), own, x, train=modes[HEAD].train)
        for collection, tree in changed.items():
            if tree:
                self.put_variable(collection, HEAD, {last: tree})
        return y

    def _call(self, module: nn.Module, own: Variables, x: Any, *, train: bool) -> tuple[Any, Variables]:
        """What a module on its own gives, and its variables that were made or changed."""
        module, told = switched(module, train)
        rngs = {name: self.make_rng(name) for name in self.scope.rngs}
        if self.is_initializing():
            y, made = module.init_with_output(rngs, x, mutable=list(COLLECTIONS), **told)
            return y, nn.meta.unbox(made)
        mutable = ["batch_stats"] if self.is_mutable_collection("batch_stats") else []
        return module.apply(own, x, rngs=rngs, mutable=mutable, **told)


def wrap(
    module: nn.Module,
    head: str,
    groups: Mapping[str, Collection[str]] | None = None,
    num_outputs: int = 0,
) -> Wrapped:
    """A Flax Linen module as a model, which goes wherever one of `create` goes.

    Its call takes an example's input alone, or also one of ``train``, ``training``, ``is_training``, ``deterministic``
    and ``use_running_average`` (a field of such a name will do). `nn.BatchNorm` and `nn.Dropout` are run as jaxdl's
    own: see `models.flax_layers.as_told`.

    Args:
      module: with whatever fields it needs.
      head: the submodule that makes the outputs, as Flax calls it: ``"Dense_1"``, ``"decoder/Dense_1"``. It has a field
        ``features``, to be as wide as a task asks, is called once, and nothing is computed after it.
      groups: stages to freeze, or give a learning rate, in the order from the input: names of submodules or parameters
        by the group's name, such as ``{"early": ("Conv_0", "BatchNorm_0")}``. What is in none is ``"body"``.
      num_outputs: 0 for as many as the module's own head has.

    Raises:
      InputError: for a group that is called as a stage already or shares members with another; what cannot be known
        without an example is refused where one is there, see `Wrapped.check`.
    """
    if isinstance(module, type):
        raise InputError(f"module is the class {module.__name__}; expected an instance: {module.__name__}()")
    check_type("module", module, nn.Module)
    if isinstance(module, Staged):
        raise InputError(f"{type(module).__name__} has stages already; use it as it is, without wrap")
    if not isinstance(head, str) or not all(head.split("/")):
        raise InputError(f"head is {head!r}; expected the path of a submodule, such as 'Dense_1'")
    listed = tuple((name, _members(name, members)) for name, members in (groups or {}).items())
    for name, _ in listed:
        if name in (REST, HEAD) or not name or "/" in name:
            raise InputError(f"a group cannot be called '{name}': expected a word other than {REST} and {HEAD}")
    every = [member for _, members in listed for member in members]
    for place, one in enumerate(every):
        for other in every[place + 1 :]:
            if f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/"):
                raise InputError(f"'{one}' and '{other}' are in the groups twice; expected each in one of them")
    own = getattr(module, "dtype", None)
    dtype = "float32" if own is None else str(jnp.dtype(own))
    return Wrapped(
        num_outputs=num_outputs, dtype=dtype, module=Held(module.clone(parent=None)), head=head, groups=listed
    )


def _members(name: str, members: Collection[str]) -> tuple[str, ...]:
    if isinstance(members, str) or not isinstance(members, Sequence) or not all(isinstance(m, str) for m in members):
        raise InputError(f"group '{name}' is {members!r}; expected names of submodules, such as ('Conv_0', 'Conv_1')")
    return tuple(members)
