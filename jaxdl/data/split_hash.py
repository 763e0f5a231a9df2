"""A name for a division of the data that two results can be compared by."""

import hashlib
from collections.abc import Iterable

import numpy as np


def hash_indices(parts: Iterable[np.ndarray]) -> str:
    """sha256 of index arrays in their order; arrays that are cut differently give different hashes."""
    digest = hashlib.sha256()
    for part in parts:
        part = np.ascontiguousarray(part, dtype="<i8")
        digest.update(np.int64(len(part)).astype("<i8").tobytes())
        digest.update(part.tobytes())
    return digest.hexdigest()
