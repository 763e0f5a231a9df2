"""Test-time augmentation: a network is asked about mirror images, too, and its answers are combined."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.errors import InputError, check_choice
from jaxdl.models.variables import Variables
from jaxdl.weights.checkpoint import Checkpoint

MIRRORS: dict[str, Callable[[Any], Any]] = {
    "flip": lambda images: images[:, :, ::-1],
    "flip-vertical": lambda images: images[:, ::-1],
}
Said = Callable[[Variables, Any], tuple[Any, Any]]


def check_views(checkpoint: Checkpoint, names: str | Sequence[str]) -> tuple[str, ...]:
    """The names of `MIRRORS` that are asked for, each once.

    Raises:
      InputError: for another name, examples that are no images, or a task whose answers belong to places of an image.
    """
    names = tuple(dict.fromkeys((names,) if isinstance(names, str) else names))
    for name in names:
        check_choice("test-time augmentation", name, MIRRORS)
    preprocessing, task = checkpoint.card.preprocessing, checkpoint.task
    if names and not isinstance(preprocessing, ImagePreprocessing):
        raise InputError(f"tta is {', '.join(names)}, but the examples are {preprocessing.describe()}, no images")
    if names and not task.ANSWERS_WHOLE:
        raise InputError(
            f"tta is {', '.join(names)}, but what a network says of {task.describe()} may belong to places of it; "
            "these would have to be moved back: leave it out"
        )
    return names


def over_views(checkpoint: Checkpoint, said: Said, names: Sequence[str]) -> Said:
    """`said` of the images and of all their mirror images by `names`, combined as networks of an ensemble are.

    Args:
      checkpoint: whose task combines.
      said: ``(variables, x) -> (kept, finite)`` of a batch.
      names: of `MIRRORS`; of two, four views.
    """
    if not names:
        return said
    chosen = list(chain.from_iterable(combinations(names, count) for count in range(len(names) + 1)))

    def combined(variables: Variables, x: Any) -> tuple[Any, Any]:
        made = []
        for mirrors in chosen:
            view = x
            for name in mirrors:
                view = MIRRORS[name](view)
            made.append(said(variables, view))
        kept, finite = jax.tree.map(lambda *each: jnp.stack(each), *made)
        return checkpoint.task.combine(kept, jnp.ones((len(chosen), len(x)))), finite.all(0)

    return combined
