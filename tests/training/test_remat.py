"""Activations computed again in the backward pass: the same numbers, less memory."""

import dataclasses

import jax
import numpy as np
import pytest
from command_line import jaxdl_command
from own_models import wrapped

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.models.initialise import init_variables
from jaxdl.parallel.memory import bytes_of
from jaxdl.tasks import Classification
from jaxdl.training import prepare as preparing
from jaxdl.training.forward import as_they_are, forward, forward_again
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run

SOURCE = data.subset(data.digits(), np.random.default_rng(0).permutation(1797)[:48])
TASK = Classification(SOURCE.class_names)
VIT = dict(width=16, depth=2, num_heads=2, patch_size=2)
CASES = {
    "batch norm": (lambda: jaxdl.create("resnet20_cifar", 10, depths=(1, 1, 1), width=4), {}),
    "dropout": (lambda: jaxdl.create("vit", 10, dropout=0.3, stochastic_depth=0.2, **VIT), {}),
    "adapter and accumulation": (lambda: jaxdl.create("vit", 10, **VIT), {"adapter": "lora:2", "accumulate": 3}),
    "frozen stages kept": (lambda: jaxdl.create("mlp", 10, dropout=0.3), {"freeze_through": "layer1"}),
    "frozen stages in the step": (
        lambda: jaxdl.create("cnn", 10, features=(4, 8), hidden=(8,)),
        {"freeze_through": "conv1", "cache_features": False},
    ),
    "somebody's own module": (lambda: wrapped(dropout=0.3), {}),
}


def setup_of(name):
    model, options = CASES[name]
    plan = jaxdl.Plan(batch_size=16, optimizer="sgd", learning_rate=0.05, **options)
    return preparing.prepare(model(), SOURCE, plan, [np.arange(48)], TASK)


def three_steps(setup):
    state, losses = of_run(setup.states([0]), 0), []
    step, made = jax.jit(setup.make_step()), training_batches([np.arange(48)], 16, 0, [0], 0)[0]
    for indices, weights in zip(made.indices, made.weights, strict=True):
        state, metrics = step(state, Batch(indices, weights), setup.shared)
        losses.append(float(metrics["loss"]))
    return losses, state.params, state.batch_stats


QUICK = ("frozen stages kept", "frozen stages in the step", "somebody's own module")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in CASES])
def test_the_numbers_are_the_same(name):
    setup = setup_of(name)
    kept, again = three_steps(setup), three_steps(dataclasses.replace(setup, remat=True))
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    assert kept[0][0] != kept[0][2]


@pytest.mark.slow
def test_a_deep_network_keeps_little_for_the_way_back():
    """On the CPU the compiler may keep all the same; of a TPU's see parallel/test_programs_for_tpus.py."""
    model = jaxdl.create("vit", 10, **VIT | {"depth": 12})
    variables, x = init_variables(model, jax.random.key(0), (8, 8, 1)), np.zeros((48, 8, 8, 1), np.float32)

    def kept(run):
        def loss(params):
            options = dict(train=True, rngs={"dropout": jax.random.key(0)})
            return run(model, {**variables, "params": params}, x, None, as_they_are, **options)[0].sum()

        way_back = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], variables["params"])
        return bytes_of(way_back) - bytes_of(variables["params"])  # which are there anyway

    whole, again = kept(forward), kept(forward_again)
    print(f"12 blocks: {whole:,} bytes for the backward pass, {again:,} with remat")
    assert again < whole / 5


def test_the_option_reaches_the_step(tmp_path, monkeypatch):
    asked, prepared = [], preparing.Setup
    monkeypatch.setattr(preparing, "Setup", lambda **given: asked.append(given["remat"]) or prepared(**given))
    jaxdl_command(f"pretrain --model mlp --data digits --epochs 1 --remat --out {tmp_path / 'again'}")
    jaxdl_command(f"pretrain --model mlp --data digits --epochs 1 --out {tmp_path / 'kept'}")
    assert asked == [True, False]
    again, kept = (jaxdl.restore(tmp_path / name).history for name in ("again", "kept"))
    assert again[-1]["train_loss"] == pytest.approx(kept[-1]["train_loss"], rel=1e-5)
