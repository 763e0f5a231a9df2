"""From a plan to an optax optimizer."""

import dataclasses
import operator
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax

from jaxdl.models.roles import decayed
from jaxdl.training.plan import Plan
from jaxdl.training.traced_hyperparameters import NUMBERS, TracedHyperparameters

RISING, RISE, FALL = 0.3, 25.0, 1e4  # of one-cycle: share of the steps that rise, to how many times the first and last


def learning_rate(plan: Plan, steps_per_epoch: int, peak: Any = None) -> optax.Schedule:
    """The learning rate as a function of the step, without stage multipliers; `peak` by default is the plan's."""
    total = plan.epochs * steps_per_epoch
    warmup = min(round(plan.warmup_epochs * steps_per_epoch), total - 1)
    rest = total - warmup
    peak = plan.learning_rate if peak is None else peak
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "one-cycle": lambda: _one_cycle(peak, rest),
        # He et al. 2015: 32k and 48k of 64k iterations
        "step": lambda: _stairs(peak, rest),
    }[plan.schedule]()
    if not warmup:
        return after
    # starts above zero, so that no step is wasted
    rise = optax.linear_schedule(peak / warmup, peak, warmup - 1) if warmup > 1 else optax.constant_schedule(peak)
    return optax.join_schedules([rise, after], [warmup])


def _stairs(peak: float, steps: int) -> optax.Schedule:
    """`peak`, divided by 10 after one half and three quarters of the steps; a run too short for that keeps it."""
    if steps < 4:
        return optax.constant_schedule(peak)
    return optax.piecewise_constant_schedule(peak, {steps // 2: 0.1, steps * 3 // 4: 0.1})


def _one_cycle(peak: Any, steps: int) -> optax.Schedule:
    """From `peak` / `RISE` up to it in `RISING` of the steps and down to almost 0, by half waves of a cosine.

    Smith & Topin 2018 (arXiv:1708.07120), with the numbers of PyTorch's OneCycleLR; momentum stays as it is.
    """
    lowest, top, last = peak / RISE, RISING * steps - 1, max(steps - 1, 1)

    def rate(step: Any) -> Any:
        step = jnp.minimum(step, last)
        wave = lambda begin, end, share: end + (begin - end) / 2 * (1 + jnp.cos(jnp.pi * share))  # noqa: E731
        # a run of so few steps that the peak lies before the first one only falls
        rise = wave(lowest, peak, step / max(top, 1e-9))
        return jnp.where(step <= top, rise, wave(peak, lowest / FALL, (step - top) / (last - top)))

    return rate


def scale_by_stage(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the updates of each stage; stages not named stay as they are."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factors = {stage: multipliers.get(stage, 1.0) for stage in updates}
        return {s: jax.tree.map(partial(operator.mul, f), updates[s]) for s, f in factors.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def by_stage(method: optax.GradientTransformation) -> optax.GradientTransformation:
    """`method` for each stage by itself, so that a stage may join later.

    The updates may be those of some stages only; the state of the others is left as it is.
    """

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        made = {stage: method.update(updates[stage], state[stage], params[stage]) for stage in updates}
        changed = {stage: new for stage, (_, new) in made.items()}
        return {stage: ready for stage, (ready, _) in made.items()}, {**state, **changed}

    return optax.GradientTransformation(lambda params: {s: method.init(tree) for s, tree in params.items()}, update)


def decay_by_value(strength: jax.Array) -> optax.GradientTransformation:
    """`optax.add_decayed_weights` of what is `decayed`, for a strength that is a value of the program."""

    def update(updates: Any, params: Any) -> Any:
        add = lambda u, p, pulled: u + strength.astype(p.dtype) * p if pulled else u  # noqa: E731
        return jax.tree.map(add, updates, params, decayed(params))

    return optax.stateless(update)


def clip_by_value(limit: jax.Array) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` for a limit that is a value of the program; infinity for none."""

    def update(updates: Any, params: Any = None) -> Any:
        norm = optax.tree.norm(updates)
        shorten = lambda u: jnp.where(norm < limit, u, u / norm.astype(u.dtype) * limit.astype(u.dtype))  # noqa: E731
        return jax.tree.map(shorten, updates)

    return optax.stateless(update)


# What of a plan is part of the program of a step, beside what model, task and batches are made with.
PROGRAM = (
    "epochs",
    "warmup_epochs",
    "schedule",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "stage_lr",
    "clip_norm",
    "accumulate",
    "augment",
    "ema",
)


@dataclasses.dataclass(frozen=True)
class Updates:
    """How gradients become updates. Two that are equal make the same program.

    Attributes:
      plan: whose `PROGRAM` fields count.
      steps_per_epoch: see `learning_rate`.
      rate: instead of the plan's own learning rate.
    """

    plan: Plan
    steps_per_epoch: int
    rate: optax.Schedule | None = None

    @classmethod
    def of(cls, plan: Plan, steps_per_epoch: int, rate: optax.Schedule | None = None, *, traced: bool = False) -> Self:
        """Those of a plan; with `traced` without the numbers that are values of the program."""
        left_out = (*NUMBERS, "stage_lr") if traced else ()
        kept = {name: getattr(plan, name) for name in PROGRAM if name not in left_out}
        return cls(Plan(**kept), steps_per_epoch, rate)

    def optimizer(self, traced: TracedHyperparameters | None = None) -> optax.GradientTransformation:
        """See `make_optimizer`."""
        return make_optimizer(self.plan, self.steps_per_epoch, self.rate, traced)


def make_optimizer(
    plan: Plan, steps_per_epoch: int, rate: optax.Schedule | None = None, traced: TracedHyperparameters | None = None
) -> optax.GradientTransformation:
    """The optimizer of a plan: clipping, the method's direction by stage, the learning rate, the stages' multipliers.

    Args:
      plan: as it is.
      steps_per_epoch: see `learning_rate`.
      rate: instead of the plan's own learning rate.
      traced: numbers instead of the plan's.
    """
    if traced is None:
        rate, decay = rate or learning_rate(plan, steps_per_epoch), plan.weight_decay
        decaying = optax.add_decayed_weights(decay, mask=decayed) if decay else optax.identity()
        clip = optax.clip_by_global_norm(plan.clip_norm) if plan.clip_norm else optax.identity()
        factors = plan.stage_lr
    else:
        rate = learning_rate(plan, steps_per_epoch, traced.learning_rate)
        decaying, clip = decay_by_value(traced.weight_decay), clip_by_value(traced.clip_norm)
        factors = traced.stage_lr
    direction = {
        "adamw": lambda: optax.chain(optax.scale_by_adam(), decaying),
        "adam": lambda: optax.chain(decaying, optax.scale_by_adam()),
        "sgd": lambda: optax.chain(decaying, optax.trace(decay=0.9)),
        "lamb": lambda: optax.chain(optax.scale_by_adam(eps=1e-6), decaying, optax.scale_by_trust_ratio()),
    }[plan.optimizer]()
    scale = scale_by_stage(factors) if factors else optax.identity()
    return optax.chain(clip, by_stage(direction), optax.scale_by_learning_rate(rate), scale)
