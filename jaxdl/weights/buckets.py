"""Folders in a bucket of Google Cloud Storage, by the methods that folders of a file system have.

A bucket holds objects by name; a folder is only the beginning that names share. Each object is written whole or not at
all, and is there for all at once, but several are not: no folder can be renamed, nothing appended, nothing locked. So
what must be whole is made on this machine, and sent with the file that says so last (`BucketPath.send`), and an object
that is renewed tells who works in a folder (`training.lease`).
"""

import contextlib
import errno
import fnmatch
import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath
from typing import Any

from jaxdl.errors import InputError
from jaxdl.weights.google_storage import check_bucket, client, explained

SCHEME = "gs:"
AT_ONCE = 8  # requests under way, where there are many


def is_bucket(path: str | Path) -> bool:
    """Whether a path is one in a bucket, also where it was made a `Path`, which has only one slash left."""
    return re.match(r"gs:/", str(path)) is not None


def as_named(path: str | Path) -> Path:
    """A path as somebody wrote it; whether it can be is for `place_of` to say."""
    return BucketPath(SCHEME, str(path).removeprefix(SCHEME).strip("/")) if is_bucket(path) else Path(path)


def place_of(path: str | Path) -> Path:
    """The path of a file or folder: of this machine, or a `BucketPath` for ``gs://BUCKET/FOLDER``.

    Raises:
      InputError: for a bucket that is not there or cannot be reached, without the packages that it takes, or for
        another address.
    """
    named = as_named(path)
    if isinstance(named, BucketPath):
        if len(named.parts) < 3 or set("[]*?#") & set(str(named)):
            raise InputError(f"'{named}' cannot be used; expected gs://BUCKET/FOLDER, without any of [ ] * ? #")
        check_bucket(named.bucket)
    elif re.match(r"[a-zA-Z][\w+.-]+:/", str(path)) and not named.exists():
        raise InputError(
            f"'{path}' is an address; expected a path of this machine, such as one on a network file system, or a "
            "folder in a bucket of Google's, gs://BUCKET/FOLDER"
        )
    return named.expanduser()


