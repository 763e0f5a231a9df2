"""A plan for a training: the way to run it on a slice, and what that comes to."""

from collections.abc import Callable, Sequence

from jaxdl.parallel.chips import Slice
from jaxdl.training.setup import Setup
from jaxdl.validation.planning.elsewhere import Elsewhere
from jaxdl.validation.planning.planned import Asked, Planned
from jaxdl.validation.planning.search import find_remedies, largest_batch
from jaxdl.validation.strategy import check_strategy


def plan_on(asked: Asked, rented: Slice, compiles: int, progress: Callable[[str], None] = lambda said: None) -> Planned:
    """Plans a training on a slice: by its compiler for TPUs, by counted operations and bytes for GPUs.

    Args:
      asked: the training.
      rented: the slice.
      compiles: programs that may be compiled, beside the training's own, to find the largest batch that fits and what
        helps where it does not.
      progress: called with what is being compiled.

    Raises:
      InputError: if the TPU compiler is missing or knows no such slice, or the training itself is none.
    """
    setup = asked.outlined(rented)
    there = Elsewhere(rented, progress)
    ways = [there.way(setup, name, len(asked.parts)) for name in _names(setup, asked, len(there.devices))]
    ways.sort(key=lambda way: (way.seconds is None, way.seconds))
    best, left, remedies = ways[0].step, compiles, []
    if not best.fits and compiles:
        remedies = find_remedies(asked, there, ways[0], (compiles + 1) // 2)
        left -= len(remedies)
    largest = None
    if left > 0:
        executor, runs = there.executor(setup, ways[0].name, len(asked.parts))
        multiple = executor.data * setup.plan.accumulate
        largest = largest_batch(
            lambda rows: there.step(setup, executor, runs, rows), best, multiple, len(asked.source), left
        )
    return Planned(rented, setup, ways, largest, remedies, asked.more)


def _names(setup: Setup, asked: Asked, devices: int) -> Sequence[str]:
    """Ways that are worth comparing: on several devices ``vmap`` uses one of them, and ``shard`` all."""
    check_strategy(setup, asked.execution.fold_strategy)
    if len(asked.parts) == 1 or setup.streamed or setup.layout.at_once is False:
        return ("loop",)
    if setup.layout.at_once:
        return ("shard",)
    if asked.execution.fold_strategy != "auto":
        return (asked.execution.fold_strategy,)
    return ("loop", "vmap" if devices == 1 else "shard")
