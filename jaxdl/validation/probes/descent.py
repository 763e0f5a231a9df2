"""Many penalised linear problems on the same features, brought to their optimum together.

A lane is one problem: a weight vector for every output it has, and its own examples among the rows that all share. All
lanes share one matrix of features, so that an iteration is two matrix products whatever the number of lanes. Each lane
takes L-BFGS steps (Nocedal 1980) whose first guess of the inverse Hessian knows the features' covariance: the Hessian
is close to (curvature of the loss) × covariance + penalty. (Böhning and Lindsay 1988 put the largest curvature there
is; here it is the mean over examples at the present point.) The logits' change along a direction is known from its one
matrix product, so that trying a step length costs no further one.

Arrays of lanes have the columns, or the rows, last: sums over outputs then run over whole vectors.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MEMORY = 5  # pairs of steps and changes of the gradient that are kept
LEADING = 128  # directions of the covariance that the first guess knows
LINE_TRIALS = 12
LINE_SHARE = 0.5  # a step is taken once the slope along it has fallen to this share
STALLED = 100  # steps without a smaller gradient: what is left is rounding
RESTART = 20  # after so many of them the pairs, which may be rounding as well, are forgotten
FLAT = 1e-9  # added to the curvature: directions in which nothing varies

Slopes = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
Point = tuple[jax.Array, jax.Array]  # of kernel [lanes, outputs, columns] and bias [lanes, outputs]


def softmax_slopes(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the cross-entropy: derivative and (diagonal) second derivative by the logits ``[lanes, outputs, rows]``;
    `targets` are one-hot."""
    p = jax.nn.softmax(logits, axis=1)
    return p - targets, p * (1 - p)


