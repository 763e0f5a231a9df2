"""What the tests of published families share beside the answers: complete key tables, and one step of training."""

import functools
import os

import jax
import numpy as np
import optax
import pytest
from parity import images, library, tensors_of, to_torch

from jaxdl.models import create
from jaxdl.models.initialise import init_variables
from jaxdl.models.variables import walk_shapes
from jaxdl.weights.keys import fill, rename

all_models = pytest.mark.skipif(
    not os.environ.get("JAXDL_ALL_MODELS"),
    reason="set JAXDL_ALL_MODELS=1 for every full-size network: it takes minutes",
)


def slow_but(quick, cases):
    """`cases` for `parametrize`; all but the `quick` ones are left to the slow tier."""
    assert set(quick) <= set(cases)
    values = {case: case if isinstance(case, tuple) else (case,) for case in cases}
    return [pytest.param(*values[case], marks=() if case in quick else pytest.mark.slow) for case in cases]


@functools.cache
def shapes_of(name, outputs=1000, side=224):
    """``{leaf: shape}`` of a model of the table."""
    model = create(name, outputs)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, (side, side, 3)), jax.random.key(0))
    return {leaf: value.shape for leaf, value in walk_shapes(shapes)}


def parameter_count(name):
    return sum(int(np.prod(shape)) for leaf, shape in shapes_of(name).items() if leaf.startswith("params/"))


def without_values(make, *arguments, **options):
    """A PyTorch network that is shapes only."""
    with library("torch").device("meta"):
        return make(*arguments, **options)


def assert_complete(name, network, keys, layout):
    """Every tensor of `network` (it may be without values) fills leaves or is dropped, every leaf is filled once.

    And each leaf's row leads back to its tensor. Nothing is computed or copied: the networks may be large.
    """
    table = keys.layouts[layout](create(name, 1000))
    filled = {}
    for tensor, value in network.state_dict().items():
        found = [(row, leaves) for row in table if (leaves := row.leaves_of(tensor)) is not None]
        assert found, f"{tensor}: no row of the table takes it"
        row, leaves = found[0]
        if not leaves:
            assert row.why, f"{tensor} is dropped for no reason"
            continue
        there = row.change.to_ours(np.broadcast_to(np.float32(0), value.shape))
        for leaf, changed in zip(leaves, there, strict=True):
            assert leaf not in filled, f"{tensor}: {leaf} is filled already"
            filled[leaf] = changed.shape
        back = next(place for row in table if (place := row.tensor_of(leaves[0])))
        assert back == (tensor, leaves)
        blank = [np.broadcast_to(np.float32(0), filled[leaf]) for leaf in leaves]
        assert row.change.to_theirs(*blank).shape == tuple(value.shape)
    assert filled == shapes_of(name)


def logits_alone(network):
    """One of transformers' networks, made to answer as the others do."""
    answer = network.forward
    network.forward = lambda x: answer(x).logits
    return network


def assert_trains_alike(name, network, keys, layout, *, side, batch=4, arguments=None, gradients=1e-4, wide=False):
    """In train mode: batch norm's running statistics after one step, and every gradient of the mean cross-entropy.

    In float32 a value beside a ReLU's or a maximum's kink falls to one side here and to the other there: PyTorch's own
    gradients are off from its float64 ones by up to 2e-3 in a network with many branches. There `wide` decides more.

    Args:
      name: of the model here.
      network: calibrated; whatever it drops at random is turned off in it and by `arguments`.
      keys: the family's `Keys`.
      layout: which of its key tables.
      side: of the images.
      batch: their number.
      arguments: of the model.
      gradients: largest difference of a gradient, relative to the largest of its norm and of a thousandth of all.
      wide: compute in float64 on both sides.
    """
    if wide:
        with jax.enable_x64(True):
            return _assert_trains_alike(
                name, network.double(), keys, layout, side, batch, arguments, gradients, "float64"
            )
    return _assert_trains_alike(name, network, keys, layout, side, batch, arguments, gradients, "float32")


def _assert_trains_alike(name, network, keys, layout, side, batch, arguments, gradients, dtype):
    functional = library("torch").nn.functional
    x = images(side, batch).astype(dtype)
    outputs = network.eval()(to_torch(x[:1])).shape[-1]
    labels = np.arange(batch) % outputs
    model = create(name, outputs, **(arguments or {})).clone(dtype=dtype, param_dtype=dtype)
    table = keys.layouts[layout](model)
    tensors = {tensor: value.copy() for tensor, value in tensors_of(network).items()}  # the step will change them
    variables = fill(rename(tensors, table), model, x.shape[1:])
    variables["params"] = jax.tree.map(lambda leaf: leaf.astype(dtype), variables["params"])

    logits = network.train()(to_torch(x))
    functional.cross_entropy(logits, library("torch").tensor(labels)).backward()
    theirs = rename({n: p.grad.numpy() for n, p in network.named_parameters()}, table).leaves
    statistics = rename(tensors_of(network), table).leaves

    @jax.jit
    def step(variables, x):
        def loss(params):
            all_variables = {**variables, "params": params}
            logits, changed = model.apply(all_variables, x, train=True, mutable=["batch_stats"])
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, (logits, changed.get("batch_stats", {}))

        return jax.grad(loss, has_aux=True)(variables["params"])

    ours, (ours_logits, changed) = step(variables, x)
    logits = logits.detach().numpy()
    assert np.abs(ours_logits - logits).max() <= 1e-3 * logits.std(0).mean()
    before = dict(walk_shapes(variables))
    for leaf, value in walk_shapes({"batch_stats": changed}):
        size = np.abs(statistics[leaf]).max()
        assert np.abs(value - before[leaf]).max() > 1e-3 * size, f"{leaf} stayed as it was"
        np.testing.assert_allclose(value, statistics[leaf], rtol=1e-5, atol=1e-5 * size, err_msg=leaf)
    ours = dict(walk_shapes({"params": ours}))
    assert ours.keys() == theirs.keys()
    floor = 1e-3 * np.sqrt(np.mean([np.square(g).sum() for g in theirs.values()]))
    worst = {
        leaf: np.linalg.norm(ours[leaf] - theirs[leaf]) / max(np.linalg.norm(theirs[leaf]), floor) for leaf in ours
    }
    leaf = max(worst, key=worst.get)
    assert worst[leaf] <= gradients, f"the gradient of {leaf} is off by {worst[leaf]:.2g} of its norm"
    return worst[leaf]
