"""Examples that cannot be read, found before hours of training meet them."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError


def skip_broken(source: Source) -> tuple[Source, list[tuple[str, str]]]:
    """`source` without the examples that cannot be read, and those with the reason.

    Every example is read once, which for images means decoding all of them: up to as long as an epoch's reading takes,
    less where cores are free. Nothing less finds a file that breaks off in the middle. Examples in memory have been
    read already: for them nothing happens.

    Returns:
      The source (the same one if nothing is broken), and ``(name, reason)`` of each example left out, in their order;
      an example without a name is called by its index.

    Raises:
      InputError: if no example can be read, or the last one of a class cannot.
    """
    if source.in_memory:
        return source, []

    def problem(index: int) -> InputError | None:
        try:
            source[index]
        except InputError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow's decoders let other threads run
        problems = list(pool.map(problem, range(len(source))))
    names = source.names
    # what to do about an example is left out of the reasons: it is done
    broken = [(names[i] if names is not None else str(i), p.problem) for i, p in enumerate(problems) if p is not None]
    if not broken:
        return source, []
    good = np.array([i for i, p in enumerate(problems) if p is None], np.int64)
    if not len(good):
        raise InputError(f"none of the {len(source)} examples of {source.name} can be read; the first: {problems[0]}")
    kept = subset(source, good)
    had, left = source.targets(), kept.targets()
    if isinstance(had, np.ndarray) and had.dtype.kind in "iu" and (lost := np.setdiff1d(had, left)).size:
        named = [source.class_names[value] if value < len(source.class_names) else str(value) for value in lost]
        first = problems[int(np.flatnonzero(had == lost[0])[0])]
        raise InputError(f"no example of {', '.join(named)} in {source.name} can be read; the first: {first}")
    return kept, broken
