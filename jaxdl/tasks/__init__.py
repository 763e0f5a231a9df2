"""What a model is asked."""

from collections.abc import Sequence

from jaxdl.tasks.classification import Classification
from jaxdl.tasks.regression import Regression

Task = Classification | Regression


def choose_task(class_names: Sequence[str], label_smoothing: float = 0.0) -> Task:
    """What examples ask for: to tell their classes apart, or without classes to predict a number."""
    return Classification(len(class_names), label_smoothing) if class_names else Regression()
