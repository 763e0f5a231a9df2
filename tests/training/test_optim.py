"""Schedules and optimizers against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.training.optim import learning_rate, make_optimizer
from jaxdl.training.plan import Plan

STEPS = 10  # per epoch


def rates(**options):
    plan = Plan(epochs=8, learning_rate=0.5, **options)
    schedule = learning_rate(plan, STEPS)
    return np.array([float(schedule(step)) for step in range(80)])


def test_cosine():
    step = np.arange(80)
    np.testing.assert_allclose(rates(schedule="cosine"), 0.25 * (1 + np.cos(np.pi * step / 80)), atol=1e-7)


def test_linear_and_constant():
    np.testing.assert_allclose(rates(schedule="linear"), 0.5 * (1 - np.arange(80) / 80), rtol=1e-5)
    np.testing.assert_allclose(rates(schedule="constant"), 0.5)


def test_step_divides_by_ten_after_half_and_three_quarters():
    expected = np.repeat([0.5, 0.05, 0.005], [40, 20, 20])
    np.testing.assert_allclose(rates(schedule="step"), expected, rtol=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 7, 80])
def test_one_cycle_is_that_of_pytorch(steps):
    torch = pytest.importorskip("torch", reason="PyTorch's OneCycleLR is the reference")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps, cycle_momentum=False)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < steps:
            theirs.step()
    plan = Plan(epochs=steps, schedule="one-cycle", learning_rate=0.5)
    found = [float(learning_rate(plan, 1)(step)) for step in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    value = jax.jit(lambda peak, step: learning_rate(plan, 1, peak)(step))  # a number of the program, as in a search
    np.testing.assert_allclose([value(0.5, step) for step in range(steps)], expected, rtol=1e-4, atol=1e-7)


def test_one_cycle_has_no_other_warmup_and_a_single_step_learns():
    with pytest.raises(InputError, match="warmup_epochs"):
        Plan(schedule="one-cycle", warmup_epochs=1)
    assert float(learning_rate(Plan(epochs=1, schedule="one-cycle", learning_rate=0.5), 1)(0)) > 0.1


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "step"])
def test_warmup_rises_to_the_peak_and_then_follows_the_schedule(schedule):
    found = rates(schedule=schedule, warmup_epochs=2)
    np.testing.assert_allclose(found[:20], 0.5 * np.arange(1, 21) / 20, rtol=1e-5)
    assert found[20] == pytest.approx(0.5)
    assert (np.diff(found[20:]) <= 1e-9).all()


def params():
    random = np.random.default_rng(0)
    return {
        "stem": {"kernel": jnp.asarray(random.normal(size=(3, 2)), jnp.float32), "bias": jnp.ones(2)},
        "head": {"kernel": jnp.asarray(random.normal(size=(2, 4)), jnp.float32), "bias": jnp.ones(4)},
    }


def take(plan, gradients, steps=1):
    now, optimizer = params(), make_optimizer(plan, STEPS)
    state = optimizer.init(now)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, now)
        now = jax.tree.map(jnp.add, now, updates)
    return now


def test_sgd_is_momentum_with_decay_on_kernels_only():
    gradients = jax.tree.map(lambda a: 0.1 * jnp.ones_like(a), params())
    plan = Plan(optimizer="sgd", schedule="constant", learning_rate=0.1, weight_decay=0.01)
    found = take(plan, gradients, steps=2)
    for stage, leaves in params().items():
        for name, start in leaves.items():
            decay = 0.01 if name == "kernel" else 0.0
            first = 0.1 + decay * start
            one = start - 0.1 * first
            velocity = 0.9 * first + 0.1 + decay * one
            np.testing.assert_allclose(found[stage][name], one - 0.1 * velocity, rtol=1e-5)


def test_adamw_first_step_is_the_sign_of_the_gradient_and_decay():
    gradients = jax.tree.map(lambda a: -3.0 * jnp.ones_like(a), params())
    found = take(Plan(optimizer="adamw", schedule="constant", learning_rate=0.1, weight_decay=0.5), gradients)
    start = params()
    np.testing.assert_allclose(
        found["stem"]["kernel"], start["stem"]["kernel"] + 0.1 - 0.05 * start["stem"]["kernel"], rtol=1e-4
    )
    np.testing.assert_allclose(found["stem"]["bias"], start["stem"]["bias"] + 0.1, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "lamb"])
def test_stage_multipliers_scale_the_whole_update(optimizer):
    gradients = jax.tree.map(lambda a: 0.3 * jnp.ones_like(a), params())
    options = dict(optimizer=optimizer, schedule="constant", learning_rate=0.01)
    plain, scaled = take(Plan(**options), gradients), take(Plan(stage_lr={"head": 10.0}, **options), gradients)
    start = params()
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(plain["stem"][name], scaled["stem"][name])
        np.testing.assert_allclose(
            scaled["head"][name] - start["head"][name],
            10 * (plain["head"][name] - start["head"][name]),
            rtol=1e-3,
            atol=1e-6,
        )


def test_clipping_is_by_the_norm_of_all_gradients_together():
    gradients = jax.tree.map(lambda a: 5.0 * jnp.ones_like(a), params())
    norm = 5.0 * np.sqrt(sum(leaf.size for leaf in jax.tree.leaves(gradients)))
    plan = Plan(optimizer="sgd", schedule="constant", learning_rate=1.0, weight_decay=0.0, clip_norm=1.0)
    found = take(plan, gradients)
    np.testing.assert_allclose(params()["head"]["bias"] - found["head"]["bias"], 5.0 / norm, rtol=1e-5)


def test_a_boundary_is_found_by_stage_name():
    model = create("resnet18", 10)
    assert Plan().boundary(model) == 0
    assert Plan(freeze_through="stem").boundary(model) == 1
    assert Plan(freeze_through="body").boundary(model) == len(model.stage_names) - 1
    with pytest.raises(InputError, match="Did you mean 'stage2'"):
        Plan(freeze_through="stag2").boundary(model)
    with pytest.raises(InputError, match="leaves nothing to train"):
        Plan(freeze_through="head").boundary(model)
    with pytest.raises(InputError, match="Did you mean 'stage3'"):
        Plan(stage_lr={"stge3": 2.0}).boundary(model)
    with pytest.raises(InputError, match="frozen: stem"):
        Plan(stage_lr={"stem": 2.0}, freeze_through="stage1").boundary(model)
