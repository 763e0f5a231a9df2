"""Writing all of something or nothing, reading it back, and what storage wants explained."""

import dataclasses
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxdl.checks import check_fields, check_type
from jaxdl.errors import InputError
from jaxdl.weights.buckets import BucketPath, is_bucket, place_of

T = TypeVar("T")
LOCK = ".lock"  # in the folder of a run: held by the process that works in it; see `training.lock`
AGAIN = "restore it from a copy, or make it again (with --restart, or in a new folder)"


def check_free(path: str | Path, option: str = "--out", *, bucket: bool = False) -> Path:
    """`path` as an absolute one that is free to be written to.

    Args:
      path: of a file or folder.
      option: that names it.
      bucket: whether it may be a folder in a bucket, see `buckets.place_of`.

    Raises:
      InputError: if something is there, or its folder cannot be written to.
    """
    if is_bucket(path) and not bucket:
        raise InputError(
            f"'{path}' is in a bucket, to which runs, checkpoints and results go, and this is none of them; name a "
            f"place on this machine in {option}"
        )
    path = place_of(path).absolute()
    if isinstance(path, BucketPath):
        if path.exists():
            raise InputError(f"'{path}' is there already; it was left as it is. Name an {option} that is not")
        return path
    if path.is_symlink():  # or all would be made before the link refused to be replaced
        path = path.resolve()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        kind = "a folder that is not empty" if path.is_dir() else "a file"
        raise InputError(f"'{path}' is {kind}; it was left as it is. Name an {option} that does not exist yet")
    parent = next(p for p in path.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"'{path}' cannot be made: '{parent}' is not a folder that may be written to")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A folder to write in that becomes `path` when all is written, and vanishes if something fails.

    One for a bucket is sent there, its JSON files last: a reader looks for these first.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory(prefix="jaxdl-") as place:
            yield (work := Path(place))
            try:
                path.send(work)
            except BaseException:
                with suppress(InputError):
                    path.remove_all()
                raise
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    work = _beside(path)
    work.mkdir()
    try:
        yield work
        _let_umask_decide(work)
        try:
            if path.is_dir():
                path.rmdir()  # empty: check_free saw to it
            work.rename(path)
        except OSError as error:
            if not path.exists():
                raise
            raise InputError(
                f"'{path}' was made by another program in the meantime; it was left as it is. Name another --out"
            ) from error
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody can guess, for what becomes `path` when it is whole."""
    return path.with_name(f".{path.name}-{secrets.token_hex(8)}")


def _let_umask_decide(folder: Path) -> None:
    """Gives all files and folders the modes of new ones: some libraries make theirs for their owner alone."""
    (probe := _beside(folder / "probe")).touch()  # the umask is of the whole process, and reading it would set it
    files, folders = (stat.S_IMODE(one.stat().st_mode) for one in (probe, folder))
    probe.unlink()
    for one in folder.rglob("*"):
        if not one.is_symlink():
            one.chmod(folders if one.is_dir() else files)


def write_text(path: Path, text: str) -> None:
    """Writes a file as UTF-8, all of it or nothing; what was there stays until it is whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    if isinstance(path, BucketPath):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    work = _beside(path)
    try:
        with work.open("xb") as file:  # never through a link that somebody put there
            file.write(content)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if isinstance(path, BucketPath):
        path.remove_all()
    else:
        shutil.rmtree(path, ignore_errors=True)


def copy_folder(path: Path, to: Path) -> None:
    """Copies a folder with all that is in it to a new one of this machine."""
    if isinstance(path, BucketPath):
        path.fetch(to)
    else:
        shutil.copytree(path, to)


def check_regular(path: Path) -> None:
    """Raises InputError for what is neither a file nor a folder: opening a pipe or a device may never end."""
    if isinstance(path, BucketPath):
        return
    for one in (path, *(path.rglob("*") if path.is_dir() else ())):
        if one.exists() and not one.is_file() and not one.is_dir():
            raise InputError(f"'{one}' is a pipe, a socket or a device; expected a file: it is not opened")


