"""What an example holds, as a number by which it is known again."""

import hashlib

import numpy as np

from jaxdl.data.folder import ImageFiles, printable
from jaxdl.data.source import Arrays, Joined, Source, Subset
from jaxdl.errors import InputError

BYTES = 8  # of a hash: among a million examples two different ones share theirs once in 40 million data sets


def hash_examples(source: Source, indices: np.ndarray | None = None) -> np.ndarray:
    """``uint64[n]``: a hash (BLAKE2b) of each example as it is stored; labels have no part in it.

    Of image files their bytes are taken, which decodes nothing; of others the array with its type and shape. So the
    same picture in another file format has another hash.

    Args:
      source: of the examples.
      indices: which of them, all by default.

    Raises:
      InputError: if a file cannot be read.
    """
    indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    if isinstance(source, Subset):
        return hash_examples(source.source, source.indices[indices])
    if isinstance(source, Joined):
        found, first = np.empty(len(indices), np.uint64), indices < len(source.one)
        found[first] = hash_examples(source.one, indices[first])
        found[~first] = hash_examples(source.two, indices[~first] - len(source.one))
        return found
    return np.array([_hash_example(source, int(i)) for i in indices], np.uint64)


def _hash_example(source: Source, index: int) -> int:
    if isinstance(source, ImageFiles):
        path = source.paths[index]
        try:
            held = path.read_bytes()
        except OSError as error:
            raise InputError(f"the image '{printable(path)}' cannot be read ({error.strerror})") from error
        digest = hashlib.blake2b(held, digest_size=BYTES)
    else:
        x = np.asarray(source.x[index] if isinstance(source, Arrays) else source[index]["x"])
        digest = hashlib.blake2b(f"{x.dtype.str} {x.shape}".encode(), digest_size=BYTES)
        digest.update(np.ascontiguousarray(x).data)
    return int.from_bytes(digest.digest(), "little")
