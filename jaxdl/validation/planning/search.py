"""The largest batch that fits, and what helps a training that does not: found by compiling."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxdl.validation.planning.elsewhere import Elsewhere
from jaxdl.validation.planning.planned import Asked, Largest, Remedy, Step, Way

CLOSE = 0.05  # the largest batch is known well enough when one larger by so much does not fit
SURE = 0.9  # of the room that is left, for what is made smaller by a factor


def largest_batch(step: Callable[[int], Step], known: Step, multiple: int, most: int, compiles: int) -> Largest:
    """Looks for the largest batch that fits, by compiling: where a straight line says it is, then between.

    Args:
      step: of a batch of so many rows.
      known: one that is known.
      multiple: of which batches are.
      most: rows that a batch can have.
      compiles: programs at most.
    """
    most = max(multiple, most // multiple * multiple)
    fits, fails = (known, None) if known.fits else (None, known)
    for tried in range(compiles):
        low, high = (0 if fits is None else fits.rows), (None if fails is None else fails.rows)
        if low >= most or (high is not None and high - low <= max(multiple, CLOSE * low)):
            return Largest(low or None, high, most, tried)
        guess = _guess(fits or fails)
        if high is not None and not low < guess < high:
            guess = (low + high) // 2
        rows = min(most, max(low + multiple, guess // multiple * multiple))
        if high is not None and rows >= high:
            return Largest(low or None, high, most, tried)
        made = step(rows)
        fits, fails = (made, fails) if made.fits else (fits, made)
    return Largest(None if fits is None else fits.rows, None if fails is None else fails.rows, most, compiles)


def _guess(known: Step) -> int:
    """Rows of the batch that would just fit, if what is temporary grows with the rows."""
    if known.needs is None:
        return known.rows // 2
    temporary = max(1, known.parts.get("activations", 0))
    return int((known.has - (known.needs - temporary)) / temporary * known.rows)


def find_remedies(asked: Asked, there: Elsewhere, way: Way, compiles: int) -> list[Remedy]:
    """What helps where the training does not fit, tried by compiling: until something does."""
    made: list[Remedy] = []
    for options, changed in _changes(asked, way, len(there.devices)):
        if len(made) == compiles or (made and made[-1].step.fits):
            break
        made.append(Remedy(options, there.way(changed.outlined(there.rented), way.name, len(asked.parts)).step))
    return made


def _changes(asked: Asked, way: Way, devices: int) -> list[tuple[str, Asked]]:
    """Changes of a training that may make it fit, likely ones first: options, and the training with them."""
    step, plan, layout, found = way.step, asked.plan, asked.execution.layout, []
    fixed = sum(size for name, size in step.parts.items() if name != "activations")
    room, temporary = step.has - fixed, step.parts.get("activations", 0)
    if (
        fixed > temporary
        and devices > 1
        and way.name == "loop"
        and layout.parallel in ("auto", "data")
        and not layout.mesh
    ):
        divided = asked.execution.replace(layout=dataclasses.replace(layout, parallel="fsdp"))
        found.append(("--parallel fsdp", dataclasses.replace(asked, execution=divided)))
    fewer = plan
    if room > 0:
        # gradients are among what is temporary, and do not become less
        parts = plan.accumulate * 2 ** max(1, int(np.ceil(np.log2(max(1, temporary) / (SURE * room)))))
        if parts <= plan.batch_size and parts <= step.rows:
            fewer = dataclasses.replace(plan, accumulate=parts)
            found.append((f"--accumulate {parts}", dataclasses.replace(asked, plan=fewer)))
    if not asked.execution.remat and temporary > fixed:
        again = asked.execution.replace(remat=True)
        found.append(("--remat", dataclasses.replace(asked, execution=again)))
    if plan.precision != "bfloat16":
        half = dataclasses.replace(plan, precision="bfloat16")
        found.append(("--precision bfloat16", dataclasses.replace(asked, plan=half)))
        if fewer is not plan:
            both = dataclasses.replace(fewer, precision="bfloat16")
            options = f"--accumulate {fewer.accumulate} --precision bfloat16"
            found.append((options, dataclasses.replace(asked, plan=both)))
    return found
