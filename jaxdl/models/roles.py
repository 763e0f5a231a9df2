"""What a parameter is for, read from the name that Flax gives it: never from its number of axes.

Every layer of Flax calls its weights ``kernel`` and ``bias``, a table of embeddings ``embedding``, and a
normalisation's factors ``scale``. What has another name, such as a class token or positions, is none of these.
"""

from collections.abc import Collection
from typing import Any

import jax

from jaxdl.models.variables import Path

KERNELS = ("kernel",)
ADAPTERS = ("lora_a", "lora_b")  # see `adapters`
# Weight decay is a belief about weights that are multiplied with what they are given: on biases, normalisation, class
# tokens and positions it would only pull what is added towards zero.
DECAYED = (*KERNELS, "embedding", *ADAPTERS)


def leaf_name(path: Any) -> str:
    """Of a leaf's path, as `jax.tree_util` gives it."""
    return str(getattr(path[-1], "key", path[-1]))


def decayed(params: Any) -> Any:
    """True for what weight decay pulls towards zero: kernels, embeddings and adapters; a tree like `params`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaf_name(path) in DECAYED, params)


def is_bias(path: Path, siblings: Collection[str]) -> bool:
    """Whether a leaf is a bias, of a layer or of normalisation."""
    return path[-1] == "bias"


def is_norm(path: Path, siblings: Collection[str]) -> bool:
    """Whether a leaf is a scale or bias of normalisation: a bias belongs to one where a scale stands beside it."""
    return path[-1] in ("scale", "bias") and "scale" in siblings


def is_adapter(path: Path, siblings: Collection[str]) -> bool:
    """Whether a leaf belongs to an adapter."""
    return path[-1] in ADAPTERS
