"""Recurrent layers: simple (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al., arXiv:1406.1078).

What a cell makes of its input does not depend on its state: it is one product for all steps, before the loop. Weights
are as in PyTorch and cuDNN, with a bias of the input and one of the state: the gates of an LSTM in the order input,
forget, cell, output, those of a GRU reset, update, new.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdl.errors import check_choice

State = Any  # the hidden state [batch, features]; of an LSTM the pair of cell state and hidden state


Gates = Sequence[Array]  # [batch, features] each, or [steps, batch, features]


def rnn_cell(hidden: Array, given: Gates, of_state: Gates) -> Array:
    """h' = tanh(Wx + Uh)."""
    return jnp.tanh(given[0] + of_state[0])


def lstm_cell(state: tuple[Array, Array], given: Gates, of_state: Gates) -> tuple[Array, Array]:
    """c' = σ(f) · c + σ(i) · tanh(g), h' = σ(o) · tanh(c')."""
    i, f, g, o = (a + b for a, b in zip(given, of_state, strict=True))
    cell = nn.sigmoid(f) * state[0] + nn.sigmoid(i) * jnp.tanh(g)
    return cell, nn.sigmoid(o) * jnp.tanh(cell)


def gru_cell(hidden: Array, given: Gates, of_state: Gates) -> Array:
    """h' = (1 - z) · tanh(Wx + r · Uh) + z · h: the reset gate comes after the product, as in cuDNN."""
    reset, update = (nn.sigmoid(a + b) for a, b in zip(given[:2], of_state[:2], strict=True))
    return (1 - update) * jnp.tanh(given[2] + reset * of_state[2]) + update * hidden


# by kind of cell: one step from what its input and its state give to the gates, and how many gates there are
CELLS: dict[str, tuple[Callable[..., State], int]] = {
    "rnn": (rnn_cell, 1),
    "gru": (gru_cell, 3),
    "lstm": (lstm_cell, 4),
}


def _of_gates(draw: Callable[..., Array], gates: int) -> Callable[..., Array]:
    """An initializer that draws the kernel of each gate by itself."""

    def init(key: Array, shape: tuple[int, int], dtype: Any) -> Array:
        one = shape[0], shape[1] // gates
        return jnp.concatenate([draw(each, one, dtype) for each in jax.random.split(key, gates)], axis=1)

    return init


class OfState(nn.Module):
    """Kernel and bias of the product with the state. It is called once; the loop uses what it gives."""

    features: int
    gates: int
    param_dtype: str

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        shape = self.features, self.gates * self.features
        kernel = self.param("kernel", _of_gates(nn.initializers.orthogonal(), self.gates), shape, self.param_dtype)
        return kernel, self.param("bias", nn.initializers.zeros, shape[1:], self.param_dtype)


class Direction(nn.Module):
    """A recurrent layer that goes through its input one way; see `Recurrent`."""

    features: int
    kind: str
    backwards: bool
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Array, real: Array | None, initial: State | None) -> tuple[Array, State]:
        cell, gates = CELLS[self.kind]
        # in the gradient its gates are computed again: to keep them takes longer
        cell = jax.checkpoint(cell)
        given = nn.Dense(
            gates * self.features,
            kernel_init=_of_gates(nn.initializers.lecun_normal(), gates),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="input",
        )(jnp.swapaxes(x, 0, 1))  # steps first: the narrower array is turned round
        of_state = OfState(self.features, gates, self.param_dtype, name="state")()
        kernel, bias = (leaf.astype(given.dtype) for leaf in of_state)
        if initial is None:
            zeros = jnp.zeros((x.shape[0], self.features), given.dtype)
            initial = (zeros, zeros) if self.kind == "lstm" else zeros

        def advance(state: State, now: tuple[Gates, Array | None]) -> tuple[State, Array]:
            of_state = jnp.split(_hidden(state) @ kernel + bias, gates, axis=-1)
            new = cell(state, now[0], of_state)
            if now[1] is not None:  # padding leaves the state as it is
                new = jax.tree.map(lambda a, b: jnp.where(now[1][:, None], a, b), new, state)
            return new, _hidden(new)

        # an array for each gate: on a CPU the loop reads a part of a wider one slowly
        steps = None if real is None else jnp.swapaxes(real, 0, 1)
        last, outputs = jax.lax.scan(
            advance, initial, (jnp.split(given, gates, axis=-1), steps), reverse=self.backwards
        )
        if steps is not None:
            outputs = jnp.where(steps[:, :, None], outputs, 0)
        return jnp.swapaxes(outputs, 0, 1), last


def _hidden(state: State) -> Array:
    return state[1] if isinstance(state, tuple) else state


class Recurrent(nn.Module):
    """A recurrent layer over ``[batch, steps, width]``.

    Steps that only pad, wherever they stand, leave the state as it is and give zeros, as PyTorch's packed sequences do.

    Attributes:
      features: of the hidden state, for each direction.
      kind: of `CELLS`.
      both_ways: whether there are two directions, whose outputs are side by side.
    """

    features: int
    kind: str = "lstm"
    both_ways: bool = False
    dtype: str = "float32"
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch steps width"],
        real: Bool[Array, "batch steps"] | None = None,
        initial: tuple[State, ...] | None = None,
    ) -> tuple[Float[Array, "batch steps features"], tuple[State, ...]]:
        """The outputs of all steps, and the last state of each direction.

        Args:
          x: the input.
          real: False for steps that only pad; None if all are real.
          initial: the state of each direction before its first step; zeros by default.
        """
        check_choice("kind of recurrent layer", self.kind, CELLS)
        real = None if real is None else real.astype(bool)
        ways = ("forwards", "backwards")[: 1 + self.both_ways]
        made = [
            Direction(self.features, self.kind, way == "backwards", self.dtype, self.param_dtype, name=way)(
                x, real, None if initial is None else initial[i]
            )
            for i, way in enumerate(ways)
        ]
        outputs, last = zip(*made, strict=True)
        return jnp.concatenate(outputs, -1), last


def hidden_of(last: tuple[State, ...]) -> Float[Array, "batch features"]:
    """The hidden states of all directions side by side, from the last states of a `Recurrent`."""
    return jnp.concatenate([_hidden(state) for state in last], -1)
