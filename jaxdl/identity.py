"""When two values are the same: texts are too little, since a function or a module has no text of its own."""

import dataclasses
import json
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class _Itself:
    """A value that is the same as nothing but itself."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def key_of(value: Any) -> Hashable:
    """Equal for two values only if these are the same.

    Plain values (what JSON can hold) are compared by their text, others by their own equality, and what has none that
    can be hashed, such as a module with a list among its fields, is the same as nothing but itself.
    """
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        pass  # not plain
    return value if can_hash(value) else _Itself(value)


def can_hash(value: Any) -> bool:
    """Whether a value can be a key."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def remembered(maxsize: int) -> Callable[[Callable], Callable]:
    """`functools.lru_cache` for a function whose arguments may have no hash: then it is called each time."""

    def decorate(function: Callable) -> Callable:
        known = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return (known if can_hash(arguments) else function)(*arguments)

        call.cache_info, call.cache_clear = known.cache_info, known.cache_clear
        return call

    return decorate
