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


def hash_values(values: np.ndarray, *, names: bool = True) -> str:
    """sha256 of one value per example; without `names`, of which examples share a value, whatever the values are."""
    if not names:
        known: dict[Any, int] = {}
        return hash_indices([np.array([known.setdefault(value, len(known)) for value in np.asarray(values).tolist()])])
    values = np.asarray(values)
    if values.dtype.kind == "M":
        values = values.astype("datetime64[us]").astype(np.int64)
    elif values.dtype.kind in "iuf":
        values = values.astype(np.float64)
    else:
        values = np.frombuffer(repr(values.tolist()).encode(errors="surrogateescape"), np.uint8)
    return hashlib.sha256(values.tobytes()).hexdigest()


def hash_source(source: Source, *, with_times_of_change: bool = True) -> str:
    """sha256 that changes when examples do: of arrays their bytes, of files their names, sizes and times of change.

    Labels, groups and times are part of it. Of other sources only these and the number of examples are.
    Without the times of change, a copy of files has the hash of the files.
    """
    digest = hashlib.sha256()
    _add_source(digest, source, with_times_of_change)
    return digest.hexdigest()


def _add_source(digest: Any, source: Source, changed: bool) -> None:
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
            moment = state.st_mtime_ns if changed else ""
            digest.update(f"{path.name} {state.st_size} {moment} ".encode(errors="surrogateescape"))
    elif isinstance(source, Subset):
        digest.update(source.indices.tobytes())
        _add_source(digest, source.source, changed)
    elif isinstance(source, Joined):
        _add_source(digest, source.one, changed)
        _add_source(digest, source.two, changed)
