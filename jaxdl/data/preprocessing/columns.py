"""Rows of a table with categories and missing values: filled, marked, standardised, one input for each category."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing.interface import Constants, Preprocessing, kind_of
from jaxdl.data.source import Source
from jaxdl.errors import InputError

FITTED = ("fill", "mean", "std", "known")


@dataclasses.dataclass(frozen=True)
class ColumnsPreprocessing(Preprocessing):
    """Columns of numbers and of categories, ``float32[columns]`` as stored: see `data.table_source.Table`.

    The network is fed with, in this order: each column of numbers, standardised; for each column of `gaps` a 1 where
    its value is missing; for each level of each category a 1 where it is that. What is missing is first filled: with
    the median of a number, the most frequent level of a category. A level that did not occur in training, or that is
    not among `levels`, sets none of its column's inputs. (As scikit-learn's ``SimpleImputer``, ``MissingIndicator``,
    ``StandardScaler`` and ``OneHotEncoder(handle_unknown="ignore")`` do.)

    The levels are those of the whole table, which says nothing of its labels; all numbers are fitted to the training
    part alone.

    Attributes:
      names: of the columns.
      levels: of each column; empty for numbers.
      gaps: of each column, whether it has values missing.
      fill: of each column, what stands for a missing value.
      mean: of each column, after filling; 0 of categories.
      std: standard deviation in the same form; 1 of categories.
      known: of each level of all categories in a row, 1 if it occurs in the training part, else 0. These four are
        None until they are fitted.

    Raises:
      InputError: for values that cannot be.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    gaps: tuple[bool, ...]
    fill: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    known: tuple[float, ...] | None = None

    modality = "columns"

    def __post_init__(self) -> None:
        count = len(self.names)
        if not count or {len(self.levels), len(self.gaps)} != {count}:
            raise InputError(f"{count} columns have {len(self.levels)} lists of levels and {len(self.gaps)} gaps")
        for name, levels in zip(self.names, self.levels, strict=True):
            if not all(isinstance(text, str) for text in (name, *levels)) or len(set(levels)) < len(levels):
                raise InputError(f"the levels of '{name}' are {str(levels)[:50]}; expected different texts")
        lengths = {"fill": count, "mean": count, "std": count, "known": sum(map(len, self.levels))}
        given = [name for name in FITTED if getattr(self, name) is not None]
        if given and len(given) < len(FITTED):
            raise InputError(f"only {', '.join(given)} of {', '.join(FITTED)} are there; expected all or none")
        for name in given:
            values = np.array(getattr(self, name), np.float32)
            if values.shape != (lengths[name],) or not np.isfinite(values).all():
                raise InputError(f"{name} is {str(getattr(self, name))[:50]}; expected {lengths[name]} finite numbers")
        if given and min(np.float32(self.std)) <= 0:
            raise InputError(f"std is {str(self.std)[:50]}; expected numbers above 0")

    @property
    def _numbers(self) -> list[int]:
        return [place for place, levels in enumerate(self.levels) if not levels]

    @property
    def inputs(self) -> tuple[str, ...]:
        """What each number that the network is fed with means."""
        marked = [name for name, gap in zip(self.names, self.gaps, strict=True) if gap]
        return (
            *(self.names[place] for place in self._numbers),
            *(f"{name} is missing" for name in marked),
            *(f"{name} = {level}" for name, levels in zip(self.names, self.levels, strict=True) for level in levels),
        )

    def spec(self) -> jax.ShapeDtypeStruct:
        width = len(self._numbers) + sum(self.gaps) + sum(map(len, self.levels))
        return jax.ShapeDtypeStruct((width,), np.float32)

    def stored_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(self.names),), np.float32)

    def check(self, source: Source) -> None:
        spec = source.spec()["x"]
        if isinstance(spec, jax.ShapeDtypeStruct) and spec.dtype.kind in "fuib" and spec.shape == (len(self.names),):
            return
        raise InputError(
            f"{source.name} holds {kind_of(source)}; the network was made for rows of a table with the columns "
            f"{', '.join(self.names)}"
        )

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        x = np.asarray(example["x"])
        if x.dtype.kind not in "fuib" or x.shape != (len(self.names),):
            raise InputError(f"{what} is {x.dtype}{list(x.shape)}; the network takes {len(self.names)} numbers")
        return {**example, "x": x.astype(np.float32, copy=False)}

    def load(self, source: Source) -> np.ndarray:
        self.check(source)
        held = source.stacked()
        return super().load(source) if held is None else np.asarray(held, np.float32)

    @property
    def constants(self) -> Constants | None:
        return None if self.fill is None else {name: np.float32(getattr(self, name)) for name in FITTED}

    def with_constants(self, constants: Constants) -> Self:
        return dataclasses.replace(self, **{name: tuple(map(float, np.asarray(constants[name]))) for name in FITTED})

    def unfitted(self) -> Self:
        return dataclasses.replace(self, **dict.fromkeys(FITTED))

    def measure(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {"values": np.asarray(x, np.float32)}  # a median takes all of them

    def fit(self, sums: Any, indices: np.ndarray) -> Constants:
        return self.fit_weighted(sums, indices, np.ones(len(sums["values"])))

    def fit_weighted(self, sums: Any, indices: np.ndarray, weights: np.ndarray) -> Constants:
        held, weights = sums["values"][indices].astype(np.float64), np.asarray(weights, np.float64)[indices]
        fill, mean, std, known = [], [], [], []
        for column, levels in zip(held.T, self.levels, strict=True):
            there = ~np.isnan(column)
            if levels:
                there &= column >= 0
                counts = np.bincount(column[there].astype(np.int64), weights[there], minlength=len(levels))
                fill.append(float(counts.argmax()))
                known += (counts > 0).tolist()
                mean.append(0.0)
                std.append(1.0)
                continue
            fill.append(_median(column[there], weights[there]))
            filled = np.where(there, column, fill[-1])
            mean.append(np.average(filled, weights=weights))
            spread = math.sqrt(np.average(np.square(filled - mean[-1]), weights=weights))
            # a column that never varies carries nothing: dividing by rounding noise would make it loud
            std.append(spread if spread > 1e-6 * abs(mean[-1]) else 1.0)
        return {name: np.float32(values) for name, values in zip(FITTED, (fill, mean, std, known), strict=True)}

    def on_device(self, x: jax.Array, constants: Constants) -> jax.Array:
        missing = jnp.isnan(x)
        x = jnp.where(missing, constants["fill"], x)
        numbers = np.array(self._numbers, np.int64)
        parts = [((x - constants["mean"]) / constants["std"])[:, numbers]]
        parts.append(missing[:, np.flatnonzero(self.gaps)].astype(jnp.float32))
        begin = 0
        for place, levels in enumerate(self.levels):
            known = constants["known"][begin : begin + len(levels)]
            begin += len(levels)
            if levels:
                parts.append(jax.nn.one_hot(x[:, place].astype(jnp.int32), len(levels)) * known)
        return jnp.concatenate(parts, axis=1)

    def instructions(self) -> dict[str, list[str]]:
        listed = [
            f"{name}: {', '.join(levels)}" for name, levels in zip(self.names, self.levels, strict=True) if levels
        ]
        return {
            "prepare": [
                f"convert to float32 of shape {len(self.names)}, the columns in the order of columns",
                *(f"a category is its place, from 0, among its levels, -1 for any other: {one}" for one in listed),
                "a missing value is NaN",
            ],
            "inside": [
                "fill what is missing: numbers with the median, categories with the most frequent level",
                "subtract mean and divide by std; add an input for each column with missing values, and for each level",
            ],
        }


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """What the median is where a weight of 2 is a value twice; 0 without values."""
    values, weights = values[weights > 0], weights[weights > 0]
    if not len(values):
        return 0.0
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    half = passed[-1] / 2
    low, high = np.searchsorted(passed, half, "left"), np.searchsorted(passed, half, "right")
    return float((values[order][low] + values[order][high]) / 2)
