"""Mean and standard deviation of any part of the data, from sums over each example."""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing.interface import Constants, Preprocessing
from jaxdl.errors import InputError


def to_unit(x: Any) -> Any:
    """Stored examples as float32, uint8 images from 0 to 1."""
    return x.astype(jnp.float32) / (255.0 if x.dtype == jnp.uint8 else 1.0)


def normalise(x: Any, mean: Any, std: Any) -> Any:
    """Stored examples ``[batch, …, channels]`` to float32 ones with `mean` taken away and divided by `std`."""
    return (to_unit(x) - mean) / std


def sums(x: np.ndarray) -> dict[str, np.ndarray]:
    """Of every example of ``x[n, …, channels]``, uint8 ones divided by 255.

    Returns:
      ``total`` and ``square``, ``float64[n, channels]``, and ``positions``, ``float64[n]``: how many were added.
    """
    flat = x.reshape(len(x), -1, x.shape[-1])
    unit = 255.0 if x.dtype == np.uint8 else 1.0
    total, square = np.empty((2, len(x), x.shape[-1]))
    for i, example in enumerate(flat):  # one by one: all of them as float64 might not fit into memory
        example = example.astype(np.float64) / unit
        total[i], square[i] = example.sum(0), np.square(example).sum(0)
    return {"total": total, "square": square, "positions": np.full(len(x), float(flat.shape[1]))}


def fit(held: dict[str, np.ndarray], indices: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """``mean`` and ``std``, ``float32[channels]``, over the examples `indices` alone; `held` as `sums` gives it.

    `weights` are those of all examples, ``[n]``; by default each counts once.
    """

    def total(values: np.ndarray) -> np.ndarray:
        return (values[indices].T * (1.0 if weights is None else weights[indices])).T.sum(0)

    count = total(held["positions"])
    mean = total(held["total"]) / count
    var = total(held["square"]) / count - np.square(mean)
    # a channel that never varies carries nothing: dividing by rounding noise would make it loud
    std = np.where(var > 1e-12 * np.square(mean), np.sqrt(np.maximum(var, 0)), 1.0)
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}


def check(mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int) -> None:
    """Raises InputError unless both are given, one number per channel, or neither."""
    if (mean is None) != (std is None):
        raise InputError(f"mean is {mean} and std {std}; expected both or neither")
    for what, values in (("mean", mean), ("std", std)):
        if values is not None and not (len(values) == channels and np.isfinite(values).all()):
            raise InputError(f"{what} is {values}; expected {channels} numbers, one per channel")
    if std is not None and min(std) <= 0:
        raise InputError(f"std is {std}; expected numbers above 0")
    with np.errstate(all="ignore"):  # in the precision in which they are used
        used = [1 / np.float32(std), np.float32(mean) / np.float32(std)] if std is not None else []
    if not np.isfinite(used).all():
        raise InputError(f"mean is {mean} and std {std}: dividing by that std in float32 gives no finite numbers")


class Standardised(Preprocessing):
    """Arrays ``input_shape``, of which each channel has `mean` taken away and is divided by `std`.

    A base of dataclasses with these fields:

    Attributes:
      input_shape: channels last.
      mean: per channel.
      std: standard deviation, in the same form. Both are None until they are fitted.
    """

    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def __post_init__(self) -> None:
        shape = self.input_shape
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise InputError(f"input_shape is {shape}; expected positive whole numbers")
        check(self.mean, self.std, shape[-1])

    def spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.input_shape, np.float32)

    @property
    def constants(self) -> Constants | None:
        return None if self.mean is None else {"mean": np.float32(self.mean), "std": np.float32(self.std)}

    def with_constants(self, constants: Constants) -> Self:
        fields = {name: tuple(map(float, np.asarray(constants[name]))) for name in ("mean", "std")}
        return dataclasses.replace(self, **fields)

    def unfitted(self) -> Self:
        return dataclasses.replace(self, mean=None, std=None)

    def measure(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return sums(x)

    def fit(self, sums: Any, indices: np.ndarray) -> Constants:
        return fit(sums, indices)

    def fit_weighted(self, sums: Any, indices: np.ndarray, weights: np.ndarray) -> Constants:
        return fit(sums, indices, weights)

    def instructions(self) -> dict[str, list[str]]:
        size = " × ".join(map(str, self.input_shape))
        return {
            "prepare": [f"convert to float32 of shape {size}; table columns in the order of columns, nothing missing"],
            "inside": ["subtract mean and divide by std, one number each per entry of the last axis"],
        }

    def on_device(self, x: jax.Array, constants: Constants) -> jax.Array:
        return normalise(x, constants["mean"], constants["std"])
