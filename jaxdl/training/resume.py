"""What is kept of a run under way, so that it can go on after whatever stopped it."""

import contextlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from jaxdl.errors import InputError
from jaxdl.parallel.hosts import check_seen, is_first, on_first
from jaxdl.training.lock import check_held, lock, unlock
from jaxdl.training.saves import RESTART, Saves
from jaxdl.weights.buckets import BucketPath, place_of
from jaxdl.weights.files import LOCK, check_free, read_json, remove_folder, write_text, written_whole
from jaxdl.weights.hints import RUN

STATE, MADE, SENT = "state", ".made", ".sent"
DRAWS = "draws"  # of the settings: by what random numbers are drawn, where that is not once for a batch
FORMAT = 1
SAVE_EVERY = 60.0  # seconds: a save costs far less, and a minute's work is soon done again


class Begun(TypedDict):
    """What ``run.json`` always holds."""

    settings: dict[str, Any]
    environment: dict[str, Any]
    finished: bool


class Interrupted(Exception):
    """The run was asked to stop; its state is saved. ``signal`` says what asked, where something is known of it."""

    signal: int | None = None


class AlreadyFinished(InputError):
    """The folder holds this very run, and it came to its end."""


class RunFolder:
    """The folder of a run: what was asked for, the state while it is under way, the results at its end.

    Several processes work in one folder that all reach. The first alone writes in it, but for the parts of the state;
    what makes results (`finish_part`, `fresh`, `place`, `finish`) is for it to call, inside `hosts.on_first`.

    Args:
      path: new, empty, or of the same run begun earlier.
      about: to be noted beside the settings: the command, for example.
      save_every: seconds between saves of the state; 0 to save whenever possible.
      should_stop: asked after every few steps; if it says yes, the state is saved and `Interrupted` raised.

    Raises:
      InputError: if the folder holds something else, or cannot be written to.
    """

    def __init__(
        self,
        path: str | Path,
        about: Mapping[str, Any] | None = None,
        *,
        save_every: float = SAVE_EVERY,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        path = place_of(path).absolute()
        self.save_every, self.should_stop, self.about = save_every, should_stop, dict(about or {})

        def look() -> tuple[dict[str, Any] | None, bool]:
            known = _read_run(path)
            # a process that was killed as it began leaves its lock alone
            begun = known is not None or (path.is_dir() and [one.name for one in path.iterdir()] == [LOCK])
            if not begun:
                check_free(path, bucket=True)
            return known, begun

        self.known, begun = on_first(look, "looking into the folder of the run")
        self.path = path.resolve() if begun or path.is_symlink() else path
        self._making: tempfile.TemporaryDirectory | None = None  # where results for a bucket are made

    @property
    def begun(self) -> bool:
        """Whether there is something to go on with."""
        return self.known is not None

    def claim(self, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Notes what the numbers depend on, or checks that they are those of the run begun here.

        Args:
          settings: options, data and starting point, as plain values.
          environment: versions and devices; others are warned of, since the last bits may depend on them.

        Raises:
          AlreadyFinished: if this run came to its end.
          InputError: listing every setting that differs.
        """
        settings, environment = (json.loads(json.dumps(value)) for value in (settings, environment))

        def claimed() -> dict[str, Any]:
            self.path.mkdir(parents=True, exist_ok=True)
            new = lock(self.path)
            try:
                self._claim(settings, environment)
            except InputError:
                if new:
                    unlock(self.path)
                raise
            return self.known

        self.known = on_first(claimed, "looking into the folder of the run")
        check_seen(self.path / RUN, "--out")

    def _claim(self, settings: dict[str, Any], environment: dict[str, Any]) -> None:
        self.known = _read_run(self.path)  # another process may have begun or ended it in the meantime
        if self.known is None:
            self.known = {"format": FORMAT, **self.about, "settings": settings, "environment": environment}
            self._write(finished=False)
            return
        if not self.known["finished"] and not self._has_progress():  # nothing would be lost
            remove_folder(self.path / STATE)
            self.known |= {**self.about, "settings": settings, "environment": environment}
            self._write(finished=False)
            return
        _without_parallel(self.known, settings)
        others = "name another --out, or start again with --restart, which first moves the old one aside"
        before, now = self.known.get("kind"), self.about.get("kind")
        if before and now and before != now:
            raise InputError(f"'{self.path}' holds what {before} made, and this is {now}; {others}")
        if found := list(differences(self.known["settings"], settings)):
            raise InputError(
                f"'{self.path}' holds a run with other settings:\n  "
                + "\n  ".join(found)
                + f"\nGive the same options to go on with it, {others}"
            )
        if self.known["finished"]:
            raise AlreadyFinished(f"the run in '{self.path}' is finished; its results are there")
        if self.about.get("data") not in (None, self.known.get("data")):  # the same examples, named from elsewhere
            self.known["data"] = self.about["data"]
            self._write(finished=False)
        if changed := list(differences(self.known["environment"], environment)):
            warnings.warn(
                "the run goes on in another environment, its last bits may differ: " + "; ".join(changed), stacklevel=3
            )

    def release(self) -> None:
        """Lets other processes work in the folder; a run that has ended does so itself."""
        unlock(self.path)

    def part(self, name: str) -> Saves:
        """Where the training called `name` keeps its state."""
        return Saves(self.path / STATE / name, self.save_every, self.should_stop)

    def recall(self, name: str, expected: Any) -> Any:
        """What `note` wrote, of the type that is expected; None if nothing is there."""
        file = self.path / STATE / f"{name}.json"
        return on_first(lambda: read_json(file, expected, RESTART) if file.is_file() else None)

    def note(self, name: str, value: Any) -> None:
        """Keeps a plain value until the run is finished."""
        if is_first():
            check_held(self.path)
            write_text(self.path / STATE / f"{name}.json", json.dumps(value))

    def finished_part(self, name: str) -> Path | None:
        """The folder that `finish_part` wrote, or None."""
        folder = self.path / STATE / f"{name}.finished"
        whole = folder.with_suffix(SENT).is_file if isinstance(folder, BucketPath) else folder.is_dir
        return folder if on_first(whole) else None

    @contextlib.contextmanager
    def finish_part(self, name: str) -> Iterator[Path]:
        """A folder for the results of the training called `name`; once it is written its state is not needed."""
        folder = self.path / STATE / f"{name}.finished"
        check_held(folder)
        if isinstance(folder, BucketPath):
            folder.remove_all()  # a process may have been killed as it sent it
        with written_whole(folder) as work:
            yield work
        if isinstance(folder, BucketPath):
            folder.with_suffix(SENT).write_text("")
        remove_folder(self.path / STATE / name)

    def place(self, made: Path, last: str) -> None:
        """Moves the files of the folder `made` to the run's own; `last` comes last: it says that all is there."""
        check_held(self.path)
        if isinstance(self.path, BucketPath):
            for item in made.iterdir():
                if item.is_dir():
                    (self.path / item.name).remove_all()
            self.path.send(made, last)
            shutil.rmtree(made)
            return
        for item in sorted(made.iterdir(), key=lambda p: p.name == last):
            target = self.path / item.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            item.replace(target)
        made.rmdir()

    def fresh(self, name: str) -> Path:
        """A place for results in the making, below the folder; what was left there is removed. For a bucket: here."""
        place = self.path / STATE / f"{name}{MADE}"
        if isinstance(self.path, BucketPath):
            self._making = self._making or tempfile.TemporaryDirectory(prefix="jaxdl-")
            place = Path(self._making.name) / name
        shutil.rmtree(place, ignore_errors=True)
        return place

    def place_folder(self, made: Path, name: str) -> None:
        """Moves the folder `made` to the run's own folder, as `name`."""
        check_held(self.path)
        remove_folder(self.path / name)
        if isinstance(self.path, BucketPath):
            (self.path / name).send(made)
            shutil.rmtree(made)
        else:
            made.replace(self.path / name)

    def finish(self, **facts: Any) -> None:
        """All results are there: the state is removed."""
        self.known |= facts
        self._write(finished=True)
        remove_folder(self.path / STATE)
        unlock(self.path)

    def abandon(self, *folders: str) -> None:
        """Removes what a run left that did not come as far as its first save; also `folders` of it, by name."""
        if not is_first():
            return
        if self.known is not None and not self.known["finished"] and not self._has_progress():
            try:
                lock(self.path)
                check_held(self.path)
            except InputError:  # it is the run of another process, which has not come as far yet
                return
            if {path.name for path in self.path.iterdir()} - {RUN, STATE, LOCK, *folders}:
                return  # results were being placed: the same command places them again
            for name in (STATE, *folders):
                remove_folder(self.path / name)
            (self.path / RUN).unlink(missing_ok=True)
            unlock(self.path)
            with contextlib.suppress(OSError):  # a link to a folder
                self.path.rmdir()

    def _has_progress(self) -> bool:
        """Whether a save or a finished part is there; what `fresh` gave can be made again."""
        parts = [p for p in (self.path / STATE).glob("*") if p.is_dir() and p.suffix != MADE]
        return any(any(path.iterdir()) for path in parts)

    def _write(self, *, finished: bool) -> None:
        check_held(self.path)
        self.known["finished"] = finished
        write_text(self.path / RUN, json.dumps(self.known, indent=1) + "\n")


def note_finished(path: Path, about: Mapping[str, Any]) -> None:
    """Writes the ``run.json`` of what is made at once and never gone on with; `about` as of `RunFolder`."""
    told = {"format": FORMAT, **about, "settings": {}, "environment": {}, "finished": True}
    write_text(path / RUN, json.dumps(told, indent=1) + "\n")


def set_aside(path: str | Path) -> Path | None:
    """Renames what is at `path` to ``path.old-1``, or the first number that is free; None if nothing is there.

    Raises:
      InputError: if another process is working there.
    """
    path = place_of(path).absolute()
    if not path.exists():
        return None
    if path.is_dir():
        lock(path)  # or the process at work there would go on in a folder of another name
        unlock(path)
    number = 1
    while (aside := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def _read_run(path: Path) -> dict[str, Any] | None:
    file = path / RUN
    return read_json(file, Begun, RESTART, newest=FORMAT) if file.is_file() else None


def _without_parallel(known: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Of the ``run.json`` of an earlier release, whose plan said how a batch is divided over devices.

    That counts only where each device drew random numbers for itself, which it did not say.
    """
    then = known["settings"].get("plan", {})
    if isinstance(then, dict) and then.pop("parallel", "jit") == "pmap":
        known["settings"][DRAWS] = settings.get(DRAWS, "by each device")


def differences(then: Any, now: Any, name: str = "", words: tuple[str, str] = ("then", "now")) -> Iterator[str]:
    """Says of each plain value that differs between two of them what it is in both.

    Args:
      then: nested dicts of plain values.
      now: the same.
      name: of both.
      words: what follows the value of each.
    """
    if isinstance(then, dict) and isinstance(now, dict):
        same = then.get("sha256") is not None and then.get("sha256") == now.get("sha256")
        for key in sorted(then.keys() | now.keys()):
            if same and key == "name":
                continue  # the same examples: how their folder was written says nothing
            yield from differences(then.get(key), now.get(key), f"{name}.{key}" if name else key, words)
    elif then != now:
        yield f"{name}: {then} {words[0]}, {now} {words[1]}"
