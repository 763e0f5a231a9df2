"""What makes the scores of folds other than they seem: leaks that were allowed, classes that a fold never trained."""

from collections.abc import Iterable, Mapping
from typing import Any


def cautions(*leaks: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each of the leaks of one or more results (`Result.leaks`), each once."""
    said = dict.fromkeys(str(leak["said"]).rstrip(".") for each in leaks for leak in each)
    return [f"Caution: {one}." for one in said]
