"""Checks of what a user, or a file, gave against the annotations of what was asked for."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

from jaxdl.errors import InputError, check_choice

P, T = ParamSpec("P"), TypeVar("T")
PLAIN = (str, int, float, list, tuple, Mapping, NoneType)  # a message shows such a value, and of others the type
WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", NoneType: "None"}
LISTS, DICTS = (Sequence, Iterable, tuple, list), (Mapping, dict)


def check_type(name: str, value: Any, expected: Any) -> None:
    """Raises InputError unless `value` is of a type, said as in an annotation: ``int | None``, ``Mapping[str, float]``.

    A list passes for a tuple, a whole number for a float, numpy's numbers for Python's; True is no number. Of a
    ``TypedDict`` its keys are looked at; others may be there.
    """
    keyed = next(filter(is_typeddict, _members(expected)), None)
    if keyed is not None and isinstance(value, Mapping):
        if missing := sorted(keyed.__required_keys__ - value.keys()):
            raise InputError(f"{name} has no {', '.join(missing)}")
        for key in _hints(keyed).keys() & value.keys():
            check_type(f"{key} of {name}", value[key], _hints(keyed)[key])
        return
    if _fits(value, expected):
        return
    choices = [choice for one in _members(expected) if get_origin(one) is Literal for choice in get_args(one)]
    if choices and isinstance(value, str):
        check_choice(name, value, choices)
    shown = f"{value!r:.200}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"
    raise InputError(f"{name} is {shown}; expected {_in_words(expected)}")


def check_fields(made: Any) -> None:
    """Raises InputError unless every field of a dataclass is of the type that it is annotated with."""
    hints = _hints(type(made))
    for field in dataclasses.fields(made):
        check_type(field.name, getattr(made, field.name), hints[field.name])


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Has a function refuse a dict for a `Plan`, a path for a `Checkpoint`: what is no dataclass that it asks for.

    Only arguments annotated with dataclasses are looked at; the function checks the others where it uses them.
    """
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        given = dict(zip(names, args, strict=False)) | kwargs
        for name, expected in _hints(function).items():
            if name in given and all(map(dataclasses.is_dataclass, _members(expected))):
                check_type(name, given[name], expected)
        return function(*args, **kwargs)

    return checked


_hints = functools.cache(get_type_hints)


def _members(expected: Any) -> tuple[Any, ...]:
    """The types of a union; a single type is its own only member."""
    return get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)


def _fits(value: Any, expected: Any) -> bool:
    members, inner = _members(expected), get_args(expected)
    if expected is Any or len(members) > 1:
        return expected is Any or any(_fits(value, one) for one in members)
    base = get_origin(expected) or expected
    if base is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if is_typeddict(base):
        whole = isinstance(value, Mapping) and base.__required_keys__ <= value.keys()
        return whole and all(_fits(value[key], one) for key, one in _hints(base).items() if key in value)
    if base in (bool, int, float):
        truth = isinstance(value, bool | np.bool_)
        return truth if base is bool else isinstance(value, Integral if base is int else Real) and not truth
    if base is Callable:
        return callable(value)
    if base in DICTS:
        pairs = value.items() if isinstance(value, Mapping) and inner else ()
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in pairs)
    if base in LISTS:
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        if not listed or getattr(value, "ndim", 1) == 0:  # an array of a single number is no list
            return False
        return isinstance(value, Iterator) or not inner or all(_fits(one, inner[0]) for one in value)
    return isinstance(value, base)


def _in_words(expected: Any) -> str:
    base, inner = get_origin(expected) or expected, get_args(expected)
    if len(members := _members(expected)) > 1:
        return " or ".join(map(_in_words, members))
    if base is Literal:
        return " or ".join(map(repr, inner))
    if base is Callable:
        return "a function"
    if is_typeddict(base):
        return f"a dict of {', '.join(_hints(base))}"
    if base in DICTS:
        return f"a dict with {_in_words(inner[1])} for each name" if inner and inner[1] is not Any else "a dict"
    if base in LISTS:
        return f"a list, each entry {_in_words(inner[0])}" if inner and inner[0] is not Any else "a list"
    said = WORDS.get(base) or getattr(base, "IN_WORDS", None)  # a class may say where its objects come from
    return said or f"{'an' if base.__name__[0] in 'AEIOU' else 'a'} {base.__name__}"
