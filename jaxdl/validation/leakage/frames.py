"""Frames of one sequence on both sides of a split: what is next to a frame in a film shows nearly the same.

Names tell where there may be a sequence: at least `LEAST` images of one prefix with numbers (`data.frames`). Unrelated
photographs are numbered, too. So the pictures decide: of images whose numbers follow each other, and of others drawn
from the same sequence (and of the same classes), which are more alike? The likeness is the share of pairs in which the
neighbours are, by the edges in their thumbnails (as for near-duplicates): 0.5 where the order says nothing.

The thresholds lie between what was measured: 0.47 to 0.51 on bees and ants in the order of their names, blood cells
(BCCD) and CIFAR-10 sorted by class; 0.85 to 0.93 on the four drives of CamVid (a frame a second), 0.99 on the 30
sections of the ISBI membranes. Faces (ORL, person by person) lie at 0.58; scikit-learn's digits, sorted by class, at
0.74, since those of one writer follow each other.
"""

from typing import NamedTuple

import numpy as np

from jaxdl.data.frames import consecutive, sequences
from jaxdl.data.source import Source
from jaxdl.validation.leakage.near_duplicate_images import edges_of, holds_pictures, thumbnails

LEAST = 10  # different numbers that make a sequence
ALIKE = 0.8  # likeness from which on neighbours tell of one another
NOTICED = 0.6  # likeness from which on it is said
SURE = 4 * 0.29  # four standard deviations of a share between 0 and 1 that is drawn by lot, for one pair
SAMPLED = 200  # neighbours that are compared,
OTHERS = 3  # each with as many others


class Frames(NamedTuple):
    """What the pictures of a source say of its sequences.

    Attributes:
      likeness: see above; None where there is no sequence, or nothing to compare.
      pairs: of neighbours that were compared.
    """

    likeness: float | None
    pairs: int

    @property
    def noticed(self) -> bool:
        """Whether neighbours are more alike than by chance."""
        return self.likeness is not None and self.likeness >= max(NOTICED, 0.5 + SURE / self.pairs**0.5)

    @property
    def alike(self) -> bool:
        """Whether they are much more alike."""
        return self.noticed and self.likeness >= ALIKE


def measure_frames(source: Source) -> Frames:
    """How much more alike neighbours in a sequence are than others of it; a few hundred images are read, if there are.

    Where the targets are classes, neighbours are compared with others of their two classes: of numbers that go class by
    class, neighbours would be alike without being frames.
    """
    if source.names is None or not holds_pictures(source):
        return Frames(None, 0)
    targets = source.targets()
    classes = targets if isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iu" else None
    near, far = _drawn(list(sequences(source.names, LEAST).values()), classes, len(source))
    if not len(near):
        return Frames(None, 0)
    used, place = np.unique(np.concatenate([near[:, None], far], axis=1), return_inverse=True)
    edges = edges_of(thumbnails(source, used))[place.reshape(len(near), 1 + OTHERS, 2)]
    alike = np.einsum("ijk,ijk->ij", edges[:, :, 0], edges[:, :, 1])
    neighbours, others = alike[:, :1], alike[:, 1:]
    return Frames(float(((neighbours > others) + 0.5 * (neighbours == others)).mean()), len(near))


def _drawn(
    held: list[tuple[np.ndarray, np.ndarray]], classes: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours ``int64[m, 2]``, and for each `OTHERS` pairs ``int64[m, OTHERS, 2]`` of its sequence and classes."""
    rng = np.random.default_rng(0)
    kind = np.zeros(count, np.int64) if classes is None else classes
    # of several examples of one number one
    ordered = [indices[np.unique(numbers, return_index=True)[1]] for indices, numbers in held]
    places = [(part, first) for part, indices in enumerate(ordered) for first in range(len(indices) - 1)]
    near, far = [], []
    for part, first in (places[i] for i in sorted(rng.permutation(len(places))[:SAMPLED])):
        one, two = ordered[part][first : first + 2]
        alike = [np.flatnonzero(kind[ordered[part]] == kind[index]) for index in (one, two)]
        if min(map(len, alike)) < LEAST // 2:  # too few to be others
            continue
        drawn = np.stack([rng.choice(members, 50) for members in alike], axis=1)
        drawn = drawn[np.abs(drawn[:, 0] - drawn[:, 1]) > 1][:OTHERS]
        if len(drawn) == OTHERS:
            near.append((one, two))
            far.append(ordered[part][drawn])
    return np.array(near, np.int64).reshape(-1, 2), np.array(far, np.int64).reshape(-1, OTHERS, 2)


def frames_tested(source: Source, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The test examples next to which an example is trained on, each with that one, ``int64[m, 2]``."""
    return consecutive(source.names, train, test, least=LEAST)
