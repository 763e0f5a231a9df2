"""Test-time augmentation: a network is asked about mirror images, too, and its answers are combined."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing
from jaxdl.errors import InputError, check_choice
from jaxdl.models.variables import Variables
from jaxdl.tasks import Task

MIRRORS: dict[str, Callable[[Any], Any]] = {
    "flip": lambda images: images[:, :, ::-1],
    "flip-vertical": lambda images: images[:, ::-1],
}
Said = Callable[[Variables, Any], tuple[Any, Any]]


def check_views(preprocessing: Preprocessing, names: str | Sequence[str], *, tiled: bool) -> tuple[str, ...]:
    """The names of `MIRRORS` that are asked for, each once.

    Args:
      preprocessing: of the network that is asked.
      names: what is asked for.
      tiled: whether images are predicted tile by tile.

    Raises:
      InputError: for another name, or examples that are no images or are cut into tiles.
    """
    names = tuple(dict.fromkeys((names,) if isinstance(names, str) else names))
    for name in names:
        check_choice("test-time augmentation", name, MIRRORS)
    if names and not isinstance(preprocessing, ImagePreprocessing):
        raise InputError(f"tta is {', '.join(names)}, but the examples are {preprocessing.describe()}, no images")
    if names and tiled:
        raise InputError(f"tta is {', '.join(names)}, but the images are predicted tile by tile: leave it out")
    return names


def over_views(task: Task, said: Said, names: Sequence[str]) -> Said:
    """`said` of the images and of all their mirror images by `names`, combined as networks of an ensemble are.

    Args:
      task: which combines, and turns what is said of places of an image back.
      said: ``(variables, x) -> (kept, finite)`` of a batch.
      names: of `MIRRORS`; of two, four views.
    """
    if not names:
        return said

    def combined(variables: Variables, x: Any) -> tuple[Any, Any]:
        made = said_of_views(task, lambda view: said(variables, view), x, names)
        kept, finite = jax.tree.map(lambda *each: jnp.stack(each), *made)
        return task.combine(kept, jnp.ones((len(made), len(x)))), finite.all(0)

    return combined


def said_of_views(
    task: Task, said: Callable[[Any], tuple[Any, Any]], x: Any, names: Sequence[str], *, members: bool = False
) -> list[tuple[Any, Any]]:
    """What is said of a batch of images, then of each of their mirror images, where places are turned back.

    Args:
      task: which knows whether its answers belong to places.
      said: ``x -> (kept, finite)``, arrays ``[batch, …]``, or ``[members, batch, …]`` if `members`.
      x: images ``[batch, height, width, channels]``.
      names: of `MIRRORS`; of two, four views; of none, one.
      members: whether several networks answer.
    """
    made = []
    for mirrors in chain.from_iterable(combinations(names, count) for count in range(len(names) + 1)):
        view = x
        for name in mirrors:
            view = MIRRORS[name](view)
        kept, finite = said(view)
        for name in mirrors:
            kept = task.mirrored(kept, jax.vmap(MIRRORS[name]) if members else MIRRORS[name])
        made.append((kept, finite))
    return made
