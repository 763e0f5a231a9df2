"""What is said of every result beside its mean."""

import dataclasses

import numpy as np

from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.statistics.metrics import calibrate, measure


def summarised(result: Result, groups: np.ndarray | None = None) -> Result:
    """The result with its interval, its metrics and its calibration.

    Args:
      result: of folds that were all run.
      groups: of every example of the source, None for none.
    """
    found = interval(result, groups=groups)
    return dataclasses.replace(
        result,
        interval=None if found is None else found.as_dict(),
        metrics=measure(result),
        calibration=calibrate(result),
    )