def sigmoid_slopes(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same for two classes told apart by one logit; `targets` are 0 or 1."""
    p = jax.nn.sigmoid(logits)
    return p - targets, p * (1 - p)


def hinge_slopes(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the squared hinge max(0, 1 − target × logit)²; `targets` are ±1."""
    slack = jnp.maximum(1 - targets * logits, 0)
    return -2 * targets * slack, 2.0 * (slack > 0)


SLOPES: dict[str, Slopes] = {"softmax": softmax_slopes, "sigmoid": sigmoid_slopes, "hinge": hinge_slopes}
# residuals of fewer units of the type's precision are rounding; of the hinge, which subtracts numbers near 1, sooner
ROUNDING = {"softmax": 1e2, "sigmoid": 1e2, "hinge": 1e4}


class Problem(NamedTuple):
    """Lanes on shared features. A lane sees them standardised: less its `mean`, times its `inverse`.

    Attributes:
      features: ``[rows, columns]``, of about the same size all.
      weight: ``[lanes, rows]``: 1 for an example of the lane, 0 for all other rows.
      targets: ``[lanes or 1, outputs, rows]``, as the loss takes them.
      mean: of each column over the lane's examples.
      inverse: of its spread there; 0 for a column that is not to count.
      penalty: of each lane.
      directions: ``[columns, leading]``, orthonormal, along which the features vary most.
      variance: along each of them.
      rest: mean variance along all others.
    """

    features: Float[Array, "rows columns"]
    weight: Float[Array, "lanes rows"]
    targets: Float[Array, "_ outputs rows"]
    mean: Float[Array, "lanes columns"]
    inverse: Float[Array, "lanes columns"]
    penalty: Float[Array, " lanes"]
    directions: Float[Array, "columns leading"]
    variance: Float[Array, " leading"]
    rest: Float[Array, ""]


class Solution(NamedTuple):
    """Of `minimise`.

    Attributes:
      point: kernel ``[lanes, outputs, columns]`` and bias ``[lanes, outputs]`` of the standardised features.
      logits: ``[lanes, outputs, rows]``, those of all rows.
      gradient: largest entry of each lane's gradient, as a share of the mean size of its residuals (at least that of
        `ROUNDING`, at most 1).
    """

    point: Point
    logits: Float[Array, "lanes outputs rows"]
    gradient: Float[Array, " lanes"]


def leading_directions(features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`Problem`'s directions, variance and rest, by two rounds of subspace iteration (Halko et al. 2011).

    They only have to be near: where the minimum is does not depend on them.
    """
    count, columns = features.shape
    basis = jax.random.normal(jax.random.key(0), (columns, min(LEADING, columns)), features.dtype)
    for _ in range(2):
        basis = jnp.linalg.qr(features.T @ (features @ basis))[0]
    small = features @ basis
    variance, turn = jnp.linalg.eigh(small.T @ small / count)
    variance = jnp.maximum(variance, 0)
    rest = jnp.maximum(jnp.square(features).sum() / count - variance.sum(), 0) / max(1, columns - len(variance))
    return basis @ turn, variance, rest


class _State(NamedTuple):
    count: Int[Array, ""]
    point: Point
    logits: jax.Array
    curvature: Float[Array, "lanes outputs"]
    slope: Point
    moved: Point  # the last steps, the newest at count − 1
    turned: Point  # and by how much they changed the gradient
    rate: jax.Array  # 1 / <moved, turned>, or 0 for a pair that is not there
    gradient: Float[Array, " lanes"]
    least: Float[Array, " lanes"]  # the smallest gradient so far
    since: Int[Array, " lanes"]  # steps since then
    done: Bool[Array, " lanes"]


def minimise(problem: Problem, start: Point, *, loss: str, tolerance: float, most: int) -> Solution:
    """The minimum of ``mean(loss) + penalty / (2 examples) × |kernel|²`` for every lane; the bias is not penalised.

    Args:
      problem: features, targets and penalties.
      start: kernel and bias to begin with.
      loss: a name of `SLOPES`.
      tolerance: a lane is done when no entry of its gradient is larger, nor larger than this share of the mean size of
        its residuals. (Residuals vanish with the penalty where classes can be told apart; a gradient that is small
        beside 1 may then be far from the minimum.)
      most: steps at the most; of lanes that are not done by then the gradient tells, and of those that rounding stops.
    """
    tools = _Tools(problem, loss)
    logits = tools.logits(start)
    curvature, slope, gradient = tools.look(start, *tools.residual(logits))
    pairs = jax.tree.map(lambda a: jnp.zeros((MEMORY, *a.shape), a.dtype), start)
    first = _State(
        count=jnp.zeros((), jnp.int32),
        point=start,
        logits=logits,
        curvature=curvature,
        slope=slope,
        moved=pairs,
        turned=pairs,
        rate=jnp.zeros((MEMORY, len(gradient)), logits.dtype),
        gradient=gradient,
        least=gradient,
        since=jnp.zeros(len(gradient), jnp.int32),
        done=gradient <= tolerance,
    )
    unfinished = lambda state: (state.count < most) & ~state.done.all()  # noqa: E731
    last = jax.lax.while_loop(unfinished, partial(_step, tools, tolerance), first)
    return Solution(last.point, last.logits, last.gradient)


class _Tools:
    """The sums over examples that a step needs."""

    def __init__(self, problem: Problem, loss: str):
        self.problem, self.slopes = problem, SLOPES[loss]
        self.smallest = ROUNDING[loss] * jnp.finfo(problem.features.dtype).eps
        self.examples = problem.weight.sum(-1)
        self.penalty = problem.penalty / self.examples  # as the share of one example
        self.mean, self.inverse = problem.mean[:, None], problem.inverse[:, None]  # [lanes, 1, columns]

    def logits(self, point: Point) -> jax.Array:
        kernel = point[0] * self.inverse
        bias = point[1] - (kernel * self.mean).sum(-1)
        return _times(kernel, self.problem.features.T) + bias[:, :, None]

    def residual(self, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        residual, curvature = self.slopes(logits, self.problem.targets)
        weight = self.problem.weight[:, None]
        return residual * weight, curvature * weight

    def look(self, point: Point, residual: jax.Array, curvature: jax.Array) -> tuple[jax.Array, Point, jax.Array]:
        """From what `residual` gave: the loss's mean curvature for each output, the gradient, and its largest entry as
        `Solution` has it."""
        total, examples = residual.sum(-1), self.examples[:, None]
        kernel = (_times(residual, self.problem.features) - total[:, :, None] * self.mean) * self.inverse
        kernel = kernel / examples[:, :, None] + _wide(self.penalty, kernel) * point[0]
        slope = kernel, total / examples
        size = jnp.abs(residual).max(1).sum(-1) / self.examples
        size = jnp.clip(size, self.smallest, 1)
        largest = jnp.maximum(jnp.abs(slope[0]).max((1, 2)), jnp.abs(slope[1]).max(-1))
        return curvature.sum(-1) / examples, slope, largest / size

    def look_along(
        self, state: _State, direction: Point, along: jax.Array, t: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """At the step length `t` ``[lanes]`` the derivative by it, and `residual`; `along` is how the logits change."""
        residual, curvature = self.residual(state.logits + _wide(t, along) * along)
        kernel = state.point[0] + _wide(t, direction[0]) * direction[0]
        pull = self.penalty * (kernel * direction[0]).sum((1, 2))
        return (residual * along).sum((1, 2)) / self.examples + pull, (residual, curvature)

    def precondition(self, curvature: jax.Array, way: Point) -> Point:
        """The first guess of the inverse Hessian times `way`."""
        kernel, bias = way
        inverse = lambda variance: 1 / (curvature[:, :, None] * variance + _wide(self.penalty, kernel) + FLAT)  # noqa: E731
        rest = inverse(self.problem.rest)
        leading = inverse(self.problem.variance) - rest
        more = _times(leading * _times(kernel, self.problem.directions), self.problem.directions.T)
        return rest * kernel + more, bias / (curvature + FLAT)


def _step(tools: _Tools, tolerance: float, state: _State) -> _State:
    direction = _direction(tools, state)
    along = tools.logits(direction)
    t, found = _length(tools, state, direction, along)
    moved = jax.tree.map(lambda way: _wide(t, way) * way, direction)
    point = jax.tree.map(jnp.add, state.point, moved)
    curvature, slope, gradient = tools.look(point, *found)
    turned = jax.tree.map(jnp.subtract, slope, state.slope)
    bend = _inner(moved, turned)
    place = state.count % MEMORY
    keep = lambda kept, new: kept.at[place].set(new)  # noqa: E731
    since = jnp.where(gradient < state.least, 0, state.since + 1)
    rate = keep(state.rate, jnp.where(bend > 0, 1 / jnp.where(bend > 0, bend, 1), 0))
    return _State(
        count=state.count + 1,
        point=point,
        logits=state.logits + _wide(t, along) * along,
        curvature=curvature,
        slope=slope,
        moved=jax.tree.map(keep, state.moved, moved),
        turned=jax.tree.map(keep, state.turned, turned),
        rate=jnp.where((since > 0) & (since % RESTART == 0), 0, rate),
        gradient=gradient,
        least=jnp.minimum(state.least, gradient),
        since=since,
        done=state.done | (gradient <= tolerance) | (since >= STALLED),
    )


def _times(lanes: jax.Array, matrix: jax.Array) -> jax.Array:
    """One matrix product for all lanes: ``[lanes, outputs, a]`` times ``[a, b]``."""
    return (lanes.reshape(-1, lanes.shape[-1]) @ matrix).reshape(*lanes.shape[:-1], -1)


def _wide(numbers: jax.Array, array: jax.Array) -> jax.Array:
    """One number for each lane, to be multiplied with an array whose first axis is the lanes."""
    return numbers.reshape(-1, *[1] * (array.ndim - 1))


def _inner(one: Point, two: Point) -> jax.Array:
    """Lane by lane ``[lanes]``."""
    return (one[0] * two[0]).sum((1, 2)) + (one[1] * two[1]).sum(-1)


def _direction(tools: _Tools, state: _State) -> Point:
    """Minus the inverse Hessian, as the kept pairs correct it, times the gradient (the two loops of L-BFGS)."""

    def add(one: Point, factor: jax.Array, two: Point) -> Point:
        return jax.tree.map(lambda a, b: a + _wide(factor, b) * b, one, two)

    def pair(back: jax.Array) -> tuple[jax.Array, Point, Point]:
        place = (state.count - 1 - back) % MEMORY
        moved, turned = jax.tree.map(lambda kept: kept[place], (state.moved, state.turned))
        return state.rate[place], moved, turned

    def newest_first(back: jax.Array, held: tuple[Point, jax.Array]) -> tuple[Point, jax.Array]:
        way, shares = held
        rate, moved, turned = pair(back)
        share = rate * _inner(moved, way)
        return add(way, -share, turned), shares.at[back].set(share)

    def oldest_first(index: jax.Array, way: Point) -> Point:
        back = kept - 1 - index
        rate, moved, turned = pair(back)
        return add(way, shares[back] - rate * _inner(turned, way), moved)

    kept = jnp.minimum(state.count, MEMORY)
    way, shares = jax.lax.fori_loop(0, kept, newest_first, (state.slope, jnp.zeros_like(state.rate)))
    way = jax.lax.fori_loop(0, kept, oldest_first, tools.precondition(state.curvature, way))
    return jax.tree.map(jnp.negative, way)


def _length(
    tools: _Tools, state: _State, direction: Point, along: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """A step length of each lane, 0 for one that is done, and `_Tools.residual` there.

    The loss is convex, so that its slope along a line only grows: a root is bracketed and closed in on by the secant.
    """
    begin = _inner(state.slope, direction)
    measure = partial(tools.look_along, state, direction, along)

    def wanting(slope: jax.Array) -> jax.Array:
        return (jnp.abs(slope) > LINE_SHARE * jnp.abs(begin)) & ~state.done

    def again(held: tuple) -> tuple:
        count, t, (slope, _), low, low_slope, high, high_slope = held
        search, short = wanting(slope), slope < 0
        low, low_slope = (jnp.where(search & short, *pair) for pair in ((t, low), (slope, low_slope)))
        high, high_slope = (jnp.where(search & ~short, *pair) for pair in ((t, high), (slope, high_slope)))
        width = high - low
        between = low + jnp.clip(width * low_slope / (low_slope - high_slope), 0.1 * width, 0.9 * width)
        beyond = jnp.where(slope > begin, jnp.clip(t * begin / (begin - slope), 1.5 * t, 10 * t), 10 * t)
        t = jnp.where(search, jnp.where(jnp.isfinite(high), between, beyond), t)
        return count + 1, t, measure(t), low, low_slope, high, high_slope

    nought = jnp.zeros_like(begin)
    first = jnp.where(state.done, 0, nought + 1)
    held = (jnp.zeros((), jnp.int32), first, measure(first), nought, begin, nought + jnp.inf, nought)
    held = jax.lax.while_loop(lambda held: (held[0] < LINE_TRIALS) & wanting(held[2][0]).any(), again, held)
    return held[1], held[2][1]
