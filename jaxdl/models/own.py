"""Models of a user's own as plain values, and back from the class or an instance: a file imports nothing."""

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.staged import Staged
from jaxdl.models.wrapped import Wrapped

NOT_PLAIN = "not plain"  # marks, on a card, what JSON cannot hold: a text that is only compared
LINEN = ("parent", "name")  # fields of every module


def own_name(model: Staged) -> str:
    """What a model that is in no table is called: by its class, or that of the module in it."""
    return type(model.module.module if isinstance(model, Wrapped) else model).__name__


def own_arguments(model: Staged) -> dict[str, Any]:
    """The fields of a model that are not at their defaults, without ``num_outputs``, as values for JSON."""
    if isinstance(model, Wrapped):
        held = {"module": _fields(model.module.module), "head": model.head}
        held |= {"groups": [[name, list(members)] for name, members in model.groups]} if model.groups else {}
        return held | ({} if model.dtype == "float32" else {"dtype": model.dtype})
    return _fields(model)


def defaults(family: type[nn.Module]) -> dict[str, Any]:
    """The arguments of a class of modules with their defaults; linen's own fields left out."""
    own = [field for field in dataclasses.fields(family) if field.name not in LINEN]
    return {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in own}


def _fields(module: nn.Module) -> dict[str, Any]:
    values = {name: (getattr(module, name), default) for name, default in defaults(type(module)).items()}
    values.pop("num_outputs", None)
    plain = {name: (_plain(value), _plain(default)) for name, (value, default) in values.items()}
    return {name: value for name, (value, default) in plain.items() if value != default}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(one) for key, one in value.items()}
    return {NOT_PLAIN: _text(value)}


def _text(value: Any) -> str:
    """The same in another process."""
    if isinstance(value, partial):
        return f"{_text(value.func)}{_plain(value.args)}{_plain(value.keywords)}"
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}{_fields(value)}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return NOT_PLAIN not in value and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if isinstance(value, list) else True


def rebuild_own(name: str, num_outputs: int, arguments: Mapping[str, Any], given: Any) -> Staged:
    """The model that a card calls `name`, from what the reader gave for it.

    Args:
      name: as on the card, with the two following.
      num_outputs: of the head.
      arguments: of `own_arguments`.
      given: its class, or an instance: of a wrapped module, or one with fields that no card can hold.

    Raises:
      InputError: if what was given is not what the card describes.
    """
    if type(num_outputs) is not int or num_outputs < 1:
        raise InputError(f"num_outputs of '{name}' is {num_outputs!r}; expected a positive whole number")
    if isinstance(given, Staged):
        return _same(name, given.clone(num_outputs=num_outputs, **_dtype(arguments)), arguments)
    if not isinstance(given, type) or not issubclass(given, Staged) or given is Wrapped or "module" in arguments:
        raise InputError(
            f"models has for '{name}' {given!r:.100}, {'a wrapped module' if 'module' in arguments else 'a model'} is "
            f"needed; pass {how_to_give(name, arguments)}"
        )
    have = defaults(given)
    for argument, value in arguments.items():
        if argument not in have:
            raise InputError(f"the card's '{name}' has the argument '{argument}', which {given.__name__} does not have")
        if not _is_plain(value):
            raise InputError(
                f"the card cannot hold '{argument}' of '{name}' ({value}); pass a model that has it: "
                f"models={{'{name}': {given.__name__}(num_outputs={num_outputs}, {argument}=…)}}"
            )
    fields = {k: v if isinstance(have[k], list) else _as_tuple(v) for k, v in arguments.items()}
    return given(num_outputs=num_outputs, **fields)


def _dtype(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"dtype": arguments.get("dtype", "float32")}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _same(name: str, model: Staged, arguments: Mapping[str, Any]) -> Staged:
    """The model, if it has the arguments. Raises InputError naming those that differ."""
    have = own_arguments(model)
    differing = [
        f"{key} is {arguments.get(key, 'at its default')!s:.100} on the card, {have.get(key, 'at its default')!s:.100} "
        "in models"
        for key in sorted(have.keys() | arguments.keys())
        if have.get(key) != arguments.get(key)
    ]
    if differing:
        raise InputError(f"the model given for '{name}' is another than the card's: {'; '.join(differing)}")
    return model


def how_to_give(name: str, arguments: Mapping[str, Any]) -> str:
    """What a reader of a checkpoint must pass, as an argument in Python."""
    if "module" in arguments:
        fields = ", ".join(_argument(key, value) for key, value in arguments["module"].items())
        groups = dict(arguments.get("groups", ()))
        more = f", groups={ {key: tuple(members) for key, members in groups.items()} }" if groups else ""
        return f'models={{"{name}": jaxdl.wrap({name}({fields}), head="{arguments["head"]}"{more})}}'
    if all(map(_is_plain, arguments.values())):
        return f'models={{"{name}": {name}}}'
    fields = ", ".join(["num_outputs=1", *(_argument(key, value) for key, value in arguments.items())])
    return f'models={{"{name}": {name}({fields})}}'


def _argument(key: str, value: Any) -> str:
    return f"{key}={_as_tuple(value)!r}" if _is_plain(value) else f"{key}=…"
