"""Factors on the loss of single classes, for tasks that ask for classes of examples or of pixels."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.tasks.task import Constants, Task


class ClassWeights(Task):
    """A base of tasks with the field ``class_weights``: factors by name, 1 for the others; ``"balanced"``; or None."""

    class_weights: Any

    def with_options(self, **options: Any) -> Self:
        weights = options.get("class_weights")
        for name in weights if isinstance(weights, Mapping) else ():
            check_choice("class in class_weights", name, self.names)
        return super().with_options(**options)

    def factors(self, count: Callable[[], np.ndarray], what: str) -> Constants:
        """``class_weights``, ``float32[classes]``, where they are asked for.

        Args:
          count: gives ``[classes]``: of how many things to train on each class is, or what these weigh together.
          what: such a thing, in a word.

        Raises:
          InputError: if all factors of classes that occur are 0.
        """
        if self.class_weights is None:
            return {}
        counts = count()
        if self.class_weights == "balanced":
            mean = counts.sum() / np.count_nonzero(counts)
            return {"class_weights": np.float32(mean / np.where(counts > 0, counts, 1))}
        factors = np.float32([self.class_weights.get(name, 1.0) for name in self.names])
        if not factors[counts > 0].any():
            raise InputError(f"class_weights are 0 for every {what} to train on; give one class a factor above 0")
        return {"class_weights": factors}
