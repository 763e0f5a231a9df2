"""From matplotlib to SVG text that takes its colours and letters from the page around it."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from jaxdl.report.table import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins, since matplotlib knows no CSS. The page gives the variables a value for a light and one for a dark ground.
INK, TRAIN, HELD_OUT, TRUTH = "#010203", "#010204", "#010205", "#010206"
CSS_COLOURS = {INK: "currentColor", TRAIN: "var(--train)", HELD_OUT: "var(--held-out)", TRUTH: "var(--truth)"}
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "jaxdl",  # the same picture gives the same bytes
    "text.parse_math": False,  # a class may be called $x$
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "figure.dpi": 72,  # one point is one pixel of the page
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Our style, whatever the user's own is."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's font draws the letters, not matplotlib's
        yield


def new_figure(width: float, height: float, margins: tuple[int, ...] | None = None) -> tuple["Figure", "Axes"]:
    """Of sizes in pixels; `margins` left, bottom, right and top keep pictures that stand in a row level."""
    from matplotlib.figure import Figure

    figure = Figure((width / 72, height / 72), layout=None if margins else "constrained")
    axes = figure.add_subplot()
    if margins:
        left, bottom, right, top = margins
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def to_svg(figure: "Figure", key: str, said: str) -> str:
    """`figure` for use within HTML: without namespaces and metadata, ids under `key`, `said` to who cannot see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {name for value in values for name in re.findall(r"(?:^|url\()#([^);\s]+)", value)}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        held = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if held.get("id") not in used:
            held.pop("id", None)
        element.attrib.clear()
        element.attrib.update({name: _for_page(name, value, key) for name, value in held.items()})
    width, height = (float(v) for v in root.get("viewBox").split()[2:])
    root.attrib.clear()
    # on a narrow screen a picture shrinks a little, and then scrolls
    style = f"max-width:{width:.0f}px;min-width:{min(width, max(280, 0.75 * width)):.0f}px"
    root.attrib.update(
        {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": plain(said), "style": style}
    )
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "d":
        return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))  # a hundredth of a pixel is enough
    if name in ("href", "clip-path", "style"):
        value = value.replace("'DejaVu Sans'", "system-ui")
        for stand_in, colour in CSS_COLOURS.items():
            value = value.replace(stand_in, colour)
        return re.sub(r"^#|url\(#", lambda found: found.group() + key + "-", value)
    return value


def epoch_axis(axes: "Axes") -> None:
    """Whole numbers below; a single epoch stands alone."""
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    low, high = axes.dataLim.intervalx
    if high == low:
        axes.set_xlim(low - 1, high + 1)
        axes.set_xticks([low])


def percent_axis(axes: "Axes", label: str, across: bool = False) -> None:
    """Shares as percentages on the vertical axis, or on the one across."""
    from matplotlib.ticker import PercentFormatter

    axis = axes.xaxis if across else axes.yaxis
    axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axis.set_label_text(label)


def shortened(name: str, length: int) -> str:
    """Names often differ at their ends, so that the middle goes."""
    name = plain(name).replace("\n", " ")
    return name if len(name) <= length else f"{name[: length // 2]}…{name[len(name) - (length - length // 2 - 1) :]}"
