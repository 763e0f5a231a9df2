"""A picture of a division: a line per fold, a column per example, and what the examples are below."""

import os
import tempfile
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.report.markup import check_place
from jaxdl.report.show import DPI, FAINT, INK, STYLE
from jaxdl.report.split import (
    MEANING,
    PURGED,
    SINGULAR,
    TEST,
    TRAIN,
    UNUSED,
    Arranged,
    arrange,
    moment,
    name_of,
    roles,
)
from jaxdl.report.table import plain
from jaxdl.tasks import Task
from jaxdl.validation.splits import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FOLDS = 40  # lines of a picture
COLUMNS = 760  # pixels; of more examples each column shows the mean of some
LEFT, RIGHT, TOP, LINE = 84, 132, 116, 16  # pixels: borders, and of a line of text
COLOURS = {TRAIN: "#8fbfe0", TEST: "#d55e00", PURGED: "#33383d", UNUSED: "#e9ebee"}
NAMES = {TRAIN: "trained on", TEST: "tested", PURGED: "left out to keep the two apart", UNUSED: "not used"}
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#b8a800", "#7f5539", "#5b5f97")
NAMED = len(PALETTE)  # classes, up to which each has a colour and a name


def write_split_picture(path: str | Path, split: Split, source: Source, task: Task) -> Path:
    """Draws the folds of `split`.

    Args:
      path: of the file, ``.png``, whose folder must be there; a file of that name is replaced.
      split: of `source`.
      source: labelled.
      task: what is asked of the examples.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written.
    """
    import matplotlib.style

    path = check_place(path)
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that no font here has; boxes stand for it
        figure = _draw(split, source, task)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            work = Path(folder) / "split.png"
            figure.savefig(work, dpi=DPI)
            os.replace(work, path)
    return path


