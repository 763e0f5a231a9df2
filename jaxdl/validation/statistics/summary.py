"""What is said of every result beside its mean."""

import dataclasses

import numpy as np

from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import Method, interval
from jaxdl.validation.statistics.metrics import calibrate, measure


def summarised(result: Result, groups: np.ndarray | None = None, method: Method = "auto") -> Result:
    """The result with its groups, its interval, its metrics and its calibration.

    Args:
      result: of folds that were all run.
      groups: of every example of the source, None for none.
      method: of the interval.
    """
    result = grouped(result, groups)
    found = interval(result, method)
    return dataclasses.replace(
        result,
        interval=None if found is None else found.as_dict(),
        metrics=measure(result),
        calibration=calibrate(result),
    )


def grouped(result: Result, groups: np.ndarray | None) -> Result:
    """The result with the number of each held-out row's group; `groups` as of `summarised`."""
    if groups is None:
        return result
    group = np.unique(groups, return_inverse=True)[1][result.out_of_fold.index]
    return dataclasses.replace(result, out_of_fold=dataclasses.replace(result.out_of_fold, group=group))
