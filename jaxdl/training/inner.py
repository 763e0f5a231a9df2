"""The inner part of the training examples, by which early stopping chooses."""

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.tasks import Task


def divide_inner(
    source: Source, task: Task, part: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides a training part into one to learn from and an inner one of about `fraction` of it.

    By groups where the source has them, else by the task's strata where each has two examples, else at random.

    Args:
      source: labelled.
      task: what is asked of it.
      part: indices of the training part; no others are looked at.
      fraction: share of the inner part.
      seed: of the division.

    Raises:
      InputError: if the part is too small or has one group only.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    try:
        if source.groups is not None:
            splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
            learned, inner = next(splitter.split(part, groups=source.groups[part]))
            return part[learned], part[inner]
        labels = task.strata(source.targets())
        labels = None if labels is None else labels[part]
        inner_size = int(np.ceil(fraction * len(part)))
        if labels is not None:
            counts = np.unique(labels, return_counts=True)[1]
            if counts.min() < 2 or min(inner_size, len(part) - inner_size) < len(counts):
                labels = None
        learned, inner = train_test_split(part, test_size=fraction, stratify=labels, random_state=seed)
    except ValueError as error:
        raise InputError(
            f"early_stopping cannot hold out {fraction} of a training part of {len(part)} examples: {error}"
        ) from error
    return np.sort(learned), np.sort(inner)
