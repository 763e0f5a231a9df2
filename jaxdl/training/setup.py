"""From a starting point, data and a plan to everything that a run of steps needs."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Moments, Preprocessing, to_memory, unfitted
from jaxdl.data.source import Arrays, Source
from jaxdl.errors import InputError
from jaxdl.models import MODELS, describe
from jaxdl.models.staged import (
    Staged,
    Variables,
    init_head,
    init_variables,
    join_variables,
    split_variables,
)
from jaxdl.tasks.classification import Classification
from jaxdl.training.features import activation_bytes, compute_features, memory_limit
from jaxdl.training.loop import prefers_scan
from jaxdl.training.optim import learning_rate, make_optimizer
from jaxdl.training.plan import Plan
from jaxdl.training.step import HEAD, INIT, Predict, Shared, State, Step, make_predict, make_step
from jaxdl.weights.checkpoint import Checkpoint, check_fits

Init = Checkpoint | Staged


def choose_preprocessing(init: Init, source: Source, image_size: int | None = None) -> Preprocessing:
    """The checkpoint's own, or for a model without weights one that fits the data."""
    if image_size is not None and image_size < 1:
        raise InputError(f"the image size is {image_size}; expected at least 1 pixel")
    if isinstance(init, Checkpoint):
        own = init.card.preprocessing
        if image_size is not None and own.kind != "uint8":
            raise InputError("the checkpoint takes numbers, not images; an image size cannot be set")
        return (
            own if image_size is None else dataclasses.replace(own, input_shape=(image_size,) * 2 + own.input_shape[2:])
        )
    return unfitted(source, image_size, MODELS[describe(init)[0]].image_size)


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run, ready to start: the same for all folds but for what `initial_state` makes.

    Attributes:
      model: with its head for the task, computing in the plan's precision.
      task: see `tasks`.
      plan: as given.
      preprocessing: how `data` was made; its mean and std are None if each fold fits its own.
      data: all examples in memory, as stored.
      parts: training indices of each fold.
      boundary: number of frozen stages.
      cached: whether ``shared.x`` holds the frozen stages' activations.
      optimizer: of the trained stages.
      shared: what the step shares between folds, on the device.
      frozen: variables of the frozen stages.
      body: variables of the trained stages to start from, without the head; None to draw them anew.
      head: variables of the head to start from; None to draw them anew.
      moments: for normalisation from the training part; None if the checkpoint gives it.
    """

    model: Staged
    task: Classification
    plan: Plan
    preprocessing: Preprocessing
    data: Arrays
    parts: Sequence[np.ndarray]
    boundary: int
    cached: bool
    optimizer: optax.GradientTransformation
    shared: Shared
    frozen: Variables
    body: Variables | None
    head: Variables | None
    moments: Moments | None

    @cached_property
    def steps(self) -> int:
        """Of an epoch; the same for all folds."""
        return steps_per_epoch([len(part) for part in self.parts], self.plan.batch_size)

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate at the first step of each epoch."""
        rate = learning_rate(self.plan, self.steps)
        return [float(rate(epoch * self.steps)) for epoch in range(self.plan.epochs)]

    def make_step(self, axis_name: str | None = None) -> Step:
        """The train step of this run; see `step.make_step`."""
        return make_step(
            self.model, self.task, self.optimizer, boundary=self.boundary, cached=self.cached, axis_name=axis_name
        )

    def make_predict(self) -> Predict:
        """The prediction of this run; see `step.make_predict`."""
        return make_predict(self.model, boundary=self.boundary, cached=self.cached)

    @cached_property
    def scan(self) -> bool:
        """See `loop.prefers_scan`; what counts are the stages that run in the step."""
        return prefers_scan((self._fresh_shapes["params"], () if self.cached else self.frozen.get("params", {})))

    @property
    def _fresh_shapes(self) -> Variables:
        fresh = jax.eval_shape(self._draw, jax.random.key(0))
        return fresh if self.body is None else join_variables(self.body, fresh)

    @cached_property
    def _draw(self) -> Callable[[jax.Array], Variables]:
        """Fresh variables from a key: of all trained stages, or of the head alone where the others have weights.

        Compiled once, whatever the number of folds.
        """
        shape = self.preprocessing.input_shape
        if self.body is None:
            names = self.model.stage_names[self.boundary :]
            return jax.jit(lambda key: split_variables(init_variables(self.model, key, shape), names)[0])
        rest = jax.eval_shape(lambda: join_variables(self.frozen, self.body))
        return jax.jit(lambda key: init_head(self.model, key, rest, shape))

    @cached_property
    def _init_optimizer(self) -> Callable[[Any], Any]:
        return jax.jit(self.optimizer.init)

    def initial_states(self, folds: Sequence[int]) -> list[State]:
        """States of `folds` before the first step: restored weights, and a fresh head from (seed, fold)."""
        states = []
        for fold in folds:
            key = jax.random.fold_in(jax.random.key(self.plan.seed), fold)
            if self.body is None:
                variables = self._draw(jax.random.fold_in(key, INIT))
            else:
                fresh = self.head is None
                variables = join_variables(self.body, self._draw(jax.random.fold_in(key, HEAD)) if fresh else self.head)
            mean, std = self.normalisation(fold)
            states.append(
                State(
                    step=jnp.zeros((), jnp.int32),
                    params=variables["params"],
                    batch_stats=variables["batch_stats"],
                    opt_state=self._init_optimizer(variables["params"]),
                    key=key,
                    mean=jnp.asarray(mean),
                    std=jnp.asarray(std),
                )
            )
        return states

    def normalisation(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and std: the checkpoint's, or of this fold's training part alone."""
        if self.moments is None:
            return np.float32(self.preprocessing.mean), np.float32(self.preprocessing.std)
        return self.moments.fit(self.parts[fold])

    def variables(self, state: State) -> Variables:
        """The whole model's variables, from a trained state and the frozen stages."""
        return join_variables(self.frozen, {"params": state.params, "batch_stats": state.batch_stats})


def prepare(
    init: Init,
    source: Source,
    plan: Plan,
    parts: Sequence[np.ndarray],
    *,
    preprocessing: Preprocessing | None = None,
    keep_head: bool = False,
) -> Setup:
    """Brings the data into memory and, with frozen stages, runs them over it once.

    Args:
      init: a checkpoint, or a model to be trained from scratch.
      source: labelled examples.
      plan: how to train.
      parts: training indices of each fold (a single one if there are no folds).
      preprocessing: as `choose_preprocessing` says of the data to train on; by default of `source`.
      keep_head: start from the checkpoint's head instead of a fresh one.

    Raises:
      InputError: if plan, model and data do not go together.
    """
    preprocessing = preprocessing or choose_preprocessing(init, source)
    task = Classification(len(source.class_names), plan.label_smoothing)
    base = init.model if isinstance(init, Checkpoint) else init
    model = base.clone(num_outputs=task.num_outputs, dtype=plan.precision)
    boundary = plan.boundary(model)
    data = to_memory(source, preprocessing)
    if isinstance(init, Checkpoint):
        if preprocessing.input_shape != init.card.preprocessing.input_shape:
            check_fits(init, preprocessing.input_shape)
        variables = jax.tree.map(jnp.asarray, init.variables)
    else:  # checks, too, that the model can take such data
        init_it = partial(init_variables, model, input_shape=preprocessing.input_shape)
        key = jax.random.key(plan.seed)
        variables = init_it(key) if boundary else jax.eval_shape(init_it, key)  # values only where they are used
    # a stage without variables computes the same whether frozen or not: the boundary may pass it
    while 0 < boundary < len(model.stage_names) - 1 and not any(
        model.stage_names[boundary] in tree for tree in variables.values()
    ):
        boundary += 1
    frozen, trained = split_variables(variables, model.stage_names[:boundary])
    head, body = split_variables(trained, ("head",))

    moments = None if preprocessing.fitted else Moments.of(data.x)
    common = preprocessing.fitted or len(parts) == 1  # else each fold's frozen stages see other inputs
    cached = boundary > 0 and common and plan.cache_features
    cached = cached and activation_bytes(model, frozen, model.stage_names[boundary], data.x) <= memory_limit()
    x = data.x
    if cached:
        if moments is not None:
            mean, std = moments.fit(parts[0])
        else:
            mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)
        x = compute_features(model, frozen, model.stage_names[boundary], data.x, mean, std, plan.batch_size)
    steps = steps_per_epoch([len(part) for part in parts], plan.batch_size)
    shared = Shared(
        x=jax.tree.map(jnp.asarray, x),
        y=jnp.asarray(data.labels),
        frozen={} if cached or not boundary else frozen,
    )
    restored = isinstance(init, Checkpoint)
    return Setup(
        model=model,
        task=task,
        plan=plan,
        preprocessing=preprocessing,
        data=data,
        parts=parts,
        boundary=boundary,
        cached=cached,
        optimizer=make_optimizer(plan, steps),
        shared=shared,
        frozen=frozen,
        body=body if restored else None,
        head=head if restored and keep_head else None,
        moments=moments,
    )
