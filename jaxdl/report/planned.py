"""What a plan for chips elsewhere says: in words, and as plain values."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.data.preprocessing import nbytes
from jaxdl.parallel.collectives import Collective
from jaxdl.parallel.estimate import NOT_COUNTED, Times
from jaxdl.parallel.memory import in_words
from jaxdl.shown import counted
from jaxdl.tasks.metric import percent
from jaxdl.validation.planning.planned import Planned, Step, Way

CALIBRATION = "not calibrated: no prediction has been compared with a measurement on these chips"
BASES = {
    True: "the program that the TPU compiler makes: its memory, its cycles, its collectives",
    False: "a roofline: counted operations and bytes at the peaks of the data sheet, which no program reaches",
}


def plan_as_dict(planned: Planned, price: float | None = None) -> dict[str, Any]:
    """Plain values, for JSON. Bytes and operations are of one step; seconds are predictions.

    Args:
      planned: a training on a slice.
      price: of a chip for an hour.
    """
    rented, setup, step, devices = planned.rented, planned.setup, planned.best.step, planned.rented.chip.devices
    times, seconds = step.times, planned.seconds
    return {
        "on": rented.name,
        "chip": rented.chip.name,
        "chips": rented.chips,
        "chips_used": planned.best.chips,
        "devices_per_chip": devices,
        "fits": step.fits,
        "needs_bytes_per_device": step.needs,
        "has_bytes_per_device": step.has,
        "bytes_per_chip": {name: size * devices for name, size in step.parts.items()},
        "batch": step.rows,
        "flops": step.flops,
        "collectives": {kind: dataclasses.asdict(one) for kind, one in step.collectives.items()},
        "seconds": None if times is None else dataclasses.asdict(times),
        "step_seconds": None if times is None else times.step,
        "step_seconds_overlapped": None if times is None else times.overlapped,
        "bound": None if times is None else times.bound,
        "of_peak": None if times is None else times.compute / times.step,
        "steps": setup.steps,
        "epochs": setup.plan.epochs,
        "trainings": len(setup.parts) + planned.more,
        "examples": f"streamed ({setup.streamed})" if setup.streamed else "in the memory of the devices",
        "hours": None if seconds is None else seconds / 3600,
        "cost": _cost(planned, price),
        "folds": None if len(setup.parts) == 1 else {way.name: way.seconds for way in planned.ways},
        "largest_batch": None if planned.largest is None else dataclasses.asdict(planned.largest),
        "remedies": [
            {"options": one.options, "fits": one.step.fits, "needs_bytes_per_device": one.step.needs}
            for one in planned.remedies
        ],
        "advice": advice(planned),
        "basis": BASES[rented.chip.is_tpu],
        "not_counted": list(NOT_COUNTED),
        "calibration": CALIBRATION,
    }


def _cost(planned: Planned, price: float | None) -> float | None:
    if price is None or planned.seconds is None:
        return None
    return planned.seconds / 3600 * planned.rented.chips * price


def plan_lines(planned: Planned, price: float | None = None) -> list[str]:
    """A plan in words; arguments as of `plan_as_dict`."""
    rented, setup, step = planned.rented, planned.setup, planned.best.step
    used = f" ({planned.best.chips} used)" if planned.best.chips < rented.chips else ""
    lines = [
        f"{rented.name}: {counted(rented.chips, 'chip')}{used}, batches of {step.rows}",
        f"  {_memory(planned, step)}",
    ]
    if step.times is not None:
        lines += [f"  {said}" for said in _step_said(step, step.times)]
        lines.append(f"  {_all_said(planned, price)}")
    if len(setup.parts) > 1:
        lines.append(f"  folds: {'; '.join(map(_way_said, planned.ways))}")
    if planned.largest is not None:
        lines.append(f"  {_largest_said(planned)}")
    return lines + [f"  {said}" for said in advice(planned)]


def _memory(planned: Planned, step: Step) -> str:
    """Whether it fits, and what takes how much."""
    where = "chip" if planned.rented.chip.devices == 1 else f"of the {planned.rented.chip.devices} devices of a chip"
    needs = "more than it has" if step.needs is None else in_words(step.needs)
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in step.parts.items() if size)
    has = in_words(step.has)
    if not planned.rented.chip.is_tpu:
        has += f" that JAX takes of its {in_words(planned.rented.chip.memory)}"
    if not step.fits:
        over = "" if step.needs is None else f", {in_words(step.needs - step.has)} too much"
        return f"does not fit: each {where} needs {needs} and has {has}{over} ({parts})"
    return f"fits: each {where} needs {needs} of {has} ({parts})"


def _step_said(step: Step, times: Times) -> list[str]:
    """What a step does, and how long it takes."""
    sent = ", ".join(
        f"{kind} {one.count} × {in_words(one.bytes // one.count)}" for kind, one in _large(step.collectives)
    )
    by = "at the chip's peaks" if times.compiler is None else "by the compiler's cycles"
    apart = f" (overlapped {_ms(times.overlapped)})" if times.interconnect else ""
    computing, sending = _ms(times.busy), _ms(times.interconnect)
    return [
        f"step: {_ms(times.step)}{apart}: computing {computing} {by}, sending {sending}; {_BOUND[times.bound]}",
        f"operations: {step.flops:.3g} in products and convolutions, {of_peak(times.compute / times.step)} of the peak",
        f"sent between chips: {sent or 'nothing'}",
    ]


_BOUND = {"compute": "compute-bound", "memory": "memory-bound", "interconnect": "bound by the interconnect"}


def _large(collectives: Mapping[str, Collective]) -> list[tuple[str, Collective]]:
    return sorted(collectives.items(), key=lambda one: -one[1].bytes)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def of_peak(share: float) -> str:
    """A share in percent; of less than one of them its first digit, since steps of toys are far below."""
    if share >= 0.01:
        return percent(share)
    return f"{100 * share:.1g} %" if share >= 1e-5 else "less than 0.001 %"


def money(amount: float) -> str:
    """An amount to the hundredth, or to two digits where it is smaller than a tenth."""
    if amount >= 0.1 or amount == 0:
        return f"{amount:.2f}"
    return np.format_float_positional(float(f"{amount:.2g}"), trim="-")


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds < 1:
        return _ms(seconds)
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def _all_said(planned: Planned, price: float | None) -> str:
    """All steps, and what they cost."""
    setup, count = planned.setup, len(planned.setup.parts) + planned.more
    several = f" of {count} trainings" if count > 1 else ""
    cost = _cost(planned, price)
    paid = "" if cost is None else f", {money(cost)} at {price:g} for a chip and hour"
    return f"all: {setup.plan.epochs} epochs of {setup.steps} steps{several}: {duration(planned.seconds)}{paid}"


def _way_said(way: Way) -> str:
    takes = "does not fit" if way.seconds is None else duration(way.seconds)
    return f"{way.name} {takes} on {counted(way.chips, 'chip')}"


def _largest_said(planned: Planned) -> str:
    found = planned.largest
    tried = f"{found.compiles} more tried"
    if found.fits is None:
        return f"largest batch: none that was tried fits, down to {found.fails} ({tried})"
    above = f"{found.fails} does not" if found.fails else "more were not tried"
    if found.fits >= found.most:
        above = "all examples at once"
    return f"largest batch: {found.fits} fits, {above} ({tried})"


def advice(planned: Planned) -> list[str]:
    """What would help, from the figures of the plan."""
    step, plan, made = planned.best.step, planned.setup.plan, []
    for one in planned.remedies:
        said = "fits" if one.step.fits else "does not fit either"
        needs = "" if one.step.needs is None else f", needs {in_words(one.step.needs)}"
        made.append(f"with {one.options}: {said}{needs}")
    largest = planned.largest.fits if planned.largest else None
    if not step.fits:
        if largest:
            made.append(f"with --batch-size {largest}: fits")
        return made
    if step.rows < planned.best.chips * planned.rented.chip.devices:
        made.append(f"a batch of {step.rows} leaves chips without examples: take fewer chips, or a larger --batch-size")
    elif step.times.bound == "interconnect" and len(planned.ways) == 1:
        larger = f" (up to {largest} fits)" if largest and largest > step.rows else ""
        made.append(f"sending takes most of a step: take fewer chips, or a larger --batch-size{larger}")
    if _fetches(planned):
        made.append("most of what is sent are examples, which lie on other chips: with --stream always none are sent")
    if plan.precision != "bfloat16" and step.times.bound != "interconnect":
        made.append("--precision bfloat16 makes activations smaller: they take and move about half")
    return made


def _fetches(planned: Planned) -> bool:
    """Whether most of what chips send are examples: of those in memory each chip has a part, and a batch is of all."""
    setup, step = planned.setup, planned.best.step
    sent = sum(one.bytes for one in step.collectives.values())
    in_parts = planned.best.name == "loop" and setup.layout.parallel != "pmap" and planned.rented.chip.is_tpu
    return in_parts and not (setup.streamed or setup.start) and 0 < sent < 2 * step.rows * nbytes(setup.preprocessing)
