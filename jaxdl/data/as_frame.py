"""A source as a table of pandas: what is known of each example, without the pictures."""

from typing import Any

import numpy as np
import pandas as pd

from jaxdl.data.source import levels_of


def as_frame(source: Any) -> pd.DataFrame:
    """A row for each example; see `data.Source.to_frame`."""
    targets = source.targets()
    columns: dict[str, Any] = {} if source.names is None else {"name": list(source.names)}
    columns |= {} if targets is None else _targets(targets, source.class_names)
    for name in ("group", "time", "weight", "text"):
        values = getattr(source, f"{name}s")
        columns |= {} if values is None else {name: list(values)}
    x = source.stacked() if source.columns else None
    if x is not None and getattr(x, "ndim", 0) == 2:
        levels = levels_of(source)
        for i, name in enumerate(source.columns):
            values = np.array([*levels[i], None], object)[_places(x[:, i])] if levels[i] else x[:, i]
            columns.setdefault(name, values)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(source), name="example"))


def _places(column: np.ndarray) -> np.ndarray:
    """Places of levels, -1 for what is missing or not among them."""
    return np.nan_to_num(column, nan=-1).astype(int)


def _targets(targets: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Columns of the targets: a class by its name, a label or a number each by itself; none of maps and pytrees."""
    if not isinstance(targets, np.ndarray) or targets.ndim not in (1, 2):
        return {}
    if targets.ndim == 1:
        classes = names and targets.dtype.kind in "iu"
        return {"target": [names[i] if 0 <= i < len(names) else None for i in targets] if classes else targets}
    named = names if len(names) == targets.shape[1] else range(targets.shape[1])
    return {f"target:{name}": targets[:, i] for i, name in enumerate(named)}
