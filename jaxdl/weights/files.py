"""Writing all of something or nothing, and what storage wants explained."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdl.errors import InputError


def check_free(path: str | Path) -> Path:
    """`path` as an absolute one that is free to be written to.

    Raises:
      InputError: if something is there, or its folder cannot be written to.
    """
    path = Path(path).expanduser().absolute()
    if path.is_symlink():  # or all would be made before the link refused to be replaced
        path = path.resolve()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        kind = "a folder that is not empty" if path.is_dir() else "a file"
        raise InputError(f"'{path}' is {kind}; it was left as it is. Name an --out that does not exist yet")
    parent = next(p for p in path.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"'{path}' cannot be made: '{parent}' is not a folder that may be written to")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A folder to write in that becomes `path` when all is written, and vanishes if something fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    work.chmod(0o755)
    try:
        yield work
        if path.is_dir():
            path.rmdir()  # empty: check_free saw to it
        work.rename(path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file as UTF-8, all of it or nothing; what was there stays until it is whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        work.write_bytes(content)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Another name for `folder`, which exists, without brackets and stars: Orbax takes these for a pattern."""
    if not set("[]*?") & set(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxdl-") as place:
        link = Path(place) / "link"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says, which may be long."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else 'no message'}"


def cache_folder() -> Path:
    """Where what can be made again is kept: ``jaxdl`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "jaxdl"
