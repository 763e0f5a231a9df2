"""Hashes of what examples hold, and of divisions of them."""

import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

BYTES = 8  # of a hash: among a million examples two different ones share theirs once in 40 million data sets


def content_hash(x: Any) -> int:
    """64 bits of BLAKE2b of an example ``x``: an array with its type and shape, or a pytree of them.

    Of bytes, such as those of an image file, as they are: so the same picture in another file format has another hash.
    """
    if isinstance(x, bytes):
        digest = hashlib.blake2b(x, digest_size=BYTES)
    elif isinstance(x, np.ndarray | np.generic):
        digest = hashlib.blake2b(f"{x.dtype.str} {x.shape}".encode(), digest_size=BYTES)
        digest.update(np.ascontiguousarray(x).data)
    else:
        digest = hashlib.blake2b(digest_size=BYTES)
        hash_leaves(digest, x)
    return int.from_bytes(digest.digest(), "little")


def hash_leaves(digest: Any, tree: Any) -> None:
    """Adds the arrays of a pytree with their places, types and shapes to a hash."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())


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
