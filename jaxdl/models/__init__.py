"""What learns: the families and the table of models."""

from collections.abc import Mapping
from typing import Any

from jaxdl.errors import InputError, check_choice, nearest
from jaxdl.models.own import defaults, how_to_give, own_arguments, own_name, rebuild_own
from jaxdl.models.staged import Staged, check_stages
from jaxdl.models.table import MODELS as MODELS
from jaxdl.models.table import MODES as MODES
from jaxdl.models.table import Entry
from jaxdl.models.wrapped import Wrapped

DEEPEST = 1000  # blocks in a row; a damaged card may ask for millions, and tracing them would never end


def register_model(
    name: str,
    family: type[Staged] | Wrapped,
    arguments: Mapping[str, Any] | None = None,
    image_size: int = 32,
    length: int = 0,
) -> None:
    """Adds a model of your own to `MODELS`, for this process: names, checkpoints and commands know it from then on.

    Args:
      name: for `create`, ``init="…"``, a search's space, and on cards.
      family: a subclass of `Staged`, or what `wrap` gave.
      arguments: what the name stands for, if not the class's defaults.
      image_size: see `Entry`.
      length: see `Entry`.

    Raises:
      InputError: for a name that is taken, or a model that does not keep the rules of `Staged`.
    """
    if isinstance(family, Wrapped):
        held = {field: getattr(family, field) for field in ("module", "head", "groups", "dtype")}
        entry = Entry(Wrapped, held | dict(arguments or {}), image_size, own=True, length=length)
    elif isinstance(family, type) and issubclass(family, Staged) and family is not Wrapped:
        entry = Entry(family, dict(arguments or {}), image_size, own=True, length=length)
    else:
        raise InputError(f"family is {family!r:.100}; expected a subclass of jaxdl.Staged, or what jaxdl.wrap gave")
    if MODELS.get(name, entry) != entry:
        raise InputError(f"there is a model '{name}' already; give yours another name")
    if unknown := entry.arguments.keys() - defaults(entry.family).keys():
        raise InputError(f"{entry.family.__name__} has no argument {', '.join(sorted(unknown))}")
    check_stages(entry.family(num_outputs=1, **entry.arguments))
    MODELS[name] = entry


def create(name: str, num_outputs: int, **arguments: Any) -> Staged:
    """A model by name, without variables.

    Args:
      name: one of `MODELS`.
      num_outputs: size of the logits: the number of classes. A model of text may have 0: its features are its outputs.
      **arguments: fields of the family, such as ``activation="tanh"`` or ``depth=6``; they win over the name's.

    Raises:
      InputError: for an unknown name or argument, or a value that the family refuses.
    """
    check_choice("model", name, MODELS)
    entry = MODELS[name]
    fields = defaults(entry.family)
    for argument, value in tuple(arguments.items()):
        if argument not in fields or argument == "num_outputs":
            known = sorted(set(fields) - {"num_outputs"})
            raise InputError(
                f"model '{name}' has no argument '{argument}'; it has: {', '.join(known)}.{nearest(argument, known)}"
            )
        if argument in entry.family.PARTS:
            arguments[argument] = _part(f"argument '{argument}' of model '{name}'", value)
        elif not entry.own and not _alike(value, fields[argument]):
            raise InputError(
                f"argument '{argument}' of model '{name}' is {value!r}; expected something like {fields[argument]!r}"
            )
        depths = value if isinstance(value, (list, tuple)) else [value]
        if argument in ("depth", "depths") and max(depths, default=0) > DEEPEST:
            raise InputError(f"{argument} of model '{name}' is {value!r}; expected at most {DEEPEST} blocks in a row")
        if argument == "dropout" and not 0 <= value < 1:
            raise InputError(f"dropout of model '{name}' is {value!r}; expected a share of at least 0 and less than 1")
    for dtype in ("dtype", "param_dtype"):
        check_choice(dtype, arguments.get(dtype, "float32"), ("float32", "bfloat16", "float16"))
    least = 0 if entry.family.SEQUENCES else 1
    if not isinstance(num_outputs, int) or num_outputs < least:
        raise InputError(f"num_outputs is {num_outputs!r}; expected a positive whole number")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    model = entry.family(num_outputs=num_outputs, **{**entry.arguments, **given})
    check_stages(model)  # families check their values there
    return model


