"""Everything that a run of steps needs; see `prepare` for how it comes together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.data import augment
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.data.preprocessing import choose_preprocessing as choose_for_source
from jaxdl.data.source import Source
from jaxdl.models import MODELS, describe
from jaxdl.models.staged import Staged, Variables, batch_of, init_head, init_variables, join_variables, split_variables
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
    Recipe,
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
    """The checkpoint's own, or for a model without weights one that fits the data.

    Raises:
      InputError: for an image size of what is no image, or examples of a kind that is not known.
    """
    if not isinstance(init, Checkpoint):
        return choose_for_source(source, image_size, MODELS[describe(init)[0]].image_size)
    own = init.card.preprocessing
    return own if image_size is None else own.resized(image_size)


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run, ready to start: the same for all folds except what `states` makes.

    Attributes:
      model: with its head for the task, computing in the plan's precision.
      task: see `tasks`.
      plan: as given.
      preprocessing: of the examples; nothing is fitted in it if each fold fits its own.
      source: of the examples.
      parts: training indices of each fold, without its inner part.
      inner: indices of each fold's inner part, for early stopping; None without.
      held: per epoch the number of stages that are frozen in it.
      cached: whether ``shared.x`` holds the frozen stages' activations.
      streamed: why the examples are not in memory but read in each epoch, in words; None if they are.
      workers: processes that decode what is streamed.
      optimizer: of the trained stages.
      shared: what the step shares between folds, on the device; without examples where they are streamed.
      frozen: variables of the stages that are never trained.
      body: variables of the trained stages to start from, without the head; None to draw them.
      head: variables of the head to start from; None to draw them.
      sums: for what the preprocessing fits to a training part; None if the checkpoint gives it.
      kept_targets: what the kept head knows of its targets; None to fit it to the training part.
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
    sums: Any
    kept_targets: Constants | None
    numbers: Mapping[int, TracedHyperparameters] | None = None

    @property
    def boundary(self) -> int:
        """Number of stages that are never trained."""
        return min(self.held)

    @property
    def targets(self) -> Any:
        """What is asked of every example, arrays ``[n, …]``."""
        return self.source.targets()

    def targets_of(self, indices: np.ndarray) -> Any:
        """Of some examples."""
        return jax.tree.map(lambda array: array[indices], self.targets)

    @cached_property
    def steps(self) -> int:
        """Of an epoch; the same for all folds."""
        return steps_per_epoch([len(part) for part in self.parts], self.plan.batch_size)

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate at the first step of each epoch."""
        rate = learning_rate(self.plan, self.steps)
        return [float(rate(epoch * self.steps)) for epoch in range(self.plan.epochs)]

    def recipe(self, held: int | None = None) -> Recipe:
        """What the step of this run is made of, by default that of its last epoch."""
        augmentation = augment.make_augmentation(self.plan.augment)
        return Recipe(
            self.model,
            self.task,
            self.preprocessing,
            self.optimizer,
            boundary=self.boundary,
            held=self.boundary if held is None else held,
            cached=self.cached,
            augmentation=augmentation if augmentation.operations else None,
            accumulate=self.plan.accumulate,
            scan_parts=self._loops_well,
            ema=self.plan.ema,
        )

    def make_step(self, axis_name: str | None = None, held: int | None = None) -> Step:
        """The train step of this run; see `step.make_step`.

        Where the state holds numbers of its own (`traced`), these take the place of the plan's.
        """
        recipe = self.recipe(held)
        fixed = make_step(recipe, axis_name)

        def step(state: State, batch: Batch, shared: Shared) -> tuple[State, Metrics]:
            if state.traced is None:
                return fixed(state, batch, shared)
            with nn.intercept_methods(dropout_by_value):
                by_value = dataclasses.replace(recipe, **self._by_value(state.traced))
                return make_step(by_value, axis_name)(state, batch, shared)

        return step

    def _by_value(self, traced: TracedHyperparameters) -> dict[str, Any]:
        """Model, task and optimizer with numbers that are values of the program."""
        model, task = self.model, self.task
        if traced.dropout is not None:
            model = model.clone(dropout=traced.dropout)
        if "label_smoothing" in task.OPTIONS:
            task = dataclasses.replace(task, label_smoothing=traced.label_smoothing)
        return {"model": model, "task": task, "optimizer": make_optimizer(self.plan, self.steps, traced=traced)}

    def make_predict(self) -> Predict:
        """The prediction of this run; see `step.make_predict`."""
        return make_predict(self.recipe())

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

    def _draw(self, key: jax.Array) -> Variables:
        """Fresh variables from a key: of all trained stages, or of the head alone where the others have weights."""
        spec = self.preprocessing.spec()
        if self.body is None:
            names = self.model.stage_names[self.boundary :]
            return split_variables(init_variables(self.model, key, spec), names)[0]
        rest = jax.eval_shape(lambda: join_variables(self.frozen, self.body))
        start = self.model.stage_names[self.boundary] if self.cached else None
        one = batch_of(spec)
        if self.cached:
            one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), self.shared.x)
        return init_head(self.model, key, rest, one, start)

    def run(self, fold: int | BatchedRun) -> BatchedRun:
        """What a fold by number stands for: the plan's seed, and its numbers unless the fold has its own."""
        if isinstance(fold, BatchedRun):
            return fold
        return BatchedRun(fold, self.plan.seed, None if self.numbers is None else self.numbers[fold])

    def states(self, folds: Sequence[int | BatchedRun]) -> State:
        """Before the first step: restored weights and a fresh head from (seed, fold), ``[runs, …]`` in one state.

        Drawn by one program, however many there are, and compiled once in a process for a model.
        """
        runs = [self.run(fold) for fold in folds]
        numbers = sorted({run.fold for run in runs})
        place = np.array([numbers.index(run.fold) for run in runs])

        def by_fold(make: Callable[[int], Any]) -> Any:
            return jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)[place]), *map(make, numbers))

        seeds = {seed: jax.random.key(seed) for seed in {run.seed for run in runs}}
        keys = jax.vmap(jax.random.fold_in)(
            jnp.stack([seeds[run.seed] for run in runs]), jnp.array([run.fold for run in runs])
        )
        traced = jax.tree.map(lambda *values: jnp.asarray(np.stack(values)), *[run.traced for run in runs])
        if self.head is None:
            purpose = INIT if self.body is None else HEAD
            drawn = jax.vmap(lambda key: self._draw(jax.random.fold_in(key, purpose)))(keys)
        else:
            drawn = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(runs), *jnp.shape(leaf))), self.head)
        params, batch_stats, opt_state = self._start(drawn, traced)
        return State(
            step=jnp.zeros(len(runs), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            key=keys,
            inputs=by_fold(self.input_constants),
            targets=by_fold(self.target_constants),
            ema=jax.tree.map(jnp.copy, params) if self.plan.ema else None,
            traced=traced,
        )

    @cached_property
    def _start(self) -> Callable[[Variables, TracedHyperparameters | None], tuple[Any, Any, Any]]:
        """Parameters, batch statistics and optimizer state of runs, from what was drawn for each and its numbers."""

        def start(drawn: Variables, traced: TracedHyperparameters | None) -> tuple[Any, Any, Any]:
            variables = drawn if self.body is None else join_variables(self.body, drawn)
            optimizer = self.optimizer if traced is None else make_optimizer(self.plan, self.steps, traced=traced)
            return variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

        return jax.jit(jax.vmap(start), donate_argnums=0)

    def input_constants(self, fold: int) -> Constants:
        """Of the preprocessing: the checkpoint's, or from this fold's training part alone."""
        if self.sums is None:
            return self.preprocessing.constants
        return self.preprocessing.fit(self.sums, self.parts[fold])

    def target_constants(self, fold: int) -> Constants:
        """Of the task: from this fold's training part alone, except what a kept head knows."""
        return {**self.task.fit(self.targets_of(self.parts[fold])), **(self.kept_targets or {})}

    def variables(self, state: State) -> Variables:
        """The whole model's variables, from a trained state (its running mean, if any) and the frozen stages."""
        params = state.params if state.ema is None else state.ema
        return join_variables(self.frozen, {"params": params, "batch_stats": state.batch_stats})
