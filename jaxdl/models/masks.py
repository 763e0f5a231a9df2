"""Where attention may look."""

from functools import reduce

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool


@flax.struct.dataclass
class Mask:
    """A position looks at those that all parts of its mask allow; ``Mask()`` allows everything.

    Attributes:
      real: ``bool[batch, from]``, or numbers of which 0 is False, as in transformers' ``attention_mask``: False for
        positions that only pad. An example that is padding alone is taken as real: what comes of it means nothing, and
        is finite.
      pairs: ``bool[batch, heads, to, from]``, any other restriction; its dimensions may be 1. A position that may look
        nowhere takes the plain mean of everything.
      causal: whether a position sees none that comes after it.
    """

    real: Bool[Array, "batch from"] | None = None
    pairs: Bool[Array, "batch heads to from"] | None = None
    causal: bool = flax.struct.field(pytree_node=False, default=False)

    def real_keys(self) -> Bool[Array, "batch from"] | None:
        """`real` as it is used."""
        if self.real is None:
            return None
        real = jnp.asarray(self.real).astype(bool)
        return real | ~real.any(-1, keepdims=True)

    def allowed(self, to: int, offered: int) -> Bool[Array, "batch heads to from"] | None:
        """All of it, for so many positions that look, and that are looked at; dimensions may be 1.

        None if everything is allowed.
        """
        real = self.real_keys()
        parts = (
            jnp.tri(to, offered, dtype=bool)[None, None] if self.causal else None,
            None if real is None else real[:, None, None],
            self.pairs,
        )
        given = [part for part in parts if part is not None]
        return reduce(jnp.logical_and, given) if given else None
