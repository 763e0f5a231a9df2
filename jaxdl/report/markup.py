"""What the pages are built of: one style, tables, pictures, and the places of files."""

import base64
import html
import io
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.errors import InputError
from jaxdl.report.table import plain
from jaxdl.weights.buckets import BucketPath, place_of
from jaxdl.weights.files import check_free

PICTURES = (".png", ".svg", ".pdf")  # endings of a figure's file
TINY, LARGE = 64, 192  # pixels: up to TINY a picture keeps its pixels and is enlarged, above LARGE it is made smaller
GENERATOR = '<meta name="generator" content="jaxdl">'  # by which a page of our own is known


class Section(NamedTuple):
    """A part of a page: its heading, and HTML."""

    title: str
    body: str


def document(title: str, header: str, sections: Sequence[Section], *, contents: bool = False) -> str:
    """A whole page; `header` is HTML below the title, `contents` asks for links to the sections."""
    sections = _joined(sections)
    slugs = [slug(section.title) for section in sections]
    links = "".join(
        f'<li><a href="#{place}">{escaped(section.title)}</a></li>'
        for place, section in zip(slugs, sections, strict=True)
    )
    contents_list = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if contents else ""
    parts = [
        f'<section id="{place}"><h2>{escaped(section.title)}</h2>{section.body}</section>'
        for place, section in zip(slugs, sections, strict=True)
    ]
    css = files("jaxdl.report").joinpath("style.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{GENERATOR}\n'
        f"<title>{escaped(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escaped(title)}</h1>{header}{contents_list}</header>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def slug(title: str) -> str:
    """The name of a section in the address of a page, after its #."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _joined(sections: Sequence[Section]) -> list[Section]:
    """Sections that say the same, such as why nothing can be shown, as one under all their titles."""
    titles: dict[str, list[str]] = {}
    for one in sections:
        titles.setdefault(one.body, []).append(one.title)
    return [Section(", ".join(names), body) for body, names in titles.items()]


def check_place(path: str | Path) -> Path:
    """`path` as an absolute one at which a file may be written.

    Raises:
      InputError: if it is a folder, or its folder is missing or cannot be written to.
    """
    path = place_of(path).absolute()
    if isinstance(path, BucketPath):
        return path
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; name the file to write in it, such as '{path / 'report.html'}'")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder '{path.parent}' to write '{path.name}' in; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"'{path.parent}' is not a folder that may be written to")
    return path


def check_picture(path: str | Path, formats: Sequence[str] = PICTURES) -> Path:
    """`path` as an absolute one that is free, for a file in one of `formats`. Raises InputError."""
    path = Path(path)
    if path.suffix.lower() not in formats:
        listed = (" or " if len(formats) == 2 else ", ").join(formats)
        raise InputError(f"'{path}' is no name for a picture; expected one that ends in {listed}")
    path = check_free(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected the name of a picture")
    return path


def escaped(text: object) -> str:
    """`text` as HTML that shows just it."""
    return html.escape(plain(text))


def in_scroll(content: str, label: str) -> str:
    """`content` in a region that scrolls by itself where it is wider than the screen; `label` names it."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(label)}">{content}</div>'


def make_table(headers: Sequence[str], lines: Sequence[Sequence[str]], kind: str, best: int = -1) -> str:
    """Of cells that are HTML; the first of a line is its header; line number `best` is marked."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in headers)
    body = ""
    for place, (first, *others) in enumerate(lines):
        body += '<tr class="best">' if place == best else "<tr>"
        body += f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
    return f'<table class="{kind}">{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table>'


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{escaped(text)}</p>'


def legend(*entries: tuple[str, str, str]) -> str:
    """Of (sign, CSS colour, word), to stand above a picture."""
    signs = [f'<b style="color:{colour}" aria-hidden="true">{sign}</b>{word}' for sign, colour, word in entries]
    return f'<ul class="keys"><li>{"</li><li>".join(signs)}</li></ul>'


def is_picture(x: Any) -> bool:
    """Whether an example, or its shape and type, is ``uint8[height, width, 1 or 3]``; no if it has several parts."""
    shape = getattr(x, "shape", ())
    return len(shape) == 3 and x.dtype == np.uint8 and shape[2] in (1, 3)


def picture_uri(x: Any) -> tuple[str, str] | None:
    """A data URI of an image ``uint8[height, width, 1 or 3]``, ``"tiny"`` if so; None for what is no image."""
    if not is_picture(x):
        return None
    from PIL import Image

    image = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
    image.thumbnail((LARGE, LARGE))
    tiny = max(image.size) <= TINY
    file = io.BytesIO()
    image.save(file, "PNG" if tiny else "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{'png' if tiny else 'jpeg'};base64,{data}", "tiny" if tiny else "large"
