"""How far a training has come: what is saved of it, and what is said when its numbers stop being finite."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.variables import nest, walk_shapes
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import all_finite, copied, this_process
from jaxdl.training.resume import RESTART, Saves
from jaxdl.training.runners import Runner
from jaxdl.training.step import State
from jaxdl.weights.files import reading

T = TypeVar("T")
KEPT = ("params", "batch_stats", "ema")  # of a state, what a best epoch is made of
Kept = dict[str, Any]


class Diverged(InputError):
    """The numbers of a training stopped being finite.

    Attributes:
      rows: which predictions are not finite, ``bool[runs, rows]``, those of padding included; None of other numbers.
    """

    rows: np.ndarray | None = None


@dataclasses.dataclass
class TrainingProgress:
    """How far a training has come.

    All of it is saved, except `stages`, which are the model's, `before`, which only makes a message say more, and
    `lenient`: whether to go on when numbers are not finite, because others are trained beside them.
    """

    epoch: int = 0
    step: int = 0  # of the epoch
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    metrics: Any = None  # of the epoch's steps so far
    best: Kept | None = None
    best_loss: np.ndarray | None = None
    best_epoch: np.ndarray | None = None
    seconds: float = 0.0
    stages: Sequence[str] = ()
    before: Mapping[str, np.ndarray] | None = None  # gradient norms of the step before this epoch
    lenient: bool = False

    def stalled(self, patience: int | None) -> np.ndarray:
        """Which folds have stopped."""
        if patience is None or self.best_epoch is None:
            return np.zeros_like(self.best_epoch, bool) if self.best_epoch is not None else np.array(False)
        return self.epoch - 1 - self.best_epoch >= patience


def not_finite(tree: Any, axes: int = 2) -> np.ndarray:
    """Where any number of arrays that share their first axes is NaN or infinite: ``bool`` of these axes."""
    bad = [~np.isfinite(leaf) for leaf in map(np.asarray, jax.tree.leaves(tree))]
    return np.any([one.reshape(*one.shape[:axes], -1).any(-1) for one in bad], axis=0)


def is_finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))  # compiles nothing


def explain(progress: TrainingProgress, what: str) -> str:
    """When the numbers stopped being finite, where, and what to try."""
    advice = "try a lower learning rate, clip_norm=1, warmup_epochs=1, or precision float32"
    if progress.metrics is None:
        return f"{what} not finite after epoch {progress.epoch}; {advice}"
    losses, norms = progress.metrics["loss"], progress.metrics["stage_grad_norms"]
    norms = {stage: norms[stage] for stage in progress.stages if stage in norms}  # in order: a pytree sorts its keys
    broken = {stage: _broken_at(values) for stage, values in norms.items()}
    first = min([_broken_at(losses), *broken.values()])
    if first == len(losses):
        stage = max(norms, key=lambda name: np.max(norms[name]))
        return (
            f"{what} not finite after epoch {progress.epoch + 1}, though its losses are: the last steps were too long; "
            f"the largest gradient was that of stage '{stage}'; {advice}"
        )
    where = f"at step {first + 1} of epoch {progress.epoch + 1}"
    if _broken_at(losses) == first:
        said = f"the loss is not finite {where}"
        before = {name: norm[first - 1] for name, norm in norms.items()} if first else progress.before
        if before:
            stage = max(before, key=lambda name: np.max(before[name]))
            said += (
                f"; in the step before, stage '{stage}' had the largest gradient, of norm {np.max(before[stage]):.3g}"
            )
        elif progress.epoch == 0:
            said += ", before anything was learned: look at the data and the starting weights"
        return f"{said}; {advice}"
    # the gradient flows from the head to the input: of the stages that broke in this step, the last one was first
    stage = [name for name, at in broken.items() if at == first][-1]
    return f"the gradient of stage '{stage}' is the first that is not finite, {where}, while the loss was; {advice}"


def _broken_at(values: np.ndarray) -> int:
    """The first step ``values[steps, …]`` of which is not finite; their number if all are."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    return int(bad.argmax()) if bad.any() else len(values)


def snapshot(
    runner: Runner, state: State, progress: TrainingProgress
) -> tuple[int, dict[str, np.ndarray], dict[str, Any]]:
    """Number, arrays and plain values of a save. Raises Diverged if the parameters are not finite.

    The arrays are on the host; of several processes on the devices as they are, for each to write its own part.
    """
    divided = this_process().count > 1 or runner.executor.parted  # no device need have room for all
    lies = state if divided else runner.executor.fetch_state(state)
    if not progress.lenient and not (all_finite if divided else is_finite)(lies.params):
        raise Diverged(explain(progress, "the parameters are"))
    tree = {
        "state": _stored(lies),
        "best": progress.best,
        "metrics": progress.metrics,
    }
    # copies: the next step uses the buffers up while the save is being written
    arrays = {name: copied(leaf) for name, leaf in walk_shapes(tree)}
    plain = {name: getattr(progress, name) for name in ("epoch", "step", "seconds")} | {"rows": list(progress.rows)}
    plain |= {
        name: None if value is None else value.tolist()
        for name, value in (("best_loss", progress.best_loss), ("best_epoch", progress.best_epoch))
    }
    taken = int(np.max(np.asarray(lies.step)))
    return 2 * taken + (progress.step == 0), arrays, plain  # the end of an epoch is later than its last step


def resumed(
    saves: Saves | None, begin: Callable[[], State], executor: Executor | None = None
) -> tuple[TrainingProgress, State] | None:
    """Where the newest save left off; None if there is none.

    Args:
      saves: of the training.
      begin: gives the state that it began with; of which only the shapes and the traced numbers are made.
      executor: where the state is placed. Arrays that lie in parts there are read in these parts. None for the host.
    """
    shapes = cache(partial(jax.eval_shape, lambda: _stored(begin())))

    def parts() -> dict[str, Any]:
        in_parts = executor is not None and executor.parted
        return dict(walk_shapes({"state": executor.place_state(shapes())})) if in_parts else {}

    saved = saves.latest(parts) if saves else None
    if saved is None:
        return None
    held, plain = {"state": shapes()}, dict(saved.progress)
    with reading(saves.folder, RESTART):
        progress = TrainingProgress(**plain)
    if progress.best_loss is not None:
        progress.best_loss, progress.best_epoch = np.array(progress.best_loss), np.array(progress.best_epoch)
        held["best"] = {name: getattr(shapes(), name) for name in KEPT}
    arrays = dict(saved.arrays)
    found = {name: arrays.get(name) for name, _ in walk_shapes(held)}
    for name, leaf in walk_shapes(held):
        if found[name] is None or found[name].shape != leaf.shape:
            raise InputError(f"the save in '{saves.folder}' does not fit this run ({name}); start again with --restart")
    tree = jax.tree.unflatten(jax.tree.structure(held), list(found.values()))
    progress.best = tree.get("best")
    progress.metrics = nest(without_prefix(arrays, "metrics/")) or None
    state = tree["state"].replace(traced=jax.jit(lambda: begin().traced)())
    if executor is not None:
        state = executor.place_state(state)
    return progress, state.replace(key=jax.random.wrap_key_data(state.key))


def _stored(state: State) -> State:
    """As it is in a save: a run begins with its numbers."""
    return state.replace(key=jax.random.key_data(state.key), traced=None)


def without_prefix(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The values whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
