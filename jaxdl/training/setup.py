"""Everything that a run of steps needs; see `prepare` for how it comes together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.data import augment
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.content import hash_examples
from jaxdl.data.preprocessing import Moments, Preprocessing, unfitted
from jaxdl.data.source import Source
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
from jaxdl.tasks import Task
from jaxdl.training.optim import learning_rate, make_optimizer
from jaxdl.training.plan import Plan
from jaxdl.training.runners import prefers_scan
from jaxdl.training.step import (
    HEAD,
    INIT,
    Batch,
    Metrics,
    Predict,
    Shared,
    State,
    Step,
    make_predict,
    make_step,
)
from jaxdl.training.traced_hyperparameters import BatchedRun, TracedHyperparameters, dropout_by_value
from jaxdl.weights.checkpoint import Checkpoint

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
      preprocessing: of the examples; its mean and std are None if each fold fits its own.
      source: of the examples.
      parts: training indices of each fold, without its inner part.
      inner: indices of each fold's inner part, for early stopping; None without.
      held: per epoch the number of stages that are frozen in it.
      cached: whether ``shared.x`` holds the frozen stages' activations.
      streamed: why the examples are not in memory but read anew in each epoch, in words; None if they are.
      workers: processes that decode what is streamed.
      optimizer: of the trained stages.
      shared: what the step shares between folds, on the device; without examples where they are streamed.
      frozen: variables of the stages that are never trained.
      body: variables of the trained stages to start from, without the head; None to draw them anew.
      head: variables of the head to start from; None to draw them anew.
      moments: for normalisation from the training part; None if the checkpoint gives it.
      scaling: of a regression's targets where the kept head knows it; None to fit it to the training part.
      numbers: of each fold in place of the plan's, as values of the program; None for those of the plan.
    """

    model: Staged
    task: Task
    plan: Plan
    preprocessing: Preprocessing
    source: Source
    parts: Sequence[np.ndarray]
    inner: Sequence[np.ndarray] | None
    held: Sequence[int]
    cached: bool
    streamed: str | None
    workers: int
    optimizer: optax.GradientTransformation
    shared: Shared
    frozen: Variables
    body: Variables | None
    head: Variables | None
    moments: Moments | None
    scaling: np.ndarray | None
    numbers: Mapping[int, TracedHyperparameters] | None = None

    @property
    def boundary(self) -> int:
        """Number of stages that are never trained."""
        return min(self.held)

    @property
    def labels(self) -> np.ndarray:
        """Class or number of every example."""
        return self.source.labels

    @cached_property
    def content(self) -> np.ndarray:
        """A hash of every example; see `data.content.hash_examples`."""
        return hash_examples(self.source)

    @cached_property
    def steps(self) -> int:
        """Of an epoch; the same for all folds."""
        return steps_per_epoch([len(part) for part in self.parts], self.plan.batch_size)

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate at the first step of each epoch."""
        rate = learning_rate(self.plan, self.steps)
        return [float(rate(epoch * self.steps)) for epoch in range(self.plan.epochs)]

    def make_step(self, axis_name: str | None = None, held: int | None = None) -> Step:
        """The train step of this run, by default of its last epoch; see `step.make_step`.

        Where the state holds numbers of its own (`traced`), these take the place of the plan's.
        """
        augmentation = augment.make_augmentation(self.plan.augment)
        make = partial(
            make_step,
            boundary=self.boundary,
            held=self.boundary if held is None else held,
            cached=self.cached,
            axis_name=axis_name,
            augmentation=augmentation if augmentation.operations else None,
            accumulate=self.plan.accumulate,
            scan_parts=self._loops_well,
            ema=self.plan.ema,
        )
        fixed = make(self.model, self.task, self.optimizer)

        def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
            if state.traced is None:
                return fixed(state, batch, shared)
            with nn.intercept_methods(dropout_by_value):
                return make(*self._by_value(state.traced))(state, batch, shared)

        return step

    def _by_value(self, traced: TracedHyperparameters) -> tuple[Staged, Task, optax.GradientTransformation]:
        """Model, task and optimizer with numbers that are values of the program."""
        model, task = self.model, self.task
        if traced.dropout is not None:
            model = model.clone(dropout=traced.dropout)
        if hasattr(task, "label_smoothing"):
            task = dataclasses.replace(task, label_smoothing=traced.label_smoothing)
        return model, task, make_optimizer(self.plan, self.steps, traced=traced)

    def make_predict(self) -> Predict:
        """The prediction of this run; see `step.make_predict`."""
        return make_predict(self.model, self.task, boundary=self.boundary, cached=self.cached)

    @property
    def scan(self) -> bool:
        """Whether several steps run in one program; those of streamed examples cannot."""
        return self._loops_well and not self.streamed

    @cached_property
    def _loops_well(self) -> bool:
        """See `runners.prefers_scan`; what counts are the stages that run in the step."""
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
        start = self.model.stage_names[self.boundary] if self.cached else None
        flowing = self.shared.x if self.cached else jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), flowing)
        return jax.jit(lambda key: init_head(self.model, key, rest, one, start))

    @cached_property
    def _init_optimizer(self) -> Callable[[Any], Any]:
        return jax.jit(self.optimizer.init)

    @cached_property
    def _init_optimizer_by_value(self) -> Callable[[Any, TracedHyperparameters], Any]:
        return jax.jit(lambda params, traced: make_optimizer(self.plan, self.steps, traced=traced).init(params))

    def run(self, fold: int | BatchedRun) -> BatchedRun:
        """What a fold by number stands for: the plan's seed, and its numbers unless the fold has its own."""
        if isinstance(fold, BatchedRun):
            return fold
        return BatchedRun(fold, self.plan.seed, None if self.numbers is None else self.numbers[fold])

    def initial_states(self, folds: Sequence[int | BatchedRun]) -> list[State]:
        """States of `folds` before the first step: restored weights, and a fresh head from (seed, fold)."""
        states = []
        for run in map(self.run, folds):
            fold = run.fold
            key = jax.random.fold_in(jax.random.key(run.seed), fold)
            if self.body is None:
                variables = self._draw(jax.random.fold_in(key, INIT))
            else:
                fresh = self.head is None
                variables = join_variables(self.body, self._draw(jax.random.fold_in(key, HEAD)) if fresh else self.head)
            mean, std = self.normalisation(fold)
            class_weights, scaling = self.class_weights(fold), self.target_scaling(fold)
            states.append(
                State(
                    step=jnp.zeros((), jnp.int32),
                    params=variables["params"],
                    batch_stats=variables["batch_stats"],
                    opt_state=self._init_optimizer(variables["params"])
                    if run.traced is None
                    else self._init_optimizer_by_value(variables["params"], run.traced),
                    key=key,
                    mean=jnp.asarray(mean),
                    std=jnp.asarray(std),
                    ema=jax.tree.map(jnp.copy, variables["params"]) if self.plan.ema else None,
                    class_weights=None if class_weights is None else jnp.asarray(class_weights),
                    scaling=None if scaling is None else jnp.asarray(scaling),
                    traced=jax.tree.map(jnp.asarray, run.traced),
                )
            )
        return states

    def stacked_states(self, folds: Sequence[int | BatchedRun]) -> State:
        """As `initial_states`, ``[folds, …]`` in one state; drawn by one program, however many there are."""
        runs = [self.run(fold) for fold in folds]
        numbers = sorted({run.fold for run in runs})
        place = np.array([numbers.index(run.fold) for run in runs])

        def by_fold(make: Callable[[int], Any]) -> Any:
            return jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)[place]), *map(make, numbers))

        mean, std = by_fold(self.normalisation)
        seeds = {seed: jax.random.key(seed) for seed in {run.seed for run in runs}}
        keys = jax.vmap(jax.random.fold_in)(
            jnp.stack([seeds[run.seed] for run in runs]), jnp.array([run.fold for run in runs])
        )
        traced = jax.tree.map(lambda *values: jnp.asarray(np.stack(values)), *[run.traced for run in runs])
        params, batch_stats, opt_state = self._draw_stacked(keys, traced)
        return State(
            step=jnp.zeros(len(runs), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            key=keys,
            mean=mean,
            std=std,
            ema=jax.tree.map(jnp.copy, params) if self.plan.ema else None,
            class_weights=by_fold(self.class_weights),
            scaling=by_fold(self.target_scaling),
            traced=traced,
        )

    @cached_property
    def _draw_stacked(self) -> Callable[[jax.Array, TracedHyperparameters | None], tuple[Any, Any, Any]]:
        """Parameters, batch statistics and optimizer state for ``keys[folds]`` and their numbers."""

        def draw(key: jax.Array, traced: TracedHyperparameters | None) -> tuple[Any, Any, Any]:
            if self.body is None:
                variables = self._draw(jax.random.fold_in(key, INIT))
            else:
                head = self._draw(jax.random.fold_in(key, HEAD)) if self.head is None else self.head
                variables = join_variables(self.body, head)
            optimizer = self.optimizer if traced is None else make_optimizer(self.plan, self.steps, traced=traced)
            return variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

        return jax.jit(jax.vmap(draw))

    def normalisation(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and std: the checkpoint's, or of this fold's training part alone."""
        if self.moments is None:
            return np.float32(self.preprocessing.mean), np.float32(self.preprocessing.std)
        return self.moments.fit(self.parts[fold])

    def class_weights(self, fold: int) -> np.ndarray | None:
        """Factors on the loss ``float32[classes]``, from this fold's training part alone; None if all are 1."""
        wanted, names = self.plan.class_weights, self.source.class_names
        if wanted is None:
            return None
        if wanted == "balanced":
            counts = np.bincount(self.labels[self.parts[fold]], minlength=len(names))
            return np.float32(counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)))
        factors = np.float32([wanted.get(name, 1.0) for name in names])
        if not factors[self.labels[self.parts[fold]]].any():
            raise InputError("class_weights are 0 for every example to train on; give one class a factor above 0")
        return factors

    def target_scaling(self, fold: int) -> np.ndarray | None:
        """See `tasks.Regression.scale`; from this fold's training part alone, or the kept head's."""
        return self.task.fit_scaling(self.labels[self.parts[fold]]) if self.scaling is None else self.scaling

    def variables(self, state: State) -> Variables:
        """The whole model's variables, from a trained state (its running mean, if any) and the frozen stages."""
        params = state.params if state.ema is None else state.ema
        return join_variables(self.frozen, {"params": params, "batch_stats": state.batch_stats})