@contextmanager
def reading(file: Path, advice: str = AGAIN) -> Iterator[None]:
    """Whatever a file that is cut, damaged or gone leads to becomes one InputError, which names it.

    Args:
      file: whose content is read, parsed or used inside.
      advice: what to do.
    """
    check_regular(file)
    try:
        yield
    except InputError as error:  # of a task, for example, which does not know of any file
        raise InputError(f"'{file}' cannot be used: {error}") from error
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror or first_line(error)}); {advice}") from error
    except Exception as error:  # json, numpy, zipfile and zlib say in many ways that a file is damaged
        reason = f"it has no {error}" if isinstance(error, KeyError) else first_line(error).removeprefix("ValueError: ")
        raise InputError(f"'{file}' is damaged ({reason}); {advice}") from error


def read_json(file: Path, expected: Any = dict, advice: str = AGAIN, *, newest: int | None = None) -> Any:
    """The values in a JSON file.

    Args:
      file: of UTF-8.
      expected: type of the values, see `checks.check_type`.
      advice: what to do where it is damaged.
      newest: the last ``format`` that this jaxdl reads, of a file that has one.

    Raises:
      InputError: if it is not there, damaged, newer than this jaxdl, or holds something else.
    """
    with reading(file, advice):
        held = json.loads(file.read_text(encoding="utf-8"))
        if newest is not None:  # first: a newer file may hold something else
            check_format(_checked(held, dict)["format"], newest)
        return _checked(held, expected)


def read_json_lines(file: Path, expected: Any = dict) -> list[Any]:
    """The values in a file that holds one a line, each of a type. Raises InputError as `read_json`."""
    with reading(file):
        return [_checked(json.loads(line), expected) for line in file.read_text(encoding="utf-8").splitlines()]


def read_npz(file: Path, advice: str = AGAIN) -> dict[str, np.ndarray]:
    """The arrays in an ``.npz`` file by name. Raises InputError as `read_json`, and for Python objects."""
    with reading(file, advice):
        with file.open("rb") as opened:  # of which numpy would say that they may be pickles
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is no whole .npz archive")
            with np.load(opened, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or not all(type(size) is int for size in array.shape):
                raise ValueError(f"'{name}' is no array")
        return arrays


def check_format(written: Any, newest: int) -> None:
    """Raises InputError for the format of a file that this jaxdl does not know."""
    if type(written) is not int or written < 1:
        raise ValueError(f"its format is {written!r:.50}")
    if written > newest:
        raise InputError(f"it was written in format {written}, this jaxdl reads up to {newest}: update jaxdl")


def from_plain(made: type[T], held: Mapping[str, Any], **more: Any) -> T:
    """A dataclass of the plain values in a file, and of `more`. Raises ValueError naming what is missing or else."""
    fields = {field.name: field for field in dataclasses.fields(made)}
    given = {**held, **more}
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if unknown := given.keys() - fields:
        raise ValueError(f"it has what this jaxdl does not know: {', '.join(sorted(unknown))}")
    found = made(**given)
    with _as_damage():
        check_fields(found)
    return found


def _checked(held: Any, expected: Any) -> Any:
    with _as_damage():
        check_type("it", held, expected)
    return held


@contextmanager
def _as_damage() -> Iterator[None]:
    """What would be a user's mistake is damage in a file that jaxdl wrote."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from error


@contextmanager
def plain_path(folder: Path) -> Iterator[Path | str]:
    """Another name for `folder`, which exists, without brackets and stars: Orbax takes these for a pattern."""
    if isinstance(folder, BucketPath):  # which has none
        yield str(folder)
    elif not set("[]*?") & set(str(folder)):
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="jaxdl-") as place:
            link = Path(place) / "link"
            link.symlink_to(folder, target_is_directory=True)
            yield link


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says, which may be long."""
    text = re.split(r" \[[\w ]+=", str(error).strip())[0]  # TensorStore puts places in its own source there
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else 'no message'}"
