"""What flows out of each stage: units that are dead, and units that are saturated."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.compiled import compiled
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables

BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}  # of the activation functions that have two
NEAR = 0.01  # of the distance between the bounds
MOSTLY = 0.95  # of a unit's values


@dataclasses.dataclass(frozen=True)
class StageActivity:
    """Of what flows out of one stage.

    Attributes:
      name: of the stage.
      units: entries of the last axis: channels of a feature map, features of a token or of a vector.
      dead: share of the units that are the same for every example (see `stage_activity`).
      saturated: share of the units that are saturated; None for activation functions without two bounds.
      near_bounds: share of all values that are near a bound; None in the same case.
    """

    name: str
    units: int
    dead: float
    saturated: float | None
    near_bounds: float | None


def stage_activity(model: Staged, variables: Variables, x: Any) -> list[StageActivity]:
    """Which units of each stage carry nothing, on a sample of examples; of those in `Staged.outlets`.

    A unit is *dead* if at every position its value is the same for all examples (up to 10⁻⁶ of its largest value), so
    that nothing after it can tell examples apart by it. A ReLU unit whose input is negative for every example is: it
    is zero throughout and gets no gradient (Maas et al. 2013). Batch normalisation and residual connections around a
    dead unit may hide it: what is judged is what flows out of the stage.

    A unit of a ``tanh`` or ``sigmoid`` stage is *saturated* if at least 95 % of its values lie within 1 % of the
    function's range from a bound: above 0.98 or below -0.98 for tanh, above 0.99 or below 0.01 for sigmoid. The slope
    there is below 4 % of its largest value, for both, so that hardly any gradient passes (Glorot & Bengio 2010). Other
    functions have no two bounds, and the head has no activation function: None.

    Args:
      model: the network.
      variables: of all its stages.
      x: what the network is fed, of at least two examples; 64 are plenty. An array, or a pytree of them.

    Raises:
      InputError: for fewer than two examples, of which every unit would be dead.
    """
    if (count := count_examples(x)) < 2:
        raise InputError(f"the sample holds {count} example; at least two are needed to see whether a unit varies")
    found = jax.tree.map(np.asarray, compiled(_activity, model)(variables, jax.tree.map(jnp.asarray, x)))
    return [_summarise(name, found[name]) for name in model.outlets]


def count_examples(x: Any) -> int:
    """How many examples a batch holds, an array or a pytree of them."""
    return len(jax.tree.leaves(x)[0])


def _summarise(name: str, leaves: Sequence[dict[str, np.ndarray]]) -> StageActivity:
    together = {key: np.concatenate([leaf[key] for leaf in leaves]) for key in leaves[0]}
    near = together.get("near")
    return StageActivity(
        name,
        len(together["dead"]),
        float(together["dead"].mean()),
        None if near is None else float((near >= MOSTLY).mean()),
        None if near is None else float(near.mean()),
    )


def _activity(variables: Variables, x: Any, *, model: Staged) -> dict[str, list[dict[str, jax.Array]]]:
    _, tapped = model.apply(variables, x, taps=model.outlets)
    bounds = BOUNDS.get(getattr(model, "activation", ""))
    return {
        name: [
            _of_units(leaf.astype(jnp.float32), None if name == "head" else bounds)
            for leaf in jax.tree.leaves(value)
            if leaf.ndim > 1 and jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        for name, value in tapped.items()
    }


def _of_units(values: jax.Array, bounds: tuple[float, float] | None) -> dict[str, jax.Array]:
    """For each entry of the last axis of ``values[batch, …, units]``."""
    inner = tuple(range(values.ndim - 1))
    variation = (values.max(0) - values.min(0)).max(inner[:-1])
    held: dict[str, Any] = {"dead": variation <= 1e-6 * jnp.abs(values).max(inner)}
    if bounds is not None:
        low, high = bounds
        margin = NEAR * (high - low)
        held["near"] = ((values <= low + margin) | (values >= high - margin)).mean(inner)
    return held