class BucketPath(PosixPath):
    """The path ``gs://BUCKET/NAME`` of an object, or of all whose names go on with a slash; see `place_of`.

    What a bucket does not have, such as links, modes and times, is refused.
    """

    def __str__(self) -> str:
        return super().__str__().replace(f"{SCHEME}/", f"{SCHEME}//", 1)

    def __fspath__(self) -> str:
        return str(self)

    @property
    def bucket(self) -> str:
        """Its name."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name in the bucket."""
        return "/".join(self.parts[2:])

    def as_uri(self) -> str:
        return str(self)

    def absolute(self) -> "BucketPath":
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        return self

    def expanduser(self) -> "BucketPath":
        return self

    def is_absolute(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    def exists(self, **_: Any) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        with explained(self.bucket):
            return bool(self.key) and self._blob().exists()

    def is_dir(self, **_: Any) -> bool:
        return next(self._keys(max_results=1), None) is not None

    def iterdir(self) -> Iterator["BucketPath"]:
        with explained(self.bucket):
            listing = client().list_blobs(self.bucket, prefix=self._inside, delimiter="/")
            names = [blob.name for blob in listing if blob.name != self._inside]
            names += listing.prefixes
        return iter(sorted(map(self._named, names)))

    def glob(self, pattern: str, **_: Any) -> Iterator["BucketPath"]:
        wanted = Path(pattern).parts
        for parts in sorted({tuple(name.split("/")[: len(wanted)]) for name in self.names()}):
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                yield self.joinpath(*parts)

    def names(self) -> list[str]:
        """The names of all objects below this folder, from here on; not what stands for an empty folder."""
        return [name[len(self._inside) :] for name in self._keys() if not name.endswith("/")]

    def read_bytes(self) -> bytes:
        from google.api_core.exceptions import NotFound

        with explained(self.bucket):
            try:
                return self._blob().download_as_bytes(checksum="crc32c")
            except NotFound as error:
                raise FileNotFoundError(errno.ENOENT, "No such file", str(self)) from error

    def read_text(self, encoding: str | None = None, errors: str | None = None, **_: Any) -> str:
        return self.read_bytes().decode("utf-8", errors or "strict")

    def write_bytes(self, data: bytes) -> int:
        with explained(self.bucket):
            self._blob().upload_from_string(bytes(data), "application/octet-stream", checksum="crc32c")
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None, **_: Any) -> int:
        return self.write_bytes(data.encode())

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        if mode not in ("r", "rb"):
            raise NotImplementedError(f"'{self}' cannot be opened by mode {mode}: write_bytes writes it whole")
        return io.BytesIO(self.read_bytes()) if mode == "rb" else io.StringIO(self.read_text())

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: a folder is there once something is in it."""

    def rmdir(self) -> None:
        """Nothing: a folder is gone when nothing is in it."""

    def unlink(self, missing_ok: bool = False) -> None:
        with explained(self.bucket):
            if not _remove(self._blob()) and not missing_ok:
                raise FileNotFoundError(errno.ENOENT, "No such file", str(self))

    def generation(self) -> int | None:
        """A number that every write of the object changes; None if it is not there."""
        with explained(self.bucket):
            blob = client().bucket(self.bucket).get_blob(self.key)
            return None if blob is None else int(blob.generation)

    def write_if(self, data: bytes, generation: int) -> int | None:
        """Writes the object if it is of this generation, or not there for 0; its new one, None if it is of another."""
        from google.api_core.exceptions import PreconditionFailed

        blob = self._blob()
        with explained(self.bucket), contextlib.suppress(PreconditionFailed):
            blob.upload_from_string(data, "text/plain", checksum="crc32c", if_generation_match=generation)
            return int(blob.generation)
        return None

    def unlink_if(self, generation: int) -> None:
        """Removes the object if it is of this generation."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with explained(self.bucket), contextlib.suppress(PreconditionFailed, NotFound):
            self._blob().delete(if_generation_match=generation)

    def remove_all(self) -> None:
        """Removes all that is in the folder, the files that say what it is last."""
        for names in _marks_last([key[len(self._inside) :] for key in self._keys()]):
            _each(lambda name: _remove(self._blob(name)), names, self.bucket)

    def rename(self, target: "BucketPath") -> "BucketPath":
        """Copies all that is in the folder to another of the same bucket, which is empty, then removes it here."""
        bucket = client().bucket(self.bucket)
        for names in _marks_last(self.names()):
            _each(lambda n: bucket.copy_blob(self._blob(n), bucket, f"{target._inside}{n}"), names, self.bucket)
        self.remove_all()
        return target

    def send(self, folder: Path, last: str = "") -> None:
        """Writes all that is in a folder of this machine into this one; those that say what it is last.

        Args:
          folder: with its folders; links are followed.
          last: the file that says that all is there; the very last one.
        """
        names = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
        for some in _marks_last(names, last):
            _each(lambda n: self._blob(n).upload_from_filename(str(folder / n), checksum="crc32c"), some, self.bucket)

    def fetch(self, folder: Path) -> None:
        """Writes all that is in this folder into one of this machine, which does not exist yet.

        Raises:
          InputError: for an object whose name would be a place outside of it.
        """
        names = self.names()
        if strange := [name for name in names if {"", ".", ".."} & set(name.split("/"))]:
            raise InputError(f"'{self}' holds an object whose name is no file's: {strange[0]!r}; remove it there")
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
        _each(lambda n: self._blob(n).download_to_filename(str(folder / n), checksum="crc32c"), names, self.bucket)

    @property
    def _inside(self) -> str:
        return f"{self.key}/"

    def _blob(self, name: str | None = None) -> Any:
        """The object, or one of this name below it: as it is, where a path would make ``a/b`` of ``a//b``."""
        return client().bucket(self.bucket).blob(self.key if name is None else f"{self._inside}{name}")

    def _named(self, name: str) -> "BucketPath":
        return BucketPath(SCHEME, self.bucket, name)

    def _keys(self, **options: Any) -> Iterator[str]:
        with explained(self.bucket):
            for blob in client().list_blobs(self.bucket, prefix=self._inside, **options):
                yield blob.name


@contextlib.contextmanager
def here(folder: Path) -> Iterator[Path]:
    """A folder on this machine: itself, or a copy of one in a bucket, for as long as it is used."""
    if not isinstance(folder, BucketPath):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxdl-") as place:
        folder.fetch(copy := Path(place) / folder.name)
        yield copy


def _marks_last(names: Sequence[str], last: str = "") -> list[list[str]]:
    """Groups of names, to be dealt with one after the other: the JSON files at the top say what a folder is."""
    marks = sorted(name for name in names if "/" not in name and name.endswith(".json") and name != last)
    others = [name for name in names if name not in marks and name != last]
    return [others, marks, [last] if last in names else []]


def _each(function: Callable[[str], Any], names: Sequence[str], bucket: str) -> None:
    """Calls a function with each name, several at once."""
    with explained(bucket), ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(function, names):
            pass


def _remove(blob: Any) -> bool:
    """Whether it was there."""
    from google.api_core.exceptions import NotFound

    try:
        blob.delete()
    except NotFound:
        return False
    return True


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: BucketPath, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"a bucket has no {name}: '{self}'")

    return refuse


# or they would look at this machine, for a file of such a name
for _name in (
    *("stat", "lstat", "chmod", "lchmod", "touch", "replace", "samefile", "owner", "group", "rglob", "walk"),
    *("readlink", "symlink_to", "hardlink_to", "link_to", "copy", "copy_into", "move", "move_into", "info"),
    *("is_mount", "is_socket", "is_fifo", "is_block_device", "is_char_device", "is_junction"),
):
    if hasattr(PosixPath, _name):
        setattr(BucketPath, _name, _refused(_name))
