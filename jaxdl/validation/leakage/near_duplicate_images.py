"""Which images show the same picture, although their bytes differ: stored again, scaled, brighter, retouched.

Each image becomes a thumbnail. Two are alike if the edges in them are the same: the correlation of the grey thumbnails'
gradients is far above what it is between images of this data set, and that of the thumbnails themselves, in colour,
confirms it. What counts as far is read from the data: two photographs hardly ever correlate, while most digits of eight
by eight pixels do. Copies that were shifted, turned, mirrored or cropped by more than a few per cent are not found.

Thresholds were chosen on CIFAR-10's test part, the ORL faces and bees and ants. On the 364 blood cell images of BCCD,
which had no part in it, all of 300 planted copies are found, and one pair beside them: one field at two settings of the
microscope's focus.
"""

from collections.abc import Sequence

import numpy as np

from jaxdl.data.source import Source

SIDE = 16  # of a thumbnail
SPREADS = 13.0  # above the median of all pairs; different images of the data sets tried came up to 12
LEAST, MOST = 0.85, 0.995  # correlation of edges that is asked for at least, and that is always enough
CONFIRMED = 0.9  # correlation of the thumbnails in colour: frames alike around different pictures stay below
SAMPLED = 100_000  # pairs from which the spread is estimated, where there are more
TOGETHER = 1024  # images at a time


def holds_pictures(source: Source) -> bool:
    """Whether the examples are ``[height, width, channels]`` of some size, uint8 or float."""
    shape = getattr(source.spec()["x"], "shape", ())
    return len(shape) == 3 and min(shape[:2]) >= 4


def thumbnails(source: Source, indices: np.ndarray) -> np.ndarray:
    """``float32[n, side, side, channels]``: area means; the side is `SIDE`, or that of smaller images in memory.

    Files are decoded at reduced size, one at a time.
    """
    held = source.stacked()
    if held is not None:
        side = min(SIDE, *held.shape[1:3])
        parts = [indices[i : i + TOGETHER] for i in range(0, len(indices), TOGETHER)]
        return np.concatenate([_area_means(held[part], side) for part in parts])
    return _alike([_area_means(source.thumbnail(int(i), SIDE)[None], SIDE)[0] for i in indices])


def _alike(found: Sequence[np.ndarray]) -> np.ndarray:
    """Stacked; grey ones among coloured ones in as many channels, all of them grey if these differ."""
    most = max(one.shape[-1] for one in found)
    if {one.shape[-1] for one in found} - {1, most}:
        return np.stack([one.mean(-1, keepdims=True) for one in found])
    return np.stack([np.broadcast_to(one, (*one.shape[:2], most)) if one.shape[-1] == 1 else one for one in found])


def _area_means(x: np.ndarray, side: int) -> np.ndarray:
    """``[n, h, w, c]`` to ``float32[n, side, side, c]``."""
    n, height, width, channels = x.shape
    rows = _overlaps(height, side) @ x.reshape(n, height, width * channels).astype(np.float32)
    columns = rows.reshape(n, side, width, channels).transpose(0, 2, 1, 3).reshape(n, width, side * channels)
    return (_overlaps(width, side) @ columns).reshape(n, side, side, channels).transpose(0, 2, 1, 3)


def _overlaps(size: int, side: int) -> np.ndarray:
    """``float32[side, size]``: the share of each of `size` pixels in each of `side` equal parts; rows sum to 1."""
    edges = np.linspace(0, size, side + 1)[:, None]
    pixels = np.arange(size)
    shares = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0, None)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


def find_near_duplicate_images(small: np.ndarray) -> np.ndarray:
    """Pairs ``int[m, 2]`` of the thumbnails ``float32[n, side, side, channels]`` that show the same picture.

    All pairs are compared, n² of them. An image without any edges is like no other.
    """
    edges = edges_of(small)
    colours = _unit(_flat(small - small.mean((1, 2), keepdims=True)))
    enough = _enough(edges)
    found = [np.zeros((0, 2), np.int64)]
    for first in range(0, len(edges), TOGETHER):
        one, two = np.nonzero(edges[first : first + TOGETHER] @ edges[first:].T >= enough)
        pairs = np.stack([one, two], axis=1)[one < two] + first
        confirmed = np.einsum("ij,ij->i", colours[pairs[:, 0]], colours[pairs[:, 1]]) >= CONFIRMED
        found.append(pairs[confirmed])
    return np.concatenate(found)


def edges_of(small: np.ndarray) -> np.ndarray:
    """The edges of the thumbnails ``float32[n, side, side, channels]``, ``float32[n, …]`` of length 1.

    Their products are what two images are compared by. An image without edges gives zeros.
    """
    grey = small.mean(-1)
    return _unit(np.concatenate([_flat(np.diff(grey, axis=1)), _flat(np.diff(grey, axis=2))], axis=1))


def _enough(edges: np.ndarray) -> float:
    """The correlation from which on two images are the same, on Fisher's scale so many spreads above the median."""
    if len(edges) ** 2 <= 2 * SAMPLED:
        usual = (edges @ edges.T)[np.triu_indices(len(edges), 1)]
    else:
        one, two = np.random.default_rng(0).integers(0, len(edges), (2, SAMPLED))
        usual = np.einsum("ij,ij->i", edges[one], edges[two])[one != two]
    if not len(usual):
        return MOST
    # of copies there are few among the pairs: the quantiles do not feel them, as a standard deviation would
    median, high = np.quantile(np.arctanh(np.clip(usual, -0.9999, 0.9999)), [0.5, 0.9])
    spread = (high - median) / 1.2816  # the standard deviation of a normal distribution with these quantiles
    return float(np.clip(np.tanh(median + SPREADS * spread), LEAST, MOST))


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; those of nothing but rounding noise become 0."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(length > 1e-6, x / np.maximum(length, 1e-6), 0).astype(np.float32)
