"""Which devices a run uses, and for what: the executors of one training and of several side by side."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxdl.checks import check_fields
from jaxdl.errors import InputError, check_choice
from jaxdl.parallel.devices import all_devices
from jaxdl.parallel.executor import DATA, FOLD, Executor
from jaxdl.parallel.hosts import this_process
from jaxdl.parallel.rules import MODEL

Parallel = Literal["auto", "data", "fsdp", "pmap", "folds"]
AXES = (FOLD, DATA, MODEL)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which devices a run uses, and for what; only what is drawn at random under ``pmap`` depends on it.

    Attributes:
      devices: how many, the first ones of this process; by default all, also those of other hosts.
      parallel: ``data`` (every batch is divided over the devices, by jit over a mesh), ``fsdp`` (so
        are parameters and what the optimizer keeps of them, see `fsdp`), ``pmap`` (the same with explicit
        collectives), ``folds`` (trainings side by side; where these are fewer than the devices and their steps draw
        nothing at random, several devices share a training), or ``auto``: ``data`` for one training, and of several
        what is fastest.
      mesh: parts along the axes ``fold`` (trainings), ``data`` (examples of a batch) and ``model`` (arrays of one
        model), such as ``{"fold": 4, "data": 2}``; 1 along an axis that is not named. By default `parallel` says it.
    """

    devices: int | None = None
    parallel: Parallel = "auto"
    mesh: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.devices is not None and self.devices < 1:
            raise InputError(f"devices is {self.devices}; expected at least 1")
        if self.mesh is None:
            return
        object.__setattr__(self, "mesh", dict(self.mesh))
        for axis, size in self.mesh.items():
            check_choice("axis of the mesh", axis, AXES)
            if size < 1:
                raise InputError(f"the mesh has {axis}={size}; expected at least 1")
        if self.devices not in (None, self._product):
            raise InputError(
                f"the mesh {self._mesh_said} has {self._product} devices, but devices is {self.devices}; leave it out, "
                "or change a size of the mesh"
            )
        self._check_mesh()

    def _check_mesh(self) -> None:
        """Raises InputError, by name, for axes that do not go with `parallel`."""
        forbidden = {"auto": (), "data": (FOLD,), "fsdp": (FOLD, MODEL), "pmap": (FOLD, MODEL), "folds": ()}[
            self.parallel
        ]
        for axis in forbidden:
            if self._size(axis) > 1:
                raise InputError(
                    f"parallel='{self.parallel}' does not go with the mesh {self._mesh_said}: there is no axis "
                    f"'{axis}' in this way; leave {axis} out, or take parallel='auto'"
                )

    @property
    def at_once(self) -> bool | None:
        """Whether several trainings run side by side (True), one after another (False), or as is fastest (None)."""
        if self.parallel == "folds" or self._size(FOLD) > 1:
            return True
        return None if self.parallel == "auto" and self.mesh is None else False

    @property
    def divides_runs(self) -> bool:
        """Whether it is asked for that devices share the batches of trainings side by side."""
        return self._size(FOLD) > 1 and self._size(DATA) > 1

    @property
    def parts_parameters(self) -> bool:
        """Whether parameters lie in parts; see `Executor.parted`."""
        return self.parallel == "fsdp" or self._size(MODEL) > 1

    @property
    def said(self) -> str:
        """In words, for messages: the options that were given."""
        given = [f"parallel='{self.parallel}'"] if self.parallel != "auto" else []
        return " and ".join([*given, *([f"the mesh {self._mesh_said}"] if self.mesh else [])])

    def chosen(self) -> tuple[Any, ...]:
        """The devices.

        Raises:
          InputError: if there are fewer than asked for.
        """
        wanted, has = self._product if self.mesh else self.devices, all_devices()
        if wanted not in (None, len(has)) and this_process().count > 1:
            asked = f"the mesh {self._mesh_said} has {wanted} devices" if self.mesh else f"devices is {wanted}"
            raise InputError(
                f"{asked}, but on several hosts all of their {len(has)} devices are used: leave --devices out, and let "
                f"the sizes of a mesh come to {len(has)}"
            )
        if wanted is not None and wanted > len(has):
            asked = f"the mesh {self._mesh_said} needs {wanted} devices" if self.mesh else f"devices is {wanted}"
            kinds = ", ".join(sorted({str(getattr(device, "device_kind", device)) for device in has}))
            raise InputError(f"{asked}, but this process has {len(has)} ({kinds}); at most {len(has)} can be used")
        return has[:wanted]

    def executor(self, devices: tuple[Any, ...] | None = None) -> Executor:
        """Of one training, and of prediction, features and ensembles.

        Args:
          devices: to take in place of those of this process, such as those of a topology that is not here.
        """
        devices = self.chosen() if devices is None else devices
        model = self._size(MODEL)
        way = {"pmap": self.parallel == "pmap", "fsdp": self.parallel == "fsdp"}
        return Executor(devices, data=len(devices) // model, model=model, **way)

    def executor_of_runs(self, runs: int, *, divide: bool = True, devices: tuple[Any, ...] | None = None) -> Executor:
        """Of trainings side by side.

        With at least as many as devices, each device has the same number of them. With fewer, each gets one device, or
        with `divide` as many as go round (4 on 8 devices: 2 each; 5 on 8: 1 each); the rest stay idle. A mesh says all
        of this itself.

        Args:
          runs: how many.
          divide: whether devices may share the batches of a training.
          devices: see `executor`.
        """
        devices = self.chosen() if devices is None else devices
        fold = self.parts(runs, len(devices))
        if self.mesh is not None:
            return Executor(devices, fold=fold, data=self._size(DATA), model=self._size(MODEL))
        data = len(devices) // fold if divide else 1
        return Executor(devices[: fold * data], fold=fold, data=data)

    def sizes(self) -> dict[str, int]:
        """Of all axes, for one training; the devices of a mesh, or as many as asked for, need not be here."""
        if self.mesh is None:
            return {FOLD: 1, DATA: self.devices or len(all_devices()), MODEL: 1}
        return {axis: self._size(axis) for axis in AXES}

    def parts(self, runs: int, devices: int | None = None) -> int:
        """How many parts trainings side by side come in: their number must be a multiple."""
        return self._size(FOLD) if self.mesh else min(runs, len(self.chosen()) if devices is None else devices)

    def _size(self, axis: str) -> int:
        return (self.mesh or {}).get(axis, 1)

    @property
    def _product(self) -> int:
        return self._size(FOLD) * self._size(DATA) * self._size(MODEL)

    @property
    def _mesh_said(self) -> str:
        return ",".join(f"{axis}={size}" for axis, size in (self.mesh or {}).items())


def parse_mesh(given: str) -> dict[str, int]:
    """``"fold=4,data=2"`` to ``{"fold": 4, "data": 2}``. Raises InputError for anything else."""
    sizes: dict[str, int] = {}
    for item in given.split(","):
        axis, _, size = item.partition("=")
        if not size.isdigit() or axis in sizes:
            raise InputError(
                f"the mesh '{given}' cannot be read; expected sizes of different axes, such as fold=4,data=2 (the axes "
                f"are {', '.join(AXES)})"
            )
        sizes[axis] = int(size)
    return sizes
