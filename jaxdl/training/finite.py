"""Whether what a network says are numbers: NaN and infinity are never handed on as an answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError

LARGE = 1e6  # beyond this, inputs are likelier the cause than weights; normalised inputs are of the order of 1
NAMED = 3  # examples in a message


def finite_rows(outputs: Any) -> jax.Array:
    """Which examples have only finite numbers in the arrays ``[batch, …]`` of `outputs`, ``bool[batch]``."""
    rows = None
    for leaf in jax.tree.leaves(outputs):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            fine = jnp.isfinite(leaf).reshape(len(leaf), -1).all(1)
            rows = fine if rows is None else rows & fine
    return jnp.ones(len(jax.tree.leaves(outputs)[0]), bool) if rows is None else rows


def check_outputs(finite: np.ndarray, source: Source) -> None:
    """Raises InputError, saying how many and which, unless what was said of all examples is finite.

    Args:
      finite: ``bool[n]``, see `finite_rows`.
      source: the examples.
    """
    bad = np.flatnonzero(~finite)
    if not len(bad):
        return
    names = source.names
    some = ", ".join(f"'{names[i]}'" if names is not None else str(i) for i in bad[:NAMED])
    largest = _largest(source[int(bad[0])]["x"])
    if not largest < LARGE:
        cause = f"the first of these holds values up to {largest:.3g}: check what the numbers of the data are"
    else:
        cause = "the weights are too large, as after a training that diverged: train again with a lower learning rate"
    more = ", …" if len(bad) > NAMED else ""
    raise InputError(
        f"of the {len(source)} examples of {source.name} the network's outputs for {len(bad)} are not finite (NaN or "
        f"infinity): {some}{more}. Likely {cause}"
    )


def _largest(x: Any) -> float:
    """The largest absolute value of an example; NaN where it holds one."""
    found = [np.abs(np.asarray(leaf, np.float64)).max(initial=0) for leaf in jax.tree.leaves(x)]
    return float(np.max(found, initial=0))
