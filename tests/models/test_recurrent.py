"""Recurrent layers against Flax's cells and PyTorch's packed sequences."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import library

from jaxdl.errors import InputError
from jaxdl.models.recurrent import Recurrent, hidden_of

BATCH, STEPS, WIDTH, FEATURES = 3, 6, 5, 4
LENGTHS = np.array([6, 2, 4])
REAL = np.arange(STEPS) < LENGTHS[:, None]
FLAX = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
# where Flax has the kernels and biases of each gate
GATES = {
    "rnn": (("i",), ("h",)),
    "gru": (("ir", "iz", "in"), ("hr", "hz", "hn")),
    "lstm": (("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")),
}


def _x(steps=STEPS, seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH, steps, WIDTH)).astype(np.float32)


@functools.cache
def _made(kind, both_ways=False):
    """A layer with drawn variables."""
    layer = Recurrent(FEATURES, kind, both_ways)
    shapes = jax.eval_shape(lambda key: layer.init(key, _x()), jax.random.key(0))
    rng = np.random.default_rng(1)
    return layer, jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape).astype(np.float32), shapes)


def _of_flax(kind, params):
    """Our parameters from Flax's: its bias is of the input or of the state alone."""

    def joined(names):
        kernels = [params[name]["kernel"] for name in names]
        none = jnp.zeros(FEATURES)
        return {
            "kernel": jnp.concatenate(kernels, 1),
            "bias": jnp.concatenate([params[name].get("bias", none) for name in names]),
        }

    return {"params": {"forwards": {"input": joined(GATES[kind][0]), "state": joined(GATES[kind][1])}}}


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        ("lstm", LENGTHS),
        *(
            pytest.param(kind, lengths, marks=pytest.mark.slow)
            for kind in FLAX
            for lengths in (None, LENGTHS)[: 1 + (kind != "lstm")]
        ),
    ],
)
def test_a_layer_is_that_of_flax_with_its_gradients(kind, lengths):
    theirs, x = nn.RNN(FLAX[kind](FEATURES), return_carry=True), _x()
    variables = theirs.init(jax.random.key(0), x)
    real = None if lengths is None else REAL
    shown = 1 if real is None else REAL[..., None]

    def total(outputs, last):
        return (shown * jnp.sin(3 * outputs)).sum() + sum(jnp.cos(leaf).sum() for leaf in jax.tree.leaves(last))

    def of_flax(params, x):
        last, outputs = theirs.apply({"params": params}, x, seq_lengths=lengths)
        return total(outputs, last), (outputs, last)

    def ours(params, x):
        outputs, (last,) = Recurrent(FEATURES, kind).apply(_of_flax(kind, params["cell"]), x, real)
        return total(outputs, last), (outputs, last)

    expected, found = (
        jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(variables["params"], x) for run in (of_flax, ours)
    )
    (_, (outputs, last)), gradients = found
    (_, (their_outputs, their_last)), their_gradients = expected
    np.testing.assert_allclose(outputs, shown * their_outputs, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last, their_last)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, their_gradients)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients)) > 0.1


@pytest.mark.parametrize("kind", FLAX)
def test_it_starts_as_flax_does(kind):
    variables = Recurrent(64, kind).init(jax.random.key(0), np.zeros((1, 2, 32), np.float32))["params"]["forwards"]
    gates = len(GATES[kind][0])
    for kernel in np.split(np.asarray(variables["state"]["kernel"]), gates, 1):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(64), atol=1e-5)
    for kernel in np.split(np.asarray(variables["input"]["kernel"]), gates, 1):
        assert kernel.std() == pytest.approx(32**-0.5, rel=0.1)
    assert not any(variables[part]["bias"].any() for part in variables)