class Canvas:
    """A figure on which all is placed in pixels from the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure((width / DPI, height / DPI), facecolor="white")

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, plain(text), va="baseline", **style)

    def band(self, y: float, high: float, colours: np.ndarray) -> None:
        """A column of each example's colour ``[n, 3]``, `high` pixels high."""
        place = (LEFT / self.width, 1 - (y + high) / self.height, COLUMNS / self.width, high / self.height)
        axes = self.figure.add_axes(place)
        axes.imshow(_columns(colours)[None], aspect="auto", interpolation="nearest")
        axes.set_axis_off()

    def key(self, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """Coloured squares with a name behind each, in a line."""
        x = LEFT
        for name, colour in entries:
            axes = self.figure.add_axes((x / self.width, 1 - y / self.height, 10 / self.width, 10 / self.height))
            axes.set_facecolor(colour)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            self.write(x + 15, y, name)
            x += 34 + 6.2 * len(name)


def _draw(split: Split, source: Source, task: Task) -> "Figure":
    shown = min(len(split), MOST_FOLDS)
    tall = max(9, min(30, 480 // shown))
    strata = task.strata(source.targets())
    arranged = arrange(split, source, strata)
    strips, marks = _strips(source, task, arranged), _marks(source, strata, arranged)
    about = _about(split, source, arranged)
    # by class their names stand below the classes
    named = strata is not None and len(task.names) <= NAMED and not arranged.said.startswith("by class")
    below = 12 + 26 * len(strips) + 34 + (24 if named else 0) + LINE * len(about) + 14
    canvas = Canvas(LEFT + COLUMNS + RIGHT, TOP + shown * tall + below)
    canvas.write(24, 36, f"{source.name}: who is trained on and who is tested, fold by fold"[:100], fontsize=14)
    canvas.write(24, 56, _subtitle(split, source), color=FAINT)
    _draw_folds(canvas, split, source, arranged, tall)
    y = TOP + shown * tall + 10
    for name, colours, said in strips:
        canvas.band(y, 18, colours)
        canvas.write(LEFT - 10, y + 13, name, ha="right")
        canvas.write(LEFT + COLUMNS + 12, y + 13, said, color=FAINT)
        y += 26
    for place, text, side in marks:
        canvas.write(LEFT + COLUMNS * place, y + 12, text, ha=side, color=INK)
    y += 36
    if named:
        canvas.key(y, [(_cut(name), colour) for name, colour in zip(task.names, PALETTE, strict=False)])
        y += 24
    for line in about:
        canvas.write(24, y, line, color=FAINT)
        y += LINE
    return canvas.figure


def _draw_folds(canvas: Canvas, split: Split, source: Source, arranged: Arranged, tall: int) -> None:
    """A line of `tall` pixels for each fold, with the key above them."""
    shown = min(len(split), MOST_FOLDS)
    made = [roles(split, source, fold) for fold in range(shown)]
    known = {int(role) for fold in made for role in np.unique(fold)}
    canvas.key(82, [(NAMES[role], COLOURS[role]) for role in (TRAIN, TEST, PURGED, UNUSED) if role in known])
    canvas.write(LEFT + COLUMNS + 12, TOP - 8, "train / test", color=FAINT)
    gap = 0 if shown > 1 and tall < 14 else 3
    for fold, mine in enumerate(made):
        y = TOP + fold * tall
        canvas.band(y, tall - gap, _rgb([COLOURS[role] for role in range(4)])[mine[arranged.order]])
        if tall >= 15 or fold % 2 == 0:
            canvas.write(LEFT - 10, y + (tall - gap) / 2 + 4, f"fold {fold}", ha="right")
            sizes = f"{len(split.train[fold])} / {len(split.test[fold])}"
            canvas.write(LEFT + COLUMNS + 12, y + (tall - gap) / 2 + 4, sizes)


def _cut(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def _subtitle(split: Split, source: Source) -> str:
    options = "".join(f", {name} {value:g}" for name, value in split.options.items() if value is not None)
    seed = "" if split.seed is None else f", seed {split.seed}"
    count = f"{len(split)} folds" if len(split) > 1 else "one fold"
    return f"splitter {split.kind}{options}{seed}: {count} of {len(source)} examples"


def _about(split: Split, source: Source, arranged: Arranged) -> list[str]:
    """How to read the picture."""
    said = ["Each line is a fold, each column an example: the same column is the same example in all lines."]
    if len(source) > COLUMNS:
        said[0] += f" A column stands for about {len(source) / COLUMNS:.1f} examples, its colour is their mean."
    said.append(f"Examples stand {arranged.said}. {MEANING.get(name_of(split), '')}".rstrip())
    if len(split) > MOST_FOLDS:
        said.append(f"The first {MOST_FOLDS} of {len(split)} folds are shown.")
    return [line for text in said for line in textwrap.wrap(text, 145)]


def _strips(source: Source, task: Task, arranged: Arranged) -> list[tuple[str, np.ndarray, str]]:
    """Of the targets and the groups: a name, a colour per example ``[n, 3]``, and a remark."""
    made = []
    if (columns := task.in_numbers(source.targets())) is not None:
        what, values = columns
        made.append((SINGULAR.get(what, what), *TARGET_STRIPS[what](values[arranged.order])))
    if source.groups is not None:
        known: dict[Any, int] = {}
        codes = np.array([known.setdefault(group, len(known)) for group in source.groups[arranged.order].tolist()])
        made.append(("group", _rgb(PALETTE[:5])[codes % 5] * 0.55 + 0.45, f"{len(known)} groups"))
    return made


def _classes_strip(values: np.ndarray) -> tuple[np.ndarray, str]:
    strata, count = values.argmax(1), values.shape[1]
    colours = _ramp(strata / (count - 1)) if count > NAMED else _rgb(PALETTE)[strata]
    return colours, f"{count} classes"


def _labels_strip(values: np.ndarray) -> tuple[np.ndarray, str]:
    """The darker, the more labels an example has."""
    many = values.sum(1)
    return _ramp(1 - many / max(1, many.max())), f"{many.min()} to {many.max()} of {values.shape[1]} labels"


def _target_strip(values: np.ndarray) -> tuple[np.ndarray, str]:
    numbers = values[:, 0]
    low, high = numbers.min(), numbers.max()
    return _ramp((numbers - low) / (high - low or 1)), f"{moment(low)} to {moment(high)}"


TARGET_STRIPS = {"classes": _classes_strip, "labels": _labels_strip, "target": _target_strip}


def _marks(source: Source, strata: np.ndarray | None, arranged: Arranged) -> list[tuple[float, str, str]]:
    """What stands below the strips, with its place from 0 to 1 and its side: times, or the names of classes."""
    count = len(source)
    if arranged.said.startswith("in the order of time"):
        times = source.times[arranged.order]
        places = np.unique(np.linspace(0, count - 1, 5).round().astype(int))
        sides = {0: "left", int(places[-1]): "right"}
        return [(place / max(1, count - 1), moment(times[place]), sides.get(int(place), "center")) for place in places]
    if strata is None or not arranged.said.startswith("by class"):
        return []
    marks, last = [], 0.0
    for label, name in enumerate(source.class_names):
        held = np.flatnonzero(strata[arranged.order] == label)
        room = 6.2 * min(len(name), 16) / COLUMNS
        if len(held) and (middle := float(held.mean() + 0.5) / count) - room / 2 >= last:
            marks.append((middle, _cut(name), "center"))
            last = middle + room / 2 + 0.01
    return marks


def _columns(colours: np.ndarray) -> np.ndarray:
    """Colours of examples ``[n, 3]`` as ones of at most `COLUMNS` columns: the mean of those that share one."""
    if len(colours) <= COLUMNS:
        return colours
    starts = np.arange(COLUMNS) * len(colours) // COLUMNS
    counts = np.diff([*starts, len(colours)])
    return np.add.reduceat(colours, starts) / counts[:, None]


def _rgb(colours: Any) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(colour) for colour in colours])


def _ramp(values: np.ndarray) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps["viridis"](values)[:, :3]
