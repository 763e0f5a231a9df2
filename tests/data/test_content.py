"""The name of a division of the data."""

import hashlib
import struct

import numpy as np

from jaxdl.data.content import hash_indices

PARTS = [np.array([3, 1, 2]), np.array([0, 300])]


def test_it_is_sha256_of_lengths_and_indices():
    plain = b"".join(struct.pack(f"<q{len(p)}q", len(p), *map(int, p)) for p in PARTS)
    known = "0ac368cd31cda3fa81cb8304b2d17596778f6853101744b96e2cc1f85a7d52f3"
    assert hash_indices(PARTS) == hashlib.sha256(plain).hexdigest() == known


def test_it_depends_on_nothing_but_the_indices_and_the_cuts():
    assert hash_indices(PARTS) == hash_indices([p.astype(np.int32) for p in PARTS])
    assert hash_indices(PARTS) == hash_indices([np.repeat(p, 2)[::2] for p in PARTS])
    others = [
        [],
        [np.array([], int)],
        [np.array([3, 1, 2, 0, 300])],  # the same indices uncut
        [np.array([3, 1]), np.array([2, 0, 300])],  # cut elsewhere
        [np.array([1, 2, 3]), np.array([0, 300])],  # in another order
        PARTS[::-1],
        [*PARTS, np.array([], int)],
        [np.array([3, 1, 2]), np.array([0, 301])],
    ]
    hashes = {hash_indices(parts) for parts in (*others, PARTS)}
    assert len(hashes) == len(others) + 1