def describe(model: Staged) -> tuple[str, dict[str, Any]]:
    """The name and arguments from which `rebuild` makes this model again (without ``num_outputs``).

    A model of a user's own that is in no row of `MODELS` has the name of its class, or of that of the wrapped module.

    Raises:
      InputError: if that name is the one of a model in `MODELS`.
    """
    best: tuple[str, dict[str, Any]] | None = None
    for name, entry in MODELS.items():
        if type(model) is not entry.family:
            continue
        differing = {k: getattr(model, k) for k, v in entry.preset.items() if getattr(model, k) != v}
        differing.pop("num_outputs", None)
        if "module" in differing and entry.family is Wrapped:
            continue  # another module
        if best is None or len(differing) < len(best[1]):
            best = name, differing
    if best is None:
        if (name := own_name(model)) in MODELS:
            raise InputError(f"the class {name} has the name of a model of another kind; give yours another name")
        return name, own_arguments(model)
    # all of a user's own, so that a card is whole without the row
    if MODELS[best[0]].own:
        return best[0], own_arguments(model)
    return best[0], {k: _plain_part(v) if isinstance(v, Staged) else v for k, v in best[1].items()}


def _part(what: str, value: Any) -> Staged | None:
    """A model within another one, from its name or what `_plain_part` gave."""
    if isinstance(value, str):
        value = create(value, 1)
    elif (
        isinstance(value, Mapping) and value.keys() == {"name", "arguments"} and isinstance(value["arguments"], Mapping)
    ):
        value = rebuild(value["name"], 1, value["arguments"])
    if value is not None and not isinstance(value, Staged):
        raise InputError(f"{what} is {value!r}; expected the name of a model, a model, or None")
    return None if value is None else value.clone(num_outputs=1, dtype="float32", param_dtype="float32")


def _plain_part(model: Staged) -> dict[str, Any]:
    name, arguments = describe(model)
    return {"name": name, "arguments": arguments}


def is_own(model: Staged) -> bool:
    """Whether it is a user's own, in a row of `MODELS` or not."""
    return all(type(model) is not entry.family or entry.own for entry in MODELS.values())


def image_size_of(model: Staged) -> int:
    """See `Entry`."""
    return MODELS.get(describe(model)[0], Entry(type(model))).image_size


def rebuild(
    name: str, num_outputs: int, arguments: Mapping[str, Any], models: Mapping[str, type[Staged] | Staged] | None = None
) -> Staged:
    """The model that a card describes; undoes `describe`. Nothing is imported for it.

    Args:
      name: as on the card, with the two following.
      num_outputs: of the head.
      arguments: of the class.
      models: of a user's own by name: a subclass of `Staged`, or an instance.

    Raises:
      InputError: if the model is not known or cannot be made.
    """
    if name in (models or {}):
        return rebuild_own(name, num_outputs, arguments, models[name])
    if name not in MODELS:
        raise InputError(
            f"the model '{name}' is not one of jaxdl.{nearest(name, MODELS)} If it is one of your own, pass it in "
            f"Python: {how_to_give(name, arguments)}; or register it first, by jaxdl.register_model with this name"
        )
    if (entry := MODELS[name]).own:
        known = create(name, num_outputs)
        return rebuild_own(name, num_outputs, arguments, known if isinstance(known, Wrapped) else entry.family)
    return create(name, num_outputs, **arguments)


def changeable(model: Staged) -> list[str]:
    """Names of the arguments that a search may choose."""
    hidden = ("num_outputs", "dtype", "param_dtype", *(("module", "head", "groups") if type(model) is Wrapped else ()))
    return [name for name in defaults(type(model)) if name not in hidden]


def with_arguments(model: Staged, arguments: Mapping[str, Any]) -> Staged:
    """The model with other arguments. Raises InputError for what its class does not have, or refuses."""
    name, known = describe(model)
    if not is_own(model):
        return create(name, model.num_outputs, **{**known, **arguments})
    for argument in arguments:
        check_choice(f"argument of {name}", argument, changeable(model))
    changed = model.clone(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})
    check_stages(changed)
    return changed


def _alike(value: Any, expected: Any) -> bool:
    """Whether `value` is of the kind of the default `expected`: tuples hold sizes, numbers are not negative."""
    if isinstance(expected, tuple):
        return isinstance(value, (list, tuple)) and all(type(size) is int and size > 0 for size in value)
    if isinstance(expected, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(expected) and not (type(value) is int and value < 0)
