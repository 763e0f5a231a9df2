"""Hashes by which two divisions of the data, or two sources, can be told to be the same."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxdl.data.folder import ImageFiles
from jaxdl.data.source import Arrays, Joined, Source, Subset


def hash_indices(parts: Iterable[np.ndarray]) -> str:
    """sha256 of index arrays in their order; arrays that are cut differently give different hashes."""
    digest = hashlib.sha256()
    for part in parts:
        part = np.ascontiguousarray(part, dtype="<i8")
        digest.update(np.int64(len(part)).astype("<i8").tobytes())
        digest.update(part.tobytes())
    return digest.hexdigest()


def hash_source(source: Source) -> str:
    """sha256 that changes when examples do: of arrays their bytes, of files their names, sizes and times of change.

    Labels, groups and times are part of it. Of other sources only these and the number of examples are.
    """
    digest = hashlib.sha256()
    _add_source(digest, source)
    return digest.hexdigest()


def _add_source(digest: Any, source: Source) -> None:
    digest.update(f"{type(source).__name__} {len(source)} {list(source.class_names)}".encode(errors="surrogateescape"))
    for values in (source.labels, source.groups, source.times):
        array = np.asarray([] if values is None else values)
        if array.dtype == object:
            array = np.frombuffer(repr(array.tolist()).encode(errors="surrogateescape"), np.uint8)
        digest.update(array.tobytes())
    if isinstance(source, Arrays):
        digest.update(f"{source.x.dtype} {source.x.shape}".encode())
        digest.update(np.ascontiguousarray(source.x).data)
    elif isinstance(source, ImageFiles):
        for path in source.paths:
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns} ".encode(errors="surrogateescape"))
    elif isinstance(source, Subset):
        digest.update(source.indices.tobytes())
        _add_source(digest, source.source)
    elif isinstance(source, Joined):
        _add_source(digest, source.one)
        _add_source(digest, source.two)
