"""A page as a reader's program sees it: parsed, not compared with a stored copy."""

import re
from html.parser import HTMLParser

from jaxdl.report.page import write_page
from jaxdl.report.run_page import write_run_report

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """All tags with their attributes, the text under each, and what is wrong with the nesting."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.wrong = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.tags.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.tags.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        if not self.open or self.open[-1]["tag"] != tag:
            self.wrong.append(tag)
        else:
            self.open.pop()

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def all(self, *tags):
        return [element for element in self.tags if element["tag"] in tags]

    def text(self):
        return self.all("body")[0]["text"]

    def cells(self, table=0):
        """Rows of texts of a table of the page."""
        rows, inside = [], -1
        for element in self.tags:
            inside += element["tag"] == "table"
            if inside == table and element["tag"] == "tr":
                rows.append([])
            if inside == table and element["tag"] in ("th", "td"):
                rows[-1].append(element["text"])
        return rows


def read_page(path):
    """The page in a file, which must stand by itself: whole, small, named pictures, nothing from elsewhere."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.wrong
    assert not page.open
    assert len(text.encode()) < 2_000_000
    assert not page.all("script", "link", "iframe", "object", "embed")
    for element in page.tags:
        assert not any(name.startswith("on") for name in element)
        for where in ("src", "href", "xlink:href", "srcset", "action"):
            assert element.get(where, "#").startswith(("#", "data:image/"))
    assert not re.findall(r"@import|url\((?!#)", text)
    for picture in page.all("svg", "img"):
        assert (picture.get("aria-label") or picture.get("alt") or "").strip()
        assert picture["tag"] == "img" or picture["role"] == "img"
    ids = [element["id"] for element in page.tags if "id" in element]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(ids)
    return page


def page_of_kind(kind, result, source, folder):
    """The page of a ``run``, or of a ``comparison`` of a single method."""
    if kind == "run":
        return read_page(write_run_report(result.save(folder / "run"), source))
    return read_page(write_page(folder / "page.html", "Title", {"mlp": result}, source=source))
