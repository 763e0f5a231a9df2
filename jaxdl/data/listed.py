"""What sources that hold a list of examples in memory have in common."""

import dataclasses
from typing import Any, Self

import jax
import numpy as np

from jaxdl.data.source import PER_EXAMPLE, Source, pick


class Listed(Source):
    """A base of dataclasses with the fields ``held``, a sequence of what each example is of, and ``labels``, arrays
    ``[n, …]`` of the targets or None. They make ``texts`` of what is held.
    """

    @property
    def in_memory(self) -> bool:
        return True

    def targets(self) -> Any:
        return self.labels

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"of": self.describe_x()}

    def __len__(self) -> int:
        return len(self.held)

    def take(self, indices: np.ndarray) -> Self:
        chosen = {name: pick(getattr(self, name), indices) for name in PER_EXAMPLE if name != "texts"}
        labels = jax.tree.map(lambda array: array[indices], self.labels)
        return dataclasses.replace(self, held=[self.held[i] for i in indices], labels=labels, **chosen)

    def with_groups(self, groups: np.ndarray) -> Self:
        return dataclasses.replace(self, groups=groups)

    def with_weights(self, weights: np.ndarray) -> Self:
        return dataclasses.replace(self, weights=weights)
