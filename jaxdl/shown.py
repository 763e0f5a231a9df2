"""How a value shows itself: one line at a prompt, a small table in a notebook."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 80  # characters of one fact in a line
ROWS = 10  # of a table in a notebook


class Shown:
    """A base of what is shown by a few facts, never by its arrays. Dataclasses below it say ``repr=False``."""

    def _facts(self) -> Mapping[str, Any]:
        """By name what there is to know at a glance; None is left out. It reads no file and computes nothing large."""
        raise NotImplementedError(f"{type(self).__name__} does not say its facts")

    def _preview(self) -> "pd.DataFrame | None":
        """A table for a notebook, below the facts; the first `ROWS` rows are shown."""
        return None

    def __repr__(self) -> str:
        facts = (f"{name} {_short(value)}" for name, value in self._facts().items() if value is not None)
        return f"<{type(self).__name__}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """For Jupyter and its like, which look for this name; needs neither of them."""
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(as_words(value))}</td></tr>'
            for name, value in self._facts().items()
            if value is not None
        )
        table = f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"
        preview = self._preview()
        if preview is None:
            return table
        shown = preview.head(ROWS).map(lambda value: as_words(value) if isinstance(value, str) else value)
        shown = shown.rename(columns=as_words)
        more = "<p>…: to_frame() has all rows</p>" if len(preview) > ROWS else ""
        return f"{table}{shown.to_html(index=False, na_rep='', float_format='{:.4g}'.format)}{more}"


def as_words(value: Any) -> str:
    """A fact as text on one line; numbers with four digits, what cannot be printed as \ufffd."""
    text = f"{value:.4g}" if isinstance(value, float) else f"{value}"
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def shortened(text: str, most: int = LONGEST) -> str:
    """The beginning of a text on one line; what cannot be printed as \ufffd."""
    return _short(" ".join(text.split()), most)


def listed(names: Sequence[Any], most: int = 5) -> str | None:
    """How many there are and the first of them: ``"3: ant, bee, wasp"``; None for none."""
    if not len(names):
        return None
    return f"{len(names)}: {few(names, most)}"


def few(texts: Sequence[Any], most: int) -> str:
    """The first of them: ``"ant, bee, wasp, …"``."""
    return ", ".join(map(str, texts[:most])) + (", …" if len(texts) > most else "")


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``1,200 images``; `many` where its ending is another."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _short(value: Any, most: int = LONGEST) -> str:
    text = as_words(value)
    return text if len(text) <= most else text[: most - 1] + "…"
