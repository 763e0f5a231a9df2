"""Arrays that a network takes as they are: pytrees of fixed shapes, such as padded tokens with their mask."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing.interface import Preprocessing, kind_of
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models.variables import nest

Shape = tuple[str, tuple[int, ...], str]  # place in the pytree (keys divided by "/"), shape, type


@dataclasses.dataclass(frozen=True)
class RawPreprocessing(Preprocessing):
    """An array, or a dict of dicts of arrays, of fixed shapes; nothing is done to them.

    Attributes:
      arrays: of each array its place in the dict (keys divided by ``/``, empty for a single array), shape and type.
    """

    arrays: tuple[Shape, ...]

    modality = "raw"

    def __post_init__(self) -> None:
        plain = tuple((place, tuple(shape), str(np.dtype(dtype))) for place, shape, dtype in self.arrays)
        object.__setattr__(self, "arrays", plain)

    @classmethod
    def like(cls, spec: Mapping[str, jax.ShapeDtypeStruct]) -> "RawPreprocessing":
        """For examples that are a dict of arrays of these shapes."""
        return cls(tuple((name, one.shape, str(one.dtype)) for name, one in spec.items()))

    @classmethod
    def of(cls, source: Source) -> "RawPreprocessing":
        """For examples such as those of `source`."""
        leaves = jax.tree_util.tree_leaves_with_path(source.spec()["x"])
        keys = [key for path, _ in leaves for key in path]
        if not all(isinstance(key, jax.tree_util.DictKey) for key in keys):
            raise InputError(f"the x of {source.name} is no array and no dict of arrays; expected one of these")
        for key in (key.key for key in keys):  # which a card could not tell from another one
            if not isinstance(key, str) or not key or "/" in key:
                raise InputError(f"the x of {source.name} has the key {key!r}; expected words without '/'")
        places = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        return cls(tuple((place, leaf.shape, str(leaf.dtype)) for place, (_, leaf) in zip(places, leaves, strict=True)))

    def spec(self) -> Any:
        return self._spec

    @cached_property
    def _spec(self) -> Any:  # asked for every example
        as_jax = jax.dtypes.canonicalize_dtype
        leaves = {place: jax.ShapeDtypeStruct(shape, as_jax(dtype)) for place, shape, dtype in self.arrays}
        return leaves[""] if "" in leaves else nest(leaves)

    def check(self, source: Source) -> None:
        spec = source.spec()["x"]
        if jax.tree.structure(spec) != jax.tree.structure(self.spec()):
            raise InputError(f"{source.name} holds {kind_of(source)}; the network was made for {self.describe()}")

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        wanted = self.spec()
        if jax.tree.structure(example["x"]) == jax.tree.structure(wanted):
            x = jax.tree.map(lambda leaf, one: _as_type(leaf, one.dtype, what), example["x"], wanted)
            if jax.tree.map(np.shape, x) == jax.tree.map(lambda one: one.shape, wanted):
                return {**example, "x": x}
        held = ", ".join(f"{np.asarray(leaf).dtype}{list(np.shape(leaf))}" for leaf in jax.tree.leaves(example["x"]))
        raise InputError(f"{what} is {held}; the network takes {self.describe()}")


def _as_type(leaf: Any, dtype: np.dtype, what: str) -> np.ndarray:
    """As `dtype`. Raises InputError for whole numbers that it cannot hold: numpy would make others of them."""
    array = np.asarray(leaf)
    if array.dtype.kind in "iu" and dtype.kind in "iu" and not np.can_cast(array.dtype, dtype) and array.size:
        held = np.iinfo(dtype)
        for value in (int(array.min()), int(array.max())):
            if not held.min <= value <= held.max:
                raise InputError(f"{what} holds {value}; the network takes {dtype}, up to {held.max}")
    return array.astype(dtype, copy=False)
