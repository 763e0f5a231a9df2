"""Recurrent layers: simple (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al., arXiv:1406.1078).

What a cell makes of its input does not depend on its state: it is one product for all steps, before the loop. Weights
are as in PyTorch and cuDNN, with a bias of the input and one of the state: the gates of an LSTM in the order input,
forget, cell, output, those of a GRU reset, update, new.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
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


@dataclasses.dataclass(frozen=True)
class Way:
    """What a loop over steps does: the kind of its cell, and whether it goes from the last step to the first."""

    kind: str
    backwards: bool

    def step(self, state: State, given: Gates, of_state: Gates, real: Array | None) -> State:
        """The next state; padding leaves it as it is."""
        new = CELLS[self.kind][0](state, given, of_state)
        return new if real is None else jax.tree.map(lambda a, b: jnp.where(real[:, None], a, b), new, state)

    def gates(self, x: Array) -> list[Array]:
        """An array for each gate: on a CPU a loop reads a part of a wider one slowly."""
        return jnp.split(x, CELLS[self.kind][1], axis=-1)


def _run(
    way: Way, weights: tuple[Array, Array], initial: State, given: Gates, real: Array | None, keep: bool
) -> tuple[State, State, Gates | None]:
    """The last state, the states after all steps, and if asked for what each step's state gave to its gates."""
    kernel, bias = weights

    def advance(state: State, now: tuple[Gates, Array | None]) -> tuple[State, tuple[State, Gates | None]]:
        of_state = way.gates(_hidden(state) @ kernel + bias)
        new = way.step(state, now[0], of_state, now[1])
        return new, (new, of_state if keep else None)

    last, (states, of_state) = jax.lax.scan(advance, initial, (given, real), reverse=way.backwards)
    return last, states, of_state


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(
    way: Way, weights: tuple[Array, Array], initial: State, given: Gates, real: Array | None
) -> tuple[State, Array]:
    """The last state and the hidden states after all steps, of arrays ``[steps, batch, …]``.

    Its gradient is that of the loop, but the kernel's is one product for all steps after it, too. A training step on a
    CPU takes half of Flax's time at a batch of 8, and about as long at 32: `experiments/benchmarks/recurrent.py`. In
    reverse mode only.
    """
    last, states, _ = _run(way, weights, initial, given, real, keep=False)
    return last, _hidden(states)


def _recur(way: Way, weights: Any, initial: State, given: Gates, real: Array | None) -> tuple[Any, Any]:
    last, states, of_state = _run(way, weights, initial, given, real, keep=True)
    return (last, _hidden(states)), (weights, initial, given, real, states, of_state)


def _recur_back(way: Way, kept: Any, cotangents: tuple[State, Array]) -> tuple[Any, ...]:
    (kernel, _), initial, given, real, states, of_state = kept
    last, each = cotangents

    def before(all_states: Array, first: Array) -> Array:
        """The state that each step began with."""
        return jnp.concatenate([all_states[1:], first[None]] if way.backwards else [first[None], all_states[:-1]])

    states = jax.tree.map(before, states, initial)
    turned = kernel.T

    def back(after: State, now: tuple[Any, ...]) -> tuple[State, tuple[Gates | None, Array]]:
        state, given, of_state, real, cotangent = now
        _, pull = jax.vjp(lambda *moved: way.step(*moved, real), state, given, of_state)
        through, of_given, of_product = pull(_with_hidden(after, _hidden(after) + cotangent))
        product = jnp.concatenate(of_product, -1)
        through = _with_hidden(through, _hidden(through) + product @ turned)
        return through, (of_given if way.kind == "gru" else None, product)  # of others it is the same

    first, (of_given, product) = jax.lax.scan(
        back, last, (states, given, of_state, real, each), reverse=not way.backwards
    )
    of_kernel = jnp.einsum("tbh,tbg->hg", _hidden(states), product)
    return (of_kernel, product.sum((0, 1))), first, of_given or way.gates(product), None


recur.defvjp(_recur, _recur_back)


def _with_hidden(state: State, hidden: Array) -> State:
    return (state[0], hidden) if isinstance(state, tuple) else hidden


def _hidden(state: State) -> Array:
    return state[1] if isinstance(state, tuple) else state


class Direction(nn.Module):
    """A recurrent layer that goes through its input one way; see `Recurrent`."""

    features: int
    way: Way
    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x: Array, real: Array | None, initial: State | None) -> tuple[Array, State]:
        gates = CELLS[self.way.kind][1]
        given = nn.Dense(
            gates * self.features,
            kernel_init=_of_gates(nn.initializers.lecun_normal(), gates),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="input",
        )(jnp.swapaxes(x, 0, 1))  # steps first: the narrower array is turned round
        of_state = OfState(self.features, gates, self.param_dtype, name="state")()
        weights = tuple(leaf.astype(given.dtype) for leaf in of_state)
        if initial is None:
            zeros = jnp.zeros((x.shape[0], self.features), given.dtype)
            initial = (zeros, zeros) if self.way.kind == "lstm" else zeros
        steps = None if real is None else jnp.swapaxes(real, 0, 1)
        last, outputs = recur(self.way, weights, initial, self.way.gates(given), steps)
        if steps is not None:
            outputs = jnp.where(steps[:, :, None], outputs, 0)
        return jnp.swapaxes(outputs, 0, 1), last


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
            Direction(self.features, Way(self.kind, way == "backwards"), self.dtype, self.param_dtype, name=way)(
                x, real, None if initial is None else initial[i]
            )
            for i, way in enumerate(ways)
        ]
        outputs, last = zip(*made, strict=True)
        return jnp.concatenate(outputs, -1), last


def hidden_of(last: tuple[State, ...]) -> Float[Array, "batch features"]:
    """The hidden states of all directions side by side, from the last states of a `Recurrent`."""
    return jnp.concatenate([_hidden(state) for state in last], -1)
