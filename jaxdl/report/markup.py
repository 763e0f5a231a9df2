"""What the pages are built of: one style, tables, pictures, and the places of files."""

import base64
import html
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.errors import InputError
from jaxdl.report.table import plain
from jaxdl.weights.files import check_free

PICTURES = (".png", ".svg", ".pdf")  # endings of a figure's file
TINY, LARGE = 64, 192  # pixels: up to TINY a picture keeps its pixels and is enlarged, above LARGE it is made smaller
GENERATOR = '<meta name="generator" content="jaxdl">'  # by which a page of our own is known

CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2024; --faint: #5c6670; --line: #d5dade; --card: #f4f6f8;
  --train: #b54a00; --held-out: #0072b2; --truth: #007a5e; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181b; --ink: #e4e7ea; --faint: #a0a9b2; --line: #3a4148;
  --card: #1f2428; --train: #f0883e; --held-out: #56b4e9; --truth: #2fc79d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
.note { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
.scroll:focus-visible { outline: 2px solid var(--held-out); }
svg { display: block; width: 100%; height: auto; color: var(--ink); stroke-linejoin: round; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .4rem .9rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
.examples td, .examples tbody th { max-width: 18rem; }
thead th { color: var(--faint); font-weight: 500; overflow-wrap: normal; }
tbody th { font-weight: 400; overflow-wrap: break-word; }
.numbers th, .numbers td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.answer th:last-child, .answer td:last-child { text-align: left; padding-left: .3rem; }
.numbers th:first-child { text-align: left; white-space: normal; min-width: 8rem; max-width: 18rem; }
.numbers td { overflow-wrap: normal; }
.best th, .best td { font-weight: 700; }
.tag { margin-left: .4rem; padding: .05rem .45rem; border-radius: 1rem; font-size: .78rem; font-weight: 600;
  background: var(--held-out); color: var(--ground); print-color-adjust: exact; }
.made th { width: 6.5rem; color: var(--faint); }
.made td { white-space: pre-line; overflow-wrap: anywhere; }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; padding: 0; list-style: none;
  font-size: .9rem; }
.keys b { margin-right: .3rem; }
.grid { display: grid; align-items: end; gap: 1.6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.command { margin: 1rem 0 0; color: var(--faint); font-size: .9rem; }
pre { margin: .3rem 0 0;  padding: .7rem .9rem; border-radius: .4rem; background: var(--card); font-size: .88rem;
  white-space: pre-wrap; }
pre span { display: inline-block; max-width: 100%; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1rem 0 0; padding: 0; list-style: none;
  font-size: .92rem; }
a { color: var(--held-out); }
.maps { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.maps.three { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.maps + h3 { margin-top: 1rem; }
.row { display: flex; gap: .5rem; }
.row div { flex: 1 1 0; min-width: 0; max-width: 10rem; color: var(--faint); }
.row img { height: auto; margin: 0 0 .2rem; }
.grid svg { min-width: 0 !important; }
.grid > * { min-width: 0; }
.pictures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(9.2rem, 1fr)); }
figure { margin: 0; padding: .6rem; border-radius: .4rem; background: var(--card); font-size: .85rem;
  line-height: 1.4; }
figure img { display: block; width: 100%; height: 8rem; object-fit: contain; margin-bottom: .4rem; }
figure img.tiny { image-rendering: pixelated; }
figcaption span { white-space: nowrap; }
figcaption small { display: block; color: var(--faint); font-size: inherit; }
summary { cursor: pointer; }
@media (max-width: 32rem) { th, td { padding-right: .6rem; } table { font-size: .88rem; }
  .numbers th:first-child { min-width: 6.5rem; } }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; } svg { min-width: 0 !important; }
  nav { display: none; } h2, h3, .keys { break-after: avoid; } figure, tr, .grid > * { break-inside: avoid; } }
"""


class Section(NamedTuple):
    """A part of a page: its heading, and HTML."""

    title: str
    body: str


def document(title: str, header: str, sections: Sequence[Section], *, contents: bool = False) -> str:
    """A whole page; `header` is HTML below the title, `contents` asks for links to the sections."""
    slugs = [re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") for section in sections]
    links = "".join(
        f'<li><a href="#{slug}">{escaped(section.title)}</a></li>'
        for slug, section in zip(slugs, sections, strict=True)
    )
    contents_list = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if contents else ""
    parts = [
        f'<section id="{slug}"><h2>{escaped(section.title)}</h2>{section.body}</section>'
        for slug, section in zip(slugs, sections, strict=True)
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{GENERATOR}\n'
        f"<title>{escaped(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escaped(title)}</h1>{header}{contents_list}</header>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def check_place(path: str | Path) -> Path:
    """`path` as an absolute one at which a file may be written.

    Raises:
      InputError: if it is a folder, or its folder is missing or cannot be written to.
    """
    path = Path(path).expanduser().absolute()
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


def picture_uri(x: np.ndarray) -> tuple[str, str] | None:
    """A data URI of an image ``uint8[height, width, 1 or 3]``, ``"tiny"`` if so; None for what is no image."""
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] not in (1, 3):
        return None
    from PIL import Image

    image = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
    image.thumbnail((LARGE, LARGE))
    tiny = max(image.size) <= TINY
    file = io.BytesIO()
    image.save(file, "PNG" if tiny else "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{'png' if tiny else 'jpeg'};base64,{data}", "tiny" if tiny else "large"
