"""Which texts say the same, although their characters differ: other case, punctuation or spaces, a word or two changed.

Each text becomes the set of its shingles, the `LONG` letters from each place on. Two are alike if these sets overlap,
by their Jaccard similarity: what they have in common of all that they have. Most pairs are never looked at: MinHash
(Broder 1997, "On the resemblance and containment of documents") gives every text a row of numbers that two texts share
as often as their sets overlap, and only texts that agree in a band of it are compared, exactly. Texts that say the same
in other words are not found, nor one that was put into a much longer one.

The threshold was chosen on 6,641 sentences of SST-2: at 0.6 two pairs are alike, at 0.4 twelve; of 1,000 of them with a
word left out 96 % are found, with a word replaced 90 %, with a word or more in five cut off 95 %, with one letter in 30
wrong all. Short sentences of one pattern may be alike and yet say different things: among 10,000 captions of Multi30k,
which had no part in the choice, 32 pairs are alike, "A dog is running on the beach." and "A woman is running on the
beach." among them.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from jaxdl.errors import InputError

LONG = 4  # letters of a shingle
ALIKE = 0.6  # similarity from which on texts are alike
LEAST = 20  # letters: shorter texts are the same by chance
BANDS, ROWS = 40, 4  # two texts of similarity s meet with probability 1 - (1 - s**ROWS)**BANDS: 0.996 at 0.6
TOGETHER = 1 << 20  # letters, or pairs, at a time
SEED = 0x6A61_7864  # of the hashes


def letters(text: str) -> str:
    """What a text is compared by: its letters and digits in lower case, without the accents that can be told apart.

    Unicode's compatible forms (ligatures, full width) become plain ones. Punctuation and spaces go: whether "won't" is
    one word or "wo n't" two is a matter of the tokenizer.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    return re.sub(r"[\W_]+", "", plain)


def long_enough(text: str) -> bool:
    """Whether a text holds so many letters that meeting it again is no coincidence."""
    return len(letters(text)) >= LEAST


def find_near_duplicate_texts(texts: Sequence[str], *, similarity: float = ALIKE) -> np.ndarray:
    """Pairs ``int[m, 2]``, sorted, of the texts that say the same.

    Args:
      texts: of any length; those of fewer than `LEAST` letters are like no other.
      similarity: Jaccard similarity of their shingles from which on two are alike, above 0.5. Each pair that is told
        has it; one that has just 0.6 is missed once in 250 times, one of 0.7 once in 30,000.

    Raises:
      InputError: if the similarity is not between 0.5 and 1.
    """
    if not 0.5 <= similarity <= 1:
        raise InputError(f"similarity is {similarity}; expected 0.5 to 1: texts that are less alike are not looked for")
    plain = [letters(text) for text in texts]
    kept = np.array([i for i, text in enumerate(plain) if len(text) >= LEAST], np.int64)
    if len(kept) < 2:
        return np.zeros((0, 2), np.int64)
    plain = [plain[i] for i in kept]
    found = [np.zeros((0, 2), np.int64)]
    candidates = _candidates(_signatures(plain))
    for first in range(0, len(candidates), TOGETHER):
        pairs = candidates[first : first + TOGETHER]
        found.append(pairs[_similarity(plain, pairs) >= similarity])
    return kept[np.concatenate(found)]


def _blocks(plain: Sequence[str]) -> Iterator[slice]:
    """Texts that hold about `TOGETHER` letters, one after another."""
    ends = np.cumsum([len(text) for text in plain])
    first = 0
    while first < len(plain):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + TOGETHER, side="right")))
        yield slice(first, last)
        first = last


def _shingles(plain: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes ``uint64`` of all shingles of some texts, text after text, and where each text's begin."""
    code = np.frombuffer("".join(plain).encode("utf-32-le"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in plain])
    rolled = np.zeros(len(code) - LONG + 1, np.uint64)
    for k in range(LONG):
        rolled = _mixed(rolled ^ code[k : len(code) - LONG + 1 + k])
    # those that reach over the end of a text are none
    ends = np.cumsum(lengths)
    inside = np.ones(len(code), bool)
    for k in range(1, LONG):
        inside[ends - k] = False
    counts = lengths - LONG + 1
    return rolled[inside[: len(rolled)]], np.cumsum(counts) - counts


def _mixed(x: np.ndarray) -> np.ndarray:
    """Each bit of the result depends on each of `x`: the finaliser of SplitMix64 (Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _signatures(plain: Sequence[str]) -> np.ndarray:
    """``uint32[n, BANDS * ROWS]``: of each of as many random orders of all shingles, the first one that a text has."""
    odd = np.random.default_rng(SEED).integers(0, 1 << 63, BANDS * ROWS, np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.zeros((len(plain), len(odd)), np.uint32)
    for block in _blocks(plain):
        hashes, starts = _shingles(plain[block])
        for k, factor in enumerate(odd):
            order = ((hashes * factor) >> np.uint64(32)).astype(np.uint32)
            signatures[block, k] = np.minimum.reduceat(order, starts)
    return signatures


def _candidates(signatures: np.ndarray) -> np.ndarray:
    """Pairs ``int[m, 2]``, sorted, that agree in all rows of some band."""
    n = len(signatures)
    found = np.zeros(0, np.int64)
    for band in np.split(signatures, BANDS, axis=1):
        label = np.unique(band, axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(label, kind="stable")
        _, starts, counts = np.unique(label[order], return_index=True, return_counts=True)
        # each text with those behind it in its bucket
        behind = np.repeat(starts + counts, counts) - np.arange(n) - 1
        one = np.repeat(np.arange(n), behind)
        two = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(behind) - behind, behind)
        pairs = np.sort(order[np.stack([one, two], axis=1)], axis=1)
        found = np.union1d(found, pairs[:, 0] * n + pairs[:, 1])
    return np.stack(np.divmod(found, n), axis=1)


def _similarity(plain: Sequence[str], pairs: np.ndarray) -> np.ndarray:
    """``float[m]``: the Jaccard similarity of the shingles of each pair."""
    from scipy.sparse import csr_array

    used, pairs = np.unique(pairs, return_inverse=True)
    if not len(used):
        return np.zeros(0)
    hashes, starts = _shingles([plain[i] for i in used])
    values, column = np.unique(hashes, return_inverse=True)
    row = np.repeat(np.arange(len(used)), np.diff(np.append(starts, len(hashes))))
    held = csr_array((np.ones(len(hashes), np.int32), (row, column)), (len(used), len(values)))
    held.data[:] = 1  # a shingle counts once
    one, two = pairs.reshape(-1, 2).T
    shared = held[one].multiply(held[two]).sum(1)
    size = held.sum(1)
    return shared / (size[one] + size[two] - shared)
