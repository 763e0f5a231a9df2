"""Trainings on a slice that is not here: compiled for its TPUs, or counted for its GPUs."""

import dataclasses
import math
from collections.abc import Callable
from functools import cache

from jaxdl.errors import InputError
from jaxdl.parallel.chips import Slice
from jaxdl.parallel.collectives import Collective, holds
from jaxdl.parallel.estimate import Load, times_of
from jaxdl.parallel.executor import Executor, on_one_device
from jaxdl.parallel.memory import bytes_of
from jaxdl.parallel.topology import DoesNotFit, compile_ahead, topology_devices
from jaxdl.training.footprint import PER_PRODUCT, product_bytes
from jaxdl.training.outline import batch_rows, lower_step, place, step_operations
from jaxdl.training.setup import Setup
from jaxdl.validation.planning.planned import Step, Way
from jaxdl.validation.strategy import draws


class Elsewhere:
    """A slice, and what programs come to there.

    Attributes:
      rented: the slice.
      progress: called with what is being compiled.
    """

    def __init__(self, rented: Slice, progress: Callable[[str], None]):
        self.rented, self.progress = rented, progress
        self.devices = topology_devices(rented) if rented.chip.is_tpu else tuple(range(rented.devices))
        # each traces the network: ways have their step in common, and batches of all sizes what an example takes
        self._operations, self._example_bytes = cache(step_operations), cache(_example_bytes)

    def executor(self, setup: Setup, name: str, count: int) -> tuple[Executor, int]:
        """Where the devices run trainings in this way, and how many of them side by side."""
        mesh, has = setup.layout.mesh, len(self.devices)
        wanted = math.prod(mesh.values()) if mesh else setup.layout.devices or has
        if wanted > has:
            asked = "the mesh takes" if mesh else "--devices asks for"
            raise InputError(f"{asked} {wanted} devices, but {self.rented.name} has {has}; take at most {has}")
        devices = self.devices[:wanted]
        if name == "loop":
            return setup.layout.executor(devices), 1
        if name == "vmap":
            return Executor(devices[:1]), count
        divide = count < len(devices) and not draws(setup)
        executor = setup.layout.executor_of_runs(count, divide=divide, devices=devices)
        return executor, count + -count % executor.fold

    def way(self, setup: Setup, name: str, count: int) -> Way:
        """All steps of `count` trainings in this way."""
        executor, runs = self.executor(setup, name, count)
        step = self.step(setup, executor, runs, batch_rows(setup))
        turns = count if name == "loop" else 1
        seconds = None if step.times is None else turns * setup.steps * setup.plan.epochs * step.times.step
        return Way(name, step, turns, -(-len(executor.devices) // self.rented.chip.devices), seconds)

    def step(self, setup: Setup, executor: Executor, runs: int, rows: int) -> Step:
        """One step of `runs` trainings side by side, on batches of so many rows."""
        operations, used = self._operations(setup, rows).times(runs), len(executor.devices)
        load = Load(operations.flops / used, operations.moved / used, 0.0)
        if self.rented.chip.is_tpu:
            return self._compiled(setup, executor, runs, rows, load)
        return self._counted(setup, executor, runs, rows, load)

    def _compiled(self, setup: Setup, executor: Executor, runs: int, rows: int, load: Load) -> Step:
        self.progress(f"compiling for {self.rented.name}, batches of {rows}")
        placed = place(setup, executor, [setup.run(k % len(setup.parts)) for k in range(runs)], rows)
        parts, flops = placed.bytes_per_device(), load.flops * len(executor.devices)
        has = self.rented.chip.usable
        try:
            compiled = compile_ahead(lower_step(setup, executor, placed))
        except DoesNotFit as error:
            parts["activations"] = max(0, (error.needed or 0) - sum(parts.values()))
            return Step(rows, False, error.needed, error.has or has, parts, flops, {}, None)
        taken = compiled.memory_analysis()
        given = taken.argument_size_in_bytes + taken.output_size_in_bytes - taken.alias_size_in_bytes
        parts["activations"] = max(0, given - sum(parts.values())) + taken.temp_size_in_bytes
        parts["program"] = taken.generated_code_size_in_bytes
        held = holds(compiled.as_text(), len(executor.devices))
        turns = sum(one.count * (2 if kind == "all-reduce" else 1) for kind, one in held.collectives.items())
        load = dataclasses.replace(load, sent=held.sent, hops=turns * self.rented.hops, cycles=held.cycles)
        times = times_of(self.rented, load, setup.plan.precision)
        return Step(rows, True, sum(parts.values()), has, parts, flops, held.collectives, times)

    def _counted(self, setup: Setup, executor: Executor, runs: int, rows: int, load: Load) -> Step:
        """Without a compiler: what must be sent at least, and for the rest the estimate of `training.footprint`."""
        if executor.model > 1:
            raise InputError(
                f"what arrays divided over the axis 'model' send is not counted for {self.rented.chip.name}: leave "
                "--mesh out, or plan for TPUs, whose compiler tells"
            )
        self.progress(f"counting for {self.rented.name}, batches of {rows}")
        placed = place(setup, on_one_device(), [setup.run(k % len(setup.parts)) for k in range(runs)], rows)
        parts, among = placed.bytes_per_device(), executor.data
        trained = bytes_of(placed.state.params) // executor.fold  # of the runs on each device
        for name in ("parameters", "optimizer"):
            parts[name] //= executor.fold * (among if executor.fsdp else 1)
        if executor.fold == 1:
            parts["examples"] //= among
        at_once = runs // executor.fold * math.ceil(rows / among / setup.plan.accumulate)
        parts["activations"] = int(self._example_bytes(setup) * at_once) + trained  # and the gradients
        needs, has = sum(parts.values()), self.rented.chip.usable
        collectives = _least_sent(trained, among, executor.fsdp)
        load = dataclasses.replace(load, sent=sum(one.sent for one in collectives.values()))
        times = times_of(self.rented, load, setup.plan.precision) if needs <= has else None
        flops = load.flops * len(executor.devices)
        return Step(rows, needs <= has, needs, has, parts, flops, collectives, times)


def _example_bytes(setup: Setup) -> float:
    """What a step of one example takes, about."""
    return PER_PRODUCT * product_bytes(setup.model, setup.preprocessing.spec(), setup.start, remat=setup.remat)


def _least_sent(trained: int, among: int, fsdp: bool) -> dict[str, Collective]:
    """What devices that share a batch exchange at least: gradients, and parameters that are divided.

    Args:
      trained: bytes of the parameters that are trained.
      among: devices.
      fsdp: whether each has a part of them, collected in the forward and in the backward pass.
    """
    if among == 1:
        return {}
    sent = {"all-gather": 2, "reduce-scatter": 1} if fsdp else {"all-reduce": 1}
    return {kind: Collective.among(among, kind, count, count * trained) for kind, count in sent.items()}
