"""Numbers of one shape: rows of a table, features, float images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdl.data.preprocessing.interface import kind_of
from jaxdl.data.preprocessing.moments import Standardised
from jaxdl.data.source import Source
from jaxdl.errors import InputError


@dataclasses.dataclass(frozen=True)
class TablePreprocessing(Standardised):
    """Numbers of one shape, standardised.

    Attributes:
      input_shape: ``(features,)``, or ``(height, width, channels)`` of images that are floats.
      mean: per feature (or channel), subtracted.
      std: per feature (or channel), divided by. Both are None until they are fitted to training data.

    Raises:
      InputError: for values that cannot be.
    """

    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    modality = "table"

    def check(self, source: Source) -> None:
        spec = source.spec()["x"]
        numbers = isinstance(spec, jax.ShapeDtypeStruct) and spec.dtype.kind in "fuib"
        if numbers and not (spec.dtype == np.uint8 and len(spec.shape) == 3):
            if spec.shape == self.input_shape:
                return
            raise InputError(
                f"{source.name} has examples of shape {list(spec.shape)}; the network takes {list(self.input_shape)}"
            )
        raise InputError(
            f"{source.name} holds {kind_of(source)}; the network was made for float32 numbers of shape "
            f"{list(self.input_shape)}"
        )

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        x = np.asarray(example["x"])
        if x.dtype.kind not in "fuib":
            raise InputError(f"{what} is {x.dtype}{list(x.shape)}; the network takes numbers {list(self.input_shape)}")
        x = x.astype(np.float32, copy=False)
        if x.shape != self.input_shape:
            raise InputError(f"{what} has the shape {list(x.shape)}; the network takes {list(self.input_shape)}")
        if np.isnan(x).any():
            raise InputError(f"{what} has values missing, and the network was trained on examples without; fill them")
        return {**example, "x": x}

    def load(self, source: Source) -> np.ndarray:
        self.check(source)
        held = source.stacked()
        if held is None:
            return super().load(source)
        held = np.asarray(held, np.float32)
        if np.isnan(held).any():
            _refuse_missing(source, held)
        return held


def _refuse_missing(source: Source, held: np.ndarray) -> None:
    row, *where = np.argwhere(np.isnan(held))[0].tolist()
    what = f"column '{source.columns[where[0]]}'" if source.columns and len(where) == 1 else f"place {where}"
    raise InputError(
        f"{source.name} has no value in {what} of example {row}, and the network was trained on examples of which "
        "nothing is missing: fill it, or remove the example"
    )
