"""A function of a model, compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxdl.identity import remembered
from jaxdl.models.staged import Staged


def compiled(function: Callable[..., Any], model: Staged, **static: Any) -> Callable[..., Any]:
    """`function` with `model` and more that is part of the program, compiled.

    Once in a process for a model that can be compared. One that cannot, such as a user's own with a list among its
    fields, may be another at the next call: it gets a program of its own each time.

    Args:
      function: called as ``function(*arrays, model=model, **static)``, with arrays by position.
      model: what it is of.
      **static: hashable.
    """
    return _compiled(function, model, tuple(sorted(static.items())))


@remembered(maxsize=256)
def _compiled(function: Callable[..., Any], model: Staged, static: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(partial(function, model=model, **dict(static)))
