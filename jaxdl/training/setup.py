"""Everything that a run of steps needs; see `prepare` for how it comes together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.data import augment
from jaxdl.data.batches import steps_per_epoch
from jaxdl.data.preprocessing import Constants, Preprocessing
from jaxdl.data.preprocessing import choose_preprocessing as choose_for_source
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import image_size_of
from jaxdl.models.initialise import batch_of, init_head, init_variables
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.layout import Layout
from jaxdl.tasks import Task
from jaxdl.training.labels import Label, NewAdapter, divide
from jaxdl.training.lengths import Lengths
from jaxdl.training.optim import Updates, learning_rate
from jaxdl.training.plan import Plan
from jaxdl.training.runners import prefers_scan
from jaxdl.training.step import (
    ADAPTER,
    HEAD,
    INIT,
    Predict,
    Recipe,
    Shared,
    State,
    Step,
    make_predict,
    make_step,
    variables_of,
)
from jaxdl.training.traced_hyperparameters import BatchedRun, TracedHyperparameters
from jaxdl.weights.checkpoint import Checkpoint

Init = Checkpoint | Staged
NOTHING: Variables = {"params": {}, "batch_stats": {}}


def choose_preprocessing(init: Init, source: Source, image_size: int | None = None) -> Preprocessing:
    """The checkpoint's own, or for a model without weights one that fits the data.

    Raises:
      InputError: for an image size of what is no image, examples of a kind that is not known, or a model that cannot
        read them.
    """
    if isinstance(init, Checkpoint):
        own = init.card.preprocessing
        own = own if image_size is None else own.resized(image_size)
    else:
        own = choose_for_source(source, image_size, image_size_of(init))
    own.check_model(init.model if isinstance(init, Checkpoint) else init)
    return own.for_targets(source)


def fit_inputs(preprocessing: Preprocessing, sums: Any, source: Source, part: np.ndarray) -> Constants:
    """What the preprocessing fits to a training part, by the weights of its examples where there are any."""
    if source.weights is None:
        return preprocessing.fit(sums, part)
    return preprocessing.fit_weighted(sums, part, source.weights)


def weighed(source: Source, part: np.ndarray) -> np.ndarray:
    """The examples of a training part that have a weight above 0. Raises InputError if none has."""
    if source.weights is None:
        return part
    left = part[source.weights[part] > 0]
    if not len(left):
        raise InputError(f"all {len(part)} examples of a training part of {source.name} have the weight 0")
    return left


@dataclasses.dataclass(frozen=True, eq=False)  # it holds arrays: one is equal to itself alone
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
      held: per epoch the number of stages that are frozen whole in it.
      label: says of a parameter whether it is ever trained; see `labels`.
      start: the stage that ``shared.x`` flows into, for the frozen stages' activations; None for examples.
      streamed: why the examples are not in memory but read in each epoch, in words; None if they are.
      workers: processes that decode what is streamed.
      shared: what the step shares between folds, on the device; without examples where they are streamed.
      frozen: all variables that are never trained.
      kept: variables to be trained that a run starts from; it draws a head where they have none. None to draw all.
      adapter: that each run adds, with numbers of its own; None for none.
      sums: for what the preprocessing fits to a training part; None if the checkpoint gives it.
      kept_targets: what the kept head knows of its targets; None to fit it to the training part.
      numbers: of each fold in place of the plan's, as values of the program; None for those of the plan.
      rate: the learning rate as a function of the step, instead of the plan's.
      lengths: at which its batches are computed; None where nothing is cut. See `lengths`.
      layout: which devices it runs on.
      remat: whether activations are computed again in the backward pass.
    """

    model: Staged
    task: Task
    plan: Plan
    preprocessing: Preprocessing
    source: Source
    parts: Sequence[np.ndarray]
    inner: Sequence[np.ndarray] | None
    held: Sequence[int]
    label: Label
    start: str | None
    streamed: str | None
    workers: int
    shared: Shared
    frozen: Variables
    kept: Variables | None
    adapter: NewAdapter | None
    sums: Any
    kept_targets: Constants | None
    numbers: Mapping[int, TracedHyperparameters] | None = None
    rate: optax.Schedule | None = None
    lengths: Lengths | None = None
    layout: Layout = Layout()  # noqa: RUF009
    remat: bool = False

    @property
    def targets(self) -> Any:
        """What is asked of every example, arrays ``[n, …]``."""
        return self.source.targets()

    def targets_of(self, indices: np.ndarray) -> Any:
        """Of some examples."""
        return jax.tree.map(lambda array: array[indices], self.targets)

    def record_of(self, found: Any, indices: np.ndarray) -> Any:
        """The record of some examples, of what the device gave of them; see `Task.device_record`."""
        if not self.task.ON_HOST:
            return found
        return self.task.host_record(self.task.read(found, self.source, indices), self.targets_of(indices))

    @cached_property
    def sample_weights(self) -> np.ndarray | None:
        """Of every example, 1 on average: only their ratios matter."""
        weights = self.source.weights
        return None if weights is None else weights / weights.mean()

    @cached_property
    def steps(self) -> int:
        """Of an epoch; the same for all folds."""
        return steps_per_epoch([len(part) for part in self.parts], self.plan.batch_size)

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate at the first step of each epoch."""
        rate = learning_rate(self.plan, self.steps)
        return [float(rate(epoch * self.steps)) for epoch in range(self.plan.epochs)]

    @property
    def updates(self) -> Updates:
        """How gradients become updates."""
        return Updates.of(self.plan, self.steps, self.rate, traced=self.numbers is not None)

    def recipe(self, held: int | None = None) -> Recipe:
        """What the step of this run is made of, by default that of its last epoch."""
        augmentation = augment.make_augmentation(self.plan.augment)
        task = self.task
        if self.numbers is not None and "label_smoothing" in task.OPTIONS:  # a value of the program
            task = dataclasses.replace(task, label_smoothing=0.0)
        return Recipe(
            self.model,
            task,
            self.preprocessing.unfitted(),  # what it fitted is in the state
            self.updates,
            task.curve_reads,
            held=min(self.held) if held is None else held,
            start=self.start,
            augmentation=augmentation if augmentation.operations else None,
            accumulate=self.plan.accumulate,
            scan_parts=self._loops_well,
            ema=self.plan.ema,
            remat=self.remat,
        )

    def make_step(self, axis_name: str | None = None, held: int | None = None) -> Step:
        """The train step of this run; see `step.make_step`."""
        return make_step(self.recipe(held), axis_name)

    def make_predict(self) -> Predict:
        """The prediction of this run; see `step.make_predict`."""
        return make_predict(self.recipe())

    @property
    def scan(self) -> bool:
        """Whether several steps run in one program; those of streamed examples or of several lengths cannot."""
        return self._loops_well and not self.streamed and (self.lengths is None or len(self.lengths.sizes) == 1)

    @cached_property
    def _loops_well(self) -> bool:
        """See `runners.prefers_scan`; what counts are the stages that run in the step."""
        variables = jax.eval_shape(
            lambda: join_variables(self.frozen, self.kept or NOTHING, self._draw(jax.random.key(0), None))
        )
        return prefers_scan(partial(self.model.apply, start=self.start), variables, self._one)

    @property
    def _one(self) -> Any:
        """Shapes of one example as it goes into the network, or into `start`."""
        if self.start is None:
            return batch_of(self.preprocessing.spec())
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), self.shared.x)

    def _draw(self, key: jax.Array, traced: TracedHyperparameters | None) -> Variables:
        """What a run does not start from: all that is trained, or a fresh head, and a new adapter."""
        if self.kept is None:
            drawn = init_variables(self.model, jax.random.fold_in(key, INIT), self.preprocessing.spec())
            drawn = divide(drawn, self.label)[0]
        elif "head" in self.kept["params"]:
            drawn = NOTHING
        else:
            rest = jax.eval_shape(lambda: join_variables(self.frozen, self.kept))
            drawn = init_head(self.model, jax.random.fold_in(key, HEAD), rest, self._one, self.start)
        if self.adapter is None:
            return drawn
        params = join_variables(self.frozen, self.kept or NOTHING, drawn)["params"]
        rank = None if traced is None else traced.rank
        return join_variables(drawn, self.adapter.draw(params, jax.random.fold_in(key, ADAPTER), rank))

    def run(self, fold: int | BatchedRun) -> BatchedRun:
        """What a fold by number stands for: the plan's seed, and its numbers unless the fold has its own."""
        if isinstance(fold, BatchedRun):
            return fold
        return BatchedRun(fold, self.plan.seed, None if self.numbers is None else self.numbers[fold])

    def states(self, folds: Sequence[int | BatchedRun], executor: Executor | None = None) -> State:
        """Before the first step: restored weights and a fresh head from (seed, fold), ``[runs, …]`` in one state.

        Drawn by one program, however many there are, and compiled once in a process for a model.

        Args:
          folds: one for each run.
          executor: where parameters lie in parts they are made there, and in these parts.
        """
        if executor is None or not executor.parted:
            return self._states(folds, self.kept)
        kept = None if self.kept is None else executor.place_variables(self.kept)
        make = partial(self._states, folds)
        placed = executor.place_state(jax.eval_shape(make, kept))
        return jax.jit(make, out_shardings=jax.tree.map(lambda one: one.sharding, placed))(kept)

    def _states(self, folds: Sequence[int | BatchedRun], kept: Variables | None) -> State:
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
        drawn = jax.vmap(self._draw)(keys, traced)
        params, batch_stats, opt_state = _start(self.updates, keys, drawn, kept or NOTHING, traced)
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

    def input_constants(self, fold: int) -> Constants:
        """Of the preprocessing: the checkpoint's, or from this fold's training part alone."""
        if self.sums is None:
            return self.preprocessing.constants
        return fit_inputs(self.preprocessing, self.sums, self.source, self.parts[fold])

    def target_constants(self, fold: int) -> Constants:
        """Of the task: from this fold's training part alone, except what a kept head knows."""
        part, weights = self.parts[fold], self.source.weights
        targets = self.targets_of(part)
        fitted = self.task.fit(targets) if weights is None else self.task.fit_weighted(targets, weights[part])
        return {**fitted, **(self.kept_targets or {})}

    def variables(self, state: State) -> Variables:
        """The whole model's variables, from a trained state (its running mean, if any) and the frozen stages."""
        return variables_of(state, self.frozen)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _start(
    updates: Updates, keys: jax.Array, drawn: Variables, kept: Variables, traced: TracedHyperparameters | None
) -> tuple[Any, Any, Any]:
    """Parameters, batch statistics and optimizer state of runs: `kept` is what all start from, `drawn` each run's."""

    def start(key: jax.Array, drawn: Variables, traced: TracedHyperparameters | None) -> tuple[Any, Any, Any]:
        variables = join_variables(kept, drawn)
        optimizer = updates.optimizer(traced)
        return variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

    return jax.vmap(start)(keys, drawn, traced)
