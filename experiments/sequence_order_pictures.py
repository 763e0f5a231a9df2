"""The pictures of sequence_order.py: accuracy against distance, and time against length."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# colours that are told apart without seeing all of them (Okabe & Ito), and a mark of its own for each
STYLES: dict[str, dict[str, Any]] = {
    "rnn": dict(color="#000000", marker="s", linestyle="--"),
    "lstm": dict(color="#D55E00", marker="D", linestyle="--"),
    "attention, none": dict(color="#888888", marker="x", linestyle=":"),
    "attention, learned": dict(color="#0072B2", marker="o", linestyle="-"),
    "attention, sinusoidal": dict(color="#56B4E9", marker="^", linestyle="-"),
    "attention, rotary": dict(color="#009E73", marker="v", linestyle="-"),
    "attention, relative": dict(color="#CC79A7", marker="P", linestyle="-"),
}
DISTANCE = {
    "copy": "words from a symbol to its copy (a network for each)",
    "reverse": "words from a symbol to its answer",
    "recall": "words since the first one",
    "pairs": "words from a to b, up to",
}
ALONE = "the words alone, without order"
MARKS = 6  # along a line, at places that differ between lines: those that lie on each other are seen


def draw_accuracy(
    found: Mapping[str, Mapping[str, Mapping[int, float]]], alone: Mapping[str, Mapping[int, float]], out: Path
) -> Figure:
    """A panel for each task, to a file.

    Args:
      found: by task and model the accuracy at each distance.
      alone: by task the same, of who knows the words but not their order.
      out: a ``.png``.
    """
    figure = _figure(11, 7.6)
    for axes, (task, models) in zip(figure.subplots(2, 2).ravel(), found.items(), strict=True):
        for name, accuracy in models.items():
            _line(axes, name, list(models).index(name), accuracy)
        axes.plot(list(alone[task]), list(alone[task].values()), color="0.75", linewidth=5, zorder=0, label=ALONE)
        axes.set_ylim(-0.02, 1.05)
        axes.set_title(task, fontsize=11, loc="left")
        axes.set_xlabel(DISTANCE[task], fontsize=9)
        axes.set_ylabel("accuracy", fontsize=9)
        axes.grid(alpha=0.25)
    return _save(figure, out)


def draw_times(times: Mapping[str, Mapping[int, float]], out: Path) -> Figure:
    """Seconds of a training step by model and length of a text, to a file."""
    figure = _figure(7.5, 5.4)
    axes = figure.subplots()
    for name, taken in times.items():
        _line(axes, name, 0, {length: 1e3 * seconds for length, seconds in taken.items()})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("words in a text (batches of 16)")
    axes.set_ylabel("processor time of a training step (ms)")
    axes.grid(alpha=0.25, which="both")
    return _save(figure, out)


def _line(axes: Axes, name: str, place: int, values: Mapping[int, float]) -> None:
    apart = max(1, len(values) // MARKS)
    size = 11 - 0.9 * list(STYLES).index(name)  # smaller ones within larger ones where they meet
    style = {"markersize": size, "linewidth": 1.5, "markerfacecolor": "none", **STYLES[name]}
    axes.plot(list(values), list(values.values()), label=name, markevery=(place % apart, apart), **style)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, out: Path) -> Figure:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, handlelength=3.5)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return figure
