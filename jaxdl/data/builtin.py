"""Data that comes with the installation."""

from collections.abc import Iterable

import numpy as np

from jaxdl.data.source import Arrays
from jaxdl.errors import InputError


def digits(classes: Iterable[int] | None = None) -> Arrays:
    """Handwritten digits, 8×8 grey pixels, about 180 a class (scikit-learn's copy of the UCI test set).

    Args:
      classes: which of the digits 0 to 9, all by default. Class 0 is the smallest of them.

    Returns:
      uint8 images ``[n, 8, 8, 1]``; the original 17 grey levels are spread over 0 to 255.

    Raises:
      InputError: for something else than different digits.
    """
    from sklearn.datasets import load_digits

    wanted = list(range(10) if classes is None else classes)
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(10)):
        raise InputError(f"digits of the classes {wanted}; expected different numbers from 0 to 9")
    wanted.sort()
    data = load_digits()
    chosen = np.flatnonzero(np.isin(data.target, wanted))
    images = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    labels = np.searchsorted(wanted, data.target[chosen]).astype(np.int32)
    name = "digits" if classes is None else "digits:" + ",".join(map(str, wanted))
    return Arrays(images, labels, tuple(map(str, wanted)), name=name)
