"""Single examples on a page: as captioned pictures, or as a table where they are no pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdl.data.source import Source
from jaxdl.report.markup import escaped, in_scroll, make_table, picture_uri

EXAMPLES = 12  # that a section shows
LONGEST = 300  # characters of a text in a table


def list_classified(
    rows: Sequence[Mapping[str, Any]], class_names: Sequence[str], source: Source | None, what: str
) -> str:
    """Rows as of `predictions.most_wrong`."""
    listed = [
        {
            "index": row["index"],
            "true class": class_names[row["label"]],
            "predicted class": class_names[row["predicted"]],
            "probability": "> 0.99" if row["probability"] >= 0.995 else f"{row['probability']:.2f}",
        }
        for row in rows
    ]

    def caption(row: Mapping[str, Any]) -> tuple[str, str]:
        p = row["probability"]
        said = f"true {row['true class']}, predicted {row['predicted class']}"
        return said, f"(p {p})" if p.startswith(">") else f"(p = {p})"

    return list_examples(listed, caption, source, what)


def list_examples(
    rows: Sequence[Mapping[str, Any]],
    caption: Callable[[Mapping[str, Any]], tuple[str, str]],
    source: Source | None,
    what: str,
) -> str:
    """Examples with what there is to say of each.

    Args:
      rows: ``index`` in the source, and more columns of the table.
      caption: gives for a row the two parts of what stands below its picture; the second is not broken.
      source: the examples, None where they are not available.
      what: names the table for who cannot see it.
    """
    names = None if source is None else source.names
    pictures = [None if source is None else picture_uri(source[row["index"]]["x"]) for row in rows]
    if all(pictures):
        shown = "".join(_captioned(row, names, *caption(row), *each) for row, each in zip(rows, pictures, strict=True))
        return f'<div class="pictures">{shown}</div>'
    heads = list(rows[0])
    lines = [[_cell(row[head]) for head in heads] for row in rows]
    for title, of in (
        ("text", _texts(source)),
        ("name", None if names is None else lambda i: escaped(short_name(names[i]))),
    ):
        if of is not None:
            heads.insert(1, title)
            for line, row in zip(lines, rows, strict=True):
                line.insert(1, of(row["index"]))
    return in_scroll(make_table([escaped(head) for head in heads], lines, "examples"), what)


def _cell(value: Any) -> str:
    """Text may be the user's, in any writing."""
    return f'<span dir="auto">{escaped(value)}</span>' if isinstance(value, str) else escaped(value)


def _texts(source: Source | None) -> Callable[[int], str] | None:
    """Gives the text of an example as HTML, shortened; None where they have none."""
    if source is None or source.texts is None:
        return None
    texts = source.texts

    def of(index: int) -> str:
        text = str(texts[index])
        return f'<span class="text" dir="auto">{escaped(text if len(text) <= LONGEST else text[:LONGEST] + "…")}</span>'

    return of


def short_name(name: object) -> str:
    """The last two parts of a path: the class's folder and the file."""
    return "/".join(Path(str(name)).parts[-2:])


def name_of(index: int, names: Sequence[str] | None) -> str:
    """How a caption calls an example: by its index, and by the short name where there is one."""
    return f"index {index}" + ("" if names is None else f", {short_name(names[index])}")


def _captioned(row: Mapping[str, Any], names: Sequence[str] | None, said: str, more: str, uri: str, kind: str) -> str:
    said, more, name = escaped(said), escaped(more), escaped(name_of(row["index"], names))
    image = f'<img class="{kind}" src="{uri}" alt="Example {name}: {said} {more}">'
    return f"<figure>{image}<figcaption>{said} <span>{more}</span><small>{name}</small></figcaption></figure>"
