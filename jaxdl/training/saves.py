"""The saves of one training: its state, so that it can go on after whatever stopped it."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.parallel.hosts import Agreement, on_first, this_process
from jaxdl.training.lock import check_held
from jaxdl.weights.files import check_regular, first_line, plain_path

RESTART = "start again with --restart, which first moves the folder aside"  # where what is kept of a run is damaged


def _like(stored: Any, place: Any = None) -> Any:
    """How Orbax is to make what is stored: `place` if it has this shape, else an array of numpy.

    For the latter it is given one of this shape and type, which takes no memory.
    """
    if place is not None and (place.shape, place.dtype) == (stored.shape, stored.dtype):
        return place
    return np.broadcast_to(np.zeros((), stored.dtype), stored.shape)


@dataclasses.dataclass(frozen=True)
class Saved:
    """One save: arrays by name, on the host but for those that were asked for elsewhere, and plain values."""

    arrays: Mapping[str, Any]
    progress: Mapping[str, Any]


class Saves:
    """The saves of one training: the newest two, each whole or not there at all.

    Orbax writes them beside the training and renames each when it is complete. Several processes write one save
    together, each its own part, and read it whole: it fits any number of processes and devices.
    """

    def __init__(self, folder: Path, every: float, should_stop: Callable[[], bool]):
        self.folder, self.every, self.should_stop = folder, every, should_stop
        self._stops = self._due = False  # of several processes: what they agreed on
        self._manager: Any = None
        self._plain = contextlib.ExitStack()  # holds the plain name of the folder
        self._last = time.monotonic()
        self._agreement = Agreement(min(1.0, every / 10))

    def due(self) -> bool:
        """Whether it is time to save; the same on all processes."""
        late = time.monotonic() - self._last >= self.every
        if this_process().count == 1:
            return self.should_stop() or late
        if not self._due:  # until it is done
            self._stops, late = self._agreement.ask(self.should_stop(), late)
            self._due = self._stops or late
        return self._due

    def stops(self) -> bool:
        """Whether the training should stop, once it is saved; the same on all processes."""
        return self.should_stop() if this_process().count == 1 else self._stops

    def latest(self, onto: Callable[[], Mapping[str, Any]] = dict) -> Saved | None:
        """The newest save that can be read, None if there is none.

        Args:
          onto: gives, by name, `jax.ShapeDtypeStruct` with the sharding that arrays of their shape are read onto: each
            process reads its devices' parts alone.
        """
        if not on_first(self.folder.is_dir):
            return None
        import orbax.checkpoint as ocp

        check_regular(self.folder)
        with self._explained(f"read: its files are damaged or missing; {RESTART}"):
            manager, errors, places = self._open(), {}, None
            for number in on_first(lambda: sorted(map(int, manager.all_steps()), reverse=True)):
                try:
                    places = places or onto()
                    stored = manager.item_metadata(number)["arrays"]
                    wanted = {name: _like(one, places.get(name)) for name, one in stored.items()}
                    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted), progress=ocp.args.JsonRestore())
                    found = manager.restore(number, args=args)
                    held = Saved(dict(found.arrays), dict(found.progress))
                except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
                    errors[number] = error
                    continue
                self._remove_damaged(errors, number)
                return held
            # a save that is not there was being removed when the process was killed
            if damage := [error for error in errors.values() if not isinstance(error, FileNotFoundError)]:
                raise damage[0]
        return None

    def _remove_damaged(self, errors: Mapping[int, Exception], used: int) -> None:
        """Says which saves could not be read, and removes them, so that they are made again."""
        if not errors:
            return
        warnings.warn(
            f"of the saves in '{self.folder}' the newest cannot be read ({', '.join(map(str, errors))}: damaged or "
            f"missing files); the run goes on from the one before ({used})",
            stacklevel=3,
        )
        for number in errors:
            self._manager.delete(number)

    def save(self, number: int, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
        """Begins to write; `arrays` must not be changed afterwards. A save of the same number is not made twice.

        Raises:
          InputError: if this or the save before it cannot be written.
        """
        import orbax.checkpoint as ocp

        check_held(self.folder)
        with self._explained():
            manager = self._open()
            if number not in manager.all_steps():
                args = ocp.args.Composite(
                    arrays=ocp.args.StandardSave(dict(arrays)), progress=ocp.args.JsonSave(dict(progress))
                )
                manager.save(number, args=args)
        self._last, self._due = time.monotonic(), False

    def close(self) -> None:
        """Lets go of the folder; a save that is under way is finished first."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            with self._explained():
                manager.close()
            self._plain.close()

    def _open(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp

            self.folder.mkdir(parents=True, exist_ok=True)
            folder = self._plain.enter_context(plain_path(self.folder))
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, cleanup_tmp_directories=True)
            # without them it tells nothing of the arrays that it did not save itself
            handlers = {"arrays": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
            self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
        return self._manager

    @contextlib.contextmanager
    def _explained(self, why: str | None = None) -> Iterator[None]:
        """`why` the state cannot be read; by default it cannot be written, for which the library has a reason."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk or a damaged file
            why = why or (
                f"written: {first_line(error)}. Earlier saves are whole: remove the cause (is the disk full?) and "
                "start the same command again, or start again with --restart"
            )
            raise InputError(f"the state of the run in '{self.folder}' cannot be {why}") from error