@pytest.mark.parametrize(
    ("kind", "both_ways"),
    [
        ("gru", True),
        *(
            pytest.param(kind, both_ways, marks=pytest.mark.slow)
            for kind in FLAX
            for both_ways in (False, True)[: 1 + (kind != "gru")]
        ),
    ],
)
def test_packed_sequences_are_those_of_torch(kind, both_ways):
    torch = library("torch")
    layer, variables = _made(kind, both_ways)
    theirs = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](
        WIDTH, FEATURES, batch_first=True, bidirectional=both_ways
    )
    named = dict(theirs.named_parameters())
    with torch.no_grad():
        for way, end in (("forwards", ""), ("backwards", "_reverse"))[: 1 + both_ways]:
            for part, letters in (("input", "ih"), ("state", "hh")):
                held = variables["params"][way][part]
                named[f"weight_{letters}_l0{end}"].copy_(torch.tensor(held["kernel"].T.copy()))
                named[f"bias_{letters}_l0{end}"].copy_(torch.tensor(held["bias"]))
    pack = torch.nn.utils.rnn.pack_padded_sequence
    x = torch.tensor(_x(), requires_grad=True)
    packed, last = theirs(pack(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False))
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    expected.sin().sum().backward()
    run = jax.jit(lambda v, x: layer.apply(v, x, REAL))
    outputs, ours = run(variables, _x())
    np.testing.assert_allclose(outputs, expected.detach().numpy(), atol=1e-6)
    hidden = (last[0] if kind == "lstm" else last).detach().numpy()
    np.testing.assert_allclose(hidden_of(ours), np.concatenate(list(hidden), -1), atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sin(run(variables, x)[0]).sum())(_x())
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", FLAX)
def test_a_sequence_in_two_parts_is_the_whole(kind):
    layer, variables = _made(kind)
    whole, last = layer.apply(variables, _x())
    first, between = layer.apply(variables, _x()[:, :2])
    second, end = layer.apply(variables, _x()[:, 2:], None, between)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, last)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLAX)
def test_mapped_over_folds_it_is_each_alone(kind):
    layer, variables = _made(kind, True)
    folds = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf, -leaf]), variables)

    def loss(variables, x):
        outputs, last = layer.apply(variables, x, REAL)
        return jnp.sin(3 * outputs).sum() + jnp.cos(hidden_of(last)).sum()

    together = jax.jit(jax.vmap(jax.grad(loss), in_axes=(0, None)))(folds, _x())
    for fold in range(3):
        alone = jax.jit(jax.grad(loss))(jax.tree.map(lambda leaf, fold=fold: leaf[fold], folds), _x())
        jax.tree.map(
            lambda a, b, fold=fold: np.testing.assert_allclose(a[fold], b, rtol=1e-4, atol=1e-5), together, alone
        )


@functools.cache
def _run(kind, both_ways):
    layer, variables = _made(kind, both_ways)
    return jax.jit(lambda x, real: layer.apply(variables, x, real))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([("rnn", False), ("gru", True), ("lstm", True)]),
    st.lists(st.booleans(), min_size=STEPS, max_size=STEPS),
    st.integers(0, 2**32 - 1),
)
def test_padding_anywhere_is_as_if_it_were_not_there(which, real, seed):
    real, run = np.array(real), _run(*which)
    x = _x()
    x[:, ~real] = 100 * np.random.default_rng(seed).normal(size=(BATCH, (~real).sum(), WIDTH))
    outputs, last = run(x, np.broadcast_to(real, (BATCH, STEPS)))
    assert not np.asarray(outputs)[:, ~real].any()
    front = np.zeros_like(x)  # the real steps alone, in front
    front[:, : real.sum()] = x[:, real]
    moved, end = run(front, np.broadcast_to(np.arange(STEPS) < real.sum(), (BATCH, STEPS)))
    np.testing.assert_allclose(outputs[:, real], moved[:, : real.sum()], atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last, end)


def test_another_kind_is_refused():
    with pytest.raises(InputError, match=r"kind of recurrent layer 'lsmt'.*'lstm'"):
        Recurrent(4, "lsmt").init(jax.random.key(0), _x())
