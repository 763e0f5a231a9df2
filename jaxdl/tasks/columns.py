"""What a table of predictions says of probabilities."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

MOST_COUNTED = 10  # classes that are listed with their counts
PROBABILITY = "p:"  # beginning of the columns with the probability of one class or label
SHARES = "share:"  # of those with the share of an example that a class has, such as of its pixels
CONFIDENCE = "confidence"  # the probability of what is predicted


class Top(NamedTuple):
    """The most probable classes of each example, the most probable first.

    Attributes:
      indices: of the classes, ``int[n, k]``.
      names: of the classes, ``[n, k]``; see `distinct`.
      probabilities: of the classes, ``float64[n, k]``.
    """

    indices: np.ndarray
    names: list[list[str]]
    probabilities: np.ndarray


def most_probable(names: Sequence[str], chances: np.ndarray, k: int) -> Top:
    """The largest `k` of each row of ``chances[n, names]``; of equal ones the first."""
    indices = np.argsort(-chances, axis=1, kind="stable")[:, :k]
    words = distinct(names)
    return Top(indices, [[words[i] for i in row] for row in indices], np.take_along_axis(chances, indices, 1))


def distinct(names: Sequence[str]) -> list[str]:
    """The names; one that occurs twice has its place added, from 0: ``crane (134)``, ``crane (517)``."""
    made = list(names)
    while len(set(made)) < len(made):  # what is made may be the name of another
        counts = Counter(made)
        made = [f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(made)]
    return made


def with_counts(names: Sequence[str], counts: Sequence[int], what: tuple[str, str]) -> str:
    """``2 classes (ant 12, bee 9)`` for `what` ``("class", "classes")``; of more than ten the fewest and the most."""
    total = f"{len(names)} {what[len(names) != 1]}"
    if len(names) > MOST_COUNTED:
        ends = dict.fromkeys((min(counts), max(counts)))
        return f"{total} ({' to '.join(map(str, ends))} examples each)"
    return f"{total} ({', '.join(f'{name} {count}' for name, count in zip(names, counts, strict=True))})"


def probability_columns(names: Sequence[str], chances: np.ndarray) -> dict[str, list[str]]:
    """Columns of a table of predictions, one for each name, of ``chances[n, names]``."""
    return {f"{PROBABILITY}{name}": as_cells(chances[:, i]) for i, name in enumerate(distinct(names))}


def top_columns(top: Top) -> dict[str, list[Any]]:
    """``top1``, ``p1``, … ``topK``, ``pK``: name and probability of the most probable class, of the next, …"""
    columns: dict[str, list[Any]] = {}
    for place in range(top.indices.shape[1]):
        columns[f"top{place + 1}"] = [row[place] for row in top.names]
        columns[f"p{place + 1}"] = as_cells(top.probabilities[:, place])
    return columns


def frame_columns(task: Any, kept: Any, *, decisions: bool = False) -> dict[str, Any]:
    """Columns of a frame of predictions by `task`: as its `columns`, with numbers in place of texts.

    Only ``confidence`` and shares are rounded, to the six decimals of the texts.

    Args:
      task: what was asked.
      kept: what it keeps of the outputs, ``[n, …]``.
      decisions: whether these are decision values, which have no probabilities.
    """
    columns = task.columns(kept)
    of_classes = [name for name in columns if name.startswith(PROBABILITY)]
    if decisions:
        return {name: cells for name, cells in columns.items() if name not in (*of_classes, CONFIDENCE)}
    chances = task.probabilities(kept) if of_classes else None
    exact = {name: chances[:, i] for i, name in enumerate(of_classes)}
    numbers = [name for name in columns if name == CONFIDENCE or name.startswith(SHARES)]
    return columns | exact | {name: [float(cell) for cell in columns[name]] for name in numbers}


def as_cells(chances: Iterable[float]) -> list[str]:
    """Probabilities ``[n]`` as a table writes them."""
    return [f"{p:.6f}" for p in chances]
